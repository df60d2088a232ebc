/*
 * The two ends of a pass: embedding rows in, final norm and logits out. Called
 * by router and by tests. Conventions: model/model.h.
 */
#ifndef MODEL_HEAD_H
#define MODEL_HEAD_H

#include "model/model.h"

/* h[r] = the embedding of token[r] (< vocab_size: the caller checked), widened.
 */
void embed_rows(const struct model *m, const uint32_t *token, uint32_t rows, float *h,
		struct worker *w);

/*
 * The norm before the head: model.norm for `layer` below num_hidden_layers,
 * else that MTP layer's shared_head.norm. norm_out: [rows][model_width] FP32
 * (what MTP takes as h_i), may be h; x: the same in BF16, padded, or NULL.
 */
void head_norm(const struct model *m, uint32_t layer, const float *h, uint32_t rows,
	       float *norm_out, uint16_t *x, struct worker *w);

/* logits[r * ldl + id] for id < vocab_size, ldl >= vocab_size. x:
 * [rows][model_width] from head_norm. */
void head_logits(const struct model *m, const uint16_t *x, uint32_t rows, float *logits, size_t ldl,
		 struct worker *w);

#endif
