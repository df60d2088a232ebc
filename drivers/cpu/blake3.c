/*
 * BLAKE3: the scalar definition and the tree; see blake3.h. The tree is built level by level:
 * neighbours are joined, and one that has none goes up as it is, which gives the paper's tree (a
 * left subtree is the largest power of two of chunks).
 */
#include "drivers/cpu/blake3.h"

#include "drivers/cpu/blake3_internal.h"

#include <assert.h>
#include <string.h>

enum {
	CHUNKS_MAX = BLAKE3_LEN_MAX / BLAKE3_CHUNK
};

static uint32_t rotate(uint32_t x, unsigned n)
{
	return x >> n | x << (32 - n);
}

static void mix(uint32_t v[16], unsigned a, unsigned b, unsigned c, unsigned d, uint32_t x,
		uint32_t y)
{
	v[a] += v[b] + x;
	v[d] = rotate(v[d] ^ v[a], 16);
	v[c] += v[d];
	v[b] = rotate(v[b] ^ v[c], 12);
	v[a] += v[b] + y;
	v[d] = rotate(v[d] ^ v[a], 8);
	v[c] += v[d];
	v[b] = rotate(v[b] ^ v[c], 7);
}

static void compress(uint32_t cv[8], const uint8_t block[BLAKE3_BLOCK], size_t len,
		     uint64_t counter, uint32_t flags)
{
	uint32_t m[16], v[16];

	memcpy(m, block, sizeof(m)); /* little-endian, as we are */
	memcpy(v, cv, 8 * sizeof(v[0]));
	memcpy(v + 8, blake3_iv, 4 * sizeof(v[0]));
	v[12] = (uint32_t)counter;
	v[13] = (uint32_t)(counter >> 32);
	v[14] = (uint32_t)len;
	v[15] = flags;
	for (unsigned r = 0; r < BLAKE3_ROUNDS; r++) {
		const uint8_t *s = blake3_schedule[r];

		for (unsigned i = 0; i < 4; i++) /* columns */
			mix(v, i, 4 + i, 8 + i, 12 + i, m[s[2 * i]], m[s[2 * i + 1]]);
		for (unsigned i = 0; i < 4; i++) /* diagonals */
			mix(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4,
			    m[s[8 + 2 * i]], m[s[9 + 2 * i]]);
	}
	for (unsigned i = 0; i < 8; i++)
		cv[i] = v[i] ^ v[i + 8];
}

/* One chunk of up to 1024 bytes; `root`: it is the whole input. */
static void hash_chunk(const uint8_t *in, size_t len, uint64_t number, bool root, uint32_t cv[8])
{
	uint32_t flags = BLAKE3_CHUNK_START;

	memcpy(cv, blake3_iv, sizeof(blake3_iv));
	for (; len > BLAKE3_BLOCK; in += BLAKE3_BLOCK, len -= BLAKE3_BLOCK, flags = 0)
		compress(cv, in, BLAKE3_BLOCK, number, flags);
	flags |= BLAKE3_CHUNK_END | (root ? BLAKE3_ROOT : 0);
	if (len == BLAKE3_BLOCK) {
		compress(cv, in, len, number, flags);
	} else {
		uint8_t last[BLAKE3_BLOCK] = {0};

		if (len)
			memcpy(last, in, len);
		compress(cv, last, len, number, flags);
	}
}

static void hash_parent(const uint32_t children[16], bool root, uint32_t cv[8])
{
	uint8_t block[BLAKE3_BLOCK];

	memcpy(block, children, sizeof(block));
	memcpy(cv, blake3_iv, sizeof(blake3_iv));
	compress(cv, block, BLAKE3_BLOCK, 0, BLAKE3_PARENT | (root ? BLAKE3_ROOT : 0));
}

static size_t many(enum cpu_isa isa, const uint8_t *in, size_t n, unsigned blocks, uint64_t first,
		   uint32_t (*out)[8])
{
	if (isa >= CPU_AVX512)
		return blake3_many_avx512(in, n, blocks, first, out);
	if (isa == CPU_AVX2)
		return blake3_many_avx2(in, n, blocks, first, out);
	return 0;
}

void blake3(enum cpu_isa isa, const void *data, size_t len, uint8_t out[BLAKE3_BYTES])
{
	const uint8_t *in = data;
	uint32_t level[2][CHUNKS_MAX][8]; /* a level of the tree and the one above it */
	size_t n = 0, chunks = len ? (len + BLAKE3_CHUNK - 1) / BLAKE3_CHUNK : 1;
	unsigned now = 0;

	assert(len <= BLAKE3_LEN_MAX);
	if (chunks > 1)
		n = many(isa, in, len / BLAKE3_CHUNK, BLAKE3_CHUNK / BLAKE3_BLOCK, 0, level[0]);
	for (; n < chunks; n++) {
		size_t at = n * BLAKE3_CHUNK;

		hash_chunk(in + at, len - at < BLAKE3_CHUNK ? len - at : BLAKE3_CHUNK, n,
			   chunks == 1, level[0][n]);
	}
	for (; n > 1; n = (n + 1) / 2, now ^= 1) {
		size_t done = 0;

		if (n > 2)
			done = many(isa, (const uint8_t *)level[now], n / 2, 1, 0, level[now ^ 1]);
		for (; done < n / 2; done++)
			hash_parent(level[now][2 * done], n == 2, level[now ^ 1][done]);
		if (n % 2)
			memcpy(level[now ^ 1][n / 2], level[now][n - 1], sizeof(level[0][0]));
	}
	memcpy(out, level[now][0], BLAKE3_BYTES);
}
