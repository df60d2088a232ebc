/*
 * The streaming thread; see stream.h. Two lists of jobs by urgency, filled by the server's leader
 * through single-producer queues; reads are cut from the head job until STREAM_DEPTH are in flight.
 * The thread sleeps in io_uring_enter while reads are in flight, else on a futex word.
 *
 * No lost wake-up: the leader publishes the job by `tail` and wakes if `asleep` was set; the thread
 * sets `asleep`, looks at the queues again, and only then waits; all four are seq_cst. While reads
 * are in flight it does not look at that word: the next completion, a few hundred microseconds
 * away, makes it look.
 */
#include "drivers/nvme/stream.h"

#include "drivers/nvme/ring.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A read in flight. */
struct flight {
	struct stream_job *job;
	uint64_t off, dest;
	uint32_t bytes; /* still to come */
	uint32_t need;  /* of these must come */
	uint32_t file;
	uint32_t extent;
	uint32_t tries;
};

/* Jobs from the leader to the thread. */
struct queue {
	struct stream_job **job; /* [capacity] */
	uint32_t capacity;
	_Atomic uint64_t tail; /* the leader's */
	uint64_t head;         /* the thread's */
};

struct stream {
	struct io_uring ring;
	uint64_t base, piece_bytes;
	struct queue queue[STREAM_QUEUES];
	struct flight flight[STREAM_DEPTH];
	uint32_t free_flight[STREAM_DEPTH];
	uint32_t n_free;
	_Atomic uint32_t asleep;  /* 1: the thread waits on this word */
	_Atomic uint32_t arrived; /* bumped with every finished job; the leader waits on it */
	struct stream_counts counts;
	pthread_t thread;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Whether every byte of the job has been asked for, or it has failed. */
static bool job_cut(const struct stream_job *job)
{
	return job->error || job->current == job->extents;
}

/* The first job of a queue that has bytes to ask for, those before it dropped; NULL if none. */
static struct stream_job *queue_head(struct queue *q)
{
	/* seq_cst: behind the store to `asleep`; also the acquire of the release in stream_put */
	while (q->head != atomic_load_explicit(&q->tail, memory_order_seq_cst)) {
		struct stream_job *job = q->job[q->head % q->capacity];

		if (!job_cut(job))
			return job;
		q->head++;
	}
	return NULL;
}

static void finish_job(struct stream *s, struct stream_job *job)
{
	/* the job is the caller's again with `done`: no entry may name it any more */
	for (unsigned i = 0; i < STREAM_QUEUES; i++)
		queue_head(&s->queue[i]);
	/*
	 * release: the job's error and the slot's bytes are there with it; pairs with stream_wait
	 */
	atomic_store_explicit(&job->done, 1, memory_order_release);
	atomic_fetch_add_explicit(&s->arrived, 1, memory_order_seq_cst);
	futex_wake(&s->arrived);
}

static void submit(struct stream *s, uint32_t f)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);
	const struct flight *fl = &s->flight[f];

	/*
	 * an entry is always free: the queue has at least STREAM_DEPTH and each flight holds at
	 * most one
	 */
	io_uring_prep_read_fixed(sqe, (int)fl->file, (void *)(uintptr_t)(s->base + fl->dest),
				 fl->bytes, fl->off, (int)(fl->dest / s->piece_bytes));
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = f;
}

/* Cuts the next read from a job that is not cut yet. */
static void cut(struct stream *s, struct stream_job *job)
{
	const struct stream_extent *x = &job->extent[job->current];
	uint64_t left = x->bytes - job->submitted, at = job->submitted;
	uint32_t bytes = left < STREAM_PIECE ? (uint32_t)left : STREAM_PIECE;
	uint32_t f = s->free_flight[--s->n_free];
	uint64_t need = x->need > at ? x->need - at : 0;

	s->flight[f] = (struct flight){.job = job,
				       .off = x->off + at,
				       .dest = x->dest + at,
				       .bytes = bytes,
				       .need = need < bytes ? (uint32_t)need : bytes,
				       .file = x->file,
				       .extent = job->current};
	job->submitted += bytes;
	if (job->submitted == x->bytes) {
		job->current++;
		job->submitted = 0;
	}
	job->flying++;
	submit(s, f);
}

/* The next job that has bytes to ask for, most urgent first; NULL if none. */
static struct stream_job *next_job(struct stream *s)
{
	for (unsigned i = 0; i < STREAM_QUEUES; i++) {
		struct stream_job *job = queue_head(&s->queue[i]);

		if (job)
			return job;
	}
	return NULL;
}

static void fail(const struct flight *fl, int error)
{
	if (!fl->job->error) {
		fl->job->error = error;
		fl->job->failed_at = fl->off;
		fl->job->failed_extent = fl->extent;
	}
}

/*
 * One completion. A short read is continued, an error tried again; a job whose last read has landed
 * is finished.
 */
static void complete(struct stream *s, uint32_t f, int result)
{
	struct flight *fl = &s->flight[f];
	struct stream_job *job = fl->job;

	atomic_fetch_add_explicit(&s->counts.reads, 1, memory_order_relaxed);
	if (result > 0) {
		uint32_t got = (uint32_t)result;

		atomic_fetch_add_explicit(&s->counts.bytes, got, memory_order_relaxed);
		if (got < fl->need) {
			/* O_DIRECT goes on at a block's border: read the ragged end again */
			got &= ~4095u;
			fl->off += got;
			fl->dest += got;
			fl->bytes -= got;
			fl->need -= got;
			if (got || ++fl->tries < STREAM_TRIES) {
				submit(s, f);
				return;
			}
			fail(fl, -ENODATA);
		}
	} else if (result == 0 && fl->need) {
		fail(fl, -ENODATA); /* the file ends before the expert does */
	} else if (result < 0) {
		if (++fl->tries < STREAM_TRIES) {
			submit(s, f);
			return;
		}
		fail(fl, result);
	}
	s->free_flight[s->n_free++] = f;
	job->flying--;
	if (!job->flying && job_cut(job))
		finish_job(s, job);
}

static void sleep_until_put(struct stream *s)
{
	atomic_store_explicit(&s->asleep, 1, memory_order_seq_cst);
	if (next_job(s)) {
		atomic_store_explicit(&s->asleep, 0, memory_order_relaxed);
		return;
	}
	futex_wait(&s->asleep, 1);
	atomic_store_explicit(&s->asleep, 0, memory_order_relaxed);
}

static void *stream_thread(void *context)
{
	struct stream *s = context;

	for (;;) {
		struct stream_job *job;
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		int rc;

		while (s->n_free && (job = next_job(s)) != NULL)
			cut(s, job);
		if (s->n_free == STREAM_DEPTH) {
			sleep_until_put(s);
			continue;
		}
		rc = io_uring_submit_and_wait(&s->ring, 1);
		/*
		 * anything else means that ring and restrictions do not fit: our own bug, and never
		 * a reason to spin
		 */
		assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
		io_uring_for_each_cqe(&s->ring, head, cqe)
		{
			seen++;
			complete(s, (uint32_t)cqe->user_data, cqe->res);
		}
		io_uring_cq_advance(&s->ring, seen);
	}
	return NULL;
}

int stream_open(struct stream **out, int uring_fd, const void *params, uint64_t base,
		uint64_t piece_bytes, uint32_t jobs_max, struct err *e)
{
	struct stream *s = calloc(1, sizeof(*s));
	struct io_uring_params p;
	int rc;

	if (!s)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the streaming thread");
	memcpy(&p, params, sizeof(p));
	rc = nvme_ring_attach(&s->ring, uring_fd, &p, e);
	if (rc)
		return rc;
	s->base = base;
	s->piece_bytes = piece_bytes;
	for (unsigned i = 0; i < STREAM_QUEUES; i++) {
		s->queue[i].capacity = jobs_max + 1;
		s->queue[i].job = calloc(s->queue[i].capacity, sizeof(*s->queue[i].job));
		if (!s->queue[i].job)
			return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for %u reads",
					jobs_max);
	}
	for (uint32_t f = 0; f < STREAM_DEPTH; f++)
		s->free_flight[s->n_free++] = f;
	rc = pthread_create(&s->thread, NULL, stream_thread, s);
	if (rc)
		return err_set(e, -rc, "cannot start the streaming thread: %s", strerror(rc));
	*out = s;
	return 0;
}

void stream_put(struct stream *s, struct stream_job *job)
{
	struct queue *q = &s->queue[job->queue];
	uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);

	job->submitted = 0;
	job->current = 0;
	job->flying = 0;
	job->error = 0;
	atomic_store_explicit(&job->done, 0, memory_order_relaxed);
	q->job[tail % q->capacity] = job;
	/* seq_cst: ordered before the look at `asleep`, and releases the job to the thread */
	atomic_store_explicit(&q->tail, tail + 1, memory_order_seq_cst);
	if (atomic_exchange_explicit(&s->asleep, 0, memory_order_seq_cst))
		futex_wake(&s->asleep);
}

int stream_wait(struct stream *s, struct stream_job *job)
{
	for (;;) {
		uint32_t arrived = atomic_load_explicit(&s->arrived, memory_order_seq_cst);

		/* acquire: pairs with finish_job */
		if (atomic_load_explicit(&job->done, memory_order_acquire))
			return job->error;
		futex_wait(&s->arrived, arrived);
	}
}

const struct stream_counts *stream_counts(const struct stream *s)
{
	return &s->counts;
}
