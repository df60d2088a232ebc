/*
 * The hash of names from hostile files, for the two open hash tables of model/store. Seeded from
 * the process's own random bytes, so that nobody can write a file whose names all collide.
 */
#ifndef MODEL_STORE_NAME_HASH_H
#define MODEL_STORE_NAME_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

static inline uint64_t name_hash_seed(void)
{
	const void *random = (const void *)(uintptr_t)getauxval(AT_RANDOM); /* 16 bytes */
	uint64_t seed = 0;

	if (random)
		memcpy(&seed, random, sizeof(seed));
	return seed;
}

static inline uint64_t name_hash(uint64_t seed, const char *name, size_t len)
{
	uint64_t h = seed ^ len * 0x9e3779b97f4a7c15;

	while (len) {
		uint64_t word = 0;
		size_t n = len < 8 ? len : 8;

		memcpy(&word, name, n);
		h = (h ^ word) * 0xff51afd7ed558ccd;
		h ^= h >> 32;
		name += n;
		len -= n;
	}
	return h;
}

#endif
