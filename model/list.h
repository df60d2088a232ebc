/*
 * Makes command lists (ipc/command.h) from a model: the frame in which a batch computes, the list
 * of a pass, the commands that bring an expert into a GPU's memory. The order of operations is that
 * of attention.c, gate.c, ffn.c and head.c, which compute the same on the CPU. Called by router and
 * experts, which append lists, by cuda, which executes them, and by tests.
 */
#ifndef MODEL_LIST_H
#define MODEL_LIST_H

#include "ipc/command.h"
#include "model/model.h"

enum {
	LIST_SPLIT_ROWS = 8 /* ATTEND of up to so many rows is split by segments on a GPU */
};

/* What the commands need to know of the model; pages: of the KV object. */
void list_shape(struct dev_shape *s, const struct index *ix, uint32_t pages);

/* The longest row that NORM and ENTER of this model make. */
uint32_t list_row_max(const struct model_config *c);

/*
 * A frame at `base` of DEV_WORK for up to `rows` rows with `pages` pages among them, `logit_rows`
 * of which want logits; sequences of up to `context` positions. f->bytes: where the next begins.
 */
void list_frame(struct frame *f, const struct model_config *c, uint64_t base, uint32_t rows,
		uint32_t pages, uint32_t logit_rows, uint32_t context);

/* Where the parts of a pass's list lie behind its head, and what it takes altogether. */
struct list_layout {
	uint64_t row, page, angle, error, h, command, bytes;
	uint32_t commands; /* at most */
};
void list_layout(struct list_layout *l, const struct model_config *c, uint32_t rows, uint32_t pages,
		 uint32_t logit_rows, uint32_t copies);

/* Where the results of a pass lie in the object of `cuda`. */
struct list_out {
	uint64_t h;      /* float [R][width], after the last layer */
	uint64_t logits; /* float [logit_rows][vocab] */
	uint64_t expert; /* uint16_t [layers][R][top_k] */
	uint64_t weight; /* float [layers][R][top_k] */
	uint64_t error;  /* uint64_t [R] */
	uint64_t cached; /* BF16 [layers][R][kv_row] */
	uint64_t bytes;
};
void list_out(struct list_out *o, const struct model_config *c, uint64_t base, uint32_t rows,
	      uint32_t logit_rows);

/* A pass to be put into a list. */
struct list_pass {
	const struct model *m;
	const struct frame *frame;
	const struct list_layout *at;
	const struct list_out *out;
	uint32_t batch, rows, pages;
	uint32_t first_layer, last_layer;
	const uint32_t *picked; /* rows that want logits, ascending */
	uint32_t n_picked;
	const struct list_copy {
		uint32_t from, to, rows;
	} * copy; /* pages to be copied first */
	uint32_t n_copies;
	/* cause of rows that meet a number that is not finite: | layer << 32 */
	uint64_t not_finite;
};

/* Writes the commands of a pass; at most list_layout.commands. Returns how many. */
uint32_t list_pass(const struct list_pass *p, struct command *out);

enum {
	LIST_EXPERT_COMMANDS = 4
};

/*
 * The commands that bring an expert from `host` of DEV_HOST_SLOTS into `slot` of DEV_SLOTS and put
 * it into the table. `slot` is 256-byte aligned and as large as a slot in host memory. Returns how
 * many.
 */
uint32_t list_expert(const struct index *ix, uint32_t layer, uint32_t expert, uint64_t host,
		     uint64_t slot, struct command out[LIST_EXPERT_COMMANDS]);

#endif
