/*
 * Whether the numbers of a model's config fit together; see config.h.
 */
#include "model/config.h"

#include <errno.h>
#include <math.h>

static int bad(struct err *e, const char *what)
{
	return err_exit(e, STATUS_MODEL, -EBADMSG, "config.json: %s", what);
}

static int out_of_range(struct err *e, const char *name, uint32_t value, uint32_t min, uint32_t max)
{
	return err_exit(e, STATUS_MODEL, -ERANGE, "config.json: %s is %u, allowed are %u to %u",
			name, value, min, max);
}

static int check_ranges(const struct model_config *c, struct err *e)
{
	const uint32_t experts = c->n_routed_experts;
	const struct {
		const char *name;
		uint32_t value, min, max;
	} range[] = {
		{"vocab_size", c->vocab_size, 1, CONFIG_VOCAB_MAX},
		{"hidden_size", c->hidden_size, 1, CONFIG_WIDTH_MAX},
		{"intermediate_size", c->intermediate_size, 1, CONFIG_WIDTH_MAX},
		{"num_hidden_layers", c->num_hidden_layers, 1, CONFIG_LAYERS_MAX},
		{"num_nextn_predict_layers", c->num_nextn_predict_layers, 0, CONFIG_LAYERS_MAX},
		{"num_attention_heads", c->num_attention_heads, 1, CONFIG_HEADS_MAX},
		{"q_lora_rank", c->q_lora_rank, 0, CONFIG_WIDTH_MAX},
		{"kv_lora_rank", c->kv_lora_rank, 1, CONFIG_WIDTH_MAX},
		{"qk_nope_head_dim", c->qk_nope_head_dim, 1, CONFIG_WIDTH_MAX},
		{"qk_rope_head_dim", c->qk_rope_head_dim, 2, 2 * CONFIG_ROPE_PAIRS_MAX},
		{"v_head_dim", c->v_head_dim, 1, CONFIG_WIDTH_MAX},
		{"n_routed_experts", experts, 0, CONFIG_EXPERTS_MAX},
		{"n_shared_experts", c->n_shared_experts, 0, CONFIG_EXPERTS_MAX},
		{"moe_intermediate_size", c->moe_intermediate_size, experts ? 1 : 0,
		 CONFIG_WIDTH_MAX},
		{"num_experts_per_tok", c->num_experts_per_tok, experts ? 1 : 0, CONFIG_TOPK_MAX},
		{"n_group", c->n_group, 1, CONFIG_EXPERTS_MAX},
		{"topk_group", c->topk_group, 1, CONFIG_EXPERTS_MAX},
		{"first_k_dense_replace", c->first_k_dense_replace, 0, CONFIG_LAYERS_MAX},
		{"moe_layer_freq", c->moe_layer_freq, 1, CONFIG_LAYERS_MAX},
		{"max_position_embeddings", c->max_position_embeddings, 1, CONFIG_POSITIONS_MAX},
		{"the number of end tokens", c->n_eos, 0, CONFIG_EOS_MAX},
		{"topk_method", c->topk_method, TOPK_GREEDY, TOPK_NOAUX_TC},
		{"scoring_func", c->scoring_func, SCORE_SOFTMAX, SCORE_SIGMOID},
		{"the family", c->family, FAMILY_V2, FAMILY_KIMI_K2},
		{"norm_topk_prob", c->norm_topk_prob, 0, 1},
		{"attention_bias", c->attention_bias, 0, 1},
		{"tie_word_embeddings", c->tie_word_embeddings, 0, 1},
		{"quantization_config", c->quantised, 0, 1},
	};

	for (size_t i = 0; i < sizeof(range) / sizeof(range[0]); i++)
		if (range[i].value < range[i].min || range[i].value > range[i].max)
			return out_of_range(e, range[i].name, range[i].value, range[i].min,
					    range[i].max);
	return 0;
}

/*
 * How experts are chosen: only the pairs of method and score that published models have, and groups
 * that can be met.
 */
static int check_gate(const struct model_config *c, struct err *e)
{
	bool grouped = c->topk_method != TOPK_GREEDY;
	uint32_t group;

	if (!c->n_routed_experts)
		return 0;
	if (c->n_routed_experts % c->n_group)
		return err_exit(e, STATUS_MODEL, -EBADMSG,
				"config.json: n_group %u does not divide n_routed_experts %u",
				c->n_group, c->n_routed_experts);
	if (c->topk_group > c->n_group)
		return out_of_range(e, "topk_group", c->topk_group, 1, c->n_group);
	if (c->num_experts_per_tok > c->n_routed_experts)
		return out_of_range(e, "num_experts_per_tok", c->num_experts_per_tok, 1,
				    c->n_routed_experts);
	if ((c->topk_method == TOPK_NOAUX_TC) != (c->scoring_func == SCORE_SIGMOID))
		return bad(e,
			   "this pair of topk_method and scoring_func is not supported: noaux_tc "
			   "goes with sigmoid, greedy and group_limited_greedy with softmax");
	group = c->n_routed_experts / c->n_group;
	if (grouped && c->num_experts_per_tok > c->topk_group * group)
		return err_exit(
			e, STATUS_MODEL, -EBADMSG,
			"config.json: num_experts_per_tok %u is more than the %u experts that "
			"topk_group %u of n_group %u leave",
			c->num_experts_per_tok, c->topk_group * group, c->topk_group, c->n_group);
	if (c->topk_method == TOPK_NOAUX_TC && c->n_group > 1 && group == 1)
		return bad(e, "groups of one expert with topk_method noaux_tc are not supported: a "
			      "group's score is the sum of its best two");
	return 0;
}

static int check_numbers(const struct model_config *c, struct err *e)
{
	if (!(c->rms_norm_eps >= 0x1p-126f && c->rms_norm_eps < 1))
		return bad(e, "rms_norm_eps must lie between 0 and 1");
	if (!(c->latent_norm_eps >= 0x1p-126f && c->latent_norm_eps < 1))
		return bad(e, "the latent norms' eps must lie between 0 and 1");
	if (!(c->routed_scaling_factor >= 0x1p-126f && isfinite(c->routed_scaling_factor)))
		return bad(e, "routed_scaling_factor must be a positive number");
	if (!(c->softmax_scale >= 0x1p-126f && isfinite(c->softmax_scale)))
		return bad(e, "rope_scaling gives a softmax scale that is not a positive number");
	if (!(isfinite(c->rope_mu) && c->rope_mu > 0))
		return bad(e, "rope_scaling gives a multiplier that is not a positive number");
	for (uint32_t i = 0; i < c->qk_rope_head_dim / 2; i++)
		if (!(c->rope_freq[i] >= 0 && c->rope_freq[i] <= 1))
			return bad(e, "rope_scaling gives a frequency outside 0 to 1");
	if (!(c->temperature >= 0 && isfinite(c->temperature)))
		return bad(e, "the default temperature must be a finite number, at least 0");
	if (!(c->top_p > 0 && c->top_p <= 1))
		return bad(e, "the default top_p must lie above 0 and at most at 1");
	return 0;
}

int config_check(const struct model_config *c, struct err *e)
{
	int rc = check_ranges(c, e);

	if (rc)
		return rc;
	if (c->num_hidden_layers + c->num_nextn_predict_layers > CONFIG_LAYERS_MAX)
		return bad(
			e,
			"num_hidden_layers and num_nextn_predict_layers make more than 512 layers");
	if (c->qk_rope_head_dim % 2)
		return bad(e, "qk_rope_head_dim must be even");
	if ((uint64_t)c->n_shared_experts * c->moe_intermediate_size > CONFIG_WIDTH_MAX)
		return bad(e, "n_shared_experts * moe_intermediate_size is too large");
	for (uint32_t i = 0; i < c->n_eos; i++)
		if (c->eos_token_id[i] >= c->vocab_size)
			return err_exit(e, STATUS_MODEL, -ERANGE,
					"config.json: eos_token_id %u is not below vocab_size %u",
					c->eos_token_id[i], c->vocab_size);
	if (c->bos_token_id != UINT32_MAX && c->bos_token_id >= c->vocab_size)
		return err_exit(e, STATUS_MODEL, -ERANGE,
				"config.json: bos_token_id %u is not below vocab_size %u",
				c->bos_token_id, c->vocab_size);
	rc = check_gate(c, e);
	return rc ? rc : check_numbers(c, e);
}
