/*
 * The vector kernels for AVX-512: 16 lanes are one register. Called through the table.
 */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m512 v16;

static inline v16 v_load(const float *x)
{
	return _mm512_loadu_ps(x);
}

static inline __mmask16 first(size_t n)
{
	return (__mmask16)((1u << n) - 1);
}

static inline v16 v_load_part(const float *x, size_t n)
{
	return _mm512_maskz_loadu_ps(first(n), x);
}

static inline void v_store(float *y, v16 v)
{
	_mm512_storeu_ps(y, v);
}

static inline void v_store_part(float *y, v16 v, size_t n)
{
	_mm512_mask_storeu_ps(y, first(n), v);
}

static inline v16 v_set(float x)
{
	return _mm512_set1_ps(x);
}

static inline v16 v_add(v16 a, v16 b)
{
	return _mm512_add_ps(a, b);
}

static inline v16 v_sub(v16 a, v16 b)
{
	return _mm512_sub_ps(a, b);
}

static inline v16 v_mul(v16 a, v16 b)
{
	return _mm512_mul_ps(a, b);
}

static inline v16 v_div(v16 a, v16 b)
{
	return _mm512_div_ps(a, b);
}

static inline v16 v_fma(v16 a, v16 b, v16 c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* a > b ? a : b, NaN included: VMAXPS returns its second operand then */
static inline v16 v_max(v16 a, v16 b)
{
	return _mm512_max_ps(a, b);
}

static inline v16 v_negate(v16 a)
{
	return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f));
}

static inline unsigned v_equal(v16 a, v16 b)
{
	return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

static inline __mmask16 v_unordered(v16 a)
{
	return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}

/* Rule 5, as exp_f32. */
static inline v16 v_exp(v16 x)
{
	const v16 shift = v_set(0x1.8p+23f);
	v16 z = v_fma(x, v_set(0x1.715476p+0f), shift), n = v_sub(z, shift), r, p;

	r = v_fma(n, v_set(-0x1.62e43p-1f), x);
	r = v_fma(n, v_set(0x1.05c61p-29f), r);
	p = v_fma(v_set(0x1.6a2402p-10f), r, v_set(0x1.123ap-7f));
	p = v_fma(p, r, v_set(0x1.5558f2p-5f));
	p = v_fma(p, r, v_set(0x1.555492p-3f));
	p = v_fma(p, r, v_set(0x1.fffffcp-2f));
	p = v_fma(p, r, v_set(0x1p0f));
	p = v_fma(p, r, v_set(0x1p0f));
	p = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p),
						 _mm512_slli_epi32(_mm512_castps_si512(z), 23)));
	p = _mm512_mask_mov_ps(p, _mm512_cmp_ps_mask(x, v_set(0x1.62e42ep+6f), _CMP_GT_OQ),
			       v_set(__builtin_inff()));
	p = _mm512_mask_mov_ps(p, _mm512_cmp_ps_mask(x, v_set(-0x1.5d589ep+6f), _CMP_LT_OQ),
			       v_set(0.0f));
	return _mm512_mask_mov_ps(p, v_unordered(x), x);
}

/* Rule 2, on the bits, as f32_to_bf16. */
static inline void v_to_bf16(uint16_t *y, v16 v)
{
	const __m512i high = _mm512_set1_epi32(0x7f800000);
	__m512i u = _mm512_castps_si512(v);
	__m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
	__m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);

	r = _mm512_mask_mov_epi32(r, _mm512_testn_epi32_mask(u, high),
				  _mm512_and_si512(u, _mm512_set1_epi32((int)0x80000000)));
	r = _mm512_mask_mov_epi32(r, v_unordered(v),
				  _mm512_or_si512(u, _mm512_set1_epi32(0x400000)));
	_mm256_storeu_si256((__m256i *)(void *)y, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}

/* Pairs (x0, x1) by (c, s): fma(x0, c, -(x1 s)), fma(x0, s, x1 c) */
static inline v16 v_rotate(v16 x, v16 cs)
{
	v16 cross = v_mul(_mm512_movehdup_ps(x), _mm512_permute_ps(cs, 0xb1));

	return _mm512_fmaddsub_ps(_mm512_moveldup_ps(x), cs, cross);
}

#include "drivers/cpu/vector_simd.h"

void vector_table_avx512(struct cpu_kernels *k)
{
	fill_vector_table(k);
}
