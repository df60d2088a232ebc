/*
 * The vector kernels (reduce.c, vector.c, exp.c, convert.c are their definition) over 16 lanes of
 * FP32, written once for AVX2 and AVX-512. Included by vector_avx2.c and vector_avx512.c, each of
 * which first defines the type v16 and v_load, v_load_part (the first n < 16 elements, then +0),
 * v_store, v_store_part, v_set, v_add, v_sub, v_mul, v_div, v_fma, v_max (a > b ? a : b), v_equal
 * and v_unordered (one bit per lane), v_exp, v_to_bf16, v_rotate.
 */
#include "drivers/cpu/variants.h"

#include <string.h>

static float v_sum(v16 v)
{
	float a[16];

	v_store(a, v);
	return lanes_sum(a);
}

static float sum_simd(const float *x, size_t n)
{
	v16 a = v_set(0.0f);
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		a = v_add(a, v_load(x + i));
	if (i < n)
		a = v_add(a, v_load_part(x + i, n - i));
	return v_sum(a);
}

static void rmsnorm_simd(float *y, const float *x, const float *w, size_t n, float eps)
{
	v16 a = v_set(0.0f), v, r;
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		v = v_load(x + i);
		a = v_fma(v, v, a);
	}
	if (i < n) {
		v = v_load_part(x + i, n - i);
		a = v_fma(v, v, a);
	}
	r = v_set(1.0f / sqrt_f32(v_sum(a) / (float)n + eps));
	for (i = 0; i + 16 <= n; i += 16)
		v_store(y + i, v_mul(v_mul(v_load(x + i), r), v_load(w + i)));
	if (i < n)
		v_store_part(y + i,
			     v_mul(v_mul(v_load_part(x + i, n - i), r), v_load_part(w + i, n - i)),
			     n - i);
}

/* The last, incomplete vector of a BF16 row and the zeros after it */
static void finish_bf16(uint16_t *y, v16 v, size_t i, size_t n, size_t n_padded)
{
	uint16_t last[16];

	if (i < n) {
		v_to_bf16(last, v);
		memcpy(y + i, last, (n - i) * sizeof(*y));
	}
	if (n < n_padded)
		memset(y + n, 0, (n_padded - n) * sizeof(*y));
}

static void to_bf16_simd(uint16_t *y, const float *x, size_t n, size_t n_padded)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		v_to_bf16(y + i, v_load(x + i));
	finish_bf16(y, v_load_part(x + i, n - i), i, n, n_padded);
}

static v16 v_sigmoid_of(v16 numerator, v16 x)
{
	const v16 one = v_set(1.0f);

	return v_div(numerator, v_add(one, v_exp(v_negate(x))));
}

static void silu_mul_simd(uint16_t *v, const float *g, const float *u, size_t n, size_t n_padded)
{
	size_t i = 0;
	v16 x;

	for (; i + 16 <= n; i += 16) {
		x = v_load(g + i);
		v_to_bf16(v + i, v_mul(v_sigmoid_of(x, x), v_load(u + i)));
	}
	x = v_load_part(g + i, n - i);
	finish_bf16(v, v_mul(v_sigmoid_of(x, x), v_load_part(u + i, n - i)), i, n, n_padded);
}

static void exp_simd(float *y, const float *x, size_t n)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		v_store(y + i, v_exp(v_load(x + i)));
	if (i < n)
		v_store_part(y + i, v_exp(v_load_part(x + i, n - i)), n - i);
}

static void sigmoid_simd(float *y, const float *x, size_t n)
{
	const v16 one = v_set(1.0f);
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		v_store(y + i, v_sigmoid_of(one, v_load(x + i)));
	if (i < n)
		v_store_part(y + i, v_sigmoid_of(one, v_load_part(x + i, n - i)), n - i);
}

/* Lanes i .. i + 15 of the scores; keys that do not exist read as -Inf, whose exp is +0 */
static v16 existing(const float *s, size_t i, size_t first, size_t n)
{
	float v[16];

	if (i >= first && i + 16 <= n)
		return v_load(s + i);
	for (size_t l = 0; l < 16; l++)
		v[l] = i + l >= first && i + l < n ? s[i + l] : -__builtin_inff();
	return v_load(v);
}

static void softmax_segment_simd(uint16_t p[256], const float *s, size_t first, size_t n, float *m,
				 float *l)
{
	v16 top = v_set(-__builtin_inff()), a = v_set(0.0f), max;
	float lane[16], best = -__builtin_inff();

	for (size_t i = first / 16 * 16; i < n; i += 16)
		top = v_max(existing(s, i, first, n), top);
	v_store(lane, top);
	for (size_t i = 0; i < 16; i++)
		best = lane[i] > best ? lane[i] : best;
	best = best + 0.0f;
	if (!(best - best ==
	      0.0f)) { /* no key, or infinities: -Inf does not stand for a missing key there */
		softmax_segment_scalar(p, s, first, n, m, l);
		return;
	}
	max = v_set(best);
	for (size_t i = 0; i < 256; i += 16) {
		if (i >= n || i + 16 <= first) {
			memset(p + i, 0, 16 * sizeof(*p));
			continue;
		}
		v16 e = v_exp(v_sub(existing(s, i, first, n), max));

		a = v_add(a, e);
		v_to_bf16(p + i, e);
	}
	*m = best;
	*l = v_sum(a);
}

static void axpy_simd(float *y, float a, const float *x, size_t n)
{
	const v16 f = v_set(a);
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		v_store(y + i, v_fma(f, v_load(x + i), v_load(y + i)));
	if (i < n)
		v_store_part(y + i, v_fma(f, v_load_part(x + i, n - i), v_load_part(y + i, n - i)),
			     n - i);
}

static void add_simd(float *y, const float *a, const float *b, size_t n)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		v_store(y + i, v_add(v_load(a + i), v_load(b + i)));
	if (i < n)
		v_store_part(y + i, v_add(v_load_part(a + i, n - i), v_load_part(b + i, n - i)),
			     n - i);
}

static void combine_simd(float *u, float alpha, const float *v, float beta, size_t n)
{
	const v16 a = v_set(alpha), b = v_set(beta);
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		v_store(u + i, v_fma(v_load(u + i), a, v_mul(v_load(v + i), b)));
	if (i < n)
		v_store_part(
			u + i,
			v_fma(v_load_part(u + i, n - i), a, v_mul(v_load_part(v + i, n - i), b)),
			n - i);
}

static void rope_simd(float *x, const float *cs, size_t n)
{
	size_t i = 0;

	n &= ~(size_t)1;
	for (; i + 16 <= n; i += 16)
		v_store(x + i, v_rotate(v_load(x + i), v_load(cs + i)));
	if (i < n)
		v_store_part(x + i, v_rotate(v_load_part(x + i, n - i), v_load_part(cs + i, n - i)),
			     n - i);
}

static void scale_simd(float *y, const float *x, float a, size_t n)
{
	const v16 f = v_set(a);
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		v_store(y + i, v_mul(v_load(x + i), f));
	if (i < n)
		v_store_part(y + i, v_mul(v_load_part(x + i, n - i), f), n - i);
}

/*
 * First the largest value, then the first place that holds it: comparisons see zeros of either sign
 * as equal.
 */
static size_t argmax_simd(const float *x, size_t n)
{
	size_t whole = n & ~(size_t)15;
	v16 top = v_set(-__builtin_inff());
	float lane[16], best = -__builtin_inff();
	unsigned nan = 0;

	for (size_t i = 0; i < whole; i += 16) {
		v16 v = v_load(x + i);

		nan |= v_unordered(v);
		top = v_max(v, top);
	}
	for (size_t i = whole; i < n; i++) {
		nan |= x[i] != x[i];
		best = x[i] > best ? x[i] : best;
	}
	if (nan)
		return SIZE_MAX;
	v_store(lane, top);
	for (size_t i = 0; i < 16; i++)
		best = lane[i] > best ? lane[i] : best;
	top = v_set(best);
	for (size_t i = 0; i < whole; i += 16) {
		unsigned at = v_equal(v_load(x + i), top);

		if (at)
			return i + (size_t)__builtin_ctz(at);
	}
	for (size_t i = whole; i < n; i++)
		if (x[i] == best)
			return i;
	return SIZE_MAX; /* not reached: some x[i] is the largest */
}

static bool all_finite_simd(const float *x, size_t n)
{
	const v16 zero = v_set(0.0f);
	unsigned finite = 0xffff;
	size_t i = 0;
	v16 v;

	for (; i + 16 <= n; i += 16) {
		v = v_load(x + i);
		finite &= v_equal(v_sub(v, v), zero);
	}
	v = v_load_part(x + i, n - i);
	finite &= v_equal(v_sub(v, v), zero);
	return finite == 0xffff;
}

static void fill_vector_table(struct cpu_kernels *k)
{
	k->rmsnorm = rmsnorm_simd;
	k->to_bf16 = to_bf16_simd;
	k->silu_mul = silu_mul_simd;
	k->axpy = axpy_simd;
	k->add = add_simd;
	k->exp = exp_simd;
	k->sigmoid = sigmoid_simd;
	k->softmax_segment = softmax_segment_simd;
	k->combine = combine_simd;
	k->rope = rope_simd;
	k->sum = sum_simd;
	k->scale = scale_simd;
	k->argmax = argmax_simd;
	k->all_finite = all_finite_simd;
}
