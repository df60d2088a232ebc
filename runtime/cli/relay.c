/*
 * `penstock relay PORT`: a booted node's port as a Unix socket on its host, so that `penstock ask`
 * and every other client find what they would find on a host's own node. PORT is the Unix socket of
 * a virtual machine's port, or a device: a serial line to a machine of metal. The node may come and
 * go: its connections end, newcomers wait.
 */
#include "runtime/cli/relay.h"

#include "boot/listen.h"
#include "boot/uart.h"
#include "runtime/cli/cli.h"
#include "runtime/cli/relay_direct.h"
#include "runtime/clock.h"
#include "runtime/options.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	RETRY_MS = 200, /* until the port can be opened */
	HELLO_S = 1,    /* a greeting without an answer is said again */
	SILENCE_S = 5,  /* a node from which nothing has come is asked whether it is there */
	ANSWER_S = 15,  /* and given up: it has restarted, and says so in its own time */
	PAUSE_S = 3,    /* a serial line: a frame of which the rest does not come is given up */
	PARTIAL_S = 15
};

static volatile sig_atomic_t stopped; /* a signal handler's */

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

/* ---- The stream ---- */

/* Who asked something in the session that is over gets no answer any more. */
static void drop_control(struct relay *r)
{
	if (r->control_asks && r->control >= 0) {
		close(r->control);
		r->control = -1;
	}
	r->control_asks = false;
}

static void close_port(struct relay *r)
{
	if (r->port >= 0)
		close(r->port);
	r->port = -1;
	r->greeted = false;
	r->out_len = r->out_at = r->in_len = 0;
	relay_drop_clients(r);
	drop_control(r);
}

static void flush(struct relay *r)
{
	while (r->port >= 0 && r->out_at < r->out_len) {
		ssize_t n = write(r->port, r->out + r->out_at, r->out_len - r->out_at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			close_port(r);
			return;
		}
		r->out_at += (size_t)n;
	}
	r->out_len = r->out_at = 0;
}

bool relay_put(struct relay *r, enum frame_kind kind, unsigned channel, uint64_t value,
	       const void *data, size_t len)
{
	struct frame f;

	if (r->out_at && sizeof(r->out) - r->out_len < sizeof(f) + len) {
		memmove(r->out, r->out + r->out_at, r->out_len - r->out_at);
		r->out_len -= r->out_at;
		r->out_at = 0;
	}
	if (sizeof(r->out) - r->out_len < sizeof(f) + len)
		return false;
	if (kind == FRAME_HELLO)
		r->next_out = 0;
	f = frame_make(kind, channel, value, data, (uint32_t)len, r->next_out++);
	memcpy(r->out + r->out_len, &f, sizeof(f));
	if (len)
		memcpy(r->out + r->out_len + sizeof(f), data, len);
	r->out_len += sizeof(f) + len;
	return true;
}

/* A new session: what is under way belongs to none. */
static void greet(struct relay *r)
{
	relay_drop_clients(r);
	drop_control(r);
	r->greeted = false;
	do {
		if (getrandom(&r->session, sizeof(r->session), 0) != sizeof(r->session))
			r->session = clock_now_ns();
	} while (!r->session);
	r->asked_ns = clock_now_ns();
	r->out_len = r->out_at = 0;
	if (!relay_put(r, FRAME_HELLO, 0, r->session, NULL, 0))
		abort(); /* the buffer is empty */
}

static void open_port(struct relay *r)
{
	struct stat st;

	r->lossy = false;
	if (stat(r->port_path, &st))
		return;
	if (S_ISSOCK(st.st_mode)) {
		r->port = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (r->port >= 0 &&
		    connect(r->port, (struct sockaddr *)&r->address, sizeof(r->address))) {
			close(r->port);
			r->port = -1;
		}
	} else {
		r->port = open(r->port_path, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
		r->lossy = r->port >= 0 && !uart_set(r->port, r->speed);
	}
	if (r->port < 0)
		return;
	fcntl(r->port, F_SETFL, O_NONBLOCK);
	greet(r);
}

/* One whole frame. False: it makes no sense. */
static bool take_frame(struct relay *r, const struct frame *f, const char *data)
{
	if (f->kind == FRAME_WELCOME) {
		r->next_in = 1;
		if (f->value == r->session) {
			if (!r->greeted)
				fprintf(stderr, "penstock: the node is there\n");
			r->greeted = true;
		} else if (!f->value) {
			greet(r); /* it has just started, or has lost the thread */
		}
		return true;
	}
	if (!r->greeted)
		return true; /* of an older session */
	if (f->number != r->next_in++)
		return false;
	switch (f->kind) {
	case FRAME_PONG:
		return true;
	case FRAME_ANSWER:
		if (f->value) /* the last of it */
			r->control_asks = false;
		if (r->control >= 0 && (send(r->control, f, sizeof(*f), MSG_NOSIGNAL) < 0 ||
					send(r->control, data, f->length, MSG_NOSIGNAL) < 0))
			return true; /* nobody waits for it any more */
		return true;
	default:
		return relay_client_frame(r, f, data);
	}
}

static void take_frames(struct relay *r)
{
	size_t at = 0;

	while (r->in_len - at >= sizeof(struct frame)) {
		struct frame f;

		if (!frame_read(&f, r->in + at)) {
			if (r->greeted)
				greet(r);
			at++;
			continue;
		}
		if (r->in_len - at < sizeof(f) + f.length)
			break;
		if (!frame_whole(&f, r->in + at + sizeof(f))) {
			if (r->greeted)
				greet(r);
			at++;
			continue;
		}
		if (!take_frame(r, &f, r->in + at + sizeof(f)))
			greet(r);
		at += sizeof(f) + f.length;
	}
	memmove(r->in, r->in + at, r->in_len - at);
	r->in_len -= at;
	if (at)
		r->partial_ns = r->heard_ns;
}

static void read_port(struct relay *r)
{
	ssize_t n = read(r->port, r->in + r->in_len, sizeof(r->in) - r->in_len);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		fprintf(stderr, "penstock: the node is gone\n");
		close_port(r);
		return;
	}
	r->heard_ns = clock_now_ns();
	r->asked_ns = 0;
	if (!r->in_len)
		r->partial_ns = r->heard_ns;
	r->in_len += (size_t)n;
	take_frames(r);
}

/* A greeting or a question without an answer. */
static void look_at_time(struct relay *r)
{
	uint64_t now = clock_now_ns();
	bool awaits = false;

	for (unsigned i = 0; i < FRAME_CHANNELS; i++)
		awaits |= r->client[i].used;
	if (r->lossy && r->in_len &&
	    (now - r->heard_ns > PAUSE_S * NS_PER_S ||
	     now - r->partial_ns > PARTIAL_S * NS_PER_S)) {
		r->in_len = 0; /* what would complete it is the next frame */
		greet(r);
	} else if (!r->greeted) {
		/*
		 * the same session: the stream keeps its order, so it comes before the first OPEN
		 */
		if (now - r->asked_ns > HELLO_S * NS_PER_S && !r->out_len &&
		    relay_put(r, FRAME_HELLO, 0, r->session, NULL, 0))
			r->asked_ns = now;
	} else if (r->asked_ns && now - r->asked_ns > ANSWER_S * NS_PER_S) {
		greet(r);
	} else if (!r->asked_ns && awaits && now - r->heard_ns > SILENCE_S * NS_PER_S) {
		if (relay_put(r, FRAME_PING, 0, now, NULL, 0))
			r->asked_ns = now;
	}
}

/* ---- Requests of `penstock node`, which speaks in frames itself ---- */

static void accept_control(struct relay *r)
{
	int fd = accept4(r->control_listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (r->control >= 0) /* the newest one is served */
		close(r->control);
	r->control = fd;
	r->control_asks = false;
	r->control_len = 0;
}

static void read_control(struct relay *r)
{
	struct frame f;
	ssize_t n = recv(r->control, r->control_in + r->control_len,
			 sizeof(r->control_in) - r->control_len, MSG_DONTWAIT);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	r->control_len += n > 0 ? (size_t)n : 0;
	while (r->control_len >= sizeof(f)) {
		if (!frame_read(&f, r->control_in) || f.kind != FRAME_ASK) {
			n = 0;
			break;
		}
		if (r->control_len < sizeof(f) + f.length)
			break;
		if (!relay_put(r, FRAME_ASK, 0, f.value, r->control_in + sizeof(f), f.length))
			abort(); /* half of the buffer was free */
		r->control_asks = true;
		r->control_len -= sizeof(f) + f.length;
		memmove(r->control_in, r->control_in + sizeof(f) + f.length, r->control_len);
	}
	if (n > 0)
		return;
	close(r->control);
	r->control = -1;
}

/* ---- The loop ---- */

static unsigned poll_add(struct relay *r, int fd, short events)
{
	r->poll[r->polled] = (struct pollfd){.fd = fd, .events = events};
	return r->polled++;
}

static void turn(struct relay *r)
{
	unsigned port, listener, control_listener, control;

	r->polled = 0;
	port = poll_add(r, r->port, (short)(POLLIN | (r->out_len ? POLLOUT : 0)));
	listener = poll_add(r, r->greeted ? r->listener : -1, POLLIN);
	control_listener = poll_add(r, r->control_listener, POLLIN);
	control = poll_add(r, r->greeted && r->out_len < RELAY_OUT / 2 ? r->control : -1, POLLIN);
	for (unsigned i = 0; i < FRAME_CHANNELS; i++)
		if (r->client[i].used && r->client[i].fd >= 0)
			r->slot[i] =
				poll_add(r, r->client[i].fd, relay_client_events(r, &r->client[i]));
		else
			r->slot[i] = 0;
	if (poll(r->poll, r->polled, r->port < 0 ? RETRY_MS : 1000) < 0)
		return;
	if (r->port < 0) {
		open_port(r);
		return;
	}
	look_at_time(r);
	if (r->poll[port].revents)
		read_port(r);
	if (r->poll[control_listener].revents)
		accept_control(r);
	if (r->poll[control].revents && r->control >= 0 && r->greeted)
		read_control(r);
	for (unsigned i = 0; i < FRAME_CHANNELS; i++)
		if (r->client[i].used)
			relay_client_run(r, i, r->slot[i] ? r->poll[r->slot[i]].revents : 0);
	if (r->poll[listener].revents && r->greeted)
		relay_accept(r);
	flush(r);
}

static int set_address(struct relay *r, struct err *e)
{
	if (strlen(r->port_path) >= sizeof(r->address.sun_path))
		return err_exit(e, STATUS_USAGE, -ENAMETOOLONG, "%s: a path has %zu bytes at most",
				r->port_path, sizeof(r->address.sun_path) - 1);
	r->address.sun_family = AF_UNIX;
	strcpy(r->address.sun_path, r->port_path);
	return 0;
}

int cmd_relay(int argc, char **argv, struct err *e)
{
	static struct relay r = {.port = -1, .control = -1, .speed = UART_SPEED};
	static struct listen_socket main_socket, control_socket;
	const struct sigaction action = {.sa_handler = on_signal};
	struct opt table[] = {{"socket", OPT_STRING, &r.path, .value = "PATH",
			       .help = "where to listen (/run/penstock/penstock.sock, else "
				       "$XDG_RUNTIME_DIR)"},
			      {"speed", OPT_U64, &r.speed, .value = "N",
			       .help = "of a serial line, bits per second (115200)"}};
	struct options o = {
		.usage = "penstock relay PORT",
		.about = "Makes a Unix socket of a booted node's port. PORT is the socket of a "
			 "virtual machine's virtio-serial port, or a device (a serial line); "
			 "vsock:CID; or hybrid:PATH, the vsock socket of Firecracker and Cloud "
			 "Hypervisor.",
		.table = table,
		.n = 2,
		.min_operands = 1,
		.max_operands = 1};
	int n = options_parse(&o, argc, argv, e), rc, direct;

	if (n < 0)
		return n;
	if (o.help)
		return options_help(&o, stdout);
	direct = relay_direct_names(argv[1], e);
	if (direct < 0)
		return direct;
	r.port_path = argv[1];
	for (unsigned i = 0; i < FRAME_CHANNELS; i++)
		r.client[i].fd = -1;
	rc = direct ? 0 : set_address(&r, e);
	if (!rc)
		rc = listen_open(&main_socket, r.path, e);
	if (!rc && !direct)
		rc = listen_beside(&control_socket, &main_socket, RELAY_CONTROL, e);
	if (rc)
		return rc;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	r.listener = main_socket.fd;
	r.control_listener = control_socket.fd;
	if (direct)
		rc = relay_direct(argv[1], r.listener, &stopped, e);
	while (!stopped && !direct)
		turn(&r);
	listen_close(&main_socket);
	if (!direct)
		listen_close(&control_socket);
	return rc;
}
