/*
 * A booted node without a machine, for relay.t: init's byte pump and port, a gateway that echoes,
 * and a Unix socket in the place of the virtio-serial port. Called as: echo_node SOCKET [serial];
 * serial: as a serial line is treated. SIGUSR1 makes it write bytes to its port that mean nothing.
 */
#include "boot/port.h"

#include "runtime/clock.h"
#include "tests/echo.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	TAG_PORT = 1,
	TAG_LISTEN,
	TAG_CONN = 1000
};

static struct layout layout;
static struct pump pump;
static struct port port;
static volatile sig_atomic_t noise;
static bool serial;

static void on_signal(int number)
{
	(void)number;
	noise = 1;
}

static void *shared(size_t bytes)
{
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void no_ask(void *context, uint64_t ask, const void *data, size_t len)
{
	(void)context;
	(void)ask;
	(void)data;
	(void)len;
	port_answer(&port, "echo\n", 5, 0);
}

static int listen_on(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	unlink(path);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 4)) {
		perror(path);
		exit(1);
	}
	return fd;
}

/* A relay has come; the one before is forgotten. */
static void take_relay(int listener, int epoll)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u64 = TAG_PORT};
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (port.fd >= 0) {
		shutdown(port.fd, SHUT_RDWR);
		port_event(&port); /* reads the end */
		close(port.fd);
	}
	port_init(&port, &pump, fd, no_ask, NULL);
	port.lossy = serial;
	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev);
}

static void make_noise(void)
{
	char bytes[1000];
	ssize_t n;

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7 + (i >> 3));
	n = port.fd >= 0 ? write(port.fd, bytes, sizeof(bytes)) : 0;
	(void)n;
	noise = 0;
}

int main(int argc, char **argv)
{
	const struct sigaction action = {.sa_handler = on_signal};
	struct plan plan = {.places = 1, .context = 256};
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = TAG_LISTEN};
	char *conns, *client;
	struct bells *bells;
	struct err e = {0};
	int epoll, listener;

	serial = argc == 3;
	if (argc < 2 || layout_make(&layout, &plan, &e))
		return 2;
	sigaction(SIGUSR1, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	conns = shared(layout.bytes[OBJ_CONNS]);
	client = shared(layout.bytes[OBJ_CLIENT]);
	bells = shared(sizeof(*bells));
	epoll = epoll_create1(0);
	pump_init(&pump, &layout, conns, client, &bells->bell[ROLE_CLIENT][0],
		  shared(sizeof(struct log_object)), epoll);
	pump.conn_tag = TAG_CONN;
	port.fd = -1;
	listener = listen_on(argv[1]);
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev);
	for (;;) {
		bool moved = pump_scan(&pump, false) > 0;
		int n;

		moved |= echo_all(&layout, client, conns);
		port_tick(&port);
		n = epoll_wait(epoll, &ev, 1, moved ? 0 : 20);
		if (n > 0 && ev.data.u64 == TAG_LISTEN)
			take_relay(listener, epoll);
		else if (n > 0)
			port_event(&port);
		if (noise)
			make_noise();
	}
}
