/*
 * SHA-256 (FIPS 180-4). Names models, recognises chat templates, checks what was written. Used by
 * the loader's survey, model/text and the one-shot commands; not meant to be fast, never on the way
 * to a token.
 */
#ifndef RUNTIME_SHA256_H
#define RUNTIME_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
	uint32_t state[8];
	uint64_t bytes;
	uint8_t block[64]; /* bytes % 64 of it are waiting */
};

void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *data, size_t len);
/* Writes the sum; s must be initialised again before it is used again. */
void sha256_final(struct sha256 *s, uint8_t out[32]);

/* The three in one. */
void sha256(const void *data, size_t len, uint8_t out[32]);

/* The sum as 64 lower-case digits and a NUL. */
void sha256_hex(const uint8_t sum[32], char out[65]);

#endif
