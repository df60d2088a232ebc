/*
 * Streaming from the drive: one thread that keeps an io_uring full of O_DIRECT reads into
 * registered slots and says when an extent has arrived whole. The ring was made, registered and
 * restricted by init (drivers/nvme/ring.h); this side can submit READ_FIXED on the model's files
 * and nothing else. Called by runtime/experts; the thread sees numbers only, neither layers nor
 * experts.
 */
#ifndef DRIVERS_NVME_STREAM_H
#define DRIVERS_NVME_STREAM_H

#include "runtime/err.h"

#include <stdatomic.h>
#include <stdint.h>

enum {
	STREAM_PIECE =
		512 *
		1024, /* bytes of one read: 16 of these in flight saturate the drives we know (design 5) */
	STREAM_DEPTH = 16,
	STREAM_TRIES = 4, /* a read that fails is tried again this often */
	STREAM_EXTENTS = 3,
	STREAM_URGENT = 0, /* queues: decode's demand, then the rest */
	STREAM_NORMAL = 1,
	STREAM_QUEUES = 2
};

struct stream_extent {
	uint64_t off; /* in the file, DRIVE_ALIGN-aligned */
	uint64_t
		bytes; /* to read, a multiple of DRIVE_ALIGN; may reach beyond the end of the file */
	uint64_t need; /* of these, from off, must be there */
	uint64_t
		dest; /* in the slots object, DRIVE_ALIGN-aligned; the whole extent inside one registered piece */
	uint32_t file; /* number of the registered file */
	uint32_t pad;
};

/*
 * One slot's filling. The caller owns it and leaves it alone from stream_put until `done` is set.
 */
struct stream_job {
	struct stream_extent extent[STREAM_EXTENTS];
	uint32_t extents;
	uint32_t queue;
	/* the thread's own */
	uint64_t submitted; /* bytes of the current extent already asked for */
	uint32_t current;   /* extent being cut into reads */
	uint32_t flying;    /* reads in flight */
	int32_t error;      /* first error, negative errno; valid with done */
	uint64_t failed_at; /* byte in the file of that error */
	uint32_t failed_extent;
	_Atomic uint32_t
		done; /* release: 1 when no read of it is in flight and all bytes are there, or error is set */
};

struct stream;

struct stream_counts {
	_Atomic uint64_t bytes, reads;
};

/*
 * uring_fd and params (struct io_uring_params as init got it) are init's; `base` is the address of
 * byte 0 of the slots object in init's registration, pieces of piece_bytes each being registered
 * buffers 0, 1, ... `jobs_max` bounds the jobs under way. Starts the thread.
 */
MUST_CHECK int stream_open(struct stream **out, int uring_fd, const void *params, uint64_t base,
			   uint64_t piece_bytes, uint32_t jobs_max, struct err *e);

/*
 * Hands a job over; job->queue says how urgent it is. Never blocks: at most jobs_max are under way
 * by the caller's own count.
 */
void stream_put(struct stream *s, struct stream_job *job);

/* Waits until job->done; returns job->error or 0. */
int stream_wait(struct stream *s, struct stream_job *job);

const struct stream_counts *stream_counts(const struct stream *s);

#endif
