/* Random reads as fast as the drive goes; see limit.h. */
#include "drivers/nvme/limit.h"

#include "runtime/clock.h"
#include "runtime/huge.h"

#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct probe {
	const struct drive_file *file;
	unsigned files;
	uint64_t pieces;    /* of all files */
	uint64_t next;      /* state of the order */
	uint64_t at;        /* the piece that was asked for last */
	unsigned run, left; /* pieces of a run; how many are left of this one */
	uint32_t piece;
	struct io_uring ring;
	char *buffer; /* [depth][piece] */
	bool fixed;   /* the buffers are registered */
};

/* The file and offset of piece number n. */
static const struct drive_file *place(const struct probe *p, uint64_t n, uint64_t *off)
{
	const struct drive_file *f = p->file;

	while (n >= f->bytes / p->piece) {
		n -= f->bytes / p->piece;
		f++;
	}
	*off = n * p->piece;
	return f;
}

/*
 * The next of a run, or a pseudo-random piece, by the high bits of a full-period generator.
 */
static uint64_t draw(struct probe *p)
{
	if (p->left) {
		p->left--;
		p->at = (p->at + 1) % p->pieces;
		return p->at;
	}
	p->next = p->next * 6364136223846793005u + 1442695040888963407u;
	p->left = p->run - 1;
	p->at = (p->next >> 32) % p->pieces;
	return p->at;
}

static void ask(struct probe *p, unsigned slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&p->ring);
	char *to = p->buffer + (size_t)slot * p->piece;
	uint64_t off;
	const struct drive_file *f = place(p, draw(p), &off);

	if (p->fixed)
		io_uring_prep_read_fixed(sqe, f->fd, to, p->piece, off, 0);
	else
		io_uring_prep_read(sqe, f->fd, to, p->piece, off);
	io_uring_sqe_set_data64(sqe, slot);
}

static int read_for(struct probe *p, struct drive_rate *out, unsigned depth, uint64_t for_ns,
		    struct err *e)
{
	uint64_t begin = clock_now_ns();
	unsigned flying = depth;
	int rc;

	for (unsigned i = 0; i < depth; i++)
		ask(p, i);
	while (flying) {
		struct io_uring_cqe *cqe;

		rc = io_uring_submit_and_wait(&p->ring, 1);
		if (rc == -EINTR)
			continue;
		if (rc < 0)
			return err_set(e, rc, "bench: io_uring: %s", strerror(-rc));
		while (!io_uring_peek_cqe(&p->ring, &cqe)) {
			unsigned slot = (unsigned)io_uring_cqe_get_data64(cqe);

			if (cqe->res <= 0)
				return err_set(e, cqe->res ? cqe->res : -EIO,
					       "bench: a read of the model's files failed: %s",
					       strerror(cqe->res ? -cqe->res : EIO));
			out->bytes += (uint64_t)cqe->res;
			out->reads++;
			out->ns = clock_now_ns() - begin;
			io_uring_cqe_seen(&p->ring, cqe);
			if (out->ns < for_ns)
				ask(p, slot);
			else
				flying--;
		}
	}
	out->gbs = (double)out->bytes / (double)out->ns;
	return 0;
}

int drive_limit(struct drive_rate *out, const struct drive_file *file, unsigned files,
		uint32_t piece, unsigned depth, unsigned run, uint64_t for_ns, struct err *e)
{
	struct probe p = {
		.file = file, .files = files, .piece = piece, .next = clock_now_ns(), .run = run};
	size_t bytes = (size_t)piece * depth;
	int rc;

	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < files; i++)
		p.pieces += file[i].bytes / piece;
	if (!p.pieces)
		return err_set(e, -ENODATA, "bench: no file of the model has %u bytes", piece);
	p.buffer = aligned_alloc(HUGE_PAGE, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
	if (!p.buffer)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "bench: no memory for %u reads", depth);
	/*
	 * as the slots: a read into small pages is a list of 128 of them, and takes twice as long
	 */
	madvise(p.buffer, bytes, MADV_HUGEPAGE);
	memset(p.buffer, 0, bytes);
	rc = io_uring_queue_init(depth, &p.ring, 0);
	if (rc < 0) {
		err_exit(e, STATUS_MEMORY, rc, "bench: cannot make an io_uring: %s", strerror(-rc));
	} else {
		const struct iovec all = {p.buffer, bytes};

		p.fixed = !io_uring_register_buffers(&p.ring, &all, 1);
		rc = read_for(&p, out, depth, for_ns, e);
		io_uring_queue_exit(&p.ring);
	}
	free(p.buffer);
	return rc;
}
