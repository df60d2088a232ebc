/*
 * Bump allocation from one block: nothing is freed alone, one reset gives everything back. Each of
 * the four lifetimes of memory (process, model, batch, scratch) is one arena. Not for use by
 * several threads at once.
 */
#ifndef RUNTIME_ARENA_H
#define RUNTIME_ARENA_H

#include "runtime/err.h"

#include <stddef.h>

struct arena {
	unsigned char *base; /* the block, [base, base + size) */
	size_t size;         /* bytes */
	size_t used;         /* bytes given out, padding included */
};

/* An arena over fresh zeroed memory of at least `size` bytes. Returns 0, or -ENOMEM with a text. */
MUST_CHECK int arena_map(struct arena *a, size_t size, struct err *e);

/* Gives the block back. A second call, or one on a zeroed struct, does
 * nothing. */
void arena_fini(struct arena *a);

/*
 * `size` bytes at a multiple of `align` (a power of two), valid until the next reset. The contents
 * are what the block held: zero in a fresh map, the last tenant's after a reset. Returns NULL when
 * it does not fit, and then nothing is used up. A size of 0 gives a pointer that must not be read.
 */
MUST_CHECK void *arena_alloc(struct arena *a, size_t size, size_t align);

/* The same for n elements of `size` bytes, zeroed; a product that would overflow does not fit. */
MUST_CHECK void *arena_array(struct arena *a, size_t n, size_t size, size_t align);

/* arena_array for a type: float *x = arena_new(a, float, rows). */
#define arena_new(a, type, n) ((type *)arena_array((a), (n), sizeof(type), _Alignof(type)))

/* Everything given out since `mark` (an earlier value of a->used, or 0 for all) is free again. */
void arena_reset(struct arena *a, size_t mark);

#endif
