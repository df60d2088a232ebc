/*
 * Walks the tensors that config.json asks for, in the order of use, and lays out index and resident
 * object; see survey.h. What a layer consists of stands in model/tensors.c, writing the index out
 * in builder.c.
 */
#include "model/store/survey.h"

#include "model/store/builder.h"
#include "model/store/config.h"
#include "model/tensors.h"
#include "runtime/sha256.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *file_of(const struct builder *p, const struct safetensor *t)
{
	return p->files->file[t->file].name;
}

static int missing(struct builder *p, const char *name, uint64_t n_out, uint64_t n_in, bool vector)
{
	char fused[96];
	unsigned layer = 0;

	/*
	 * Files written by newer transformers hold all experts of a layer in one tensor
	 * (specification 11, pitfall 36).
	 */
	if (sscanf(name, "model.layers.%u.mlp.experts.", &layer) == 1) {
		snprintf(fused, sizeof(fused), "model.layers.%u.mlp.experts.gate_up_proj", layer);
		if (tensor_find(&p->table, fused, strlen(fused)))
			return err_exit(
				p->e, STATUS_MODEL, -ENOTSUP,
				"tensor %s: experts fused into one tensor are not supported; "
				"save the checkpoint in its published form",
				fused);
	}
	if (vector)
		return err_exit(p->e, STATUS_MODEL, -ENOENT,
				"%s: tensor %s is missing, expected shape [%" PRIu64 "]", p->source,
				name, n_in);
	return err_exit(p->e, STATUS_MODEL, -ENOENT,
			"%s: tensor %s is missing, expected shape [%" PRIu64 ", %" PRIu64 "]",
			p->source, name, n_out, n_in);
}

static int wrong_dtype(struct builder *p, const struct safetensor *t, const char *name,
		       const char *expected)
{
	return err_exit(p->e, STATUS_MODEL, -ENOTSUP, "%s: tensor %s has dtype %s, expected %s",
			file_of(p, t), name, safetensors_dtype_name(t->dtype), expected);
}

/* Looks `name` up and compares its shape with [n_out, n_in], or [n_in] for a vector. */
static int lookup(struct builder *p, const char *name, bool vector, uint64_t n_out, uint64_t n_in,
		  struct safetensor **out)
{
	const uint64_t want[2] = {vector ? n_in : n_out, n_in};
	const unsigned rank = vector ? 1 : 2;
	struct safetensor *t = tensor_find(&p->table, name, strlen(name));
	char got[192];
	char expected[192];

	if (!t)
		return missing(p, name, n_out, n_in, vector);
	if (t->rank != rank || memcmp(t->shape, want, rank * sizeof(want[0])))
		return err_exit(p->e, STATUS_MODEL, -EBADMSG,
				"%s: tensor %s has shape %s, expected %s", file_of(p, t), name,
				safetensors_shape_text(got, t->shape, t->rank),
				safetensors_shape_text(expected, want, rank));
	t->used = true;
	*out = t;
	return 0;
}

/* The scales of an FP8 matrix, in F32, one per block of 128 x 128. */
static int find_scale(struct builder *p, const char *name, uint32_t n_out, uint32_t n_in,
		      struct safetensor **scale)
{
	char scale_name[160];
	int rc;

	snprintf(scale_name, sizeof(scale_name), "%s_scale_inv", name);
	rc = lookup(p, scale_name, false, tensor_blocks(n_out), tensor_blocks(n_in), scale);
	if (!rc && (*scale)->dtype != DTYPE_F32)
		rc = wrong_dtype(p, *scale, scale_name, "F32");
	return rc;
}

/* A matrix in FP8 with scales, or in BF16 without; *scale is NULL for BF16. */
static int find_matrix(struct builder *p, const char *name, uint32_t n_out, uint32_t n_in,
		       struct safetensor **t, struct safetensor **scale)
{
	char scale_name[160];
	int rc = lookup(p, name, false, n_out, n_in, t);

	*scale = NULL;
	if (rc)
		return rc;
	if ((*t)->dtype == DTYPE_F8_E4M3 && !p->config.quantised)
		return err_exit(p->e, STATUS_MODEL, -EBADMSG,
				"%s: tensor %s has dtype F8_E4M3, but config.json has no "
				"quantization_config",
				file_of(p, *t), name);
	if ((*t)->dtype == DTYPE_F8_E4M3)
		return find_scale(p, name, n_out, n_in, scale);
	if ((*t)->dtype != DTYPE_BF16)
		return wrong_dtype(p, *t, name, p->config.quantised ? "F8_E4M3 or BF16" : "BF16");
	snprintf(scale_name, sizeof(scale_name), "%s_scale_inv", name);
	if (tensor_find(&p->table, scale_name, strlen(scale_name)))
		return err_exit(p->e, STATUS_MODEL, -EBADMSG,
				"%s: tensor %s has dtype BF16, but there are scales for it (%s)",
				file_of(p, *t), name, scale_name);
	return 0;
}

/*
 * A matrix that is BF16 only; its scales, should there be any, have no place and are refused by
 * check_rest.
 */
static int add_plain(struct builder *p, const char *name, const struct tensor_spec *spec,
		     struct index_tensor *to)
{
	struct safetensor *t;
	int rc = lookup(p, name, false, spec->n_out, spec->n_in, &t);

	if (rc)
		return rc;
	if (t->dtype != DTYPE_BF16)
		return wrong_dtype(p, t, name, "BF16");
	to->n_out = spec->n_out;
	to->n_in = spec->n_in;
	to->type = INDEX_BF16;
	return builder_load(p, t, to->type, false, &to->off);
}

static int add_matrix(struct builder *p, const char *name, const struct tensor_spec *spec,
		      struct index_tensor *to)
{
	struct safetensor *t;
	struct safetensor *scale;
	int rc = find_matrix(p, name, spec->n_out, spec->n_in, &t, &scale);

	if (rc)
		return rc;
	to->n_out = spec->n_out;
	to->n_in = spec->n_in;
	to->type = scale ? INDEX_FP8 : INDEX_BF16;
	rc = builder_load(p, t, to->type, false, &to->off);
	if (!rc && scale)
		rc = builder_load(p, scale, INDEX_F32, false, &to->scale_off);
	return rc;
}

static int add_vector(struct builder *p, const char *name, const struct tensor_spec *spec,
		      struct index_tensor *to)
{
	struct safetensor *t;
	bool widen;
	int rc = lookup(p, name, true, 1, spec->n_in, &t);

	if (rc)
		return rc;
	if (t->dtype != DTYPE_F32 && t->dtype != DTYPE_BF16)
		return wrong_dtype(p, t, name, "BF16 or F32");
	widen = t->dtype == DTYPE_BF16;
	to->n_out = 1;
	to->n_in = spec->n_in;
	to->type = INDEX_F32;
	return builder_load(p, t, widen ? INDEX_BF16 : INDEX_F32, widen, &to->off);
}

static int add_tensor(struct builder *p, const char *name, const struct tensor_spec *spec,
		      struct index_tensor *to)
{
	switch (spec->kind) {
	case TENSOR_VECTOR:
		return add_vector(p, name, spec, to);
	case TENSOR_PLAIN:
		return add_plain(p, name, spec, to);
	default:
		return add_matrix(p, name, spec, to);
	}
}

/* In a packed store an expert's place follows from its number. */
static int add_packed_expert(struct builder *p, struct index_expert *to)
{
	const struct index_pack_area *a = &p->pack.map.area[PACK_EXPERTS];
	struct expert_layout layout;
	uint64_t begin;

	p->expert_type = p->pack.geometry.expert_type;
	index_expert_layout(&p->config, p->expert_type, &layout);
	if (a->bytes != layout.bytes || p->n_experts >= a->count)
		return err_exit(p->e, STATUS_MODEL, -EBADMSG,
				"%s: the store's experts are not those of its config.json",
				p->source);
	begin = a->off + p->n_experts * a->stride;
	for (unsigned part = 0; part < EXPERT_PARTS; part++) {
		to->part[part].off = begin + layout.data[part];
		if (p->expert_type == INDEX_FP8)
			to->part[part].scale_off = begin + layout.scale[part];
	}
	return 0;
}

static int add_expert(struct builder *p, uint32_t layer, uint32_t expert, struct index_expert *to)
{
	char name[128];

	for (unsigned part = 0; part < EXPERT_PARTS; part++) {
		struct safetensor *t;
		struct safetensor *scale;
		uint32_t n_out;
		uint32_t n_in;
		uint32_t type;
		int rc;

		snprintf(name, sizeof(name), "model.layers.%u.mlp.experts.%u.%s.weight", layer,
			 expert, tensor_part_name(part));
		tensor_expert_shape(&p->config, part, &n_out, &n_in);
		rc = find_matrix(p, name, n_out, n_in, &t, &scale);
		if (rc)
			return rc;
		type = scale ? INDEX_FP8 : INDEX_BF16;
		if (p->expert_type && p->expert_type != type)
			return err_exit(
				p->e, STATUS_MODEL, -ENOTSUP,
				"%s: tensor %s has dtype %s and other routed experts have not: "
				"one dtype for all is supported",
				file_of(p, t), name, safetensors_dtype_name(t->dtype));
		p->expert_type = type;
		to->part[part].file = t->file;
		to->part[part].off = t->off;
		if (scale)
			rc = builder_load(p, scale, INDEX_F32, false, &to->part[part].scale_off);
		if (rc)
			return rc;
	}
	return 0;
}

static int add_layer(struct builder *p, uint32_t layer)
{
	struct index_layer *to = &p->layers[layer];
	struct tensor_spec spec;
	char name[128];
	int rc = 0;

	for (unsigned which = 0; !rc && which < LAYER_TENSORS; which++) {
		if (!tensor_spec(&p->config, layer, which, &spec))
			continue;
		snprintf(name, sizeof(name), "model.layers.%u.%s", layer, spec.name);
		rc = add_tensor(p, name, &spec,
				(struct index_tensor *)(void *)((char *)to + spec.member));
	}
	to->is_moe = config_is_moe(&p->config, layer);
	to->first_expert = p->n_experts;
	for (uint32_t i = 0; !rc && to->is_moe && i < p->config.n_routed_experts; i++) {
		struct index_expert expert = {0};

		rc = p->files->packed ? add_packed_expert(p, &expert)
				      : add_expert(p, layer, i, &expert);
		if (!rc)
			rc = builder_expert(p, &expert);
	}
	builder_sort_loads(p);
	to->ready_after = p->load_bytes;
	return rc;
}

static int add_ends(struct builder *p)
{
	const struct model_config *c = &p->config;
	const struct tensor_spec norm = {.kind = TENSOR_VECTOR, .n_out = 1, .n_in = c->hidden_size};
	const struct tensor_spec head = {
		.kind = TENSOR_PLAIN, .n_out = c->vocab_size, .n_in = c->hidden_size};
	struct safetensor *ignored = tensor_find(&p->table, "lm_head.weight", 14);
	int rc = add_tensor(p, "model.norm.weight", &norm, &p->norm);

	if (rc)
		return rc;
	builder_sort_loads(p);
	if (!c->tie_word_embeddings)
		return add_tensor(p, "lm_head.weight", &head, &p->head);
	p->head = p->embed;
	if (ignored) {
		ignored->used = true;
		builder_warn(p, "lm_head.weight is not used: tie_word_embeddings is true");
	}
	return 0;
}

/*
 * Layers in the order of a pass, MTP's last; only MTP layers whose tensors are there (specification
 * 1.1, 2.2).
 */
static int add_all(struct builder *p)
{
	struct model_config *c = &p->config;
	const struct tensor_spec embed = {
		.kind = TENSOR_PLAIN, .n_out = c->vocab_size, .n_in = c->hidden_size};
	uint32_t l;
	int rc = add_tensor(p, "model.embed_tokens.weight", &embed, &p->embed);

	for (l = 0; !rc && l < c->num_hidden_layers; l++)
		rc = add_layer(p, l);
	if (!rc)
		rc = add_ends(p);
	builder_sort_loads(p);
	for (; !rc && l < config_layers(c); l++)
		rc = add_layer(p, l);
	return rc;
}

/* The N of "model.layers.N.", or -1; *rest is what follows it. */
static int64_t layer_number(const struct safetensor *t, const char **rest, size_t *rest_len)
{
	static const char prefix[] = "model.layers.";
	const size_t begin = sizeof(prefix) - 1;
	int64_t n = 0;
	size_t i = begin;

	if (t->name_len <= begin || memcmp(t->name, prefix, begin))
		return -1;
	for (; i < t->name_len && i < begin + 9 && t->name[i] >= '0' && t->name[i] <= '9'; i++)
		n = 10 * n + (t->name[i] - '0');
	if (i == begin || i == t->name_len || t->name[i] != '.')
		return -1;
	*rest = t->name + i + 1;
	*rest_len = t->name_len - i - 1;
	return n;
}

static void find_mtp(struct builder *p)
{
	struct model_config *c = &p->config;
	uint32_t found = 0;
	bool there[CONFIG_LAYERS_MAX] = {false};

	for (size_t i = 0; i < p->table.count; i++) {
		const char *rest;
		size_t len;
		int64_t n = layer_number(&p->table.tensor[i], &rest, &len);

		if (n >= 0 && n < CONFIG_LAYERS_MAX)
			there[n] = true;
	}
	while (found < c->num_nextn_predict_layers && there[c->num_hidden_layers + found])
		found++;
	if (found < c->num_nextn_predict_layers)
		builder_warn(
			p,
			"config.json announces %u MTP layers, the checkpoint has tensors of %u: "
			"MTP is %s",
			c->num_nextn_predict_layers, found, found ? "cut" : "absent");
	c->num_nextn_predict_layers = found;
}

static bool equals(const char *s, size_t len, const char *want)
{
	return len == strlen(want) && !memcmp(s, want, len);
}

/*
 * Whether a tensor lies where this model's weights lie and holds any numbers: a place that is not
 * read would mean that the config does not describe these weights.
 */
static bool in_the_model(const struct safetensor *t)
{
	static const char *const roots[] = {"model.", "lm_head."};

	for (size_t i = 0; t->bytes && i < sizeof(roots) / sizeof(roots[0]); i++) {
		if (t->name_len >= strlen(roots[i]) && !memcmp(t->name, roots[i], strlen(roots[i])))
			return true;
	}
	return false;
}

/*
 * Tensors that nothing asked for. Known to be without effect: MTP's copies of embedding and head,
 * old files' RoPE tables; with a warning, layers beyond those of the config, empty tensors and what
 * lies outside the model's own names. Anything else is refused.
 */
static int check_rest(struct builder *p)
{
	const struct model_config *c = &p->config;
	const struct safetensor *outside = NULL;
	uint64_t beyond = 0, others = 0;
	char name[204];

	for (size_t i = 0; i < p->table.count; i++) {
		const struct safetensor *t = &p->table.tensor[i];
		const char *rest = "";
		size_t len = 0;
		int64_t layer = t->used ? -1 : layer_number(t, &rest, &len);

		if (t->used)
			continue;
		if (layer >= config_layers(c)) {
			beyond++;
			continue;
		}
		if (layer >= 0 && equals(rest, len, "self_attn.rotary_emb.inv_freq"))
			continue;
		if (layer >= c->num_hidden_layers && (equals(rest, len, "embed_tokens.weight") ||
						      equals(rest, len, "shared_head.head.weight")))
			continue;
		if (in_the_model(t))
			return err_exit(p->e, STATUS_MODEL, -ENOTSUP,
					"%s: tensor %s has no place in the model that config.json "
					"describes",
					file_of(p, t), err_name(name, t->name, t->name_len));
		outside = outside ? outside : t;
		others++;
	}
	if (outside)
		builder_warn(p,
			     "%" PRIu64 " tensors are no part of this model and are ignored, %s "
			     "among them",
			     others, err_name(name, outside->name, outside->name_len));
	if (beyond)
		builder_warn(p, "%" PRIu64 " tensors of layers beyond the last are ignored",
			     beyond);
	return 0;
}

static int read_config(struct builder *p)
{
	char *config = NULL;
	char *generation = NULL;
	size_t config_len = 0;
	size_t generation_len = 0;
	int rc = builder_read(p, "config.json", CONFIG_BYTES_MAX, &config, &config_len, p->e);

	if (!rc)
		rc = builder_read(p, "generation_config.json", CONFIG_BYTES_MAX, &generation,
				  &generation_len, p->e);
	if (!rc)
		rc = config_parse(config, config_len, generation, generation_len, &p->config, p->e);
	if (!rc && !p->config.n_eos)
		builder_warn(p,
			     "neither config.json nor generation_config.json names an end token");
	free(config);
	free(generation);
	return rc;
}

/* Names the model: everything that decides what a token will be, but for the weights' own bytes. */
static void hash_model(struct builder *p)
{
	struct sha256 s;

	if (p->files->packed) {
		memcpy(p->model_hash, p->pack.root, sizeof(p->model_hash));
		return;
	}
	sha256_init(&s);
	sha256_update(&s, &p->config, sizeof(p->config));
	for (size_t i = 0; i < p->table.count; i++) {
		const struct safetensor *t = &p->table.tensor[i];
		const uint64_t where[4] = {t->file, t->off, t->bytes, t->dtype};

		sha256_update(&s, t->name, t->name_len);
		sha256_update(&s, where, sizeof(where));
		sha256_update(&s, t->shape, t->rank * sizeof(t->shape[0]));
	}
	for (uint32_t i = 0; i < p->files->count; i++)
		if (p->table.shard[i])
			sha256_update(&s, &p->files->file[i].bytes, sizeof(uint64_t));
	sha256_final(&s, p->model_hash);
}

static void count_parameters(struct builder *p)
{
	static const char suffix[] = "_scale_inv";
	const size_t n = sizeof(suffix) - 1;
	const uint64_t packed = p->files->packed ? p->n_experts : 0;

	p->param_count += packed * EXPERT_PARTS * p->config.hidden_size *
			  p->config.moe_intermediate_size; /* config_check has limited them */
	for (size_t i = 0; i < p->table.count; i++) {
		const struct safetensor *t = &p->table.tensor[i];
		uint64_t elements = 1;

		if (t->name_len > n && !memcmp(t->name + t->name_len - n, suffix, n))
			continue;
		for (unsigned d = 0; d < t->rank; d++)
			elements *= t->shape[d]; /* checked against 64 bits by safetensors_parse */
		p->param_count += elements;
	}
}

int survey(const struct store_files *f, void *out, size_t cap, size_t *used, struct err *e)
{
	struct builder p;
	int rc = builder_init(&p, f, e);

	*used = 0;
	if (!rc && f->packed)
		rc = pack_open(&p.pack, f, e);
	if (!rc)
		rc = read_config(&p);
	if (!rc)
		rc = f->packed ? pack_table(&p.pack, &p.table, e)
			       : tensor_table_read(&p.table, f, p.bounce, BUILDER_BOUNCE_BYTES, e);
	if (!rc) {
		find_mtp(&p);
		rc = builder_layers(&p, config_layers(&p.config));
	}
	if (!rc)
		rc = add_all(&p);
	if (!rc && f->packed && p.pack.map.area[PACK_EXPERTS].count != p.n_experts)
		rc = err_exit(e, STATUS_MODEL, -EBADMSG,
			      "%s: the store has more experts than its config.json", p.source);
	if (!rc)
		rc = check_rest(&p);
	if (!rc) {
		hash_model(&p);
		count_parameters(&p);
		rc = builder_add_text(&p);
	}
	if (!rc)
		rc = builder_write(&p, out, cap, used);
	builder_fini(&p);
	return rc;
}
