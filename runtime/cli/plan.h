/*
 * `penstock plan`: what a model would do on a machine, neither of which need exist. plan.c has the
 * command, plan_machine.c the machines, plan_time.c the arithmetic. Used by these and their test.
 */
#ifndef RUNTIME_CLI_PLAN_H
#define RUNTIME_CLI_PLAN_H

#include "model/config.h"
#include "runtime/cli/weigh.h"
#include "runtime/err.h"
#include "runtime/replay/replay.h"

#include <stdint.h>

/* Rates are bytes or operations per second, of the whole machine. */
struct machine {
	const char *name, *about;
	double ram; /* bytes */
	double memory_rate;
	double dot_rate; /* multiplications and additions of the BF16 dot, or of FMA */
	double drive;    /* all drives together */
	uint32_t cores, drives;
	double gpu_memory; /* 0: no GPU; the next three then mean nothing */
	double gpu_rate, gpu_copy, gpu_dot;
};

extern const struct machine machines[];
extern const uint32_t n_machines;

/* What of a limit a whole token or chunk reaches, and what does not scale with bytes. */
struct efficiency {
	double memory, dot, drive; /* shares of the rates */
	double layer_s;            /* per layer and pass: hand-over, barriers */
	double read_s;             /* from asking the drive to the first bytes */
};

extern const struct efficiency efficiency_default;

struct plan_job {
	const struct machine *machine;
	struct efficiency efficiency;
	const struct model_config *config;
	struct weights weights;
	bool fp8;
	uint32_t bits;            /* of routed experts on the drive and in slots: 16, 8 or 4 */
	uint64_t budget;          /* --memory of the node; 0: what RAM leaves */
	uint64_t context, prompt; /* tokens */
	uint64_t slots;           /* 0: what the budget leaves */
	struct replay_trace *trace;
};

struct plan_answer {
	uint64_t slots, all_slots, gpu_slots, chunk;
	uint64_t expert_bytes; /* in a slot */
	double resident;       /* bytes */
	double hit_rate;       /* of decode */
	double gpu_hit_rate;
	double token_s, tokens_per_s;
	/* of token_s: resident weights, experts, the drive, what each layer costs */
	double resident_s, experts_s, drive_s, layers_s;
	double prompt_s; /* to the first token of a prompt, model loaded */
	double start_s;  /* until resident weights are loaded */
};

/*
 * The machine's plan of memory is made by boot/plan.c, hits by replaying the trace. Returns 0;
 * -ENOMEM with a text where the model's smallest node does not fit.
 */
MUST_CHECK int plan_predict(struct plan_answer *a, const struct plan_job *j, struct err *e);

/*
 * A trace as the model's gates might route, in shape: two conversations, of which the first warms
 * the cache. Returns 0 or -ENOMEM.
 */
MUST_CHECK int plan_trace(struct replay_trace *t, const struct model_config *c, uint64_t prompt);

/* "7G", "80.5G": digits, and K, M, G, T as powers of 1000. */
MUST_CHECK int parse_rate(const char *text, double *out);

#endif
