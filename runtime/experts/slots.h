/*
 * The expert slots: which expert lies in which slot, reading one in, giving one up. The table of
 * slot words lies in experts' object and is written before a read is submitted (machinery 10, 21);
 * everything else here is derived from it or concerns reads of this process only. Used by
 * runtime/experts/ by the leader only.
 */
#ifndef RUNTIME_EXPERTS_SLOTS_H
#define RUNTIME_EXPERTS_SLOTS_H

#include "drivers/nvme/stream.h"
#include "runtime/experts/policy.h"
#include "runtime/server/server.h"

#define SLOT_NONE UINT32_MAX

/* This process's view of a slot. */
struct slot {
	struct stream_job job;
	uint32_t layer, expert; /* valid unless free */
	uint32_t pins;          /* steps that will use it: never given up while > 0 */
	uint32_t reading;       /* 1: this process has a read under way */
	uint32_t checked;       /* 1: every number in it is known to be finite */
};

struct slots {
	const struct server *s;
	_Atomic uint64_t *word; /* [n], shared: slot_word */
	struct slot *slot;      /* [n] */
	uint32_t *map;          /* [layers][experts]: slot + 1, 0: not in a slot */
	uint32_t n;
	struct policy policy;
	struct stream *stream;
};

/* Why an expert cannot be used. */
struct slot_failure {
	int error; /* negative errno; 0: a number that is not finite */
	uint32_t part;
	uint64_t at; /* byte in the file */
};

/*
 * Attaches to the table: slots that are ready stay ready. A dense model has no slots and no stream.
 */
MUST_CHECK int slots_open(struct slots *t, const struct server *s, struct err *e);

/* The slot of an expert, ready or being read, pinned; SLOT_NONE if it is in none. */
uint32_t slots_find(struct slots *t, uint32_t layer, uint32_t expert);

/*
 * Begins to read an expert that is in no slot. Returns its slot, pinned, or SLOT_NONE while every
 * slot is pinned or still being written.
 */
uint32_t slots_fetch(struct slots *t, uint32_t layer, uint32_t expert, uint32_t queue);

/* Whether the expert in a pinned slot can be used without waiting. */
bool slots_ready(const struct slots *t, uint32_t slot);

/*
 * Waits for a pinned slot and checks, once per read, that its numbers are finite. 0 with the three
 * matrices in out, or -1 with *why: the slot is then free again and no longer pinned.
 */
MUST_CHECK int slots_use(struct slots *t, uint32_t slot, struct weight out[3],
			 struct slot_failure *why);

void slots_unpin(struct slots *t, uint32_t slot);

#endif
