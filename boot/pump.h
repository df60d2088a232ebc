/*
 * Moves clients' bytes, unread, between their sockets and the byte rings of ipc/conn.h (machinery
 * 14, kernel-facts 2). It survives any death of the gateway without losing or repeating a byte,
 * because init alone counts what the socket took and gave, and the gateway's record alone says what
 * it consumed and produced. Called by init's loop; knows nothing of processes, so that tests drive
 * it with a gateway of their own.
 *
 * Invariants: 1. init writes only struct conn_in and the in-rings. 2. Nothing read from the gateway
 * is used unchecked, and no look at its record takes unbounded time. 3. tx_head moves after the
 * socket took the bytes, rx_tail after they lie in the ring.
 */
#ifndef BOOT_PUMP_H
#define BOOT_PUMP_H

#include "ipc/layout.h"

#include <stdbool.h>
#include <sys/types.h>

struct pump;

/*
 * How a client's bytes come and go: a socket of its own (below, in pump.c), or a channel of a
 * device (boot/port.c). The pump calls; a link that has news calls pump_event.
 */
struct pump_link {
	/* Sends some of the bytes: how many, or -EAGAIN: not now, or another -errno: it is gone. */
	ssize_t (*send)(struct pump *p, unsigned conn, const void *data, size_t len);
	/* Receives likewise; 0: the client sends no more. */
	ssize_t (*receive)(struct pump *p, unsigned conn, void *data, size_t len);
	/* What is awaited now: `blocked` to send on, and to receive `room` bytes (0: none). */
	void (*await)(struct pump *p, unsigned conn, bool blocked, uint64_t room);
	/* Nothing more will be sent. False: then there is nothing more to receive either. */
	bool (*shut)(struct pump *p, unsigned conn);
	void (*drop)(struct pump *p, unsigned conn);
};

struct pump_conn {
	const struct pump_link *link; /* NULL: no client */
	int fd;                       /* of a socket */
	unsigned channel;             /* of a device */
	uint32_t events;              /* what epoll watches */
	uint64_t life, version;
	uint64_t refused; /* version of the record whose counts were impossible, + 1 */
	/* reply sent, our side shut: input is dropped until the client has read it; 0: not yet */
	uint64_t linger_until_ns;
	uint64_t given;  /* rx_tail when the in-ring's memory was last given back */
	bool look;       /* something is left to do although the record has not changed */
	bool waits_free; /* socket gone, gateway has not committed CONN_FREE */
};

struct pump {
	int epoll, listener;             /* listener -1: no accepts */
	int rings_fd;                    /* the conns object, for giving memory back; -1 in tests */
	uint64_t listener_tag, conn_tag; /* epoll data: listener_tag, conn_tag + connection */
	bool full; /* no connection or no descriptor is free: newcomers wait in the backlog */
	uint64_t again_ns; /* not before this is accepting tried again for want of a descriptor */
	bool wake;         /* the gateway has something to look at */
	bool ending;       /* nobody is taken any more */
	bool waiting;      /* a device's client waits for a connection */
	void *port;        /* whose channels some connections are (boot/port.h); NULL: none */
	struct conn_in *in;
	char *rx;           /* in-rings */
	const char *client; /* client object */
	const struct layout *layout;
	struct bell *bell;
	struct log_object *log;
	uint64_t active_ns; /* last time that a byte moved */
	struct pump_conn conn[CONNS];
};

/* `conns` and `client` are the mapped objects. The pump starts without a listener. */
void pump_init(struct pump *p, const struct layout *layout, void *conns, const void *client,
	       struct bell *bell, struct log_object *log, int epoll);

/* Watches the listening socket, which the caller owns. */
MUST_CHECK int pump_listen(struct pump *p, int fd, struct err *e);
void pump_unlisten(struct pump *p);

void pump_accept(struct pump *p);

/* A client whose socket is there already, and now the pump's: its connection, or -errno. */
MUST_CHECK int pump_take_socket(struct pump *p, int fd);

/*
 * A client that came by a device: its connection, or -EAGAIN: all are taken, try again later, or
 * -ESHUTDOWN.
 */
MUST_CHECK int pump_take(struct pump *p, const struct pump_link *link, unsigned channel);

/* Bytes of such a client, no more than `await` had room for. */
void pump_put(struct pump *p, unsigned conn, const void *data, size_t len);

/* It sends no more. */
void pump_put_end(struct pump *p, unsigned conn);

/* It is gone. */
void pump_gone(struct pump *p, unsigned conn);

void pump_event(struct pump *p, unsigned conn, uint32_t events);

/*
 * Looks at every connection whose record has changed, at everything if `all` (after a death), and
 * ends lingering ones; rings the gateway if there is news for it. Returns 1 if anything moved, 0 if
 * not, or -EBADMSG when the gateway's counts are impossible: it has to be killed.
 */
MUST_CHECK int pump_scan(struct pump *p, bool all);

/* Whether a client still awaits something: unread requests, unsent replies, or a live request. */
bool pump_busy(struct pump *p);

/*
 * Whether deadlines run (lingering, a full house): then pump_scan wants to be called every 250 ms.
 */
bool pump_timed(const struct pump *p);

#endif
