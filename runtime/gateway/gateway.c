/* The gateway's life: opening, one step over all connections, sleeping. See gateway.h. */
#include "runtime/gateway/gateway.h"

#include "runtime/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
	HEADER_S = 10, /* api.md "Errors": 408 */
	BODY_S = 30,
	IDLE_S = 60,
	/* per byte: half a value of 16 bytes for each in "[1,1,...", with room for growth */
	JSON_SHARE = 20,
	PAGE = 4096,
	KEEP_BYTES = 1 << 20,  /* scratch memory that is not given back */
	SPILL = CONN_RING / 2, /* a long body leaves the ring in pieces of this size */
	RETRY_S = 1,           /* Retry-After of what memory is short for */
	/* a client that takes nothing of a large reply loses its memory to the next one */
	STALL_S = 2,
	WAIT_MS = 10, /* a large request looks again whether it can have it */
	STEPS = 16    /* commits of one connection before the others are served */
};

/* ---- opening ---- */

static int open_model(struct gateway *g, struct err *e)
{
	const struct node *node = g->at.node;
	const struct index *ix = g->index;
	struct api_model *m = &g->model;
	size_t need = tokenizer_scratch_bytes(g->body_max);
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
	size_t token = g->index->tokenizer.count; /* no token is longer than the blob */
	size_t size = tokenizer_scratch_bytes(g->body_max) + CONNS * CONN_SCRATCH + SMALL_OUT +
		      g->body_max * (1 + sizeof(uint32_t) + GATEWAY_OUT) + 40 * token +
		      40 * STOP_BYTES + (1 << 20);
	int rc = arena_map(&g->memory, size, e);

	if (!rc)
		rc = arena_map(&g->json, JSON_SHARE * g->body_max, e);
	if (rc)
		return rc;
	g->body = arena_alloc(&g->memory, g->body_max, PAGE);
	g->ids = arena_alloc(&g->memory, g->body_max * sizeof(*g->ids), PAGE);
	g->block = arena_alloc(&g->memory, GATEWAY_OUT * g->body_max, PAGE);
	g->small = arena_alloc(&g->memory, SMALL_OUT, PAGE);
	g->saved = arena_alloc(&g->memory, STOP_BYTES, 64);
	for (unsigned i = 0; i < CONNS; i++) {
		char *p = arena_alloc(&g->memory, CONN_SCRATCH, PAGE);

		g->conn[i].held[0] = p;
		g->conn[i].held[1] = p + STOP_BYTES;
		g->conn[i].tables = (uint16_t *)(void *)(p + 2 * STOP_BYTES);
	}
	return 0;
}

int gateway_open(struct gateway *g, const struct attach *at, const struct index *ix, struct err *e)
{
	size_t rendered;
	void *block;
	int rc;

	memset(g, 0, sizeof(*g));
	g->at = *at;
	g->index = ix;
	g->out_conn = CONNS;
	g->body_max = at->plan->body_bytes;
	g->pool = at->plan->body_pool;
	if ((rc = open_memory(g, e)) || (rc = open_model(g, e)) || (rc = open_env(g, e)))
		return rc;
	/* one event framed; a reply's end is three */
	rendered = g->env.event_cap + 4 * 8192;
	block = arena_alloc(&g->memory, rendered, 64);
	if (!block)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "gateway: no memory for events");
	g->rendered = out_make(block, rendered);
	return 0;
}

void gateway_take_over(struct gateway *g)
{
	const struct layout *l = &g->at.layout;

	attach_take_over(&g->at);
	record_open(&g->rings, attach_at(&g->at, OBJ_CLIENT, l->client_record),
		    l->client_record_size);
	rings_repair(g);
	for (uint32_t i = 0; i < CONN_PLACES; i++)
		conn_attach(g, i);
	for (uint32_t k = 0; k < CLIENT_BODIES; k++)
		g->areas[k] = g->areas[k] ? g->areas[k]
					  : AREA_FREED; /* a predecessor may have touched it */
	conn_clean_areas(g);
	atomic_store_explicit(&g->at.log->progress.step, UINT64_MAX, memory_order_relaxed);
}

void gateway_close(struct gateway *g)
{
	arena_fini(&g->json);
	arena_fini(&g->memory);
}

/* ---- one connection ---- */

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
	c->reading = c->following = c->asks_health = c->large = false;
	c->request_ns = c->since_ns = 0;
	if (g->out_conn == c->i)
		g->out_conn = CONNS;
	conn_commit(g, c);
	return true;
}

/*
 * Produces as much of g->out as fits; the request goes with the last byte. Whether anything was
 * committed.
 */
static bool produce_reply(struct gateway *g, struct conn *c, bool once, bool keep)
{
	struct own *own = conn_own(c);
	size_t left = g->out.n - own->sent, n = conn_tx_free(c);

	if (own->sent > g->out.n) { /* of another reply than this one */
		conn_reset(g, c);
		return true;
	}
	if (n >= left) {
		conn_put(g, c, g->out.p + own->sent, left);
		conn_consume(g, c, c->http.fed);
		own->phase = PHASE_READ;
		own->flags = 0;
		if (g->out_conn == c->i)
			g->out_conn = CONNS;
		if (!keep)
			conn_closing(c);
	} else if (once || !n) {
		return false;
	} else {
		conn_put(g, c, g->out.p + own->sent, n);
		own->sent += n;
		own->date = gateway_date(g);
		own->phase = PHASE_REPLY;
		own->flags = keep ? REPLY_KEEP : 0;
		/* one in the small block is made again for its next piece */
		if (g->out_conn == CONNS || g->out_conn == c->i) {
			g->kept = g->out;
			g->out_conn = c->i;
			g->out_rx_head = conn_draft(c)->head.rx_head;
		}
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

static void reply_too_large(const struct gateway *g, struct api_error *e)
{
	if (g->body_max == BODY_MAX) {
		api_refuse(e, 413, NULL, NULL, "the reply would be larger than 128 MiB");
		return;
	}
	api_refuse(e, 503, NULL, NULL,
		   "the reply would be larger than %zu KiB, which is what this node's --memory "
		   "leaves for one",
		   g->body_max / 1024 * GATEWAY_OUT);
	e->retry_after = RETRY_S;
}

/* A body that api.md allows and this node's memory does not. */
static bool refuse_body(struct gateway *g, struct conn *c)
{
	char text[160];

	snprintf(text, sizeof(text),
		 "the body is larger than %zu KiB, which is what this node's --memory leaves for "
		 "one",
		 g->body_max / 1024);
	return refuse_text(g, c, 503, text, RETRY_S);
}

/* There is no room to read on. */
static bool refuse_spill(struct gateway *g, struct conn *c)
{
	char text[160];

	if (conn_raw_len(c) > g->body_max + BODY_FRAME)
		return g->body_max == BODY_MAX
			       ? refuse_text(g, c, 413, "the body and its framing are too large", 0)
			       : refuse_body(g, c);
	snprintf(text, sizeof(text),
		 "the memory for bodies is used up: this node's --memory leaves %llu KiB for all "
		 "of them at once",
		 (unsigned long long)g->at.plan->body_pool / 1024);
	return refuse_text(g, c, 503, text, RETRY_S);
}

/*
 * Whether the request has to wait for the block: the reply to a large one is on its way to a client
 * that still takes it, and to make it again would be dear. Small requests are answered beside it.
 */
static bool must_wait(struct gateway *g, struct conn *c)
{
	uint64_t until;

	if (g->out_conn != CONNS && g->out_conn != c->i) {
		if (c->http.body_bytes <= CONN_RING && !c->large)
			return false;
		until = g->conn[g->out_conn].produced_ns + STALL_S * NS_PER_S;
		if (g->now < until) {
			wake_at(c, g->now + WAIT_MS * NS_PER_MS);
			return true;
		}
	}
	g->out_conn = CONNS;
	return false;
}

static bool whole_request(struct gateway *g, struct conn *c)
{
	struct own *own = conn_own(c);
	bool again = own->phase == PHASE_REPLY;
	bool keep = again ? own->flags & REPLY_KEEP
			  : c->http.keep_alive && gateway_stage(g) < STAGE_DRAINING;
	enum served s;

	if (again && g->out_conn == c->i && g->out_rx_head == conn_draft(c)->head.rx_head) {
		g->out = g->kept;
		return produce_reply(g, c, false, keep);
	}
	if (must_wait(g, c))
		return false;
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
	if (g->out.full && g->out_conn != CONNS) {
		c->large = true;
		return !must_wait(g, c);
	}
	if (g->out.full) {
		struct api_error e;

		reply_too_large(g, &e);
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
	if (h->headers_done && (h->length > g->body_max || h->body_bytes > g->body_max))
		return refuse_body(g, c);
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
		/* without chunks the header tells how long the request is */
		uint64_t whole = h->chunked ? 0 : h->fed - h->body_bytes + h->length;

		return conn_spill(g, c, whole) || refuse_spill(g, c);
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
	char place[32];
	bool again;

	switch (feed(g, c)) {
	case HTTP_WHOLE:
		if (c->http.fed < conn_own(c)->area_len) { /* bytes of more than this request */
			conn_reset(g, c);
			return true;
		}
		/* too large is found out in time where the length was told */
		if (c->http.length > HTTP_BODY_MAX)
			return refuse_text(g, c, 413, "the body is larger than 16 MiB", 0);
		if (c->http.body_bytes > g->body_max)
			return refuse_body(g, c);
		if (c->http.expect_other)
			return refuse_text(g, c, 417, "the only expectation is 100-continue", 0);
		g->date = conn_own(c)->phase == PHASE_REPLY ? conn_own(c)->date : 0;
		again = whole_request(g, c);
		g->date = 0;
		return again;
	case HTTP_BAD:
		http_place(&c->http, place);
		if (c->http.status == 400)
			api_refuse(
				&e, 400, NULL, NULL,
				"The request is not valid HTTP: %s (%s). Send it as RFC 9112 says",
				c->http.problem, place);
		else
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
	conn_look(g, c, &c->in);
	follow_look(g, c);
	if (change_life(g, c))
		return true;
	rec = conn_draft(c);
	if (rec->head.state != CONN_OPEN)
		return false;
	/* impossible counts are init's bug; looking away is safer than a crash loop */
	if (!conn_counts_sound(c))
		return false;
	if (conn_own(c)->phase == PHASE_GENERATE)
		return follow_step(g, c);
	return read_request(g, c);
}

/* ---- all of them ---- */

void gateway_give_back(void *p, size_t len)
{
	uintptr_t begin = ((uintptr_t)p + KEEP_BYTES + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
	uintptr_t end = ((uintptr_t)p + len) & ~(uintptr_t)(PAGE - 1);

	if (begin < end)
		madvise((char *)p + (begin - (uintptr_t)p), end - begin, MADV_DONTNEED);
}

void gateway_drop_text(struct gateway *g)
{
	if (!g->scratch_dirty)
		return;
	gateway_give_back(g->json.base, g->json.size);
	if (g->model.tokenizer) /* its work lies behind PCRE2's part */
		gateway_give_back(g->tokenizer.work,
				  tokenizer_scratch_bytes(g->body_max) - TOKENIZER_PCRE2_BYTES);
}

/* Gives large memory back: it served one large request, and its reply has been taken. */
static void give_back(struct gateway *g)
{
	conn_clean_areas(g);
	if (!g->scratch_dirty || g->out_conn != CONNS)
		return;
	gateway_drop_text(g);
	gateway_give_back(g->body, g->body_max);
	gateway_give_back(g->ids, g->body_max * sizeof(*g->ids));
	gateway_give_back(g->block, GATEWAY_OUT * g->body_max);
	g->scratch_dirty = false;
}

static void ring_init(struct gateway *g)
{
	const uint64_t one = 1;
	ssize_t n;

	if (!g->ring_init)
		return;
	g->ring_init = false;
	/*
	 * seq_cst: our commits before init's flag; pairs with init's fence between its flag and its
	 * look at the records
	 */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_exchange_explicit(&g->at.bells->init_idle, 0, memory_order_seq_cst)) {
		do
			n = write(FD_BELL, &one, sizeof(one));
		while (n < 0 && errno == EINTR);
	}
}

/* Which connection it serves; UINT64_MAX: none. For init: hangs, and who ends its server. */
static void mark(const struct gateway *g, uint64_t conn)
{
	struct progress *p = &g->at.log->progress;

	atomic_store_explicit(&p->row, conn, memory_order_relaxed);
	atomic_store_explicit(&p->step, conn, memory_order_relaxed);
}

static void mark_turn(const struct gateway *g)
{
	struct progress *p = &g->at.log->progress;

	atomic_store_explicit(&p->since_ns, g->now, memory_order_relaxed);
	atomic_store_explicit(&p->turns, atomic_load_explicit(&p->turns, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

uint64_t gateway_step(struct gateway *g)
{
	uint64_t wake = UINT64_MAX;
	struct timespec wall;

	g->now = clock_now_ns();
	clock_gettime(CLOCK_REALTIME, &wall);
	g->wall_s = (uint64_t)wall.tv_sec;
	mark_turn(g);
	while (health_step(g))
		follow_announce(g);
	for (uint32_t i = 0; i < CONNS; i++) {
		unsigned steps = 0;

		mark(g, i);
		while (steps < STEPS && gateway_step_conn(g, &g->conn[i]))
			steps++;
		conn_give_back(g, &g->conn[i]);
		if (steps == STEPS)
			wake = g->now;
		if (g->conn[i].wake_ns < wake)
			wake = g->conn[i].wake_ns;
	}
	mark(g, UINT64_MAX);
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
			conn_look(g, c, &now.in);
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
