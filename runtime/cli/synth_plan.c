/*
 * Which tensors a synthetic checkpoint has and where they lie; see synth.h. The order inside a
 * shard is the safetensors library's: widest dtype first, then by name (specification 2.1).
 */
#include "model/index.h"
#include "model/tensors.h"
#include "runtime/cli/synth.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct err *e)
{
	return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the list of tensors");
}

static unsigned width(uint32_t kind)
{
	static const unsigned bytes[] = {[SYNTH_FP8] = 1,
					 [SYNTH_BF16] = 2,
					 [SYNTH_SCALE] = 4,
					 [SYNTH_NORM] = 2,
					 [SYNTH_BIAS] = 4};

	return bytes[kind];
}

static uint64_t hash_name(uint64_t h, const char *name)
{
	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3;
	return h * 0x9e3779b97f4a7c15;
}

struct planner {
	struct synth_plan *p;
	const struct model_config *c;
	uint64_t seed;
	struct err *e;
};

static int add(struct planner *s, const char *name, uint32_t kind, uint64_t n_out, uint64_t n_in,
	       uint32_t fan_in)
{
	struct synth_plan *p = s->p;
	struct synth_tensor *t;

	if (p->n_tensors == p->tensors_max) {
		size_t more = p->tensors_max ? 2 * p->tensors_max : 1024;
		struct synth_tensor *grown = realloc(p->tensor, more * sizeof(grown[0]));

		if (!grown)
			return no_memory(s->e);
		p->tensor = grown;
		p->tensors_max = more;
	}
	t = &p->tensor[p->n_tensors++];
	memset(t, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->kind = kind;
	t->rank = kind == SYNTH_NORM || kind == SYNTH_BIAS ? 1 : 2;
	t->shape[0] = t->rank == 1 ? n_in : n_out;
	t->shape[1] = n_in;
	t->n_in = fan_in;
	t->bytes = n_out * n_in * width(kind); /* below 2^51: config_check */
	t->seed = hash_name(s->seed ^ 0xcbf29ce484222325, t->name);
	return 0;
}

static int add_matrix(struct planner *s, const char *name, uint32_t n_out, uint32_t n_in)
{
	char scale[112];
	int rc;

	if (!s->c->quantised)
		return add(s, name, SYNTH_BF16, n_out, n_in, n_in);
	snprintf(scale, sizeof(scale), "%s_scale_inv", name);
	rc = add(s, name, SYNTH_FP8, n_out, n_in, n_in);
	return rc ? rc
		  : add(s, scale, SYNTH_SCALE, tensor_blocks(n_out), tensor_blocks(n_in), n_in);
}

static int add_layer_tensor(struct planner *s, uint32_t layer, unsigned which)
{
	struct tensor_spec spec;
	char name[96];

	if (!tensor_spec(s->c, layer, which, &spec))
		return 0;
	snprintf(name, sizeof(name), "model.layers.%u.%s", layer, spec.name);
	if (spec.kind == TENSOR_MATRIX)
		return add_matrix(s, name, spec.n_out, spec.n_in);
	if (spec.kind == TENSOR_PLAIN)
		return add(s, name, SYNTH_BF16, spec.n_out, spec.n_in, spec.n_in);
	if (which == LAYER_CORRECTION_BIAS || which == LAYER_Q_A_BIAS || which == LAYER_KV_A_BIAS ||
	    which == LAYER_O_BIAS)
		return add(s, name, SYNTH_BIAS, 1, spec.n_in, 1);
	return add(s, name, SYNTH_NORM, 1, spec.n_in, 1);
}

static int add_layer(struct planner *s, uint32_t layer)
{
	char name[96];
	int rc = 0;

	for (unsigned which = 0; !rc && which < LAYER_TENSORS; which++)
		rc = add_layer_tensor(s, layer, which);
	for (uint32_t i = 0; config_is_moe(s->c, layer) && i < s->c->n_routed_experts; i++) {
		for (unsigned part = 0; !rc && part < EXPERT_PARTS; part++) {
			uint32_t n_out;
			uint32_t n_in;

			tensor_expert_shape(s->c, part, &n_out, &n_in);
			snprintf(name, sizeof(name), "model.layers.%u.mlp.experts.%u.%s.weight",
				 layer, i, tensor_part_name(part));
			rc = add_matrix(s, name, n_out, n_in);
		}
	}
	return rc;
}

static int add_all(struct planner *s)
{
	const struct model_config *c = s->c;
	uint32_t l = 0;
	int rc = add(s, "model.embed_tokens.weight", SYNTH_BF16, c->vocab_size, c->hidden_size, 1);

	for (; !rc && l < c->num_hidden_layers; l++)
		rc = add_layer(s, l);
	if (!rc)
		rc = add(s, "model.norm.weight", SYNTH_NORM, 1, c->hidden_size, 1);
	if (!rc && !c->tie_word_embeddings)
		rc = add(s, "lm_head.weight", SYNTH_BF16, c->vocab_size, c->hidden_size,
			 c->hidden_size / 8 +
				 1); /* logits a few wide, so that some tokens are likely */
	for (; !rc && l < config_layers(c); l++)
		rc = add_layer(s, l);
	return rc;
}

static int compare_tensors(const void *a, const void *b)
{
	const struct synth_tensor *x = a;
	const struct synth_tensor *y = b;

	if (width(x->kind) != width(y->kind))
		return width(x->kind) > width(y->kind) ? -1 : 1;
	return strcmp(x->name, y->name);
}

static const char *dtype_name(uint32_t kind)
{
	return width(kind) == 4 ? "F32" : width(kind) == 2 ? "BF16" : "F8_E4M3";
}

/* The header's text; offsets relative to the data, which begin at a multiple of 8. */
static int make_header(struct synth_plan *p, struct synth_shard *d, struct err *e)
{
	const size_t room = 64 + d->count * 260;
	char *text = malloc(room);
	uint64_t json = 8;
	uint64_t at = 0;
	uint64_t length;

	if (!text)
		return no_memory(e);
	json += (size_t)snprintf(text + json, room - json, "{\"__metadata__\":{\"format\":\"pt\"}");
	for (size_t i = d->first; i < d->first + d->count; i++) {
		struct synth_tensor *t = &p->tensor[i];
		char shape[64];

		snprintf(shape, sizeof(shape), t->rank == 1 ? "%" PRIu64 : "%" PRIu64 ",%" PRIu64,
			 t->shape[0], t->shape[1]);
		json += (size_t)snprintf(text + json, room - json,
					 ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],"
					 "\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
					 t->name, dtype_name(t->kind), shape, at, at + t->bytes);
		t->off = at;
		at += t->bytes;
	}
	text[json++] = '}';
	while (json % 8)
		text[json++] = ' ';
	length = json - 8;
	for (int i = 0; i < 8; i++)
		text[i] = (char)(length >> 8 * i & 0xff);
	d->header = text;
	d->header_bytes = json;
	d->bytes = json + at;
	for (size_t i = d->first; i < d->first + d->count; i++)
		p->tensor[i].off += json;
	return 0;
}

static int cut_shards(struct synth_plan *p, uint64_t shard_bytes, struct err *e)
{
	uint64_t in_shard = 0;
	size_t n = 1;
	int rc = 0;

	for (size_t i = 0; i < p->n_tensors; i++) {
		struct synth_tensor *t = &p->tensor[i];

		if (in_shard && in_shard + t->bytes > shard_bytes) {
			n++;
			in_shard = 0;
		}
		in_shard += t->bytes;
		t->shard = (uint32_t)(n - 1);
	}
	p->shard = calloc(n, sizeof(p->shard[0]));
	if (!p->shard)
		return no_memory(e);
	p->n_shards = n;
	for (size_t i = p->n_tensors; i-- > 0;) {
		p->shard[p->tensor[i].shard].first = i;
		p->shard[p->tensor[i].shard].count++;
	}
	for (size_t i = 0; !rc && i < n; i++) {
		struct synth_shard *d = &p->shard[i];

		if (n == 1)
			snprintf(d->name, sizeof(d->name), "model.safetensors");
		else
			snprintf(d->name, sizeof(d->name), "model-%05zu-of-%06zu.safetensors",
				 i + 1, n);
		qsort(p->tensor + d->first, d->count, sizeof(p->tensor[0]), compare_tensors);
		rc = make_header(p, d, e);
		p->bytes += d->bytes;
	}
	return rc;
}

int synth_plan_make(struct synth_plan *p, const struct model_config *c, uint64_t seed,
		    uint64_t shard_bytes, struct err *e)
{
	struct planner s = {p, c, seed, e};
	int rc;

	memset(p, 0, sizeof(*p));
	rc = add_all(&s);
	return rc ? rc : cut_shards(p, shard_bytes, e);
}

void synth_plan_free(struct synth_plan *p)
{
	for (size_t i = 0; i < p->n_shards; i++)
		free(p->shard[i].header);
	free(p->shard);
	free(p->tensor);
	memset(p, 0, sizeof(*p));
}
