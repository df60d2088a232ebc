/*
 * Rules 3 and 4 for AVX2 and FMA: pairs are widened to FP32 and take two FMAs. Called through the
 * table.
 */
#include "drivers/cpu/e4m3_nibbles.h"

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VR       2
#define PANEL    4
#define TOKENS   2
#define TOKENS_T 4
#define UNITS_T  2

typedef __m256i vbytes;
typedef __m256 vsum;
typedef struct {
	__m256 even, odd;
} vw, vx;

static inline vbytes load_bytes(const void *p)
{
	return _mm256_loadu_si256(p);
}

/* The first n < 32 bytes, then zeros */
static inline vbytes load_part(const void *p, size_t n)
{
	uint8_t part[32] = {0};

	memcpy(part, p, n);
	return _mm256_loadu_si256((const __m256i *)(const void *)part);
}

static inline vbytes zero_bytes(void)
{
	return _mm256_setzero_si256();
}

static inline void transpose(vbytes v[2])
{
	__m256i a = v[0];

	v[0] = _mm256_permute2x128_si256(a, v[1], 0x20);
	v[1] = _mm256_permute2x128_si256(a, v[1], 0x31);
}

static inline __m256i table(const uint8_t entry[16])
{
	return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(const void *)entry));
}

static inline void decode(vbytes code, vbytes *first, vbytes *second)
{
	const __m256i nibble = _mm256_set1_epi8(15);
	__m256i upper = _mm256_and_si256(_mm256_srli_epi16(code, 4), nibble);
	__m256i low = _mm256_andnot_si256(nibble, _mm256_slli_epi16(code, 4));
	__m256i high = _mm256_shuffle_epi8(table(e4m3_high), upper);
	__m256i fix =
		_mm256_and_si256(_mm256_add_epi8(code, _mm256_set1_epi8(1)), _mm256_set1_epi8(127));

	fix = _mm256_add_epi8(fix, _mm256_set1_epi8(0x77));
	high = _mm256_xor_si256(high, _mm256_shuffle_epi8(table(e4m3_fix_high), fix));
	low = _mm256_xor_si256(low, _mm256_shuffle_epi8(table(e4m3_fix_low), fix));
	*first = _mm256_unpacklo_epi8(low, high);
	*second = _mm256_unpackhi_epi8(low, high);
}

static inline vbytes pair_low(vbytes a, vbytes b)
{
	return _mm256_unpacklo_epi16(a, b);
}

static inline vbytes pair_high(vbytes a, vbytes b)
{
	return _mm256_unpackhi_epi16(a, b);
}

static inline vw weights(vbytes v)
{
	const __m256i high = _mm256_set1_epi32((int)0xffff0000);

	return (vw){_mm256_castsi256_ps(_mm256_slli_epi32(v, 16)),
		    _mm256_castsi256_ps(_mm256_and_si256(v, high))};
}

/* Sixteen registers do not hold them: FMA takes them from memory. */
static inline void keep(vw *w)
{
	(void)w;
}

static inline vx block_x(const uint16_t *x)
{
	return weights(
		_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)x)));
}

static inline vx pair_x(uint32_t pair)
{
	return weights(_mm256_set1_epi32((int)pair));
}

static inline vsum dot(vsum a, vw w, vx x)
{
	return _mm256_fmadd_ps(w.even, x.even, _mm256_fmadd_ps(w.odd, x.odd, a));
}

static inline vsum sum_zero(void)
{
	return _mm256_setzero_ps();
}

static inline vsum sum_add(vsum a, vsum b)
{
	return _mm256_add_ps(a, b);
}

static inline vsum sum_fold(vsum a, float s, vsum t)
{
	return _mm256_fmadd_ps(a, _mm256_set1_ps(s), t);
}

static inline void sum_store(float *y, vsum t)
{
	_mm256_storeu_ps(y, t);
}

/* (t0 + t2) + (t1 + t3) of each row of the panel's registers */
static inline void sum_rows(float *y, const vsum t[PANEL])
{
	for (int i = 0; i < PANEL; i++) {
		__m256 v = _mm256_add_ps(t[i], _mm256_permute_ps(t[i], 0x4e));

		v = _mm256_add_ps(v, _mm256_permute_ps(v, 0xb1));
		y[2 * i] = _mm256_cvtss_f32(v);
		y[2 * i + 1] = _mm_cvtss_f32(_mm256_extractf128_ps(v, 1));
	}
}

#include "drivers/cpu/matmul_simd.h"

void matmul_table_avx2(struct cpu_kernels *k)
{
	fill_matmul_table(k);
}
