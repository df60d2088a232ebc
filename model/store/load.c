/*
 * Reads the resident weights; see load.h. Neighbours in the list are usually neighbours in the file (the survey sorted them so), and most are
 * small scales: they are read together, a window of the file at a time.
 */
#include "model/store/load.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	WINDOW_BYTES = 8 << 20, /* a multiple of DRIVE_ALIGN */
	GAP_BYTES =
		64 << 10 /* unneeded bytes between two tensors that are cheaper read than skipped */
};

struct window {
	char *data; /* WINDOW_BYTES, aligned */
	uint32_t file;
	uint64_t off, len; /* bytes [off, off + len) of the file are in data; len 0: none */
};

struct loading {
	const struct index *ix;
	const struct store_files *files;
	const struct index_load *load;
	char *resident;
	struct window window;
	struct err *e;
};

/* Where the run of reads that begins with load i and leaves no large gap ends in its file, at most a window from `begin`. */
static uint64_t run_end(const struct loading *l, uint64_t i, uint64_t begin)
{
	const struct index_load *load = &l->load[i];
	const uint64_t limit = begin + WINDOW_BYTES;
	uint64_t end = load->file_off + load->bytes;

	for (i++; i < l->ix->loads.count && end < limit; i++) {
		const struct index_load *next = &l->load[i];

		if (next->file != load->file || next->file_off < end ||
		    next->file_off - end > GAP_BYTES)
			break;
		end = next->file_off + next->bytes;
	}
	return end < limit ? end : limit;
}

/* Makes byte `off` of load i's file, and what follows of its run, available in the window. */
static int fill_window(struct loading *l, uint64_t i, uint64_t off)
{
	struct window *w = &l->window;
	const uint64_t file_bytes = l->files->file[l->load[i].file].bytes;
	uint64_t begin = off & ~(uint64_t)(DRIVE_ALIGN - 1);
	uint64_t end = (run_end(l, i, begin) + DRIVE_ALIGN - 1) & ~(uint64_t)(DRIVE_ALIGN - 1);

	if (end > file_bytes)
		end = file_bytes;
	w->len = 0;
	/* The window is aligned in memory and in the file, so that store_read needs no bounce buffer but for the file's ragged end. */
	if (end > begin) {
		char tail[2 * DRIVE_ALIGN];
		char *bounce = tail + (DRIVE_ALIGN - (uintptr_t)tail % DRIVE_ALIGN) % DRIVE_ALIGN;
		int rc = store_read(l->files, l->load[i].file, begin, w->data, end - begin, bounce,
				    DRIVE_ALIGN, l->e);

		if (rc)
			return rc;
	}
	w->file = l->load[i].file;
	w->off = begin;
	w->len = end - begin;
	return 0;
}

static void widen(float *out, const uint16_t *in, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t bits = (uint32_t)in[i] << 16;

		memcpy(&out[i], &bits, sizeof(bits));
	}
}

static int not_finite(struct loading *l, const struct index_load *load, uint64_t element)
{
	const char *name = (const char *)l->ix + l->ix->names.off + load->name;
	char cut[204];

	return err_exit(
		l->e, STATUS_MODEL, -EBADMSG,
		"%s: tensor %s: element %" PRIu64 " is not a finite number: the file is damaged. "
		"Copy it again",
		l->files->file[load->file].name, err_name(cut, name, strlen(name)), element);
}

/* Takes bytes [done, done + n) of the tensor from `from`, checks them and puts them in their place. */
static int place_piece(struct loading *l, const struct index_load *load, uint64_t done,
		       const char *from, uint64_t n)
{
	const uint64_t size = load->stored == INDEX_F32 ? 4 : load->stored == INDEX_BF16 ? 2 : 1;
	char *to = l->resident + load->off;
	int64_t found;

	if (load->widen) {
		/* Copied first: the file may hold it at an odd byte. */
		uint16_t aligned[2048];

		for (uint64_t at = 0; at < n; at += sizeof(aligned)) {
			uint64_t bytes = n - at < sizeof(aligned) ? n - at : sizeof(aligned);

			memcpy(aligned, from + at, bytes);
			found = load_find_nonfinite(aligned, bytes, INDEX_BF16);
			if (found >= 0)
				return not_finite(l, load, (done + at) / 2 + (uint64_t)found);
			widen((float *)(void *)to + (done + at) / 2, aligned, bytes / 2);
		}
		return 0;
	}
	memcpy(to + done, from, n);
	found = load_find_nonfinite(to + done, n, load->stored);
	return found < 0 ? 0 : not_finite(l, load, done / size + (uint64_t)found);
}

static int load_tensor(struct loading *l, uint64_t i)
{
	const struct index_load *load = &l->load[i];
	const struct window *w = &l->window;
	uint64_t done = 0;

	while (done < load->bytes) {
		uint64_t off = load->file_off + done;
		uint64_t left = load->bytes - done;
		uint64_t n =
			left < 4 ? left : 4; /* at least an element, so that none is cut in two */
		int rc = 0;

		if (w->file != load->file || off < w->off || off + n > w->off + w->len)
			rc = fill_window(l, i, off);
		if (rc)
			return rc;
		n = w->off + w->len - off;
		n = n < left ? n & ~(uint64_t)3 : left;
		rc = place_piece(l, load, done, w->data + (off - w->off), n);
		if (rc)
			return rc;
		done += n;
	}
	return 0;
}

int load_resident(const struct index *ix, const struct store_files *files, void *resident,
		  struct err *e)
{
	struct resident_header *header = resident;
	struct loading l = {
		.ix = ix,
		.files = files,
		.load = (const struct index_load *)(const void *)((const char *)ix + ix->loads.off),
		.resident = resident,
		.window.data = aligned_alloc(DRIVE_ALIGN, WINDOW_BYTES),
		.e = e,
	};
	uint64_t loaded = 0;
	int rc = 0;

	if (!l.window.data)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for reading the weights");
	header->magic = RESIDENT_MAGIC;
	header->bytes = ix->resident_bytes;
	for (uint64_t i = 0; !rc && i < ix->loads.count; i++) {
		rc = load_tensor(&l, i);
		if (rc)
			break;
		loaded += l.load[i].bytes;
		/* release: whoever acquires the count sees these weights */
		atomic_store_explicit(&header->loaded, loaded, memory_order_release);
	}
	free(l.window.data);
	return rc;
}
