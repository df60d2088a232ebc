/*
 * The elementwise kernels, the definition: residual sums, the weighted sum of experts (rule 11),
 * the joining of attention segments (rule 8) and the rotation of rule 7.
 */
#include "drivers/cpu/variants.h"

void axpy_scalar(float *y, float a, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = fma32(a, x[i], y[i]);
}

void add_scalar(float *y, const float *a, const float *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = a[i] + b[i];
}

void combine_scalar(float *u, float alpha, const float *v, float beta, size_t n)
{
	for (size_t i = 0; i < n; i++)
		u[i] = fma32(u[i], alpha, v[i] * beta);
}

void rope_scalar(float *x, const float *cs, size_t n)
{
	for (size_t i = 0; i + 1 < n; i += 2) {
		float x0 = x[i], x1 = x[i + 1];

		x[i] = fma32(x0, cs[i], -(x1 * cs[i + 1]));
		x[i + 1] = fma32(x0, cs[i + 1], x1 * cs[i]);
	}
}

void scale_scalar(float *y, const float *x, float a, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = x[i] * a;
}
