/*
 * The node's end of a byte stream that carries many connections (ipc/frame.h): a virtio-serial
 * port, or a serial line (uart.h). Each channel is a connection of the pump, so that a client of
 * the device is served as one of a socket, and its bytes go straight between frames and byte rings.
 * Called by init's loop on a booted node; tests give it one end of a socket.
 *
 * Invariants: 1. No byte is taken from the stream that there is no room for: a channel's window is
 * the free part of its in-ring. 2. What the host sends is checked before it is used; nonsense ends
 * the session, not the node. 3. Nothing blocks, nothing is allocated.
 */
#ifndef BOOT_PORT_H
#define BOOT_PORT_H

#include "boot/pump.h"
#include "ipc/frame.h"

#include <stdbool.h>
#include <stddef.h>

/* What the host asks of the machine; `data` is len bytes. */
typedef void port_ask(void *context, uint64_t ask, const void *data, size_t len);

enum port_state {
	CHANNEL_FREE,
	CHANNEL_WAITS, /* for a connection */
	CHANNEL_OPEN,
	CHANNEL_CLOSED /* by us, and not yet by the host */
};

struct port_channel {
	enum port_state state;
	unsigned conn;
	bool ended;                 /* the host sends no more */
	bool owes_close, owes_end;  /* frames that found no room */
	uint64_t received, granted; /* host to node */
	uint64_t sent, allowed;     /* node to host */
	uint64_t told;              /* of granted */
};

struct port {
	int fd;     /* -1: none */
	bool lossy; /* a serial line: a frame of which the rest does not come is given up */
	struct pump *pump;
	port_ask *ask;
	void *context;
	uint64_t session;           /* 0: none yet */
	uint64_t pong;              /* owed; 0: none */
	uint32_t next_in, next_out; /* numbers of the next frames */
	bool owes_welcome;
	bool blocked;       /* the stream takes no more at the moment */
	bool owes;          /* some channel owes a frame, or waits */
	const char *answer; /* text that the host is being sent, [answered, answer_len) is left */
	size_t answer_len, answered;
	uint64_t answer_status;
	/* lossy: since when the frame at the begin of `in` is not whole; when bytes last came */
	uint64_t partial_ns, heard_ns;
	size_t in_len, out_len, out_at;
	struct port_channel channel[FRAME_CHANNELS];
	char in[2 * (sizeof(struct frame) + FRAME_DATA_MAX)];
	char out[2 * (sizeof(struct frame) + FRAME_DATA_MAX)];
};

/* `fd` is non-blocking; the caller watches it (EPOLLIN, EPOLLOUT, EPOLLET) and owns it. */
void port_init(struct port *t, struct pump *pump, int fd, port_ask *ask, void *context);

/* The stream may have bytes, or room for some. */
void port_event(struct port *t);

/* What was put off: before init sleeps. Returns whether frames went out. */
void port_tick(struct port *t);

/* Whether something waits that no event tells of: port_tick wants to be called every few ms. */
bool port_timed(const struct port *t);

/* Answers the last ask: text[0 .. len), which stays until the next one, and an exit status. */
void port_answer(struct port *t, const char *text, size_t len, unsigned status);

#endif
