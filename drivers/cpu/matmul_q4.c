/*
 * Rule 13, the definition: activations in int8, and products of 4-bit matrices with them. Routed
 * experts of packed stores are multiplied so.
 */
#include "drivers/cpu/variants.h"

/* As CVTPS2DQ rounds: to nearest even. */
static int8_t round_int8(float x)
{
	return (int8_t)_mm_cvtss_si32(_mm_set_ss(x));
}

static void block_to_int8(struct int8_block *y, const uint16_t x[128])
{
	uint16_t largest = 0;
	float max, inv;

	memset(y, 0, sizeof(*y));
	for (size_t i = 0; i < 128; i++)
		largest = (x[i] & 0x7fff) > largest ? x[i] & 0x7fff : largest;
	max = bf16_to_f32(largest);
	if (!(max - max == 0.0f)) {
		y->scale = __builtin_nanf("");
		return;
	}
	if (max < 0x1p-100f)
		return;
	inv = 127.0f / max;
	y->scale = max / 127.0f;
	for (size_t i = 0; i < 128; i++) {
		y->q[i] = round_int8(bf16_to_f32(x[i]) * inv);
		y->start[i / Q4_GROUP] -= 64 * y->q[i];
	}
}

void to_int8_scalar(struct int8_block *y, const uint16_t *x, size_t n)
{
	for (size_t k = 0; k < n; k += 128)
		block_to_int8(&y[k / 128], x + k);
}

static int32_t group_dot(const struct q4_group *g, size_t row, const int8_t table[16],
			 const int8_t q[Q4_GROUP])
{
	int32_t sum = 0;

	for (size_t j = 0; j < 4; j++)
		for (size_t b = 0; b < 4; b++) {
			uint8_t v = g->code[j][row][b];

			sum += table[v & 15] * q[4 * j + b];
			sum += table[v >> 4] * q[4 * (j + 4) + b];
		}
	return sum;
}

static float dot_q4(const struct q4_group *tile, size_t row, const int8_t table[16], size_t groups,
		    const struct int8_block *x)
{
	float t = 0.0f;

	for (size_t g = 0; g < groups; x++) {
		float a = 0.0f;

		for (size_t i = 0; i < 4 && g < groups; i++, g++)
			a = fma32((float)group_dot(&tile[g], row, table, x->q + Q4_GROUP * i),
				  bf16_to_f32(tile[g].scale[row]), a);
		t = fma32(a, x->scale, t);
	}
	return t;
}

void matmul_q4_scalar(float *y, size_t ldy, const struct weight *w, size_t out0, size_t out1,
		      const struct int8_block *x, size_t ldx, size_t rows)
{
	size_t groups = q4_groups(w->n_in);

	for (size_t o = out0; o < out1; o++)
		for (size_t r = 0; r < rows; r++) {
			const struct q4_group *tile = w->data;

			y[r * ldy + (o - out0)] = dot_q4(tile + o / Q4_ROWS * groups, o % Q4_ROWS,
							 w->table, groups, x + r * ldx);
		}
}
