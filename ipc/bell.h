/*
 * Sleeping and waking between processes (machinery 8). One futex word per role and worker in the
 * `bells` object. A wake is a hint, the committed records are the truth, so nothing in a word is
 * believed and anybody may write it.
 *
 * No wake-up is lost:
 *  1. A sleeper exchanges ASLEEP into its word, passes a seq_cst fence, and looks at the records
 *     again; only if there is nothing to do it waits.
 *  2. A committer release-stores its record's version, passes a seq_cst fence, exchanges AWAKE into
 *     the word and calls FUTEX_WAKE if it found ASLEEP.
 *  3. The two fences are ordered. If the sleeper's comes first, the committer's exchange finds
 *     ASLEEP (or a later AWAKE of another waker, who wakes) and FUTEX_WAKE follows: the sleeper
 *     either is in FUTEX_WAIT and is woken, or enters it later, finds AWAKE and returns at once.
 *  4. If the committer's comes first, the sleeper's second look sees the commit.
 *  5. A word that a hostile peer scribbles on costs a spurious wake or a missed one; `init`
 *     exchanges and wakes all words on a death and every second while something is in flight, so a
 *     missed one costs time, never an answer. The SPIN model is ipc/spin/bell.pml.
 *  6. A committer that dies between its exchange and its FUTEX_WAKE leaves AWAKE in the word of one
 *     that sleeps, and whoever rings later finds nothing to do. So `init` wakes whatever the word
 *     says.
 */
#ifndef IPC_BELL_H
#define IPC_BELL_H

#include "ipc/graph.h"
#include "runtime/team.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	BELL_AWAKE,
	BELL_ASLEEP
};

struct bell {
	alignas(64) _Atomic uint32_t word;
};

struct bells {
	alignas(64) _Atomic uint32_t
		init_idle; /* 1: init sleeps in epoll and wants a write to FD_BELL */
	struct bell bell[ROLE_COUNT][TEAM_MAX];
};

/* Step 2 of the argument without the store: call it after the commit. */
void bell_ring(struct bell *b);
/* Wakes whoever sleeps, whatever the word says: init's part of point 6. */
void bell_wake(struct bell *b);

/*
 * Steps 1: declares sleep. The caller must look at the records again, then call bell_wait or
 * bell_cancel.
 */
void bell_prepare(struct bell *b);
/*
 * Waits until rung, or `timeout_ns` has passed (UINT64_MAX: for ever). Spurious returns are
 * possible.
 */
void bell_wait(struct bell *b, uint64_t timeout_ns);
void bell_cancel(struct bell *b);

#endif
