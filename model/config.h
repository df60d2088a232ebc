/*
 * The shape and the constants of one model: what config.json and generation_config.json say,
 * checked, with the defaults of the model's family filled in (specification 1) and the derived
 * constants computed (specification 4.3, 5; arithmetic 7). Made by model/store/config.c in the
 * loader, stored in the index, read by every server.
 */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum model_family {
	FAMILY_V2 = 2,
	FAMILY_V3 = 3,
	FAMILY_KIMI_K2 = 4
};
enum topk_method {
	TOPK_GREEDY,
	TOPK_GROUP_LIMITED,
	TOPK_NOAUX_TC
};
enum scoring_func {
	SCORE_SOFTMAX,
	SCORE_SIGMOID
};

/* Limits where hostile numbers enter; each is far above any published model. */
enum {
	CONFIG_LAYERS_MAX = 512,   /* main and MTP layers together */
	CONFIG_EXPERTS_MAX = 4096, /* routed experts of one layer */
	CONFIG_TOPK_MAX = 64,
	CONFIG_HEADS_MAX = 1024,
	CONFIG_WIDTH_MAX = 1 << 20, /* hidden, intermediate and head widths */
	CONFIG_VOCAB_MAX = 1 << 22,
	CONFIG_ROPE_PAIRS_MAX = 128, /* qk_rope_head_dim / 2 */
	CONFIG_EOS_MAX = 16,
	CONFIG_POSITIONS_MAX = 1 << 24
};

/* Names are the checkpoint's. Plain data without pointers: it lies in the index object. */
struct model_config {
	uint32_t family; /* enum model_family */
	uint32_t vocab_size;
	uint32_t hidden_size;
	uint32_t intermediate_size;
	uint32_t moe_intermediate_size; /* 0 for a dense model */
	uint32_t num_hidden_layers;
	/* MTP layers whose tensors are there; numbered num_hidden_layers + k */
	uint32_t num_nextn_predict_layers;
	uint32_t num_attention_heads;
	uint32_t q_lora_rank; /* 0: a single q_proj */
	uint32_t kv_lora_rank;
	uint32_t qk_nope_head_dim;
	uint32_t qk_rope_head_dim;
	uint32_t v_head_dim;
	uint32_t n_routed_experts; /* 0: dense model */
	/* 0: none; else one MLP of width n_shared_experts * moe_intermediate_size */
	uint32_t n_shared_experts;
	uint32_t num_experts_per_tok;
	uint32_t n_group;
	uint32_t topk_group;
	uint32_t topk_method;    /* enum topk_method */
	uint32_t scoring_func;   /* enum scoring_func */
	uint32_t norm_topk_prob; /* 0 or 1 */
	uint32_t first_k_dense_replace;
	uint32_t moe_layer_freq;
	uint32_t attention_bias;      /* 0 or 1 */
	uint32_t tie_word_embeddings; /* 0 or 1 */
	uint32_t max_position_embeddings;
	uint32_t quantised;    /* 1: quantization_config names FP8 E4M3 128x128 */
	uint32_t bos_token_id; /* UINT32_MAX: none */
	uint32_t n_eos;
	uint32_t eos_token_id[CONFIG_EOS_MAX];
	float rms_norm_eps;
	float latent_norm_eps; /* of q_a_layernorm and kv_a_layernorm: always 1e-6 */
	float routed_scaling_factor;
	float softmax_scale;                     /* sigma of specification 4.3, rounded once */
	double rope_freq[CONFIG_ROPE_PAIRS_MAX]; /* f'_i of specification 5 */
	double rope_mu;                          /* multiplier of cosine and sine */
	double temperature, top_p; /* defaults of requests: generation_config.json, else 1 and 1 */
};

/* Layers with attention, MTP's among them. */
static inline uint32_t config_layers(const struct model_config *c)
{
	return c->num_hidden_layers + c->num_nextn_predict_layers;
}

/* Whether layer l (main or MTP) has routed experts: specification 1.1, moe_layer_freq. */
static inline bool config_is_moe(const struct model_config *c, uint32_t layer)
{
	return c->n_routed_experts && layer >= c->first_k_dense_replace &&
	       layer % c->moe_layer_freq == 0;
}

/*
 * Number of main layers below `layer` that have routed experts: the index of `layer` among MoE
 * layers (routes files).
 */
static inline uint32_t config_moe_index(const struct model_config *c, uint32_t layer)
{
	uint32_t n = 0;

	for (uint32_t l = 0; l < layer; l++)
		n += config_is_moe(c, l);
	return n;
}

/*
 * Elements of one cached row [latent ; k_pe], rounded up so that every row begins on a cache line.
 */
static inline size_t config_kv_row(const struct model_config *c)
{
	return (c->kv_lora_rank + c->qk_rope_head_dim + 31u) & ~(size_t)31;
}

enum {
	KV_PAGE_ROWS = 256
}; /* a page is a segment of arithmetic rule 8 */

/* Bytes of one KV page: 256 positions of every layer, [layer][position][config_kv_row] BF16. */
static inline size_t config_kv_page_bytes(const struct model_config *c)
{
	return config_layers(c) * (size_t)KV_PAGE_ROWS * config_kv_row(c) * 2;
}

/*
 * Checks that every number is inside its limit and that they fit together (specification 1.1,
 * arithmetic 10): afterwards no product of widths overflows and no count exceeds its array. Used on
 * what config.json says and again on an index from another process. Status 3.
 */
MUST_CHECK int config_check(const struct model_config *c, struct err *e);

#endif
