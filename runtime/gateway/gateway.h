/*
 * The gateway: HTTP in byte rings on one side, requests and token logs on the other. A pure
 * function of committed state (machinery 15): each connection has one record (ipc/conn.h), and
 * everything else here is a cache that a successor makes again from records, rings and logs.
 *
 * A connection's phases, in its record:
 *   READ      bytes of a request are awaited or being taken; they stay in the ring, or raw in an
 *             assembly area, until the request has been answered
 *   REPLY     a reply that needs more than the free part of the out-ring; its request is still
 *             there, so that the same bytes are made again
 *   GENERATE  the request has been consumed and stands in the record; the reply follows the log
 *
 * Invariants: 1. a commit publishes at most what a successor would produce from the same record. 2.
 * The prompt area and the stop strings of a connection are written only while the router holds no
 * live sequence of it. 3. Nothing read from the router is used unchecked.
 */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "ipc/attach.h"
#include "model/index.h"
#include "runtime/gateway/api.h"
#include "runtime/gateway/http.h"
#include "runtime/gateway/reply.h"

enum {
	/* the largest reply, in bytes per byte of the largest body: its ids as JSON are 7 */
	GATEWAY_OUT = 8,
	SMALL_OUT = GATEWAY_OUT * CONN_RING + 4096, /* the same for a body that fits in a ring */
	CONN_SCRATCH = 4 * STOP_BYTES /* held[] and tables of a connection, in this order */
};

#define AREA_FREED UINT32_MAX /* gateway.areas: free, but its memory has not been given back yet */

enum phase {
	PHASE_READ,
	PHASE_REPLY,
	PHASE_GENERATE
};

/* conn_record.own: the gateway's part of a connection's record. All zero: READ, nothing yet. */
struct own {
	uint32_t phase;
	uint32_t area;      /* assembly area + 1, 0: none */
	uint64_t area_len;  /* bytes in it, consumed from the in-ring */
	uint64_t area_room; /* of the pool's bytes, kept for this area */
	uint64_t sent;      /* REPLY: bytes of the reply produced */
	uint64_t date;      /* REPLY: its Date, so that its bytes stay the same */
	uint32_t continued; /* 100 Continue was sent for the request that is being read */
	/* the reply of GENERATE; of REPLY only REPLY_KEEP */
	uint32_t flags; /* enum reply_flags */
	uint32_t event; /* events produced whole */
	uint32_t end;   /* tokens of the reply, once finish is set */
	uint64_t event_off;
	uint32_t finish; /* enum reply_finish */
	uint32_t cached; /* prompt positions taken from kept pages */
	uint64_t error;  /* FINISH_ERROR: row_error; of cause CAUSE_NONE: the queue was full */
	uint32_t n_stop;
	uint32_t stop_len[STOP_STRINGS];
};
_Static_assert(sizeof(struct own) <= CONN_PRIVATE, "it fits in the record");

/* What the router has committed of a sequence, as far as the gateway cares. */
struct progress_view {
	uint64_t request, error;
	uint32_t status, cached, count, in_pass;
	uint32_t announced; /* the router has taken the connection's last announcement */
	uint32_t computed;  /* positions of the prompt and the reply whose rows are done */
};

/* What init has committed of a connection: one look. */
struct conn_view {
	uint64_t life, rx_tail, tx_head, eof, gone;
};

/* The private side of a connection. */
struct conn {
	uint32_t i;
	struct record record;
	struct conn_view in;      /* at the last look */
	struct progress_view seq; /* at the last look */
	struct http http;         /* of the request that is being read */
	uint64_t wake_ns;         /* when to look again whatever happens; UINT64_MAX: never */
	uint64_t request_ns;      /* when the first byte of the request being read came; 0: none */
	uint64_t received_ns;     /* when the last one came */
	uint64_t produced_ns;     /* when something was last produced for the client */
	uint64_t since_ns;        /* when the request that waits was first tried; 0: none waits */
	uint64_t announce_position; /* of its last announcement */
	bool asks_health;           /* its request waits for the known answer */
	bool announce;              /* its request has to be announced */
	bool reading;               /* http is in use */
	bool following;             /* reply and folds are in use */
	bool large;                 /* its reply did not fit in the small block */
	bool touched;               /* the prompt, the stop strings or what they need take memory */
	uint64_t tx_given;          /* tx_tail when the out-ring's memory was last given back */
	struct reply reply;
	struct reply_fold scan;   /* all tokens there are: finds the end in time */
	struct reply_fold render; /* tokens whose events are produced */
	uint64_t scan_len;        /* bytes of their JSON pieces */
	char *held[2];            /* STOP_BYTES each */
	uint16_t *tables;         /* STOP_BYTES entries */
};

struct gateway {
	struct attach at;
	const struct index *index;
	struct tokenizer tokenizer;
	struct api_model model;
	struct reply_env env;
	struct arena memory;  /* for the life of the process */
	struct arena json;    /* one request */
	size_t body_max;      /* plan.body_bytes: the largest body, which sizes what follows */
	char *body;           /* body_max: the body of the request at hand, until it is JSON */
	uint32_t *ids;        /* body_max of them: /tokenize and /detokenize */
	struct out out;       /* the reply at hand */
	struct out kept;      /* one that is being produced piece by piece, in `block` */
	uint32_t out_conn;    /* whose, CONNS: nobody's */
	uint64_t out_rx_head; /* and of which request */
	char *block;          /* where a reply lies, its head in front of its body */
	char *small; /* SMALL_OUT: where replies to small requests lie while `block` is kept */
	struct out rendered;           /* one event */
	char *saved;                   /* STOP_BYTES: what a fold held before the event at hand */
	struct record rings;           /* struct client_record */
	uint32_t areas[CLIENT_BODIES]; /* connection + 1, AREA_FREED */
	uint64_t pool;                 /* bytes of plan.body_pool that nothing is kept for */
	struct conn conn[CONN_PLACES];
	uint64_t now;
	uint64_t wall_s;       /* CLOCK_REALTIME of the step */
	uint64_t date;         /* of the reply that is made again, 0: wall_s */
	uint64_t health_ns;    /* when the last known answer came; 0: none in this life */
	uint64_t health_error; /* what it was: row_error, UINT64_MAX another hash, 0 well */
	bool ring_init;        /* something was committed that init must see */
	bool scratch_dirty;    /* large scratch memory was touched */
};

/*
 * Memory and tokenizer; ix is the checked index among the attached objects. Returns 0 or -errno.
 */
MUST_CHECK int gateway_open(struct gateway *g, const struct attach *at, const struct index *ix,
			    struct err *e);
/* When its predecessor is gone: reads all records, which from now on are its own. */
void gateway_take_over(struct gateway *g);
void gateway_close(struct gateway *g);

/*
 * Does what can be done and returns when the next deadline is (monotonic; UINT64_MAX: none). Never
 * blocks.
 */
uint64_t gateway_step(struct gateway *g);

/*
 * Gives [p, p + len) of scratch memory back, all but the first MiB and as far as it is whole pages.
 */
void gateway_give_back(void *p, size_t len);
/*
 * The same of the tokenizer's, which holds nothing between two texts, and of the JSON at hand:
 * nothing of its request is used any more.
 */
void gateway_drop_text(struct gateway *g);

/* One connection, up to its next commit. Returns whether it committed. */
bool gateway_step_conn(struct gateway *g, struct conn *c);

/* Whether something has changed since the last step. */
bool gateway_pending(const struct gateway *g);

/* Steps and sleeps until the node stops. */
void gateway_loop(struct gateway *g);

/* ---- conn.c: a connection's rings and record ---- */

static inline struct conn_record *conn_draft(const struct conn *c)
{
	return c->record.draft;
}

struct own *conn_own(const struct conn *c);
/* Reads what init has committed of the connection. */
void conn_look(const struct gateway *g, const struct conn *c, struct conn_view *v);
/* Whether the rings' counts in the record agree with init's, as of the last look. */
bool conn_counts_sound(const struct conn *c);
void conn_attach(struct gateway *g, uint32_t i);
/* Publishes the draft. */
void conn_commit(struct gateway *g, struct conn *c);
/* Bytes of the request being read: whole bytes so far, and a look at a stretch of them. */
uint64_t conn_raw_len(const struct conn *c);
size_t conn_raw(const struct gateway *g, const struct conn *c, uint64_t from, const char **bytes);
/*
 * Moves the request's bytes from the ring to an assembly area, which is to hold `whole` of them (0:
 * not known yet). False: there is no room for it.
 */
bool conn_spill(struct gateway *g, struct conn *c, uint64_t whole);
/*
 * Gives the memory of areas that are free back. Only between commits: a released area is not free
 * before.
 */
void conn_clean_areas(struct gateway *g);
/* Takes the request's bytes away: they have been answered. */
void conn_consume(struct gateway *g, struct conn *c, uint64_t len);
void conn_release_area(struct gateway *g, struct conn *c);
/* Gives memory back that an idle connection does not need. */
void conn_give_back(struct gateway *g, struct conn *c);
size_t conn_tx_free(const struct conn *c);
/* Appends to the out-ring; len must fit. */
void conn_put(struct gateway *g, struct conn *c, const char *bytes, size_t len);
/* Ends the connection once its bytes are sent. */
void conn_closing(struct conn *c);

/* ---- repair.c: a record that cannot be ---- */

/*
 * Whether a predecessor's record holds nothing that would lead this process, or init, astray.
 * Looked at when it is inherited, and never again.
 */
bool conn_sound(const struct gateway *g, const struct conn *c);
/* Whether serving this connection has ended the gateway three times in a row (machinery 11). */
bool conn_poisoned(const struct gateway *g, uint32_t i);
/*
 * Lets the client go with what has been sent, drops its request, and commits a record that is
 * sound.
 */
void conn_reset(struct gateway *g, struct conn *c);
/* The same for the announcements' count, which router has to agree with. */
void rings_repair(struct gateway *g);

/* ---- follow.c: requests towards the router, and replies that follow the token log ---- */

/*
 * Reads what the router has committed, or refuses a router whose record never stands still; whether
 * it differs from the last look.
 */
void follow_look(struct gateway *g, struct conn *c);
bool follow_changed(const struct gateway *g, const struct conn *c);
/*
 * Whether the router holds nothing of the connection's last request, so that its areas may be
 * written.
 */
bool follow_quiet(const struct conn *c);
/* Publishes announcements that wait. */
void follow_announce(struct gateway *g);
/* One commit's worth of a reply. */
bool follow_step(struct gateway *g, struct conn *c);
/* Ends the live request, if there is one; in the draft. */
void follow_cancel(struct conn *c);

/* ---- serve.c: a request to its answer ---- */

enum served {
	SERVED_WAIT,  /* not yet: look again when something changes */
	SERVED_REPLY, /* g->out has the reply */
	/* the same, and it must be produced in one commit: it would differ the next time */
	SERVED_ONCE,
	SERVED_GENERATE /* a request has been put into the draft */
};

enum served serve(struct gateway *g, struct conn *c, bool keep);

/*
 * Begins a reply's body in g->out, in the small block where the other one is kept for somebody;
 * serve_end puts the head in front of it, and drops the body for HEAD.
 */
struct out *serve_begin(struct gateway *g);
void serve_end(struct gateway *g, const struct http *h, const struct http_head *head);
/* An error reply, whole. */
void serve_error(struct gateway *g, const struct http *h, const struct api_error *e, bool keep,
		 const char *allow);
/* Reads the body of the request at hand for an endpoint: api_read's answer. It lives in g->json. */
MUST_CHECK int serve_read(struct gateway *g, const struct conn *c, enum api_endpoint endpoint,
			  struct api_request *r, struct api_error *e);

/* ---- generate.c, health.c, metrics.c ---- */

enum served generate_serve(struct gateway *g, struct conn *c, enum api_endpoint endpoint,
			   bool keep);
enum served health_serve(struct gateway *g, struct conn *c, bool keep);
/* One commit's worth of the known-answer request. */
bool health_step(struct gateway *g);
void metrics_write(const struct gateway *g, struct out *o);
/* Says why a sequence failed, naming tensor and file. */
void cause_explain(const struct gateway *g, uint64_t error, struct api_error *e);
/* A cause that means damaged weights: /health stays red. */
void cause_note(struct gateway *g, uint64_t error);

/* The Date of the reply at hand. */
static inline uint64_t gateway_date(const struct gateway *g)
{
	return g->date ? g->date : g->wall_s;
}

static inline uint32_t gateway_stage(const struct gateway *g)
{
	return atomic_load_explicit(&g->at.node->stage, memory_order_acquire);
}

#endif
