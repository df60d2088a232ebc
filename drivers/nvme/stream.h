/*
 * Streaming from the drives: keeps every drive's queue full of O_DIRECT reads into registered slots
 * and says how far each extent has arrived. The ring was made, registered and restricted by init
 * (drivers/nvme/ring.h); this side can submit READ_FIXED on the model's files and nothing else.
 * The caller submits what it asks for itself; a thread reaps, and fills the queues again. Called by
 * runtime/experts; what is here sees numbers only, neither layers nor experts.
 */
#ifndef DRIVERS_NVME_STREAM_H
#define DRIVERS_NVME_STREAM_H

#include "runtime/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	STREAM_PIECE =
		/*
		 * bytes of one read: 16 of these in flight saturate the drives we know (design 5)
		 */
		512 * 1024,
	STREAM_DEPTH = 16,  /* reads in flight on one drive */
	STREAM_DRIVES = 16, /* with queues of their own; more share these */
	STREAM_TRIES = 4,   /* a read that fails is tried again this often */
	STREAM_EXTENTS = 8  /* of one job */
};

/* Who is served first. */
enum stream_queue {
	STREAM_URGENT, /* decode's demand */
	STREAM_NORMAL, /* other demand */
	STREAM_HINT,   /* guesses: only while a drive has nothing else to do */
	STREAM_QUEUES
};

struct stream_extent {
	uint64_t off; /* in the file, DRIVE_ALIGN-aligned */
	/* to read, a multiple of DRIVE_ALIGN; may reach beyond the end of the file */
	uint64_t bytes;
	uint64_t need; /* of these, from off, must be there */
	/* in the slots object, DRIVE_ALIGN-aligned; the whole extent inside one registered piece */
	uint64_t dest;
	uint64_t
		step; /* from one STREAM_PIECE to the next in memory; STREAM_PIECE: without a gap */
	uint32_t file; /* number of the registered file */
	uint32_t pad;
};

/*
 * One slot's filling. The caller owns it, fills in the first three fields, and leaves it alone from
 * stream_put until stream_landed.
 */
struct stream_job {
	struct stream_extent extent[STREAM_EXTENTS];
	uint32_t extents;
	enum stream_queue queue;
	/* the stream's own, under its lock */
	struct stream_job *next;
	uint64_t asked[STREAM_EXTENTS]; /* bytes of each extent already asked for */
	int32_t error;                  /* first error, negative errno; valid with done */
	uint32_t failed_extent;
	uint64_t failed_at; /* byte in that extent's file of that error */
	uint64_t done_ns;   /* when it was done; valid with done */
	/* written by the stream, read by the caller */
	_Atomic uint64_t arrived[STREAM_EXTENTS]; /* release: bytes that are there without a gap */
	_Atomic uint32_t flying;                  /* reads in flight */
	_Atomic uint32_t done; /* release: 1 when all bytes are there, or error is set */
};

struct stream;

/* Relaxed: for counters only. */
struct stream_counts {
	_Atomic uint64_t bytes, reads;
	_Atomic uint64_t hint_bytes; /* of these, read before anybody demanded them */
	_Atomic uint64_t busy_ns;    /* a read was in flight; the mean of all drives */
	_Atomic uint64_t errors;     /* reads that failed, tried again or not */
};

/*
 * uring_fd and params (struct io_uring_params as init got it) are init's; `base` is the address of
 * byte 0 of the slots object in init's registration, pieces of piece_bytes each being registered
 * buffers 0, 1, ... drive[i] is the number of the drive on which registered file i lies, any
 * numbering; it is copied. Starts the thread.
 */
MUST_CHECK int stream_open(struct stream **out, int uring_fd, const void *params, uint64_t base,
			   uint64_t piece_bytes, const uint32_t *drive, uint32_t files,
			   struct err *e);

/* Hands a job over, and submits as much of it as its drives' queues take. */
void stream_put(struct stream *s, struct stream_job *job);

/*
 * A job is needed sooner than was thought: the first in `queue` from now on, if that is more
 * urgent.
 */
void stream_promote(struct stream *s, struct stream_job *job, enum stream_queue queue);

/*
 * Asks for no more of a job, which is then done with -ECANCELED: true, with the bytes that had been
 * asked for in *asked (may be NULL). False: there was nothing left to ask for.
 */
bool stream_cancel(struct stream *s, struct stream_job *job, uint64_t *asked);

/*
 * Waits until more of a job that is not done has arrived than `seen` bytes, or it is done. A read
 * that has been in flight for `deadline_ns` ends its job with -ETIMEDOUT (machinery 12).
 */
void stream_wait(struct stream *s, struct stream_job *job, uint64_t seen, uint64_t deadline_ns);

/* Waits until something has arrived, whoever's, or `ns` have passed. */
void stream_pause(struct stream *s, uint64_t ns);

/* Bytes of a job that have arrived; acquire: the caller sees them. */
static inline uint64_t stream_arrived(const struct stream_job *job)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < job->extents; i++)
		sum += atomic_load_explicit(&job->arrived[i], memory_order_acquire);
	return sum;
}

static inline bool stream_done(const struct stream_job *job)
{
	return atomic_load_explicit(&job->done, memory_order_acquire);
}

/* Done, and no read of it can write any more: memory and job may be used for something else. */
static inline bool stream_landed(const struct stream_job *job)
{
	return stream_done(job) && !atomic_load_explicit(&job->flying, memory_order_acquire);
}

const struct stream_counts *stream_counts(const struct stream *s);

#endif
