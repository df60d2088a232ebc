/*
 * config.json: the numbers of YaRN against those printed in specification 5, defaults of the
 * families, and what is refused. The long list of refusals is in tests/e2e/bad_checkpoint.t.
 */
#include "model/store/config.h"
#include "tests/tap.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char v3[] =
	"{\"architectures\":[\"DeepseekV3ForCausalLM\"],\"model_type\":\"deepseek_v3\",\"vocab_"
	"size\":129280,"
	"\"hidden_size\":7168,\"intermediate_size\":18432,\"moe_intermediate_size\":2048,"
	"\"num_hidden_layers\":61,\"num_nextn_predict_layers\":1,\"num_attention_heads\":128,"
	"\"q_lora_rank\":1536,\"kv_lora_rank\":512,\"qk_nope_head_dim\":128,\"qk_rope_head_dim\":"
	"64,"
	"\"v_head_dim\":128,\"n_routed_experts\":256,\"n_shared_experts\":1,\"num_experts_per_"
	"tok\":8,"
	"\"max_position_embeddings\":163840,\"bos_token_id\":0,\"eos_token_id\":1%s}";

static const char yarn[] =
	",\"rope_theta\":10000,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":40,"
	"\"original_max_position_embeddings\":4096,\"beta_fast\":32,\"beta_slow\":1%s}";

/* v3 with `more` fields behind, and `generation` or NULL. */
static int parse(const char *more, const char *generation, struct model_config *c, struct err *e)
{
	char json[4096];
	int n = snprintf(json, sizeof(json), v3, more);

	memset(e, 0, sizeof(*e));
	return config_parse(json, (size_t)n, generation, generation ? strlen(generation) : 0, c, e);
}

static int parse_yarn(const char *inside, struct model_config *c, struct err *e)
{
	char more[1024];

	snprintf(more, sizeof(more), yarn, inside);
	return parse(more, NULL, c, e);
}

static void check_yarn(void)
{
	/* Specification 5, printed with nine digits. */
	static const double want[32] = {1,
					.749894209,
					.562341325,
					.421696503,
					.316227766,
					.237137371,
					.177827941,
					.133352143,
					.1,
					.0749894209,
					.0562341325,
					.0390069266,
					.0268793601,
					.0183781462,
					.0124479559,
					.00833450895,
					.0055,
					.00356199749,
					.0022493653,
					.00137051364,
					.000790569415,
					.000414990398,
					.000177827941,
					3.33380358e-5,
					2.5e-5,
					1.87473552e-5,
					1.40585331e-5,
					1.05424126e-5,
					7.90569415e-6,
					5.92843426e-6,
					4.44569853e-6,
					3.33380358e-6};
	struct model_config c;
	struct err e;
	double worst = 0;

	ok(parse_yarn(",\"mscale\":1.0,\"mscale_all_dim\":1.0", &c, &e) == 0, "V3 parses: %s",
	   e.text);
	for (int i = 0; i < 32; i++) {
		double error = fabs(c.rope_freq[i] / want[i] - 1);

		worst = error > worst ? error : worst;
	}
	ok(worst <= 5e-9, "V3's frequencies are those of the specification (largest error %g)",
	   worst);
	is_near((double)c.softmax_scale, 0.13523377886, 1e-8, "V3's softmax scale");
	ok(c.rope_mu == 1, "two equal mscales leave cosine and sine alone");

	ok(parse_yarn(",\"mscale\":0.707,\"mscale_all_dim\":0.707", &c, &e) == 0, "V2's mscales");
	is_near((double)c.softmax_scale, 0.11472138679, 1e-8, "V2's softmax scale");

	ok(parse_yarn("", &c, &e) == 0, "YaRN without mscale keys");
	is_near(c.rope_mu, 0.1 * log(40) + 1, 1e-12, "generic YaRN multiplies cosine and sine");
	is_near((double)c.softmax_scale, 1 / sqrt(192), 1e-8, "and leaves the softmax scale alone");

	ok(parse_yarn(",\"attention_factor\":1.5", &c, &e) == 0 && c.rope_mu == 1.5,
	   "attention_factor overrides the multiplier");
	ok(parse_yarn(",\"mscale\":1,\"mscale_all_dim\":0.5", &c, &e) == 0,
	   "two different mscales");
	is_near(c.rope_mu, (0.1 * log(40) + 1) / (0.05 * log(40) + 1), 1e-12,
		"give their quotient");
	ok(parse_yarn(",\"mscale\":0.707", &c, &e) == 0, "mscale alone");
	is_near(c.rope_mu, 0.1 * log(40) + 1, 1e-12, "is generic YaRN, as transformers reads it");
	ok(parse_yarn(",\"mscale_all_dim\":0.707", &c, &e) == 0, "mscale_all_dim alone");
	is_near(c.rope_mu, 0.1 * log(40) + 1, 1e-12, "is generic YaRN to cosine and sine");
	is_near((double)c.softmax_scale, 0.11472138679, 1e-8, "and scales the softmax");
	ok(parse_yarn(",\"truncate\":true", &c, &e) == 0, "truncate true is the default");
	ok(parse_yarn(",\"truncate\":false", &c, &e) < 0 && strstr(e.text, "truncate"),
	   "truncate false is refused by name");
}

static void check_kimi(void)
{
	struct model_config c;
	struct err e;
	/*
	 * low = 19, high = 20 [specification 5]: pair 19 is as it was, pair 20 divided by the
	 * factor.
	 */
	int rc = parse(
		",\"rope_theta\":50000.0,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":32,"
		"\"original_max_position_embeddings\":4096,\"beta_fast\":1.0,\"beta_slow\":1.0,"
		"\"mscale\":1,\"mscale_all_dim\":1}",
		NULL, &c, &e);

	ok(rc == 0, "Kimi-K2's rope_scaling: %s", e.text);
	is_near(c.rope_freq[19] / pow(5e4, -38.0 / 64), 1, 1e-12, "pair 19 is not scaled");
	is_near(c.rope_freq[20] / pow(5e4, -40.0 / 64), 1.0 / 32, 1e-12, "pair 20 is scaled whole");
}

static void check_defaults(void)
{
	struct model_config c;
	struct err e;
	static const char v2[] =
		"{\"architectures\":[\"DeepseekV2ForCausalLM\"],\"model_type\":\"deepseek_v2\","
		"\"vocab_size\":64,\"hidden_size\":64,\"intermediate_size\":64,"
		"\"moe_intermediate_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":2,"
		"\"kv_lora_rank\":64,\"qk_nope_head_dim\":16,\"qk_rope_head_dim\":16,"
		"\"v_head_dim\":16,\"n_routed_experts\":8,\"num_experts_per_tok\":2,"
		"\"max_position_embeddings\":100}";

	ok(parse("", NULL, &c, &e) == 0, "V3 without gate fields: %s", e.text);
	ok(c.topk_method == TOPK_NOAUX_TC && c.scoring_func == SCORE_SIGMOID && c.norm_topk_prob &&
		   c.n_group == 8 && c.topk_group == 4 && c.first_k_dense_replace == 3 &&
		   c.routed_scaling_factor == 2.5f && c.moe_layer_freq == 1,
	   "has V3's defaults");
	is_near(c.rope_freq[31], pow(1e4, -62.0 / 64), 1e-16, "no rope_scaling means plain RoPE");
	ok(!c.quantised, "no quantization_config means BF16");
	ok(c.rms_norm_eps == 1e-6f && c.latent_norm_eps == 1e-6f, "eps is 1e-6");

	memset(&e, 0, sizeof(e));
	ok(config_parse(v2, strlen(v2), NULL, 0, &c, &e) == 0, "V2 without gate fields: %s",
	   e.text);
	ok(c.topk_method == TOPK_GREEDY && c.scoring_func == SCORE_SOFTMAX && !c.norm_topk_prob &&
		   c.n_group == 1 && c.first_k_dense_replace == 0 &&
		   c.routed_scaling_factor == 1.0f && !c.q_lora_rank && !c.n_shared_experts,
	   "has V2's defaults");
	is_int(c.n_eos, 0, "no end token is no error");
	is_int(c.bos_token_id, UINT32_MAX, "nor no beginning token");

	ok(parse(",\"rms_norm_eps\":1e-5", NULL, &c, &e) == 0 && c.rms_norm_eps == 1e-5f &&
		   c.latent_norm_eps == 1e-6f,
	   "latent norms keep 1e-6 whatever rms_norm_eps says");
	ok(parse(",\"n_group\":null,\"rope_scaling\":null", NULL, &c, &e) == 0 && c.n_group == 8,
	   "null means absent");
	ok(parse(",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":500000.0}", NULL,
		 &c, &e) == 0,
	   "rope_parameters of new transformers");
	is_near(c.rope_freq[16], pow(5e5, -0.5), 1e-12, "give the base");
}

static void check_generation(void)
{
	struct model_config c;
	struct err e;

	ok(parse("", "{\"eos_token_id\":[5,7],\"temperature\":0.6,\"top_p\":0.95}", &c, &e) == 0 &&
		   c.n_eos == 2 && c.eos_token_id[0] == 5 && c.eos_token_id[1] == 7,
	   "end tokens come from generation_config.json first");
	ok(c.temperature == 0.6 && c.top_p == 0.95, "so do the defaults of sampling");
	ok(parse("", "{}", &c, &e) == 0 && c.n_eos == 1 && c.eos_token_id[0] == 1 &&
		   c.temperature == 1 && c.top_p == 1,
	   "what it lacks comes from config.json, or is 1");
}

/* Limits: the largest value is accepted, the next one refused by name. */
static void check_limits(void)
{
	static const struct {
		const char *field;
		uint32_t max;
	} limits[] = {
		{"num_nextn_predict_layers", CONFIG_LAYERS_MAX - 61},
		{"kv_lora_rank", CONFIG_WIDTH_MAX},
		{"v_head_dim", CONFIG_WIDTH_MAX},
		{"intermediate_size", CONFIG_WIDTH_MAX},
		{"hidden_size", CONFIG_WIDTH_MAX},
		{"max_position_embeddings", CONFIG_POSITIONS_MAX},
		{"vocab_size", CONFIG_VOCAB_MAX},
		{"n_shared_experts", CONFIG_WIDTH_MAX / 2048},
		{"qk_rope_head_dim", 2 * CONFIG_ROPE_PAIRS_MAX},
		{"num_experts_per_tok", CONFIG_TOPK_MAX},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		for (uint32_t over = 0; over < 2; over++) {
			char json[4096];
			char text[4096];
			char key[64];
			struct model_config c;
			struct err e = {0};
			char *at;
			int n = snprintf(json, sizeof(json), v3, "");
			int rc;

			snprintf(key, sizeof(key), "\"%s\":", limits[i].field);
			at = strstr(json, key) + strlen(key);
			n = snprintf(text, sizeof(text), "%.*s%u%s", (int)(at - json), json,
				     limits[i].max + over, at + strcspn(at, ",}"));
			rc = config_parse(text, (size_t)n, NULL, 0, &c, &e);
			ok(over ? rc < 0 && strstr(e.text, limits[i].field) : rc == 0,
			   "%s of %u is %s: %s", limits[i].field, limits[i].max + over,
			   over ? "refused" : "accepted", e.text);
		}
	}
}

int main(void)
{
	check_yarn();
	check_kimi();
	check_defaults();
	check_generation();
	check_limits();
	return tap_done();
}
