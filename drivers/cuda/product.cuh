/*
 * Rules 3 and 13: products of stored rows with activations. A warp takes some outputs; each of its
 * threads sums the four lanes of one block of 128 columns, then the blocks are folded in ascending
 * order, one thread for each lane of each output. Blocks are independent: that is the parallelism.
 */
#ifndef DRIVERS_CUDA_PRODUCT_CUH
#define DRIVERS_CUDA_PRODUCT_CUH

#include "drivers/cuda/device.cuh"

enum {
	ROWS_MR = 2,    /* weight rows of a thread: they share a read of the activations */
	TILE_ROWS = 4,  /* activation rows at once: they share a read of the weights */
	SLOTS_MAX = 4,  /* groups of weight rows of a warp, where rows are short */
	FOLDS_MAX = SLOTS_MAX * ROWS_MR * TILE_ROWS * 4 / 32,
	PART_FLOATS = 1184 /* of a warp: what its blocks give, before the fold */
};

/* A matrix as the tiles read it. */
struct matrix {
	const char *data;
	const float *scale;
	uint32_t n_out, n_in, type; /* enum weight_type: 0 BF16, 1 FP8, 2 four bits */
	bool even;
};

DEVICE struct matrix matrix_of(const struct job *j, const struct dev_weight *w)
{
	struct matrix m;

	m.data = (const char *)at(j, w->data);
	m.scale = (const float *)at(j, w->scale);
	m.n_out = w->n_out;
	m.n_in = w->n_in;
	m.type = w->type;
	m.even = is_even(m.data, w->type == 1 ? m.n_in : 2 * (size_t)m.n_in);
	return m;
}

/* How a warp is divided for rows of n columns. */
struct split {
	uint32_t blocks, span, slots; /* span: blocks at once, a power of two; slots * span <= 32 */
};

DEVICE struct split split_of(uint32_t n)
{
	struct split s;

	s.blocks = (n + 127) / 128;
	s.span = 32;
	while (s.span > 1 && s.span / 2 >= s.blocks)
		s.span /= 2;
	s.slots = 32 / s.span < SLOTS_MAX ? 32 / s.span : SLOTS_MAX;
	return s;
}

/* Outputs of one tile: of a warp. */
DEVICE uint32_t tile_outputs(const struct split *s)
{
	return s->slots * ROWS_MR;
}

/* Lanes of block b for ROWS_MR rows from o on and R activation rows. */
DEVICE void block_lanes(float a[ROWS_MR][TILE_ROWS][4], const struct matrix *m, uint32_t o,
			uint32_t end, uint32_t b, const uint16_t *const x[TILE_ROWS], const int R)
{
	const uint32_t k1 = 128 * b + 128 < m->n_in ? 128 * b + 128 : m->n_in;

	UNROLL
	for (int i = 0; i < ROWS_MR; i++) {
		UNROLL
		for (int r = 0; r < R; r++) {
			UNROLL
			for (int l = 0; l < 4; l++)
				a[i][r][l] = 0.0f;
		}
	}
	UNROLL_1
	for (uint32_t k = 128 * b; k < k1; k += 16) {
		float w[ROWS_MR][16];

		UNROLL
		for (int i = 0; i < ROWS_MR; i++) {
			uint32_t row = o + i < end ? o + i : end - 1;

			if (m->type == 1)
				load_fp8(w[i], m->data + (size_t)row * m->n_in, k, m->n_in, m->even);
			else
				load_bf16(w[i], m->data + 2 * (size_t)row * m->n_in, k, m->n_in,
					  m->even);
		}
		UNROLL
		for (int r = 0; r < R; r++) {
			float v[16];

			NO_HOIST();
			load_padded(v, x[r], k);
			UNROLL
			for (int i = 0; i < ROWS_MR; i++)
				lanes_add(a[i][r], w[i], v);
		}
	}
	if (k1 == 128 * b + 128)
		return;
	UNROLL
	for (int i = 0; i < ROWS_MR; i++) {
		UNROLL
		for (int r = 0; r < R; r++) {
			UNROLL
			for (int l = 0; l < 4; l++)
				a[i][r][l] = a[i][r][l] + 0.0f; /* for the padding left out */
		}
	}
}

/*
 * One tile: outputs [o, o + tile_outputs) below `end` for R activation rows. Thread `lane` gets
 * y[n] of fold n * 32 + lane; fold f is lane f % 4 of activation row f / 4 % R of output o + f / 4
 * / R, and its y is valid where f % 4 is 0.
 */
DEVICE void tile(float y[FOLDS_MAX], const struct job *j, const struct matrix *m,
		 const struct split *s, uint32_t o, uint32_t end,
		 const uint16_t *const x[TILE_ROWS], const int R)
{
	const uint32_t lane = threadIdx.x % 32, slot = lane / s->span, b0 = lane % s->span;
	const uint32_t folds = tile_outputs(s) * R * 4, stride = s->span + 1;
	float *part = (float *)j->shared + threadIdx.x / 32 * PART_FLOATS;
	float a[ROWS_MR][TILE_ROWS][4], t[FOLDS_MAX];

	UNROLL
	for (int n = 0; n < FOLDS_MAX; n++)
		t[n] = 0.0f;
	for (uint32_t first = 0; first < s->blocks; first += s->span) {
		uint32_t n_blocks = s->blocks - first < s->span ? s->blocks - first : s->span;

		if (slot < s->slots && b0 < n_blocks && o + slot * ROWS_MR < end) {
			block_lanes(a, m, o + slot * ROWS_MR, end, first + b0, x, R);
			UNROLL
			for (int i = 0; i < ROWS_MR; i++) {
				UNROLL
				for (int r = 0; r < R; r++) {
					UNROLL
					for (int l = 0; l < 4; l++)
						part[(((slot * ROWS_MR + i) * R + r) * 4 + l) *
							     stride +
						     b0] = a[i][r][l];
				}
			}
		}
		__syncwarp(ALL_LANES);
		UNROLL
		for (int n = 0; n < FOLDS_MAX; n++) {
			uint32_t f = n * 32 + lane, row = o + f / 4 / R;

			if (f >= folds || row >= end)
				continue;
			if (m->type == 1) {
				const float *scale = m->scale +
						     (size_t)(row / 128) * s->blocks + first;

				for (uint32_t b = 0; b < n_blocks; b++)
					t[n] = __fmaf_rn(part[f * stride + b], scale[b], t[n]);
			} else {
				for (uint32_t b = 0; b < n_blocks; b++)
					t[n] = t[n] + part[f * stride + b];
			}
		}
		__syncwarp(ALL_LANES);
	}
	UNROLL
	for (int n = 0; n < FOLDS_MAX; n++) {
		float two = t[n] + __shfl_xor_sync(ALL_LANES, t[n], 2);

		y[n] = two + __shfl_xor_sync(ALL_LANES, two, 1);
	}
}

/* Activation rows [r, r + R) of a stride; rows that are not there repeat the last. */
DEVICE void rows_of(const uint16_t *x[TILE_ROWS], const uint16_t *from, size_t ldx, uint32_t r,
		    uint32_t rows)
{
	UNROLL
	for (int i = 0; i < TILE_ROWS; i++)
		x[i] = from + (r + i < rows ? r + i : rows - 1) * ldx;
}

/* y = W x for the units of this block: a unit is WARPS tiles of outputs. */
DEVICE void matmul_rows(const struct job *j, float *y, size_t ldy, const struct matrix *m,
			const uint16_t *from, size_t ldx, uint32_t r, uint32_t rows, const int R)
{
	const struct split s = split_of(m->n_in);
	const uint32_t lane = threadIdx.x % 32, outs = tile_outputs(&s);
	const uint16_t *x[TILE_ROWS];

	rows_of(x, from, ldx, r, rows);
	for (uint32_t o = (blockIdx.x * WARPS + threadIdx.x / 32) * outs; o < m->n_out;
	     o += gridDim.x * WARPS * outs) {
		float got[FOLDS_MAX];

		tile(got, j, m, &s, o, m->n_out, x, R);
		UNROLL
		for (int n = 0; n < FOLDS_MAX; n++) {
			uint32_t f = n * 32 + lane, row = o + f / 4 / R, to = r + f / 4 % R;

			if (f < outs * R * 4 && f % 4 == 0 && row < m->n_out && to < rows)
				y[to * ldy + row] = got[n];
		}
	}
}

DEVICE void do_matmul(const struct job *j)
{
	const struct command *c = j->c;
	const struct matrix m = matrix_of(j, &c->weight);
	const uint16_t *x = (const uint16_t *)at(j, c->from);
	float *y = (float *)at(j, c->to);

	if (c->rows == 1) {
		matmul_rows(j, y, c->ldy, &m, x, c->ldx, 0, 1, 1);
		return;
	}
	for (uint32_t r = 0; r < c->rows; r += TILE_ROWS)
		matmul_rows(j, y, c->ldy, &m, x, c->ldx, r, c->rows, TILE_ROWS);
}

/*
 * v = BF16(silu(g) * u) of outputs [o, o + tile_outputs) for R rows of x, row i to v[i] (NULL: not
 * wanted), +0 up to n_padded behind the last output.
 */
DEVICE void enter_tile(const struct job *j, const struct matrix *gate, const struct matrix *up,
		       const struct split *s, uint32_t o, const uint16_t *const x[TILE_ROWS],
		       uint16_t *const v[TILE_ROWS], uint32_t n_padded, const int R)
{
	const uint32_t lane = threadIdx.x % 32, outs = tile_outputs(s);
	float g[FOLDS_MAX], u[FOLDS_MAX];

	tile(g, j, gate, s, o, gate->n_out, x, R);
	tile(u, j, up, s, o, gate->n_out, x, R);
	UNROLL
	for (int n = 0; n < FOLDS_MAX; n++) {
		uint32_t f = n * 32 + lane, row = o + f / 4 / R, r = f / 4 % R;

		if (f >= outs * R * 4 || f % 4 || row >= gate->n_out)
			continue;
		UNROLL
		for (int i = 0; i < R; i++) {
			if (r != (uint32_t)i || !v[i])
				continue;
			v[i][row] = float_bf16(silu_rule(g[n]) * u[n]);
			if (row + 1 == gate->n_out)
				for (uint32_t p = row + 1; p < n_padded; p++)
					v[i][p] = 0;
		}
	}
}

DEVICE void enter_rows(const struct job *j, const struct matrix *gate, const struct matrix *up,
		       uint32_t r, const int R)
{
	const struct command *c = j->c;
	const struct split s = split_of(gate->n_in);
	const uint16_t *x[TILE_ROWS];
	uint16_t *v[TILE_ROWS];

	rows_of(x, (const uint16_t *)at(j, c->from), c->ldx, r, c->rows);
	UNROLL
	for (int i = 0; i < TILE_ROWS; i++)
		v[i] = r + i < c->rows ? (uint16_t *)at(j, c->to) + (size_t)(r + i) * c->ldy : NULL;
	for (uint32_t o = (blockIdx.x * WARPS + threadIdx.x / 32) * tile_outputs(&s);
	     o < gate->n_out; o += gridDim.x * WARPS * tile_outputs(&s))
		enter_tile(j, gate, up, &s, o, x, v, c->ldy, R);
}

DEVICE void do_enter(const struct job *j)
{
	const struct matrix gate = matrix_of(j, &j->c->weight), up = matrix_of(j, &j->c->weight2);

	if (j->c->rows == 1) {
		enter_rows(j, &gate, &up, 0, 1);
		return;
	}
	for (uint32_t r = 0; r < j->c->rows; r += TILE_ROWS)
		enter_rows(j, &gate, &up, r, TILE_ROWS);
}

/* Per head, BF16(W_UV o): outputs [uv, uv + v) of kv_b, activations a row's part of that head. */
DEVICE void values_rows(const struct job *j, const struct matrix *kv_b, uint32_t head, uint32_t r,
			const int R)
{
	const struct dev_shape *s = &j->g->shape;
	const struct split split = split_of(kv_b->n_in);
	const uint32_t lane = threadIdx.x % 32, outs = tile_outputs(&split);
	const uint32_t uv = head * (s->nope + s->v) + s->nope;
	const uint32_t end = head + 1 == s->heads ? s->o_in : (head + 1) * s->v;
	const uint16_t *x[TILE_ROWS];
	uint16_t *ov = (uint16_t *)in_frame(j, j->f->ov);

	rows_of(x, (const uint16_t *)in_frame(j, j->f->o) + head * s->latent,
		(size_t)s->heads * s->latent, r, j->c->rows);
	for (uint32_t o = threadIdx.x / 32 * outs; o < s->v; o += WARPS * outs) {
		float got[FOLDS_MAX];

		tile(got, j, kv_b, &split, uv + o, uv + s->v, x, R);
		UNROLL
		for (int n = 0; n < FOLDS_MAX; n++) {
			uint32_t f = n * 32 + lane, i = o + f / 4 / R, to = r + f / 4 % R;

			if (f < outs * R * 4 && f % 4 == 0 && i < s->v && to < j->c->rows)
				ov[(size_t)to * s->o_in + head * s->v + i] = float_bf16(got[n]);
		}
	}
	for (uint32_t i = head * s->v + s->v + threadIdx.x; i < end; i += THREADS)
		for (uint32_t to = r; to < r + R && to < j->c->rows; to++)
			ov[(size_t)to * s->o_in + i] = 0;
}

DEVICE void do_values(const struct job *j)
{
	const struct matrix m = matrix_of(j, &j->c->weight);
	const uint32_t heads = j->g->shape.heads, rows = j->c->rows;
	const uint32_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;

	for (uint32_t u = blockIdx.x; u < heads * tiles; u += gridDim.x) {
		if (rows == 1)
			values_rows(j, &m, u, 0, 1);
		else
			values_rows(j, &m, u / tiles, u % tiles * TILE_ROWS, TILE_ROWS);
	}
}

#endif
