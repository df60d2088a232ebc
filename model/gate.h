/*
 * The gate of one MoE layer (specification 4.6, arithmetic 10): which experts a
 * row goes to, and with which weights; all families. Called by router, and by
 * tests. Conventions: model/model.h.
 */
#ifndef MODEL_GATE_H
#define MODEL_GATE_H

#include "model/model.h"

size_t gate_scratch_bytes(const struct model_config *c, unsigned workers, uint32_t rows);

/*
 * x: [rows][model_width] BF16, attention's x_out. expert: [rows][K] ids,
 * ascending; weight: [rows][K] FP32, in the same order. failed[r] is set to 1
 * where a logit of row r is not finite (expert and weight of that row: zeros),
 * else to 0. skip: [rows], rows to leave out (may be NULL); their results are
 * not written. Barrier inside.
 */
void gate_rows(const struct model *m, uint32_t layer, const uint16_t *x, uint32_t rows,
	       const uint8_t *skip, uint16_t *expert, float *weight, uint8_t *failed, void *scratch,
	       struct worker *w);

/* The choice for one row of finite logits [E], without the matrix: for tests
 * and hints. work: 2 * E floats, E <= CONFIG_EXPERTS_MAX. */
void gate_choose(const struct model *m, const float *logits, const float *correction_bias,
		 uint16_t *expert, float *weight, float *work);

#endif
