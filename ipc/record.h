/*
 * The commit word of a server: a double record in shared memory with one writer (machinery 2). The
 * writer edits the copy that nobody reads and release-stores `version`; version & 1 selects the
 * committed copy. Everything that must change together stands in one record. A dead writer's
 * successor finds the committed copy and copies it whole over the other: a half-made copy is never
 * read.
 */
#ifndef IPC_RECORD_H
#define IPC_RECORD_H

#include "runtime/err.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Shared memory: this word, then two copies of record_stride(size) bytes. */
struct record_word {
	alignas(64) _Atomic uint64_t version; /* written by the owner only */
};

static inline size_t record_stride(size_t size)
{
	return (size + 63) & ~(size_t)63;
}

/* Bytes of a record of `size` in its object; begins at a multiple of 64. */
static inline size_t record_bytes(size_t size)
{
	return sizeof(struct record_word) + 2 * record_stride(size);
}

enum {
	RECORD_RANGES = 64
}; /* changes listed one by one; more than these and the whole copy is repeated */

/* The writer's private view. */
struct record {
	struct record_word *word;
	unsigned char *copy[2];
	size_t size;
	void *draft; /* edit here; the other copy is the committed one */
	unsigned ranges;
	bool whole; /* too many ranges: repeat everything */
	struct {
		size_t off, len;
	} range[RECORD_RANGES];
};

/*
 * Attaches as the writer; makes both copies equal to the committed one. `base` must be 64-byte
 * aligned.
 */
void record_open(struct record *r, void *base, size_t size);

/*
 * Says that [p, p + len) of the draft has been or will be changed before the next commit. p points
 * into r->draft.
 */
void record_touch(struct record *r, const void *p, size_t len);

/* Publishes the draft; afterwards r->draft is the other copy, brought up to date. */
void record_commit(struct record *r);

enum {
	RECORD_LOOKS =
		1000 /* a copy takes tens of ns, an honest writer's step a thousand times that */
};

/*
 * Another process reads [off, off + len) of the committed copy of a record of `size` bytes at
 * `base` into out: one moment's state. Tries again while the writer commits meanwhile, but not for
 * ever: false if it never stood still, which no writer of ours does. The caller checks what it got,
 * as the writer may be hostile, and refuses one that gives it nothing (machinery 5).
 */
MUST_CHECK bool record_read(const void *base, size_t size, size_t off, void *out, size_t len);

/* The version now (acquire): changes exactly when the record changes. */
uint64_t record_version(const void *base);

#endif
