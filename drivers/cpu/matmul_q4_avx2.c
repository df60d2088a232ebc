/*
 * Rule 13 for AVX2: VPMADDUBSW takes T + 64, at most 127, and q, at most 127 in size, so that its
 * sums of two products stay below 2^15. Called through the table.
 */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PARTS  2
#define TILES  1
#define TOKENS 3

typedef __m256i vbytes, vint;
typedef __m256 vsum;

static inline vbytes load_bytes(const uint8_t *p)
{
	return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline void store_bytes(uint8_t *p, vbytes v)
{
	_mm256_store_si256((__m256i *)(void *)p, v);
}

static inline vbytes load_table(const int8_t t[16])
{
	__m128i v = _mm_loadu_si128((const __m128i *)(const void *)t);

	return _mm256_broadcastsi128_si256(_mm_add_epi8(v, _mm_set1_epi8(64)));
}

static inline void look(vbytes table, vbytes v, vbytes *low, vbytes *high)
{
	const __m256i nibble = _mm256_set1_epi8(15);

	*low = _mm256_shuffle_epi8(table, _mm256_and_si256(v, nibble));
	*high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble));
}

static inline vint int_set(int32_t i)
{
	return _mm256_set1_epi32(i);
}

static inline vint int_add(vint a, vint b)
{
	return _mm256_add_epi32(a, b);
}

static inline vint int_dot(vint a, vbytes u, const int8_t *q)
{
	int32_t four;
	__m256i pairs;

	memcpy(&four, q, sizeof(four));
	pairs = _mm256_maddubs_epi16(u, _mm256_set1_epi32(four));
	return _mm256_add_epi32(a, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static inline vsum sum_zero(void)
{
	return _mm256_setzero_ps();
}

static inline vsum sum_set(float x)
{
	return _mm256_set1_ps(x);
}

static inline vsum sum_load(const float *p)
{
	return _mm256_loadu_ps(p);
}

static inline vsum sum_int(vint a)
{
	return _mm256_cvtepi32_ps(a);
}

static inline vsum sum_scales(const uint16_t *p)
{
	__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);

	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
}

static inline vsum sum_fma(vsum a, vsum b, vsum c)
{
	return _mm256_fmadd_ps(a, b, c);
}

static inline void sum_store(float *y, vsum t)
{
	_mm256_storeu_ps(y, t);
}

#include "drivers/cpu/matmul_q4_simd.h"

/* 8 activations, widened */
static inline __m256i eight(const uint16_t *x)
{
	__m128i v = _mm_load_si128((const __m128i *)(const void *)x);

	return _mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16);
}

static float largest(const uint16_t x[128])
{
	__m256i m = _mm256_setzero_si256();
	__m128i h;

	for (size_t i = 0; i < 128; i += 16)
		m = _mm256_max_epu16(
			m,
			_mm256_and_si256(_mm256_load_si256((const __m256i *)(const void *)(x + i)),
					 _mm256_set1_epi16(0x7fff)));
	h = _mm_max_epu16(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
	/* the smallest of the complements */
	h = _mm_minpos_epu16(_mm_xor_si128(h, _mm_set1_epi16(-1)));
	return bf16_to_f32((uint16_t)~_mm_extract_epi16(h, 0));
}

static void block_to_int8(struct int8_block *y, const uint16_t x[128])
{
	const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
	float max = largest(x);
	__m256 inv;

	memset(y, 0, sizeof(*y));
	if (!(max - max == 0.0f)) {
		y->scale = __builtin_nanf("");
		return;
	}
	if (max < 0x1p-100f)
		return;
	y->scale = max / 127.0f;
	inv = _mm256_set1_ps(127.0f / max);
	for (size_t g = 0; g < 4; g++) {
		__m256i v[4], pairs, sum;
		__m128i s;

		for (size_t i = 0; i < 4; i++)
			v[i] = _mm256_cvtps_epi32(
				_mm256_mul_ps(_mm256_castsi256_ps(eight(x + 32 * g + 8 * i)), inv));
		pairs = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]),
					   _mm256_packs_epi32(v[2], v[3]));
		pairs = _mm256_permutevar8x32_epi32(pairs, order);
		_mm256_storeu_si256((__m256i *)(void *)(y->q + 32 * g), pairs);
		sum = _mm256_add_epi32(_mm256_add_epi32(v[0], v[1]), _mm256_add_epi32(v[2], v[3]));
		s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
		s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
		s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
		y->start[g] = -64 * _mm_cvtsi128_si32(s);
	}
}

static void to_int8_avx2(struct int8_block *y, const uint16_t *x, size_t n)
{
	for (size_t k = 0; k < n; k += 128)
		block_to_int8(&y[k / 128], x + k);
}

void q4_table_avx2(struct cpu_kernels *k)
{
	k->to_int8 = to_int8_avx2;
	k->matmul_q4 = matmul_q4_simd;
}
