/*
 * `penstock relay`: the host's end of a node's port (ipc/frame.h), in two files: relay.c has the
 * command, the stream and the loop, relay_client.c the clients. Private to them.
 */
#ifndef RUNTIME_CLI_RELAY_H
#define RUNTIME_CLI_RELAY_H

#include "ipc/frame.h"
#include "runtime/err.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#define RELAY_CONTROL ".node" /* suffix of the socket for `penstock node` */

enum {
	RELAY_RING = 64 * 1024, /* from the node, per client */
	RELAY_OUT =
		16 * FRAME_DATA_MAX, /* to the node; clients are read while half of it is free */
	RELAY_SESSION_MAX = 1 << 30
};

/* A client; fd -1 and both closes done: the channel is free. */
struct relay_client {
	int fd;
	bool used; /* the channel is not free */
	bool said_close, got_close;
	bool ended;              /* the client sends no more, and the node knows */
	bool got_end;            /* the node sends no more */
	bool shut;               /* and the client knows */
	uint64_t linger_ns;      /* everything was sent: until when the client may go on sending */
	uint64_t sent, allowed;  /* to the node */
	uint64_t received, told; /* from the node; what it was allowed last */
	uint64_t head, tail;     /* of ring */
	char *ring;
};

struct relay {
	const char *port_path, *path;
	struct sockaddr_un address;
	int port, listener, control_listener, control;
	bool control_asks;   /* it waits for an answer of this session */
	bool lossy;          /* the port is a serial line */
	uint64_t partial_ns; /* lossy: since when the frame at the begin of `in` is not whole */
	uint64_t speed;      /* of a serial line, bits per second */
	bool greeted;        /* this session is the node's too */
	uint64_t session;
	uint32_t next_in, next_out;  /* numbers of the next frames */
	uint64_t heard_ns, asked_ns; /* last bytes from the node; last PING without an answer */
	struct relay_client client[FRAME_CHANNELS];
	size_t out_len, out_at, in_len, control_len;
	char out[RELAY_OUT], in[2 * (sizeof(struct frame) + FRAME_DATA_MAX)];
	char control_in[sizeof(struct frame) + FRAME_DATA_MAX];
	struct pollfd poll[FRAME_CHANNELS + 4];
	unsigned polled, slot[FRAME_CHANNELS]; /* a client's place in poll */
};

/* A frame for the node; false: no room now. */
bool relay_put(struct relay *r, enum frame_kind kind, unsigned channel, uint64_t value,
	       const void *data, size_t len);

/* Takes newcomers while there are channels. */
void relay_accept(struct relay *r);

/* What the client's socket and the node's frames allow now; `events` are poll's. */
void relay_client_run(struct relay *r, unsigned i, short events);

/* What poll should wait for; 0: nothing. */
short relay_client_events(const struct relay *r, const struct relay_client *c);

/* A frame of its channel. False: it makes no sense. */
bool relay_client_frame(struct relay *r, const struct frame *f, const char *data);

/* The node has gone: so have all its connections. */
void relay_drop_clients(struct relay *r);

#endif
