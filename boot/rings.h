/*
 * An io_uring ready for experts at any time, beside that of the spare (machinery 9, 20): a second
 * thread of init makes them. The first is there at once and without slots, which the thread then
 * makes and pins piece by piece while the node loads and answers; for pages of 4 KiB that takes a
 * second per 2 GB. Later ones share what was pinned. Called by boot/supervise.c.
 */
#ifndef BOOT_RINGS_H
#define BOOT_RINGS_H

#include "drivers/nvme/ring.h"
#include "ipc/layout.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
	RINGS_READY = 1, /* beside the one that the spare of experts has */
	RINGS_FILES = 1024,
	RINGS_PIECES = 1 << 14 /* the kernel's own limit */
};

struct rings {
	pthread_t thread;
	int want;   /* eventfd: a ring has been taken */
	int ready;  /* eventfd, for epoll: a ring is there, or none can be made */
	char *base; /* init's writable map of the slots */
	unsigned n_files, n_pieces;
	int file[RINGS_FILES];
	struct iovec piece[RINGS_PIECES];
	/* the first ring, by a descriptor of the thread's own: holds what the others share */
	int pinned_by;
	_Atomic uint64_t *pieces_there; /* in the node object: pieces that reads may go to */
	struct {
		struct io_uring ring;
		struct io_uring_params params;
	} stock[RINGS_READY];
	_Atomic uint64_t made, taken; /* stock[n % RINGS_READY] */
	_Atomic int failed;  /* the first, or the slots: -errno, release: error is written */
	_Atomic int failing; /* later: errno of the last try, 0: it went well */
	struct err error;
};

/*
 * Starts the thread for the slots object at `base` (writable, `plan`'s shape) and the model's
 * files. It counts the pieces that reads may go to in *pieces_there.
 */
MUST_CHECK int rings_start(struct rings *r, const struct plan *plan, void *base, const int *files,
			   unsigned n_files, _Atomic uint64_t *pieces_there, struct err *e);

/*
 * The ring from the stock: 1; 0 if none is ready yet; -errno with the maker's error if the first or
 * its slots could not be made. Later the maker tries again until it can: memory may be short for a
 * while. Never waits.
 */
MUST_CHECK int rings_take(struct rings *r, struct io_uring *ring, struct io_uring_params *params,
			  struct err *e);

/* Whether rings_take would give one. */
bool rings_stocked(const struct rings *r);

/* Why there has been none ready lately: an errno, or 0. */
int rings_failing(const struct rings *r);

/* `ready` has been seen: 0, or -errno with the maker's error if it has failed. */
MUST_CHECK int rings_seen(struct rings *r, struct err *e);

/* Whether the process may lock `bytes`: 0, or -EPERM with STATUS_MEMORY naming `ulimit -l`. */
MUST_CHECK int rings_may_lock(uint64_t bytes, struct err *e);

#endif
