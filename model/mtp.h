/*
 * The entrance of an MTP layer (specification 6.1, arithmetic 14): from (hidden
 * state, next token) to the layer's residual stream. What follows is an
 * ordinary layer (attention_rows with position i + 1, gate, ffn), then
 * head_norm with the MTP layer and head_logits. Called by router and by tests.
 * Conventions: model/model.h.
 */
#ifndef MODEL_MTP_H
#define MODEL_MTP_H

#include "model/model.h"

size_t mtp_scratch_bytes(const struct model_config *c, uint32_t rows);

/*
 * For the pairs (hidden[source[r]] = norm_out of position i, token[r] = the
 * token at i + 1): h_out[r] = eh_proj [enorm(embed(token)) ; hnorm(hidden)].
 * hidden, h_out: [rows][model_width] FP32. Barriers inside.
 */
void mtp_rows(const struct model *m, uint32_t layer, const uint32_t *token, const float *hidden,
	      const uint32_t *source, uint32_t rows, float *h_out, void *scratch, struct worker *w);

#endif
