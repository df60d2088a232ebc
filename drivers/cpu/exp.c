/*
 * Rule 5: exp, and the two functions made of it. Called elementwise by the kernels below and by
 * model/. At most 0.9 ulp; the same operations in every variant, so the same bits.
 */
#include "drivers/cpu/math.h"
#include "drivers/cpu/variants.h"

#include <string.h>

static uint32_t bits_of(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	return u;
}

static float float_of(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

float exp_f32(float x)
{
	float z, n, r, p;

	if (x < -0x1.5d589ep+6f)
		return 0.0f;
	if (x > 0x1.62e42ep+6f)
		return __builtin_inff();
	if (x != x)
		return x;
	/*
	 * the addition leaves round(x / ln 2) in z's low mantissa bits, which the shift turns into
	 * an exponent
	 */
	z = fma32(x, 0x1.715476p+0f, 0x1.8p+23f);
	n = z - 0x1.8p+23f;
	r = fma32(n, -0x1.62e43p-1f, x);
	r = fma32(n, 0x1.05c61p-29f, r);
	p = 0x1.6a2402p-10f;
	p = fma32(p, r, 0x1.123ap-7f);
	p = fma32(p, r, 0x1.5558f2p-5f);
	p = fma32(p, r, 0x1.555492p-3f);
	p = fma32(p, r, 0x1.fffffcp-2f);
	p = fma32(p, r, 0x1p0f);
	p = fma32(p, r, 0x1p0f);
	return float_of(bits_of(p) + (bits_of(z) << 23));
}

float sigmoid_f32(float x)
{
	return 1.0f / (1.0f + exp_f32(-x));
}

float silu_f32(float x)
{
	return x / (1.0f + exp_f32(-x));
}

void exp_scalar(float *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = exp_f32(x[i]);
}

void sigmoid_scalar(float *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = sigmoid_f32(x[i]);
}

/* Rule 11. */
void silu_mul_scalar(uint16_t *v, const float *g, const float *u, size_t n, size_t n_padded)
{
	for (size_t i = 0; i < n; i++)
		v[i] = f32_to_bf16(silu_f32(g[i]) * u[i]);
	for (size_t i = n; i < n_padded; i++)
		v[i] = 0;
}
