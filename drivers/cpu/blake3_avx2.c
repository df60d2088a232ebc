/* BLAKE3, eight inputs at a time; see blake3_simd.h. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define LANES 8
typedef __m256i vec;

static inline vec load(const void *p)
{
	return _mm256_loadu_si256(p);
}

static inline vec set1(uint32_t x)
{
	return _mm256_set1_epi32((int)x);
}

static inline vec add(vec a, vec b)
{
	return _mm256_add_epi32(a, b);
}

static inline vec xor (vec a, vec b) { return _mm256_xor_si256(a, b); }

	/* By 16 and 8 bits whole bytes move: one shuffle instead of two shifts. */
	static inline vec rotate_right(vec x, unsigned n)
{
	const vec by16 = _mm256_set_epi64x(0x0d0c0f0e09080b0a, 0x0504070601000302,
					   0x0d0c0f0e09080b0a, 0x0504070601000302);
	const vec by8 = _mm256_set_epi64x(0x0c0f0e0d080b0a09, 0x0407060500030201,
					  0x0c0f0e0d080b0a09, 0x0407060500030201);

	if (n == 16)
		return _mm256_shuffle_epi8(x, by16);
	if (n == 8)
		return _mm256_shuffle_epi8(x, by8);
	return _mm256_or_si256(_mm256_srli_epi32(x, (int)n), _mm256_slli_epi32(x, 32 - (int)n));
}

/* Eight rows of eight words: columns become rows. */
static inline void transpose(vec r[8])
{
	vec t[8], u[8];

	for (unsigned i = 0; i < 8; i += 2) {
		t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
		t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
	}
	for (unsigned i = 0; i < 8; i += 4)
		for (unsigned j = 0; j < 2; j++) {
			u[i + 2 * j] = _mm256_unpacklo_epi64(t[i + j], t[i + 2 + j]);
			u[i + 2 * j + 1] = _mm256_unpackhi_epi64(t[i + j], t[i + 2 + j]);
		}
	for (unsigned i = 0; i < 4; i++) {
		r[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
		r[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
	}
}

static inline void transpose_block(vec m[16], const uint8_t *in, size_t stride)
{
	for (unsigned l = 0; l < LANES; l++) {
		m[l] = load(in + l * stride);
		m[8 + l] = load(in + l * stride + 32);
	}
	transpose(m);
	transpose(m + 8);
}

#include "drivers/cpu/blake3_simd.h"

size_t blake3_many_avx2(const uint8_t *in, size_t n, unsigned blocks, uint64_t first,
			uint32_t (*out)[8])
{
	return hash_many(in, n, blocks, first, out);
}
