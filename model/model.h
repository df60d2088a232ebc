/*
 * The attached view of one model: where the weights of every layer lie, by
 * name, in the resident object that another process filled. Nothing is copied.
 * Made once at start by router, mla, experts and the tests; read-only
 * afterwards, shared by all workers.
 *
 * Conventions of every compute function in model/:
 * - Each worker of a team calls it with the same arguments and its own `struct
 * worker`; it returns when this worker's part is done. Results are visible to
 * the other workers after the next worker_barrier, or the end of team_run.
 * Functions that need barriers inside place them themselves; the caller places
 * one between two calls that use each other's results or the same scratch.
 * - Scratch memory is the caller's: X_scratch_bytes says how much, 64-byte
 * aligned, contents of no interest. Nothing allocates.
 * - A row's result depends on that row (and its sequence) only: not on the
 * number of workers, the other rows, or the instruction set.
 * - A "row" of h (FP32) or x (BF16) is model_width(config) elements long:
 * hidden_size, then x is padded with +0 (as rule 3 wants it) and the rest of h
 * has no meaning. Row arrays are 64-byte aligned.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "drivers/cpu/kernels.h"
#include "model/config.h"
#include "model/index.h"
#include "runtime/err.h"
#include "runtime/team.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One layer, main or MTP. What it has none of is NULL, or a weight whose data
 * is NULL. Vectors are FP32. */
struct layer {
	const float *input_norm, *post_norm; /* [hidden_size] */
	struct weight q_a;  /* [q_lora_rank, hidden_size]; absent if q_lora_rank is 0 */
	struct weight q_b;  /* [heads * (nope + rope), q_lora_rank, or hidden_size if
			       that is 0] */
	struct weight kv_a; /* [kv_lora_rank + rope, hidden_size] */
	struct weight kv_b; /* [heads * (nope + v), kv_lora_rank]: per head W_UK rows,
			       then W_UV rows */
	struct weight o;    /* [hidden_size, heads * v] */
	const float *q_a_norm, *kv_a_norm;
	const float *q_a_bias, *kv_a_bias, *o_bias; /* attention_bias */
	struct weight mlp[3];         /* gate, up, down: dense layer, or the shared experts of
					 a MoE layer; absent: no shared experts */
	struct weight gate;           /* [n_routed_experts, hidden_size], BF16 */
	const float *correction_bias; /* [n_routed_experts], noaux_tc */
	const float *enorm, *hnorm, *shared_head_norm; /* MTP */
	struct weight eh_proj;                         /* [hidden_size, 2 * hidden_size], MTP */
	bool is_moe;
	bool is_mtp;
};

struct model {
	const struct index *index;
	const struct model_config *config; /* of the index */
	const struct cpu_kernels *kernels;
	const char *resident;
	uint64_t resident_len;
	struct weight embed; /* [vocab_size, hidden_size] BF16 */
	struct weight head;  /* [vocab_size, hidden_size]; the embedding where tied */
	const float *norm;   /* [hidden_size] */
	struct layer layer[CONFIG_LAYERS_MAX]; /* config_layers(config) of them */
};

/*
 * Fills the view. `ix` was checked by index_open; here every tensor's shape is
 * compared with the config and every byte range with `resident_len`, so that no
 * kernel can leave the object. `resident` is 64-byte aligned and may still be
 * loading (index_layer.ready_after against resident_header.loaded tells when a
 * layer may be used). All of ix, resident and k must outlive m. Returns 0 or
 * -EBADMSG naming the tensor.
 */
MUST_CHECK int model_attach(struct model *m, const struct index *ix, const void *resident,
			    uint64_t resident_len, const struct cpu_kernels *k, struct err *e);

/*
 * The three matrices (gate, up, down) of one routed expert: part[p] points at
 * the stored bytes of that matrix (any alignment), in a slot; scales come from
 * the resident object, or (packed store) from before the matrix in the slot. layer must be a MoE
 * layer and expert < n_routed_experts.
 */
void model_expert(const struct model *m, uint32_t layer, uint32_t expert, const void *const part[3],
		  struct weight out[3]);

/* Elements of one row of h or x. */
static inline size_t model_width(const struct model_config *c)
{
	return pad128(c->hidden_size);
}

/* Scratch is cut into pieces of whole cache lines. */
static inline size_t scratch_round(size_t bytes)
{
	return (bytes + 63) & ~(size_t)63;
}

#endif
