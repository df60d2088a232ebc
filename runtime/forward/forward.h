/*
 * A forward pass in one process: the functions of model/ in the order in which the servers call
 * them, over a checkpoint that survey and load_resident read, with every routed expert in memory.
 * For tests (t_forward) and for measuring; what servers, rings and the drive add can be compared
 * with it bit by bit.
 */
#ifndef RUNTIME_FORWARD_FORWARD_H
#define RUNTIME_FORWARD_FORWARD_H

#include "model/model.h"
#include "model/store/files.h"

enum {
	FORWARD_SEQUENCES = 8,
	FORWARD_PAGES = 8 /* of one sequence */
};

struct forward {
	struct store_files files;
	const struct index *index;
	void *resident;
	struct model model;
	struct cpu_kernels kernels;
	void **expert; /* [config_layers][experts][3] stored bytes */
	void *kv;
	uint32_t sequences, n_pages; /* pages of one sequence */
	uint32_t *pages;             /* [sequences][n_pages] */
};

/*
 * One row: a token of a sequence at a position, from 0; for MTP the token at `position`, whose
 * hidden row is that of position - 1.
 */
struct forward_row {
	uint32_t sequence, position, token;
};

/* Where a pass is: before a layer, behind its attention, behind its feed-forward block. */
enum forward_hop {
	FORWARD_BEFORE,
	FORWARD_ATTENDED,
	FORWARD_FED
};

/* What a pass gives for its n rows; any may be NULL. */
struct forward_out {
	float *logits;    /* [n][vocab_size] */
	float *hidden;    /* [n][model_width], after the final norm */
	uint16_t *routes; /* [n][MoE main layers][K] */
	/* called by the leader while the others wait: the rows at a hop, width model_width */
	void (*seen)(void *context, uint32_t layer, enum forward_hop hop, const float *h);
	void *context;
};

/* Zeroed, page-aligned memory, to be freed; aborts where there is none. */
void *forward_alloc(size_t bytes) __attribute__((returns_nonnull));

/* Opens and loads a checkpoint directory; memory is malloc's and stays until forward_close. */
MUST_CHECK int forward_open(struct forward *f, const char *dir, uint32_t sequences, uint32_t pages,
			    struct err *e);
void forward_close(struct forward *f);

/* Fills the cache with NaN: what a pass reads it must have written. */
void forward_spoil(struct forward *f);

/*
 * Main layers. The rows of a sequence ascend and continue where the last pass over that sequence
 * ended.
 */
void forward_main(struct forward *f, struct team *t, unsigned workers,
		  const struct forward_row *row, uint32_t n, const struct forward_out *out);

/* The first MTP layer; hidden: [n][model_width], row i belonging to position - 1 of row[i]. */
void forward_mtp(struct forward *f, struct team *t, unsigned workers, const struct forward_row *row,
		 uint32_t n, const float *hidden, const struct forward_out *out);

#endif
