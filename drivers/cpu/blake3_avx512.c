/* BLAKE3, sixteen inputs at a time; see blake3_simd.h. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define LANES 16
typedef __m512i vec;

static inline vec load(const void *p)
{
	return _mm512_loadu_si512(p);
}

static inline vec set1(uint32_t x)
{
	return _mm512_set1_epi32((int)x);
}

static inline vec add(vec a, vec b)
{
	return _mm512_add_epi32(a, b);
}

static inline vec xor (vec a, vec b) { return _mm512_xor_si512(a, b); }

	/* A switch, because the instruction has the count in itself. */
	static inline vec rotate_right(vec x, unsigned n)
{
	switch (n) {
	case 16:
		return _mm512_ror_epi32(x, 16);
	case 12:
		return _mm512_ror_epi32(x, 12);
	case 8:
		return _mm512_ror_epi32(x, 8);
	default:
		return _mm512_ror_epi32(x, 7);
	}
}

/* Sixteen rows of sixteen words: columns become rows. */
static inline void transpose_block(vec m[16], const uint8_t *in, size_t stride)
{
	vec t[16], u[16];

	for (unsigned l = 0; l < LANES; l += 2) {
		vec a = load(in + l * stride), b = load(in + (l + 1) * stride);

		t[l] = _mm512_unpacklo_epi32(a, b);
		t[l + 1] = _mm512_unpackhi_epi32(a, b);
	}
	/* u[4k + c] has, in 128-bit lane q, word 4q + c of lanes 4k to 4k + 3 */
	for (unsigned k = 0; k < 16; k += 4)
		for (unsigned j = 0; j < 2; j++) {
			u[k + 2 * j] = _mm512_unpacklo_epi64(t[k + j], t[k + 2 + j]);
			u[k + 2 * j + 1] = _mm512_unpackhi_epi64(t[k + j], t[k + 2 + j]);
		}
	for (unsigned c = 0; c < 4; c++) {
		vec a = _mm512_shuffle_i32x4(u[c], u[4 + c], 0x88);      /* q 0, 2 of k 0, 1 */
		vec b = _mm512_shuffle_i32x4(u[c], u[4 + c], 0xdd);      /* q 1, 3 */
		vec d = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0x88); /* of k 2, 3 */
		vec e = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0xdd);

		m[c] = _mm512_shuffle_i32x4(a, d, 0x88);
		m[4 + c] = _mm512_shuffle_i32x4(b, e, 0x88);
		m[8 + c] = _mm512_shuffle_i32x4(a, d, 0xdd);
		m[12 + c] = _mm512_shuffle_i32x4(b, e, 0xdd);
	}
}

#include "drivers/cpu/blake3_simd.h"

size_t blake3_many_avx512(const uint8_t *in, size_t n, unsigned blocks, uint64_t first,
			  uint32_t (*out)[8])
{
	return hash_many(in, n, blocks, first, out);
}
