/*
 * Clients between `init` and the client role (machinery 14, 15): the two byte rings of a
 * connection, the connection's record, and the request that stands in it. `init` moves bytes
 * unread; the gateway reads them and commits a request; the router reads the request and appends
 * tokens to the connection's log (ipc/layout.h).
 *
 * A connection's life, and who commits it:
 *   1. init accepts a client into a connection whose record says CONN_FREE and whose rings are
 *      empty: life + 1 in its conns entry (CONN_OPEN follows from that: the gateway sees a life it
 *      has not served).
 *   2. The gateway serves: consumes rx, produces tx, commits rx_head, tx_tail, state CONN_OPEN and
 *      life together.
 *   3. Either the gateway commits CONN_CLOSING (init sends what is left of tx, then closes the
 *      socket and sets `gone`), or the client goes (init sets `gone`).
 *   4. The gateway, seeing `gone` for this life, drops what it has, sets rx_head = rx_tail and
 *      tx_tail = tx_head as it sees them, and commits CONN_FREE.
 *   5. init, seeing CONN_FREE for this life and both rings empty, may give the connection to the
 *      next client. Counts are never reset.
 */
#ifndef IPC_CONN_H
#define IPC_CONN_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

enum {
	CONNS = 256,             /* connections with rings */
	CONN_HEALTH = CONNS,     /* the place of the gateway's own known-answer request: no rings */
	CONN_PLACES = CONNS + 1, /* records and token logs */
	CONN_RING = 64 * 1024,   /* bytes of each byte ring */
	/*
	 * What an idle connection may keep touched of each thing it has; the rest is given back by
	 * who writes it.
	 */
	CONN_IDLE_KEPT = 8 * 1024
};

enum conn_state {
	CONN_FREE,
	CONN_OPEN,
	CONN_CLOSING
};

/*
 * What init knows of a connection: one entry in the conns object. init alone writes it; each field
 * is stored with release.
 */
struct conn_in {
	alignas(64) _Atomic uint64_t
		life; /* number of clients that have had this connection; 0: none yet */
	/* bytes ever received into the in-ring: position n lies at n % CONN_RING */
	_Atomic uint64_t rx_tail;
	_Atomic uint64_t tx_head;  /* bytes ever sent from the out-ring */
	_Atomic uint64_t eof;      /* life whose client has shut down writing (read to its end) */
	_Atomic uint64_t gone;     /* life whose client is gone or whose socket has been closed */
	_Atomic uint64_t since_ns; /* monotonic time of the accept */
	_Atomic uint64_t
		sent_ns; /* monotonic time of the last byte sent to or received from the client */
};

enum request_flags {
	/* score: logit rows of every prompt position into the logits object; nothing is sampled */
	REQUEST_LOGITS = 1,
	REQUEST_MTP = 2, /* score: MTP logit rows as well */
	/*
	 * the known-answer token: BOS through the layers up to the first MoE layer, final norm,
	 * head, hash
	 */
	REQUEST_HEALTH = 4,
	REQUEST_NO_REUSE = 8 /* do not take a prefix from kept pages, and keep none */
};

#define REQUEST_NUMBER_MAX ((1ull << 48) - 1) /* no client asks so often: a larger one is damage */

/*
 * A request: all that the sampler and the schedule need, committed with the connection's record
 * (machinery 15). The prompt's ids lie in the client object at the connection's prompt area and
 * must not change while the request is live.
 */
struct request {
	uint64_t number;     /* per connection, from 1, never reset; 0: none yet */
	uint32_t live;       /* 1: wanted; 0: cancelled or done */
	uint32_t flags;      /* enum request_flags */
	uint32_t n_prompt;   /* ids in the prompt area, at least 1 */
	uint32_t max_tokens; /* n_prompt + max_tokens <= context; 0 with REQUEST_LOGITS */
	uint32_t top_k;      /* 0: off */
	uint32_t pad;
	double temperature;  /* as parsed; finite, >= 0 */
	double top_p, min_p; /* 1 and 0: off */
	int64_t seed;        /* drawn once by the gateway where the client gave none */
	uint64_t created_ns; /* CLOCK_REALTIME, for the reply's `created` */
	/* REQUEST_LOGITS: passes whose rows the client has read (router_seq.passes) */
	uint64_t taken;
};

/*
 * The record of a connection, a double record (ipc/record.h) of the client role. init reads its
 * head only, router reads `request` only; what follows is the client role's own.
 */
struct conn_head {
	uint64_t life;    /* the client this record speaks of */
	uint64_t rx_head; /* bytes consumed from the in-ring */
	uint64_t tx_tail; /* bytes produced into the out-ring: tx_tail - tx_head <= CONN_RING */
	uint32_t state;   /* enum conn_state */
	uint32_t pad;
};

enum {
	CONN_PRIVATE = 1024
};

struct conn_record {
	struct conn_head head;
	struct request request;
	/* struct of the gateway: parse state, reply state, options of the reply */
	alignas(8) unsigned char own[CONN_PRIVATE];
};

#endif
