/*
 * The streaming of experts; see stream.h. Three lists of jobs by urgency; reads are cut from them
 * drive by drive until each has STREAM_DEPTH in flight. One lock stands over all of it: the leader
 * takes it to hand a job over, which it submits itself (waking a thread for that would cost a layer
 * 50 us of an idle drive), the thread to reap completions and to fill the queues again.
 *
 * No lost wake-up: the thread bumps `news` behind everything that it publishes and wakes if
 * `waiting` is set; the leader sets `waiting`, reads `news`, looks at its job, and only then waits
 * for `news` to change; all of these are seq_cst. The thread itself waits in io_uring_enter only,
 * whoever submitted.
 */
#include "drivers/nvme/stream.h"

#include "drivers/nvme/ring.h"
#include "runtime/clock.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	FLIGHTS = NVME_RING_ENTRIES,
	HINT_DELAY_NS = 300 * 1000, /* what a demand read may have to wait behind guesses */
	HINT_DEPTH = 8,
	RATE_BYTES = 256 << 20 /* how much history the rate of a drive has */
};

/* A read in flight. */
struct flight {
	struct stream_job *job; /* NULL: free */
	uint64_t off, dest;
	uint64_t since_ns;
	uint32_t bytes; /* still to come */
	uint32_t need;  /* of these must come */
	uint32_t file;
	uint32_t extent;
	uint32_t drive;
	uint32_t tries;
	bool hint;
};

struct list {
	struct stream_job *first, *last;
};

struct drive {
	uint32_t flying, demand; /* reads in flight; those of them that are no guesses */
	uint64_t counted_ns;     /* busy up to here is in the counts */
};

struct stream {
	struct io_uring ring; /* submission under the lock, completion the thread's */
	uint64_t base, piece_bytes;
	uint32_t *drive_of; /* [files] */
	uint32_t drives;
	pthread_mutex_t lock; /* over everything below but the atomics */
	struct drive drive[STREAM_DRIVES];
	struct list list[STREAM_QUEUES];
	struct flight flight[FLIGHTS];
	uint32_t free_flight[FLIGHTS];
	uint32_t n_free;
	uint64_t rate_bytes, rate_ns; /* of late */
	_Atomic uint32_t news;        /* bumped when something has arrived */
	_Atomic uint32_t waiting;     /* 1: the leader waits for news */
	struct stream_counts counts;
	pthread_t thread;
	sem_t begun; /* the thread has, and needs no more calls than it makes in its loop */
};

static void futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t ns)
{
	struct timespec t = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &t, NULL, 0);
}

/* ---- Lists ---- */

static void list_append(struct list *l, struct stream_job *job)
{
	job->next = NULL;
	if (l->last)
		l->last->next = job;
	else
		l->first = job;
	l->last = job;
}

static void list_prepend(struct list *l, struct stream_job *job)
{
	job->next = l->first;
	l->first = job;
	if (!l->last)
		l->last = job;
}

/* Whether it was there. */
static bool list_remove(struct list *l, struct stream_job *job)
{
	struct stream_job *before = NULL;

	for (struct stream_job *j = l->first; j; before = j, j = j->next) {
		if (j != job)
			continue;
		if (before)
			before->next = j->next;
		else
			l->first = j->next;
		if (l->last == j)
			l->last = before;
		return true;
	}
	return false;
}

/* ---- Submission ---- */

static bool all_asked(const struct stream_job *job)
{
	for (uint32_t x = 0; x < job->extents; x++) {
		if (job->asked[x] < job->extent[x].bytes)
			return false;
	}
	return true;
}

static void put_entry(struct stream *s, uint32_t f)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);
	const struct flight *fl = &s->flight[f];

	assert(sqe); /* the queue has FLIGHTS entries, and each flight holds at most one */
	io_uring_prep_read_fixed(sqe, (int)fl->file, (void *)(uintptr_t)(s->base + fl->dest),
				 fl->bytes, fl->off, (int)(fl->dest / s->piece_bytes));
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = f;
}

/* Adds to the counts that the drive has been busy since they were last brought up to date. */
static void count_busy(struct stream *s, struct drive *d, uint64_t now)
{
	uint64_t ns = now - d->counted_ns;

	if (d->flying) {
		atomic_fetch_add_explicit(&s->counts.busy_ns, ns / s->drives, memory_order_relaxed);
		s->rate_ns += ns;
	}
	d->counted_ns = now;
}

/* Cuts the next read of extent x. */
static void cut(struct stream *s, struct stream_job *job, uint32_t x, uint64_t now)
{
	const struct stream_extent *e = &job->extent[x];
	uint64_t at = job->asked[x], left = e->bytes - at, need = e->need > at ? e->need - at : 0;
	uint32_t bytes = left < STREAM_PIECE ? (uint32_t)left : STREAM_PIECE;
	uint32_t f = s->free_flight[--s->n_free];
	struct flight *fl = &s->flight[f];
	struct drive *d = &s->drive[s->drive_of[e->file]];

	*fl = (struct flight){.job = job,
			      .off = e->off + at,
			      .dest = e->dest + at / STREAM_PIECE * e->step,
			      .since_ns = now,
			      .bytes = bytes,
			      .need = need < bytes ? (uint32_t)need : bytes,
			      .file = e->file,
			      .extent = x,
			      .drive = s->drive_of[e->file],
			      .hint = job->queue == STREAM_HINT};
	count_busy(s, d, now);
	d->flying++;
	d->demand += !fl->hint;
	job->asked[x] += bytes;
	/* relaxed: whoever reads it has seen `done`, or is under the lock */
	atomic_fetch_add_explicit(&job->flying, 1, memory_order_relaxed);
	if (all_asked(job))
		list_remove(&s->list[job->queue], job);
	put_entry(s, f);
}

/* How many guesses may be in flight on one drive: as much as it reads in HINT_DELAY_NS. */
static uint32_t hint_depth(const struct stream *s)
{
	uint64_t bytes =
		s->rate_ns ? s->rate_bytes * (HINT_DELAY_NS / 1000) / (s->rate_ns / 1000 + 1) : 0;

	return bytes < STREAM_PIECE                ? 1
	       : bytes > HINT_DEPTH * STREAM_PIECE ? HINT_DEPTH
						   : (uint32_t)(bytes / STREAM_PIECE);
}

/* The next read for a drive, most urgent first. */
static bool next_read(const struct stream *s, uint32_t drive, struct stream_job **job,
		      uint32_t *extent)
{
	const struct drive *d = &s->drive[drive];

	for (unsigned q = 0; q < STREAM_QUEUES; q++) {
		if (q == STREAM_HINT && (d->demand || d->flying >= hint_depth(s)))
			return false;
		for (struct stream_job *j = s->list[q].first; j; j = j->next) {
			for (uint32_t x = 0; x < j->extents; x++) {
				if (j->asked[x] == j->extent[x].bytes ||
				    s->drive_of[j->extent[x].file] != drive)
					continue;
				*job = j;
				*extent = x;
				return true;
			}
		}
	}
	return false;
}

static void submit(struct stream *s)
{
	_Atomic uint32_t never = 0;

	while (io_uring_sq_ready(&s->ring)) {
		int rc = io_uring_submit(&s->ring);

		/*
		 * anything else means that ring and restrictions do not fit: our own bug, and never
		 * a reason to spin
		 */
		assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
		if (rc == -EAGAIN || rc == -EBUSY) /* the kernel is short of memory */
			futex_wait(&never, 0, NS_PER_MS);
	}
}

static void fill(struct stream *s)
{
	uint64_t now = clock_now_ns();
	struct stream_job *job;
	uint32_t x;

	for (uint32_t d = 0; d < s->drives; d++) {
		while (s->n_free && s->drive[d].flying < STREAM_DEPTH && next_read(s, d, &job, &x))
			cut(s, job, x, now);
	}
	submit(s);
}

/* ---- Completion ---- */

/* The job has failed with this read: no more of it is asked for. */
static void fail(struct stream *s, const struct flight *fl, int error)
{
	struct stream_job *job = fl->job;

	/* a job that is done is its caller's: only `flying` is still ours */
	if (stream_done(job) || job->error)
		return;
	list_remove(&s->list[job->queue], job);
	job->error = error;
	job->failed_at = fl->off;
	job->failed_extent = fl->extent;
}

/* Up to where an extent has arrived: to its first read that is still in flight. */
static void publish_arrived(struct stream *s, struct stream_job *job, uint32_t x)
{
	uint64_t end = job->asked[x];

	for (uint32_t f = 0; f < FLIGHTS; f++) {
		const struct flight *fl = &s->flight[f];

		if (fl->job == job && fl->extent == x && fl->off - job->extent[x].off < end)
			end = fl->off - job->extent[x].off;
	}
	/* release: the bytes are there with the count; pairs with stream_arrived */
	atomic_store_explicit(&job->arrived[x], end, memory_order_release);
}

/* Ends a job of which nothing more is wanted and nothing is in flight. */
static void settle(struct stream_job *job)
{
	if (stream_done(job) || atomic_load_explicit(&job->flying, memory_order_relaxed) ||
	    !(job->error || all_asked(job)))
		return;
	job->done_ns = clock_now_ns();
	/* release: the job's error and time are there with it, as are the bytes */
	atomic_store_explicit(&job->done, 1, memory_order_release);
}

/* The read has ended: whole, or with the job's error set. */
static void land(struct stream *s, uint32_t f)
{
	struct flight *fl = &s->flight[f];
	struct stream_job *job = fl->job;
	struct drive *d = &s->drive[fl->drive];
	uint32_t x = fl->extent;
	bool ours = !stream_done(job);

	count_busy(s, d, clock_now_ns());
	d->flying--;
	d->demand -= !fl->hint;
	fl->job = NULL;
	s->free_flight[s->n_free++] = f;
	if (ours && !job->error)
		publish_arrived(s, job, x);
	/* release: the last touch of a job that is done already; pairs with stream_landed */
	atomic_fetch_sub_explicit(&job->flying, 1, memory_order_release);
	if (ours)
		settle(job);
}

/* One completion. A short read is continued, an error tried again. */
static void complete(struct stream *s, uint32_t f, int result)
{
	struct flight *fl = &s->flight[f];

	atomic_fetch_add_explicit(&s->counts.reads, 1, memory_order_relaxed);
	if (result > 0) {
		uint32_t got = (uint32_t)result;

		atomic_fetch_add_explicit(&s->counts.bytes, got, memory_order_relaxed);
		if (fl->hint)
			atomic_fetch_add_explicit(&s->counts.hint_bytes, got, memory_order_relaxed);
		s->rate_bytes += got;
		if (got < fl->need) {
			/* O_DIRECT goes on at a block's border: read the ragged end again */
			got &= ~4095u;
			fl->off += got;
			fl->dest += got;
			fl->bytes -= got;
			fl->need -= got;
			if (got || ++fl->tries < STREAM_TRIES) {
				put_entry(s, f);
				return;
			}
			fail(s, fl, -ENODATA);
		}
	} else if (result == 0 && fl->need) {
		fail(s, fl, -ENODATA); /* the file ends before the expert does */
	} else if (result < 0) {
		atomic_fetch_add_explicit(&s->counts.errors, 1, memory_order_relaxed);
		if (++fl->tries < STREAM_TRIES) {
			put_entry(s, f);
			return;
		}
		fail(s, fl, result);
	}
	land(s, f);
}

static void reap(struct stream *s)
{
	struct io_uring_cqe *cqe;
	unsigned head, seen = 0;

	io_uring_for_each_cqe(&s->ring, head, cqe)
	{
		seen++;
		complete(s, (uint32_t)cqe->user_data, cqe->res);
	}
	io_uring_cq_advance(&s->ring, seen);
	if (s->rate_bytes > RATE_BYTES) {
		s->rate_bytes /= 2;
		s->rate_ns /= 2;
	}
}

static void *stream_thread(void *context)
{
	struct stream *s = context;

	sem_post(&s->begun);
	for (;;) {
		struct io_uring_cqe *cqe;
		int rc = io_uring_wait_cqe(&s->ring, &cqe);

		assert(rc == 0 || rc == -EINTR || rc == -EAGAIN);
		pthread_mutex_lock(&s->lock);
		reap(s);
		fill(s);
		pthread_mutex_unlock(&s->lock);
		atomic_fetch_add_explicit(&s->news, 1, memory_order_seq_cst);
		if (atomic_load_explicit(&s->waiting, memory_order_seq_cst))
			syscall(SYS_futex, &s->news, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
	return NULL;
}

/* ---- The leader's side ---- */

/* The drives of the files, numbered from 0. */
static int number_drives(struct stream *s, const uint32_t *drive, uint32_t files, struct err *e)
{
	uint32_t number[STREAM_DRIVES];

	s->drive_of = calloc(files + 1, sizeof(*s->drive_of));
	if (!s->drive_of)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for %u files", files);
	for (uint32_t i = 0; i < files; i++) {
		uint32_t d = 0;

		while (d < s->drives && number[d] != drive[i])
			d++;
		if (d == s->drives && d < STREAM_DRIVES)
			number[s->drives++] = drive[i];
		s->drive_of[i] = d % STREAM_DRIVES;
	}
	return 0;
}

int stream_open(struct stream **out, int uring_fd, const void *params, uint64_t base,
		uint64_t piece_bytes, const uint32_t *drive, uint32_t files, struct err *e)
{
	struct stream *s = calloc(1, sizeof(*s));
	struct io_uring_params p;
	int rc;

	if (!s)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the streaming thread");
	memcpy(&p, params, sizeof(p));
	rc = number_drives(s, drive, files, e);
	if (!rc)
		rc = nvme_ring_attach(&s->ring, uring_fd, &p, e);
	if (rc)
		return rc;
	s->base = base;
	s->piece_bytes = piece_bytes;
	pthread_mutex_init(&s->lock, NULL);
	for (uint32_t f = 0; f < FLIGHTS; f++)
		s->free_flight[s->n_free++] = f;
	sem_init(&s->begun, 0, 0);
	rc = pthread_create(&s->thread, NULL, stream_thread, s);
	if (rc)
		return err_set(e, -rc, "cannot start the streaming thread: %s", strerror(rc));
	while (sem_wait(&s->begun))
		;
	*out = s;
	return 0;
}

void stream_put(struct stream *s, struct stream_job *job)
{
	for (uint32_t x = 0; x < STREAM_EXTENTS; x++) {
		job->asked[x] = 0;
		atomic_store_explicit(&job->arrived[x], 0, memory_order_relaxed);
	}
	job->error = 0;
	atomic_store_explicit(&job->flying, 0, memory_order_relaxed);
	atomic_store_explicit(&job->done, 0, memory_order_relaxed);
	pthread_mutex_lock(&s->lock);
	list_append(&s->list[job->queue], job);
	fill(s);
	pthread_mutex_unlock(&s->lock);
}

void stream_promote(struct stream *s, struct stream_job *job, enum stream_queue queue)
{
	pthread_mutex_lock(&s->lock);
	if (!stream_done(job) && job->queue > queue) {
		bool queued = list_remove(&s->list[job->queue], job);

		job->queue = queue;
		if (queued)
			list_prepend(&s->list[queue], job);
		for (uint32_t f = 0; f < FLIGHTS; f++) {
			struct flight *fl = &s->flight[f];

			if (fl->job == job && fl->hint) {
				fl->hint = false;
				s->drive[fl->drive].demand++;
			}
		}
		fill(s);
	}
	pthread_mutex_unlock(&s->lock);
}

/* Under the lock: no more of the job is asked for. */
static void give_up(struct stream *s, struct stream_job *job, int error)
{
	list_remove(&s->list[job->queue], job);
	if (job->error)
		return;
	job->error = error;
	job->failed_extent = 0;
	job->failed_at = job->extent[0].off;
}

bool stream_cancel(struct stream *s, struct stream_job *job, uint64_t *asked)
{
	bool left;

	pthread_mutex_lock(&s->lock);
	left = !stream_done(job) && !all_asked(job);
	if (left) {
		if (asked) {
			*asked = 0;
			for (uint32_t x = 0; x < job->extents; x++)
				*asked += job->asked[x];
		}
		give_up(s, job, -ECANCELED);
		settle(job); /* or when nothing of it is in flight any more */
	}
	pthread_mutex_unlock(&s->lock);
	return left;
}

/* Whether the job waits for this read: its own, or one that keeps a place its own could have. */
static bool waits_for(const struct stream *s, const struct stream_job *job, const struct flight *fl)
{
	if (!fl->job || fl->job == job)
		return fl->job == job;
	for (uint32_t x = 0; x < job->extents; x++) {
		if (job->asked[x] < job->extent[x].bytes &&
		    s->drive_of[job->extent[x].file] == fl->drive)
			return true;
	}
	return false;
}

/*
 * Ends the job if a read that it waits for has been in flight for too long; else returns the ns
 * until one would have been. The read itself goes on: stream_landed tells when it no longer does.
 */
static uint64_t check_deadline(struct stream *s, struct stream_job *job, uint64_t deadline_ns)
{
	uint64_t now = clock_now_ns(), oldest = now;
	const struct flight *late = NULL;

	pthread_mutex_lock(&s->lock);
	for (uint32_t f = 0; f < FLIGHTS; f++) {
		const struct flight *fl = &s->flight[f];

		if (waits_for(s, job, fl) && fl->since_ns < oldest) {
			oldest = fl->since_ns;
			late = fl;
		}
	}
	if (late && now - oldest >= deadline_ns && !stream_done(job)) {
		if (late->job == job)
			fail(s, late, -ETIMEDOUT);
		else
			give_up(s, job, -ETIMEDOUT);
		job->done_ns = now;
		atomic_store_explicit(&job->done, 1, memory_order_release);
	}
	pthread_mutex_unlock(&s->lock);
	return deadline_ns > now - oldest ? deadline_ns - (now - oldest) : 0;
}

void stream_wait(struct stream *s, struct stream_job *job, uint64_t seen, uint64_t deadline_ns)
{
	/* a drive that has not answered others for so long is not waited for once more */
	uint64_t now = clock_now_ns(),
		 look = now + (deadline_ns < NS_PER_S ? deadline_ns : NS_PER_S);

	atomic_store_explicit(&s->waiting, 1, memory_order_seq_cst);
	for (;;) {
		uint32_t news = atomic_load_explicit(&s->news, memory_order_seq_cst);

		if (stream_done(job) || stream_arrived(job) > seen)
			break;
		futex_wait(&s->news, news, look - now);
		now = clock_now_ns();
		if (now >= look)
			look = now + check_deadline(s, job, deadline_ns);
	}
	atomic_store_explicit(&s->waiting, 0, memory_order_relaxed);
}

void stream_pause(struct stream *s, uint64_t ns)
{
	uint32_t news;

	atomic_store_explicit(&s->waiting, 1, memory_order_seq_cst);
	news = atomic_load_explicit(&s->news, memory_order_seq_cst);
	futex_wait(&s->news, news, ns);
	atomic_store_explicit(&s->waiting, 0, memory_order_relaxed);
}

const struct stream_counts *stream_counts(const struct stream *s)
{
	return &s->counts;
}
