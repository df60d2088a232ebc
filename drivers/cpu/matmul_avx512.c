/*
 * Rules 3 and 4 for AVX-512 without the BF16 dot product: pairs are widened to FP32 and take two FMAs. Called through
 * the table.
 */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VR       4
#define PANEL    4
#define TOKENS   5
#define TOKENS_T 4

typedef __m512i vbytes;
typedef __m512 vsum;
typedef struct {
	__m512 even, odd;
} vw, vx;

#include "drivers/cpu/registers_avx512.h"

/*
 * A code's sign and upper exponent bits give the upper byte of the BF16 number, its lower half the lower byte, except
 * below 8 (subnormal: m 2^-9, by a table of m) and at 127 (NaN).
 */
static inline void decode(vbytes code, vbytes *first, vbytes *second)
{
	const __m512i nibble = _mm512_set1_epi8(15);
	const __m512i high_normal = _mm512_broadcast_i32x4(_mm_setr_epi8(
		0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41, 0x42, 0x43, (char)0xbc, (char)0xbd, (char)0xbe,
		(char)0xbf, (char)0xc0, (char)0xc1, (char)0xc2, (char)0xc3));
	const __m512i high_tiny = _mm512_broadcast_i32x4(_mm_setr_epi8(
		0, 0x3b, 0x3b, 0x3b, 0x3c, 0x3c, 0x3c, 0x3c, (char)0x80, (char)0xbb, (char)0xbb,
		(char)0xbb, (char)0xbc, (char)0xbc, (char)0xbc, (char)0xbc));
	const __m512i low_tiny = _mm512_broadcast_i32x4(
		_mm_setr_epi8(0, 0, (char)0x80, (char)0xc0, 0, 0x20, 0x40, 0x60, 0, 0, (char)0x80,
			      (char)0xc0, 0, 0x20, 0x40, 0x60));
	__m512i size = _mm512_and_si512(code, _mm512_set1_epi8(127));
	__m512i upper = _mm512_and_si512(_mm512_srli_epi16(code, 4), nibble);
	__m512i low = _mm512_andnot_si512(nibble, _mm512_slli_epi16(code, 4));
	__m512i high = _mm512_shuffle_epi8(high_normal, upper), m = _mm512_or_si512(upper, size);
	__mmask64 tiny = _mm512_cmplt_epu8_mask(size, _mm512_set1_epi8(8));

	high = _mm512_mask_shuffle_epi8(high, tiny, high_tiny, m);
	low = _mm512_mask_shuffle_epi8(low, tiny, low_tiny, m);
	high = _mm512_mask_mov_epi8(high, _mm512_cmpeq_epi8_mask(size, _mm512_set1_epi8(127)),
				    _mm512_set1_epi8(127));
	*first = _mm512_unpacklo_epi8(low, high);
	*second = _mm512_unpackhi_epi8(low, high);
}

static inline __m512 even_of(__m512i v)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
}

static inline __m512 odd_of(__m512i v)
{
	return _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000)));
}

static inline vw weights(vbytes v)
{
	return (vw){even_of(v), odd_of(v)};
}

static inline vx block_x(const uint16_t *x)
{
	return weights(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)x)));
}

static inline vx pair_x(uint32_t pair)
{
	return weights(_mm512_set1_epi32((int)pair));
}

static inline vsum dot(vsum a, vw w, vx x)
{
	return _mm512_fmadd_ps(w.even, x.even, _mm512_fmadd_ps(w.odd, x.odd, a));
}

#include "drivers/cpu/matmul_simd.h"

void matmul_table_avx512(struct cpu_kernels *k)
{
	fill_matmul_table(k);
}
