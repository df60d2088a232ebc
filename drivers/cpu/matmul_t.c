/*
 * Rule 4, the definition: products with the transpose of stored rows, each output a lane of its
 * own. The absorbed query and the attention values are sums of this shape and order.
 */
#include "drivers/cpu/variants.h"

static float widen(const void *data, uint32_t type, size_t at)
{
	return type == WEIGHT_FP8 ? e4m3_values[((const uint8_t *)data)[at]] : bf16_at(data, at);
}

/* The group [i, end) of column c; w points at the contraction's first row. */
static float group_dot(const void *w, uint32_t type, size_t stride, size_t c, const uint16_t *x,
		       size_t i, size_t end)
{
	float a = 0.0f;

	for (; i < end; i += 2) {
		bool pair = i + 1 < end;

		a = fma32(pair ? widen(w, type, (i + 1) * stride + c) : 0.0f,
			  pair ? bf16_to_f32(x[i + 1]) : 0.0f, a);
		a = fma32(widen(w, type, i * stride + c), bf16_to_f32(x[i]), a);
	}
	return a + 0.0f;
}

void matmul_t_scalar(float *y, size_t ldy, const struct weight *w, size_t in0, size_t in1,
		     const uint16_t *x, size_t ldx, size_t rows)
{
	size_t n = w->n_in, blocks = (n + 127) / 128, len = in1 - in0;
	bool fp8 = w->type == WEIGHT_FP8;
	const void *base = (const uint8_t *)w->data + in0 * n * (fp8 ? 1 : 2);

	for (size_t r = 0; r < rows; r++)
		for (size_t c = 0; c < n; c++) {
			float t = 0.0f;

			for (size_t i = 0, end; i < len; i = end) {
				float a;

				end = i / 128 * 128 + 128;
				if (fp8 && (in0 + i) / 128 * 128 + 128 - in0 < end)
					end = (in0 + i) / 128 * 128 + 128 - in0;
				if (end > len)
					end = len;
				a = group_dot(base, w->type, n, c, x + r * ldx, i, end);
				t = fp8 ? fma32(a, w->scale[(in0 + i) / 128 * blocks + c / 128], t)
					: t + a;
			}
			y[r * ldy + c] = t;
		}
}

void dot_rows_t_scalar(float *y, size_t ldy, const uint16_t *key, size_t ldk, size_t keys, size_t n,
		       const uint16_t *x, size_t ldx, size_t rows)
{
	for (size_t r = 0; r < rows; r++)
		for (size_t c = 0; c < n; c++) {
			float t = 0.0f;

			for (size_t i = 0; i < keys; i += 128)
				t = t + group_dot(key, WEIGHT_BF16, ldk, c, x + r * ldx, i,
						  i + 128 < keys ? i + 128 : keys);
			y[r * ldy + c] = t;
		}
}
