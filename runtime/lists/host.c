/*
 * The CPU's executor; see host.h. Each worker goes through the list, does its share of a command
 * and waits for the others before the next; commands that join the one before do not wait. What is
 * done in which order is defined by model/, whose functions compute the same without a list.
 */
#include "runtime/lists/host.h"

#include "drivers/cpu/math.h"
#include "model/gate.h"

#include <stdlib.h>
#include <string.h>

enum {
	ROWS = 64,  /* rows given to a product at once, as in model/ */
	GRAIN = 32, /* outputs */
	BUFFERS = 3,
	PAGE_ROWS = KV_PAGE_ROWS
};

/* What a worker has for itself. */
struct own {
	float *f[BUFFERS];     /* [ROWS][wide] each */
	uint16_t *x;           /* [ROWS][wide] */
	struct int8_block *q8; /* [ROWS][wide / 128] */
};

struct host {
	struct device *d;
	const struct cpu_kernels *k;
	struct team *team;
	unsigned workers;
	size_t wide; /* the longest row of anything */
	struct own *own;
	struct model gate; /* as much of a model as gate_choose looks at */
	struct model_config config;
	/* of the run */
	const struct command *list;
	uint32_t from, n, stopped;
};

/* One command, one worker. */
struct job {
	struct host *h;
	const struct device *d;
	const struct dev_shape *s;
	const struct cpu_kernels *k;
	const struct command *c;
	const struct frame *f;
	struct own *own;
	struct worker *w;
};

static void *at(const struct job *j, dev_addr a)
{
	return (char *)j->d->base[dev_region(a)] + dev_offset(a);
}

/* FP32 numbers, or none. */
static const float *vector_at(const struct job *j, dev_addr a)
{
	return a ? at(j, a) : NULL;
}

static void *in_frame(const struct job *j, uint64_t offset)
{
	return (char *)j->d->base[DEV_WORK] + offset;
}

static struct weight weight_at(const struct job *j, const struct dev_weight *w)
{
	return (struct weight){.data = at(j, w->data),
			       .scale = vector_at(j, w->scale),
			       .table = w->type == WEIGHT_Q4 ? j->s->q4_table : NULL,
			       .n_out = w->n_out,
			       .n_in = w->n_in,
			       .type = w->type};
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* y[rows][ldy] of outputs [begin, end). */
static void product(const struct job *j, float *y, size_t ldy, const struct weight *w, size_t begin,
		    size_t end, const uint16_t *x, size_t ldx, uint32_t rows)
{
	for (uint32_t r = 0; r < rows; r += ROWS) {
		uint32_t n = smaller(rows - r, ROWS);
		const uint16_t *from = x + r * ldx;
		struct int8_block *q8 = j->own->q8;

		if (w->type != WEIGHT_Q4) {
			j->k->matmul(y + r * ldy, ldy, w, begin, end, from, ldx, n);
			continue;
		}
		for (uint32_t i = 0; i < n; i++)
			j->k->to_int8(q8 + i * (ldx / 128), from + i * ldx, ldx);
		j->k->matmul_q4(y + r * ldy, ldy, w, begin, end, q8, ldx / 128, n);
	}
}

/* ---- The commands ---- */

static void do_copy(const struct job *j)
{
	if (j->w->index == 0)
		memcpy(at(j, j->c->to), at(j, j->c->from), j->c->bytes);
}

static uint16_t *cached_row(const struct job *j, uint32_t page, uint32_t layer, uint32_t position)
{
	size_t row = ((size_t)page * j->s->layers + layer) * PAGE_ROWS + position % PAGE_ROWS;

	return (uint16_t *)j->d->base[DEV_KV] + row * j->s->kv_row;
}

static void do_page(const struct job *j)
{
	for (uint32_t l = 0; j->w->index == 0 && l < j->s->layers; l++)
		memcpy(cached_row(j, j->c->page_to, l, 0), cached_row(j, j->c->page_from, l, 0),
		       j->c->positions * j->s->kv_row * sizeof(uint16_t));
}

static void do_norm(const struct job *j)
{
	const struct command *c = j->c;
	const float *bias = vector_at(j, c->bias), *x = at(j, c->from);
	float *y = j->own->f[0];
	size_t begin, end;

	worker_share(j->w, c->rows, 1, &begin, &end);
	for (size_t r = begin; r < end; r++) {
		const float *from = x + r * c->ldx;

		if (bias) {
			j->k->add(y, from, bias, c->n);
			from = y;
		}
		j->k->rmsnorm(y, from, at(j, c->vector), c->n, c->eps);
		j->k->to_bf16((uint16_t *)at(j, c->to) + r * c->ldy, y, c->n, c->ldy);
	}
}

static void do_matmul(const struct job *j)
{
	const struct command *c = j->c;
	struct weight w = weight_at(j, &c->weight);
	size_t begin, end;

	worker_share(j->w, w.n_out, GRAIN, &begin, &end);
	if (begin < end)
		product(j, (float *)at(j, c->to) + begin, c->ldy, &w, begin, end, at(j, c->from),
			c->ldx, c->rows);
}

/* v[rows][ldy] = silu(gate x) * (up x) of this worker's outputs. */
static void enter(const struct job *j, uint16_t *v, size_t ldy, const struct weight *gate,
		  const struct weight *up, const uint16_t *x, size_t ldx, uint32_t rows)
{
	size_t begin, end, n;

	worker_share(j->w, gate->n_out, GRAIN, &begin, &end);
	if (begin == end)
		return;
	n = end - begin;
	for (uint32_t r = 0; r < rows; r += ROWS) {
		uint32_t some = smaller(rows - r, ROWS);

		product(j, j->own->f[0], n, gate, begin, end, x + r * ldx, ldx, some);
		product(j, j->own->f[1], n, up, begin, end, x + r * ldx, ldx, some);
		for (uint32_t i = 0; i < some; i++)
			j->k->silu_mul(v + (r + i) * ldy + begin, j->own->f[0] + i * n,
				       j->own->f[1] + i * n, n,
				       (end == gate->n_out ? ldy : end) - begin);
	}
}

static void do_enter(const struct job *j)
{
	struct weight gate = weight_at(j, &j->c->weight), up = weight_at(j, &j->c->weight2);

	enter(j, at(j, j->c->to), j->c->ldy, &gate, &up, at(j, j->c->from), j->c->ldx, j->c->rows);
}

static const struct dev_row *row_at(const struct job *j, size_t r)
{
	return (const struct dev_row *)in_frame(j, j->f->row) + r;
}

static uint32_t page_at(const struct job *j, const struct dev_row *row, uint32_t position)
{
	const uint32_t *pages = in_frame(j, j->f->page);

	return pages[row->first_page + position / PAGE_ROWS];
}

static bool has_failed(const struct job *j, size_t r)
{
	return ((const uint64_t *)in_frame(j, j->f->error))[r] != 0;
}

static void cache_row(const struct job *j, size_t r)
{
	const struct dev_shape *s = j->s;
	const struct dev_row *row = row_at(j, r);
	const float *angle = (const float *)in_frame(j, j->f->angle) + r * s->rope;
	const float *from = (const float *)in_frame(j, j->f->kv_down) + r * (s->rank + s->rope);
	float *down = j->own->f[0], *y = j->own->f[1];
	uint16_t *kv = cached_row(j, page_at(j, row, row->position), j->c->layer, row->position);
	uint16_t *copy = (uint16_t *)in_frame(j, j->f->cached) +
			 ((size_t)j->c->layer * j->f->rows + r) * s->kv_row;

	memcpy(down, from, (s->rank + s->rope) * sizeof(*down));
	if (j->c->bias)
		j->k->add(down, down, at(j, j->c->bias), s->rank + s->rope);
	j->k->rope(down + s->rank, angle, s->rope);
	j->k->rmsnorm(y, down, at(j, j->c->vector), s->rank, s->latent_eps);
	j->k->to_bf16(copy, y, s->rank, s->rank);
	j->k->to_bf16(copy + s->rank, down + s->rank, s->rope, s->kv_row - s->rank);
	if (has_failed(j, r))
		return;
	/* MTP: keys below the first are missing, and kernels want +0 there */
	if (row->first_key && row->position == row->first_key)
		memset(cached_row(j, page_at(j, row, row->position), j->c->layer, 0), 0,
		       row->position % PAGE_ROWS * s->kv_row * sizeof(uint16_t));
	memcpy(kv, copy, s->kv_row * sizeof(*kv));
}

/* By one worker: two rows' pages are never the same memory, but an MTP row clears a page. */
static void do_cache(const struct job *j)
{
	for (size_t r = 0; j->w->index == 0 && r < j->c->rows; r++)
		cache_row(j, r);
}

static void do_absorb(const struct job *j)
{
	const struct dev_shape *s = j->s;
	struct weight w = weight_at(j, &j->c->weight);
	size_t wide = s->nope + s->rope, ldx = pad128(s->nope), begin, end;
	const float *from = in_frame(j, j->f->wide), *angle = in_frame(j, j->f->angle);
	uint16_t *q = in_frame(j, j->f->q);

	worker_share(j->w, s->heads, 1, &begin, &end);
	for (size_t h = begin; h < end; h++) {
		for (size_t r = 0; r < j->c->rows; r++) {
			const float *in = from + (r * s->heads + h) * wide;
			uint16_t *out = q + (r * s->heads + h) * s->key;
			size_t uk = h * (s->nope + s->v);

			j->k->to_bf16(j->own->x, in, s->nope, ldx);
			j->k->matmul_t(j->own->f[0], s->rank, &w, uk, uk + s->nope, j->own->x, ldx,
				       1);
			memcpy(j->own->f[1], in + s->nope, s->rope * sizeof(float));
			j->k->rope(j->own->f[1], angle + r * s->rope, s->rope);
			j->k->to_bf16(out, j->own->f[0], s->rank, s->rank);
			j->k->to_bf16(out + s->rank, j->own->f[1], s->rope, s->key - s->rank);
		}
	}
}

/* Sums of one head of one row over its segments: arithmetic 8. */
static void attend_head(const struct job *j, size_t r, size_t head)
{
	const struct dev_shape *s = j->s;
	const struct dev_row *row = row_at(j, r);
	const uint16_t *q = (const uint16_t *)in_frame(j, j->f->q) + (r * s->heads + head) * s->key;
	uint16_t *o = (uint16_t *)in_frame(j, j->f->o) + (r * s->heads + head) * s->latent;
	float *score = j->own->f[0], *seg = j->own->f[1], *sum = j->own->f[2], max = 0, norm = 0;
	uint16_t *p = j->own->x;
	uint32_t first = row->first_key / PAGE_ROWS, last = row->position / PAGE_ROWS;

	for (uint32_t i = first; i <= last; i++) {
		const uint16_t *key = cached_row(j, page_at(j, row, i * PAGE_ROWS), j->c->layer, 0);
		uint32_t keys = i < last ? PAGE_ROWS : row->position % PAGE_ROWS + 1;
		float m, l, both, alpha, beta;

		j->k->dot_rows(score, PAGE_ROWS, key, s->kv_row, keys, s->rank + s->rope, q, s->key,
			       1);
		j->k->scale(score, score, s->softmax_scale, keys);
		j->k->softmax_segment(p, score, i == first ? row->first_key % PAGE_ROWS : 0, keys,
				      &m, &l);
		j->k->dot_rows_t(i == first ? sum : seg, s->rank, key, s->kv_row, keys, s->rank, p,
				 PAGE_ROWS, 1);
		if (i == first) {
			max = m;
			norm = l;
			continue;
		}
		both = m > max ? m : max;
		alpha = exp_f32(max - both);
		beta = exp_f32(m - both);
		j->k->combine(&norm, alpha, &l, beta, 1);
		j->k->combine(sum, alpha, seg, beta, s->rank);
		max = both;
	}
	j->k->scale(sum, sum, 1.0f / norm, s->rank);
	j->k->to_bf16(o, sum, s->rank, s->latent);
}

static void do_attend(const struct job *j)
{
	size_t units = (size_t)j->c->rows * j->s->heads;

	for (size_t u = j->w->index; u < units; u += j->w->count)
		if (!has_failed(j, u / j->s->heads))
			attend_head(j, u / j->s->heads, u % j->s->heads);
}

static void do_values(const struct job *j)
{
	const struct dev_shape *s = j->s;
	struct weight w = weight_at(j, &j->c->weight);
	const uint16_t *o = in_frame(j, j->f->o);
	uint16_t *ov = in_frame(j, j->f->ov);
	size_t begin, end;

	worker_share(j->w, s->heads, 1, &begin, &end);
	for (size_t h = begin; h < end; h++) {
		size_t uv = h * (s->nope + s->v) + s->nope;
		size_t fill = h + 1 == s->heads ? s->o_in - h * s->v : s->v;

		for (size_t r = 0; r < j->c->rows; r++) {
			j->k->matmul(j->own->f[0], s->v, &w, uv, uv + s->v,
				     o + (r * s->heads + h) * s->latent, s->latent, 1);
			j->k->to_bf16(ov + r * s->o_in + h * s->v, j->own->f[0], s->v, fill);
		}
	}
}

static void do_residual(const struct job *j)
{
	const struct dev_shape *s = j->s;
	size_t begin, end;

	worker_share(j->w, j->c->rows, 1, &begin, &end);
	for (size_t r = begin; r < end; r++) {
		const float *h0 = (const float *)in_frame(j, j->f->h[0]) + r * s->width;
		const float *out = (const float *)in_frame(j, j->f->out) + r * s->width;
		float *h1 = (float *)in_frame(j, j->f->h[1]) + r * s->width;

		if (j->c->bias) {
			j->k->add(j->own->f[0], out, at(j, j->c->bias), s->hidden);
			out = j->own->f[0];
		}
		j->k->add(h1, h0, out, s->hidden);
	}
}

static void fail_row(const struct job *j, size_t r, uint64_t word)
{
	uint64_t *error = (uint64_t *)in_frame(j, j->f->error) + r;

	if (!*error)
		*error = word;
}

static void do_finite(const struct job *j)
{
	size_t begin, end;

	worker_share(j->w, j->c->rows, 1, &begin, &end);
	for (size_t r = begin; r < end; r++)
		if (!j->k->all_finite((const float *)at(j, j->c->from) + r * j->c->ldx, j->c->n))
			fail_row(j, r, j->c->bytes);
}

static size_t pair_at(const struct job *j, size_t r)
{
	return ((size_t)j->c->layer * j->f->rows + r) * j->s->top_k;
}

static void do_choose(const struct job *j)
{
	const struct dev_shape *s = j->s;
	uint32_t *state = in_frame(j, j->f->state);
	size_t begin, end;

	worker_share(j->w, j->c->rows, 1, &begin, &end);
	for (size_t r = begin; r < end; r++) {
		const float *logits = (const float *)in_frame(j, j->f->logits) + r * s->experts;
		uint16_t *expert = (uint16_t *)in_frame(j, j->f->expert) + pair_at(j, r);
		float *weight = (float *)in_frame(j, j->f->weight) + pair_at(j, r);

		if (!has_failed(j, r) && !j->k->all_finite(logits, s->experts))
			fail_row(j, r, j->c->bytes);
		for (uint32_t i = 0; i < s->top_k; i++)
			state[r * s->top_k + i] = has_failed(j, r) ? PAIR_NONE : PAIR_WAITS;
		memset(expert, 0, s->top_k * sizeof(*expert));
		memset(weight, 0, s->top_k * sizeof(*weight));
		if (!has_failed(j, r))
			gate_choose(&j->h->gate, logits, vector_at(j, j->c->bias), expert, weight,
				    j->own->f[0]);
	}
}

/* The expert of pair i; false if it waits for one that is not there, or waits no longer. */
static bool expert_of(const struct job *j, size_t i, struct weight mlp[3])
{
	const struct dev_shape *s = j->s;
	const uint32_t *state = in_frame(j, j->f->state);
	const uint16_t *expert = (const uint16_t *)in_frame(j, j->f->expert) + pair_at(j, 0);
	const struct dev_expert *x = &j->d->table[device_table_at(j->d, j->c->layer, expert[i])];

	if (state[i] != PAIR_WAITS || !x->data[0])
		return false;
	for (unsigned p = 0; p < 3; p++) {
		const struct dev_weight w = {.data = x->data[p],
					     .scale = x->scale[p],
					     .n_out = p == 2 ? s->hidden : s->inner,
					     .n_in = p == 2 ? s->inner : s->hidden,
					     .type = s->expert_type};

		mlp[p] = weight_at(j, &w);
	}
	return true;
}

/* All waiting pairs whose expert is there; whether some are left is for the leader to see. */
static void do_experts(const struct job *j)
{
	const struct dev_shape *s = j->s;
	size_t pairs = (size_t)j->c->rows * s->top_k;
	uint16_t *v = in_frame(j, j->f->v);
	const uint16_t *x = in_frame(j, j->f->x);
	float *f = in_frame(j, j->f->f);
	uint32_t *state = in_frame(j, j->f->state);
	struct weight mlp[3];

	for (size_t i = 0; i < pairs; i++)
		if (expert_of(j, i, mlp))
			enter(j, v + i * s->inner_pad, s->inner_pad, &mlp[0], &mlp[1],
			      x + i / s->top_k * s->width, s->width, 1);
	worker_barrier(j->w);
	for (size_t i = 0; i < pairs; i++) {
		size_t begin, end;

		worker_share(j->w, s->hidden, GRAIN, &begin, &end);
		if (begin < end && expert_of(j, i, mlp))
			product(j, f + i * s->width + begin, s->width, &mlp[2], begin, end,
				v + i * s->inner_pad, s->inner_pad, 1);
	}
	worker_barrier(j->w);
	if (j->w->index)
		return;
	for (size_t i = 0; i < pairs; i++) {
		if (expert_of(j, i, mlp))
			state[i] = PAIR_DONE;
		else if (state[i] == PAIR_WAITS)
			j->h->stopped = (uint32_t)(j->c - j->h->list);
	}
}

static void do_combine(const struct job *j)
{
	const struct dev_shape *s = j->s;
	size_t begin, end, n;

	worker_share(j->w, s->hidden, GRAIN, &begin, &end);
	n = end - begin;
	for (size_t r = 0; r < j->c->rows; r++) {
		size_t place = r * s->width + begin;
		float *h0 = (float *)in_frame(j, j->f->h[0]) + place, *acc = j->own->f[0];
		const float *h1 = (const float *)in_frame(j, j->f->h[1]) + place;
		const float *shared = (const float *)in_frame(j, j->f->shared) + place;
		const float *weight = (const float *)in_frame(j, j->f->weight) + pair_at(j, r);

		if (!(j->c->flags & COMMAND_ROUTED)) {
			j->k->add(h0, h1, shared, n);
			continue;
		}
		memset(acc, 0, n * sizeof(*acc));
		for (uint32_t i = 0; i < s->top_k; i++)
			j->k->axpy(acc, weight[i],
				   (const float *)in_frame(j, j->f->f) +
					   (r * s->top_k + i) * s->width + begin,
				   n);
		if (j->c->flags & COMMAND_SHARED)
			j->k->add(acc, acc, shared, n);
		j->k->add(h0, h1, acc, n);
	}
}

static void do_expert(const struct job *j)
{
	if (j->w->index == 0)
		j->d->table[device_table_at(j->d, j->c->layer, j->c->id)] = j->c->expert;
}

static void do_fail(const struct job *j)
{
	const uint16_t *expert = (const uint16_t *)in_frame(j, j->f->expert) + pair_at(j, 0);
	uint32_t *state = in_frame(j, j->f->state), k = j->s->top_k;

	for (size_t i = 0; j->w->index == 0 && i < (size_t)j->c->rows * k; i++) {
		if (state[i] != PAIR_WAITS || expert[i] != j->c->id)
			continue;
		fail_row(j, i / k, j->c->bytes);
		for (uint32_t n = 0; n < k; n++)
			state[i / k * k + n] = PAIR_NONE;
	}
}

static void do_result(const struct job *j)
{
	uint32_t *state = (uint32_t *)in_frame(j, j->f->state) + j->c->n;

	if (j->w->index || *state != PAIR_WAITS)
		return;
	memcpy((float *)in_frame(j, j->f->f) + (size_t)j->c->n * j->s->width, at(j, j->c->from),
	       j->c->bytes);
	*state = PAIR_DONE;
}

static void (*const commands[COMMAND_KINDS])(const struct job *) = {
	[COMMAND_COPY] = do_copy,       [COMMAND_PAGE] = do_page,
	[COMMAND_NORM] = do_norm,       [COMMAND_MATMUL] = do_matmul,
	[COMMAND_ENTER] = do_enter,     [COMMAND_CACHE] = do_cache,
	[COMMAND_ABSORB] = do_absorb,   [COMMAND_ATTEND] = do_attend,
	[COMMAND_VALUES] = do_values,   [COMMAND_RESIDUAL] = do_residual,
	[COMMAND_FINITE] = do_finite,   [COMMAND_CHOOSE] = do_choose,
	[COMMAND_EXPERTS] = do_experts, [COMMAND_COMBINE] = do_combine,
	[COMMAND_EXPERT] = do_expert,   [COMMAND_FAIL] = do_fail,
	[COMMAND_RESULT] = do_result,
};

/* ---- Lists ---- */

static void run_work(void *context, struct worker *w)
{
	struct host *h = context;
	struct job j = {
		.h = h, .d = h->d, .s = &h->d->shape, .k = h->k, .own = &h->own[w->index], .w = w};

	for (uint32_t i = h->from; i < h->n && h->stopped == h->n; i++) {
		j.c = &h->list[i];
		j.f = &h->d->frame[j.c->batch];
		if (i > h->from && !(j.c->flags & COMMAND_JOINS))
			worker_barrier(w);
		commands[j.c->kind](&j);
		if (j.c->kind == COMMAND_EXPERTS)
			worker_barrier(w); /* everybody sees whether it has stopped */
	}
}

uint32_t host_run(struct host *h, const struct command *list, uint32_t from, uint32_t n)
{
	h->list = list;
	h->from = from;
	h->n = h->stopped = n;
	team_run(h->team, run_work, h);
	return h->stopped;
}

/* What gate_choose wants to know. */
static void set_gate(struct host *h)
{
	const struct dev_shape *s = &h->d->shape;

	h->config = (struct model_config){
		.family = s->rescale ? FAMILY_V3 : FAMILY_V2,
		.n_routed_experts = s->experts,
		.num_experts_per_tok = s->top_k,
		.n_group = s->n_group,
		.topk_group = s->topk_group,
		.topk_method = s->topk_method,
		.scoring_func = s->scoring_func,
		.norm_topk_prob = s->normalise,
		.routed_scaling_factor = s->routed_scaling_factor,
	};
	h->gate.config = &h->config;
	h->gate.kernels = h->k;
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

static bool own_open(struct own *own, size_t wide)
{
	for (unsigned n = 0; n < BUFFERS; n++) {
		own->f[n] = aligned_alloc(64, ROWS * wide * sizeof(float));
		if (!own->f[n])
			return false;
	}
	own->x = aligned_alloc(64, ROWS * wide * sizeof(uint16_t));
	own->q8 = aligned_alloc(64, ROWS * (wide / 128) * sizeof(*own->q8));
	return own->x && own->q8;
}

void host_close(struct host *h)
{
	for (unsigned i = 0; i < h->workers; i++) {
		for (unsigned n = 0; n < BUFFERS; n++)
			free(h->own[i].f[n]);
		free(h->own[i].x);
		free(h->own[i].q8);
	}
	free(h->own);
	free(h);
}

struct host *host_open(struct device *d, const struct cpu_kernels *k, struct team *team,
		       unsigned workers)
{
	const struct dev_shape *s = &d->shape;
	struct host *h = calloc(1, sizeof(*h));
	struct own *own = calloc(workers, sizeof(*own));

	if (!h || !own)
		return NULL;
	*h = (struct host){.d = d, .k = k, .team = team, .workers = workers, .own = own};
	h->wide = larger(larger(s->width, s->o_in), larger(s->q_rank, s->key));
	h->wide = pad128(larger(larger(h->wide, d->row_max), larger(2 * s->experts, PAGE_ROWS)));
	for (unsigned i = 0; i < workers; i++)
		if (!own_open(&own[i], h->wide))
			return NULL;
	set_gate(h);
	return h;
}
