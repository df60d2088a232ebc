/*
 * Number formats: BF16 (rule 2) and E4M3FN. Called by the scalar kernels, by model/ where single
 * numbers are converted, and by the maker of synthetic checkpoints (f32_to_e4m3).
 */
#include "drivers/cpu/math.h"
#include "drivers/cpu/variants.h"

#include <string.h>

/* On the bits alone, so that it does not depend on the caller's FTZ and DAZ. */
uint16_t f32_to_bf16(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	if ((u & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(u >> 16 | 0x40);
	if (!(u & 0x7f800000))
		return (uint16_t)(u >> 16 & 0x8000);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

void to_bf16_scalar(uint16_t *y, const float *x, size_t n, size_t n_padded)
{
	for (size_t i = 0; i < n; i++)
		y[i] = f32_to_bf16(x[i]);
	for (size_t i = n; i < n_padded; i++)
		y[i] = 0;
}

/*
 * Four bits of exponent with bias 7, three of mantissa, no infinities; all its subnormals are
 * normal in FP32.
 */
#define E4M3_ABS(v)                                                                                \
	(((v)&127) == 127 ? __builtin_nanf("")                                                     \
	 : ((v)&127) < 8  ? (float)((v)&7) * 0x1p-9f                                               \
			  : (float)((((v)&7) + 8) << ((v) >> 3 & 15)) * 0x1p-10f)
#define E4M3(v)    (((v)&128 ? -1.0f : 1.0f) * E4M3_ABS(v))
#define E4M3_4(v)  E4M3(v), E4M3((v) + 1), E4M3((v) + 2), E4M3((v) + 3)
#define E4M3_16(v) E4M3_4(v), E4M3_4((v) + 4), E4M3_4((v) + 8), E4M3_4((v) + 12)
#define E4M3_64(v) E4M3_16(v), E4M3_16((v) + 16), E4M3_16((v) + 32), E4M3_16((v) + 48)

const float e4m3_values[256] = {E4M3_64(0), E4M3_64(64), E4M3_64(128), E4M3_64(192)};

float e4m3_to_f32(uint8_t x)
{
	return e4m3_values[x];
}

uint8_t f32_to_e4m3(float x)
{
	uint32_t u, sign, code;
	float a;

	memcpy(&u, &x, sizeof(u));
	sign = u >> 24 & 0x80;
	u &= 0x7fffffff;
	if (u > 0x7f800000)
		return 0x7f;
	memcpy(&a, &u, sizeof(a));
	if (a < 0x1p-6f) /* a multiple of 2^-9; adding 2^23 rounds to the nearest even integer */
		return (uint8_t)(sign | (uint32_t)(a * 0x1p9f + 0x1p23f - 0x1p23f));
	if (a >= 448.0f)
		return (uint8_t)(sign | 0x7e);
	code = ((u + 0x7ffff + (u >> 20 & 1)) >> 20) - ((127 - 7) << 3);
	return (uint8_t)(sign | code);
}
