/*
 * The io_uring through which `experts` reads the drive, as init makes it (machinery 20): created
 * disabled, the model's files and the slot pieces registered, restricted to READ_FIXED on
 * registered files, then enabled. Whoever holds its descriptor can read those files into those
 * pieces and nothing else. Called by init (create, empty, close) and by experts (attach).
 */
#ifndef DRIVERS_NVME_RING_H
#define DRIVERS_NVME_RING_H

#include "runtime/err.h"

#include <liburing.h>
#include <stdbool.h>
#include <sys/uio.h>

enum {
	NVME_RING_ENTRIES = 256, /* submission queue */
	/* submitted and unreaped reads never exceed this: none may be lost (machinery 10) */
	NVME_RING_COMPLETIONS = 1024
};

/*
 * Makes a ring with room for n_pieces buffers. files[i] becomes fixed file i. The caller's map of
 * ring and entries is in *ring; *params is what nvme_ring_attach needs. With clone_from >= 0, a
 * ring made by the same process, its buffers, which are all of `piece`, are shared instead of
 * pinned again (kernel 6.12), and where the kernel cannot, they are registered as usual. Else there
 * are none yet: nvme_ring_add brings them, so that reading can begin before all are pinned, and
 * setting a buffer is then the one register call that the ring allows. Returns 0 or -errno; memory
 * that may not be locked has STATUS_MEMORY and names `ulimit -l`.
 */
MUST_CHECK int nvme_ring_create(struct io_uring *ring, struct io_uring_params *params,
				const int *files, unsigned n_files, const struct iovec *piece,
				unsigned n_pieces, int clone_from, struct err *e);

/*
 * Pins *piece in the ring at descriptor ring_fd, which was made without buffers, as buffer k: the
 * addresses that an SQE names are those of the caller. Submission waits meanwhile, so pages that do
 * not exist yet are better made before. Errors as above.
 */
MUST_CHECK int nvme_ring_add(int ring_fd, unsigned k, const struct iovec *piece, struct err *e);

/*
 * Whether every read that was submitted has completed: cq.tail == sq.head. True after the death of
 * the process that used the ring means that no DMA of its reads is under way. Entries that were
 * written but not submitted are never read by the kernel.
 */
bool nvme_ring_empty(const struct io_uring *ring);

void nvme_ring_close(struct io_uring *ring);

/*
 * Maps the ring at descriptor fd, with the params that init published (struct node_uring).
 * io_uring_submit and the CQE functions of liburing work on it.
 */
MUST_CHECK int nvme_ring_attach(struct io_uring *ring, int fd, const struct io_uring_params *params,
				struct err *e);

#endif
