/* Clients of the relay, one channel each; see relay.h. */
#include "runtime/cli/relay.h"

#include "runtime/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	WINDOW_STEP = RELAY_RING / 4,
	LINGER_S = 2 /* as init's: how long a client may go on sending after our last byte */
};

static size_t held(const struct relay_client *c)
{
	return (size_t)(c->tail - c->head);
}

static void close_fd(struct relay_client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

/* Says CLOSE once, as soon as there is room; then, with the node's, the channel is free. */
static void finish(struct relay *r, unsigned i)
{
	struct relay_client *c = &r->client[i];

	if (!c->said_close && r->greeted)
		c->said_close = relay_put(r, FRAME_CLOSE, i, 0, NULL, 0);
	if (c->said_close && c->got_close) {
		c->used = false;
		c->head = c->tail = 0;
	}
}

void relay_accept(struct relay *r)
{
	for (unsigned i = 0; i < FRAME_CHANNELS; i++) {
		struct relay_client *c = &r->client[i];
		char *ring = c->ring;
		int fd;

		if (c->used)
			continue;
		if (r->out_len - r->out_at > RELAY_OUT / 2)
			return;
		fd = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		if (!ring)
			ring = malloc(RELAY_RING);
		if (!ring) {
			close(fd);
			return;
		}
		*c = (struct relay_client){
			.fd = fd, .used = true, .ring = ring, .told = RELAY_RING};
		if (!relay_put(r, FRAME_OPEN, i, 0, NULL, 0) ||
		    !relay_put(r, FRAME_WINDOW, i, RELAY_RING, NULL, 0))
			abort(); /* half of the buffer is free */
	}
}

/* Client to node. */
static void take(struct relay *r, unsigned i)
{
	struct relay_client *c = &r->client[i];
	char data[FRAME_DATA_MAX];

	while (c->fd >= 0 && !c->ended && !c->linger_ns && c->sent < c->allowed &&
	       r->out_len - r->out_at < RELAY_OUT / 2) {
		uint64_t room = c->allowed - c->sent;
		size_t len = room < sizeof(data) ? (size_t)room : sizeof(data);
		ssize_t n = recv(c->fd, data, len, MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			close_fd(c);
			return;
		}
		if (n == 0) {
			c->ended = relay_put(r, FRAME_END, i, 0, NULL, 0);
			return;
		}
		if (!relay_put(r, FRAME_DATA, i, 0, data, (size_t)n))
			abort(); /* half of the buffer was free */
		c->sent += (uint64_t)n;
	}
}

/* Node to client. */
static void give(struct relay *r, unsigned i)
{
	struct relay_client *c = &r->client[i];

	while (c->fd >= 0 && held(c)) {
		size_t at = c->head % RELAY_RING;
		size_t len = held(c) < RELAY_RING - at ? held(c) : RELAY_RING - at;
		ssize_t n = send(c->fd, c->ring + at, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			close_fd(c);
			return;
		}
		c->head += (uint64_t)n;
	}
	if (c->received - held(c) + RELAY_RING >= c->told + WINDOW_STEP && !c->got_close &&
	    relay_put(r, FRAME_WINDOW, i, c->received - held(c) + RELAY_RING, NULL, 0))
		c->told = c->received - held(c) + RELAY_RING;
}

/*
 * The node has closed it and the client has got everything. Closing with input unread would make
 * the kernel reset the connection under the reply, so our side is shut and input is dropped until
 * the client closes or has had two seconds.
 */
static void linger(struct relay_client *c)
{
	char trash[4096];
	ssize_t n;

	if (!c->linger_ns) {
		c->linger_ns = clock_now_ns() + LINGER_S * NS_PER_S;
		shutdown(c->fd, SHUT_WR);
	}
	do {
		n = recv(c->fd, trash, sizeof(trash), MSG_DONTWAIT);
	} while (n > 0);
	if (n == 0 || (errno != EAGAIN && errno != EINTR) || clock_now_ns() >= c->linger_ns)
		close_fd(c);
}

void relay_client_run(struct relay *r, unsigned i, short events)
{
	struct relay_client *c = &r->client[i];

	if (!c->used)
		return;
	if (events & (POLLHUP | POLLERR))
		close_fd(c); /* nobody reads what would still be sent */
	if (c->fd >= 0) {
		take(r, i);
		give(r, i);
	}
	if (c->fd >= 0 && !held(c) && c->got_close)
		linger(c);
	else if (c->fd >= 0 && !held(c) && c->got_end && !c->shut)
		c->shut = !shutdown(c->fd, SHUT_WR);
	if (c->fd < 0)
		finish(r, i);
}

short relay_client_events(const struct relay *r, const struct relay_client *c)
{
	bool reads = !c->ended && c->sent < c->allowed && r->out_len - r->out_at < RELAY_OUT / 2;

	return (short)((c->linger_ns || reads ? POLLIN : 0) | (held(c) ? POLLOUT : 0));
}

static bool take_data(struct relay_client *c, const char *data, size_t len)
{
	size_t at = c->tail % RELAY_RING, first = len < RELAY_RING - at ? len : RELAY_RING - at;

	if (!c->used || c->got_close || c->got_end)
		return false;
	if (c->fd < 0)
		return true; /* the node will hear */
	if (len > c->told - c->received)
		return false;
	memcpy(c->ring + at, data, first);
	memcpy(c->ring, data + first, len - first);
	c->tail += len;
	c->received += len;
	return true;
}

bool relay_client_frame(struct relay *r, const struct frame *f, const char *data)
{
	struct relay_client *c = &r->client[f->channel];
	bool good = c->used;

	switch (f->kind) {
	case FRAME_DATA:
		good = take_data(c, data, f->length);
		break;
	case FRAME_WINDOW:
		if (f->value > c->allowed)
			c->allowed = f->value;
		break;
	case FRAME_END:
		c->got_end = true;
		break;
	case FRAME_CLOSE:
		good = good && !c->got_close;
		c->got_close = true;
		break;
	default:
		good = false;
	}
	if (good)
		relay_client_run(r, f->channel, 0);
	return good;
}

void relay_drop_clients(struct relay *r)
{
	for (unsigned i = 0; i < FRAME_CHANNELS; i++) {
		struct relay_client *c = &r->client[i];

		if (!c->used)
			continue;
		/* what has come is still sent, if the socket takes it */
		if (c->fd >= 0)
			give(r, i);
		close_fd(c);
		*c = (struct relay_client){.fd = -1, .ring = c->ring};
	}
}
