/*
 * Writes synthetic shards: threads take windows of the files in order, fill them and write them
 * with O_DIRECT where the file system has it; see synth.h.
 */
#include "model/index.h"
#include "runtime/cli/model.h"
#include "runtime/cli/synth.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	WINDOW_BYTES = 8 << 20,
	WRITERS = 4
};

struct writing {
	const struct synth_plan *p;
	int *fd;
	uint64_t *windows;        /* windows of shard i: [windows[i], windows[i + 1]) */
	_Atomic uint64_t next;    /* window that nobody has taken; relaxed: only a number */
	_Atomic uint64_t done;    /* bytes written; relaxed */
	_Atomic uint32_t running; /* writers that have not finished; release, acquire */
	_Atomic bool stop;        /* somebody failed; relaxed: a hint to end early */
	pthread_mutex_t lock;     /* over e */
	struct err e;
};

static void fail(struct writing *w, int code, const char *name, const char *what)
{
	pthread_mutex_lock(&w->lock);
	if (code == -EINTR)
		err_exit(&w->e, STATUS_CTRL_C, code, "interrupted: nothing is left behind");
	else
		err_set(&w->e, code, "%s: %s: %s", name, what, strerror(-code));
	pthread_mutex_unlock(&w->lock);
	atomic_store_explicit(&w->stop, true, memory_order_relaxed);
}

/* Bytes [off, off + len) of a shard. */
static void fill_window(const struct synth_plan *p, const struct synth_shard *d, uint64_t off,
			char *out, uint64_t len)
{
	uint64_t end = off + len;
	size_t lo = d->first;
	size_t hi = d->first + d->count;

	if (off < d->header_bytes) {
		uint64_t n = d->header_bytes < end ? d->header_bytes - off : len;

		memcpy(out, d->header + off, n);
	}
	while (lo < hi) { /* the first tensor that ends behind `off` */
		size_t mid = lo + (hi - lo) / 2;

		if (p->tensor[mid].off + p->tensor[mid].bytes <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < d->first + d->count && p->tensor[lo].off < end; lo++) {
		const struct synth_tensor *t = &p->tensor[lo];
		uint64_t begin = t->off > off ? t->off : off;
		uint64_t stop = t->off + t->bytes < end ? t->off + t->bytes : end;

		synth_fill(t, begin - t->off, out + (begin - off), stop - begin);
	}
}

static int write_all(int fd, const char *data, uint64_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pwrite(fd, data, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int write_window(struct writing *w, size_t shard, uint64_t off, char *buffer)
{
	const struct synth_shard *d = &w->p->shard[shard];
	const uint64_t len = d->bytes - off < WINDOW_BYTES ? d->bytes - off : WINDOW_BYTES;
	/* O_DIRECT writes whole pages; what is too much is cut off at the end. */
	const uint64_t padded = (len + DRIVE_ALIGN - 1) & ~(uint64_t)(DRIVE_ALIGN - 1);
	int rc;

	fill_window(w->p, d, off, buffer, len);
	memset(buffer + len, 0, padded - len);
	rc = write_all(w->fd[shard], buffer, padded, off);
	if (rc)
		fail(w, rc, d->name, "cannot write");
	else
		atomic_fetch_add_explicit(&w->done, len, memory_order_relaxed);
	return rc;
}

static void *writer(void *context)
{
	struct writing *w = context;
	char *buffer = aligned_alloc(DRIVE_ALIGN, WINDOW_BYTES);
	const uint64_t total = w->windows[w->p->n_shards];
	size_t shard = 0;

	if (!buffer)
		fail(w, -ENOMEM, "synth", "no memory for writing");
	while (buffer && !atomic_load_explicit(&w->stop, memory_order_relaxed)) {
		uint64_t n = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);

		if (n >= total)
			break;
		while (n >= w->windows[shard + 1])
			shard++;
		if (write_window(w, shard, (n - w->windows[shard]) * WINDOW_BYTES, buffer))
			break;
	}
	free(buffer);
	atomic_fetch_sub_explicit(&w->running, 1, memory_order_release);
	return NULL;
}

static int open_shards(struct writing *w, int dirfd, struct err *e)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;

	for (size_t i = 0; i < w->p->n_shards; i++) {
		const struct synth_shard *d = &w->p->shard[i];

		w->windows[i + 1] = w->windows[i] + (d->bytes + WINDOW_BYTES - 1) / WINDOW_BYTES;
		w->fd[i] = openat(dirfd, d->name, flags | O_DIRECT, 0644);
		if (w->fd[i] < 0 && errno == EINVAL) {
			unlinkat(dirfd, d->name,
				 0); /* some file systems make it before they refuse */
			w->fd[i] = openat(dirfd, d->name, flags, 0644);
		}
		if (w->fd[i] < 0)
			return err_set(e, -errno, "%s: cannot create: %s", d->name,
				       strerror(errno));
		/*
		 * Reserved at once: it fails early, and several threads may then write one file at
		 * a time.
		 */
		if (fallocate(w->fd[i], 0, 0, (off_t)d->bytes) < 0 && errno != EOPNOTSUPP)
			return err_set(e, -errno, "%s: cannot reserve %" PRIu64 " bytes: %s",
				       d->name, d->bytes, strerror(errno));
	}
	return 0;
}

static int run_writers(struct writing *w, double *seconds, struct err *e)
{
	const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
	struct cli_progress p;
	pthread_t thread[WRITERS];
	unsigned started = 0;

	atomic_store_explicit(&w->running, WRITERS, memory_order_relaxed);
	progress_begin(&p, "synth", w->p->bytes);
	for (; started < WRITERS; started++)
		if (pthread_create(&thread[started], NULL, writer, w))
			break;
	if (!started)
		return err_set(e, -EAGAIN, "cannot start a thread");
	atomic_fetch_sub_explicit(&w->running, WRITERS - started, memory_order_relaxed);
	while (atomic_load_explicit(&w->running, memory_order_acquire)) {
		if (synth_interrupted())
			fail(w, -EINTR, "synth", "interrupted");
		progress_show(&p, atomic_load_explicit(&w->done, memory_order_relaxed));
		nanosleep(&pause, NULL);
	}
	for (unsigned i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
	*seconds = progress_end(&p, atomic_load_explicit(&w->done, memory_order_relaxed));
	return w->e.code ? err_exit(e, (enum err_status)w->e.status, w->e.code, "%s", w->e.text)
			 : 0;
}

int synth_write(const struct synth_plan *p, int dirfd, double *seconds, struct err *e)
{
	struct writing w = {.p = p, .lock = PTHREAD_MUTEX_INITIALIZER};
	int rc = 0;

	w.fd = malloc(p->n_shards * sizeof(w.fd[0]));
	w.windows = calloc(p->n_shards + 1, sizeof(w.windows[0]));
	if (!w.fd || !w.windows) {
		free(w.fd);
		free(w.windows);
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for %zu shards", p->n_shards);
	}
	for (size_t i = 0; i < p->n_shards; i++)
		w.fd[i] = -1;
	rc = open_shards(&w, dirfd, e);
	if (!rc)
		rc = run_writers(&w, seconds, e);
	for (size_t i = 0; i < p->n_shards; i++) {
		if (!rc && ftruncate(w.fd[i], (off_t)p->shard[i].bytes) < 0)
			rc = err_set(e, -errno, "%s: cannot set its length: %s", p->shard[i].name,
				     strerror(errno));
		if (w.fd[i] >= 0)
			close(w.fd[i]);
	}
	free(w.fd);
	free(w.windows);
	return rc;
}

int synth_write_text(int dirfd, const char *name, const char *text, size_t len, struct err *e)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int rc = fd < 0 ? -errno : write_all(fd, text, len, 0);

	if (fd >= 0 && close(fd) < 0 && !rc)
		rc = -errno;
	return rc ? err_set(e, rc, "%s: cannot write: %s", name, strerror(-rc)) : 0;
}

int synth_write_index(const struct synth_plan *p, int dirfd, struct err *e)
{
	size_t room = 256 + p->n_tensors * 200;
	uint64_t data = 0;
	size_t n;
	char *text;
	int rc;

	if (p->n_shards == 1)
		return 0;
	text = malloc(room);
	if (!text)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the index of shards");
	for (size_t i = 0; i < p->n_tensors; i++)
		data += p->tensor[i].bytes;
	n = (size_t)snprintf(text, room,
			     "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64
			     "\n  },\n  \"weight_map\": {\n",
			     data);
	for (size_t i = 0; i < p->n_tensors; i++)
		n += (size_t)snprintf(text + n, room - n, "    \"%s\": \"%s\"%s\n",
				      p->tensor[i].name, p->shard[p->tensor[i].shard].name,
				      i + 1 < p->n_tensors ? "," : "");
	n += (size_t)snprintf(text + n, room - n, "  }\n}\n");
	rc = synth_write_text(dirfd, "model.safetensors.index.json", text, n, e);
	free(text);
	return rc;
}
