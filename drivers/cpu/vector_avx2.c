/*
 * The vector kernels for AVX2: 16 lanes are two registers. Called through the table.
 */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
	__m256 lo, hi;
} v16;

static inline v16 v_load(const float *x)
{
	return (v16){_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)};
}

static inline v16 v_load_part(const float *x, size_t n)
{
	float v[16] = {0};

	memcpy(v, x, n * sizeof(*x));
	return v_load(v);
}

static inline void v_store(float *y, v16 v)
{
	_mm256_storeu_ps(y, v.lo);
	_mm256_storeu_ps(y + 8, v.hi);
}

static inline void v_store_part(float *y, v16 v, size_t n)
{
	float part[16];

	v_store(part, v);
	memcpy(y, part, n * sizeof(*y));
}

static inline v16 v_set(float x)
{
	return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

static inline v16 v_add(v16 a, v16 b)
{
	return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

static inline v16 v_sub(v16 a, v16 b)
{
	return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

static inline v16 v_mul(v16 a, v16 b)
{
	return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

static inline v16 v_div(v16 a, v16 b)
{
	return (v16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}

static inline v16 v_fma(v16 a, v16 b, v16 c)
{
	return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

/* a > b ? a : b, NaN included: VMAXPS returns its second operand then */
static inline v16 v_max(v16 a, v16 b)
{
	return (v16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

static inline v16 v_negate(v16 a)
{
	const __m256 sign = _mm256_set1_ps(-0.0f);

	return (v16){_mm256_xor_ps(a.lo, sign), _mm256_xor_ps(a.hi, sign)};
}

static inline unsigned v_equal(v16 a, v16 b)
{
	return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ)) |
	       (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ)) << 8;
}

static inline unsigned v_unordered(v16 a)
{
	return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q)) |
	       (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q)) << 8;
}

/* Rule 5, as exp_f32. */
static inline __m256 exp8(__m256 x)
{
	const __m256 shift = _mm256_set1_ps(0x1.8p+23f), one = _mm256_set1_ps(1.0f);
	__m256 z = _mm256_fmadd_ps(x, _mm256_set1_ps(0x1.715476p+0f), shift);
	__m256 n = _mm256_sub_ps(z, shift), r, p;

	r = _mm256_fmadd_ps(n, _mm256_set1_ps(-0x1.62e43p-1f), x);
	r = _mm256_fmadd_ps(n, _mm256_set1_ps(0x1.05c61p-29f), r);
	p = _mm256_fmadd_ps(_mm256_set1_ps(0x1.6a2402p-10f), r, _mm256_set1_ps(0x1.123ap-7f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.5558f2p-5f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.555492p-3f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.fffffcp-2f));
	p = _mm256_fmadd_ps(p, r, one);
	p = _mm256_fmadd_ps(p, r, one);
	p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p),
						 _mm256_slli_epi32(_mm256_castps_si256(z), 23)));
	p = _mm256_blendv_ps(p, _mm256_set1_ps(__builtin_inff()),
			     _mm256_cmp_ps(x, _mm256_set1_ps(0x1.62e42ep+6f), _CMP_GT_OQ));
	p = _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(-0x1.5d589ep+6f), _CMP_LT_OQ), p);
	return _mm256_blendv_ps(p, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

static inline v16 v_exp(v16 x)
{
	return (v16){exp8(x.lo), exp8(x.hi)};
}

/* Rule 2, on the bits, as f32_to_bf16; the result is in the low half of each element. */
static inline __m256i bf16_bits(__m256 v)
{
	const __m256i high = _mm256_set1_epi32(0x7f800000), zero = _mm256_setzero_si256();
	const __m256i sign = _mm256_set1_epi32((int)0x80000000);
	__m256i u = _mm256_castps_si256(v);
	__m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
	__m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);

	r = _mm256_blendv_epi8(r, _mm256_and_si256(u, sign),
			       _mm256_cmpeq_epi32(_mm256_and_si256(u, high), zero));
	r = _mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(0x400000)),
			       _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
	return _mm256_srli_epi32(r, 16);
}

static inline void v_to_bf16(uint16_t *y, v16 v)
{
	__m256i both = _mm256_packus_epi32(bf16_bits(v.lo), bf16_bits(v.hi));

	_mm256_storeu_si256((__m256i *)(void *)y, _mm256_permute4x64_epi64(both, 0xd8));
}

/* Pairs (x0, x1) by (c, s): fma(x0, c, -(x1 s)), fma(x0, s, x1 c) */
static inline __m256 rotate8(__m256 x, __m256 cs)
{
	__m256 cross = _mm256_mul_ps(_mm256_movehdup_ps(x), _mm256_permute_ps(cs, 0xb1));

	return _mm256_fmaddsub_ps(_mm256_moveldup_ps(x), cs, cross);
}

static inline v16 v_rotate(v16 x, v16 cs)
{
	return (v16){rotate8(x.lo, cs.lo), rotate8(x.hi, cs.hi)};
}

#include "drivers/cpu/vector_simd.h"

void vector_table_avx2(struct cpu_kernels *k)
{
	fill_vector_table(k);
}
