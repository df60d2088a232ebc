/*
 * config.json and generation_config.json to struct model_config; see config.h. What a field means
 * and its default stand in specification 1.1; what YaRN makes of rope_scaling is in yarn.c.
 */
#include "model/store/config.h"

#include "model/store/json.h"
#include "model/store/yarn.h"

#include <errno.h>
#include <math.h>
#include <string.h>

struct fields {
	const char *file;
	yyjson_val *root;
	struct err *e;
};

static int refuse(const struct fields *f, const char *field, const char *what)
{
	return err_exit(f->e, STATUS_MODEL, -EBADMSG, "%s: %s %s", f->file, field, what);
}

/* The field, or NULL where it is absent or null: the two mean the same everywhere in this file. */
static yyjson_val *field(const struct fields *f, const char *name)
{
	yyjson_val *v = yyjson_obj_get(f->root, name);

	return yyjson_is_null(v) ? NULL : v;
}

/*
 * The readers keep what *out holds (the default) where the field is absent. Ranges are
 * config_check's matter.
 */
static int read_u32(const struct fields *f, const char *name, uint32_t *out)
{
	yyjson_val *v = field(f, name);
	uint64_t value;

	if (!v)
		return 0;
	if (!store_json_u64(v, true, &value) || value > UINT32_MAX)
		return refuse(f, name, "is not a whole number of 0 to 2^32 - 1");
	*out = (uint32_t)value;
	return 0;
}

static int read_number(const struct fields *f, const char *name, double *out)
{
	yyjson_val *v = field(f, name);

	if (!v)
		return 0;
	if (!yyjson_is_num(v))
		return refuse(f, name, "is not a number");
	*out = yyjson_get_num(v);
	return 0;
}

static int read_float(const struct fields *f, const char *name, float *out)
{
	double x = (double)*out;
	int rc = read_number(f, name, &x);

	*out = (float)x;
	return rc;
}

static int read_bool(const struct fields *f, const char *name, uint32_t *out)
{
	yyjson_val *v = field(f, name);

	if (!v)
		return 0;
	if (!yyjson_is_bool(v))
		return refuse(f, name, "is not true or false");
	*out = yyjson_get_bool(v);
	return 0;
}

static int unsupported(const struct fields *f, const char *name, yyjson_val *v,
		       const char *supported)
{
	char given[204];

	if (!yyjson_is_str(v))
		return refuse(f, name, "is missing or not a string");
	return err_exit(f->e, STATUS_MODEL, -ENOTSUP, "%s: %s \"%s\" is not supported, only %s",
			f->file, name, err_name(given, yyjson_get_str(v), yyjson_get_len(v)),
			supported);
}

struct word {
	const char *name;
	uint32_t value;
};

static int read_word(const struct fields *f, const char *name, const struct word *words, size_t n,
		     const char *supported, uint32_t *out)
{
	yyjson_val *v = field(f, name);

	if (!v)
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (!yyjson_equals_str(v, words[i].name))
			continue;
		*out = words[i].value;
		return 0;
	}
	return unsupported(f, name, v, supported);
}

static int read_family(const struct fields *f, struct model_config *c)
{
	static const struct word models[] = {{"deepseek_v3", FAMILY_V3},
					     {"deepseek_v2", FAMILY_V2},
					     {"kimi_k2", FAMILY_KIMI_K2}};
	yyjson_val *v = field(f, "model_type");
	yyjson_val *architectures = field(f, "architectures");
	size_t index;
	size_t max;
	yyjson_val *name;
	int rc;

	if (yyjson_equals_str(v, "deepseek_v32"))
		return refuse(f, "model_type",
			      "\"deepseek_v32\" is not supported: its attention (with "
			      "an indexer) is another one");
	if (!v)
		return refuse(f, "model_type", "is missing");
	rc = read_word(f, "model_type", models, 3, "deepseek_v3, deepseek_v2 and kimi_k2",
		       &c->family);
	if (rc)
		return rc;
	if (!yyjson_is_arr(architectures) || !yyjson_arr_size(architectures))
		return refuse(f, "architectures", "is missing or not a list of names");
	yyjson_arr_foreach(architectures, index, max, name)
	{
		bool v2 = yyjson_equals_str(name, "DeepseekV2ForCausalLM") ||
			  yyjson_equals_str(name, "DeepseekForCausalLM");
		bool v3 = yyjson_equals_str(name, "DeepseekV3ForCausalLM");

		if (c->family == FAMILY_V2 ? !v2 : !v3)
			return unsupported(f, "architectures", name,
					   c->family == FAMILY_V2
						   ? "DeepseekV2ForCausalLM with "
						     "model_type deepseek_v2"
						   : "DeepseekV3ForCausalLM with this "
						     "model_type");
	}
	return 0;
}

static void set_defaults(struct model_config *c)
{
	bool v2 = c->family == FAMILY_V2;

	c->n_group = v2 ? 1 : 8;
	c->topk_group = v2 ? 1 : 4;
	c->topk_method = v2 ? TOPK_GREEDY : TOPK_NOAUX_TC;
	c->scoring_func = v2 ? SCORE_SOFTMAX : SCORE_SIGMOID;
	c->norm_topk_prob = !v2;
	c->routed_scaling_factor = v2 ? 1.0f : 2.5f;
	c->first_k_dense_replace = v2 ? 0 : 3;
	c->moe_layer_freq = 1;
	c->rms_norm_eps = 1e-6f;
	c->latent_norm_eps = 1e-6f;
	c->bos_token_id = UINT32_MAX;
	c->temperature = 1;
	c->top_p = 1;
}

static int read_sizes(const struct fields *f, struct model_config *c)
{
	const struct {
		const char *name;
		uint32_t *to;
		bool required;
	} sizes[] = {
		{"vocab_size", &c->vocab_size, true},
		{"hidden_size", &c->hidden_size, true},
		{"intermediate_size", &c->intermediate_size, true},
		{"num_hidden_layers", &c->num_hidden_layers, true},
		{"num_nextn_predict_layers", &c->num_nextn_predict_layers, false},
		{"num_attention_heads", &c->num_attention_heads, true},
		{"q_lora_rank", &c->q_lora_rank, false},
		{"kv_lora_rank", &c->kv_lora_rank, true},
		{"qk_nope_head_dim", &c->qk_nope_head_dim, true},
		{"qk_rope_head_dim", &c->qk_rope_head_dim, true},
		{"v_head_dim", &c->v_head_dim, true},
		{"max_position_embeddings", &c->max_position_embeddings, true},
		{"n_routed_experts", &c->n_routed_experts, false},
		{"first_k_dense_replace", &c->first_k_dense_replace, false},
		{"moe_layer_freq", &c->moe_layer_freq, false},
		{"n_shared_experts", &c->n_shared_experts, false},
		{"n_group", &c->n_group, false},
		{"topk_group", &c->topk_group, false},
	};
	uint32_t kv_heads;
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (sizes[i].required && !field(f, sizes[i].name))
			return refuse(f, sizes[i].name, "is missing");
		rc = read_u32(f, sizes[i].name, sizes[i].to);
	}
	if (rc)
		return rc;
	kv_heads = c->num_attention_heads;
	rc = read_u32(f, "num_key_value_heads", &kv_heads);
	if (!rc && kv_heads != c->num_attention_heads)
		return refuse(f, "num_key_value_heads",
			      "differs from num_attention_heads: that is another attention");
	return rc;
}

static int read_experts(const struct fields *f, struct model_config *c)
{
	static const struct word methods[] = {{"noaux_tc", TOPK_NOAUX_TC},
					      {"group_limited_greedy", TOPK_GROUP_LIMITED},
					      {"greedy", TOPK_GREEDY},
					      {"gready", TOPK_GREEDY}};
	static const struct word scores[] = {{"sigmoid", SCORE_SIGMOID},
					     {"softmax", SCORE_SOFTMAX}};
	int rc;

	if (!c->n_routed_experts) {
		c->n_group = c->topk_group = 1; /* a dense model has no gate to configure */
		c->n_shared_experts = 0;
		return 0;
	}
	if (!field(f, "moe_intermediate_size"))
		return refuse(f, "moe_intermediate_size", "is missing");
	if (!field(f, "num_experts_per_tok"))
		return refuse(f, "num_experts_per_tok", "is missing");
	rc = read_u32(f, "moe_intermediate_size", &c->moe_intermediate_size);
	if (!rc)
		rc = read_u32(f, "num_experts_per_tok", &c->num_experts_per_tok);
	if (!rc)
		rc = read_word(f, "topk_method", methods, 4,
			       "noaux_tc, group_limited_greedy and greedy", &c->topk_method);
	if (!rc)
		rc = read_word(f, "scoring_func", scores, 2, "sigmoid and softmax",
			       &c->scoring_func);
	if (!rc)
		rc = read_bool(f, "norm_topk_prob", &c->norm_topk_prob);
	if (!rc)
		rc = read_float(f, "routed_scaling_factor", &c->routed_scaling_factor);
	return rc;
}

static int read_block_size(const struct fields *f, yyjson_val *v)
{
	uint64_t rows = 0;
	uint64_t columns = 0;

	if (yyjson_is_arr(v) && yyjson_arr_size(v) == 2 &&
	    store_json_u64(yyjson_arr_get(v, 0), true, &rows) &&
	    store_json_u64(yyjson_arr_get(v, 1), true, &columns) && rows == 128 && columns == 128)
		return 0;
	return refuse(f, "quantization_config.weight_block_size", "is not [128, 128]");
}

static int read_quantisation(const struct fields *f, struct model_config *c)
{
	struct fields q = {f->file, field(f, "quantization_config"), f->e};
	static const struct word fp8[] = {{"fp8", 1}};
	static const struct word e4m3[] = {{"e4m3", 1}};
	static const struct word dynamic[] = {{"dynamic", 1}};
	static const struct word ue8m0[] = {{"ue8m0", 1}};
	uint32_t found = 0;
	int rc;

	if (!q.root)
		return 0;
	if (!yyjson_is_obj(q.root))
		return refuse(f, "quantization_config", "is not an object");
	if (!field(&q, "quant_method"))
		return refuse(f, "quantization_config.quant_method", "is missing");
	rc = read_word(&q, "quant_method", fp8, 1, "fp8", &found);
	if (!rc)
		rc = read_word(&q, "fmt", e4m3, 1, "e4m3", &found);
	if (!rc)
		rc = read_word(&q, "activation_scheme", dynamic, 1, "dynamic", &found);
	if (!rc)
		rc = read_word(&q, "scale_fmt", ue8m0, 1, "ue8m0", &found);
	if (!rc)
		rc = read_block_size(&q, field(&q, "weight_block_size"));
	c->quantised = 1;
	return rc;
}

static int read_rest(const struct fields *f, struct model_config *c)
{
	static const struct word silu[] = {{"silu", 1}};
	uint32_t yes = 1;
	int rc;

	rc = read_word(f, "hidden_act", silu, 1, "silu", &yes);
	if (!rc)
		rc = read_bool(f, "rope_interleave", &yes);
	if (!rc && !yes)
		return refuse(f, "rope_interleave", "false (half-split rotation) is not supported");
	if (!rc)
		rc = read_float(f, "rms_norm_eps", &c->rms_norm_eps);
	if (!rc)
		rc = read_bool(f, "attention_bias", &c->attention_bias);
	if (!rc)
		rc = read_bool(f, "tie_word_embeddings", &c->tie_word_embeddings);
	return rc;
}

static int read_eos(const struct fields *f, struct model_config *c)
{
	yyjson_val *v = field(f, "eos_token_id");
	bool list = yyjson_is_arr(v);
	size_t n = list ? yyjson_arr_size(v) : 1;

	if (!v)
		return 0;
	if (n > CONFIG_EOS_MAX)
		return refuse(f, "eos_token_id", "lists more than 16 tokens");
	c->n_eos = 0;
	for (size_t i = 0; i < n; i++) {
		uint64_t id;

		if (!store_json_u64(list ? yyjson_arr_get(v, i) : v, true, &id) ||
		    id >= c->vocab_size)
			return refuse(f, "eos_token_id", "is not a token id below vocab_size");
		c->eos_token_id[c->n_eos++] = (uint32_t)id;
	}
	return 0;
}

/* Fills *id where the file has one; it must be an id whether it counts or not. */
static int read_bos(const struct fields *f, const struct model_config *c, uint32_t *id)
{
	int rc = read_u32(f, "bos_token_id", id);

	if (!rc && field(f, "bos_token_id") && *id >= c->vocab_size)
		return refuse(f, "bos_token_id", "is not a token id below vocab_size");
	return rc;
}

/*
 * End tokens: generation_config.json first, else config.json (api, "Command line"); the beginning
 * token the other way round.
 */
static int read_tokens(const struct fields *f, const struct fields *g, struct model_config *c)
{
	int rc = g ? read_bos(g, c, &c->bos_token_id) : 0;

	if (!rc)
		rc = read_bos(f, c, &c->bos_token_id);
	if (!rc)
		rc = read_eos(g && field(g, "eos_token_id") ? g : f, c);
	if (rc || !g)
		return rc;
	rc = read_number(g, "temperature", &c->temperature);
	if (!rc && !(c->temperature >= 0 && isfinite(c->temperature)))
		return refuse(g, "temperature", "is not a finite number of at least 0");
	if (!rc)
		rc = read_number(g, "top_p", &c->top_p);
	if (!rc && !(c->top_p > 0 && c->top_p <= 1))
		return refuse(g, "top_p", "is not above 0 and at most 1");
	return rc;
}

int config_parse(const char *json, size_t len, const char *generation, size_t generation_len,
		 struct model_config *c, struct err *e)
{
	struct fields f = {"config.json", NULL, e};
	struct fields g = {"generation_config.json", NULL, e};
	yyjson_doc *doc = NULL;
	yyjson_doc *generation_doc = NULL;
	int rc;

	memset(c, 0, sizeof(*c));
	if (len > CONFIG_BYTES_MAX || (generation && generation_len > CONFIG_BYTES_MAX))
		return refuse(len > CONFIG_BYTES_MAX ? &f : &g, "the file", "is larger than 1 MiB");
	rc = store_json_read(&doc, f.file, json, len, e);
	if (!rc && generation)
		rc = store_json_read(&generation_doc, g.file, generation, generation_len, e);
	if (rc)
		goto out;
	f.root = yyjson_doc_get_root(doc);
	g.root = generation ? yyjson_doc_get_root(generation_doc) : NULL;
	rc = read_family(&f, c);
	if (rc)
		goto out;
	set_defaults(c);
	rc = read_sizes(&f, c);
	if (!rc)
		rc = read_experts(&f, c);
	if (!rc)
		rc = read_quantisation(&f, c);
	if (!rc)
		rc = read_rest(&f, c);
	if (!rc)
		rc = read_tokens(&f, generation ? &g : NULL, c);
	if (!rc)
		rc = yarn_read(f.root, c, e);
	if (!rc)
		rc = config_check(c, e);
out:
	yyjson_doc_free(doc);
	yyjson_doc_free(generation_doc);
	return rc;
}
