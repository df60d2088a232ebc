/* The byte pump; see pump.h. */
#include "boot/pump.h"

#include "ipc/record.h"
#include "runtime/clock.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	ACCEPTS = 16,   /* per call: a flood of newcomers must not starve the others */
	AGAIN_MS = 100, /* until another try to accept where no descriptor was free */
	LINGER_S = 2,   /* how long a client may go on sending after our last byte */
	/* a ring through which more has gone since is given back when it is empty */
	RING_KEPT = CONN_IDLE_KEPT
};

static const void *record_of(const struct pump *p, unsigned i)
{
	return p->client + p->layout->client_conn + i * p->layout->client_conn_stride;
}

static bool read_record(const struct pump *p, unsigned i, void *out, size_t len)
{
	return record_read(record_of(p, i), sizeof(struct conn_record), 0, out, len);
}

/* init is the only writer of these. */
static uint64_t own(const _Atomic uint64_t *field)
{
	return atomic_load_explicit(field, memory_order_relaxed);
}

/* release: bytes in the ring before the count that covers them; pairs with the gateway's acquire */
static void publish(struct pump *p, _Atomic uint64_t *field, uint64_t value)
{
	atomic_store_explicit(field, value, memory_order_release);
	p->wake = true;
}

/* ---- Sockets ---- */

static ssize_t socket_send(struct pump *p, unsigned i, const void *data, size_t len)
{
	ssize_t n = send(p->conn[i].fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n >= 0)
		return n;
	return errno == ENOBUFS || errno == ENOMEM ? -EAGAIN : -errno;
}

static ssize_t socket_receive(struct pump *p, unsigned i, void *data, size_t len)
{
	ssize_t n = recv(p->conn[i].fd, data, len, MSG_DONTWAIT);

	return n < 0 ? -errno : n;
}

static void socket_await(struct pump *p, unsigned i, bool blocked, uint64_t room)
{
	uint32_t events = (blocked ? EPOLLOUT : 0u) | (room ? EPOLLIN : 0u);
	struct epoll_event ev = {.events = events, .data.u64 = p->conn_tag + i};

	if (p->conn[i].events == events)
		return;
	p->conn[i].events = events;
	epoll_ctl(p->epoll, EPOLL_CTL_MOD, p->conn[i].fd, &ev);
}

static bool socket_shut(struct pump *p, unsigned i)
{
	return !shutdown(p->conn[i].fd, SHUT_WR);
}

/* A child between fork and exec may still hold the socket: so shut down, do not only close. */
static void socket_drop(struct pump *p, unsigned i)
{
	struct pump_conn *c = &p->conn[i];

	epoll_ctl(p->epoll, EPOLL_CTL_DEL, c->fd, NULL);
	shutdown(c->fd, SHUT_RDWR);
	close(c->fd);
	c->fd = -1;
}

static const struct pump_link socket_link = {socket_send, socket_receive, socket_await, socket_shut,
					     socket_drop};

/* The client is gone, or has got everything. */
static void drop(struct pump *p, unsigned i)
{
	struct pump_conn *c = &p->conn[i];

	c->link->drop(p, i);
	c->link = NULL;
	c->waits_free = true;
	c->look = false;
	c->linger_until_ns = 0;
	publish(p, &p->in[i].gone, c->life);
}

/* ---- Taking connections ---- */

static bool is_free(const struct pump *p, unsigned i)
{
	const struct conn_in *in = &p->in[i];
	struct conn_head h;

	return !p->conn[i].link && read_record(p, i, &h, sizeof(h)) && h.state == CONN_FREE &&
	       h.life == p->conn[i].life && h.rx_head == own(&in->rx_tail) &&
	       h.tx_tail == own(&in->tx_head);
}

/* The lowest free one: what stays untouched costs no memory. */
static int find_free(const struct pump *p)
{
	for (unsigned i = 0; i < CONNS; i++) {
		if (is_free(p, i))
			return (int)i;
	}
	return -1;
}

static bool is_idle(const struct pump *p, unsigned i)
{
	const struct conn_in *in = &p->in[i];
	struct conn_record r;

	return p->conn[i].link && read_record(p, i, &r, offsetof(struct conn_record, own)) &&
	       r.head.life == p->conn[i].life && r.head.state == CONN_OPEN &&
	       r.head.rx_head == own(&in->rx_tail) && r.head.tx_tail == own(&in->tx_head) &&
	       !r.request.live;
}

/* Whether somebody waits in the backlog: nobody is closed for nobody. */
static bool newcomer(const struct pump *p)
{
	struct pollfd l = {.fd = p->listener, .events = POLLIN}; /* a negative one is left out */

	return p->waiting || poll(&l, 1, 0) > 0;
}

/* Closes the one that has been idle longest, unless one is on its way out already. */
static void make_room(struct pump *p)
{
	int oldest = -1;

	if (!newcomer(p))
		return;
	for (unsigned i = 0; i < CONNS; i++) {
		if (p->conn[i].waits_free || p->conn[i].linger_until_ns)
			return;
		if (is_idle(p, i) &&
		    (oldest < 0 || own(&p->in[i].sent_ns) < own(&p->in[oldest].sent_ns)))
			oldest = (int)i;
	}
	if (oldest >= 0)
		drop(p, (unsigned)oldest);
}

static void watch_listener(struct pump *p, bool on)
{
	struct epoll_event ev = {.events = on ? EPOLLIN : 0, .data.u64 = p->listener_tag};

	p->full = !on;
	epoll_ctl(p->epoll, EPOLL_CTL_MOD, p->listener, &ev);
}

/* None is free: tried again a little later, not as long as clients wait. */
static void no_descriptor(struct pump *p)
{
	watch_listener(p, false);
	p->again_ns = clock_now_ns() + AGAIN_MS * NS_PER_MS;
}

/* After the gateway has let go of a client that is gone: the connection is ready for the next. */
static void after_free(struct pump *p, unsigned i)
{
	p->conn[i].waits_free = false;
	count_set(p->log, COUNT_CONNECTIONS,
		  atomic_load_explicit(&p->log->counter[COUNT_CONNECTIONS], memory_order_relaxed) -
			  1);
}

/* A new life of a free connection. */
static void begin(struct pump *p, unsigned i, const struct pump_link *link)
{
	struct pump_conn *c = &p->conn[i];
	uint64_t now = clock_now_ns();

	if (c->waits_free)
		after_free(p, i); /* freed since the last look */
	*c = (struct pump_conn){
		.link = link, .fd = -1, .given = c->given, .life = c->life + 1, .look = true};
	atomic_store_explicit(&p->in[i].since_ns, now, memory_order_relaxed);
	atomic_store_explicit(&p->in[i].sent_ns, now, memory_order_relaxed);
	publish(p, &p->in[i].life, c->life);
	p->active_ns = now;
	count_add(p->log, COUNT_ACCEPTED, 1);
	count_add(p->log, COUNT_CONNECTIONS, 1);
}

static int take(struct pump *p, unsigned i, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = p->conn_tag + i};

	if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &ev)) {
		close(fd);
		return -EIO;
	}
	begin(p, i, &socket_link);
	p->conn[i].fd = fd;
	p->conn[i].events = EPOLLIN;
	return (int)i;
}

int pump_take_socket(struct pump *p, int fd)
{
	int i = find_free(p);

	if (i >= 0)
		return take(p, (unsigned)i, fd);
	close(fd);
	return -EAGAIN;
}

void pump_accept(struct pump *p)
{
	for (unsigned n = 0; n < ACCEPTS && p->listener >= 0; n++) {
		int i = find_free(p), fd;

		if (i < 0 && !newcomer(p))
			return;
		if (i < 0) {
			if (!p->full)
				log_write(p->log, 1, LOG_CLIENT_LIMIT,
					  (const uint64_t[5]){CONNS, 0, 0, 0, 0});
			watch_listener(p, false);
			make_room(p);
			return;
		}
		fd = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
				no_descriptor(p);
			return;
		}
		take(p, (unsigned)i, fd);
	}
}

/* ---- Clients of a device ---- */

int pump_take(struct pump *p, const struct pump_link *link, unsigned channel)
{
	int i;

	if (p->ending)
		return -ESHUTDOWN;
	i = find_free(p);
	p->waiting = i < 0;
	if (i < 0) {
		make_room(p);
		return -EAGAIN;
	}
	begin(p, (unsigned)i, link);
	p->conn[i].channel = channel;
	return i;
}

void pump_put(struct pump *p, unsigned i, const void *data, size_t len)
{
	struct conn_in *in = &p->in[i];
	uint64_t tail = own(&in->rx_tail);
	char *ring = p->rx + (size_t)i * CONN_RING;
	size_t at = tail % CONN_RING, first = len < CONN_RING - at ? len : CONN_RING - at;

	assert(len <= CONN_RING);
	memcpy(ring + at, data, first);
	memcpy(ring, (const char *)data + first, len - first);
	publish(p, &in->rx_tail, tail + len);
	count_add(p->log, COUNT_BYTES_IN, len);
	p->active_ns = clock_now_ns();
	atomic_store_explicit(&in->sent_ns, p->active_ns, memory_order_relaxed);
	p->conn[i].look = true;
}

void pump_put_end(struct pump *p, unsigned i)
{
	publish(p, &p->in[i].eof, p->conn[i].life);
}

void pump_gone(struct pump *p, unsigned i)
{
	if (p->conn[i].link)
		drop(p, i);
}

/* ---- Moving bytes ---- */

/* Sends [tx_head, tail). Returns false if the client is gone. */
static bool send_out(struct pump *p, unsigned i, uint64_t tail, bool *blocked)
{
	const char *ring = p->client + p->layout->client_tx + (uint64_t)i * CONN_RING;
	struct conn_in *in = &p->in[i];
	uint64_t head = own(&in->tx_head), begin = head;

	while (head != tail) {
		size_t at = head % CONN_RING;
		size_t len = tail - head < CONN_RING - at ? tail - head : CONN_RING - at;
		ssize_t n = p->conn[i].link->send(p, i, ring + at, len);

		if (n == -EINTR)
			continue;
		if (n < 0) {
			*blocked = n == -EAGAIN;
			break;
		}
		head += (uint64_t)n;
		publish(p, &in->tx_head, head);
	}
	count_add(p->log, COUNT_BYTES_OUT, head - begin);
	if (head != begin) {
		p->active_ns = clock_now_ns();
		atomic_store_explicit(&in->sent_ns, p->active_ns, memory_order_relaxed);
	}
	return head == tail || *blocked;
}

/* Receives into the free part of the in-ring. Returns false if the client is gone. */
static bool receive(struct pump *p, unsigned i, uint64_t head)
{
	char *ring = p->rx + (size_t)i * CONN_RING;
	struct conn_in *in = &p->in[i];
	uint64_t tail = own(&in->rx_tail);

	while (tail - head < CONN_RING) {
		size_t at = tail % CONN_RING, space = CONN_RING - (size_t)(tail - head);
		size_t len = space < CONN_RING - at ? space : CONN_RING - at;
		ssize_t n = p->conn[i].link->receive(p, i, ring + at, len);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return n == -EAGAIN;
		p->active_ns = clock_now_ns();
		atomic_store_explicit(&in->sent_ns, p->active_ns, memory_order_relaxed);
		if (n == 0) {
			publish(p, &in->eof, p->conn[i].life);
			return true;
		}
		tail += (uint64_t)n;
		publish(p, &in->rx_tail, tail);
		count_add(p->log, COUNT_BYTES_IN, (uint64_t)n);
		if ((size_t)n < len)
			return true; /* epoll tells of more */
	}
	return true;
}

/*
 * The reply is sent. Closing with input unread would make the kernel reset the connection under the
 * reply, so our side is shut and input is dropped until the client closes or has had two seconds.
 * Returns whether the connection may go.
 */
static bool linger(struct pump *p, unsigned i)
{
	struct pump_conn *c = &p->conn[i];
	uint64_t now = clock_now_ns();
	char trash[4096];

	if (!c->linger_until_ns) {
		if (!c->link->shut(p, i))
			return true;
		c->linger_until_ns = now + LINGER_S * NS_PER_S;
	}
	for (unsigned n = 0; n < 64; n++) {
		ssize_t got = c->link->receive(p, i, trash, sizeof(trash));

		if (got == 0 || (got < 0 && got != -EAGAIN && got != -EINTR))
			return true;
		if (got < 0)
			break;
	}
	return now >= c->linger_until_ns || own(&p->in[i].eof) == c->life;
}

/* Takes the pages of an in-ring back in which nothing lies that the gateway has not consumed. */
static void give_back(struct pump *p, unsigned i, uint64_t rx_head)
{
	struct pump_conn *c = &p->conn[i];
	uint64_t tail = own(&p->in[i].rx_tail);

	if (p->rings_fd < 0 || rx_head != tail || tail - c->given < RING_KEPT)
		return;
	fallocate(p->rings_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		  (off_t)(p->layout->conns_rx + (uint64_t)i * CONN_RING), CONN_RING);
	c->given = tail;
}

/*
 * Everything that one connection needs. Returns 0, or -EBADMSG if the gateway's counts are
 * impossible.
 */
static int pump_one(struct pump *p, unsigned i)
{
	struct pump_conn *c = &p->conn[i];
	struct conn_in *in = &p->in[i];
	bool blocked = false, ours;
	struct conn_head h;
	uint64_t room;

	c->version =
		record_version(record_of(p, i)); /* before the copy: a later change is seen later */
	c->look = !read_record(p, i, &h, sizeof(h));
	if (c->look)
		return 0;
	if (h.tx_tail - own(&in->tx_head) > CONN_RING ||
	    own(&in->rx_tail) - h.rx_head > CONN_RING) {
		/* once: who inherits this record needs the time to repair it */
		bool known = c->refused == c->version + 1;

		c->refused = c->version + 1;
		return known ? 0 : -EBADMSG;
	}
	give_back(p, i, h.rx_head);
	if (!c->link) {
		if (c->waits_free && is_free(p, i))
			after_free(p, i);
		return 0;
	}
	ours = h.life == c->life;
	if (!send_out(p, i, h.tx_tail, &blocked) ||
	    (own(&in->eof) != c->life && !c->linger_until_ns && !receive(p, i, h.rx_head))) {
		drop(p, i);
		return 0;
	}
	if (ours && h.state == CONN_CLOSING && own(&in->tx_head) == h.tx_tail && linger(p, i)) {
		drop(p, i);
		return 0;
	}
	room = CONN_RING - (own(&in->rx_tail) - h.rx_head);
	if (c->linger_until_ns)
		c->link->await(p, i, false, CONN_RING);
	else
		c->link->await(p, i, blocked, own(&in->eof) != c->life ? room : 0);
	return 0;
}

void pump_event(struct pump *p, unsigned conn, uint32_t events)
{
	if (conn >= CONNS || !p->conn[conn].link)
		return;
	/*
	 * HUP: both directions are shut, so nobody reads what would still be sent. A half-close is
	 * no HUP: it is read as an end
	 */
	if (events & (EPOLLHUP | EPOLLERR))
		drop(p, conn);
	else
		p->conn[conn].look = true;
}

int pump_scan(struct pump *p, bool all)
{
	int rc = 0, moved;

	for (unsigned i = 0; i < CONNS; i++) {
		struct pump_conn *c = &p->conn[i];

		if (!c->link && !c->waits_free)
			continue;
		if (all || c->look || c->linger_until_ns ||
		    c->version != record_version(record_of(p, i)))
			rc = pump_one(p, i) ? -EBADMSG : rc;
	}
	if (p->listener >= 0 && p->full && clock_now_ns() >= p->again_ns) {
		if (find_free(p) >= 0)
			watch_listener(p, true);
		else
			make_room(p);
	}
	moved = p->wake;
	if (p->wake || all)
		bell_ring(p->bell);
	p->wake = false;
	return rc ? rc : moved;
}

bool pump_busy(struct pump *p)
{
	for (unsigned i = 0; i < CONNS; i++) {
		if (p->conn[i].link && !p->conn[i].linger_until_ns && !is_idle(p, i))
			return true;
	}
	return false;
}

bool pump_timed(const struct pump *p)
{
	for (unsigned i = 0; i < CONNS; i++) {
		if (p->conn[i].look || p->conn[i].linger_until_ns)
			return true;
	}
	return p->full;
}

/* ---- Start and end ---- */

void pump_init(struct pump *p, const struct layout *layout, void *conns, const void *client,
	       struct bell *bell, struct log_object *log, int epoll)
{
	memset(p, 0, sizeof(*p));
	p->epoll = epoll;
	p->listener = p->rings_fd = -1;
	p->layout = layout;
	p->in = (struct conn_in *)(void *)((char *)conns + layout->conns_in);
	p->rx = (char *)conns + layout->conns_rx;
	p->client = client;
	p->bell = bell;
	p->log = log;
	for (unsigned i = 0; i < CONNS; i++)
		p->conn[i].fd = -1;
}

int pump_listen(struct pump *p, int fd, struct err *e)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = p->listener_tag};

	if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &ev))
		return err_set(e, -errno, "init: cannot watch the socket: %s", strerror(errno));
	p->listener = fd;
	return 0;
}

void pump_unlisten(struct pump *p)
{
	if (p->listener >= 0)
		epoll_ctl(p->epoll, EPOLL_CTL_DEL, p->listener, NULL);
	p->listener = -1;
	p->full = false;
	p->ending = true;
}
