/*
 * drivers/nvme/ring.h: what the io_uring that init makes for experts allows, and what it refuses,
 * also from a clone; and that a process that only inherits the descriptor can read through it into
 * memory that it cannot write.
 */
/* no asan: the child works on memory that the parent's allocator does not know */
#include "drivers/nvme/ring.h"

#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PIECE = 1 << 20
};

struct result {
	int fixed, seen, plain, unfixed, open, write, mapped, more, files;
};

static int run_one(struct io_uring *ring, unsigned op, unsigned flags, void *to, int file)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int rc;

	if (!sqe)
		return -ENOSPC;
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = (uint8_t)op;
	sqe->flags = (uint8_t)flags;
	sqe->fd = file;
	sqe->addr = (uint64_t)(uintptr_t)to;
	sqe->len = 4096;
	rc = io_uring_submit_and_wait(ring, 1);
	if (rc < 0)
		return rc;
	rc = io_uring_peek_cqe(ring, &cqe);
	if (rc < 0)
		return rc;
	rc = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return rc;
}

/* What experts does with what it inherited. */
static void child(int fd, const struct io_uring_params *p, char *base, int memfd, struct result *r)
{
	struct io_uring ring;
	struct err e = {0};
	void *w = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	const char *own = mmap(NULL, PIECE, PROT_READ, MAP_SHARED, memfd, 0);

	r->mapped = w == MAP_FAILED ? -errno : 0;
	if (nvme_ring_attach(&ring, fd, p, &e))
		_exit(1);
	r->fixed = run_one(&ring, IORING_OP_READ_FIXED, IOSQE_FIXED_FILE, base, 0);
	r->seen = own[100];
	r->plain = run_one(&ring, IORING_OP_READ, IOSQE_FIXED_FILE, base, 0);
	r->unfixed = run_one(&ring, IORING_OP_READ_FIXED, 0, base, 0);
	r->open = run_one(&ring, IORING_OP_OPENAT, IOSQE_FIXED_FILE, base, AT_FDCWD);
	r->write = run_one(&ring, IORING_OP_WRITE_FIXED, IOSQE_FIXED_FILE, base, 0);
	r->more = nvme_ring_add(fd, 0, &(struct iovec){.iov_base = (void *)own, .iov_len = PIECE},
				&e);
	r->files = io_uring_unregister_files(&ring);
	_exit(0);
}

static void check(const char *name, struct io_uring *ring, const struct io_uring_params *p,
		  char *base, int memfd, struct result *r)
{
	int status;
	pid_t pid;

	memset(r, 0, sizeof(*r));
	memset(base, 0, 4096);
	pid = fork();
	if (pid == 0)
		child(ring->ring_fd, p, base, memfd, r);
	waitpid(pid, &status, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: the child attaches", name);
	is_int(r->fixed, 4096, "%s: READ_FIXED of a registered file works", name);
	is_int(r->seen, 'x', "%s: the bytes are there", name);
	is_int(r->plain, -EACCES, "%s: READ is refused", name);
	is_int(r->unfixed, -EACCES, "%s: READ_FIXED of a plain descriptor is refused", name);
	is_int(r->open, -EACCES, "%s: OPENAT is refused", name);
	is_int(r->write, -EACCES, "%s: WRITE_FIXED is refused", name);
	ok(r->more < 0, "%s: the slots, which the child cannot write, cannot be set again", name);
	is_int(r->files, -EACCES, "%s: no other register call is allowed", name);
	ok(nvme_ring_empty(ring), "%s: all reads are known to have completed", name);
}

int main(void)
{
	char path[] = "/tmp/t_nvme_ring.XXXXXX";
	int file = mkstemp(path), memfd = memfd_create("slots", MFD_ALLOW_SEALING);
	struct io_uring a, b;
	struct io_uring_params pa, pb;
	struct err e = {0};
	struct result *r =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char text[4096];
	char *base;
	struct iovec piece;
	int rc;

	memset(text, 'x', sizeof(text));
	unlink(path);
	if (write(file, text, sizeof(text)) != sizeof(text) || ftruncate(memfd, PIECE))
		return 1;
	base = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	piece = (struct iovec){.iov_base = base, .iov_len = PIECE};
	rc = nvme_ring_create(&a, &pa, &file, 1, &piece, 1, -1, &e);
	if (rc == -ENOSYS || rc == -EPERM) {
		skip("no io_uring here: %s", e.text);
		return tap_done();
	}
	is_int(rc, 0, "a ring is made, without memory (%s)", e.text);
	is_int(nvme_ring_add(a.ring_fd, 0, &piece, &e), 0, "memory is added (%s)", e.text);
	ok(nvme_ring_add(a.ring_fd, 1, &piece, &e) < 0, "more than there is room for is refused");
	is_int(fcntl(memfd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL), 0,
	       "the slots are sealed");
	check("first ring", &a, &pa, base, memfd, r);
	is_int(r->mapped, -EPERM, "the child cannot map the slots writable");
	is_int(nvme_ring_create(&b, &pb, &file, 1, &piece, 1, a.ring_fd, &e), 0,
	       "a second ring shares the first one's buffers (%s)", e.text);
	is_mem(&pa.sq_off, &pb.sq_off, sizeof(pa.sq_off), "the params of all rings are the same");
	nvme_ring_close(&a);
	check("clone, the first ring closed", &b, &pb, base, memfd, r);
	nvme_ring_close(&b);
	return tap_done();
}
