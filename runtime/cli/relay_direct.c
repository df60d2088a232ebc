/* A connection of its own for each client; see relay_direct.h. */
#include "runtime/cli/relay_direct.h"

#include "ipc/frame.h"
#include "runtime/clock.h"
#include "runtime/options.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	PAIRS = 256,
	BUFFER = 64 * 1024,
	RETRY_MS = 200,
	GREETING_MAX = 64
};

/* Bytes from fd[i] to the other one. */
struct half {
	char *buffer;
	size_t head, tail;
	bool ended; /* no more will come */
	bool shut;  /* and the receiver knows */
};

struct pair {
	bool used, greeted;
	int fd[2];         /* the client's, the node's; -1: not connected yet */
	uint64_t retry_ns; /* when to try to connect again */
	struct half half[2];
	char greeting[GREETING_MAX]; /* what a hybrid socket says first */
	size_t greeting_len;
};

/* What `port` means. */
struct target {
	bool hybrid;
	union {
		struct sockaddr_vm vm;
		struct sockaddr_un un;
	} address;
	socklen_t len;
	uint64_t number;
};

struct direct {
	struct target target;
	struct pair pair[PAIRS];
	struct pollfd poll[2 * PAIRS + 1];
};

static int parse(struct target *t, const char *port, struct err *e)
{
	char text[128], *number;
	uint64_t cid;

	memset(t, 0, sizeof(*t));
	t->number = FRAME_VSOCK_PORT;
	t->hybrid = !strncmp(port, "hybrid:", 7);
	if (!t->hybrid && strncmp(port, "vsock:", 6) != 0)
		return 0;
	if (snprintf(text, sizeof(text), "%s", strchr(port, ':') + 1) >= (int)sizeof(text))
		return err_exit(e, STATUS_USAGE, -ENAMETOOLONG, "%s: too long", port);
	number = strrchr(text, ':');
	if (number) {
		*number++ = '\0';
		if (parse_u64(number, &t->number) || t->number > UINT32_MAX)
			return err_exit(e, STATUS_USAGE, -EINVAL, "%s: no port number", port);
	}
	if (t->hybrid) {
		t->address.un.sun_family = AF_UNIX;
		if (strlen(text) >= sizeof(t->address.un.sun_path))
			return err_exit(e, STATUS_USAGE, -ENAMETOOLONG, "%s: too long", port);
		strcpy(t->address.un.sun_path, text);
		t->len = sizeof(t->address.un);
		return 1;
	}
	if (parse_u64(text, &cid) || cid > UINT32_MAX)
		return err_exit(e, STATUS_USAGE, -EINVAL, "%s: no context id", port);
	t->address.vm = (struct sockaddr_vm){
		.svm_family = AF_VSOCK, .svm_cid = (unsigned)cid, .svm_port = (unsigned)t->number};
	t->len = sizeof(t->address.vm);
	return 1;
}

int relay_direct_names(const char *port, struct err *e)
{
	struct target t;

	return parse(&t, port, e);
}

static void end_pair(struct pair *p)
{
	for (unsigned i = 0; i < 2; i++)
		if (p->fd[i] >= 0)
			close(p->fd[i]);
	p->used = false;
}

/* Connects to the node; a hybrid socket is told which port is meant. */
static void dial(struct direct *d, struct pair *p)
{
	const struct target *t = &d->target;
	char ask[32];
	int fd = socket(t->hybrid ? AF_UNIX : AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int len = snprintf(ask, sizeof(ask), "CONNECT %llu\n", (unsigned long long)t->number);

	p->retry_ns = clock_now_ns() + RETRY_MS * NS_PER_MS;
	if (fd >= 0 && !connect(fd, (const struct sockaddr *)&t->address, t->len) &&
	    (!t->hybrid || send(fd, ask, (size_t)len, MSG_NOSIGNAL) == len)) {
		p->fd[1] = fd;
		p->greeted = !t->hybrid;
		p->greeting_len = 0;
		return;
	}
	if (fd >= 0)
		close(fd);
}

/* "OK 1073741824\n", byte by byte: what follows is the node's. */
static void take_greeting(struct pair *p)
{
	char c = 0;
	ssize_t n;

	while (!p->greeted && (n = recv(p->fd[1], &c, 1, MSG_DONTWAIT)) == 1) {
		if (p->greeting_len < sizeof(p->greeting))
			p->greeting[p->greeting_len++] = c;
		p->greeted = c == '\n' && p->greeting_len > 3 && !memcmp(p->greeting, "OK ", 3);
	}
	if (p->greeted || (n < 0 && errno == EAGAIN))
		return;
	close(p->fd[1]); /* nobody listens there yet */
	p->fd[1] = -1;
}

/* Moves what can be moved. Returns false when the pair has to end. */
static bool move(struct pair *p, unsigned from)
{
	struct half *h = &p->half[from];
	ssize_t n;

	for (;;) {
		if (h->head == h->tail)
			h->head = h->tail = 0;
		if (!h->ended && h->tail < BUFFER) {
			n = recv(p->fd[from], h->buffer + h->tail, BUFFER - h->tail, MSG_DONTWAIT);
			if (n < 0 && errno != EAGAIN && errno != EINTR)
				return false;
			h->ended = n == 0;
			h->tail += n > 0 ? (size_t)n : 0;
		}
		if (h->head == h->tail)
			break;
		n = send(p->fd[!from], h->buffer + h->head, h->tail - h->head,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		h->head += (size_t)n;
	}
	if (h->ended && !h->shut) {
		h->shut = true;
		shutdown(p->fd[!from], SHUT_WR);
	}
	return true;
}

static short events_of(const struct pair *p, unsigned i)
{
	const struct half *in = &p->half[i], *out = &p->half[!i];

	if (p->fd[1] < 0)
		return 0;
	if (!p->greeted)
		return i ? POLLIN : 0;
	return (short)((!in->ended && in->tail < BUFFER ? POLLIN : 0) |
		       (out->tail > out->head ? POLLOUT : 0));
}

static void run_pair(struct direct *d, struct pair *p, short client, short node)
{
	if (client & (POLLHUP | POLLERR)) {
		end_pair(p); /* nobody reads what would still be sent: the node cancels */
		return;
	}
	if (p->fd[1] < 0 && clock_now_ns() >= p->retry_ns)
		dial(d, p);
	if (p->fd[1] >= 0 && !p->greeted && node)
		take_greeting(p);
	if (p->fd[1] < 0 || !p->greeted)
		return;
	if (!move(p, 0) || !move(p, 1) || (p->half[0].shut && p->half[1].shut) ||
	    (node & POLLHUP && p->half[1].shut))
		end_pair(p);
}

static void take_client(struct direct *d, int listener)
{
	for (unsigned i = 0; i < PAIRS; i++) {
		struct pair *p = &d->pair[i];
		char *buffer[2] = {p->half[0].buffer, p->half[1].buffer};
		int fd;

		if (p->used)
			continue;
		for (unsigned k = 0; k < 2; k++)
			buffer[k] = buffer[k] ? buffer[k] : malloc(BUFFER);
		fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		*p = (struct pair){.fd = {fd, -1},
				   .half = {{.buffer = buffer[0]}, {.buffer = buffer[1]}}};
		p->used = fd >= 0 && buffer[0] && buffer[1];
		if (fd >= 0 && !p->used)
			close(fd);
		return;
	}
}

static void turn(struct direct *d, int listener)
{
	int timeout = 1000;

	d->poll[0] = (struct pollfd){.fd = listener, .events = POLLIN};
	for (unsigned i = 0; i < PAIRS; i++) {
		const struct pair *p = &d->pair[i];

		for (unsigned k = 0; k < 2; k++)
			d->poll[1 + 2 * i + k] = (struct pollfd){.fd = p->used ? p->fd[k] : -1,
								 .events = events_of(p, k)};
		if (p->used && p->fd[1] < 0)
			timeout = RETRY_MS;
	}
	if (poll(d->poll, 1 + 2 * PAIRS, timeout) < 0)
		return;
	for (unsigned i = 0; i < PAIRS; i++)
		if (d->pair[i].used)
			run_pair(d, &d->pair[i], d->poll[1 + 2 * i].revents,
				 d->poll[2 + 2 * i].revents);
	if (d->poll[0].revents)
		take_client(d, listener);
}

int relay_direct(const char *port, int listener, const volatile sig_atomic_t *stopped,
		 struct err *e)
{
	struct direct *d = calloc(1, sizeof(*d));
	int rc = d ? parse(&d->target, port, e)
		   : err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the relay");

	while (rc > 0 && !*stopped)
		turn(d, listener);
	free(d); /* buffers go with the process */
	return rc < 0 ? rc : STATUS_OK;
}
