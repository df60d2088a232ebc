/*
 * experts' state: everything committed lies in its object, the rest is cache and scratch. Used by
 * runtime/experts/ only.
 */
#ifndef RUNTIME_EXPERTS_EXPERTS_H
#define RUNTIME_EXPERTS_EXPERTS_H

#include "ipc/command.h"
#include "model/ffn.h"
#include "runtime/experts/hint.h"
#include "runtime/experts/slots.h"
#include "runtime/server/server.h"

#include <stdnoreturn.h>

enum {
	/* a prefill step commits after this many experts: what a restart repeats at most */
	PART_EXPERTS = 32
};

/*
 * Scratch of one batch's step; a decode step may run inside a prefill step, so each batch has its
 * own.
 */
struct scratch {
	float *shared;           /* [rows][row_stride]: dense or shared block */
	float *f;                /* [f_rows][row_stride]: outputs of routed experts */
	void *work;              /* of ffn_mlp and ffn_mlp_set */
	struct ffn_part *part;   /* [experts + 1]: what runs together */
	struct weight (*mlp)[3]; /* [experts]: of active[i], once it is in its slot */
	uint32_t *list;          /* [rows * top_k]: rows of each active expert, expert by expert */
	float *weight;           /* [rows * top_k] */
	uint32_t *compact;       /* [rows]: rows of one expert that have not failed */
	float *compact_weight;
	uint32_t *start;  /* [experts + 1]: begin of each expert in list */
	uint32_t *active; /* [experts]: ids that have rows, ascending */
	uint32_t *slot;   /* [experts]: slot of active[i], pinned; SLOT_NONE: not asked for yet */
	uint8_t *state;   /* [experts]: enum expert_state of active[i], of a buffered step */
	uint8_t *skip;    /* [rows]: the row has failed */
	uint64_t *error;  /* [rows]: router's words, and next its ids: copied, then checked */
	uint16_t *route;  /* [rows][top_k] */
	uint32_t f_rows;
};

/* What is known of the GPU's memory, and the host's slots that lists copy from. */
struct load {
	uint32_t slots;   /* of the GPU, when it last asked */
	uint32_t *tenant; /* [gpu_slots]: layer * experts + expert, UINT32_MAX: none that we know */
	uint32_t *used;   /* [gpu_slots]: round of the list that filled it last */
	uint16_t *want;   /* [experts]: what cuda asks for, copied */
	uint32_t round;
	uint32_t slot[BATCHES][LOAD_EXPERTS], pinned[BATCHES];
	uint64_t generation; /* of cuda, when they were pinned */
	/* the pairs that wait, as `cuda` says, and the rows [rows][x_stride] in its object */
	struct missing_pair *pair;
	uint32_t pairs, *list; /* list: of one expert */
	const uint16_t *x;
	uint32_t results;    /* outputs in this list so far */
	uint64_t copy_rate;  /* of the GPU, bytes a second; 0: not known */
	double compute_rate; /* of an expert's bytes, computed here for a few rows; 0: unknown */
};

struct experts {
	struct server s;
	struct record record; /* struct experts_record */
	struct ring_end feed[BATCHES];
	struct ring_end missing[BATCHES]; /* from cuda */
	struct load load;
	struct slots slots;
	struct hint hint;
	struct scratch scratch[BATCHES];
	uint64_t seen_bytes, seen_reads, seen_busy_ns, seen_hints,
		seen_errors; /* of the stream's counts, in the log already */
};

/* An expert of a buffered step. */
enum expert_state {
	EXPERT_WAITS, /* not in its slot yet, or not asked for */
	EXPERT_TAKEN, /* in a set that is computed now or with the finish */
	EXPERT_FAILED
};

/* A step on its way. */
struct step {
	struct experts *x;
	struct msg msg;
	struct pass pass;
	struct scratch *sc;
	const uint64_t *error_in; /* copies, in scratch */
	uint64_t *error_out;
	const uint16_t *xin; /* [rows][x_stride]: normed input, from mla */
	const float *h_in;   /* from mla */
	float *h_out;
	const uint16_t *route; /* [rows][top_k], the copy in scratch */
	const float *route_weight;
	float *acc;
	const struct layer *layer;
	uint32_t n_active;
	/* of scratch.part: the last set of a buffered step, computed with the finish */
	uint32_t parts;
	bool inside; /* a decode step between two experts of a prefill step: the team stays here */
	/*
	 * outputs of all experts fit in f: they are computed as they arrive, those that are there
	 * together
	 */
	bool buffered;
};

/*
 * Memory for the steps of one batch: `f` holds whole small steps (every decode step), or one expert
 * of a large one.
 */
bool step_scratch_open(struct scratch *sc, const struct server *s, uint32_t batch);

/* generation: argv[1]. The loop begins when its predecessor is gone. */
struct experts *experts_open(const char *generation, struct err *e);
noreturn void experts_loop(struct experts *x);

/* load.c: what cuda asks for. Whether there was a message. */
bool load_serve(struct experts *x, uint32_t batch);
/* Whether load_serve would give back slots: the list that they were pinned for is done with. */
bool load_settled(const struct experts *x, uint32_t batch);
bool load_open(struct experts *x);
/* compute.c: an expert computed here instead of on the GPU. How many pairs wait for it. */
uint32_t load_pairs_of(const struct experts *x, uint32_t id);
/* Whether it is, where slot `to` of the GPU would be taken for it (SLOT_NONE: there is none). */
bool load_computes(const struct experts *x, uint32_t to, uint32_t layer, uint32_t id,
		   uint32_t pairs);
/* Does it, for as many pairs as one list has room for: the commands, and how many. */
uint32_t load_compute(struct experts *x, const struct msg *m, uint32_t id,
		      const struct weight mlp[3], struct command *out);
/* A predecessor's lists still copy from slots that nobody has pinned now: waits for them. */
void load_take_over(struct experts *x);

/*
 * Serves one FEED message of `batch` if there is one. Called by the loop, and (`inside`) between
 * two experts of a prefill step.
 */
bool experts_serve(struct experts *x, uint32_t batch, bool inside);

/*
 * step.c: reads and checks everything a message names; -EBADMSG with a text. Nothing committed is
 * touched.
 */
MUST_CHECK int step_prepare(struct step *st, struct err *e);

/*
 * step.c: computes the block; error words and rows are then in experts' object, not yet committed.
 */
void step_compute(struct step *st);

/*
 * step.c: the same row by row, for a step that has killed a predecessor twice (machinery 11).
 */
void step_compute_rows(struct step *st);

/* step.c: the dense or shared block into scratch, before or while routed experts arrive. */
void step_shared(struct step *st);

/*
 * routed.c: the routed experts of a MoE layer, and the shared ones while the drive reads. Their sum
 * is in acc, or (buffered) their outputs are in scratch for routed_add_up, but for the last set
 * (st->parts): ffn_mlp_set on it comes first, then routed_add_up by the same workers, without a
 * barrier.
 */
void routed_compute(struct step *st);
/* routed.c: after the finish: the slots of a buffered step may be given up. */
void routed_release(struct step *st);

/*
 * routed.c: whether a predecessor has committed parts of this very step, which is then continued
 * behind them.
 */
bool routed_resumes(const struct step *st);

/*
 * routed.c: adds buffered outputs into acc, ascending; a worker's share. A row that failed is added
 * too: nobody reads it.
 */
void routed_add_up(const struct step *st, struct worker *w);

/* main loop's commit of a part: experts below `next` are in the accumulators of `side`. */
void experts_commit_part(struct experts *x, const struct msg *m, uint32_t next, uint32_t side);

#endif
