/* Command lists of a model; see list.h. */
#include "model/list.h"

#include "model/ffn.h"

#include <string.h>

/* ---- Shapes and places ---- */

static uint32_t pad(uint32_t n)
{
	return (uint32_t)pad128(n);
}

static uint32_t expert_type(const struct index *ix)
{
	return ix->expert_type == INDEX_FP8  ? WEIGHT_FP8
	       : ix->expert_type == INDEX_Q4 ? WEIGHT_Q4
					     : WEIGHT_BF16;
}

void list_shape(struct dev_shape *s, const struct index *ix, uint32_t pages)
{
	const struct model_config *c = &ix->config;
	bool normalise = c->norm_topk_prob && c->num_experts_per_tok > 1;

	*s = (struct dev_shape){
		.hidden = c->hidden_size,
		.width = (uint32_t)model_width(c),
		.heads = c->num_attention_heads,
		.nope = c->qk_nope_head_dim,
		.rope = c->qk_rope_head_dim,
		.v = c->v_head_dim,
		.rank = c->kv_lora_rank,
		.q_rank = c->q_lora_rank,
		.key = pad(c->kv_lora_rank + c->qk_rope_head_dim),
		.latent = pad(c->kv_lora_rank),
		.o_in = pad(c->num_attention_heads * c->v_head_dim),
		.kv_row = (uint32_t)config_kv_row(c),
		.layers = config_layers(c),
		.pages = pages,
		.experts = c->n_routed_experts,
		.top_k = c->num_experts_per_tok,
		.n_group = c->n_group,
		.topk_group = c->topk_group,
		.topk_method = c->topk_method,
		.scoring_func = c->scoring_func,
		.normalise = normalise,
		/* V2 normalises or scales, its successors do both: gate.c */
		.rescale =
			!(normalise && c->family == FAMILY_V2 && c->scoring_func == SCORE_SOFTMAX),
		.inner = c->moe_intermediate_size,
		.inner_pad = pad(c->moe_intermediate_size),
		.expert_type = expert_type(ix),
		.softmax_scale = c->softmax_scale,
		.latent_eps = c->latent_norm_eps,
		.routed_scaling_factor = c->routed_scaling_factor,
	};
	memcpy(s->q4_table, ix->pack.table, sizeof(s->q4_table));
}

/* The next array: n elements on whole 256 bytes. */
static uint64_t take(uint64_t *at, uint64_t n, uint64_t size)
{
	uint64_t begin = *at;

	*at = (begin + n * size + 255) & ~255ull;
	return begin;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

uint32_t list_row_max(const struct model_config *c)
{
	return pad((uint32_t)larger(larger(model_width(c), c->q_lora_rank), ffn_inner_max(c)));
}

void list_frame(struct frame *f, const struct model_config *c, uint64_t base, uint32_t rows,
		uint32_t pages, uint32_t logit_rows, uint32_t context)
{
	uint64_t at = base, r = rows, width = model_width(c), heads = c->num_attention_heads;
	uint64_t key = pad(c->kv_lora_rank + c->qk_rope_head_dim), latent = pad(c->kv_lora_rank);
	uint64_t k = c->num_experts_per_tok ? c->num_experts_per_tok : 1, pairs = r * k;
	uint64_t shared = (uint64_t)c->n_shared_experts * c->moe_intermediate_size;
	uint64_t dense = larger(pad128(c->intermediate_size), pad128(shared));
	uint64_t moe = pad128(c->moe_intermediate_size);
	uint64_t split = rows < LIST_SPLIT_ROWS ? rows : LIST_SPLIT_ROWS, layers = config_layers(c);

	*f = (struct frame){.rows = rows, .pages = pages, .logit_rows = logit_rows};
	f->splits = (uint32_t)(split * ((context + KV_PAGE_ROWS - 1) / KV_PAGE_ROWS));
	f->row = take(&at, r, sizeof(struct dev_row));
	f->page = take(&at, pages, sizeof(uint32_t));
	f->angle = take(&at, r * c->qk_rope_head_dim, 4);
	f->error = take(&at, r, 8);
	f->h[0] = take(&at, r * width, 4);
	f->h[1] = take(&at, r * width, 4);
	f->x = take(&at, r * width, 2);
	f->q_down = take(&at, r * c->q_lora_rank, 4);
	f->kv_down = take(&at, r * (c->kv_lora_rank + c->qk_rope_head_dim), 4);
	f->cq = take(&at, r * pad128(c->q_lora_rank), 2);
	f->wide = take(&at, r * heads * (c->qk_nope_head_dim + c->qk_rope_head_dim), 4);
	f->q = take(&at, r * heads * key, 2);
	f->o = take(&at, r * heads * latent, 2);
	f->ov = take(&at, r * pad128(heads * c->v_head_dim), 2);
	f->out = take(&at, r * width, 4);
	f->cached = take(&at, layers * r * config_kv_row(c), 2);
	f->part = take(&at, f->splits * heads * c->kv_lora_rank, 4);
	f->part_max = take(&at, f->splits * heads, 4);
	f->part_sum = take(&at, f->splits * heads, 4);
	f->logits = take(&at, r * c->n_routed_experts, 4);
	f->expert = take(&at, layers * pairs, 2);
	f->weight = take(&at, layers * pairs, 4);
	f->state = take(&at, pairs, 4);
	f->order = take(&at, 4 * pairs, 4);
	f->v = take(&at, larger(r * dense, pairs * moe + r * pad128(shared)), 2);
	f->q8 = take(&at, pairs * (larger(width, moe) / 128), sizeof(struct int8_block));
	f->f = take(&at, pairs * width, 4);
	f->shared = take(&at, r * width, 4);
	f->picked = take(&at, logit_rows * width, 4);
	f->picked_x = take(&at, logit_rows * width, 2);
	f->head_logits = take(&at, (uint64_t)logit_rows * c->vocab_size, 4);
	f->bytes = at;
}

enum {
	LAYER_COMMANDS = 24, /* at most */
	PASS_COMMANDS = 16   /* rows in, results out, the head */
};

void list_layout(struct list_layout *l, const struct model_config *c, uint32_t rows, uint32_t pages,
		 uint32_t logit_rows, uint32_t copies)
{
	uint64_t at = sizeof(struct list_head);

	l->commands = config_layers(c) * LAYER_COMMANDS + logit_rows + copies + PASS_COMMANDS;
	l->row = take(&at, rows, sizeof(struct dev_row));
	l->page = take(&at, pages, sizeof(uint32_t));
	l->angle = take(&at, (uint64_t)rows * c->qk_rope_head_dim, sizeof(float));
	l->error = take(&at, rows, sizeof(uint64_t));
	l->h = take(&at, rows * model_width(c), sizeof(float));
	l->command = take(&at, l->commands, sizeof(struct command));
	l->bytes = at;
}

void list_out(struct list_out *o, const struct model_config *c, uint64_t base, uint32_t rows,
	      uint32_t logit_rows)
{
	uint64_t at = (base + 255) & ~255ull, layers = config_layers(c), r = rows;
	uint64_t k = c->num_experts_per_tok ? c->num_experts_per_tok : 1;

	o->h = take(&at, r * model_width(c), 4);
	o->logits = take(&at, (uint64_t)logit_rows * c->vocab_size, 4);
	o->expert = take(&at, layers * r * k, 2);
	o->weight = take(&at, layers * r * k, 4);
	o->error = take(&at, r, 8);
	o->cached = take(&at, layers * r * config_kv_row(c), 2);
	o->bytes = at;
}

/* ---- The list of a pass ---- */

struct maker {
	const struct list_pass *p;
	const struct model *m;
	const struct model_config *c;
	const struct frame *f;
	struct command *out;
	uint32_t n;
};

static struct command *add(struct maker *k, enum command_kind kind, uint32_t layer)
{
	struct command *c = &k->out[k->n++];

	memset(c, 0, sizeof(*c));
	c->kind = (uint16_t)kind;
	c->batch = (uint16_t)k->p->batch;
	c->rows = k->p->rows;
	c->layer = layer;
	return c;
}

static void copy(struct maker *k, dev_addr to, dev_addr from, uint64_t bytes)
{
	struct command *c = add(k, COMMAND_COPY, 0);

	c->to = to;
	c->from = from;
	c->bytes = bytes;
	c->flags = COMMAND_JOINS; /* copies of a list never depend on each other */
}

static dev_addr work(uint64_t offset)
{
	return dev_at(DEV_WORK, offset);
}

/* Where something of the resident object lies on the device; 0: there is none. */
static dev_addr resident(const struct model *m, const void *at)
{
	return at ? dev_at(DEV_WEIGHTS, (uint64_t)((const char *)at - m->resident)) : 0;
}

static struct dev_weight weight_of(const struct model *m, const struct weight *w)
{
	return (struct dev_weight){.data = resident(m, w->data),
				   .scale = resident(m, w->scale),
				   .n_out = w->n_out,
				   .n_in = w->n_in,
				   .type = w->type};
}

static void norm(struct maker *k, uint32_t layer, uint64_t to, uint64_t from, const float *vector,
		 const float *bias, uint32_t n, uint32_t ldx, float eps)
{
	struct command *c = add(k, COMMAND_NORM, layer);

	c->to = work(to);
	c->from = work(from);
	c->vector = resident(k->m, vector);
	c->bias = resident(k->m, bias);
	c->n = n;
	c->ldx = ldx;
	c->ldy = pad(n);
	c->eps = eps;
}

static struct command *matmul(struct maker *k, uint32_t layer, uint64_t to, uint32_t ldy,
			      const struct weight *w, uint64_t from, uint32_t ldx)
{
	struct command *c = add(k, COMMAND_MATMUL, layer);

	c->to = work(to);
	c->from = work(from);
	c->ldy = ldy;
	c->ldx = ldx;
	c->weight = weight_of(k->m, w);
	return c;
}

static struct command *enter(struct maker *k, uint32_t layer, const struct weight mlp[3],
			     uint64_t to)
{
	struct command *c = add(k, COMMAND_ENTER, layer);

	c->to = work(to);
	c->from = work(k->f->x);
	c->ldy = pad(mlp[0].n_out);
	c->ldx = (uint32_t)model_width(k->c);
	c->weight = weight_of(k->m, &mlp[0]);
	c->weight2 = weight_of(k->m, &mlp[1]);
	return c;
}

static void finite(struct maker *k, uint32_t layer, uint64_t from)
{
	struct command *c = add(k, COMMAND_FINITE, layer);

	c->from = work(from);
	c->ldx = (uint32_t)model_width(k->c);
	c->n = k->c->hidden_size;
	c->bytes = k->p->not_finite | (uint64_t)layer << 32;
}

static void attention(struct maker *k, uint32_t layer)
{
	const struct layer *l = &k->m->layer[layer];
	const struct frame *f = k->f;
	uint32_t width = (uint32_t)model_width(k->c), d = k->c->hidden_size;
	uint32_t q_rank = k->c->q_lora_rank, kv = k->c->kv_lora_rank + k->c->qk_rope_head_dim;
	uint32_t wide =
		k->c->num_attention_heads * (k->c->qk_nope_head_dim + k->c->qk_rope_head_dim);
	struct command *c;

	norm(k, layer, f->x, f->h[0], l->input_norm, NULL, d, width, k->c->rms_norm_eps);
	matmul(k, layer, f->kv_down, kv, &l->kv_a, f->x, width);
	if (q_rank) {
		matmul(k, layer, f->q_down, q_rank, &l->q_a, f->x, width)->flags = COMMAND_JOINS;
		norm(k, layer, f->cq, f->q_down, l->q_a_norm, l->q_a_bias, q_rank, q_rank,
		     k->c->latent_norm_eps);
	}
	c = add(k, COMMAND_CACHE, layer);
	c->vector = resident(k->m, l->kv_a_norm);
	c->bias = resident(k->m, l->kv_a_bias);
	c->flags = q_rank ? COMMAND_JOINS : 0;
	matmul(k, layer, f->wide, wide, &l->q_b, q_rank ? f->cq : f->x,
	       q_rank ? pad(q_rank) : width);
	add(k, COMMAND_ABSORB, layer)->weight = weight_of(k->m, &l->kv_b);
	add(k, COMMAND_ATTEND, layer);
	add(k, COMMAND_VALUES, layer)->weight = weight_of(k->m, &l->kv_b);
	matmul(k, layer, f->out, width, &l->o, f->ov,
	       pad(k->c->num_attention_heads * k->c->v_head_dim));
	add(k, COMMAND_RESIDUAL, layer)->bias = resident(k->m, l->o_bias);
	finite(k, layer, f->h[1]);
	norm(k, layer, f->x, f->h[1], l->post_norm, NULL, d, width, k->c->rms_norm_eps);
	k->out[k->n - 1].flags = COMMAND_JOINS;
}

/* down(v): a dense block, or the shared experts. */
static void leave(struct maker *k, uint32_t layer, uint64_t v)
{
	const struct weight *down = &k->m->layer[layer].mlp[2];

	matmul(k, layer, k->f->shared, (uint32_t)model_width(k->c), down, v, pad(down->n_in));
}

static void feed_forward(struct maker *k, uint32_t layer)
{
	const struct layer *l = &k->m->layer[layer];
	const struct frame *f = k->f;
	bool shared = l->mlp[0].data != NULL;
	uint64_t v = f->v;
	struct command *c;

	if (l->is_moe) { /* pairs before the shared block's rows: EXPERTS may run beside it */
		v += 2ull * f->rows * k->c->num_experts_per_tok *
		     pad128(k->c->moe_intermediate_size);
		v = (v + 255) & ~255ull;
		matmul(k, layer, f->logits, k->c->n_routed_experts, &l->gate, f->x,
		       (uint32_t)model_width(k->c));
	}
	if (shared)
		enter(k, layer, l->mlp, v)->flags = l->is_moe ? COMMAND_JOINS : 0;
	if (l->is_moe) {
		c = add(k, COMMAND_CHOOSE, layer);
		c->bias = resident(k->m, l->correction_bias);
		c->bytes = k->p->not_finite | (uint64_t)layer << 32;
	}
	if (shared) {
		leave(k, layer, v);
		k->out[k->n - 1].flags = l->is_moe ? COMMAND_JOINS : 0;
	}
	if (l->is_moe)
		add(k, COMMAND_EXPERTS, layer);
	add(k, COMMAND_COMBINE, layer)->flags =
		(uint16_t)((l->is_moe ? COMMAND_ROUTED : 0) | (shared ? COMMAND_SHARED : 0));
	finite(k, layer, f->h[0]);
}

/* The rows that want logits: their final norm and the head. */
static void head(struct maker *k)
{
	const struct list_pass *p = k->p;
	const struct frame *f = k->f;
	uint32_t width = (uint32_t)model_width(k->c), vocab = k->c->vocab_size;
	uint32_t first = k->n;
	const float *weight = p->last_layer < k->c->num_hidden_layers
				      ? k->m->norm
				      : k->m->layer[p->last_layer].shared_head_norm;

	for (uint32_t i = 0; i < p->n_picked; i++)
		copy(k, work(f->picked + 4ull * i * width),
		     work(f->h[0] + 4ull * p->picked[i] * width), 4ull * width);
	norm(k, p->last_layer, f->picked_x, f->picked, weight, NULL, k->c->hidden_size, width,
	     k->c->rms_norm_eps);
	k->out[k->n - 1].rows = p->n_picked;
	matmul(k, p->last_layer, f->head_logits, vocab, &k->m->head, f->picked_x, width)->rows =
		p->n_picked;
	k->out[first].flags = 0;
}

/* Copies the results to the server's object. */
static void results(struct maker *k)
{
	const struct list_pass *p = k->p;
	const struct frame *f = k->f;
	const struct list_out *o = p->out;
	uint64_t width = model_width(k->c), row = config_kv_row(k->c), r = f->rows;
	uint64_t n = k->c->num_experts_per_tok, l0 = p->first_layer, l1 = p->last_layer + 1;
	uint32_t first = k->n;

	copy(k, dev_at(DEV_HOST_OUT, o->h), work(f->h[0]), p->rows * width * 4);
	copy(k, dev_at(DEV_HOST_OUT, o->error), work(f->error), p->rows * 8ull);
	if (p->n_picked)
		copy(k, dev_at(DEV_HOST_OUT, o->logits), work(f->head_logits),
		     (uint64_t)p->n_picked * k->c->vocab_size * 4);
	if (n) {
		copy(k, dev_at(DEV_HOST_OUT, o->expert + l0 * r * n * 2),
		     work(f->expert + l0 * r * n * 2), (l1 - l0) * r * n * 2);
		copy(k, dev_at(DEV_HOST_OUT, o->weight + l0 * r * n * 4),
		     work(f->weight + l0 * r * n * 4), (l1 - l0) * r * n * 4);
	}
	copy(k, dev_at(DEV_HOST_OUT, o->cached + l0 * r * row * 2),
	     work(f->cached + l0 * r * row * 2), (l1 - l0) * r * row * 2);
	k->out[first].flags = 0;
}

/* The pass's rows and what is known of them. */
static void rows_in(struct maker *k)
{
	const struct list_pass *p = k->p;
	const struct frame *f = k->f;
	const struct list_layout *at = p->at;
	uint64_t r = p->rows;

	copy(k, work(f->row), dev_at(DEV_HOST_LIST, at->row), r * sizeof(struct dev_row));
	copy(k, work(f->page), dev_at(DEV_HOST_LIST, at->page), p->pages * sizeof(uint32_t));
	copy(k, work(f->angle), dev_at(DEV_HOST_LIST, at->angle), r * k->c->qk_rope_head_dim * 4);
	copy(k, work(f->error), dev_at(DEV_HOST_LIST, at->error), r * 8);
	copy(k, work(f->h[0]), dev_at(DEV_HOST_LIST, at->h), r * model_width(k->c) * 4);
	k->out[0].flags = 0;
}

uint32_t list_pass(const struct list_pass *p, struct command *out)
{
	struct maker k = {.p = p, .m = p->m, .c = p->m->config, .f = p->frame, .out = out};

	rows_in(&k);
	for (uint32_t i = 0; i < p->n_copies; i++) {
		struct command *c = add(&k, COMMAND_PAGE, 0);

		c->page_from = p->copy[i].from;
		c->page_to = p->copy[i].to;
		c->positions = p->copy[i].rows;
	}
	for (uint32_t l = p->first_layer; l <= p->last_layer; l++) {
		attention(&k, l);
		feed_forward(&k, l);
	}
	if (p->n_picked)
		head(&k);
	results(&k);
	return k.n;
}

/* ---- An expert's way into GPU memory ---- */

static uint32_t expert_copy(struct command *c, uint64_t to, uint64_t from, uint64_t bytes)
{
	*c = (struct command){.kind = COMMAND_COPY,
			      .flags = COMMAND_JOINS,
			      .to = dev_at(DEV_SLOTS, to),
			      .from = dev_at(DEV_HOST_SLOTS, from),
			      .bytes = bytes};
	return 1;
}

uint32_t list_expert(const struct index *ix, uint32_t layer, uint32_t expert, uint64_t host,
		     uint64_t slot, struct command out[LIST_EXPERT_COMMANDS])
{
	const struct index_expert *x = index_expert(ix, layer, expert);
	struct dev_expert e = {.data = {0}};
	uint64_t at = slot;
	uint32_t n = 0;

	if (ix->pack.parts)
		n += expert_copy(&out[n], slot, host, index_slot_bytes(ix));
	for (unsigned p = 0; p < EXPERT_PARTS; p++) {
		uint64_t place = index_part_place(ix, x, p), bytes = index_part_bytes(ix, p);

		if (ix->pack.parts) { /* scales, if any, before the matrix */
			e.data[p] = dev_at(DEV_SLOTS, slot + place);
			e.scale[p] = dev_at(DEV_SLOTS,
					    slot + place - (x->part[p].off - x->part[p].scale_off));
		} else { /* anywhere in the file: 256-byte aligned here */
			n += expert_copy(&out[n], at, host + place, bytes);
			e.data[p] = dev_at(DEV_SLOTS, at);
			e.scale[p] = dev_at(DEV_WEIGHTS, x->part[p].scale_off);
			at = (at + bytes + 255) & ~255ull;
		}
		if (ix->expert_type != INDEX_FP8)
			e.scale[p] = 0;
	}
	out[n++] = (struct command){
		.kind = COMMAND_EXPERT, .layer = layer, .id = (uint16_t)expert, .expert = e};
	return n;
}
