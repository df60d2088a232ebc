/* Channels of a device; see port.h. */
#include "boot/port.h"

#include "runtime/clock.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
	WINDOW_STEP = CONN_RING / 4, /* a window is told when it has grown by that */
	HEADER = sizeof(struct frame),
	/* lossy: a frame is given up after silence, or ten times what 115200 bits/s need */
	SILENCE_S = 3,
	PARTIAL_S = 15
};

/* ---- Sending ---- */

static void flush(struct port *t)
{
	while (t->out_at < t->out_len) {
		ssize_t n = write(t->fd, t->out + t->out_at, t->out_len - t->out_at);

		if (n < 0 && errno == EINTR)
			continue;
		t->blocked = n <= 0;
		if (n <= 0)
			return;
		t->out_at += (size_t)n;
	}
	t->out_at = t->out_len = 0;
	t->blocked = false;
}

/* A frame into the buffer, whole or not at all. */
static bool put(struct port *t, enum frame_kind kind, unsigned channel, uint64_t value,
		const void *data, size_t len)
{
	struct frame f;

	if (sizeof(t->out) - t->out_len < HEADER + len)
		return false;
	if (kind == FRAME_WELCOME)
		t->next_out = 0;
	f = frame_make(kind, channel, value, data, (uint32_t)len, t->next_out++);
	memcpy(t->out + t->out_len, &f, HEADER);
	if (len)
		memcpy(t->out + t->out_len + HEADER, data, len);
	t->out_len += HEADER + len;
	return true;
}

/* Frames without data that a channel owes, as far as there is room. */
static bool pay_channel(struct port *t, unsigned i)
{
	struct port_channel *c = &t->channel[i];

	if (c->state == CHANNEL_OPEN && c->granted != c->told) {
		if (!put(t, FRAME_WINDOW, i, c->granted, NULL, 0))
			return false;
		c->told = c->granted;
	}
	if (c->owes_end && !put(t, FRAME_END, i, 0, NULL, 0))
		return false;
	c->owes_end = false;
	if (c->owes_close && !put(t, FRAME_CLOSE, i, 0, NULL, 0))
		return false;
	c->owes_close = false;
	return true;
}

static void pay_answer(struct port *t)
{
	while (t->answer) {
		size_t left = t->answer_len - t->answered;
		size_t len = left < FRAME_DATA_MAX ? left : FRAME_DATA_MAX;

		if (!put(t, FRAME_ANSWER, 0, len == left ? 1 + t->answer_status : 0,
			 t->answer + t->answered, len))
			return;
		t->answered += len;
		if (len == left)
			t->answer = NULL;
	}
}

/* Everything that is owed: greetings first. */
static void pay(struct port *t)
{
	if (t->owes_welcome && put(t, FRAME_WELCOME, 0, t->session, NULL, 0))
		t->owes_welcome = false;
	if (t->owes_welcome || !t->session)
		goto out;
	if (t->pong && put(t, FRAME_PONG, 0, t->pong, NULL, 0))
		t->pong = 0;
	pay_answer(t);
	if (t->owes) {
		t->owes = false;
		for (unsigned i = 0; i < FRAME_CHANNELS; i++)
			if (!pay_channel(t, i) || t->channel[i].state == CHANNEL_WAITS)
				t->owes = true;
	}
out:
	flush(t);
}

/* ---- The pump's side ---- */

static struct port_channel *channel_of(struct pump *p, unsigned conn, struct port **t)
{
	*t = p->port;
	return &(*t)->channel[p->conn[conn].channel];
}

static ssize_t channel_send(struct pump *p, unsigned conn, const void *data, size_t len)
{
	struct port *t;
	struct port_channel *c = channel_of(p, conn, &t);
	uint64_t room = c->allowed - c->sent;

	len = len < FRAME_DATA_MAX ? len : FRAME_DATA_MAX;
	len = len < room ? len : room;
	if (t->out_len)
		flush(t);
	if (!len || t->out_len || !put(t, FRAME_DATA, p->conn[conn].channel, 0, data, len))
		return -EAGAIN;
	c->sent += len;
	flush(t);
	return (ssize_t)len;
}

/* Its bytes are in the ring already. */
static ssize_t channel_receive(struct pump *p, unsigned conn, void *data, size_t len)
{
	(void)p;
	(void)conn;
	(void)data;
	(void)len;
	return -EAGAIN;
}

static void channel_await(struct pump *p, unsigned conn, bool blocked, uint64_t room)
{
	struct port *t;
	struct port_channel *c = channel_of(p, conn, &t);

	(void)blocked; /* port_event and windows tell of room */
	if (c->received + room < c->granted + WINDOW_STEP && c->granted != c->received)
		return;
	if (c->received + room > c->granted) {
		c->granted = c->received + room;
		t->owes = true;
	}
}

/*
 * The host's relay waits until its client has read everything; there is nothing to wait for here.
 */
static bool channel_shut(struct pump *p, unsigned conn)
{
	(void)p;
	(void)conn;
	return false;
}

static void channel_drop(struct pump *p, unsigned conn)
{
	struct port *t;
	struct port_channel *c = channel_of(p, conn, &t);

	c->state = CHANNEL_CLOSED;
	c->owes_close = t->owes = true;
}

static const struct pump_link channel_link = {channel_send, channel_receive, channel_await,
					      channel_shut, channel_drop};

/* ---- Receiving ---- */

static bool is_ours(const struct port *t, const struct port_channel *c)
{
	return c->state == CHANNEL_OPEN && t->pump->conn[c->conn].link == &channel_link;
}

/* The host has closed it, or is gone: so is the client. */
static void close_channel(struct port *t, unsigned i)
{
	struct port_channel *c = &t->channel[i];

	if (is_ours(t, c))
		pump_gone(t->pump, c->conn); /* calls channel_drop */
	else if (c->state == CHANNEL_WAITS)
		c->owes_close = t->owes = true;
	c->state = CHANNEL_FREE;
}

static void forget_channels(struct port *t)
{
	for (unsigned i = 0; i < FRAME_CHANNELS; i++) {
		close_channel(t, i);
		t->channel[i] = (struct port_channel){0};
	}
}

/* Gives a channel its connection, if there is one. */
static void admit(struct port *t, unsigned i)
{
	struct port_channel *c = &t->channel[i];
	int conn = pump_take(t->pump, &channel_link, i);

	if (conn == -EAGAIN) {
		t->owes = true;
		return;
	}
	if (conn < 0) {
		c->state = CHANNEL_CLOSED;
		c->owes_close = t->owes = true;
		return;
	}
	c->state = CHANNEL_OPEN;
	c->conn = (unsigned)conn;
	if (c->ended)
		pump_put_end(t->pump, c->conn);
}

static bool take_data(struct port *t, struct port_channel *c, const char *data, size_t len)
{
	if (c->state == CHANNEL_CLOSED)
		return true;
	if (!is_ours(t, c) || c->ended || len > c->granted - c->received)
		return false;
	c->received += len;
	pump_put(t->pump, c->conn, data, len);
	return true;
}

/* One whole frame. False: it makes no sense. */
static bool take_frame(struct port *t, const struct frame *f, const char *data)
{
	struct port_channel *c = &t->channel[f->channel];

	if (f->kind == FRAME_HELLO)
		t->next_in = 0;
	else if (!t->session)
		return false;
	if (f->number != t->next_in++)
		return false;
	if (f->length && f->kind != FRAME_DATA && f->kind != FRAME_ASK)
		return false;
	switch (f->kind) {
	case FRAME_HELLO:
		forget_channels(t);
		t->session = f->value;
		t->answer = NULL;
		t->owes_welcome = true;
		return true;
	case FRAME_OPEN:
		if (c->state != CHANNEL_FREE)
			return false;
		*c = (struct port_channel){.state = CHANNEL_WAITS};
		admit(t, f->channel);
		return true;
	case FRAME_DATA:
		return take_data(t, c, data, f->length);
	case FRAME_WINDOW:
		if (f->value > c->allowed)
			c->allowed = f->value;
		if (is_ours(t, c))
			t->pump->conn[c->conn].look = true;
		return true;
	case FRAME_END:
		if (is_ours(t, c) && !c->ended)
			pump_put_end(t->pump, c->conn);
		c->ended = true;
		return true;
	case FRAME_CLOSE:
		close_channel(t, f->channel);
		return true;
	case FRAME_PING:
		t->pong = f->value;
		return true;
	case FRAME_ASK:
		t->ask(t->context, f->value, data, f->length);
		return true;
	default:
		return false;
	}
}

/* The session is over; bytes are dropped until the next greeting. */
static void lose(struct port *t)
{
	forget_channels(t);
	t->session = 0;
	t->out_at = t->out_len = 0;
	t->owes_welcome = true; /* number 0: greet me */
}

/* All whole frames of the buffer; what is left of it moves to its begin. */
static void take_frames(struct port *t)
{
	size_t at = 0;

	while (t->in_len - at >= HEADER) {
		struct frame f;

		if (!frame_read(&f, t->in + at) || (!t->session && f.kind != FRAME_HELLO)) {
			if (t->session)
				lose(t);
			at++;
			continue;
		}
		if (t->in_len - at < HEADER + f.length)
			break;
		if (!frame_whole(&f, t->in + at + HEADER)) {
			lose(t);
			at++;
			continue;
		}
		if (!take_frame(t, &f, t->in + at + HEADER))
			lose(t);
		at += HEADER + f.length;
	}
	memmove(t->in, t->in + at, t->in_len - at);
	t->in_len -= at;
	if (at)
		t->partial_ns = t->heard_ns;
}

/* A serial line has lost a part of a frame: what would complete it is the next one. */
static void give_up_partial(struct port *t)
{
	uint64_t now = clock_now_ns();

	if (!t->lossy || !t->in_len ||
	    (now - t->heard_ns < SILENCE_S * NS_PER_S &&
	     now - t->partial_ns < PARTIAL_S * NS_PER_S))
		return;
	t->in_len = 0;
	lose(t);
}

void port_event(struct port *t)
{
	bool was_blocked = t->blocked;

	for (;;) {
		ssize_t n = read(t->fd, t->in + t->in_len, sizeof(t->in) - t->in_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) { /* nobody at the other end any more, or not yet */
			t->in_len = 0;
			if (t->session)
				lose(t);
			break;
		}
		t->heard_ns = clock_now_ns();
		if (!t->in_len)
			t->partial_ns = t->heard_ns;
		t->in_len += (size_t)n;
		take_frames(t);
	}
	pay(t);
	if (!was_blocked || t->blocked)
		return;
	for (unsigned i = 0; i < FRAME_CHANNELS; i++)
		if (is_ours(t, &t->channel[i]))
			t->pump->conn[t->channel[i].conn].look = true;
}

void port_tick(struct port *t)
{
	if (t->fd < 0)
		return;
	for (unsigned i = 0; t->owes && i < FRAME_CHANNELS; i++)
		if (t->channel[i].state == CHANNEL_WAITS)
			admit(t, i);
	give_up_partial(t);
	pay(t);
}

bool port_timed(const struct port *t)
{
	return t->fd >= 0 && ((t->session && (t->blocked || t->owes)) || (t->lossy && t->in_len));
}

void port_answer(struct port *t, const char *text, size_t len, unsigned status)
{
	t->answer = text;
	t->answer_len = len;
	t->answered = 0;
	t->answer_status = status;
}

void port_init(struct port *t, struct pump *pump, int fd, port_ask *ask, void *context)
{
	memset(t, 0, sizeof(*t));
	t->fd = fd;
	t->pump = pump;
	t->ask = ask;
	t->context = context;
	t->owes_welcome = true;
	pump->port = t;
}
