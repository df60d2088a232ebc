/*
 * A team of workers: the threads of one computing server, worker i pinned to the i-th CPU of the
 * affinity mask (machinery 8). Every worker calls the same model function with its own `struct
 * worker`; the function splits its work by worker number and calls worker_barrier between phases.
 * Results never depend on the number of workers. Used by router, mla, experts and tests.
 */
#ifndef RUNTIME_TEAM_H
#define RUNTIME_TEAM_H

#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TEAM_MAX = 256
};

struct team;

struct worker {
	struct team *team;
	unsigned index; /* 0: the leader, the thread that called team_start */
	unsigned count;
};

/* Work of one step; called by every worker at once. */
typedef void team_work(void *context, struct worker *w);

/* Values of a sleep word; the same as a bell's (ipc/bell.h). */
enum {
	TEAM_AWAKE,
	TEAM_ASLEEP
};

/*
 * Starts `count` - 1 threads beside the caller, pins all, sets FTZ and DAZ in all. The team is
 * never ended: a server dies whole. Between two steps worker i sleeps on the 32-bit word at
 * sleep_words + i * stride, which lies in memory shared with other servers, so that its twin on the
 * same CPU can wake it; NULL: on words of the team's own. Memory comes from malloc at start.
 * Returns NULL with a text.
 */
struct team *team_start(unsigned count, void *sleep_words, size_t stride, struct err *e);

/*
 * Moves the sleep words, no step being run: those of a spare's team are its own until it takes the
 * place of another, whose words then are to be its. Same stride.
 */
void team_move(struct team *t, void *sleep_words);

/*
 * Runs work(context, worker) on every worker, the caller being worker 0; returns when all have
 * finished.
 */
void team_run(struct team *t, team_work *work, void *context);

/*
 * The same for the last piece of a step (machinery 8): each worker but the leader, when it is done,
 * rings its twin in the next stage, whose sleep words begin at `twin` with the same stride, and
 * goes to sleep without spinning; the leader commits and rings the next leader.
 */
void team_run_last(struct team *t, team_work *work, void *context, void *twin);

/*
 * All workers of the running step have arrived, and see what the others wrote before. Spins
 * briefly, then sleeps.
 */
void worker_barrier(struct worker *w);

/*
 * The share [*begin, *end) of n items, in multiples of `grain` (the last share may be ragged), of
 * this worker.
 */
void worker_share(const struct worker *w, size_t n, size_t grain, size_t *begin, size_t *end);

#endif
