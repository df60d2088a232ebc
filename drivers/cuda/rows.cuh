/*
 * What is done row by row or number by number: norms, the cache, residual sums, copies. A unit is a
 * row; its block shares the row's work.
 */
#ifndef DRIVERS_CUDA_ROWS_CUH
#define DRIVERS_CUDA_ROWS_CUH

#include "drivers/cuda/device.cuh"

enum {
	STAGE = 4096 /* numbers of a row in shared memory at once */
};

DEVICE const struct dev_row *row_at(const struct job *j, uint32_t r)
{
	return (const struct dev_row *)in_frame(j, j->f->row) + r;
}

DEVICE uint32_t page_at(const struct job *j, const struct dev_row *row, uint32_t position)
{
	return ((const uint32_t *)in_frame(j, j->f->page))[row->first_page + position / 256];
}

DEVICE uint16_t *cached_row(const struct job *j, uint32_t page, uint32_t layer, uint32_t position)
{
	const struct dev_shape *s = &j->g->shape;
	size_t row = ((size_t)page * s->layers + layer) * 256 + position % 256;

	return (uint16_t *)j->g->base[DEV_KV] + row * s->kv_row;
}

DEVICE bool has_failed(const struct job *j, uint32_t r)
{
	return ((const uint64_t *)in_frame(j, j->f->error))[r] != 0;
}

/* By one thread of the row's block. */
DEVICE void fail_row(const struct job *j, uint32_t r, uint64_t word)
{
	uint64_t *error = (uint64_t *)in_frame(j, j->f->error) + r;

	if (!*error)
		*error = word;
}

/* Rule 6: 1 / sqrt(mean of squares + eps) of x + bias (NULL: none). Barriers inside. */
DEVICE float norm_scale(const struct job *j, const float *x, const float *bias, uint32_t n,
			float eps)
{
	float *stage = (float *)j->shared, *lane = stage + STAGE, a = 0.0f;

	for (uint32_t k = 0; k < n; k += STAGE) {
		uint32_t end = n - k < STAGE ? n - k : STAGE, full = (end + 15) / 16 * 16;

		__syncthreads();
		for (uint32_t i = threadIdx.x; i < full; i += THREADS)
			stage[i] = i < end ? (bias ? x[k + i] + bias[k + i] : x[k + i]) : 0.0f;
		__syncthreads();
		if (threadIdx.x < 16)
			for (uint32_t i = threadIdx.x; i < full; i += 16)
				a = __fmaf_rn(stage[i], stage[i], a);
	}
	if (threadIdx.x < 16)
		lane[threadIdx.x] = a;
	__syncthreads();
	return __fdiv_rn(1.0f, __fsqrt_rn(__fdiv_rn(lanes_tree(lane), (float)n) + eps));
}

DEVICE void do_norm(const struct job *j)
{
	const struct command *c = j->c;
	const float *w = (const float *)at(j, c->vector);
	const float *bias = c->bias ? (const float *)at(j, c->bias) : NULL;

	for (uint32_t r = blockIdx.x; r < c->rows; r += gridDim.x) {
		const float *x = (const float *)at(j, c->from) + (size_t)r * c->ldx;
		uint16_t *y = (uint16_t *)at(j, c->to) + (size_t)r * c->ldy;
		float scale = norm_scale(j, x, bias, c->n, c->eps);

		for (uint32_t i = threadIdx.x; i < c->ldy; i += THREADS) {
			float v = i < c->n ? (bias ? x[i] + bias[i] : x[i]) : 0.0f;

			y[i] = i < c->n ? float_bf16((v * scale) * w[i]) : 0;
		}
		__syncthreads();
	}
}

/* Rule 7: the pair i of x, whose cosine and sine are cs. */
DEVICE void rotate(float out[2], const float x[2], const float cs[2])
{
	out[0] = __fmaf_rn(x[0], cs[0], -(x[1] * cs[1]));
	out[1] = __fmaf_rn(x[0], cs[1], x[1] * cs[0]);
}

/* The cached row of r: normed latent, rotated k_pe, +0. */
DEVICE void cache_row(const struct job *j, uint32_t r, uint16_t *out)
{
	const struct dev_shape *s = &j->g->shape;
	const struct command *c = j->c;
	const float *down = (const float *)in_frame(j, j->f->kv_down) +
			    (size_t)r * (s->rank + s->rope);
	const float *angle = (const float *)in_frame(j, j->f->angle) + (size_t)r * s->rope;
	const float *bias = c->bias ? (const float *)at(j, c->bias) : NULL;
	const float *w = (const float *)at(j, c->vector);
	float scale = norm_scale(j, down, bias, s->rank, s->latent_eps);

	for (uint32_t i = threadIdx.x; i < s->rank; i += THREADS)
		out[i] = float_bf16(((bias ? down[i] + bias[i] : down[i]) * scale) * w[i]);
	for (uint32_t i = threadIdx.x; i < s->rope / 2; i += THREADS) {
		float x[2], y[2];

		for (int e = 0; e < 2; e++) {
			uint32_t at_pe = s->rank + 2 * i + e;

			x[e] = bias ? down[at_pe] + bias[at_pe] : down[at_pe];
		}
		rotate(y, x, angle + 2 * i);
		out[s->rank + 2 * i] = float_bf16(y[0]);
		out[s->rank + 2 * i + 1] = float_bf16(y[1]);
	}
	for (uint32_t i = s->rank + s->rope + threadIdx.x; i < s->kv_row; i += THREADS)
		out[i] = 0;
}

DEVICE void do_cache(const struct job *j)
{
	const struct dev_shape *s = &j->g->shape;

	for (uint32_t r = blockIdx.x; r < j->c->rows; r += gridDim.x) {
		const struct dev_row *row = row_at(j, r);
		uint32_t page = page_at(j, row, row->position);
		uint16_t *copy = (uint16_t *)in_frame(j, j->f->cached) +
				 ((size_t)j->c->layer * j->f->rows + r) * s->kv_row;

		cache_row(j, r, copy);
		__syncthreads();
		if (!has_failed(j, r)) {
			uint16_t *to = cached_row(j, page, j->c->layer, row->position);
			uint16_t *first = cached_row(j, page, j->c->layer, 0);
			uint32_t missing = row->position == row->first_key
						   ? row->position % 256 * s->kv_row
						   : 0; /* MTP: no keys below the first */

			for (uint32_t i = threadIdx.x; i < missing; i += THREADS)
				first[i] = 0;
			for (uint32_t i = threadIdx.x; i < s->kv_row; i += THREADS)
				to[i] = copy[i];
		}
		__syncthreads();
	}
}

DEVICE void do_residual(const struct job *j)
{
	const struct dev_shape *s = &j->g->shape;
	const float *bias = j->c->bias ? (const float *)at(j, j->c->bias) : NULL;
	const float *h0 = (const float *)in_frame(j, j->f->h[0]);
	const float *out = (const float *)in_frame(j, j->f->out);
	float *h1 = (float *)in_frame(j, j->f->h[1]);

	for (size_t i = blockIdx.x * (size_t)THREADS + threadIdx.x;
	     i < (size_t)j->c->rows * s->width; i += gridDim.x * (size_t)THREADS) {
		uint32_t k = (uint32_t)(i % s->width);

		if (k < s->hidden)
			h1[i] = h0[i] + (bias ? out[i] + bias[k] : out[i]);
	}
}

DEVICE void do_finite(const struct job *j)
{
	for (uint32_t r = blockIdx.x; r < j->c->rows; r += gridDim.x) {
		const float *x = (const float *)at(j, j->c->from) + (size_t)r * j->c->ldx;
		int bad = 0;

		for (uint32_t i = threadIdx.x; i < j->c->n; i += THREADS)
			bad |= !is_finite(x[i]);
		bad = __syncthreads_or(bad);
		if (bad && threadIdx.x == 0)
			fail_row(j, r, j->c->bytes);
	}
}

DEVICE void copy_bytes(char *to, const char *from, uint64_t bytes)
{
	uint64_t first = blockIdx.x * (uint64_t)THREADS + threadIdx.x;
	uint64_t step = gridDim.x * (uint64_t)THREADS, wide = 0;

	if (((uintptr_t)to | (uintptr_t)from) % 16 == 0)
		wide = bytes / 16;
	for (uint64_t i = first; i < wide; i += step)
		((uint4 *)to)[i] = ((const uint4 *)from)[i];
	for (uint64_t i = 16 * wide + first; i < bytes; i += step)
		to[i] = from[i];
}

DEVICE void do_copy(const struct job *j)
{
	copy_bytes((char *)at(j, j->c->to), (const char *)at(j, j->c->from), j->c->bytes);
}

DEVICE void do_page(const struct job *j)
{
	const struct dev_shape *s = &j->g->shape;

	for (uint32_t l = 0; l < s->layers; l++)
		copy_bytes((char *)cached_row(j, j->c->page_to, l, 0),
			   (const char *)cached_row(j, j->c->page_from, l, 0),
			   2ull * j->c->positions * s->kv_row);
}

#endif
