/*
 * A node without processes, for tests of the gateway: its objects in this process's memory, `init`
 * and `router` played by function calls. The router appends scripted tokens, one per connection and
 * call. The gateway can be killed after every single commit: what it keeps in private memory is
 * thrown away, and scribbled over wherever nothing was committed.
 */
#ifndef TESTS_FAKE_NODE_H
#define TESTS_FAKE_NODE_H

#include "runtime/gateway/gateway.h"
#include "tests/tiny_tokenizer.h"

enum {
	FAKE_CONNS = 40 /* connections that are looked at */
};

struct fake_script {
	const uint32_t *token; /* what the router samples, then `ends` */
	uint32_t n;
	uint32_t status;  /* enum seq_status at the end; SEQ_NONE: it hangs */
	uint64_t error;   /* SEQ_FAILED */
	bool slow_cancel; /* a cancelled sequence stays in its pass until this is cleared */
};

struct fake_node {
	struct plan plan;
	struct attach at;
	struct node *node;
	struct index index;
	struct tiny tiny;
	struct record router;
	struct gateway *g;
	unsigned kill; /* after every commit of this number; 0: never */
	unsigned kills, commits, announcements;
	bool router_stops; /* the router does nothing */
	struct fake_script script[CONN_PLACES];
	uint64_t health_hash; /* what a health pass gives */
	char *got[CONNS];     /* what the client has received; terminated */
	size_t n_got[CONNS];
	size_t take; /* bytes a client takes at a time */
};

/* body_bytes: the largest body that it takes, BODY_LEAST to BODY_MAX. */
void fake_open(struct fake_node *n, uint64_t body_bytes);
void fake_close(struct fake_node *n);
/* Lets the gateway's process die and a successor attach. */
void fake_kill(struct fake_node *n);

/* ---- as init ---- */
void fake_connect(struct fake_node *n, uint32_t conn);
/* Puts bytes into the in-ring; returns how many fitted. */
size_t fake_send(struct fake_node *n, uint32_t conn, const char *bytes, size_t len);
void fake_eof(struct fake_node *n, uint32_t conn);
void fake_gone(struct fake_node *n, uint32_t conn);
/* Takes what the gateway has produced, at most n->take bytes. Whether there was any. */
bool fake_take(struct fake_node *n, uint32_t conn);

/* ---- the rest ---- */
/*
 * One turn of the router: announcements, then one token for every running sequence. Whether it did
 * anything.
 */
bool fake_router(struct fake_node *n);
/* Everything the gateway can do now. */
bool fake_gateway(struct fake_node *n);
/* Gateway, router and clients until nothing moves. */
void fake_run(struct fake_node *n);
/*
 * A whole conversation on one connection: sends as the ring allows, runs, returns all that was
 * received since. Terminated; valid until the next.
 */
const char *fake_talk(struct fake_node *n, uint32_t conn, const char *bytes, size_t len);
/* POST with a JSON body; the reply. */
const char *fake_post(struct fake_node *n, uint32_t conn, const char *path, const char *body);
struct conn_record fake_record(const struct fake_node *n, uint32_t conn);

#endif
