/* Double records; see record.h. */
#include "ipc/record.h"

#include <string.h>

void record_open(struct record *r, void *base, size_t size)
{
	uint64_t version;

	memset(r, 0, sizeof(*r));
	r->word = base;
	r->copy[0] = (unsigned char *)base + sizeof(struct record_word);
	r->copy[1] = r->copy[0] + record_stride(size);
	r->size = size;
	/* acquire: pairs with the release in the predecessor's record_commit */
	version = atomic_load_explicit(&r->word->version, memory_order_acquire);
	r->draft = r->copy[(version + 1) & 1];
	memcpy(r->draft, r->copy[version & 1], size);
}

void record_touch(struct record *r, const void *p, size_t len)
{
	size_t off = (size_t)((const unsigned char *)p - (const unsigned char *)r->draft);

	if (r->whole)
		return;
	/* the common cases: the same range again, or the one that follows */
	if (r->ranges) {
		size_t last = r->range[r->ranges - 1].off, end = last + r->range[r->ranges - 1].len;

		if (off >= last && off + len <= end)
			return;
		if (off == end) {
			r->range[r->ranges - 1].len += len;
			return;
		}
	}
	if (r->ranges == RECORD_RANGES) {
		r->whole = true;
		return;
	}
	r->range[r->ranges].off = off;
	r->range[r->ranges].len = len;
	r->ranges++;
}

void record_commit(struct record *r)
{
	/* relaxed: nobody else stores version */
	uint64_t version = atomic_load_explicit(&r->word->version, memory_order_relaxed) + 1;
	const unsigned char *committed = r->draft;
	unsigned char *other = r->copy[(version + 1) & 1];

	/*
	 * release: rows, ring entries and the draft are visible before the word that names them;
	 * pairs with record_read
	 */
	atomic_store_explicit(&r->word->version, version, memory_order_release);
	/*
	 * A reader that chose `other` before this store may still copy it: the fence orders our
	 * stores into it after the new version, so that such a reader sees the version moved and
	 * tries again.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	if (r->whole) {
		memcpy(other, committed, r->size);
	} else {
		for (unsigned i = 0; i < r->ranges; i++)
			memcpy(other + r->range[i].off, committed + r->range[i].off,
			       r->range[i].len);
	}
	r->ranges = 0;
	r->whole = false;
	r->draft = other;
}

/*
 * Copies what the writer may be overwriting: a torn copy is noticed by the version and made again.
 * Relaxed loads of whole words, so that no compiler may read a word twice; the thread sanitizer is
 * told not to look, since only the version orders these bytes.
 */
__attribute__((no_sanitize("thread"))) static void copy_racing(void *out, const void *from,
							       size_t len)
{
	unsigned char *o = out;
	const unsigned char *f = from;

	for (; len >= 8 && ((uintptr_t)f & 7) == 0; len -= 8, o += 8, f += 8) {
		uint64_t word =
			__atomic_load_n((const uint64_t *)(const void *)f, __ATOMIC_RELAXED);

		__builtin_memcpy(o, &word, 8);
	}
	for (; len; len--)
		*o++ = __atomic_load_n(f++, __ATOMIC_RELAXED);
}

bool record_read(const void *base, size_t size, size_t off, void *out, size_t len)
{
	const struct record_word *word = base;
	const unsigned char *copies = (const unsigned char *)base + sizeof(*word);

	for (unsigned n = 0; n < RECORD_LOOKS; n++) {
		/* acquire: pairs with the release in record_commit */
		uint64_t version = atomic_load_explicit(&word->version, memory_order_acquire);

		copy_racing(out, copies + (version & 1) * record_stride(size) + off, len);
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&word->version, memory_order_relaxed) == version)
			return true;
	}
	return false;
}

uint64_t record_version(const void *base)
{
	return atomic_load_explicit(&((const struct record_word *)base)->version,
				    memory_order_acquire);
}
