/*
 * Rule 6, the definition: sums over a vector in 16 lanes and a tree, RMSNorm, and the softmax of
 * one segment of keys (rule 8); and the two questions that a vector of logits is asked.
 */
#include "drivers/cpu/math.h"
#include "drivers/cpu/variants.h"

float lanes_sum(float a[16])
{
	for (size_t half = 8; half; half /= 2)
		for (size_t l = 0; l < half; l++)
			a[l] = a[l] + a[l + half];
	return a[0];
}

float sum_scalar(const float *x, size_t n)
{
	float a[16] = {0};

	for (size_t i = 0; i < n; i += 16)
		for (size_t l = 0; l < 16; l++)
			a[l] = a[l] + (i + l < n ? x[i + l] : 0.0f);
	return lanes_sum(a);
}

void rmsnorm_scalar(float *y, const float *x, const float *w, size_t n, float eps)
{
	float a[16] = {0}, r;

	for (size_t i = 0; i < n; i += 16)
		for (size_t l = 0; l < 16; l++) {
			float v = i + l < n ? x[i + l] : 0.0f;

			a[l] = fma32(v, v, a[l]);
		}
	r = 1.0f / sqrt_f32(lanes_sum(a) / (float)n + eps);
	for (size_t i = 0; i < n; i++)
		y[i] = (x[i] * r) * w[i];
}

void softmax_segment_scalar(uint16_t p[256], const float *s, size_t first, size_t n, float *m,
			    float *l)
{
	float a[16] = {0}, max = -__builtin_inff();

	for (size_t i = first; i < n; i++) /* a NaN is passed over here and spoils the sum below */
		max = s[i] > max ? s[i] : max;
	max = max + 0.0f; /* of several zeros, +0: the maximum must not depend on the order */
	for (size_t i = 0; i < 256; i++) {
		float e = i >= first && i < n ? exp_f32(s[i] - max) : 0.0f;

		a[i % 16] = a[i % 16] + e;
		p[i] = f32_to_bf16(e);
	}
	*m = max;
	*l = lanes_sum(a);
}

size_t argmax_scalar(const float *x, size_t n)
{
	size_t best = 0;

	for (size_t i = 0; i < n; i++) {
		if (x[i] != x[i])
			return SIZE_MAX;
		if (x[i] > x[best])
			best = i;
	}
	return best;
}

bool all_finite_scalar(const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!(x[i] - x[i] == 0.0f)) /* NaN for a NaN and for an infinity */
			return false;
	return true;
}
