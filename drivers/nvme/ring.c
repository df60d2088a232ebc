/* Makes and maps the restricted io_uring; see ring.h. */
#include "drivers/nvme/ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static int pin_error(int rc, struct err *e)
{
	if (rc == -ENOMEM || rc == -EPERM)
		return err_exit(
			e, STATUS_MEMORY, rc,
			"init: the slots cannot be locked for the drive: %s. Raise the limit "
			"(`ulimit -l unlimited`) or use fewer slots (--slots, --memory)",
			strerror(-rc));
	return err_set(e, rc, "init: cannot register the slots with io_uring: %s", strerror(-rc));
}

static int register_pieces(struct io_uring *ring, const struct iovec *piece, unsigned n,
			   int clone_from, struct err *e)
{
	struct io_uring source = {.ring_fd = clone_from, .enter_ring_fd = clone_from};
	int rc = -EINVAL;

	if (clone_from < 0) {
		rc = io_uring_register_buffers_sparse(ring, n);
	} else {
		rc = io_uring_clone_buffers(ring, &source);
		if (rc < 0)
			rc = io_uring_register_buffers(ring, piece, n);
	}
	return rc < 0 ? pin_error(rc, e) : 0;
}

int nvme_ring_add(int ring_fd, unsigned k, const struct iovec *piece, struct err *e)
{
	struct io_uring ring = {.ring_fd = ring_fd, .enter_ring_fd = ring_fd};
	const __u64 no_tag = 0;
	int rc = io_uring_register_buffers_update_tag(&ring, k, piece, &no_tag, 1);

	return rc < 0 ? pin_error(rc, e) : 0;
}

/*
 * READ_FIXED with a registered file, and no other request; no flag but the two of that. No register
 * call is allowed any more, or (add) the one that sets a buffer: it can only name memory that its
 * caller may write.
 */
static int restrict_ring(struct io_uring *ring, bool add, struct err *e)
{
	struct io_uring_restriction r[4] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ_FIXED},
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_ASYNC},
		{.opcode = IORING_RESTRICTION_REGISTER_OP,
		 .register_op = IORING_REGISTER_BUFFERS_UPDATE},
	};
	int rc = io_uring_register_restrictions(ring, r, add ? 4 : 3);

	if (rc >= 0)
		rc = io_uring_enable_rings(ring);
	return rc < 0 ? err_set(e, rc, "init: cannot restrict an io_uring: %s", strerror(-rc)) : 0;
}

int nvme_ring_create(struct io_uring *ring, struct io_uring_params *params, const int *files,
		     unsigned n_files, const struct iovec *piece, unsigned n_pieces, int clone_from,
		     struct err *e)
{
	int rc;

	memset(params, 0, sizeof(*params));
	params->flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL;
	params->cq_entries = NVME_RING_COMPLETIONS;
	rc = io_uring_queue_init_params(NVME_RING_ENTRIES, ring, params);
	if (rc < 0)
		return err_exit(e, STATUS_MEMORY, rc,
				"init: cannot make an io_uring: %s. If it is switched off here, "
				"`sysctl kernel.io_uring_disabled=0` allows it",
				strerror(-rc));
	rc = n_files ? io_uring_register_files(ring, files, n_files) : 0;
	if (rc < 0)
		err_set(e, rc, "init: cannot register %u files with io_uring: %s", n_files,
			strerror(-rc));
	if (rc >= 0)
		rc = n_pieces ? register_pieces(ring, piece, n_pieces, clone_from, e) : 0;
	if (rc >= 0)
		rc = restrict_ring(ring, clone_from < 0, e);
	if (rc < 0) {
		io_uring_queue_exit(ring);
		return rc;
	}
	return 0;
}

bool nvme_ring_empty(const struct io_uring *ring)
{
	/*
	 * acquire: what the drive wrote is there before the completion that we count; pairs with
	 * the kernel's release
	 */
	unsigned done =
		atomic_load_explicit((_Atomic unsigned *)ring->cq.ktail, memory_order_acquire);

	return done ==
	       atomic_load_explicit((_Atomic unsigned *)ring->sq.khead, memory_order_acquire);
}

void nvme_ring_close(struct io_uring *ring)
{
	io_uring_queue_exit(ring);
}

int nvme_ring_attach(struct io_uring *ring, int fd, const struct io_uring_params *params,
		     struct err *e)
{
	struct io_uring_params p = *params;
	int rc = io_uring_queue_mmap(fd, &p, ring);

	if (rc < 0)
		return err_set(e, rc, "experts: cannot map the io_uring at descriptor %d: %s", fd,
			       strerror(-rc));
	ring->flags = p.flags;
	ring->features = p.features;
	ring->ring_fd = ring->enter_ring_fd = fd;
	return 0;
}
