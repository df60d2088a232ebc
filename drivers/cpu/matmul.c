/*
 * Rule 3, the definition: dot products of stored rows with BF16 activations. Every linear layer,
 * the gate, the head and the attention scores are sums of this shape and order.
 */
#include "drivers/cpu/variants.h"

/* One block of 128 columns: n of them exist, the rest are +0. */
static void widen_bf16(float v[128], const uint8_t *w, size_t n)
{
	for (size_t k = 0; k < 128; k++)
		v[k] = k < n ? bf16_at(w, k) : 0.0f;
}

static void widen_fp8(float v[128], const uint8_t *w, size_t n)
{
	for (size_t k = 0; k < 128; k++)
		v[k] = k < n ? e4m3_values[w[k]] : 0.0f;
}

/*
 * Four lanes; lane l takes the pairs l, l + 4, l + 8, ... of the block, in each the odd element
 * first.
 */
static void block_dot(float a[4], const float v[128], const uint16_t x[128])
{
	for (size_t l = 0; l < 4; l++)
		a[l] = 0.0f;
	for (size_t p = 0; p < 16; p++)
		for (size_t l = 0; l < 4; l++) {
			size_t k = 8 * p + 2 * l;

			a[l] = fma32(v[k + 1], bf16_to_f32(x[k + 1]), a[l]);
			a[l] = fma32(v[k], bf16_to_f32(x[k]), a[l]);
		}
}

static float dot_bf16(const uint8_t *w, size_t n, const uint16_t *x)
{
	float t[4] = {0}, a[4], v[128];

	for (size_t k = 0; k < n; k += 128) {
		widen_bf16(v, w + 2 * k, n - k);
		block_dot(a, v, x + k);
		for (size_t l = 0; l < 4; l++)
			t[l] = t[l] + a[l];
	}
	return (t[0] + t[2]) + (t[1] + t[3]);
}

/* scale: of this row of blocks, one per 128 columns */
static float dot_fp8(const uint8_t *w, const float *scale, size_t n, const uint16_t *x)
{
	float t[4] = {0}, a[4], v[128];

	for (size_t k = 0; k < n; k += 128) {
		widen_fp8(v, w + k, n - k);
		block_dot(a, v, x + k);
		for (size_t l = 0; l < 4; l++)
			t[l] = fma32(a[l], scale[k / 128], t[l]);
	}
	return (t[0] + t[2]) + (t[1] + t[3]);
}

void matmul_scalar(float *y, size_t ldy, const struct weight *w, size_t out0, size_t out1,
		   const uint16_t *x, size_t ldx, size_t rows)
{
	size_t n = w->n_in, blocks = (n + 127) / 128;

	for (size_t o = out0; o < out1; o++)
		for (size_t r = 0; r < rows; r++)
			y[r * ldy + (o - out0)] =
				w->type == WEIGHT_FP8
					? dot_fp8((const uint8_t *)w->data + o * n,
						  w->scale + o / 128 * blocks, n, x + r * ldx)
					: dot_bf16((const uint8_t *)w->data + 2 * o * n, n,
						   x + r * ldx);
}

void dot_rows_scalar(float *y, size_t ldy, const uint16_t *key, size_t ldk, size_t keys, size_t n,
		     const uint16_t *x, size_t ldx, size_t rows)
{
	for (size_t j = 0; j < keys; j++)
		for (size_t r = 0; r < rows; r++)
			y[r * ldy + j] = dot_bf16((const uint8_t *)(key + j * ldk), n, x + r * ldx);
}
