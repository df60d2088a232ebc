/*
 * The feed-forward part of a layer (specification 4.5, arithmetic 11): one MLP
 * (dense, shared or one routed expert) over some rows, the weighted sum of the
 * experts in ascending order, and the return to the residual stream. Called by
 * experts and by tests. Conventions: model/model.h. A MoE layer is: ffn_clear;
 * ffn_mlp with layer.mlp for all rows (if there are shared experts); per
 * expert, ascending: ffn_mlp over the rows that picked it, ffn_accumulate;
 * ffn_finish. An expert that arrived early may be computed at any time into a
 * buffer of its own and accumulated in its turn. A barrier stands between calls
 * that depend on each other.
 */
#ifndef MODEL_FFN_H
#define MODEL_FFN_H

#include "model/model.h"

/* For MLPs of the given inner width (intermediate_size; n_shared *
 * moe_intermediate_size; moe_intermediate_size). */
size_t ffn_scratch_bytes(const struct model_config *c, uint32_t inner, uint32_t rows,
			 unsigned workers);

/* The widest MLP of the model. */
uint32_t ffn_inner_max(const struct model_config *c);
/* The widest MLP of a MoE layer, routed or shared; 0 for a dense model. */
uint32_t ffn_moe_inner_max(const struct model_config *c);

/*
 * f[i] = down(silu(gate x) * (up x)) for the n rows x[list[i]] (list NULL:
 * x[i]). x: [..][model_width] BF16; f: [n][model_width] FP32, compact. Barriers
 * inside.
 */
void ffn_mlp(const struct model *m, const struct weight mlp[3], const uint16_t *x,
	     const uint32_t *list, uint32_t n, float *f, void *scratch, struct worker *w);

/* One MLP of a set, as ffn_mlp's arguments. */
struct ffn_part {
	const struct weight *mlp; /* [3] */
	const uint32_t *list;     /* NULL: rows 0 .. n - 1 */
	uint32_t n;
	float *f; /* [n][model_width] */
};

/* For sets whose parts have `rows` rows together, the widest having the given inner width. */
size_t ffn_set_scratch_bytes(const struct model_config *c, uint32_t inner, uint32_t rows,
			     unsigned workers);

/*
 * All parts as ffn_mlp computes each, with one barrier for all of them (two where a part with a
 * list has more than one row): a decode step's experts are many small products, and a barrier after
 * each costs more than their tails. None stands at the end: a worker may go on with its own columns
 * of f, which are those of ffn_clear, ffn_accumulate and ffn_finish.
 */
void ffn_mlp_set(const struct model *m, const struct ffn_part *part, uint32_t parts,
		 const uint16_t *x, void *scratch, struct worker *w);

/* acc[r] = +0 for r < rows; acc: [rows][model_width]. */
void ffn_clear(const struct model *m, float *acc, uint32_t rows, struct worker *w);

/* acc[list[i]] = fma(weight[i], f[i], acc[list[i]]) for i < n; the ids in list
 * differ. */
void ffn_accumulate(const struct model *m, float *acc, const float *f, const float *weight,
		    const uint32_t *list, uint32_t n, struct worker *w);

/*
 * h_out[r] = h_in[r] + (acc[r] + shared[r]). acc NULL: a dense layer, shared
 * being its MLP; shared NULL: no shared experts. skip: [rows], rows to leave
 * out (may be NULL).
 */
void ffn_finish(const struct model *m, float *h_out, const float *h_in, const float *acc,
		const float *shared, const uint8_t *skip, uint32_t rows, struct worker *w);

#endif
