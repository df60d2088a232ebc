/*
 * Reading a server's record without trusting it to stand still: init's first thread must not be
 * held up by a writer that commits for ever (machinery 13). Used by pump.c and stage.c.
 */
#ifndef BOOT_PEEK_H
#define BOOT_PEEK_H

#include "ipc/record.h"

#include <string.h>

enum {
	PEEK_LOOKS = 64
};

/* record_read with an end: false if the writer kept committing; then look again later. */
static inline bool peek_record(const void *base, size_t size, size_t off, void *out, size_t len)
{
	const struct record_word *word = base;
	const char *copies = (const char *)(word + 1);

	for (unsigned n = 0; n < PEEK_LOOKS; n++) {
		/* acquire: pairs with the release in record_commit */
		uint64_t version = atomic_load_explicit(&word->version, memory_order_acquire);

		memcpy(out, copies + (version & 1) * record_stride(size) + off, len);
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&word->version, memory_order_relaxed) == version)
			return true;
	}
	return false;
}

#endif
