/* Both ends of the counters' socket; see watch.h. */
#include "ipc/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* The one message. */
struct greeting {
	uint64_t magic; /* OBJECT_MAGIC */
	uint32_t version, logs;
};

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int[WATCH_LOGS]))];
};

void watch_send(int connection, const int fd[WATCH_LOGS])
{
	struct greeting g = {OBJECT_MAGIC, OBJECT_VERSION, WATCH_LOGS};
	struct iovec io = {&g, sizeof(g)};
	union control control = {0};
	struct msghdr m = {.msg_iov = &io,
			   .msg_iovlen = 1,
			   .msg_control = control.bytes,
			   .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	ssize_t n;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int[WATCH_LOGS]));
	memcpy(CMSG_DATA(c), fd, sizeof(int[WATCH_LOGS]));
	n = sendmsg(connection, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)n; /* it asks again */
}

static int connect_watch(const char *path, struct err *e)
{
	const char *user = getenv("XDG_RUNTIME_DIR");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	const char *usual = "/run/penstock/penstock.sock";
	const struct timeval patience = {.tv_sec = 5}; /* init itself may be stopped */
	int fd, rc;

	if (path)
		rc = snprintf(a.sun_path, sizeof(a.sun_path), "%s%s", path, WATCH_SUFFIX);
	else if (access(usual, F_OK) && user && *user)
		rc = snprintf(a.sun_path, sizeof(a.sun_path), "%s/penstock.sock%s", user,
			      WATCH_SUFFIX);
	else
		rc = snprintf(a.sun_path, sizeof(a.sun_path), "%s%s", usual, WATCH_SUFFIX);
	if (rc >= (int)sizeof(a.sun_path))
		return err_exit(e, STATUS_USAGE, -ENAMETOOLONG,
				"the socket's path is longer than %zu bytes",
				sizeof(a.sun_path) - sizeof(WATCH_SUFFIX));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, -errno, "cannot make a socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (const struct sockaddr *)&a, sizeof(a))) {
		rc = -errno;
		close(fd);
		return err_set(e, rc,
			       "no node gives its counters at %s: %s. Start one with `penstock run "
			       "MODEL`, or name its socket with --socket",
			       a.sun_path, strerror(-rc));
	}
	return fd;
}

/* Takes the descriptors; all of them or none. */
static int receive(int connection, int fd[WATCH_LOGS], struct err *e)
{
	struct greeting g = {0};
	struct iovec io = {&g, sizeof(g)};
	union control control = {0};
	struct msghdr m = {.msg_iov = &io,
			   .msg_iovlen = 1,
			   .msg_control = control.bytes,
			   .msg_controllen = sizeof(control.bytes)};
	const struct cmsghdr *c;
	ssize_t n;

	do {
		n = recvmsg(connection, &m, MSG_CMSG_CLOEXEC | MSG_WAITALL);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return err_set(e, -EAGAIN,
			       "the node's init does not answer: it still surveys the "
			       "model, or it is stopped");
	if (n < 0)
		return err_set(e, -errno, "the node gave no counters: %s", strerror(errno));
	c = CMSG_FIRSTHDR(&m);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len > CMSG_LEN(sizeof(int[WATCH_LOGS])))
		return err_set(e, -EPROTO, "the node gave no counters");
	n = (ssize_t)(c->cmsg_len - CMSG_LEN(0));
	memcpy(fd, CMSG_DATA(c), (size_t)n);
	if (n != (ssize_t)sizeof(int[WATCH_LOGS]) || g.magic != OBJECT_MAGIC ||
	    g.version != OBJECT_VERSION || g.logs != WATCH_LOGS)
		return err_set(e, -EPROTO, "the node is of another version of Penstock");
	return 0;
}

static const struct log_object *map_log(int fd, struct err *e)
{
	const size_t bytes = sizeof(struct object_header) + sizeof(struct log_object);
	const struct object_header *h;
	struct stat st;

	/* a shorter file would fault where it ends */
	if (fstat(fd, &st) || st.st_size < (off_t)bytes) {
		err_set(e, -EPROTO, "the node's counters are too short");
		return NULL;
	}
	h = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (h == MAP_FAILED) {
		err_set(e, -errno, "cannot map the node's counters: %s", strerror(errno));
		return NULL;
	}
	return (const void *)(h + 1);
}

int watch_open(struct watch *w, const char *path, struct err *e)
{
	int fd[WATCH_LOGS], connection, rc;

	memset(w, 0, sizeof(*w));
	for (unsigned k = 0; k < WATCH_LOGS; k++)
		fd[k] = -1;
	connection = connect_watch(path, e);
	if (connection < 0)
		return connection;
	rc = receive(connection, fd, e);
	for (unsigned k = 0; !rc && k < WATCH_LOGS; k++) {
		w->log[k] = map_log(fd[k], e);
		rc = w->log[k] ? 0 : e->code;
	}
	for (unsigned k = 0; k < WATCH_LOGS; k++)
		if (fd[k] >= 0)
			close(fd[k]);
	close(connection);
	if (rc)
		watch_close(w);
	return rc;
}

bool watch_alive(const char *path)
{
	struct err e = {0};
	int fd = connect_watch(path, &e);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

void watch_close(struct watch *w)
{
	for (unsigned k = 0; k < WATCH_LOGS; k++)
		if (w->log[k])
			munmap((char *)(uintptr_t)w->log[k] - sizeof(struct object_header),
			       sizeof(struct object_header) + sizeof(struct log_object));
	memset(w, 0, sizeof(*w));
}

uint64_t watch_count(const struct watch *w, enum counter c)
{
	uint64_t sum = 0;

	for (unsigned k = 0; k < WATCH_LOGS; k++)
		/* relaxed: monitoring only */
		sum += atomic_load_explicit(&w->log[k]->counter[c], memory_order_relaxed);
	return sum;
}

void watch_counts(const struct watch *w, uint64_t out[COUNTERS])
{
	for (unsigned c = 0; c < COUNTERS; c++)
		out[c] = watch_count(w, (enum counter)c);
}
