/*
 * Rules 4 and 8: absorbed queries, and attention over the cached rows. Keys are cut into segments
 * of 256, one key for each thread; values are summed with two columns for each thread. A few rows
 * are split by segments over many blocks, whose parts are joined in ascending order; many rows are
 * worked off segment by segment in one block: the same sums in the same order.
 */
#ifndef DRIVERS_CUDA_ATTENTION_CUH
#define DRIVERS_CUDA_ATTENTION_CUH

#include "drivers/cuda/product.cuh"
#include "drivers/cuda/rows.cuh"

enum {
	HEADS = 8,      /* that share a read of the keys */
	HEADS_ONCE = 4, /* of them, in registers */
	ABSORB_ROWS = 4
};

/* A number of W_UK. */
DEVICE float weight_number(const struct matrix *m, size_t i)
{
	float v[4];
	const unsigned char *p = (const unsigned char *)m->data;

	if (m->type != 1)
		return bf16_float((uint16_t)(p[2 * i] | p[2 * i + 1] << 8));
	e4m3x4(v, p[i]);
	return v[0];
}

/*
 * Rule 4 for column c of `len` stored rows from in0 on, for ABSORB_ROWS rows of x, whose numbers
 * lie `ldx` apart in shared memory.
 */
DEVICE void column(float t[ABSORB_ROWS], const struct matrix *m, uint32_t in0, uint32_t len,
		   uint32_t c, const float *x, uint32_t ldx)
{
	uint32_t blocks = (m->n_in + 127) / 128;

	UNROLL
	for (int r = 0; r < ABSORB_ROWS; r++)
		t[r] = 0.0f;
	for (uint32_t i = 0, end; i < len; i = end) {
		float a[ABSORB_ROWS] = {0.0f}, scale;

		end = i / 128 * 128 + 128;
		if (m->type == 1 && (in0 + i) / 128 * 128 + 128 - in0 < end)
			end = (in0 + i) / 128 * 128 + 128 - in0;
		if (end > len)
			end = len;
		scale = m->type == 1 ? m->scale[(in0 + i) / 128 * blocks + c / 128] : 0.0f;
		for (uint32_t k = i; k < end; k += 2) {
			bool pair = k + 1 < end;
			float w1 = pair ? weight_number(m, (size_t)(in0 + k + 1) * m->n_in + c)
					: 0.0f;
			float w0 = weight_number(m, (size_t)(in0 + k) * m->n_in + c);

			UNROLL
			for (int r = 0; r < ABSORB_ROWS; r++) {
				a[r] = __fmaf_rn(w1, pair ? x[r * ldx + k + 1] : 0.0f, a[r]);
				a[r] = __fmaf_rn(w0, x[r * ldx + k], a[r]);
			}
		}
		UNROLL
		for (int r = 0; r < ABSORB_ROWS; r++) {
			a[r] = a[r] + 0.0f;
			t[r] = m->type == 1 ? __fmaf_rn(a[r], scale, t[r]) : t[r] + a[r];
		}
	}
}

/* q' of one head for rows [r0, r0 + ABSORB_ROWS). */
DEVICE void absorb(const struct job *j, const struct matrix *kv_b, uint32_t head, uint32_t r0)
{
	const struct dev_shape *s = &j->g->shape;
	const float *wide = (const float *)in_frame(j, j->f->wide);
	const float *angle = (const float *)in_frame(j, j->f->angle);
	uint16_t *q = (uint16_t *)in_frame(j, j->f->q);
	const uint32_t n = s->nope + s->rope, rows = j->c->rows - r0;
	float *x = (float *)j->shared;

	__syncthreads();
	for (uint32_t i = threadIdx.x; i < ABSORB_ROWS * s->nope; i += THREADS) {
		uint32_t r = i / s->nope < rows ? r0 + i / s->nope : r0;

		x[i] = bf16_float(
			float_bf16(wide[((size_t)r * s->heads + head) * n + i % s->nope]));
	}
	__syncthreads();
	for (uint32_t c = threadIdx.x; c < s->rank; c += THREADS) {
		float t[ABSORB_ROWS];

		column(t, kv_b, head * (s->nope + s->v), s->nope, c, x, s->nope);
		UNROLL
		for (uint32_t r = 0; r < ABSORB_ROWS; r++)
			if (r < rows)
				q[((size_t)(r0 + r) * s->heads + head) * s->key + c] =
					float_bf16(t[r]);
	}
	for (uint32_t i = threadIdx.x; i < ABSORB_ROWS * (s->key - s->rank) / 2; i += THREADS) {
		uint32_t half = (s->key - s->rank) / 2, r = i / half, p = i % half;
		const float *in;
		uint16_t *out;
		float y[2] = {0.0f, 0.0f};

		if (r >= rows)
			continue;
		in = wide + ((size_t)(r0 + r) * s->heads + head) * n + s->nope + 2 * p;
		out = q + ((size_t)(r0 + r) * s->heads + head) * s->key + s->rank + 2 * p;
		if (p < s->rope / 2)
			rotate(y, in, angle + (size_t)(r0 + r) * s->rope + 2 * p);
		out[0] = float_bf16(y[0]);
		out[1] = float_bf16(y[1]);
	}
	/* an odd number of padding elements */
	if ((s->key - s->rank) % 2 && threadIdx.x < ABSORB_ROWS && threadIdx.x < rows)
		q[((size_t)(r0 + threadIdx.x) * s->heads + head) * s->key + s->key - 1] = 0;
}

DEVICE void do_absorb(const struct job *j)
{
	const struct matrix m = matrix_of(j, &j->c->weight);
	const uint32_t tiles = (j->c->rows + ABSORB_ROWS - 1) / ABSORB_ROWS;

	for (uint32_t u = blockIdx.x; u < j->g->shape.heads * tiles; u += gridDim.x)
		absorb(j, &m, u / tiles, u % tiles * ABSORB_ROWS);
}

/* Shared memory of attention. */
struct attention {
	uint16_t q[HEADS][GPU_KEY_MAX];
	float score[HEADS][256]; /* then BF16 probabilities, as floats */
	float sum[HEADS][GPU_RANK_MAX];
	float lane[HEADS][16];
	float max[HEADS], norm[HEADS], m[HEADS], l[HEADS];
};

/* Scores of this thread's key for HEADS_ONCE heads. */
DEVICE void scores(struct attention *a, const struct dev_shape *s, const uint16_t *key, uint32_t h0)
{
	const uint32_t n = s->rank + s->rope;
	const bool even = is_even(key, 2 * (size_t)s->kv_row);
	float t[HEADS_ONCE][4];

	UNROLL
	for (int h = 0; h < HEADS_ONCE; h++) {
		UNROLL
		for (int l = 0; l < 4; l++)
			t[h][l] = 0.0f;
	}
	for (uint32_t b = 0; b < n; b += 128) {
		float lane[HEADS_ONCE][4];
		uint32_t end = b + 128 < n ? b + 128 : n;

		UNROLL
		for (int h = 0; h < HEADS_ONCE; h++) {
			UNROLL
			for (int l = 0; l < 4; l++)
				lane[h][l] = 0.0f;
		}
		for (uint32_t k = b; k < end; k += 16) {
			float w[16], x[16];

			load_bf16(w, (const char *)key, k, n, even);
			UNROLL
			for (int h = 0; h < HEADS_ONCE; h++) {
				NO_HOIST();
				load_padded(x, a->q[h0 + h], k);
				lanes_add(lane[h], w, x);
			}
		}
		UNROLL
		for (int h = 0; h < HEADS_ONCE; h++) {
			UNROLL
			for (int l = 0; l < 4; l++) {
				if (end != b + 128) /* for the padding left out */
					lane[h][l] = lane[h][l] + 0.0f;
				t[h][l] = t[h][l] + lane[h][l];
			}
		}
	}
	UNROLL
	for (int h = 0; h < HEADS_ONCE; h++)
		a->score[h0 + h][threadIdx.x] =
			((t[h][0] + t[h][2]) + (t[h][1] + t[h][3])) * s->softmax_scale;
}

/* Rule 8 inside a segment: a->m, a->l, probabilities. Keys [first, keys) exist. */
DEVICE void softmax(struct attention *a, uint32_t first, uint32_t keys)
{
	const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;

	/* a warp for each head: the maximum does not depend on the order */
	for (uint32_t h = warp; h < HEADS; h += WARPS) {
		float max = __uint_as_float(0xff800000);

		for (uint32_t i = lane; i < keys; i += 32)
			if (i >= first && a->score[h][i] > max)
				max = a->score[h][i];
		UNROLL
		for (int d = 16; d; d /= 2) {
			float other = __shfl_xor_sync(ALL_LANES, max, d);

			max = other > max ? other : max;
		}
		max = max + 0.0f; /* of several zeros, +0 */
		for (uint32_t i = lane; i < 256; i += 32)
			a->score[h][i] = i >= first && i < keys ? exp_rule(a->score[h][i] - max)
								: 0.0f;
		__syncwarp(ALL_LANES);
		if (lane < 16) {
			float sum = 0.0f;

			for (uint32_t i = lane; i < 256; i += 16)
				sum = sum + a->score[h][i];
			a->lane[h][lane] = sum;
		}
		__syncwarp(ALL_LANES);
		for (uint32_t i = lane; i < 256; i += 32)
			a->score[h][i] = bf16_float(float_bf16(a->score[h][i]));
		if (lane == 0) {
			a->m[h] = max;
			a->l[h] = lanes_tree(a->lane[h]);
		}
	}
}

/*
 * Rule 4 over the keys, columns c and c + 1, for HEADS_ONCE heads; u = [HEADS_ONCE][2]. The last
 * column of an odd rank is computed twice.
 */
DEVICE void value_columns(float u[HEADS_ONCE][2], const struct attention *a, const uint16_t *key,
			  uint32_t kv_row, uint32_t keys, uint32_t c0, uint32_t c1, uint32_t h0)
{
	UNROLL
	for (int h = 0; h < HEADS_ONCE; h++)
		u[h][0] = u[h][1] = 0.0f;
	for (uint32_t i = 0; i < keys; i += 128) {
		uint32_t end = i + 128 < keys ? i + 128 : keys;
		float sum[HEADS_ONCE][2];

		UNROLL
		for (int h = 0; h < HEADS_ONCE; h++)
			sum[h][0] = sum[h][1] = 0.0f;
		for (uint32_t k = i; k < end; k += 2) {
			bool pair = k + 1 < end;
			const uint16_t *even = key + (size_t)k * kv_row, *odd = even + kv_row;
			float w1[2] = {0.0f, 0.0f}, w0[2];

			if (pair) {
				w1[0] = bf16_float(odd[c0]);
				w1[1] = bf16_float(odd[c1]);
			}
			w0[0] = bf16_float(even[c0]);
			w0[1] = bf16_float(even[c1]);
			UNROLL
			for (int h = 0; h < HEADS_ONCE; h++) {
				float p1 = pair ? a->score[h0 + h][k + 1] : 0.0f;
				float p0 = a->score[h0 + h][k];

				UNROLL
				for (int e = 0; e < 2; e++) {
					sum[h][e] = __fmaf_rn(w1[e], p1, sum[h][e]);
					sum[h][e] = __fmaf_rn(w0[e], p0, sum[h][e]);
				}
			}
		}
		UNROLL
		for (int h = 0; h < HEADS_ONCE; h++) {
			UNROLL
			for (int e = 0; e < 2; e++)
				u[h][e] = u[h][e] + (sum[h][e] + 0.0f);
		}
	}
}

/* M' = max(M, m); the factors of what was and of what comes. */
DEVICE float join_factors(float max, float m, float *alpha, float *beta)
{
	float both = m > max ? m : max;

	*alpha = exp_rule(max - both);
	*beta = exp_rule(m - both);
	return both;
}

/* One segment of a row for the heads in shared memory; begins: the first of the block. */
DEVICE void segment(const struct job *j, struct attention *a, const struct dev_row *row,
		    uint32_t index, bool begins)
{
	const struct dev_shape *s = &j->g->shape;
	const uint16_t *key = cached_row(j, page_at(j, row, index * 256), j->c->layer, 0);
	const uint32_t keys = index < row->position / 256 ? 256 : row->position % 256 + 1;
	const uint32_t first = index == row->first_key / 256 ? row->first_key % 256 : 0;

	for (uint32_t h = 0; threadIdx.x < keys && h < HEADS; h += HEADS_ONCE)
		scores(a, s, key + (size_t)threadIdx.x * s->kv_row, h);
	__syncthreads();
	softmax(a, first, keys);
	__syncthreads();
	for (uint32_t c = 2 * threadIdx.x; c < s->rank; c += 2 * THREADS) {
		uint32_t c1 = c + 1 < s->rank ? c + 1 : c;

		for (uint32_t h0 = 0; h0 < HEADS; h0 += HEADS_ONCE) {
			float u[HEADS_ONCE][2];

			value_columns(u, a, key, s->kv_row, keys, c, c1, h0);
			UNROLL
			for (int h = 0; h < HEADS_ONCE; h++) {
				float *sum = a->sum[h0 + h], alpha, beta;

				if (!begins) {
					join_factors(a->max[h0 + h], a->m[h0 + h], &alpha, &beta);
					u[h][0] = __fmaf_rn(sum[c], alpha, u[h][0] * beta);
					u[h][1] = __fmaf_rn(sum[c1], alpha, u[h][1] * beta);
				}
				sum[c] = u[h][0];
				if (c1 != c)
					sum[c1] = u[h][1];
			}
		}
	}
	__syncthreads();
	if (threadIdx.x < HEADS) {
		uint32_t h = threadIdx.x;
		float alpha, beta;

		if (begins) {
			a->max[h] = a->m[h];
			a->norm[h] = a->l[h];
		} else {
			float both = join_factors(a->max[h], a->m[h], &alpha, &beta);

			a->norm[h] = __fmaf_rn(a->norm[h], alpha, a->l[h] * beta);
			a->max[h] = both;
		}
	}
	__syncthreads();
}

/* Queries of heads [h0, h0 + HEADS) of row r; those behind the last head repeat it. */
DEVICE void take_queries(const struct job *j, struct attention *a, uint32_t r, uint32_t h0)
{
	const struct dev_shape *s = &j->g->shape;
	const uint16_t *q = (const uint16_t *)in_frame(j, j->f->q);

	__syncthreads();
	for (uint32_t i = threadIdx.x; i < HEADS * s->key; i += THREADS) {
		uint32_t h = h0 + i / s->key < s->heads ? h0 + i / s->key : s->heads - 1;

		a->q[i / s->key][i % s->key] = q[((size_t)r * s->heads + h) * s->key + i % s->key];
	}
	__syncthreads();
}

DEVICE void leave_head(const struct job *j, uint32_t r, uint32_t head, const float *sum, float norm)
{
	const struct dev_shape *s = &j->g->shape;
	uint16_t *o = (uint16_t *)in_frame(j, j->f->o) + ((size_t)r * s->heads + head) * s->latent;
	float scale = __fdiv_rn(1.0f, norm);

	for (uint32_t c = threadIdx.x; c < s->latent; c += THREADS)
		o[c] = c < s->rank ? float_bf16(sum[c] * scale) : 0;
}

/* Segments of a sequence that a frame can keep apart. */
DEVICE uint32_t split_segments(const struct job *j)
{
	return j->f->splits / (j->f->rows < 8 ? j->f->rows : 8);
}

/* One of the parts that the second phase joins. */
DEVICE void attend_part(const struct job *j, struct attention *a, uint32_t r, uint32_t h0,
			uint32_t index)
{
	const struct dev_shape *s = &j->g->shape;
	size_t part = ((size_t)r * split_segments(j) + index) * s->heads;
	float *sum = (float *)in_frame(j, j->f->part);

	take_queries(j, a, r, h0);
	segment(j, a, row_at(j, r), index, true);
	for (uint32_t h = 0; h < HEADS && h0 + h < s->heads; h++) {
		for (uint32_t c = threadIdx.x; c < s->rank; c += THREADS)
			sum[(part + h0 + h) * s->rank + c] = a->sum[h][c];
		if (threadIdx.x == 0) {
			((float *)in_frame(j, j->f->part_max))[part + h0 + h] = a->max[h];
			((float *)in_frame(j, j->f->part_sum))[part + h0 + h] = a->norm[h];
		}
	}
}

DEVICE void attend_whole(const struct job *j, struct attention *a, uint32_t r, uint32_t h0)
{
	const struct dev_row *row = row_at(j, r);
	const uint32_t first = row->first_key / 256, last = row->position / 256;

	take_queries(j, a, r, h0);
	for (uint32_t i = first; i <= last; i++)
		segment(j, a, row, i, i == first);
	for (uint32_t h = 0; h < HEADS && h0 + h < j->g->shape.heads; h++)
		leave_head(j, r, h0 + h, a->sum[h], a->norm[h]);
}

DEVICE bool is_split(const struct job *j)
{
	return j->c->rows <= 8;
}

DEVICE void do_attend(const struct job *j)
{
	struct attention *a = (struct attention *)j->shared;
	const uint32_t groups = (j->g->shape.heads + HEADS - 1) / HEADS;
	const uint32_t segments = is_split(j) ? split_segments(j) : 1;

	for (uint32_t u = blockIdx.x; u < j->c->rows * segments * groups; u += gridDim.x) {
		uint32_t r = u / groups / segments, index = u / groups % segments;
		uint32_t h0 = u % groups * HEADS;
		const struct dev_row *row = row_at(j, r);

		if (has_failed(j, r))
			continue;
		if (!is_split(j))
			attend_whole(j, a, r, h0);
		else if (index >= row->first_key / 256 && index <= row->position / 256)
			attend_part(j, a, r, h0, index);
	}
}

/* Second phase of few rows: the parts of one head, ascending. */
DEVICE void attend_join(const struct job *j, uint32_t r, uint32_t head)
{
	const struct dev_shape *s = &j->g->shape;
	const struct dev_row *row = row_at(j, r);
	const uint32_t first = row->first_key / 256, last = row->position / 256;
	const float *maxes = (const float *)in_frame(j, j->f->part_max);
	const float *norms = (const float *)in_frame(j, j->f->part_sum);
	const float *sums = (const float *)in_frame(j, j->f->part);
	float *sum = (float *)j->shared, max = 0.0f, norm = 0.0f;

	__syncthreads();
	for (uint32_t i = first; i <= last; i++) {
		size_t part = ((size_t)r * split_segments(j) + i) * s->heads + head;
		const float *u = sums + part * s->rank;
		float alpha = 0.0f, beta = 0.0f, both = maxes[part];

		if (i > first)
			both = join_factors(max, maxes[part], &alpha, &beta);
		for (uint32_t c = threadIdx.x; c < s->rank; c += THREADS)
			sum[c] = i > first ? __fmaf_rn(sum[c], alpha, u[c] * beta) : u[c];
		norm = i > first ? __fmaf_rn(norm, alpha, norms[part] * beta) : norms[part];
		max = both;
	}
	__syncthreads();
	leave_head(j, r, head, sum, norm);
}

DEVICE void do_attend_join(const struct job *j)
{
	const uint32_t heads = j->g->shape.heads;

	for (uint32_t u = blockIdx.x; is_split(j) && u < j->c->rows * heads; u += gridDim.x)
		if (!has_failed(j, u / heads))
			attend_join(j, u / heads, u % heads);
}

#endif
