/*
 * `penstock info MODEL`: what a checkpoint is and what running it needs, from its headers alone.
 * Exit status 3 where it is missing, damaged or unsupported.
 */
#include "boot/cores.h"
#include "boot/plan.h"
#include "model/text/template.h"
#include "runtime/cli/cli.h"
#include "runtime/cli/model.h"
#include "runtime/cli/weigh.h"
#include "runtime/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

struct report {
	const char *path;
	const struct index *ix;
	struct weights weights;
	struct plan plan; /* of the smallest node */
	uint64_t memory;  /* smallest --memory, in MiB */
};

/* What `penstock run` will ask for with this many cores: its own plan. */
static int plan(struct report *r, struct err *e)
{
	const struct boot_options options = {.parallel = PLACES_DEFAULT, .mtp = MTP_DEFAULT};
	struct plan_input in;
	struct plan_table t;
	cpu_set_t cpus;
	int rc;

	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		return err_set(e, -errno, "cannot read the CPU mask: %s", strerror(errno));
	in = plan_input_of(r->ix, &options, cores_count(&cpus));
	rc = plan_least(&r->plan, &t, &in, e);
	r->memory = plan_mib(&t);
	return rc;
}

static const char *family_name(const struct model_config *c)
{
	static const char *const names[] = {[FAMILY_V2] = "deepseek_v2",
					    [FAMILY_V3] = "deepseek_v3",
					    [FAMILY_KIMI_K2] = "kimi_k2"};

	return names[c->family];
}

static const char *method_name(const struct model_config *c)
{
	static const char *const names[] = {[TOPK_GREEDY] = "greedy",
					    [TOPK_GROUP_LIMITED] = "group_limited_greedy",
					    [TOPK_NOAUX_TC] = "noaux_tc"};

	return names[c->topk_method];
}

/* The names and values of both forms of the report. */
struct row {
	const char *key, *label;
	uint64_t bytes;
};

enum {
	ROWS = 13
};

static void byte_rows(const struct report *r, struct row rows[ROWS])
{
	const struct weights *w = &r->weights;
	const struct row all[ROWS] = {
		{"embedding", "embedding", w->part[WEIGHTS_EMBEDDING].bytes},
		{"head", "head", w->part[WEIGHTS_HEAD].bytes},
		{"attention", "attention", w->part[WEIGHTS_ATTENTION].bytes},
		{"dense", "dense feed-forward", w->part[WEIGHTS_DENSE].bytes},
		{"shared_experts", "shared experts", w->part[WEIGHTS_SHARED].bytes},
		{"gates", "gates", w->part[WEIGHTS_GATES].bytes},
		{"norms", "norms and biases", w->part[WEIGHTS_NORMS].bytes},
		{"expert_scales", "scales of routed experts", w->expert_scales},
		{"mtp", "MTP without its experts", w->part[WEIGHTS_MTP].bytes},
		{"resident", "resident in all", r->ix->resident_bytes},
		{"routed_experts", "routed experts (on the drive)", w->routed},
		{"expert", "one routed expert", w->expert.bytes},
		{"kv_per_token", "KV per token", w->kv_token_bytes},
	};

	memcpy(rows, all, sizeof(all));
}

/* How routed experts are stored: in JSON, and for people. */
static const char *const stored_names[][2] = {[INDEX_BF16] = {"bf16", "BF16"},
					      [INDEX_FP8] = {"fp8", "FP8"},
					      [INDEX_Q4] = {"q4", "4 bits"}};

static int print_json(const struct report *r, struct err *e)
{
	const struct model_config *c = &r->ix->config;
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_val *bytes = yyjson_mut_obj(doc);
	yyjson_mut_val *eos = yyjson_mut_arr(doc);
	struct row rows[ROWS];
	char *text;

	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_str(doc, root, "model", r->path);
	yyjson_mut_obj_add_str(doc, root, "family", family_name(c));
	yyjson_mut_obj_add_uint(doc, root, "parameters", r->ix->param_count);
	yyjson_mut_obj_add_uint(doc, root, "layers", c->num_hidden_layers);
	yyjson_mut_obj_add_uint(doc, root, "mtp_layers", c->num_nextn_predict_layers);
	yyjson_mut_obj_add_uint(doc, root, "hidden_size", c->hidden_size);
	yyjson_mut_obj_add_uint(doc, root, "vocab_size", c->vocab_size);
	yyjson_mut_obj_add_uint(doc, root, "heads", c->num_attention_heads);
	yyjson_mut_obj_add_uint(doc, root, "routed_experts", c->n_routed_experts);
	yyjson_mut_obj_add_uint(doc, root, "experts_per_token", c->num_experts_per_tok);
	yyjson_mut_obj_add_uint(doc, root, "max_positions", c->max_position_embeddings);
	yyjson_mut_obj_add_str(doc, root, "experts_stored", stored_names[r->ix->expert_type][0]);
	byte_rows(r, rows);
	for (size_t i = 0; i < ROWS; i++)
		yyjson_mut_obj_add_uint(doc, bytes, rows[i].key, rows[i].bytes);
	yyjson_mut_obj_add_val(doc, root, "bytes", bytes);
	yyjson_mut_obj_add_uint(doc, root, "memory_min", r->memory << 20);
	yyjson_mut_obj_add_uint(doc, root, "context", r->plan.context);
	for (uint32_t i = 0; i < c->n_eos; i++)
		yyjson_mut_arr_add_uint(doc, eos, c->eos_token_id[i]);
	yyjson_mut_obj_add_val(doc, root, "end_tokens", eos);
	yyjson_mut_obj_add_bool(doc, root, "tokenizer", r->ix->tokenizer.count > 0);
	yyjson_mut_obj_add_str(doc, root, "tokenizer_problem", r->ix->tokenizer_problem);
	yyjson_mut_obj_add_str(doc, root, "template", template_name(r->ix->template_id));
	yyjson_mut_obj_add_str(doc, root, "template_problem", r->ix->template_problem);
	yyjson_mut_obj_add_str(doc, root, "warnings", r->ix->warnings);
	text = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY, NULL);
	yyjson_mut_doc_free(doc);
	if (!text)
		return err_exit(e, STATUS_FAILED, -EINVAL,
				"%s: its name or a text in it is not UTF-8: no JSON can hold it",
				r->path);
	puts(text);
	free(text);
	return 0;
}

static void print_row(const char *label, const char *value)
{
	printf("%-30s %s\n", label, value);
}

static void print_experts(const struct model_config *c)
{
	char text[160];

	if (!c->n_routed_experts) {
		print_row("experts", "none: every layer is dense");
		return;
	}
	snprintf(text, sizeof(text), "%u routed, %u per token, %u shared; %u of %u groups (%s, %s)",
		 c->n_routed_experts, c->num_experts_per_tok, c->n_shared_experts, c->topk_group,
		 c->n_group, method_name(c),
		 c->scoring_func == SCORE_SIGMOID ? "sigmoid" : "softmax");
	print_row("experts", text);
}

static void print_text(const struct report *r)
{
	const struct index *ix = r->ix;
	const struct model_config *c = &ix->config;
	struct row rows[ROWS];
	char text[200];
	char size[32];
	size_t n = 0;

	snprintf(text, sizeof(text), "%s, %.2f billion parameters, experts in %s", family_name(c),
		 (double)ix->param_count * 1e-9, stored_names[ix->expert_type][1]);
	print_row("model", text);
	snprintf(text, sizeof(text), "%u, the first %u dense; %u of MTP", c->num_hidden_layers,
		 c->n_routed_experts ? c->first_k_dense_replace : c->num_hidden_layers,
		 c->num_nextn_predict_layers);
	print_row("layers", text);
	snprintf(text, sizeof(text), "%u wide, %u heads, vocabulary of %u, up to %u positions",
		 c->hidden_size, c->num_attention_heads, c->vocab_size, c->max_position_embeddings);
	print_row("shape", text);
	print_experts(c);
	byte_rows(r, rows);
	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].bytes)
			print_row(rows[i].label, cli_bytes(size, rows[i].bytes));
	snprintf(text, sizeof(text), "%" PRIu64 "M (context %u, %u slots, chunk %u)", r->memory,
		 r->plan.context, r->plan.slots, r->plan.rows[BATCH_PREFILL]);
	print_row("smallest --memory", text);
	text[0] = 0;
	for (uint32_t i = 0; i < c->n_eos; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%u", i ? ", " : "",
				      c->eos_token_id[i]);
	print_row("end tokens", c->n_eos ? text : "none");
	print_row("tokenizer", ix->tokenizer.count ? "usable" : ix->tokenizer_problem);
	print_row("chat template",
		  ix->template_id ? template_name(ix->template_id) : ix->template_problem);
	if (ix->warnings[0])
		printf("warning: %s", ix->warnings);
}

int cmd_info(int argc, char **argv, struct err *e)
{
	bool json = false;
	struct opt table[] = {{"json", OPT_FLAG, &json, .help = "print JSON"}};
	struct options o = {.usage = "penstock info MODEL",
			    .about = "What a model is and what it needs, from its headers alone.",
			    .table = table,
			    .n = sizeof(table) / sizeof(table[0]),
			    .min_operands = 1,
			    .max_operands = 1};
	struct report r = {0};
	struct cli_model m;
	int rc = options_parse(&o, argc, argv, e);

	if (rc < 0)
		return rc;
	if (o.help)
		return options_help(&o, stdout);
	rc = cli_model_open(&m, argv[1], e);
	if (rc)
		return rc;
	r.path = argv[1];
	r.ix = m.ix;
	weigh(&r.weights, m.ix);
	rc = plan(&r, e);
	if (!rc && json)
		rc = print_json(&r, e);
	else if (!rc)
		print_text(&r);
	cli_model_close(&m);
	return rc;
}
