/* The maker of io_urings; see rings.h. One producer, one consumer, and two eventfds. */
#include "boot/rings.h"

#include "runtime/huge.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	NICE = 10,
	RETRY_MS = 200
};

/* An own eventfd of 64 bits cannot fail but by a bug of ours; the count is of no interest. */
static void signal_fd(int fd)
{
	uint64_t one = 1;
	ssize_t n = write(fd, &one, sizeof(one));

	(void)n;
}

static void wait_fd(int fd)
{
	uint64_t count;
	ssize_t n = read(fd, &count, sizeof(count));

	(void)n;
}

static int make_one(struct rings *r, uint64_t made)
{
	return nvme_ring_create(&r->stock[made % RINGS_READY].ring,
				&r->stock[made % RINGS_READY].params, r->file, r->n_files, r->piece,
				r->n_pieces, r->pinned_by, &r->error);
}

static void fail(struct rings *r, int rc)
{
	/* release: the text is there; pairs with the acquire in failed */
	atomic_store_explicit(&r->failed, rc, memory_order_release);
	signal_fd(r->ready);
}

/* One more ring is in the stock. */
static void publish(struct rings *r, uint64_t made)
{
	/* release: the ring is whole; pairs with the acquire in rings_take */
	atomic_store_explicit(&r->made, made, memory_order_release);
	signal_fd(r->ready);
}

/*
 * Gives experts the slots, piece by piece. Memory is made before it is pinned: no pinned page can
 * become a huge one, and pinning holds the ring, so that whoever submits a read waits.
 */
static int pin_pieces(struct rings *r)
{
	char *made = r->base; /* up to here; on a huge page's border, as is the map's begin */
	bool huge = true;
	int rc = 0;

	for (unsigned k = 0; !rc && k < r->n_pieces; k++) {
		const struct iovec *p = &r->piece[k], *last = &r->piece[r->n_pieces - 1];
		uintptr_t end = (uintptr_t)p->iov_base + p->iov_len,
			  all = (uintptr_t)last->iov_base + last->iov_len;

		end = (end + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
		end = end < all ? end : all;
		if (end > (uintptr_t)made) {
			huge = huge && huge_fill(made, end - (uintptr_t)made);
			huge_populate(made, end - (uintptr_t)made);
			made = (char *)end;
		}
		rc = nvme_ring_add(r->pinned_by, k, p, &r->error);
		/* release: the buffer is registered; pairs with runtime/experts/slots.c */
		if (!rc)
			atomic_store_explicit(r->pieces_there, k + 1, memory_order_release);
	}
	return rc;
}

/* The first ring, without slots. */
static int begin(struct rings *r)
{
	int rc = make_one(r, 0);

	if (rc)
		return rc;
	r->pinned_by = fcntl(r->stock[0].ring.ring_fd, F_DUPFD_CLOEXEC, 0);
	if (r->pinned_by < 0)
		return err_set(&r->error, -errno, "init: io_uring: %s", strerror(errno));
	publish(r, 1);
	return 0;
}

static void *maker(void *arg)
{
	struct rings *r = arg;
	const struct sched_param none = {0};
	const struct timespec pause = {.tv_nsec = RETRY_MS * 1000 * 1000};
	uint64_t made = 1;
	int rc;

	/* whoever computes goes first */
	pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
	rc = begin(r);
	if (!rc)
		rc = pin_pieces(r);
	while (!rc) {
		/*
		 * acquire: the taker has copied its ring out; pairs with the release in rings_take
		 */
		while (made - atomic_load_explicit(&r->taken, memory_order_acquire) == RINGS_READY)
			wait_fd(r->want);
		rc = make_one(r, made);
		/* relaxed: only shown */
		atomic_store_explicit(&r->failing, -rc, memory_order_relaxed);
		if (!rc) {
			publish(r, ++made);
			continue;
		}
		/* a node that has run goes on trying */
		signal_fd(r->ready);
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
		rc = 0;
	}
	fail(r, rc);
	return NULL;
}

static void set_pieces(struct rings *r, const struct plan *p, void *base)
{
	uint64_t left = p->slots * p->slot_bytes;

	r->base = base;
	for (r->n_pieces = 0; left && r->n_pieces < RINGS_PIECES; r->n_pieces++) {
		uint64_t len = left < p->piece_bytes ? left : p->piece_bytes;

		/* the last piece only as far as there are slots: what is registered is pinned */
		r->piece[r->n_pieces].iov_base = r->base + r->n_pieces * p->piece_bytes;
		r->piece[r->n_pieces].iov_len = len;
		left -= len;
	}
	madvise(base, p->slots * p->slot_bytes, MADV_HUGEPAGE); /* where the kernel gives them */
}

int rings_start(struct rings *r, const struct plan *plan, void *base, const int *files,
		unsigned n_files, _Atomic uint64_t *pieces_there, struct err *e)
{
	sigset_t all, before;
	int rc;

	memcpy(r->file, files, n_files * sizeof(*files));
	r->n_files = n_files;
	r->pinned_by = -1;
	r->pieces_there = pieces_there;
	set_pieces(r, plan, base);
	r->want = eventfd(0, EFD_CLOEXEC);
	r->ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->want < 0 || r->ready < 0)
		return err_set(e, -errno, "init: eventfd: %s", strerror(errno));
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&r->thread, NULL, maker, r);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc ? err_set(e, -rc, "init: cannot start a thread: %s", strerror(rc)) : 0;
}

static int failed(const struct rings *r, struct err *e)
{
	int rc = atomic_load_explicit(&r->failed, memory_order_acquire);

	if (rc)
		*e = r->error;
	return rc;
}

int rings_take(struct rings *r, struct io_uring *ring, struct io_uring_params *params,
	       struct err *e)
{
	/* relaxed: only this thread stores it */
	uint64_t taken = atomic_load_explicit(&r->taken, memory_order_relaxed);

	if (atomic_load_explicit(&r->made, memory_order_acquire) == taken)
		return failed(r, e);
	*ring = r->stock[taken % RINGS_READY].ring;
	*params = r->stock[taken % RINGS_READY].params;
	atomic_store_explicit(&r->taken, taken + 1, memory_order_release);
	signal_fd(r->want);
	return 1;
}

bool rings_stocked(const struct rings *r)
{
	/* acquire: as in rings_take; relaxed: only this thread stores it */
	return atomic_load_explicit(&r->made, memory_order_acquire) !=
	       atomic_load_explicit(&r->taken, memory_order_relaxed);
}

int rings_failing(const struct rings *r)
{
	return atomic_load_explicit(&r->failing, memory_order_relaxed);
}

int rings_seen(struct rings *r, struct err *e)
{
	wait_fd(r->ready); /* does not wait: not blocking */
	return failed(r, e);
}

int rings_may_lock(uint64_t bytes, struct err *e)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{0}, {0}};
	struct rlimit limit;

	if (!syscall(SYS_capget, &h, d) && d[0].effective >> CAP_IPC_LOCK & 1)
		return 0;
	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY ||
	    limit.rlim_cur >= bytes)
		return 0;
	return err_exit(
		e, STATUS_MEMORY, -EPERM,
		"the drive reads into locked memory: %" PRIu64
		" bytes of slots, and the limit is %" PRIu64
		". Raise it (`ulimit -l unlimited`, LimitMEMLOCK=infinity), or use fewer slots "
		"(--slots, --memory)",
		bytes, (uint64_t)limit.rlim_cur);
}
