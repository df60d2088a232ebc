/*
 * Rules 3 and 4 for AVX-512 with VDPBF16PS, which is the rule's pair of FMAs in one instruction,
 * and VBMI, which looks up 128 entries at once: an E4M3 code becomes a BF16 number by two table
 * lookups. Called through the table.
 */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VR       4
#define PANEL    4
#define TOKENS   4
#define TOKENS_T 5
#define UNITS_T  4

typedef __m512i vbytes, vw, vx;
typedef __m512 vsum;

#include "drivers/cpu/registers_avx512.h"

/* The BF16 bits of the E4M3 code c, 0 <= c < 128: m 2^-9 below 8, NaN at 127 */
#define TINY2(c)  ((c) < 4 ? 0x3b00 + (c)*0x40 : 0x3b80 + (c)*0x20)
#define TINY(c)   ((c) == 0 ? 0 : (c) == 1 ? 0x3b00 : TINY2(c))
#define BF16(c)   ((c) < 8 ? TINY(c) : (c) == 127 ? 0x7fc0 : 0x3c00 + (c)*16)
#define HIGH(c)   (BF16(c) >> 8 & 255)
#define LOW(c)    (BF16(c) & 255)
#define X4(f, c)  f(c), f((c) + 1), f((c) + 2), f((c) + 3)
#define X16(f, c) X4(f, c), X4(f, (c) + 4), X4(f, (c) + 8), X4(f, (c) + 12)
#define X64(f, c) X16(f, c), X16(f, (c) + 16), X16(f, (c) + 32), X16(f, (c) + 48)

static const _Alignas(64) uint8_t table_high[128] = {X64(HIGH, 0), X64(HIGH, 64)};
static const _Alignas(64) uint8_t table_low[128] = {X64(LOW, 0), X64(LOW, 64)};

static inline void decode(vbytes code, vbytes *first, vbytes *second)
{
	__m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(table_high), code,
						_mm512_load_si512(table_high + 64));
	__m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(table_low), code,
					       _mm512_load_si512(table_low + 64));

	/* high | (code & 0x80) */
	high = _mm512_ternarylogic_epi32(high, code, _mm512_set1_epi8((char)0x80), 0xf8);
	*first = _mm512_unpacklo_epi8(low, high);
	*second = _mm512_unpackhi_epi8(low, high);
}

static inline vw weights(vbytes v)
{
	return v;
}

static inline void keep(vw *w)
{
	__asm__("" : "+v"(*w));
}

static inline vx block_x(const uint16_t *x)
{
	return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)x));
}

static inline vx pair_x(uint32_t pair)
{
	return _mm512_set1_epi32((int)pair);
}

static inline vsum dot(vsum a, vw w, vx x)
{
	return _mm512_dpbf16_ps(a, (__m512bh)w, (__m512bh)x);
}

#include "drivers/cpu/matmul_simd.h"

void matmul_table_avx512bf16(struct cpu_kernels *k)
{
	fill_matmul_table(k);
}
