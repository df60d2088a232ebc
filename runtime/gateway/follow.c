/*
 * Between a connection and the router: announcements, the end of a reply, and its events. The log
 * is read twice, by two folds: `scan` runs as fast as tokens come and finds the end (so that a slow
 * reader costs no tokens), `render` follows what the client takes. See gateway.h.
 */
#include "runtime/gateway/gateway.h"

#include "runtime/clock.h"

#include <string.h>

enum {
	COMMENT_S = 15 /* api.md "Replies" */
};

/* ---- what the router says ---- */

static const void *router_record(const struct gateway *g)
{
	return attach_at(&g->at, OBJ_ROUTER, g->at.layout.router_record);
}

/* How many announcements router has taken. */
static bool router_position(const struct gateway *g, uint64_t *head)
{
	return attach_read_u64(&g->at, OBJ_ROUTER, g->at.layout.router_record,
			       g->at.layout.router_record_size,
			       offsetof(struct router_head, ring_head[2][0]), head);
}

/* False: the record never stood still. */
static bool view(const struct gateway *g, const struct conn *c, struct progress_view *v)
{
	const struct layout *l = &g->at.layout;
	struct router_seq seq;
	uint64_t head;

	if (conn_draft(c)->request.number &&
	    (!record_read(router_record(g), l->router_record_size,
			  l->seq_off + c->i * sizeof(struct router_seq), &seq, sizeof(seq)) ||
	     !router_position(g, &head)))
		return false;
	memset(v, 0, sizeof(*v));
	if (!conn_draft(c)->request.number)
		return true;
	v->request = seq.request;
	v->status = seq.status;
	v->error = seq.error;
	v->cached = seq.cached;
	v->count = seq.count;
	v->computed = seq.computed;
	v->in_pass = seq.in_pass;
	v->announced = head > c->announce_position;
	return true;
}

void follow_look(struct gateway *g, struct conn *c)
{
	struct client_record *rec = g->rings.draft;

	if (view(g, c, &c->seq))
		return;
	rec->refused.sender = ROLE_ROUTER;
	rec->refused.count++;
	record_touch(&g->rings, &rec->refused, sizeof(rec->refused));
	record_commit(&g->rings);
	g->ring_init = true;
}

bool follow_changed(const struct gateway *g, const struct conn *c)
{
	struct progress_view now;

	return !view(g, c, &now) || memcmp(&now, &c->seq, sizeof(now)) != 0;
}

bool follow_quiet(const struct conn *c)
{
	if (!conn_draft(c)->request.number)
		return true;
	if (c->announce || !c->seq.announced)
		return false;
	return c->seq.request != conn_draft(c)->request.number ||
	       (c->seq.status != SEQ_QUEUED && c->seq.status != SEQ_RUNNING && !c->seq.in_pass);
}

static bool announce(struct gateway *g, struct conn *c)
{
	const struct layout *l = &g->at.layout;
	struct client_record *rec = g->rings.draft;
	struct msg m = {.kind = MSG_ANNOUNCE,
			.seq = conn_draft(c)->request.number,
			.row0 = c->i,
			.rows = 1,
			.generation = g->at.generation};
	uint64_t head;

	if (!router_position(g, &head) ||
	    !ring_put(attach_at(&g->at, OBJ_CLIENT, l->client_ring), RING_ENTRIES_ANNOUNCE, head,
		      rec->announce_tail, &m))
		return false;
	c->announce_position = rec->announce_tail++;
	c->announce = false;
	record_touch(&g->rings, &rec->announce_tail, sizeof(rec->announce_tail));
	record_commit(&g->rings);
	return true;
}

void follow_announce(struct gateway *g)
{
	bool any = false;

	for (uint32_t i = 0; i < CONN_PLACES; i++) {
		if (!g->conn[i].announce)
			continue;
		if (!announce(g, &g->conn[i]))
			break; /* full: the router takes some and rings */
		any = true;
		follow_look(g, &g->conn[i]);
	}
	if (any)
		attach_ring(&g->at, ROLE_ROUTER);
}

void follow_cancel(struct conn *c)
{
	struct request *q = &conn_draft(c)->request;

	if (!q->live)
		return;
	q->live = 0;
	c->announce = true;
}

/* ---- the reply's state ---- */

static uint32_t token_at(const struct gateway *g, const struct conn *c, uint32_t k)
{
	const struct token_entry *log = (const struct token_entry *)attach_at(
						&g->at, OBJ_ROUTER, g->at.layout.router_tokens) +
					(uint64_t)c->i * g->at.plan->context;

	return log[k].token;
}

/*
 * Tokens in the log, or 0 while the router does not know the request. Never more than were asked
 * for.
 */
static uint32_t available(const struct conn *c)
{
	const struct request *q = &conn_draft(c)->request;

	if (c->seq.request != q->number)
		return 0;
	return c->seq.count < q->max_tokens ? c->seq.count : q->max_tokens;
}

/* Makes reply and folds from the record, as far as events were produced. */
static void open_reply(struct gateway *g, struct conn *c)
{
	const struct request *q = &conn_draft(c)->request;
	const struct own *own = conn_own(c);
	const char *stop = (const char *)attach_at(&g->at, OBJ_CLIENT, g->at.layout.client_stop) +
			   (uint64_t)c->i * CLIENT_STOP;
	struct reply *r = &c->reply;
	size_t off = 0;

	memset(r, 0, sizeof(*r));
	r->env = &g->env;
	r->flags = own->flags;
	r->n_prompt = q->n_prompt;
	r->max_tokens = q->max_tokens;
	r->created = q->created_ns / NS_PER_S;
	r->seed = q->seed;
	reply_name(r, c->i, q->number);
	for (uint32_t k = 0; k < own->n_stop; k++) {
		stop_add(&r->stops, stop + off, own->stop_len[k], c->tables + off);
		off += own->stop_len[k];
	}
	reply_fold_begin(r, &c->scan, c->held[0]);
	reply_fold_begin(r, &c->render, c->held[1]);
	c->scan_len = 0;
	for (uint32_t k = 0; k + 1 < own->event && !c->render.finish; k++)
		reply_token(r, &c->render, token_at(g, c, k), NULL);
	c->following = true;
	c->produced_ns = g->now;
}

/* Folds one more token of the log, and counts its bytes where they are not sent as they come. */
static void scan_token(struct gateway *g, struct conn *c, uint32_t token)
{
	g->rendered.n = 0;
	reply_token(&c->reply, &c->scan, token,
		    c->reply.flags & REPLY_STREAM ? NULL : &g->rendered);
	c->scan_len += g->rendered.n;
}

/* A successor finds the end committed, and needs the length of what comes before it. */
static void scan_again(struct gateway *g, struct conn *c)
{
	while (c->scan.tokens < conn_own(c)->end && !c->scan.finish)
		scan_token(g, c, token_at(g, c, c->scan.tokens));
}

/* Ends the reply in the draft: the router stops within one token. */
static void finish(struct conn *c, enum reply_finish how, uint64_t error)
{
	struct own *own = conn_own(c);
	uint32_t n_prompt = conn_draft(c)->request.n_prompt;

	own->finish = how;
	own->end = c->scan.tokens;
	own->error = error;
	own->cached = c->seq.cached < n_prompt ? c->seq.cached : n_prompt;
	follow_cancel(c);
}

static bool stopping(const struct gateway *g, bool admitted)
{
	uint64_t until = atomic_load_explicit(&g->at.node->drain_until_ns, memory_order_relaxed);

	if (gateway_stage(g) < STAGE_DRAINING)
		return false;
	return !admitted || (until && g->now >= until);
}

/*
 * Folds the tokens there are. Whether the reply's end, good or bad, has been found; it stands in
 * the draft then.
 */
static bool find_end(struct gateway *g, struct conn *c)
{
	uint32_t n = available(c), status = c->seq.request == conn_draft(c)->request.number
						    ? c->seq.status
						    : SEQ_NONE;
	bool admitted = n || status == SEQ_RUNNING || conn_own(c)->event || conn_own(c)->event_off;

	while (c->scan.tokens < n && !c->scan.finish) {
		uint32_t token = token_at(g, c, c->scan.tokens);

		if (token >= g->env.vocab) {
			finish(c, FINISH_ERROR, row_error(CAUSE_BAD_REQUEST, 0, 0, 0));
			return true;
		}
		scan_token(g, c, token);
	}
	if (c->scan.finish) {
		finish(c, (enum reply_finish)c->scan.finish, 0);
		return true;
	}
	if (status == SEQ_FAILED || status == SEQ_BUSY) {
		cause_note(g, status == SEQ_FAILED ? c->seq.error : 0);
		finish(c, FINISH_ERROR, status == SEQ_FAILED ? c->seq.error : 0);
		return true;
	}
	if (status == SEQ_DONE) { /* without an end of ours: not a router we know */
		finish(c, FINISH_ERROR, row_error(CAUSE_BAD_REQUEST, 0, 0, 0));
		return true;
	}
	if (stopping(g, admitted)) {
		finish(c, FINISH_ERROR, row_error(CAUSE_STOPPING, 0, 0, 0));
		return true;
	}
	return false;
}

/* ---- events ---- */

static void explain(const struct gateway *g, const struct conn *c, struct api_error *e)
{
	if (conn_own(c)->error) {
		cause_explain(g, conn_own(c)->error, e);
		return;
	}
	api_refuse(e, 429, NULL, "rate_limit_exceeded",
		   "%u requests run and %u wait: the queue is full", g->at.plan->places,
		   g->at.plan->queue);
	e->retry_after = 5;
}

/*
 * Writes event `own->event` to g->rendered. False: it cannot be made yet. *last: nothing follows
 * it.
 */
static bool render(struct gateway *g, struct conn *c, bool *last)
{
	const struct own *own = conn_own(c);
	const struct reply *r = &c->reply;
	uint32_t end = own->finish ? own->end : c->scan.tokens;
	struct out *o = &g->rendered;
	struct api_error e;

	*last = false;
	o->n = 0;
	o->full = false;
	if (own->event == 0) {
		uint64_t len = c->scan_len;

		if (!(r->flags & REPLY_STREAM))
			len += reply_frame_len(r, &c->scan, own->cached);
		reply_begin(r, len, o);
	} else if (own->event <= end) {
		reply_token(r, &c->render, token_at(g, c, own->event - 1), o);
	} else if (own->finish == FINISH_ERROR) {
		explain(g, c, &e);
		reply_broken(r, &e, o);
		*last = true;
	} else if (own->finish) {
		reply_end(r, &c->render, own->cached, o);
		*last = true;
	} else {
		return false;
	}
	return true;
}

/*
 * Puts the rest of the current event into the out-ring as far as it fits. Whether it is whole now.
 */
static bool put_event(struct gateway *g, struct conn *c)
{
	struct own *own = conn_own(c);
	/* more than there is of it: an inherited record of another reply; it goes on behind it */
	size_t off = own->event_off < g->rendered.n ? own->event_off : g->rendered.n;
	size_t left = g->rendered.n - off, room = conn_tx_free(c), n = left < room ? left : room;

	conn_put(g, c, g->rendered.p + off, n);
	own->event_off = off + n;
	return n == left;
}

static void done(struct conn *c, bool keep)
{
	memset(conn_own(c), 0, sizeof(struct own));
	c->following = false;
	if (!keep)
		conn_closing(c);
}

/* Produces events while they fit. Whether the draft has changed. */
static bool produce(struct gateway *g, struct conn *c)
{
	struct own *own = conn_own(c);
	uint64_t before = conn_draft(c)->head.tx_tail;
	uint32_t event = own->event;
	bool last;

	while (conn_tx_free(c)) {
		struct reply_fold saved = c->render;

		memcpy(g->saved, c->held[1], saved.n_held);
		if (!render(g, c, &last))
			break;
		if (!put_event(g, c)) {
			c->render = saved;
			memcpy(c->held[1], g->saved, saved.n_held);
			break;
		}
		own->event++;
		own->event_off = 0;
		if (last) {
			done(c, own->finish != FINISH_ERROR && c->reply.flags & REPLY_KEEP);
			return true;
		}
	}
	return own->event != event || conn_draft(c)->head.tx_tail != before;
}

/*
 * A stream begins when the router has taken the request in, or when a comment is due; anything else
 * when it is whole.
 */
static bool may_begin(const struct gateway *g, struct conn *c)
{
	const struct own *own = conn_own(c);
	uint64_t due = c->produced_ns + COMMENT_S * NS_PER_S;

	if (own->event || own->event_off || own->finish)
		return true;
	if (!(c->reply.flags & REPLY_STREAM))
		return false;
	if (c->scan.tokens || (c->seq.request == conn_draft(c)->request.number &&
			       (c->seq.status == SEQ_RUNNING || c->seq.status == SEQ_DONE)))
		return true;
	c->wake_ns = due < c->wake_ns ? due : c->wake_ns;
	return g->now >= due;
}

/* An error before the first byte is a reply of its own. */
static bool reply_refused(struct gateway *g, struct conn *c)
{
	struct http h = {.http11 = c->reply.flags & REPLY_HTTP11};
	bool keep = c->reply.flags & REPLY_KEEP && gateway_stage(g) < STAGE_DRAINING;
	struct api_error e;

	explain(g, c, &e);
	serve_error(g, &h, &e, keep, NULL);
	if (conn_tx_free(c) < g->out.n)
		return false;
	conn_put(g, c, g->out.p, g->out.n);
	done(c, keep);
	return true;
}

/* What a client that waits is told, for people to read: how far its prompt has come. */
static void comment_text(struct conn *c, char text[80])
{
	const struct progress_view *q = &c->seq;
	uint32_t n_prompt = conn_draft(c)->request.n_prompt;

	if (q->status == SEQ_QUEUED && !q->count)
		snprintf(text, 80, "waiting for a place");
	else if (q->status == SEQ_RUNNING && !q->count)
		snprintf(text, 80, "prefill %u of %u tokens", q->computed, n_prompt);
	else
		snprintf(text, 80, "still here");
}

static bool comment(struct gateway *g, struct conn *c)
{
	char text[80];
	const struct own *own = conn_own(c);
	uint64_t due = c->produced_ns + COMMENT_S * NS_PER_S;

	if (!(c->reply.flags & REPLY_STREAM) || !own->event || own->event_off)
		return false;
	if (g->now < due) {
		c->wake_ns = due < c->wake_ns ? due : c->wake_ns;
		return false;
	}
	g->rendered.n = 0;
	comment_text(c, text);
	reply_comment(&c->reply, text, &g->rendered);
	if (conn_tx_free(c) < g->rendered.n)
		return false;
	conn_put(g, c, g->rendered.p, g->rendered.n);
	return true;
}

bool follow_step(struct gateway *g, struct conn *c)
{
	struct own *own = conn_own(c);
	bool changed = false;

	if (!c->following)
		open_reply(g, c);
	if (!own->finish)
		changed = find_end(g, c);
	else if (!(own->flags & REPLY_STREAM))
		scan_again(g, c);
	if (own->finish == FINISH_ERROR && !own->event && !own->event_off)
		changed |= reply_refused(g, c);
	else if (may_begin(g, c))
		changed |= produce(g, c) || comment(g, c);
	if (gateway_stage(g) >= STAGE_DRAINING && !own->finish) {
		uint64_t until =
			atomic_load_explicit(&g->at.node->drain_until_ns, memory_order_relaxed);

		c->wake_ns = until < c->wake_ns ? until : c->wake_ns;
	}
	if (changed)
		conn_commit(g, c);
	return changed;
}
