/*
 * What the variants of BLAKE3 share: constants, and the function that each of them is. Used by
 * blake3*.c only.
 */
#ifndef DRIVERS_CPU_BLAKE3_INTERNAL_H
#define DRIVERS_CPU_BLAKE3_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

enum {
	BLAKE3_BLOCK = 64,
	BLAKE3_CHUNK = 1024,
	BLAKE3_ROUNDS = 7,
	/* domains */
	BLAKE3_CHUNK_START = 1,
	BLAKE3_CHUNK_END = 2,
	BLAKE3_PARENT = 4,
	BLAKE3_ROOT = 8
};

static const uint32_t blake3_iv[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
				      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* Which word of the message each of the 16 places of a round takes (table 2 of the paper, applied
 * again for every round). */
static const uint8_t blake3_schedule[BLAKE3_ROUNDS][16] = {
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	{2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
	{3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1},
	{10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
	{12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4},
	{9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
	{11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

/*
 * Hashes n whole inputs of `blocks` blocks each, one behind the other at `in`: chunks (blocks 16,
 * numbered from `first`) or, with one block, parents that are not the root. out: n chaining values
 * of 8 words. The wide variants take as many as fill their vectors and return how many they took.
 */
typedef size_t blake3_many(const uint8_t *in, size_t n, unsigned blocks, uint64_t first,
			   uint32_t (*out)[8]);

blake3_many blake3_many_avx2, blake3_many_avx512;

#endif
