/*
 * Reads the resident weights; see load.h. Neighbours in the list are usually neighbours in the file
 * (the survey sorted them so), and most are small scales: they are read together, a window of the
 * file at a time. A few readers take such windows in the order of the list, so that the drive is
 * busy while what it delivered is checked and put in place; the count that others see is that of
 * the list's unbroken beginning. Of a packed store whole pieces are read, and their hashes checked.
 */
#include "model/store/load.h"

#include "model/store/pack.h"
#include "runtime/huge.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	READERS = 3,
	WINDOW_BYTES = 8 << 20, /* a multiple of DRIVE_ALIGN and of PACK_PIECE */
	GAP_BYTES =
		64 << 10 /* unneeded bytes between two tensors that are cheaper read than skipped */
};

/* A place in the list: byte `done` of the tensor of load i. */
struct cursor {
	uint64_t i, done;
	uint64_t before; /* bytes of the list up to here */
};

/*
 * What one reader does at a time: the list from `begin` to `end`, all of one file and inside one
 * window of it.
 */
struct job {
	struct cursor begin, end;
	uint64_t file_off, file_end; /* bytes that hold it */
	char *fill;                  /* memory that no job before it has reached, NULL: none */
	size_t fill_bytes;
};

struct reader {
	struct loading *l;
	pthread_t thread;
	char *window;   /* WINDOW_BYTES, aligned */
	struct job job; /* under the lock; running: not done yet */
	bool running;
	struct err e; /* what went wrong with the job */
};

struct loading {
	const struct index *ix;
	const struct store_files *files;
	struct pack_source packed; /* where the model is a packed store */
	const struct index_load *load;
	char *resident;
	uint64_t bytes;       /* of it */
	pthread_mutex_t lock; /* over everything below, and the readers' jobs */
	struct cursor next;   /* where the next job begins */
	char *filled;         /* memory below has been given to a job */
	bool failed;          /* no more jobs */
	struct reader reader[READERS];
};

/* Cuts the next job off the list. The list is not at its end. */
static void cut_job(const struct loading *l, struct job *job)
{
	struct cursor c = l->next;
	const struct index_load *load = &l->load[c.i];
	const uint64_t file = load->file;
	uint64_t end = load->file_off + c.done;
	uint64_t limit;

	job->begin = c;
	job->file_off = end & ~(uint64_t)((l->ix->pack.parts ? PACK_PIECE : DRIVE_ALIGN) - 1);
	limit = job->file_off + WINDOW_BYTES;
	for (; c.i < l->ix->loads.count; c.i++, c.done = 0) {
		uint64_t start;
		uint64_t left;
		uint64_t take;

		load = &l->load[c.i];
		start = load->file_off + c.done;
		left = load->bytes - c.done;
		if (load->file != file || start < end || start - end > GAP_BYTES || start >= limit)
			break;
		/*
		 * A tensor that goes on behind the window is cut at a multiple of four bytes, so
		 * that no element is.
		 */
		take = left <= limit - start ? left : (limit - start) & ~(uint64_t)3;
		c.done += take;
		c.before += take;
		end = start + take;
		if (take < left)
			break;
	}
	job->end = c;
	job->file_end = end;
}

/* Gives the job the memory up to its end that nobody has been given, to make it huge pages. */
static void cut_memory(struct loading *l, struct job *job)
{
	uint64_t end = 0;

	for (uint64_t i = job->begin.i; i <= job->end.i && i < l->ix->loads.count; i++) {
		const struct index_load *load = &l->load[i];
		uint64_t bytes = i == job->end.i ? job->end.done : load->bytes;

		if (load->off + (load->widen ? 2 : 1) * bytes > end)
			end = load->off + (load->widen ? 2 : 1) * bytes;
	}
	/* a huge page is its first byte's */
	end += -(uintptr_t)(l->resident + end) % HUGE_PAGE;
	end = end < l->bytes ? end : l->bytes;
	job->fill = l->filled;
	job->fill_bytes =
		l->resident + end > l->filled ? (size_t)(l->resident + end - l->filled) : 0;
	l->filled += job->fill_bytes;
}

/* Of a packed store: whole pieces. The window begins with one. */
static int read_pieces(struct reader *r)
{
	const struct index_pack_area *a = &r->l->ix->pack.area[PACK_RESIDENT];
	char *to = r->window;
	int rc = 0;

	for (uint64_t at = r->job.file_off; !rc && at < r->job.file_end; at += PACK_PIECE) {
		rc = pack_read(&r->l->packed, PACK_RESIDENT, 0, (at - a->off) / PACK_PIECE, to,
			       &r->e);
		to += PACK_PIECE;
	}
	return rc;
}

/*
 * Reads a job's bytes. Window and file offset are aligned alike, so that only the file's ragged end
 * goes through the bounce buffer.
 */
static int read_job(struct reader *r)
{
	const struct loading *l = r->l;
	const struct job *job = &r->job;
	const uint32_t file = l->load[job->begin.i].file;
	const uint64_t file_bytes = l->files->file[file].bytes;
	uint64_t end = (job->file_end + DRIVE_ALIGN - 1) & ~(uint64_t)(DRIVE_ALIGN - 1);
	char tail[2 * DRIVE_ALIGN];
	char *bounce = tail + (DRIVE_ALIGN - (uintptr_t)tail % DRIVE_ALIGN) % DRIVE_ALIGN;

	if (l->ix->pack.parts)
		return read_pieces(r);
	end = end < file_bytes ? end : file_bytes;
	if (end <= job->file_off)
		return 0; /* empty tensors at the file's end */
	return store_read(l->files, file, job->file_off, r->window, end - job->file_off, bounce,
			  DRIVE_ALIGN, &r->e);
}

static void widen(float *out, const uint16_t *in, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t bits = (uint32_t)in[i] << 16;

		memcpy(&out[i], &bits, sizeof(bits));
	}
}

static int not_finite(struct reader *r, const struct index_load *load, uint64_t element)
{
	const char *name = (const char *)r->l->ix + r->l->ix->names.off + load->name;
	char cut[204];

	return err_exit(
		&r->e, STATUS_MODEL, -EBADMSG,
		"%s: tensor %s: element %" PRIu64 " is not a finite number: the file is damaged. "
		"Copy it again",
		r->l->files->file[load->file].name, err_name(cut, name, strlen(name)), element);
}

/*
 * Takes bytes [done, done + n) of the tensor from `from`, checks them and puts them in their place.
 */
static int place_piece(struct reader *r, const struct index_load *load, uint64_t done,
		       const char *from, uint64_t n)
{
	const uint64_t size = load->stored == INDEX_F32 ? 4 : load->stored == INDEX_BF16 ? 2 : 1;
	char *to = r->l->resident + load->off;
	int64_t found;

	if (load->widen) {
		/* Copied first: the file may hold it at an odd byte. */
		uint16_t aligned[2048];

		for (uint64_t at = 0; at < n; at += sizeof(aligned)) {
			uint64_t bytes = n - at < sizeof(aligned) ? n - at : sizeof(aligned);

			memcpy(aligned, from + at, bytes);
			found = load_find_nonfinite(aligned, bytes, INDEX_BF16);
			if (found >= 0)
				return not_finite(r, load, (done + at) / 2 + (uint64_t)found);
			widen((float *)(void *)to + (done + at) / 2, aligned, bytes / 2);
		}
		return 0;
	}
	memcpy(to + done, from, n);
	found = load_find_nonfinite(to + done, n, load->stored);
	return found < 0 ? 0 : not_finite(r, load, done / size + (uint64_t)found);
}

static int place_job(struct reader *r)
{
	const struct job *job = &r->job;
	int rc = 0;

	for (uint64_t i = job->begin.i; !rc && i <= job->end.i && i < r->l->ix->loads.count; i++) {
		const struct index_load *load = &r->l->load[i];
		uint64_t from = i == job->begin.i ? job->begin.done : 0;
		uint64_t to = i == job->end.i ? job->end.done : load->bytes;

		if (to > from)
			rc = place_piece(r, load, from,
					 r->window + (load->file_off + from - job->file_off),
					 to - from);
	}
	return rc;
}

/*
 * Publishes how much of the list is there without a gap: up to the earliest job that is still
 * running. Under the lock.
 */
static void publish(struct loading *l)
{
	struct resident_header *header = (struct resident_header *)(void *)l->resident;
	uint64_t loaded = l->next.before;

	for (unsigned i = 0; i < READERS; i++)
		if (l->reader[i].running && l->reader[i].job.begin.before < loaded)
			loaded = l->reader[i].job.begin.before;
	/*
	 * release: whoever acquires the count sees these weights; other readers' came through the
	 * lock
	 */
	atomic_store_explicit(&header->loaded, loaded, memory_order_release);
	/* servers wait for the low half of the count */
	syscall(SYS_futex, &header->loaded, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/*
 * Ends the job that the reader had, and takes the next. False at the end of the list or after a
 * failure.
 */
static bool next_job(struct reader *r, bool finished)
{
	struct loading *l = r->l;
	bool more;

	pthread_mutex_lock(&l->lock);
	if (finished) {
		r->running = false;
		if (!l->failed)
			publish(l);
	}
	more = !l->failed && l->next.i < l->ix->loads.count;
	if (more) {
		cut_job(l, &r->job);
		cut_memory(l, &r->job);
		l->next = r->job.end;
		r->running = true;
	}
	pthread_mutex_unlock(&l->lock);
	return more;
}

static void *reader(void *context)
{
	struct reader *r = context;
	bool finished = false;

	while (next_job(r, finished)) {
		int rc = read_job(r);

		/* where the kernel has none, memory comes page by page as it is written */
		huge_fill(r->job.fill, r->job.fill_bytes);
		if (!rc)
			rc = place_job(r);
		if (rc) {
			pthread_mutex_lock(&r->l->lock);
			r->l->failed = true;
			pthread_mutex_unlock(&r->l->lock);
			break;
		}
		finished = true;
	}
	return NULL;
}

/*
 * The failure that comes first in the list: every job before it was taken earlier and has been
 * finished.
 */
static int first_failure(const struct loading *l, struct err *e)
{
	const struct reader *first = NULL;

	for (unsigned i = 0; i < READERS; i++) {
		const struct reader *r = &l->reader[i];

		if (r->e.code && (!first || r->job.begin.before < first->job.begin.before))
			first = r;
	}
	return first ? err_exit(e, (enum err_status)first->e.status, first->e.code, "%s",
				first->e.text)
		     : 0;
}

int load_resident(const struct index *ix, const struct store_files *files, void *resident,
		  struct err *e)
{
	struct resident_header *header = resident;
	struct loading l = {
		.ix = ix,
		.files = files,
		.packed = {.files = files,
			   .map = &ix->pack,
			   .hashes = (const uint8_t *)ix + ix->pack.hashes.off,
			   .isa = cpu_isa_best()},
		.load = (const struct index_load *)(const void *)((const char *)ix + ix->loads.off),
		.resident = resident,
		.bytes = ix->resident_bytes,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	char *windows = aligned_alloc(DRIVE_ALIGN, (size_t)READERS * WINDOW_BYTES);
	unsigned started = 1;
	int rc;

	if (!windows)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for reading the weights");
	l.filled = resident;
	header->magic = RESIDENT_MAGIC;
	header->bytes = ix->resident_bytes;
	for (unsigned i = 0; i < READERS; i++) {
		l.reader[i].l = &l;
		l.reader[i].window = windows + (size_t)i * WINDOW_BYTES;
	}
	/* The caller is the first reader; without the others it is only slower. */
	for (; started < READERS; started++)
		if (pthread_create(&l.reader[started].thread, NULL, reader, &l.reader[started]))
			break;
	reader(&l.reader[0]);
	for (unsigned i = 1; i < started; i++)
		pthread_join(l.reader[i].thread, NULL);
	rc = first_failure(&l, e);
	free(windows);
	return rc;
}
