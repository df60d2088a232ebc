/* The feed-forward part; see ffn.h. */
#include "model/ffn.h"

#include <string.h>

enum {
	ROW_BLOCK = 64, /* as in attention.c */
	OUT_GRAIN = 32  /* so that each share of the inner width begins on a cache line */
};

uint32_t ffn_moe_inner_max(const struct model_config *c)
{
	uint32_t shared = c->n_shared_experts ? c->n_shared_experts : 1;

	return c->n_routed_experts ? shared * c->moe_intermediate_size : 0;
}

uint32_t ffn_inner_max(const struct model_config *c)
{
	uint32_t moe = ffn_moe_inner_max(c);

	return moe > c->intermediate_size ? moe : c->intermediate_size;
}

struct mlp_scratch {
	uint16_t *x;          /* gathered rows [width] */
	float *g, *u;         /* a worker's own columns: [ROW_BLOCK][share] each */
	struct int8_block *q; /* a worker's own: [ROW_BLOCK] rows of x or v for 4-bit matrices */
	uint16_t *v;          /* [pad128(inner)] */
};

/* The most columns of an inner width that one worker gets. */
static size_t share_max(size_t inner, unsigned workers)
{
	size_t grains = (inner + OUT_GRAIN - 1) / OUT_GRAIN;

	return (grains + workers - 1) / workers * OUT_GRAIN;
}

/*
 * For `rows` rows of x and v. g and u are private: parts of a set differ in width, so columns that
 * are one worker's in a part are another's in the next. So is q: to make it is little work beside
 * the product, and sharing it would cost a barrier.
 */
static size_t lay_out(struct mlp_scratch *s, char *base, size_t width, size_t inner, size_t rows,
		      unsigned workers, unsigned index)
{
	size_t block = rows < ROW_BLOCK ? rows : ROW_BLOCK;
	size_t x = scratch_round(rows * width * 2);
	size_t f = scratch_round(block * share_max(inner, workers) * 4);
	size_t longest = width > pad128(inner) ? width : pad128(inner);
	size_t q = scratch_round(block * (longest / 128) * sizeof(struct int8_block));
	size_t each = 2 * f + q;

	if (base) {
		char *own = base + x + index * each;

		s->x = (uint16_t *)(void *)base;
		s->g = (float *)(void *)own;
		s->u = (float *)(void *)(own + f);
		s->q = (struct int8_block *)(void *)(own + 2 * f);
		s->v = (uint16_t *)(void *)(base + x + workers * each);
	}
	return x + workers * each + scratch_round(rows * pad128(inner) * 2);
}

size_t ffn_scratch_bytes(const struct model_config *c, uint32_t inner, uint32_t rows,
			 unsigned workers)
{
	return lay_out(NULL, NULL, model_width(c), inner, rows < ROW_BLOCK ? rows : ROW_BLOCK,
		       workers, 0);
}

size_t ffn_set_scratch_bytes(const struct model_config *c, uint32_t inner, uint32_t rows,
			     unsigned workers)
{
	return lay_out(NULL, NULL, model_width(c), inner, rows, workers, 0);
}

static void gather(const struct model *m, uint16_t *out, const uint16_t *x, const uint32_t *list,
		   size_t rows, const struct worker *w)
{
	size_t width = model_width(m->config), begin, end;

	worker_share(w, rows, 1, &begin, &end);
	for (size_t i = begin; i < end; i++)
		memcpy(out + i * width, x + list[i] * width, width * sizeof(*x));
}

/* Rows of activations as the products with a matrix take them. */
struct input {
	const uint16_t *x; /* [rows][ldx] */
	size_t ldx;
	const struct int8_block *q; /* 4 bits: the same rows, [rows][ldx / 128] */
};

static struct input input_for(const struct model *m, const struct weight *w, struct int8_block *q,
			      const uint16_t *x, size_t ldx, size_t rows)
{
	if (w->type != WEIGHT_Q4)
		return (struct input){.x = x, .ldx = ldx};
	for (size_t r = 0; r < rows; r++)
		m->kernels->to_int8(q + r * (ldx / 128), x + r * ldx, ldx);
	return (struct input){.q = q, .ldx = ldx};
}

static void product(const struct model *m, float *y, size_t ldy, const struct weight *w,
		    size_t begin, size_t end, const struct input *in, size_t rows)
{
	if (in->q)
		m->kernels->matmul_q4(y, ldy, w, begin, end, in->q, in->ldx / 128, rows);
	else
		m->kernels->matmul(y, ldy, w, begin, end, in->x, in->ldx, rows);
}

/* v = silu(g) * u for this worker's share of the inner width, for at most ROW_BLOCK rows. */
static void enter(const struct model *m, const struct weight mlp[3], const struct mlp_scratch *s,
		  uint16_t *v, const uint16_t *x, size_t rows, const struct worker *w)
{
	size_t inner = mlp[0].n_out, stride = pad128(inner), width = model_width(m->config);
	size_t begin, end, n;
	struct input in;

	worker_share(w, inner, OUT_GRAIN, &begin, &end);
	if (begin == end)
		return;
	n = end - begin;
	in = input_for(m, &mlp[0], s->q, x, width, rows);
	product(m, s->g, n, &mlp[0], begin, end, &in, rows);
	product(m, s->u, n, &mlp[1], begin, end, &in, rows);
	for (size_t i = 0; i < rows; i++)
		m->kernels->silu_mul(v + i * stride + begin, s->g + i * n, s->u + i * n, n,
				     (end == inner ? stride : end) - begin);
}

/* f = down(v) for this worker's share of the outputs. */
static void leave(const struct model *m, const struct weight mlp[3], const struct mlp_scratch *s,
		  float *f, const uint16_t *v, size_t rows, const struct worker *w)
{
	size_t width = model_width(m->config), inner = pad128(mlp[0].n_out), begin, end;

	worker_share(w, mlp[2].n_out, OUT_GRAIN, &begin, &end);
	if (begin == end)
		return;
	for (size_t at = 0; at < rows; at += ROW_BLOCK) {
		size_t n = rows - at < ROW_BLOCK ? rows - at : ROW_BLOCK;
		struct input in = input_for(m, &mlp[2], s->q, v + at * inner, inner, n);

		product(m, f + at * width + begin, width, &mlp[2], begin, end, &in, n);
	}
}

void ffn_mlp(const struct model *m, const struct weight mlp[3], const uint16_t *x,
	     const uint32_t *list, uint32_t n, float *f, void *scratch, struct worker *w)
{
	size_t width = model_width(m->config);
	struct mlp_scratch s = {0};

	lay_out(&s, scratch, width, mlp[0].n_out, n < ROW_BLOCK ? n : ROW_BLOCK, w->count,
		w->index);
	for (size_t at = 0; at < n; at += ROW_BLOCK) {
		size_t rows = n - at < ROW_BLOCK ? n - at : ROW_BLOCK;

		if (at)
			worker_barrier(w); /* v of the block before was read */
		if (list) {
			gather(m, s.x, x, list + at, rows, w);
			worker_barrier(w);
		}
		enter(m, mlp, &s, s.v, list ? s.x : x + at * width, rows, w);
		worker_barrier(w);
		leave(m, mlp, &s, f + at * width, s.v, rows, w);
	}
}

void ffn_mlp_set(const struct model *m, const struct ffn_part *part, uint32_t parts,
		 const uint16_t *x, void *scratch, struct worker *w)
{
	size_t width = model_width(m->config), inner = 0, rows = 0;
	struct mlp_scratch s = {0};
	bool many = false;
	uint16_t *gathered, *v;

	for (uint32_t i = 0; i < parts; i++) {
		rows += part[i].n;
		inner = part[i].mlp[0].n_out > inner ? part[i].mlp[0].n_out : inner;
		many |= part[i].list && part[i].n > 1;
	}
	lay_out(&s, scratch, width, inner, rows, w->count, w->index);
	gathered = s.x;
	for (uint32_t i = 0; many && i < parts; gathered += part[i++].n * width) {
		if (part[i].list && part[i].n > 1)
			gather(m, gathered, x, part[i].list, part[i].n, w);
	}
	if (many)
		worker_barrier(w);
	gathered = s.x;
	v = s.v;
	for (uint32_t i = 0; i < parts; i++) {
		const struct ffn_part *p = &part[i];
		const uint16_t *in = !p->list ? x : p->n > 1 ? gathered : x + p->list[0] * width;
		size_t stride = pad128(p->mlp[0].n_out);

		for (size_t r = 0; r < p->n; r += ROW_BLOCK)
			enter(m, p->mlp, &s, v + r * stride, in + r * width,
			      p->n - r < ROW_BLOCK ? p->n - r : ROW_BLOCK, w);
		gathered += p->n * width;
		v += p->n * stride;
	}
	worker_barrier(w);
	v = s.v;
	for (uint32_t i = 0; i < parts; i++) {
		leave(m, part[i].mlp, &s, part[i].f, v, part[i].n, w);
		v += part[i].n * pad128(part[i].mlp[0].n_out);
	}
}

/*
 * The columns of this worker, for what is done element by element: one row is split as well as
 * many.
 */
static size_t columns(const struct model *m, const struct worker *w, size_t *begin)
{
	size_t end;

	worker_share(w, m->config->hidden_size, OUT_GRAIN, begin, &end);
	return end - *begin;
}

void ffn_clear(const struct model *m, float *acc, uint32_t rows, struct worker *w)
{
	size_t width = model_width(m->config), begin, n = columns(m, w, &begin);

	for (size_t r = 0; r < rows; r++)
		memset(acc + r * width + begin, 0, n * sizeof(*acc));
}

void ffn_accumulate(const struct model *m, float *acc, const float *f, const float *weight,
		    const uint32_t *list, uint32_t n, struct worker *w)
{
	size_t width = model_width(m->config), begin, count = columns(m, w, &begin);

	for (size_t i = 0; i < n; i++)
		m->kernels->axpy(acc + list[i] * width + begin, weight[i], f + i * width + begin,
				 count);
}

void ffn_finish(const struct model *m, float *h_out, const float *h_in, const float *acc,
		const float *shared, const uint8_t *skip, uint32_t rows, struct worker *w)
{
	size_t width = model_width(m->config), begin, n = columns(m, w, &begin);

	for (size_t r = 0; r < rows; r++) {
		size_t at = r * width + begin;

		if (skip && skip[r])
			continue;
		if (acc && shared) {
			m->kernels->add(h_out + at, acc + at, shared + at, n);
			m->kernels->add(h_out + at, h_in + at, h_out + at, n);
		} else if (acc) {
			m->kernels->add(h_out + at, h_in + at, acc + at, n);
		} else {
			m->kernels->add(h_out + at, h_in + at, shared + at, n);
		}
	}
}
