/*
 * The shapes that synth knows by name (specification 1.2), as config.json; see synth.h.
 */
#include "model/store/config.h"
#include "runtime/cli/synth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yyjson.h>

struct shape {
	const char *name, *model_type, *architecture;
	uint32_t hidden, intermediate, moe, layers, dense, heads, q_lora, kv_lora, nope, rope, v;
	uint32_t experts, top_k, shared, n_group, topk_group;
	const char *method, *scoring;
	bool norm;
	double scaling, theta, factor, beta_fast, mscale; /* factor 0: plain RoPE */
	uint32_t positions;
	double eps;
	uint32_t vocab, bos, eos, mtp;
	bool fp8;
};

#define V2_NAMES "deepseek_v2", "DeepseekV2ForCausalLM"
#define V3_NAMES "deepseek_v3", "DeepseekV3ForCausalLM"

/* V2 and V2.5 differ in mscale alone. */
#define V2_SHAPE(name, mscale)                                                                     \
	{                                                                                          \
		name, V2_NAMES, 5120, 12288, 1536, 60, 1, 128, 1536, 512, 128, 64, 128, 160, 6, 2, \
			8, 3, "group_limited_greedy", "softmax", false, 16.0, 1e4, 40, 32, mscale, \
			163840, 1e-6, 102400, 100000, 100001, 0, false                             \
	}

static const struct shape shapes[] = {
	{"v3", V3_NAMES, 7168, 18432, 2048,   61,   3,      128,        1536,      512,  128,
	 64,   128,      256,  8,     1,      8,    4,      "noaux_tc", "sigmoid", true, 2.5,
	 1e4,  40,       32,   1.0,   163840, 1e-6, 129280, 0,          1,         1,    true},
	{"v3-tiny", V3_NAMES, 512, 1024, 256,    4,    1,   8,          192,       128,  64,
	 32,        64,       32,  4,    1,      8,    4,   "noaux_tc", "sigmoid", true, 2.5,
	 1e4,       40,       32,  1.0,  163840, 1e-6, 512, 0,          1,         1,    true},
	V2_SHAPE("v2", 0.707),
	V2_SHAPE("v2.5", 1.0),
	{"v2-lite", V2_NAMES, 2048, 10944, 1408,   27,   1,      16,       0,         512,   128,
	 64,        128,      64,   6,     2,      1,    1,      "greedy", "softmax", false, 1.0,
	 1e4,       40,       32,   0.707, 163840, 1e-6, 102400, 100000,   100001,    0,     false},
	{"moonlight", V3_NAMES,  2048,   11264,  1408, 27,   1, 16, 0,
	 512,         128,       64,     128,    64,   6,    2, 1,  1,
	 "noaux_tc",  "sigmoid", true,   2.446,  5e4,  0,    0, 0,  8192,
	 1e-5,        163840,    163584, 163586, 0,    false},
	{"kimi-k2", "kimi_k2",  "DeepseekV3ForCausalLM",
	 7168,      18432,      2048,
	 61,        1,          64,
	 1536,      512,        128,
	 64,        128,        384,
	 8,         1,          1,
	 1,         "noaux_tc", "sigmoid",
	 true,      2.827,      5e4,
	 32,        1,          1.0,
	 131072,    1e-6,       163840,
	 163584,    163585,     0,
	 true},
};

struct synth_change synth_changes[] = {
	{"layers", "num_hidden_layers", "main layers", UINT64_MAX},
	{"dense-layers", "first_k_dense_replace", "how many of them, from the first, are dense",
	 UINT64_MAX},
	{"mtp", "num_nextn_predict_layers", "MTP layers", UINT64_MAX},
	{"experts", "n_routed_experts", "routed experts of a layer", UINT64_MAX},
	{"experts-per-token", "num_experts_per_tok", "chosen per token", UINT64_MAX},
	{"shared-experts", "n_shared_experts", "shared experts", UINT64_MAX},
	{"groups", "n_group", "expert groups", UINT64_MAX},
	{"topk-groups", "topk_group", "groups kept", UINT64_MAX},
	{"vocab", "vocab_size", "rows of embedding and head", UINT64_MAX},
	{"hidden", "hidden_size", "width between layers", UINT64_MAX},
	{"intermediate", "intermediate_size", "width of a dense layer", UINT64_MAX},
	{"moe-intermediate", "moe_intermediate_size", "width of an expert", UINT64_MAX},
	{"heads", "num_attention_heads", "attention heads", UINT64_MAX},
	{"q-lora-rank", "q_lora_rank", "width of the compressed query, 0 for none", UINT64_MAX},
	{"kv-lora-rank", "kv_lora_rank", "width of the latent", UINT64_MAX},
	{"nope-dim", "qk_nope_head_dim", "query and key width without rotation", UINT64_MAX},
	{"rope-dim", "qk_rope_head_dim", "rotated width", UINT64_MAX},
	{"v-dim", "v_head_dim", "value width", UINT64_MAX},
};
const size_t synth_n_changes = sizeof(synth_changes) / sizeof(synth_changes[0]);

const char *synth_shape_names(void)
{
	static char names[128];

	names[0] = 0;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		strcat(names, i ? " " : "");
		strcat(names, shapes[i].name);
	}
	return names;
}

static void add_rope(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct shape *s)
{
	yyjson_mut_val *rope = yyjson_mut_obj(doc);

	yyjson_mut_obj_add_real(doc, root, "rope_theta", s->theta);
	if (!(s->factor > 0)) {
		yyjson_mut_obj_add_null(doc, root, "rope_scaling");
		return;
	}
	yyjson_mut_obj_add_str(doc, rope, "type", "yarn");
	yyjson_mut_obj_add_real(doc, rope, "factor", s->factor);
	yyjson_mut_obj_add_uint(doc, rope, "original_max_position_embeddings", 4096);
	yyjson_mut_obj_add_real(doc, rope, "beta_fast", s->beta_fast);
	yyjson_mut_obj_add_real(doc, rope, "beta_slow", 1);
	yyjson_mut_obj_add_real(doc, rope, "mscale", s->mscale);
	yyjson_mut_obj_add_real(doc, rope, "mscale_all_dim", s->mscale);
	yyjson_mut_obj_add_val(doc, root, "rope_scaling", rope);
}

static void add_quantisation(yyjson_mut_doc *doc, yyjson_mut_val *root)
{
	yyjson_mut_val *q = yyjson_mut_obj(doc);
	yyjson_mut_val *block = yyjson_mut_arr(doc);

	yyjson_mut_obj_add_str(doc, q, "quant_method", "fp8");
	yyjson_mut_obj_add_str(doc, q, "fmt", "e4m3");
	yyjson_mut_obj_add_str(doc, q, "activation_scheme", "dynamic");
	yyjson_mut_arr_add_uint(doc, block, 128);
	yyjson_mut_arr_add_uint(doc, block, 128);
	yyjson_mut_obj_add_val(doc, q, "weight_block_size", block);
	yyjson_mut_obj_add_val(doc, root, "quantization_config", q);
}

static yyjson_mut_doc *built_in(const struct shape *s)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_val *architectures = yyjson_mut_arr(doc);
	const struct {
		const char *field;
		uint32_t value;
	} numbers[] = {
		{"vocab_size", s->vocab},
		{"hidden_size", s->hidden},
		{"intermediate_size", s->intermediate},
		{"moe_intermediate_size", s->moe},
		{"num_hidden_layers", s->layers},
		{"num_nextn_predict_layers", s->mtp},
		{"num_attention_heads", s->heads},
		{"kv_lora_rank", s->kv_lora},
		{"qk_nope_head_dim", s->nope},
		{"qk_rope_head_dim", s->rope},
		{"v_head_dim", s->v},
		{"n_routed_experts", s->experts},
		{"num_experts_per_tok", s->top_k},
		{"n_shared_experts", s->shared},
		{"n_group", s->n_group},
		{"topk_group", s->topk_group},
		{"first_k_dense_replace", s->dense},
		{"moe_layer_freq", 1},
		{"max_position_embeddings", s->positions},
		{"bos_token_id", s->bos},
		{"eos_token_id", s->eos},
	};

	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_arr_add_str(doc, architectures, s->architecture);
	yyjson_mut_obj_add_val(doc, root, "architectures", architectures);
	yyjson_mut_obj_add_str(doc, root, "model_type", s->model_type);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		yyjson_mut_obj_add_uint(doc, root, numbers[i].field, numbers[i].value);
	if (s->q_lora)
		yyjson_mut_obj_add_uint(doc, root, "q_lora_rank", s->q_lora);
	else
		yyjson_mut_obj_add_null(doc, root, "q_lora_rank");
	yyjson_mut_obj_add_str(doc, root, "topk_method", s->method);
	yyjson_mut_obj_add_str(doc, root, "scoring_func", s->scoring);
	yyjson_mut_obj_add_bool(doc, root, "norm_topk_prob", s->norm);
	yyjson_mut_obj_add_real(doc, root, "routed_scaling_factor", s->scaling);
	yyjson_mut_obj_add_real(doc, root, "rms_norm_eps", s->eps);
	yyjson_mut_obj_add_str(doc, root, "hidden_act", "silu");
	yyjson_mut_obj_add_str(doc, root, "torch_dtype", "bfloat16");
	add_rope(doc, root, s);
	if (s->fp8)
		add_quantisation(doc, root);
	return doc;
}

/* A config.json of the user's. */
static int from_file(const char *path, yyjson_mut_doc **doc, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	char *text = NULL;
	ssize_t n = -1;
	yyjson_doc *read_only = NULL;
	int rc = 0;

	if (fd < 0)
		return err_exit(e, STATUS_USAGE, -errno,
				"%s is neither a shape (%s) nor a config.json: %s", path,
				synth_shape_names(), strerror(errno));
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size <= CONFIG_BYTES_MAX)
		text = malloc((size_t)st.st_size + 1);
	if (text)
		n = read(fd, text, (size_t)st.st_size);
	if (n >= 0)
		read_only = yyjson_read(text, (size_t)n, YYJSON_READ_NOFLAG);
	if (!yyjson_is_obj(yyjson_doc_get_root(read_only)))
		rc = err_exit(e, STATUS_MODEL, -EBADMSG, "%s: cannot be read as a config.json",
			      path);
	else
		*doc = yyjson_doc_mut_copy(read_only, NULL);
	yyjson_doc_free(read_only);
	free(text);
	close(fd);
	return rc;
}

static void put(yyjson_mut_doc *doc, const char *field, yyjson_mut_val *value)
{
	yyjson_mut_obj_put(yyjson_mut_doc_get_root(doc), yyjson_mut_str(doc, field), value);
}

static uint64_t number(yyjson_mut_doc *doc, const char *field)
{
	return yyjson_mut_get_uint(yyjson_mut_obj_get(yyjson_mut_doc_get_root(doc), field));
}

static void change(yyjson_mut_doc *doc, bool bf16)
{
	for (size_t i = 0; i < synth_n_changes; i++) {
		const struct synth_change *c = &synth_changes[i];

		if (c->value == UINT64_MAX)
			continue;
		put(doc, c->field, yyjson_mut_uint(doc, c->value));
		if (!strcmp(c->field, "num_attention_heads"))
			yyjson_mut_obj_remove_key(yyjson_mut_doc_get_root(doc),
						  "num_key_value_heads");
	}
	if (bf16)
		yyjson_mut_obj_remove_key(yyjson_mut_doc_get_root(doc), "quantization_config");
	/* A vocabulary cut short must still hold its two ends. */
	if (number(doc, "bos_token_id") >= number(doc, "vocab_size") ||
	    number(doc, "eos_token_id") >= number(doc, "vocab_size")) {
		put(doc, "bos_token_id", yyjson_mut_uint(doc, 0));
		put(doc, "eos_token_id", yyjson_mut_uint(doc, 1));
	}
}

int synth_shape_make(struct synth_shape *s, const char *name, bool bf16, struct err *e)
{
	yyjson_mut_doc *doc = NULL;
	int rc = 0;

	memset(s, 0, sizeof(*s));
	for (size_t i = 0; !doc && i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (!strcmp(name, shapes[i].name))
			doc = built_in(&shapes[i]);
	if (!doc)
		rc = from_file(name, &doc, e);
	if (rc)
		return rc;
	change(doc, bf16);
	s->config_json = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY_TWO_SPACES, &s->config_len);
	yyjson_mut_doc_free(doc);
	if (!s->config_json)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for config.json");
	rc = config_parse(s->config_json, s->config_len, NULL, 0, &s->config, e);
	if (rc) {
		e->status = STATUS_USAGE; /* the shape asked for, not a model that is damaged */
		free(s->config_json);
		s->config_json = NULL;
	}
	return rc;
}
