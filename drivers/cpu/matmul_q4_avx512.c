/*
 * Rule 13 for AVX-512 without VNNI: VPMADDUBSW takes T + 64, at most 127, and q, at most 127 in
 * size, so that its sums of two products stay below 2^15. Called through the table; activations
 * become int8 as with AVX2.
 */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PARTS  1
#define TILES  2
#define TOKENS 4

#include "drivers/cpu/registers_q4_avx512.h"

static inline vint int_dot(vint a, vbytes u, const int8_t *q)
{
	int32_t four;
	__m512i pairs;

	memcpy(&four, q, sizeof(four));
	pairs = _mm512_maddubs_epi16(u, _mm512_set1_epi32(four));
	return _mm512_add_epi32(a, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

#include "drivers/cpu/matmul_q4_simd.h"

void q4_table_avx512(struct cpu_kernels *k)
{
	q4_table_avx2(k);
	k->matmul_q4 = matmul_q4_simd;
}
