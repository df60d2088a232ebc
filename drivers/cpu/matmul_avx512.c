/*
 * Rules 3 and 4 for AVX-512 without the BF16 dot product: pairs are widened to FP32 and take two
 * FMAs. Called through the table.
 */
#include "drivers/cpu/e4m3_nibbles.h"

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VR       4
#define PANEL    4
#define TOKENS   5
#define TOKENS_T 4
#define UNITS_T  4

typedef __m512i vbytes;
typedef __m512 vsum;
typedef struct {
	__m512 even, odd;
} vw, vx;

#include "drivers/cpu/registers_avx512.h"

static inline __m512i table(const uint8_t entry[16])
{
	return _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)(const void *)entry));
}

static inline void decode(vbytes code, vbytes *first, vbytes *second)
{
	const __m512i nibble = _mm512_set1_epi8(15);
	__m512i upper = _mm512_and_si512(_mm512_srli_epi16(code, 4), nibble);
	__m512i high = _mm512_shuffle_epi8(table(e4m3_high), upper), low;
	__m512i fix =
		_mm512_and_si512(_mm512_add_epi8(code, _mm512_set1_epi8(1)), _mm512_set1_epi8(127));

	fix = _mm512_add_epi8(fix, _mm512_set1_epi8(0x77));
	high = _mm512_xor_si512(high, _mm512_shuffle_epi8(table(e4m3_fix_high), fix));
	/* (code << 4 & ~nibble) ^ what the table gives */
	low = _mm512_ternarylogic_epi32(_mm512_slli_epi16(code, 4), nibble,
					_mm512_shuffle_epi8(table(e4m3_fix_low), fix), 0x9a);
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

static inline void keep(vw *w)
{
	__asm__("" : "+v"(w->even), "+v"(w->odd));
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
