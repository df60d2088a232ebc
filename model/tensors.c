/*
 * The table of a layer's tensors; see tensors.h.
 */
#include "model/tensors.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define AT(field) offsetof(struct index_layer, field)

static const struct {
	const char *name;
	size_t member;
	uint32_t kind;
} table[LAYER_TENSORS] = {
	[LAYER_INPUT_NORM] = {"input_layernorm.weight", AT(input_layernorm), TENSOR_VECTOR},
	[LAYER_POST_NORM] = {"post_attention_layernorm.weight", AT(post_attention_layernorm),
			     TENSOR_VECTOR},
	[LAYER_Q_A] = {"self_attn.q_a_proj.weight", AT(q_a_proj), TENSOR_MATRIX},
	[LAYER_Q_A_NORM] = {"self_attn.q_a_layernorm.weight", AT(q_a_layernorm), TENSOR_VECTOR},
	[LAYER_Q_B] = {"self_attn.q_b_proj.weight", AT(q_b_proj), TENSOR_MATRIX},
	[LAYER_KV_A] = {"self_attn.kv_a_proj_with_mqa.weight", AT(kv_a_proj), TENSOR_MATRIX},
	[LAYER_KV_A_NORM] = {"self_attn.kv_a_layernorm.weight", AT(kv_a_layernorm), TENSOR_VECTOR},
	[LAYER_KV_B] = {"self_attn.kv_b_proj.weight", AT(kv_b_proj), TENSOR_MATRIX},
	[LAYER_O] = {"self_attn.o_proj.weight", AT(o_proj), TENSOR_MATRIX},
	[LAYER_Q_A_BIAS] = {"self_attn.q_a_proj.bias", AT(q_a_bias), TENSOR_VECTOR},
	[LAYER_KV_A_BIAS] = {"self_attn.kv_a_proj_with_mqa.bias", AT(kv_a_bias), TENSOR_VECTOR},
	[LAYER_O_BIAS] = {"self_attn.o_proj.bias", AT(o_bias), TENSOR_VECTOR},
	[LAYER_MLP_GATE] = {"mlp.gate_proj.weight", AT(mlp[0]), TENSOR_MATRIX},
	[LAYER_MLP_UP] = {"mlp.up_proj.weight", AT(mlp[1]), TENSOR_MATRIX},
	[LAYER_MLP_DOWN] = {"mlp.down_proj.weight", AT(mlp[2]), TENSOR_MATRIX},
	[LAYER_GATE] = {"mlp.gate.weight", AT(gate), TENSOR_PLAIN},
	[LAYER_CORRECTION_BIAS] = {"mlp.gate.e_score_correction_bias", AT(correction_bias),
				   TENSOR_VECTOR},
	[LAYER_ENORM] = {"enorm.weight", AT(enorm), TENSOR_VECTOR},
	[LAYER_HNORM] = {"hnorm.weight", AT(hnorm), TENSOR_VECTOR},
	[LAYER_EH_PROJ] = {"eh_proj.weight", AT(eh_proj), TENSOR_PLAIN},
	[LAYER_SHARED_HEAD_NORM] = {"shared_head.norm.weight", AT(shared_head_norm), TENSOR_VECTOR},
};

static const char *const shared_names[] = {
	"mlp.shared_experts.gate_proj.weight",
	"mlp.shared_experts.up_proj.weight",
	"mlp.shared_experts.down_proj.weight",
};

static const char *const part_names[] = {"gate_proj", "up_proj", "down_proj"};

const char *tensor_part_name(unsigned part)
{
	return part_names[part];
}

const char *tensor_damage_text(char out[TENSOR_DAMAGE_TEXT], const struct index *ix, uint32_t layer,
			       uint32_t expert, uint32_t part, int code)
{
	const struct model_config *c = &ix->config;
	const char *what = !code             ? "a number in it is not finite: the file is damaged"
			   : code == ENODATA ? "the file ends before it: it was cut"
			   : code == EBADMSG ? "a piece of it is damaged: its hash is another"
					     : strerror(code);
	const char *file;
	char name[204];

	if (layer >= config_layers(c) || !index_layer(ix, layer)->is_moe ||
	    expert >= c->n_routed_experts || part >= EXPERT_PARTS) {
		snprintf(out, TENSOR_DAMAGE_TEXT, "layer %u: %s", layer, what);
		return out;
	}
	file = index_file(ix, index_expert(ix, layer, expert)->part[part].file)->name;
	snprintf(out, TENSOR_DAMAGE_TEXT,
		 "%s: tensor model.layers.%u.mlp.experts.%u.%s.weight: %s%s. Check the model with "
		 "`penstock verify`, or copy it again",
		 err_name(name, file, strnlen(file, sizeof(index_file(ix, 0)->name))), layer,
		 expert, tensor_part_name(part), code ? "cannot be read: " : "", what);
	return out;
}

void tensor_expert_shape(const struct model_config *c, unsigned part, uint32_t *n_out,
			 uint32_t *n_in)
{
	*n_out = part == EXPERT_DOWN ? c->hidden_size : c->moe_intermediate_size;
	*n_in = part == EXPERT_DOWN ? c->moe_intermediate_size : c->hidden_size;
}

/* The width of the layer's own MLP: dense, or all shared experts together; 0 for none. */
static uint32_t mlp_width(const struct model_config *c, bool moe)
{
	return moe ? c->n_shared_experts * c->moe_intermediate_size : c->intermediate_size;
}

static void set_shape(struct tensor_spec *out, uint32_t n_out, uint32_t n_in)
{
	out->n_out = n_out;
	out->n_in = n_in;
}

static void attention_shape(const struct model_config *c, enum layer_tensor which,
			    struct tensor_spec *out)
{
	const uint32_t heads = c->num_attention_heads;
	const uint32_t q_width = heads * (c->qk_nope_head_dim + c->qk_rope_head_dim);
	const uint32_t latent = c->kv_lora_rank + c->qk_rope_head_dim;

	switch (which) {
	case LAYER_Q_A:
		set_shape(out, c->q_lora_rank, c->hidden_size);
		break;
	case LAYER_Q_A_NORM:
	case LAYER_Q_A_BIAS:
		set_shape(out, 1, c->q_lora_rank);
		break;
	case LAYER_Q_B:
		set_shape(out, q_width, c->q_lora_rank ? c->q_lora_rank : c->hidden_size);
		break;
	case LAYER_KV_A:
		set_shape(out, latent, c->hidden_size);
		break;
	case LAYER_KV_A_BIAS:
		set_shape(out, 1, latent);
		break;
	case LAYER_KV_A_NORM:
		set_shape(out, 1, c->kv_lora_rank);
		break;
	case LAYER_KV_B:
		set_shape(out, heads * (c->qk_nope_head_dim + c->v_head_dim), c->kv_lora_rank);
		break;
	case LAYER_O:
		set_shape(out, c->hidden_size, heads * c->v_head_dim);
		break;
	default: /* norms and o_proj's bias: as wide as the residual stream */
		set_shape(out, 1, c->hidden_size);
		break;
	}
}

static void other_shape(const struct model_config *c, enum layer_tensor which, bool moe,
			struct tensor_spec *out)
{
	const uint32_t width = mlp_width(c, moe);

	switch (which) {
	case LAYER_MLP_GATE:
	case LAYER_MLP_UP:
		set_shape(out, width, c->hidden_size);
		break;
	case LAYER_MLP_DOWN:
		set_shape(out, c->hidden_size, width);
		break;
	case LAYER_GATE:
		set_shape(out, c->n_routed_experts, c->hidden_size);
		break;
	case LAYER_CORRECTION_BIAS:
		set_shape(out, 1, c->n_routed_experts);
		break;
	case LAYER_EH_PROJ:
		set_shape(out, c->hidden_size, 2 * c->hidden_size);
		break;
	default:
		set_shape(out, 1, c->hidden_size);
		break;
	}
}

static bool has_tensor(const struct model_config *c, uint32_t layer, enum layer_tensor which,
		       bool moe)
{
	switch (which) {
	case LAYER_Q_A:
	case LAYER_Q_A_NORM:
		return c->q_lora_rank;
	case LAYER_Q_A_BIAS:
		return c->attention_bias && c->q_lora_rank;
	case LAYER_KV_A_BIAS:
	case LAYER_O_BIAS:
		return c->attention_bias;
	case LAYER_MLP_GATE:
	case LAYER_MLP_UP:
	case LAYER_MLP_DOWN:
		return mlp_width(c, moe);
	case LAYER_GATE:
		return moe;
	case LAYER_CORRECTION_BIAS:
		return moe && c->topk_method == TOPK_NOAUX_TC;
	case LAYER_ENORM:
	case LAYER_HNORM:
	case LAYER_EH_PROJ:
	case LAYER_SHARED_HEAD_NORM:
		return layer >= c->num_hidden_layers;
	default:
		return true;
	}
}

bool tensor_spec(const struct model_config *c, uint32_t layer, enum layer_tensor which,
		 struct tensor_spec *out)
{
	bool moe = config_is_moe(c, layer);

	out->name = table[which].name;
	out->member = table[which].member;
	out->kind = table[which].kind;
	if (!has_tensor(c, layer, which, moe))
		return false;
	if (which == LAYER_Q_B && !c->q_lora_rank)
		out->name = "self_attn.q_proj.weight";
	if (moe && which >= LAYER_MLP_GATE && which <= LAYER_MLP_DOWN)
		out->name = shared_names[which - LAYER_MLP_GATE];
	if (which <= LAYER_O_BIAS)
		attention_shape(c, which, out);
	else
		other_shape(c, which, moe, out);
	return true;
}
