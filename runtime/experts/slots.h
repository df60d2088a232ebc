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

/* Why an expert cannot be used. */
struct slot_failure {
	int error; /* negative errno, -EBADMSG: another hash; 0: a number that is not finite */
	uint32_t part;
	uint32_t file; /* of the model's */
	uint64_t at;   /* byte in the file */
};

/* This process's view of a slot. */
struct slot {
	struct stream_job job;
	uint64_t asked_ns;      /* when its read was asked for */
	uint32_t layer, expert; /* valid unless free */
	uint32_t pins;          /* steps that will use it: never given up while > 0 */
	bool reading;           /* this process has a read under way */
	bool bad;               /* it has failed: `why` */
	bool guessed;           /* read before anybody demanded it, and not demanded yet */
	/* of a packed store: which copy was read last, and which before it (bits) */
	uint32_t copy, tried;
	uint64_t checked[EXPERT_PARTS]; /* bytes of each matrix that are known to be finite; of a
					   packed store, [0]: pieces that are known to be right */
	struct slot_failure why;
};

struct slots {
	const struct server *s;
	_Atomic uint64_t *word; /* [n], shared: slot_word */
	struct slot *slot;      /* [n] */
	uint32_t *map;          /* [layers][experts]: slot + 1, 0: not in a slot */
	uint32_t *free;         /* [n_free]: slots without an expert */
	uint32_t n, n_free;
	uint64_t pinned; /* pins of all slots: 0 while no step is under way */
	/* of a packed store: the copy that is read first, as long as another does not answer */
	uint32_t first_copy;
	uint64_t first_until_ns;
	bool all; /* there is a slot for every expert, once all are made */
	/* [n_arriving]: slots being read, in the order in which they were asked for */
	uint32_t *arriving;
	uint32_t n_arriving;
	struct policy policy;
	struct stream *stream;
};

/* Memory and stream; nothing of the table is read yet. A dense model has no slots and no stream. */
MUST_CHECK int slots_open(struct slots *t, const struct server *s, struct err *e);
/* Attaches to the table, whose owner this process now is: slots that are ready stay ready. */
void slots_take_over(struct slots *t);

/*
 * Marks what has arrived: such a slot is ready, or has failed and is free as soon as nobody needs
 * to hear of it and no read can land in it any more. Finding and fetching do so first. Whether
 * reads are still under way.
 */
bool slots_settle(struct slots *t);

/*
 * A step begins that will ask for the experts of `route` ([rows][top_k], checked; error: [rows]).
 * For the policy only.
 */
void slots_step(struct slots *t, const struct msg *m, bool decode, const uint16_t *route,
		const uint64_t *error);

/*
 * The slot of an expert, ready or being read (as urgently as `queue` from now on), pinned;
 * SLOT_NONE if it is in none.
 */
uint32_t slots_find(struct slots *t, uint32_t layer, uint32_t expert, enum stream_queue queue);

/*
 * Begins to read an expert that is in no slot. Returns its slot, pinned unless it is a guess
 * (STREAM_HINT), or SLOT_NONE while every slot is pinned or still being written.
 */
uint32_t slots_fetch(struct slots *t, uint32_t layer, uint32_t expert, enum stream_queue queue);

/* Whether an expert is in a slot or being read. */
bool slots_has(const struct slots *t, uint32_t layer, uint32_t expert);

/*
 * A guess was wrong: as much as is still to be read of it is not. Returns the bytes that were asked
 * for in vain.
 */
uint64_t slots_drop(struct slots *t, uint32_t slot);

/* Whether the expert in a slot just found was a guess and is now demanded for the first time. */
bool slots_was_guess(struct slots *t, uint32_t slot);

/* Whether the expert in a pinned slot can be used without waiting for the drive. */
bool slots_ready(const struct slots *t, uint32_t slot);

/*
 * Waits until the first `parts` matrices of a pinned slot are there and known to be good, looking
 * meanwhile through whatever has arrived, once per read: of a checkpoint in place for numbers that
 * are not finite, of a packed store for pieces of another hash. Where such a store has copies, what
 * is bad in one, or does not come within two seconds, is read again from the next: into another
 * slot if a read may still write to this one, and *slot says which. 0 with the matrices in out,
 * those behind the first `parts` not to be used yet; or -1 with *why: the slot is then free again
 * and no longer pinned.
 */
MUST_CHECK int slots_use(struct slots *t, uint32_t *slot, unsigned parts, struct weight out[3],
			 struct slot_failure *why);

void slots_unpin(struct slots *t, uint32_t slot);

/* Where the slot begins in the SLOTS object. */
uint64_t slots_place(const struct slots *t, uint32_t slot);

#endif
