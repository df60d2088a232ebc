/*
 * Replaying routes against caches of any size: which share of the experts asked for would have been
 * in a slot. Five policies: the node's own (runtime/experts/policy.c itself), three that are known
 * everywhere, and Belady's, which knows the future and which none can beat. Called by `penstock
 * bench --replay`, `penstock plan` and the tests. Routes come from a file (`penstock run
 * --trace-routes`) or from the generator of synth.c.
 */
#ifndef RUNTIME_REPLAY_REPLAY_H
#define RUNTIME_REPLAY_REPLAY_H

#include "ipc/trace.h"
#include "runtime/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Rows that went through the layers together. */
struct replay_pass {
	uint64_t first; /* its first row */
	uint32_t rows;
	uint32_t prefill; /* 1: rows of a prompt's chunk */
};

/* The routes of a model's main MoE layers, pass by pass. */
struct replay_trace {
	uint32_t layers;    /* of the model, all kinds */
	uint32_t first_moe; /* its first MoE layer */
	uint32_t moe_layers, experts, top_k;
	uint32_t chunk; /* rows that the node took in one prefill pass at most */
	uint32_t n_passes;
	uint32_t count_from; /* passes before this one warm the cache and are not counted */
	uint64_t n_rows;
	struct replay_pass *pass; /* [n_passes] */
	uint16_t *route;          /* [n_rows][moe_layers][top_k], ascending ids */
};

enum replay_policy {
	REPLAY_OURS,
	REPLAY_LRU,
	REPLAY_LFU, /* least frequently used, with decay: the best of three half-lives */
	REPLAY_ARC,
	REPLAY_BELADY, /* gives up what is needed last: knows the future */
	REPLAY_POLICIES
};

enum {
	REPLAY_MISSED = 33
};
extern const char *const replay_names[REPLAY_POLICIES];

/*
 * An expert that a step needs is asked for once, however many rows need it: as the node's counters
 * count.
 */
struct replay_count {
	uint64_t asked, hits;               /* of all passes */
	uint64_t decode_asked, decode_hits; /* of decode passes */
	/* ours alone: decode steps (a layer of a pass) that missed 0, 1, 2, ... experts, or more */
	uint64_t missed[REPLAY_MISSED];
};

/*
 * Reads a trace file and checks every number in it. Returns 0 or -errno with a text that names the
 * path.
 */
MUST_CHECK int replay_read(struct replay_trace *t, const char *path, struct err *e);

/* Writes one: what replay_read reads. Weights are all the same, requests and tokens are 0. */
MUST_CHECK int replay_write(const struct replay_trace *t, const char *path, struct err *e);

/* Experts of all MoE layers. */
static inline uint32_t replay_experts(const struct replay_trace *t)
{
	return t->moe_layers * t->experts;
}

/*
 * Runs one policy over a trace with `slots` slots (at least 1), empty at first. Returns 0 or
 * -ENOMEM.
 */
MUST_CHECK int replay_run(const struct replay_trace *t, enum replay_policy policy, uint32_t slots,
			  struct replay_count *out);

void replay_free(struct replay_trace *t);

/*
 * The generator. Gates are imitated: the score of an expert is the sum of how popular it is
 * (spread `popular`), how well it suits the topic (`topic`), two parts of its sequence that change
 * slowly (spread, and correlation from one token to the next), and noise of spread 1; the top_k
 * highest scores are the route. A conversation is a prompt and a reply on a topic of its own.
 */
struct synth_profile {
	const char *name, *about;
	uint32_t moe_layers, experts, top_k;
	double popular, topic;
	double fast, fast_keeps, slow, slow_keeps;
	uint32_t conversations, prompt, reply; /* tokens */
	uint32_t topic_every; /* a new topic after so many tokens of a reply; 0: never */
	uint32_t at_once;     /* conversations side by side */
	uint32_t chunk;       /* rows of a prefill pass at most */
};

extern const struct synth_profile replay_profiles[];
extern const uint32_t replay_n_profiles;

/* NULL if there is none of that name. */
const struct synth_profile *replay_profile(const char *name);

/*
 * Makes a profile's trace; the same for the same profile and seed on every machine. Returns 0 or
 * -ENOMEM.
 */
MUST_CHECK int replay_synth(struct replay_trace *t, const struct synth_profile *p, uint64_t seed);

/* ---- between the files of this folder ---- */

/* Experts asked for, step by step, as one list. */
struct replay_asks {
	uint32_t *key;  /* [n]: MoE layer * experts + expert, ascending inside a step */
	uint32_t *pass; /* [n] */
	uint64_t n;
	uint32_t keys; /* replay_experts */
};
MUST_CHECK int replay_asks_make(struct replay_asks *a, const struct replay_trace *t);
void replay_asks_free(struct replay_asks *a);

/* One more ask of pass `pass`. */
static inline void replay_count(struct replay_count *c, const struct replay_trace *t, uint32_t pass,
				bool hit)
{
	if (pass < t->count_from)
		return;
	c->asked++;
	c->hits += hit;
	if (!t->pass[pass].prefill) {
		c->decode_asked++;
		c->decode_hits += hit;
	}
}

/* caches.c: the other four. */
MUST_CHECK int replay_known(const struct replay_trace *t, enum replay_policy policy, uint32_t slots,
			    struct replay_count *out);

#endif
