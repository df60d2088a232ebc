/*
 * One attention block for a batch of rows (specification 4.3, always absorbed;
 * arithmetic 8): from the residual stream to the residual stream and the normed
 * input of the feed-forward part. Writes the rows' latent cache entries into
 * their pages first, then attends. Called by mla for main and MTP layers alike,
 * and by tests. Conventions: model/model.h.
 */
#ifndef MODEL_ATTENTION_H
#define MODEL_ATTENTION_H

#include "model/model.h"

/* One row. Rows of one sequence stand in ascending order of position (others
 * may stand between); earlier positions that are not in this job were cached by
 * earlier ones. */
struct attention_row {
	uint32_t position;     /* of RoPE and cache; an MTP pair (h_i, t_{i+1}) has
				  position i + 1, so never 0 */
	uint32_t first_key;    /* of MTP layers, where it is at least 1 and the same for all rows
				  of a sequence: positions below it count as missing keys. The row
				  at this position puts +0 below itself into its page. Else 0 */
	uint32_t skip;         /* nonzero: the row failed earlier; nothing of it is read or
				  written */
	const uint32_t *pages; /* page numbers of its sequence: page i holds positions
				  [256 i, 256 i + 256) */
	uint32_t n_pages;      /* entries of pages; the one of `position` is among them */
};

struct attention_job {
	uint32_t layer; /* < config_layers */
	uint32_t rows;
	const struct attention_row *row;
	const float *h_in; /* [rows][model_width] */
	float *h_out;      /* [rows][model_width]: h_in + attention; another array than
			      h_in */
	uint16_t *x_out;   /* [rows][model_width]: BF16 of its post_attention_layernorm,
			      padded */
	void *kv;          /* page 0: [layer][256][config_kv_row] BF16 per page, 64-byte
			      aligned */
	uint32_t kv_pages; /* pages in kv */
};

/* Checks what came from another process: layer, positions, page numbers.
 * Returns 0 or -EBADMSG with a text. */
MUST_CHECK int attention_check(const struct model *m, const struct attention_job *job,
			       struct err *e);

/* Enough for any number of rows: they are worked off in blocks. */
size_t attention_scratch_bytes(const struct model_config *c, unsigned workers, uint32_t rows);

/* The job passed attention_check. One call, barriers inside; all rows are done
 * after the next barrier. */
void attention_rows(const struct model *m, const struct attention_job *job, void *scratch,
		    struct worker *w);

#endif
