/* The feed-forward part; see ffn.h. */
#include "model/ffn.h"

#include <string.h>

enum {
	ROW_BLOCK = 64, /* as in attention.c */
	OUT_GRAIN = 32  /* so that each share of the inner width begins on a cache line */
};

uint32_t ffn_inner_max(const struct model_config *c)
{
	uint32_t moe = c->moe_intermediate_size;
	uint32_t shared = c->n_shared_experts ? c->n_shared_experts * moe : moe;
	uint32_t inner = c->n_routed_experts ? shared : 0;

	return inner > c->intermediate_size ? inner : c->intermediate_size;
}

struct mlp_scratch {
	uint16_t *x;  /* gathered rows [width] */
	float *g, *u; /* [inner], at the stride of v */
	uint16_t *v;  /* [pad128(inner)] */
};

static size_t lay_out(struct mlp_scratch *s, char *base, size_t width, size_t inner, size_t rows)
{
	size_t x = scratch_round(rows * width * 2), f = scratch_round(rows * pad128(inner) * 4);

	if (base) {
		s->x = (uint16_t *)(void *)base;
		s->g = (float *)(void *)(base + x);
		s->u = (float *)(void *)(base + x + f);
		s->v = (uint16_t *)(void *)(base + x + 2 * f);
	}
	return x + 2 * f + scratch_round(rows * pad128(inner) * 2);
}

size_t ffn_scratch_bytes(const struct model_config *c, uint32_t inner, uint32_t rows)
{
	return lay_out(NULL, NULL, model_width(c), inner, rows < ROW_BLOCK ? rows : ROW_BLOCK);
}

static void gather(const struct model *m, uint16_t *out, const uint16_t *x, const uint32_t *list,
		   size_t rows, const struct worker *w)
{
	size_t width = model_width(m->config), begin, end;

	worker_share(w, rows, 1, &begin, &end);
	for (size_t i = begin; i < end; i++)
		memcpy(out + i * width, x + list[i] * width, width * sizeof(*x));
}

/* v = silu(g) * u for this worker's share of the inner width. */
static void enter(const struct model *m, const struct weight mlp[3], const struct mlp_scratch *s,
		  const uint16_t *x, size_t rows, const struct worker *w)
{
	size_t inner = mlp[0].n_out, stride = pad128(inner), width = model_width(m->config);
	size_t begin, end;

	worker_share(w, inner, OUT_GRAIN, &begin, &end);
	if (begin == end)
		return;
	m->kernels->matmul(s->g + begin, stride, &mlp[0], begin, end, x, width, rows);
	m->kernels->matmul(s->u + begin, stride, &mlp[1], begin, end, x, width, rows);
	for (size_t i = 0; i < rows; i++) {
		size_t at = i * stride + begin;

		m->kernels->silu_mul(s->v + at, s->g + at, s->u + at, end - begin,
				     (end == inner ? stride : end) - begin);
	}
}

void ffn_mlp(const struct model *m, const struct weight mlp[3], const uint16_t *x,
	     const uint32_t *list, uint32_t n, float *f, void *scratch, struct worker *w)
{
	size_t width = model_width(m->config), inner = pad128(mlp[0].n_out);
	struct mlp_scratch s = {0};

	lay_out(&s, scratch, width, mlp[0].n_out, n < ROW_BLOCK ? n : ROW_BLOCK);
	for (size_t at = 0; at < n; at += ROW_BLOCK) {
		size_t rows = n - at < ROW_BLOCK ? n - at : ROW_BLOCK, begin, end;

		if (at)
			worker_barrier(w); /* v of the block before was read */
		if (list) {
			gather(m, s.x, x, list + at, rows, w);
			worker_barrier(w);
		}
		enter(m, mlp, &s, list ? s.x : x + at * width, rows, w);
		worker_barrier(w);
		worker_share(w, mlp[2].n_out, OUT_GRAIN, &begin, &end);
		if (begin < end)
			m->kernels->matmul(f + at * width + begin, width, &mlp[2], begin, end, s.v,
					   inner, rows);
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
