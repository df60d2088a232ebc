/* Making and reading 4-bit matrices; see q4.h. No product is made here. */
#include "drivers/cpu/q4.h"

#include "drivers/cpu/kernels.h"
#include "drivers/cpu/math.h"

#include <stdbool.h>
#include <string.h>

const int8_t q4_gaussian[16] = {-63, -50, -39, -31, -23, -16, -10, -5,
				1,   7,   13,  19,  27,  35,  46,  61};

enum {
	HALVES = 256, /* of a table entry's unit: -64 to 63.5 */
	TRIES = 10    /* scales tried at each end of the table */
};

/* For each number of half units, offset by 128, the code of the nearest entry. */
static void nearest_codes(uint8_t code[HALVES], const int8_t table[16])
{
	uint8_t c = 0;

	for (int v = 0; v < HALVES; v++) {
		while (c < 15 && v - 128 > table[c] + table[c + 1])
			c++;
		code[v] = c;
	}
}

static uint8_t code_of(const uint8_t code[HALVES], float units)
{
	float v = units * 2.0f;
	int i;

	v = v > -128.0f ? v : -128.0f;
	v = v < 127.0f ? v : 127.0f;
	i = (int)(v + 0x1.8p23f - 0x1.8p23f); /* to the nearest integer */
	return code[i + 128];
}

static void set_code(struct q4_group *g, size_t row, size_t input, uint8_t code)
{
	uint8_t *p = &g->code[input % 16 / 4][row][input % 4];

	*p = (uint8_t)(input < 16 ? (*p & 0xf0) | code : (*p & 15) | code << 4);
}

/* What the best scale for the codes that 1 / inv gives would explain of the sum of squares. */
static float explained(const float w[Q4_GROUP], float inv, const uint8_t code[HALVES],
		       const int8_t table[16], float *scale)
{
	float wt = 0.0f, tt = 0.0f;

	for (size_t i = 0; i < Q4_GROUP; i++) {
		float t = (float)table[code_of(code, w[i] * inv)];

		wt += w[i] * t;
		tt += t * t;
	}
	if (!(tt > 0.0f))
		return 0.0f;
	*scale = wt / tt;
	return wt / tt * wt;
}

/*
 * The scale of a group: the largest weight is laid at either end of the table and some way inside
 * and outside of it, each time the best scale for the codes so found is taken.
 */
static float best_scale(const float w[Q4_GROUP], const uint8_t code[HALVES], const int8_t table[16])
{
	float most = 0.0f, best = 0.0f, scale = 0.0f;

	for (size_t i = 0; i < Q4_GROUP; i++) {
		float size = w[i] < 0.0f ? -w[i] : w[i];

		if (!(size - size == 0.0f))
			return __builtin_nanf("");
		if (size > (most < 0.0f ? -most : most))
			most = w[i];
	}
	if (most == 0.0f)
		return 0.0f;
	for (int end = 0; end < 16; end += 15)
		for (int i = 0; i < TRIES; i++) {
			float s = 0.0f, inv = (float)table[end] * (0.76f + 0.04f * (float)i) / most;
			float e = explained(w, inv, code, table, &s);

			if (e > best) {
				best = e;
				scale = s;
			}
		}
	return scale;
}

static void pack_group(struct q4_group *g, size_t row, const float w[Q4_GROUP],
		       const uint8_t code[HALVES], const int8_t table[16])
{
	float scale;

	g->scale[row] = f32_to_bf16(best_scale(w, code, table));
	scale = bf16_to_f32(g->scale[row]);
	for (size_t i = 0; i < Q4_GROUP; i++)
		set_code(g, row, i,
			 scale - scale == 0.0f && scale != 0.0f ? code_of(code, w[i] / scale) : 0);
}

void q4_pack_tile(struct q4_group *tile, const float *w, size_t ld, size_t rows, size_t n_in,
		  const int8_t table[16])
{
	uint8_t code[HALVES];

	nearest_codes(code, table);
	memset(tile, 0, q4_tile_bytes(n_in));
	for (size_t r = 0; r < rows; r++)
		for (size_t k = 0; k < n_in; k += Q4_GROUP) {
			float group[Q4_GROUP] = {0};
			size_t n = n_in - k < Q4_GROUP ? n_in - k : Q4_GROUP;

			memcpy(group, w + r * ld + k, n * sizeof(*w));
			pack_group(&tile[k / Q4_GROUP], r, group, code, table);
			for (size_t i = n; i < Q4_GROUP; i++)
				set_code(&tile[k / Q4_GROUP], r, i, 0);
		}
}

void q4_unpack_row(float *w, const struct q4_group *tile, size_t row, size_t n_in,
		   const int8_t table[16])
{
	for (size_t i = 0; i < n_in; i++) {
		const struct q4_group *g = &tile[i / Q4_GROUP];

		w[i] = (float)table[q4_code(g, row, i % Q4_GROUP)] * bf16_to_f32(g->scale[row]);
	}
}
