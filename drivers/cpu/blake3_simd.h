/*
 * BLAKE3 in vectors: word i of LANES inputs in one register. Included by blake3_avx2.c and
 * blake3_avx512.c, which define LANES, the type `vec` and its operations: load, set1, add, xor,
 * rotate_right(x, n), and transpose_block, which turns the next block of every lane into 16
 * registers, one per word.
 */
#include "drivers/cpu/blake3_internal.h"

#include <string.h>

static inline __attribute__((always_inline)) void mix(vec *a, vec *b, vec *c, vec *d, vec x, vec y)
{
	*a = add(add(*a, *b), x);
	*d = rotate_right(xor(*d, *a), 16);
	*c = add(*c, *d);
	*b = rotate_right(xor(*b, *c), 12);
	*a = add(add(*a, *b), y);
	*d = rotate_right(xor(*d, *a), 8);
	*c = add(*c, *d);
	*b = rotate_right(xor(*b, *c), 7);
}

/* The next block of every lane, all of them whole. */
static inline __attribute__((always_inline)) void
compress(vec cv[8], const uint8_t *in, size_t stride, vec low, vec high, uint32_t flags)
{
	vec m[16], v[16];

	transpose_block(m, in, stride);
	for (unsigned i = 0; i < 8; i++)
		v[i] = cv[i];
	for (unsigned i = 0; i < 4; i++)
		v[8 + i] = set1(blake3_iv[i]);
	v[12] = low;
	v[13] = high;
	v[14] = set1(BLAKE3_BLOCK);
	v[15] = set1(flags);
#pragma GCC unroll 7
	for (unsigned r = 0; r < BLAKE3_ROUNDS; r++) {
		const uint8_t *s = blake3_schedule[r];

		mix(&v[0], &v[4], &v[8], &v[12], m[s[0]], m[s[1]]);
		mix(&v[1], &v[5], &v[9], &v[13], m[s[2]], m[s[3]]);
		mix(&v[2], &v[6], &v[10], &v[14], m[s[4]], m[s[5]]);
		mix(&v[3], &v[7], &v[11], &v[15], m[s[6]], m[s[7]]);
		mix(&v[0], &v[5], &v[10], &v[15], m[s[8]], m[s[9]]);
		mix(&v[1], &v[6], &v[11], &v[12], m[s[10]], m[s[11]]);
		mix(&v[2], &v[7], &v[8], &v[13], m[s[12]], m[s[13]]);
		mix(&v[3], &v[4], &v[9], &v[14], m[s[14]], m[s[15]]);
	}
	for (unsigned i = 0; i < 8; i++)
		cv[i] = xor(v[i], v[i + 8]);
}

/* LANES inputs at once. */
static void hash_lanes(const uint8_t *in, unsigned blocks, uint64_t first, uint32_t (*out)[8])
{
	const size_t stride = (size_t)blocks * BLAKE3_BLOCK;
	uint32_t low[LANES], high[LANES], word[8][LANES];
	vec cv[8];

	for (unsigned l = 0; l < LANES; l++) {
		uint64_t number = blocks == 1 ? 0 : first + l;

		low[l] = (uint32_t)number;
		high[l] = (uint32_t)(number >> 32);
	}
	for (unsigned i = 0; i < 8; i++)
		cv[i] = set1(blake3_iv[i]);
	for (unsigned b = 0; b < blocks; b++) {
		uint32_t flags = blocks == 1       ? BLAKE3_PARENT
				 : b == 0          ? BLAKE3_CHUNK_START
				 : b + 1 == blocks ? BLAKE3_CHUNK_END
						   : 0;

		compress(cv, in + (size_t)b * BLAKE3_BLOCK, stride, load(low), load(high), flags);
	}
	memcpy(word, cv, sizeof(word));
	for (unsigned l = 0; l < LANES; l++)
		for (unsigned i = 0; i < 8; i++)
			out[l][i] = word[i][l];
}

static size_t hash_many(const uint8_t *in, size_t n, unsigned blocks, uint64_t first,
			uint32_t (*out)[8])
{
	size_t done = 0;

	for (; done + LANES <= n; done += LANES)
		hash_lanes(in + done * blocks * BLAKE3_BLOCK, blocks, first + done, out + done);
	return done;
}
