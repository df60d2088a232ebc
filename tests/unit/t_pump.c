/*
 * boot/pump.h: every byte of every client goes through once and in order, whenever the gateway is
 * killed; and the limits: a slow reader, a half-close, a client that goes, a full house, a gateway
 * that lies. This process is init, a child is the gateway, another one all the clients.
 */
/* no asan: the gateway is a forked child that is killed in the middle of everything */
#include "boot/pump.h"

#include "ipc/record.h"
#include "runtime/clock.h"
#include "tests/echo.h"
#include "tests/tap.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	STREAMS = 8,
	STREAM_BYTES = 8 << 20,
	KILLS = 300,
	TAG_LISTEN = 1,
	TAG_BELL = 2,
	TAG_CONN = 1000
};

static struct layout layout;
static struct pump pump;
static struct bells *bells;
static struct log_object *log_object;
static char *conns, *client;
static int epoll, bell, listener;
static struct sockaddr_un address;
static pid_t gateway;

static void *shared(size_t bytes)
{
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void gateway_start(void)
{
	gateway = fork();
	if (gateway)
		return;
	for (;;) {
		struct bell *own = &bells->bell[ROLE_CLIENT][0];

		bell_prepare(own);
		if (echo_all(&layout, client, conns)) {
			bell_cancel(own);
			echo_tell(bells, bell);
		} else {
			bell_wait(own, UINT64_MAX);
		}
	}
}

static void gateway_kill(void)
{
	kill(gateway, SIGKILL);
	waitpid(gateway, NULL, 0);
	gateway = 0;
}

/* One turn of what boot/loop.c does. */
static int turn(int timeout_ms)
{
	struct epoll_event ev[64];
	int rc, n;

	atomic_exchange(&bells->init_idle, 1);
	atomic_thread_fence(memory_order_seq_cst);
	rc = pump_scan(&pump, false);
	n = epoll_wait(epoll, ev, 64, rc ? 0 : timeout_ms);
	for (int i = 0; i < n; i++) {
		uint64_t tag = ev[i].data.u64, count;

		if (tag >= TAG_CONN)
			pump_event(&pump, (unsigned)(tag - TAG_CONN), ev[i].events);
		else if (tag == TAG_LISTEN)
			pump_accept(&pump);
		else if (read(bell, &count, sizeof(count)) < 0)
			return -1;
	}
	return rc;
}

/* ---- Clients ---- */

static int dial(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		perror("t_pump: connect");
		_exit(10);
	}
	return fd;
}

/* Byte n of stream s: no 4 in it. */
static char pattern(unsigned s, uint64_t n)
{
	uint64_t x = (n + 1) * 0x9e3779b97f4a7c15ull + s;

	return (char)('a' + (x >> 40) % 23);
}

struct stream {
	int fd;
	uint64_t sent, got;
};

/* Sends and receives some bytes of one stream in odd sizes. Returns false at a difference. */
static bool stream_step(struct stream *t, unsigned s, unsigned *seed)
{
	char buf[9000];
	size_t len = (size_t)rand_r(seed) % sizeof(buf) + 1;
	ssize_t n;

	if (t->sent < STREAM_BYTES) {
		for (size_t i = 0; i < len; i++)
			buf[i] = pattern(s, t->sent + i);
		if (len > STREAM_BYTES - t->sent)
			len = STREAM_BYTES - t->sent;
		n = send(t->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0)
			t->sent += (uint64_t)n;
		if (t->sent == STREAM_BYTES)
			shutdown(t->fd, SHUT_WR);
	}
	n = recv(t->fd, buf, (size_t)rand_r(seed) % sizeof(buf) + 1, MSG_DONTWAIT);
	for (ssize_t i = 0; i < n; i++) {
		if (buf[i] != pattern(s, t->got++))
			return false;
	}
	return n != 0 || t->got == STREAM_BYTES;
}

/* All streams at once; the last one reads slowly. Exit status 0: every byte came back. */
static void clients_run(void)
{
	struct stream t[STREAMS] = {{0}};
	unsigned seed = 7, done = 0;

	for (unsigned s = 0; s < STREAMS; s++)
		t[s].fd = dial();
	while (done < STREAMS) {
		done = 0;
		for (unsigned s = 0; s < STREAMS; s++) {
			struct pollfd p = {.fd = t[s].fd,
					   .events = POLLIN |
						     (t[s].sent < STREAM_BYTES ? POLLOUT : 0)};

			if (t[s].got == STREAM_BYTES) {
				done++;
				continue;
			}
			if (s == STREAMS - 1 && rand_r(&seed) % 8)
				continue;
			poll(&p, 1, 1);
			if (!stream_step(&t[s], s, &seed))
				_exit(20 + (int)s);
		}
	}
	for (unsigned s = 0; s < STREAMS; s++) {
		char c;

		if (recv(t[s].fd, &c, 1, 0) != 0) /* the end of the reply, and nothing more */
			_exit(40 + (int)s);
	}
	_exit(0);
}

static void check_kills(void)
{
	unsigned kills = 0, seed = 3;
	int status = -1;
	uint64_t next = clock_now_ns();
	pid_t clients = fork();

	if (!clients)
		clients_run();
	while (waitpid(clients, &status, WNOHANG) == 0) {
		if (turn(1) < 0)
			break;
		if (kills < KILLS && clock_now_ns() >= next) {
			gateway_kill();
			gateway_start();
			if (pump_scan(&pump, true) < 0)
				break;
			kills++;
			next = clock_now_ns() + (uint64_t)(rand_r(&seed) % 2000) * NS_PER_US;
		}
	}
	is_int(status, 0, "%d streams of %d bytes came back whole, with %u kills of the gateway",
	       STREAMS, STREAM_BYTES, kills);
	ok(kills >= KILLS / 15, "the gateway was killed often enough: %u", kills);
}

/* Takes turns until fd has something or a second is over. */
static ssize_t await(int fd, char *buf, size_t len)
{
	for (unsigned i = 0; i < 200; i++) {
		ssize_t n;

		turn(5);
		n = recv(fd, buf, len, MSG_DONTWAIT);
		if (n >= 0 || errno != EAGAIN)
			return n;
	}
	return -1;
}

static void check_ends(void)
{
	char buf[100], big[4096];
	int fd = dial(), other;
	uint64_t sent = 0;

	is_int(send(fd, "abc", 3, 0), 3, "a client sends");
	is_int(await(fd, buf, sizeof(buf)), 3, "and is answered");
	shutdown(fd, SHUT_WR);
	is_int(await(fd, buf, sizeof(buf)), 0, "a half-close is answered by the end");
	close(fd);
	fd = dial();
	is_int(send(fd, "x\004 and more that nobody reads", 30, 0), 30,
	       "a request with too much behind it");
	is_int(await(fd, buf, sizeof(buf)), 2, "gets its whole answer");
	is_int(await(fd, buf, sizeof(buf)), 0, "and then the end, no reset");
	close(fd);
	fd = dial();
	memset(big, 'z', sizeof(big));
	for (unsigned i = 0; i < 2000; i++) {
		ssize_t n = send(fd, big, sizeof(big), MSG_DONTWAIT | MSG_NOSIGNAL);

		sent += n > 0 ? (uint64_t)n : 0;
		turn(0);
	}
	ok(sent < 2000 * sizeof(big), "one that never reads is stopped: %llu bytes",
	   (unsigned long long)sent);
	other = dial();
	is_int(send(other, "abc", 3, 0), 3, "while another one");
	is_int(await(other, buf, sizeof(buf)), 3, "is answered");
	close(fd);
	close(other);
	for (unsigned i = 0; i < 50; i++)
		turn(2);
	for (unsigned i = 0; i < CONNS; i++) {
		if (pump.conn[i].fd >= 0 || pump.conn[i].waits_free)
			is_int(i, -1, "a connection is still in use");
	}
	ok(!pump_busy(&pump) && !pump_timed(&pump), "when all are gone nothing is left to do");
}

static void check_full(void)
{
	static int fd[CONNS + 4];
	char buf[10];
	unsigned closed = 0, answered = 0, n = CONNS;

	for (unsigned i = 0; i < CONNS; i++) {
		fd[i] = dial();
		turn(0);
		turn(0);
	}
	for (unsigned i = 0; i < CONNS; i++) {
		answered += send(fd[i], "q", 1, 0) == 1 && await(fd[i], buf, sizeof(buf)) == 1;
	}
	is_int(answered, CONNS, "%d clients are served at once", CONNS);
	fd[n] = dial();
	is_int(send(fd[n], "new", 3, 0), 3, "one more than there are places");
	is_int(await(fd[n], buf, sizeof(buf)), 3, "is answered");
	for (unsigned i = 0; i < CONNS; i++)
		closed += recv(fd[i], buf, 1, MSG_DONTWAIT) == 0;
	is_int(closed, 1, "in the place of one that was idle");
	is_int(recv(fd[0], buf, 1, MSG_DONTWAIT), 0, "the one that was idle longest");
	for (unsigned i = 0; i <= n; i++)
		close(fd[i]);
	for (unsigned i = 0; i < 50; i++)
		turn(2);
}

/* A gateway that says it has produced more than a ring holds. */
static void check_lies(void)
{
	int fd = dial(), rc = 0;
	struct record r;
	struct conn_head *h;
	char buf[10];

	is_int(send(fd, "a", 1, 0), 1, "a client");
	is_int(await(fd, buf, sizeof(buf)), 1, "is served in place 0");
	gateway_kill();
	record_open(&r, client + layout.client_conn, sizeof(struct conn_record));
	h = &((struct conn_record *)r.draft)->head;
	h->tx_tail += CONN_RING + 1;
	record_touch(&r, h, sizeof(*h));
	record_commit(&r);
	rc = pump_scan(&pump, true);
	is_int(rc, -EBADMSG, "more bytes produced than the ring holds is a lie");
	h = &((struct conn_record *)r.draft)->head;
	h->tx_tail -= CONN_RING + 1;
	h->rx_head += 1;
	record_touch(&r, h, sizeof(*h));
	record_commit(&r);
	rc = pump_scan(&pump, true);
	is_int(rc, -EBADMSG, "so is a byte consumed that was never received");
	close(fd);
}

static void open_listener(void)
{
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	address.sun_family = AF_UNIX;
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/t_pump.%d", (int)getpid());
	unlink(address.sun_path);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 64))
		abort();
}

int main(void)
{
	struct plan plan = {.places = 1, .context = 256};
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = TAG_BELL};
	struct err e = {0};

	is_int(layout_make(&layout, &plan, &e), 0, "there is a layout");
	conns = shared(layout.bytes[OBJ_CONNS]);
	client = shared(layout.bytes[OBJ_CLIENT]);
	bells = shared(sizeof(*bells));
	log_object = shared(sizeof(*log_object));
	epoll = epoll_create1(0);
	bell = eventfd(0, EFD_NONBLOCK);
	epoll_ctl(epoll, EPOLL_CTL_ADD, bell, &ev);
	open_listener();
	pump_init(&pump, &layout, conns, client, &bells->bell[ROLE_CLIENT][0], log_object, epoll);
	pump.listener_tag = TAG_LISTEN;
	pump.conn_tag = TAG_CONN;
	is_int(pump_listen(&pump, listener, &e), 0, "it listens");
	gateway_start();
	check_kills();
	check_ends();
	check_full();
	check_lies();
	unlink(address.sun_path);
	return tap_done();
}
