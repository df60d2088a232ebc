/*
 * `penstock bench`: the machine's limits and a node beside them, in one run. bench.c has the
 * command line and the order, bench_limits.c what the machine can do, bench_node.c a node of its
 * own, bench_case.c one measured piece of work, bench_timeline.c a trace of one, bench_report.c
 * text and JSON. Used by these only.
 */
#ifndef RUNTIME_CLI_BENCH_H
#define RUNTIME_CLI_BENCH_H

#include "drivers/cpu/limits.h"
#include "ipc/watch.h"
#include "runtime/cli/client.h"
#include "runtime/cli/model.h"
#include "runtime/cli/split.h"
#include "runtime/cli/weigh.h"
#include "runtime/team.h"

#include <sched.h>
#include <stdio.h>

enum {
	BENCH_REPEATS = 32,
	BENCH_ARGS = SPLIT_ARGS, /* options that go to the node */
	BENCH_RUNS = 2           /* in memory, and at the budget */
};

/* ---- The machine ---- */

struct bench_limits {
	struct team *team;
	enum cpu_isa isa;
	unsigned threads;
	cpu_set_t
		cpus;  /* what this process was given; the team's leader is pinned while it works */
	char name[80]; /* of the first processor */
	char *memory;  /* as the slots lie: a memfd, huge pages asked for */
	bool huge;     /* ... and given */
	const struct cpu_read_loop *best;     /* of all loops */
	const struct cpu_read_loop *probe[3]; /* the best ones: what later probes run */
	double read_gbs;                      /* the most that any probe has seen */
	double flops;     /* GFLOP/s of all threads, the most that any probe has seen */
	double drive_gbs; /* the same of the drive; 0: not measured */
};

/* Starts the team and measures memory and dot for the first time. */
MUST_CHECK int bench_limits_open(struct bench_limits *l, unsigned threads, enum cpu_isa isa,
				 struct err *e);
/* GB/s of reads by all threads now: a twentieth of a second. */
double bench_probe_memory(struct bench_limits *l);
/* GFLOP/s of multiply-adds by all threads now. */
double bench_probe_dot(struct bench_limits *l);
/*
 * GB/s of the drive at the engine's size and depth, from the model's own files: the better of
 * random pieces and random runs of them, 0.6 s in all. 0 where the files are too small, or the file
 * system refuses O_DIRECT.
 */
MUST_CHECK int bench_probe_drive(struct bench_limits *l, const struct store_files *files,
				 double *gbs, struct err *e);

/* ---- A node ---- */

struct bench_node {
	pid_t pid;    /* 0: a node that somebody else has started */
	char *folder; /* of the socket and the log; NULL with pid 0 */
	char *socket; /* owned */
	char *log;    /* what the node has printed */
	struct watch watch;
	uint64_t begun_ns; /* CLOCK_REALTIME: log records have that */
};

/*
 * Starts `penstock run` with argv[1 ..] (argc of them in all), or finds the one on `socket`, and
 * waits until it gives its counters. A node that ends instead gives its own message and status.
 */
MUST_CHECK int bench_node_open(struct bench_node *n, const char *socket, int argc, char **argv,
			       const cpu_set_t *cpus, struct err *e);
/* Whether the node still lives; if not, its message and status are in e. */
MUST_CHECK int bench_node_alive(struct bench_node *n, struct err *e);
/* When it was ready, in seconds since its start; -1: not yet, or not known. */
double bench_node_ready(const struct bench_node *n);
void bench_node_close(struct bench_node *n);

/* ---- A piece of work ---- */

/* What a node did between two looks. */
struct bench_look {
	uint64_t at_ns;
	uint64_t count[COUNTERS];
	uint64_t drive_bytes; /* the kernel's count, of the drive below the model */
};

struct bench_rep {
	double memory[2]; /* GB/s before and after */
	double dot[2];    /* GFLOP/s before and after */
	double drive[2];  /* GB/s before and after; 0: not probed */
	uint64_t wall_ns;
	uint64_t tokens;
	struct bench_look did; /* differences */
};

struct bench_case {
	unsigned n;
	struct bench_rep rep[BENCH_REPEATS];
};

struct bench_model {
	const char *path;
	struct cli_model m;
	struct weights weights;
	char drive_stat[64]; /* /sys/dev/block/.../stat, "" if there is none */
};

struct bench {
	struct bench_limits limits;
	struct bench_model model;
	struct bench_node node;
	uint64_t prompt, tokens, repeat;
	uint64_t depth;        /* tokens of context before those that are decoded */
	bool probe_drive;      /* around every repetition: where misses decide */
	_Atomic uint64_t seed; /* raised with every request, so that no two are alike */
};

/* A streamed completion of `prompt` ids that the tokenizer has, drawn from `number`; malloc'ed. */
char *bench_body(const struct index *ix, uint64_t number, uint64_t prompt, uint64_t tokens);

struct bench_start {
	bool measured;
	double ready_s, first_token_s;
	double drive_gbs; /* before and after, the mean; 0: not measured */
	uint64_t bytes;   /* that had to be read: resident weights and the token's experts */
};

/* One node's figures. */
struct bench_run {
	const char *name; /* "memory", "budget", "node" */
	uint64_t budget;  /* bytes; 0: the default */
	struct bench_start start;
	struct bench_case prefill, decode;
};

extern volatile sig_atomic_t bench_interrupted;

void bench_look(const struct bench *b, struct bench_look *out);

/*
 * The first request to a node that is still starting: it waits until the node takes it. Fills
 * `start`. 0, 1 (interrupted) or -errno.
 */
MUST_CHECK int bench_first_token(struct bench *b, struct bench_start *start, struct err *e);
/* One repetition each, added to the case (NULL: only to warm up). 0, 1 or -errno. */
MUST_CHECK int bench_prefill(struct bench *b, struct bench_case *c, struct err *e);
MUST_CHECK int bench_decode(struct bench *b, struct bench_case *c, struct err *e);

/*
 * Lets a reply and a prompt run at the same time and writes what the servers did meanwhile to
 * `path`. 0, 1 or -errno.
 */
MUST_CHECK int bench_timeline(struct bench *b, const char *path, struct err *e);

/* ---- The report ---- */

/*
 * What a repetition had to read from memory (of decoding), and to multiply (of one prompt: its
 * tokens from position 0).
 */
uint64_t bench_weight_bytes(const struct bench_model *m, const struct bench_rep *r);
double bench_flops(const struct bench_model *m, const struct bench_rep *r);

void bench_print(const struct bench *b, const struct bench_run *run, unsigned runs);
MUST_CHECK int bench_print_json(const struct bench *b, const struct bench_run *run, unsigned runs,
				struct err *e);

#endif
