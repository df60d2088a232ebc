/* The gateway's life: opening, one step over all connections, sleeping. See gateway.h. */
#include "runtime/gateway/gateway.h"

#include "runtime/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	HEADER_S = 10, /* api.md "Errors": 408 */
	BODY_S = 30,
	IDLE_S = 60,
	JSON_BYTES =
		320
		<< 20, /* 16 MiB of "[1,1,..." become 8 M values of 16 bytes, with room for growth */
	PAGE = 4096,
	KEEP_BYTES = 1 << 20,  /* scratch memory that is not given back */
	SPILL = CONN_RING / 2, /* a long body leaves the ring in pieces of this size */
	STEPS = 16             /* commits of one connection before the others are served */
};

/* ---- opening ---- */

static int open_model(struct gateway *g, struct err *e)
{
	const struct node *node = g->at.node;
	const struct index *ix = g->index;
	struct api_model *m = &g->model;
	size_t need = tokenizer_scratch_bytes(HTTP_BODY_MAX);
	void *scratch;

	*m = (struct api_model){.template_id = (int)ix->template_id,
				.template_problem = ix->template_problem,
				.tokenizer_problem = ix->tokenizer_problem,
				.context = g->at.plan->context,
				.vocab = ix->config.vocab_size,
				.bos = ix->config.bos_token_id,
				.temperature = ix->config.temperature,
				.top_p = ix->config.top_p,
				.name = node->model_name};
	if (node->template_name[0])
		m->template_id = api_template_named(node->template_name);
	if (!ix->tokenizer.count)
		return 0;
	scratch = arena_alloc(&g->memory, need, 64);
	if (!scratch)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "gateway: no memory for the tokenizer");
	m->tokenizer = &g->tokenizer;
	return tokenizer_open(&g->tokenizer, (const char *)ix + ix->tokenizer.off,
			      ix->tokenizer.count, scratch, need, e);
}

static int open_env(struct gateway *g, struct err *e)
{
	struct reply_env *env = &g->env;

	*env = (struct reply_env){.tokenizer = g->model.tokenizer,
				  .eos = g->index->config.eos_token_id,
				  .n_eos = g->index->config.n_eos,
				  .vocab = g->index->config.vocab_size,
				  .model = g->at.node->model_name};
	memcpy(env->random, g->at.node->random, sizeof(env->random));
	snprintf(env->fingerprint, sizeof(env->fingerprint), "%.48s-%02x%02x%02x%02x%02x%02x",
		 g->at.node->build, g->index->model_hash[0], g->index->model_hash[1],
		 g->index->model_hash[2], g->index->model_hash[3], g->index->model_hash[4],
		 g->index->model_hash[5]);
	return reply_env_open(env, &g->memory, e);
}

static int open_memory(struct gateway *g, struct err *e)
{
	size_t per_conn = 2 * STOP_BYTES + STOP_BYTES * sizeof(uint16_t);
	size_t token = g->index->tokenizer.count; /* no token is longer than the blob */
	size_t size = tokenizer_scratch_bytes(HTTP_BODY_MAX) + CONNS * per_conn +
		      HTTP_BODY_MAX * (1 + sizeof(uint32_t)) + GATEWAY_OUT + 40 * token +
		      40 * STOP_BYTES + (1 << 20);
	int rc = arena_map(&g->memory, size, e);

	if (!rc)
		rc = arena_map(&g->json, JSON_BYTES, e);
	if (rc)
		return rc;
	g->body = arena_alloc(&g->memory, HTTP_BODY_MAX, PAGE);
	g->ids = arena_alloc(&g->memory, HTTP_BODY_MAX * sizeof(*g->ids), PAGE);
	g->block = arena_alloc(&g->memory, GATEWAY_OUT, PAGE);
	g->saved = arena_alloc(&g->memory, STOP_BYTES, 64);
	for (unsigned i = 0; i < CONNS; i++) {
		g->conn[i].held[0] = arena_alloc(&g->memory, STOP_BYTES, 64);
		g->conn[i].held[1] = arena_alloc(&g->memory, STOP_BYTES, 64);
		g->conn[i].tables = arena_alloc(&g->memory, STOP_BYTES * sizeof(uint16_t), 64);
	}
	return 0;
}

int gateway_open(struct gateway *g, const struct attach *at, const struct index *ix, struct err *e)
{
	const struct layout *l = &at->layout;
	size_t rendered;
	void *block;
	int rc;

	memset(g, 0, sizeof(*g));
	g->at = *at;
	g->index = ix;
	g->out_conn = CONNS;
	if ((rc = open_memory(g, e)) || (rc = open_model(g, e)) || (rc = open_env(g, e)))
		return rc;
	/* one event framed; a reply's end is three */
	rendered = g->env.event_cap + 4 * 8192;
	block = arena_alloc(&g->memory, rendered, 64);
	if (!block)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "gateway: no memory for events");
	g->rendered = out_make(block, rendered);
	record_open(&g->rings, attach_at(at, OBJ_CLIENT, l->client_record), l->client_record_size);
	for (uint32_t i = 0; i < CONN_PLACES; i++)
		conn_attach(g, i);
	/* not in a step: it never is in one that could hang for others */
	atomic_store_explicit(&at->log->progress[0].step, UINT64_MAX, memory_order_relaxed);
	return 0;
}

void gateway_close(struct gateway *g)
{
	arena_fini(&g->json);
	arena_fini(&g->memory);
}

/* ---- one connection ---- */

static void look(const struct gateway *g, const struct conn *c, struct conn_view *v)
{
	const struct conn_in *in =
		(const struct conn_in *)attach_at(&g->at, OBJ_CONNS, g->at.layout.conns_in) + c->i;

	/* acquire: bytes in the ring before the count that covers them; pairs with init's release */
	v->life = atomic_load_explicit(&in->life, memory_order_acquire);
	v->gone = atomic_load_explicit(&in->gone, memory_order_acquire);
	v->eof = atomic_load_explicit(&in->eof, memory_order_acquire);
	v->rx_tail = atomic_load_explicit(&in->rx_tail, memory_order_acquire);
	v->tx_head = atomic_load_explicit(&in->tx_head, memory_order_acquire);
}

static uint64_t touched_ns(const struct gateway *g, const struct conn *c)
{
	const struct conn_in *in =
		(const struct conn_in *)attach_at(&g->at, OBJ_CONNS, g->at.layout.conns_in) + c->i;

	return atomic_load_explicit(&in->sent_ns, memory_order_relaxed);
}

static void wake_at(struct conn *c, uint64_t ns)
{
	if (ns < c->wake_ns)
		c->wake_ns = ns;
}

/* A new client, or the end of one. */
static bool change_life(struct gateway *g, struct conn *c)
{
	struct conn_record *rec = conn_draft(c);

	if (c->in.gone == c->in.life && c->in.life) {
		if (rec->head.life == c->in.life && rec->head.state == CONN_FREE)
			return false;
		follow_cancel(c);
		conn_release_area(g, c);
		memset(conn_own(c), 0, sizeof(struct own));
		rec->head.life = c->in.life;
		rec->head.state = CONN_FREE;
		rec->head.rx_head = c->in.rx_tail;
		rec->head.tx_tail = c->in.tx_head;
	} else if (rec->head.life != c->in.life) {
		rec->head.life = c->in.life;
		rec->head.state = CONN_OPEN;
	} else {
		return false;
	}
	c->reading = c->following = c->asks_health = false;
	c->request_ns = c->since_ns = 0;
	conn_commit(g, c);
	return true;
}

/* Produces as much of g->out as fits; the request goes with the last byte. Whether anything was committed. */
static bool produce_reply(struct gateway *g, struct conn *c, bool once, bool keep)
{
	struct own *own = conn_own(c);
	size_t left = g->out.n - own->sent, n = conn_tx_free(c);

	if (n >= left) {
		conn_put(g, c, g->out.p + own->sent, left);
		conn_consume(g, c, c->http.fed);
		own->phase = PHASE_READ;
		own->flags = 0;
		g->out_conn = CONNS;
		if (!keep)
			conn_closing(c);
	} else if (once || !n) {
		return false;
	} else {
		conn_put(g, c, g->out.p + own->sent, n);
		own->sent += n;
		own->phase = PHASE_REPLY;
		own->flags = keep ? REPLY_KEEP : 0;
		g->out_conn = c->i;
		g->out_rx_head = conn_draft(c)->head.rx_head;
	}
	conn_commit(g, c);
	return true;
}

/* What cannot be read ends the connection: the error, and nothing after it. */
static bool refuse(struct gateway *g, struct conn *c, const struct api_error *e)
{
	serve_error(g, &c->http, e, false, NULL);
	if (conn_tx_free(c) < g->out.n)
		return false;
	conn_put(g, c, g->out.p, g->out.n);
	/* as far as it was taken, and not further: the rest is init's to drop */
	conn_consume(g, c, conn_raw_len(c));
	memset(conn_own(c), 0, sizeof(struct own));
	conn_closing(c);
	conn_commit(g, c);
	return true;
}

static bool refuse_text(struct gateway *g, struct conn *c, int status, const char *text,
			unsigned retry_after)
{
	struct api_error e;

	api_refuse(&e, status, NULL, NULL, "%s", text);
	e.retry_after = retry_after;
	return refuse(g, c, &e);
}

static bool whole_request(struct gateway *g, struct conn *c)
{
	struct own *own = conn_own(c);
	bool again = own->phase == PHASE_REPLY;
	bool keep = again ? own->flags & REPLY_KEEP
			  : c->http.keep_alive && gateway_stage(g) < STAGE_DRAINING;
	enum served s;

	if (again && g->out_conn == c->i && g->out_rx_head == conn_draft(c)->head.rx_head)
		return produce_reply(g, c, false, keep);
	if (!c->since_ns)
		c->since_ns = g->now;
	s = serve(g, c, keep);
	if (s == SERVED_WAIT)
		return false;
	if (s == SERVED_GENERATE) {
		conn_consume(g, c, c->http.fed);
		own->phase = PHASE_GENERATE;
		c->announce = true;
		c->following = false;
		conn_commit(g, c);
		return true;
	}
	if (g->out.full) {
		struct api_error e;

		api_refuse(&e, 413, NULL, NULL, "the reply would be larger than 128 MiB");
		serve_error(g, &c->http, &e, keep, NULL);
	}
	return produce_reply(g, c, s == SERVED_ONCE, keep);
}

/* Feeds what has come. Returns the parser's verdict on the request so far. */
static enum http_result feed(struct gateway *g, struct conn *c)
{
	enum http_result r = HTTP_MORE;
	const char *bytes;

	if (!c->reading) {
		http_begin(&c->http, NULL);
		c->reading = true;
	}
	if (c->http.whole)
		return HTTP_WHOLE;
	if (c->http.status)
		return HTTP_BAD;
	while (r == HTTP_MORE && c->http.fed < conn_raw_len(c)) {
		size_t n = conn_raw(g, c, c->http.fed, &bytes);

		r = http_feed(&c->http, bytes, n);
		c->received_ns = g->now;
		if (!c->request_ns)
			c->request_ns = g->now;
	}
	return r;
}

/* The request goes on: room for it, 100 Continue, deadlines. */
static bool wait_for_more(struct gateway *g, struct conn *c)
{
	struct own *own = conn_own(c);
	uint64_t ring = conn_raw_len(c) - own->area_len, idle;
	const struct http *h = &c->http;

	if (h->headers_done && h->length > HTTP_BODY_MAX)
		return refuse_text(g, c, 413, "the body is larger than 16 MiB", 0);
	if (h->headers_done && h->expect_other)
		return refuse_text(g, c, 417, "the only expectation is 100-continue", 0);
	if (h->headers_done && h->expect && !own->continued && conn_tx_free(c) >= 32) {
		static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

		conn_put(g, c, go_on, sizeof(go_on) - 1);
		own->continued = 1;
		conn_commit(g, c);
		return true;
	}
	if (h->headers_done && (ring == CONN_RING || (ring >= SPILL && (own->area || h->chunked ||
									h->length > CONN_RING)))) {
		if (conn_spill(g, c))
			return true;
		if (own->area)
			return refuse_text(g, c, 413, "the body and its framing are too large", 0);
		return refuse_text(g, c, 503, "the memory for bodies is used up", 1);
	}
	if (c->in.eof == c->in.life) {
		if (conn_raw_len(c))
			return refuse_text(g, c, 400, "the request ends before its end", 0);
		conn_closing(c);
		conn_commit(g, c);
		return true;
	}
	if (c->request_ns) {
		uint64_t limit = h->headers_done ? c->received_ns + BODY_S * NS_PER_S
						 : c->request_ns + HEADER_S * NS_PER_S;

		if (g->now >= limit)
			return refuse_text(g, c, 408,
					   h->headers_done
						   ? "the body did not go on for 30 seconds"
						   : "the header was not complete in 10 seconds",
					   0);
		wake_at(c, limit);
		return false;
	}
	idle = touched_ns(g, c) + IDLE_S * NS_PER_S;
	if (gateway_stage(g) >= STAGE_DRAINING || g->now >= idle) {
		if (c->in.tx_head != conn_draft(c)->head.tx_tail)
			return false;
		conn_closing(c);
		conn_commit(g, c);
		return true;
	}
	wake_at(c, idle);
	return false;
}

static bool read_request(struct gateway *g, struct conn *c)
{
	struct api_error e;

	switch (feed(g, c)) {
	case HTTP_WHOLE:
		/* too large is found out in time where the length was told */
		if (c->http.length > HTTP_BODY_MAX)
			return refuse_text(g, c, 413, "the body is larger than 16 MiB", 0);
		if (c->http.expect_other)
			return refuse_text(g, c, 417, "the only expectation is 100-continue", 0);
		return whole_request(g, c);
	case HTTP_BAD:
		api_refuse(&e, c->http.status, NULL, NULL, "%s", c->http.problem);
		return refuse(g, c, &e);
	default:
		return wait_for_more(g, c);
	}
}

bool gateway_step_conn(struct gateway *g, struct conn *c)
{
	struct conn_record *rec;

	c->wake_ns = UINT64_MAX;
	look(g, c, &c->in);
	follow_look(g, c);
	if (change_life(g, c))
		return true;
	rec = conn_draft(c);
	if (rec->head.state != CONN_OPEN)
		return false;
	/* impossible counts are init's bug; looking away is safer than a crash loop */
	if (c->in.rx_tail - rec->head.rx_head > CONN_RING ||
	    rec->head.tx_tail - c->in.tx_head > CONN_RING)
		return false;
	if (conn_own(c)->phase == PHASE_GENERATE)
		return follow_step(g, c);
	return read_request(g, c);
}

/* ---- all of them ---- */

/* Gives [p + KEEP_BYTES, p + len) back, as far as it is whole pages. */
static void give_back_block(void *p, size_t len)
{
	uintptr_t begin = ((uintptr_t)p + KEEP_BYTES + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
	uintptr_t end = ((uintptr_t)p + len) & ~(uintptr_t)(PAGE - 1);

	if (begin < end)
		madvise((char *)p + (begin - (uintptr_t)p), end - begin, MADV_DONTNEED);
}

/* Gives large scratch memory back: it served one large request, and its reply has been taken. */
static void give_back(struct gateway *g)
{
	if (!g->scratch_dirty || g->out_conn != CONNS)
		return;
	g->scratch_dirty = false;
	give_back_block(g->json.base, g->json.size);
	give_back_block(g->body, HTTP_BODY_MAX);
	give_back_block(g->ids, HTTP_BODY_MAX * sizeof(*g->ids));
	give_back_block(g->block, GATEWAY_OUT);
	if (g->model.tokenizer) /* behind PCRE2's part it holds nothing between two texts */
		give_back_block(g->tokenizer.work,
				tokenizer_scratch_bytes(HTTP_BODY_MAX) - TOKENIZER_PCRE2_BYTES);
}

static void ring_init(struct gateway *g)
{
	const uint64_t one = 1;
	ssize_t n;

	if (!g->ring_init)
		return;
	g->ring_init = false;
	/* seq_cst: our commits before init's flag; pairs with init's fence between its flag and its look at the records */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_exchange_explicit(&g->at.bells->init_idle, 0, memory_order_seq_cst)) {
		do
			n = write(FD_BELL, &one, sizeof(one));
		while (n < 0 && errno == EINTR);
	}
}

uint64_t gateway_step(struct gateway *g)
{
	uint64_t wake = UINT64_MAX;

	g->now = clock_now_ns();
	while (health_step(g))
		follow_announce(g);
	for (uint32_t i = 0; i < CONNS; i++) {
		unsigned steps = 0;

		while (steps < STEPS && gateway_step_conn(g, &g->conn[i]))
			steps++;
		if (steps == STEPS)
			wake = g->now;
		if (g->conn[i].wake_ns < wake)
			wake = g->conn[i].wake_ns;
	}
	follow_announce(g);
	give_back(g);
	ring_init(g);
	return wake;
}

bool gateway_pending(const struct gateway *g)
{
	for (uint32_t i = 0; i < CONN_PLACES; i++) {
		const struct conn *c = &g->conn[i];
		struct conn now = {.i = i};

		if (i < CONNS) {
			look(g, c, &now.in);
			if (memcmp(&now.in, &c->in, sizeof(now.in)) != 0)
				return true;
		}
		if (follow_changed(g, c))
			return true;
	}
	return false;
}

void gateway_loop(struct gateway *g)
{
	struct bell *bell = &g->at.bells->bell[ROLE_CLIENT][0];

	while (gateway_stage(g) != STAGE_STOPPING) {
		uint32_t stage = gateway_stage(g);
		uint64_t wake = gateway_step(g), now;

		bell_prepare(bell);
		if (gateway_pending(g) || gateway_stage(g) != stage) {
			bell_cancel(bell);
			continue;
		}
		now = clock_now_ns();
		if (wake > now)
			bell_wait(bell, wake == UINT64_MAX ? UINT64_MAX : wake - now);
		else
			bell_cancel(bell);
	}
}
