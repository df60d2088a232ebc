/*
 * Rule 13 for AVX-512 with VNNI, which every processor with the BF16 dot product and VBMI has:
 * VPDPBUSD adds the four products of a dword at once. Called through the table.
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

	memcpy(&four, q, sizeof(four));
	return _mm512_dpbusd_epi32(a, u, _mm512_set1_epi32(four));
}

#include "drivers/cpu/matmul_q4_simd.h"

void q4_table_avx512bf16(struct cpu_kernels *k)
{
	q4_table_avx2(k);
	k->matmul_q4 = matmul_q4_simd;
}
