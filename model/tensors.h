/*
 * The tensors of one layer: name in the checkpoint, shape by the config, place in struct
 * index_layer. One table for the survey, which looks them up, index_open, which checks another
 * process's index against it, and synth, which writes them (specification 2.3).
 */
#ifndef MODEL_TENSORS_H
#define MODEL_TENSORS_H

#include "model/index.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tensor_kind {
	TENSOR_MATRIX, /* FP8 with scales, or BF16 */
	TENSOR_PLAIN,  /* a matrix that is BF16 only: embedding, head, gate, eh_proj */
	TENSOR_VECTOR  /* BF16 or F32, resident as F32 */
};

enum layer_tensor {
	LAYER_INPUT_NORM,
	LAYER_POST_NORM,
	LAYER_Q_A,
	LAYER_Q_A_NORM,
	LAYER_Q_B,
	LAYER_KV_A,
	LAYER_KV_A_NORM,
	LAYER_KV_B,
	LAYER_O,
	LAYER_Q_A_BIAS,
	LAYER_KV_A_BIAS,
	LAYER_O_BIAS,
	LAYER_MLP_GATE,
	LAYER_MLP_UP,
	LAYER_MLP_DOWN,
	LAYER_GATE,
	LAYER_CORRECTION_BIAS,
	LAYER_ENORM,
	LAYER_HNORM,
	LAYER_EH_PROJ,
	LAYER_SHARED_HEAD_NORM,
	LAYER_TENSORS
};

struct tensor_spec {
	const char *name; /* behind "model.layers.N." */
	size_t member;    /* offset of its struct index_tensor in struct index_layer */
	uint32_t kind;    /* enum tensor_kind */
	uint32_t n_out;   /* vectors: 1 */
	uint32_t n_in;
};

/*
 * Whether layer `layer` (MTP's included) has the tensor, and if so what it looks like; name, member
 * and kind are set in any case. The config must have passed config_check.
 */
bool tensor_spec(const struct model_config *c, uint32_t layer, enum layer_tensor which,
		 struct tensor_spec *out);

/* Shape of matrix `part` (enum expert_part) of a routed expert. */
void tensor_expert_shape(const struct model_config *c, unsigned part, uint32_t *n_out,
			 uint32_t *n_in);

/* "gate_proj", "up_proj", "down_proj". */
const char *tensor_part_name(unsigned part);

/*
 * The sentence about a routed expert that cannot be used: file, tensor (matrix `part`, enum
 * expert_part), and what is wrong: `code` is the errno of a read that failed, or 0 for a number
 * that is not finite. The numbers may come from another process: without such an expert it names
 * the layer.
 */
#define TENSOR_DAMAGE_TEXT 512
const char *tensor_damage_text(char out[TENSOR_DAMAGE_TEXT], const struct index *ix, uint32_t layer,
			       uint32_t expert, uint32_t part, int code);

/* Number of 128-wide blocks that cover n. */
static inline uint64_t tensor_blocks(uint64_t n)
{
	return (n + 127) / 128;
}

#endif
