/*
 * Attaches the view of a model: compares every tensor of the index with the shape that the config
 * asks for and with the size of the resident object, and turns it into a pointer. The only place
 * where offsets of the index become addresses of resident weights.
 */
#include "model/model.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct attach {
	struct model *m;
	uint32_t layer; /* UINT32_MAX: not in a layer */
	struct err *e;
};

/* What stands before a tensor's name in messages: " of layer 7". */
static const char *where(const struct attach *a, char text[32])
{
	static const char of_layer[] = " of layer ";
	char digits[12];
	size_t n = sizeof(of_layer) - 1, d = 0;
	uint32_t v = a->layer;

	text[0] = 0;
	if (v == UINT32_MAX)
		return text;
	memcpy(text, of_layer, n);
	do
		digits[d++] = (char)('0' + v % 10);
	while (v /= 10);
	while (d)
		text[n++] = digits[--d];
	text[n] = 0;
	return text;
}

static int refuse(const struct attach *a, const char *name, const char *why)
{
	char text[32];

	return err_set(a->e, -EBADMSG, "model: tensor %s%s: %s", name, where(a, text), why);
}

static bool in_resident(const struct attach *a, uint64_t off, uint64_t len, uint64_t align)
{
	uint64_t size = a->m->resident_len;

	return off % align == 0 && off <= size && len <= size - off;
}

static uint64_t blocks128(uint64_t n)
{
	return (n + 127) / 128;
}

static uint64_t scale_bytes(uint64_t n_out, uint64_t n_in)
{
	return blocks128(n_out) * blocks128(n_in) * sizeof(float);
}

static int check_shape(const struct attach *a, const struct index_tensor *t, const char *name,
		       uint64_t n_out, uint64_t n_in)
{
	char text[32];

	if (t->n_out == n_out && t->n_in == n_in)
		return 0;
	return err_set(a->e, -EBADMSG,
		       "model: tensor %s%s is [%" PRIu32 ", %" PRIu32
		       "] in the index, the config asks for [%" PRIu64 ", %" PRIu64 "]",
		       name, where(a, text), t->n_out, t->n_in, n_out, n_in);
}

/* A vector of n floats. */
static int vector(const struct attach *a, const float **out, const struct index_tensor *t,
		  const char *name, uint64_t n)
{
	int rc = check_shape(a, t, name, 1, n);

	if (rc)
		return rc;
	if (t->type != INDEX_F32)
		return refuse(a, name, "a vector that is not F32 in the index");
	if (!in_resident(a, t->off, n * sizeof(float), 64))
		return refuse(a, name, "outside the resident object");
	*out = (const float *)(const void *)(a->m->resident + t->off);
	return 0;
}

/* n_out, n_in are at most 2^31 each, so that no product here wraps. */
static int matrix(const struct attach *a, struct weight *out, const struct index_tensor *t,
		  const char *name, uint64_t n_out, uint64_t n_in)
{
	int rc = check_shape(a, t, name, n_out, n_in);

	if (rc)
		return rc;
	if (t->type != INDEX_BF16 && t->type != INDEX_FP8)
		return refuse(a, name, "a matrix that is neither BF16 nor FP8");
	*out = (struct weight){
		.data = a->m->resident + t->off,
		.n_out = t->n_out,
		.n_in = t->n_in,
		.type = t->type == INDEX_FP8 ? WEIGHT_FP8 : WEIGHT_BF16,
	};
	if (!in_resident(a, t->off, weight_bytes(out->type, n_out, n_in), 64))
		return refuse(a, name, "outside the resident object");
	if (t->type == INDEX_BF16)
		return 0;
	if (!in_resident(a, t->scale_off, scale_bytes(n_out, n_in), sizeof(float)))
		return refuse(a, name, "scales outside the resident object");
	out->scale = (const float *)(const void *)(a->m->resident + t->scale_off);
	return 0;
}

static int attach_attention(const struct attach *a, struct layer *l, const struct index_layer *x)
{
	const struct model_config *c = a->m->config;
	uint64_t d = c->hidden_size, heads = c->num_attention_heads, rank = c->kv_lora_rank;
	uint64_t nope = c->qk_nope_head_dim, rope = c->qk_rope_head_dim, v = c->v_head_dim;
	uint64_t q_rank = c->q_lora_rank;

	if (matrix(a, &l->q_b, &x->q_b_proj, q_rank ? "q_b_proj" : "q_proj", heads * (nope + rope),
		   q_rank ? q_rank : d) ||
	    matrix(a, &l->kv_a, &x->kv_a_proj, "kv_a_proj_with_mqa", rank + rope, d) ||
	    matrix(a, &l->kv_b, &x->kv_b_proj, "kv_b_proj", heads * (nope + v), rank) ||
	    matrix(a, &l->o, &x->o_proj, "o_proj", d, heads * v) ||
	    vector(a, &l->input_norm, &x->input_layernorm, "input_layernorm", d) ||
	    vector(a, &l->post_norm, &x->post_attention_layernorm, "post_attention_layernorm", d) ||
	    vector(a, &l->kv_a_norm, &x->kv_a_layernorm, "kv_a_layernorm", rank))
		return -EBADMSG;
	if (q_rank && (matrix(a, &l->q_a, &x->q_a_proj, "q_a_proj", q_rank, d) ||
		       vector(a, &l->q_a_norm, &x->q_a_layernorm, "q_a_layernorm", q_rank)))
		return -EBADMSG;
	if (!c->attention_bias)
		return 0;
	if (q_rank && vector(a, &l->q_a_bias, &x->q_a_bias, "q_a_proj.bias", q_rank))
		return -EBADMSG;
	if (vector(a, &l->kv_a_bias, &x->kv_a_bias, "kv_a_proj_with_mqa.bias", rank + rope) ||
	    vector(a, &l->o_bias, &x->o_bias, "o_proj.bias", d))
		return -EBADMSG;
	return 0;
}

static int attach_mlp(const struct attach *a, struct layer *l, const struct index_layer *x,
		      uint64_t inner)
{
	uint64_t d = a->m->config->hidden_size;

	if (matrix(a, &l->mlp[0], &x->mlp[0], "gate_proj", inner, d) ||
	    matrix(a, &l->mlp[1], &x->mlp[1], "up_proj", inner, d) ||
	    matrix(a, &l->mlp[2], &x->mlp[2], "down_proj", d, inner))
		return -EBADMSG;
	return 0;
}

/*
 * The scales of all routed experts of a layer lie in the resident object, or (packed) in their
 * slots.
 */
static int check_experts(const struct attach *a)
{
	const struct index *ix = a->m->index;
	const struct model_config *c = &ix->config;
	uint64_t bytes = scale_bytes(c->hidden_size, c->moe_intermediate_size);

	if (ix->expert_type != INDEX_FP8 || ix->pack.parts)
		return 0;
	for (uint32_t i = 0; i < c->n_routed_experts; i++)
		for (int p = 0; p < EXPERT_PARTS; p++)
			if (!in_resident(a, index_expert(ix, a->layer, i)->part[p].scale_off, bytes,
					 sizeof(float)))
				return refuse(a, "experts", "scales outside the resident object");
	return 0;
}

static int attach_moe(const struct attach *a, struct layer *l, const struct index_layer *x)
{
	const struct model_config *c = a->m->config;
	uint64_t inner = (uint64_t)c->n_shared_experts * c->moe_intermediate_size;

	if (matrix(a, &l->gate, &x->gate, "mlp.gate", c->n_routed_experts, c->hidden_size))
		return -EBADMSG;
	if (c->topk_method == TOPK_NOAUX_TC &&
	    vector(a, &l->correction_bias, &x->correction_bias, "e_score_correction_bias",
		   c->n_routed_experts))
		return -EBADMSG;
	if (inner && attach_mlp(a, l, x, inner))
		return -EBADMSG;
	return check_experts(a);
}

static int attach_layer(const struct attach *a)
{
	const struct model_config *c = a->m->config;
	const struct index_layer *x = index_layer(a->m->index, a->layer);
	struct layer *l = &a->m->layer[a->layer];
	uint64_t d = c->hidden_size;

	l->is_moe = config_is_moe(c, a->layer);
	l->is_mtp = a->layer >= c->num_hidden_layers;
	if (attach_attention(a, l, x))
		return -EBADMSG;
	if (l->is_moe ? attach_moe(a, l, x) : attach_mlp(a, l, x, c->intermediate_size))
		return -EBADMSG;
	if (!l->is_mtp)
		return 0;
	if (vector(a, &l->enorm, &x->enorm, "enorm", d) ||
	    vector(a, &l->hnorm, &x->hnorm, "hnorm", d) ||
	    vector(a, &l->shared_head_norm, &x->shared_head_norm, "shared_head.norm", d) ||
	    matrix(a, &l->eh_proj, &x->eh_proj, "eh_proj", d, 2 * d))
		return -EBADMSG;
	return 0;
}

int model_attach(struct model *m, const struct index *ix, const void *resident,
		 uint64_t resident_len, const struct cpu_kernels *k, struct err *e)
{
	struct attach a = {.m = m, .layer = UINT32_MAX, .e = e};
	const struct model_config *c = &ix->config;

	if (config_layers(c) > CONFIG_LAYERS_MAX)
		return err_set(e, -EBADMSG, "model: %u layers; %d are possible", config_layers(c),
			       CONFIG_LAYERS_MAX);
	memset(m, 0, sizeof(*m));
	m->index = ix;
	m->config = c;
	m->kernels = k;
	m->resident = resident;
	m->resident_len = resident_len;
	if (matrix(&a, &m->embed, &ix->embed, "embed_tokens", c->vocab_size, c->hidden_size) ||
	    matrix(&a, &m->head, &ix->head, "lm_head", c->vocab_size, c->hidden_size) ||
	    vector(&a, &m->norm, &ix->norm, "norm", c->hidden_size))
		return -EBADMSG;
	if (m->embed.type != WEIGHT_BF16)
		return refuse(&a, "embed_tokens", "an embedding that is not BF16");
	for (a.layer = 0; a.layer < config_layers(c); a.layer++)
		if (attach_layer(&a))
			return -EBADMSG;
	return 0;
}

void model_expert(const struct model *m, uint32_t layer, uint32_t expert, const void *const part[3],
		  struct weight out[3])
{
	const struct index *ix = m->index;
	const struct index_expert *x = index_expert(ix, layer, expert);
	const struct model_config *c = m->config;

	for (int p = 0; p < EXPERT_PARTS; p++) {
		bool down = p == EXPERT_DOWN;
		const char *scale = m->resident + x->part[p].scale_off;

		if (ix->pack.parts) /* before the matrix */
			scale = (const char *)part[p] - (x->part[p].off - x->part[p].scale_off);
		out[p] = (struct weight){
			.data = part[p],
			.n_out = down ? c->hidden_size : c->moe_intermediate_size,
			.n_in = down ? c->moe_intermediate_size : c->hidden_size,
			.type = WEIGHT_BF16,
		};
		if (ix->expert_type == INDEX_FP8) {
			out[p].type = WEIGHT_FP8;
			out[p].scale = (const float *)(const void *)scale;
		} else if (ix->expert_type == INDEX_Q4) {
			out[p].type = WEIGHT_Q4;
			out[p].table = ix->pack.table;
		}
	}
}
