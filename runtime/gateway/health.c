/*
 * /health: green if a token came through every server within the last 30 seconds; else asking
 * starts the known-answer request, and all who ask meanwhile share it. Red stays red where weights
 * are damaged (client_record.damage). See gateway.h and api.md "Health".
 */
#include "runtime/gateway/gateway.h"

#include "runtime/clock.h"

#include <stdio.h>
#include <string.h>

enum {
	FRESH_S = 30,
	/* a pass over the first layers of the largest model, behind a full prefill chunk */
	ANSWER_S = 20,
	QUIET_MS = 50
};

static void wake_at(struct conn *c, uint64_t ns)
{
	c->wake_ns = ns < c->wake_ns ? ns : c->wake_ns;
}

static uint64_t router_u64(const struct gateway *g, size_t field)
{
	uint64_t v;

	return attach_read_u64(&g->at, OBJ_ROUTER, g->at.layout.router_record,
			       g->at.layout.router_record_size, field, &v)
		       ? v
		       : 0;
}

static bool is_fresh(const struct gateway *g)
{
	uint64_t then = router_u64(g, offsetof(struct router_head, health_ns));

	return router_u64(g, offsetof(struct router_head, health_hash)) && then &&
	       (then > g->now || g->now - then <= FRESH_S * NS_PER_S);
}

static bool anyone_asks(const struct gateway *g)
{
	for (uint32_t i = 0; i < CONNS; i++) {
		if (g->conn[i].asks_health)
			return true;
	}
	return false;
}

static void ask(struct gateway *g, struct conn *c)
{
	struct conn_record *rec = conn_draft(c);
	uint32_t *prompt = (uint32_t *)attach_at(&g->at, OBJ_CLIENT, g->at.layout.client_prompt) +
			   (uint64_t)CONN_HEALTH * g->at.plan->context;

	prompt[0] = g->model.bos == UINT32_MAX ? 0 : g->model.bos;
	rec->request = (struct request){.number = rec->request.number + 1,
					.live = 1,
					.flags = REQUEST_HEALTH,
					.n_prompt = 1,
					.max_tokens = 1,
					.top_p = 1};
	c->announce = true;
	conn_commit(g, c);
}

/* The known answer, or what came in its place. */
static void take_answer(struct gateway *g, struct conn *c)
{
	const struct token_entry *entry = (const struct token_entry *)attach_at(
						  &g->at, OBJ_ROUTER, g->at.layout.router_tokens) +
					  (uint64_t)CONN_HEALTH * g->at.plan->context;
	uint64_t want = router_u64(g, offsetof(struct router_head, health_hash));

	g->health_ns = g->now;
	g->health_error = 0;
	if (c->seq.status == SEQ_FAILED)
		g->health_error = c->seq.error ? c->seq.error : UINT64_MAX;
	else if (!c->seq.count || entry->hash != want)
		g->health_error = UINT64_MAX;
	if (g->health_error)
		cause_note(g, g->health_error);
	follow_cancel(c);
	conn_commit(g, c);
}

bool health_step(struct gateway *g)
{
	struct conn *c = &g->conn[CONN_HEALTH];

	follow_look(g, c);
	if (conn_draft(c)->request.live) {
		if (c->seq.request != conn_draft(c)->request.number ||
		    (c->seq.status != SEQ_DONE && c->seq.status != SEQ_FAILED))
			return false;
		take_answer(g, c);
		return true;
	}
	if (!anyone_asks(g) || is_fresh(g) || !follow_quiet(c))
		return false;
	ask(g, c);
	return true;
}

/* The server that has been in one step longest, and for how long. */
static void name_late(const struct gateway *g, char *text, size_t cap)
{
	static const enum object logs[] = {OBJ_LOG_ROUTER, OBJ_LOG_MLA, OBJ_LOG_EXPERTS};
	uint64_t oldest = 0;

	snprintf(text, cap, "no server is in a step");
	for (size_t k = 0; k < sizeof(logs) / sizeof(logs[0]); k++) {
		const struct log_object *log =
			attach_at(&g->at, logs[k], sizeof(struct object_header));
		uint64_t step = atomic_load_explicit(&log->progress.step, memory_order_relaxed);
		uint64_t since =
			atomic_load_explicit(&log->progress.since_ns, memory_order_relaxed);

		if (step == UINT64_MAX || !since || since > g->now || g->now - since < oldest)
			continue;
		oldest = g->now - since;
		snprintf(text, cap, "%s has been in one step for %llu ms",
			 graph_roles[graph_objects[logs[k]].writer].name,
			 (unsigned long long)(oldest / NS_PER_MS));
	}
}

/* A server of which init says this. */
static bool name_unwell(const struct gateway *g, enum node_unwell which, char *text, size_t cap)
{
	for (unsigned role = ROLE_CLIENT; role <= ROLE_SCRIBE; role++) {
		if (atomic_load_explicit(&g->at.node->unwell[role], memory_order_relaxed) != which)
			continue;
		snprintf(text, cap, "%s %s", graph_roles[role].program,
			 which == NODE_DYING ? "dies again and again" : "waits to be started");
		return true;
	}
	return false;
}

static enum served red(struct gateway *g, struct conn *c, const struct api_error *e, bool keep)
{
	c->asks_health = false;
	serve_error(g, &c->http, e, keep, NULL);
	return SERVED_ONCE;
}

static enum served green(struct gateway *g, struct conn *c, bool keep)
{
	c->asks_health = false;
	out_text(serve_begin(g), "{\"status\":\"ok\"}");
	serve_end(g, &c->http,
		  &(struct http_head){
			  .status = 200, .content_type = "application/json", .keep_alive = keep});
	return SERVED_ONCE;
}

static void explain(const struct gateway *g, uint64_t error, struct api_error *e)
{
	if (error == UINT64_MAX)
		api_refuse(e, 503, NULL, "known_answer",
			   "the known-answer token came out differently than at the start");
	else
		cause_explain(g, error, e);
	e->status = 503;
}

enum served health_serve(struct gateway *g, struct conn *c, bool keep)
{
	uint64_t damage = ((const struct client_record *)g->rings.draft)->damage;
	struct api_error e;
	char late[96];

	if (gateway_stage(g) < STAGE_READY) {
		api_refuse(&e, 503, NULL, NULL, "Loading model");
		e.retry_after = 5;
		return red(g, c, &e, keep);
	}
	if (damage) {
		explain(g, damage, &e);
		return red(g, c, &e, keep);
	}
	if (gateway_stage(g) >= STAGE_DRAINING) {
		api_refuse(&e, 503, NULL, NULL, "the node is going down");
		return red(g, c, &e, keep);
	}
	/* one that is killed all the time may answer all the same: then the token says so */
	if (name_unwell(g, NODE_MISSING, late, sizeof(late))) {
		api_refuse(&e, 503, NULL, "unwell", "%s", late);
		return red(g, c, &e, keep);
	}
	if (is_fresh(g))
		return green(g, c, keep);
	if (g->health_ns && g->health_ns >= c->since_ns) {
		if (!g->health_error)
			return green(g, c, keep);
		explain(g, g->health_error, &e);
		return red(g, c, &e, keep);
	}
	if (g->now >= c->since_ns + ANSWER_S * NS_PER_S) {
		if (!name_unwell(g, NODE_DYING, late, sizeof(late)))
			name_late(g, late, sizeof(late));
		api_refuse(&e, 503, NULL, "late",
			   "the known-answer token has not come through in %u seconds: %s",
			   (unsigned)ANSWER_S, late);
		return red(g, c, &e, keep);
	}
	c->asks_health = true;
	wake_at(c, g->now + QUIET_MS * NS_PER_MS);
	wake_at(c, c->since_ns + ANSWER_S * NS_PER_S);
	return SERVED_WAIT;
}
