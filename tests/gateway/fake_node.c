/* See fake_node.h. */
#include "tests/gateway/fake_node.h"

#include "runtime/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *map(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static void open_gateway(struct fake_node *n)
{
	struct err e = {0};

	if (gateway_open(n->g, &n->at, &n->index, &e)) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	gateway_take_over(n->g);
}

static void make_index(struct fake_node *n)
{
	static const struct tiny_merge merge[] = {{'h', 'e'}, {'l', 'l'}, {256, 257}, {0xc3, 0xa4}};
	char *json = tiny_tokenizer_json(merge, 4);
	struct err e = {0};

	if (tiny_open(&n->tiny, json, 1000, &e))
		abort();
	free(json);
	n->index.config.vocab_size = TINY_VOCAB;
	n->index.config.bos_token_id = TINY_BOS;
	n->index.config.n_eos = 1;
	n->index.config.eos_token_id[0] = TINY_EOS;
	n->index.config.temperature = 0.6;
	n->index.config.top_p = 0.95;
	n->index.template_id = (uint32_t)api_template_named("v31");
	/* the blob lies where it lies: the span is relative to the index */
	n->index.tokenizer.off = (uint64_t)((char *)n->tiny.blob - (char *)&n->index);
	n->index.tokenizer.count = n->tiny.blob_bytes;
}

void fake_open(struct fake_node *n, uint64_t body_bytes)
{
	struct err e = {0};

	memset(n, 0, sizeof(*n));
	n->plan = (struct plan){.layers = 2,
				.main_layers = 2,
				.hidden = 64,
				.vocab = TINY_VOCAB,
				.top_k = 1,
				.rows = {4, 16},
				.places = 2,
				.queue = 8,
				.context = 2048,
				.pages = 8,
				.workers = 1,
				.body_bytes = body_bytes,
				.body_pool = CLIENT_BODIES * (body_bytes + BODY_FRAME)};
	if (layout_make(&n->at.layout, &n->plan, &e))
		abort();
	for (unsigned o = 0; o < OBJ_COUNT; o++) {
		n->at.bytes[o] = n->at.layout.bytes[o];
		if (graph_access(ROLE_CLIENT, (enum object)o) != ACCESS_NONE && n->at.bytes[o])
			n->at.object[o] = map(n->at.bytes[o]);
	}
	n->node = n->at.object[OBJ_NODE];
	n->node->plan = n->plan;
	strcpy(n->node->model_name, "a/b");
	strcpy(n->node->build, "test");
	n->node->stage = STAGE_READY;
	n->node->started_ns = 1700000000 * NS_PER_S;
	n->at.role = ROLE_CLIENT;
	n->at.node = n->node;
	n->at.plan = &n->node->plan;
	n->at.bells = attach_at(&n->at, OBJ_BELLS, sizeof(struct object_header));
	n->at.log = attach_at(&n->at, OBJ_LOG_CLIENT, sizeof(struct object_header));
	make_index(n);
	record_open(&n->router, attach_at(&n->at, OBJ_ROUTER, n->at.layout.router_record),
		    n->at.layout.router_record_size);
	n->take = CONN_RING;
	n->g = malloc(sizeof(*n->g));
	open_gateway(n);
}

void fake_close(struct fake_node *n)
{
	gateway_close(n->g);
	free(n->g);
	tiny_close(&n->tiny);
	for (unsigned i = 0; i < CONNS; i++)
		free(n->got[i]);
	for (unsigned o = 0; o < OBJ_COUNT; o++) {
		if (n->at.object[o])
			munmap(n->at.object[o], n->at.bytes[o]);
	}
}

static struct conn_in *in_of(const struct fake_node *n, uint32_t conn)
{
	return (struct conn_in *)attach_at(&n->at, OBJ_CONNS, n->at.layout.conns_in) + conn;
}

static char *tx_of(const struct fake_node *n, uint32_t conn)
{
	return (char *)attach_at(&n->at, OBJ_CLIENT, n->at.layout.client_tx) +
	       (size_t)conn * CONN_RING;
}

struct conn_record fake_record(const struct fake_node *n, uint32_t conn)
{
	struct conn_record r;
	const void *base =
		attach_at(&n->at, OBJ_CLIENT,
			  n->at.layout.client_conn + conn * n->at.layout.client_conn_stride);

	if (!record_read(base, sizeof(r), 0, &r, sizeof(r)))
		abort(); /* nobody writes meanwhile */
	return r;
}

/* What was not committed may hold anything: a half-written event, a prompt that was never used. */
static void scribble(struct fake_node *n)
{
	for (uint32_t i = 0; i < FAKE_CONNS; i++) {
		size_t from = (size_t)(fake_record(n, i).head.tx_tail % CONN_RING),
		       free = CONN_RING -
			      (size_t)(fake_record(n, i).head.tx_tail - in_of(n, i)->tx_head),
		       first = free < CONN_RING - from ? free : CONN_RING - from;

		if (free > CONN_RING)
			continue; /* a record that cannot be */
		memset(tx_of(n, i) + from, '#', first);
		memset(tx_of(n, i), '#', free - first);
	}
}

void fake_kill(struct fake_node *n)
{
	n->kills++;
	gateway_close(n->g);
	memset(n->g, 0xa5, sizeof(*n->g));
	scribble(n);
	open_gateway(n);
}

void fake_connect(struct fake_node *n, uint32_t conn)
{
	struct conn_in *in = in_of(n, conn);

	in->since_ns = in->sent_ns = clock_now_ns();
	in->life++;
}

size_t fake_send(struct fake_node *n, uint32_t conn, const char *bytes, size_t len)
{
	char *ring = (char *)attach_at(&n->at, OBJ_CONNS, n->at.layout.conns_rx) +
		     (size_t)conn * CONN_RING;
	struct conn_in *in = in_of(n, conn);
	size_t room = CONN_RING - (size_t)(in->rx_tail - fake_record(n, conn).head.rx_head);

	len = len < room ? len : room;
	for (size_t k = 0; k < len; k++)
		ring[(in->rx_tail + k) % CONN_RING] = bytes[k];
	in->rx_tail += len;
	in->sent_ns = clock_now_ns();
	return len;
}

void fake_eof(struct fake_node *n, uint32_t conn)
{
	in_of(n, conn)->eof = in_of(n, conn)->life;
}

void fake_gone(struct fake_node *n, uint32_t conn)
{
	in_of(n, conn)->gone = in_of(n, conn)->life;
}

bool fake_take(struct fake_node *n, uint32_t conn)
{
	struct conn_record r = fake_record(n, conn);
	struct conn_in *in = in_of(n, conn);
	size_t len = (size_t)(r.head.tx_tail - in->tx_head);

	len = len < n->take ? len : n->take;
	if (!len)
		return false;
	n->got[conn] = realloc(n->got[conn], n->n_got[conn] + len + 1);
	for (size_t k = 0; k < len; k++)
		n->got[conn][n->n_got[conn]++] = tx_of(n, conn)[(in->tx_head + k) % CONN_RING];
	n->got[conn][n->n_got[conn]] = 0;
	in->tx_head += len;
	return true;
}

/* ---- the router ---- */

static struct router_seq *seq_of(struct fake_node *n, uint32_t conn)
{
	return (struct router_seq *)(void *)((char *)n->router.draft + n->at.layout.seq_off) + conn;
}

static void take_request(struct fake_node *n, uint32_t conn)
{
	struct request q = fake_record(n, conn).request;
	struct router_seq *s = seq_of(n, conn);

	if (s->request == q.number && !q.live &&
	    (s->status == SEQ_RUNNING || s->status == SEQ_QUEUED)) {
		s->status = SEQ_DONE;
		s->in_pass = n->script[conn].slow_cancel;
	}
	if (s->request >= q.number)
		return;
	memset(s, 0, sizeof(*s));
	s->request = q.number;
	s->cached = 1;
	s->req = q;
	if (!q.live)
		s->status = SEQ_DONE;
	else if (n->script[conn].status == SEQ_BUSY)
		s->status = SEQ_BUSY;
	else
		s->status = SEQ_RUNNING;
}

static void sample(struct fake_node *n, uint32_t conn)
{
	const struct fake_script *script = &n->script[conn];
	struct router_seq *s = seq_of(n, conn);
	struct token_entry *log =
		(struct token_entry *)attach_at(&n->at, OBJ_ROUTER, n->at.layout.router_tokens) +
		(size_t)conn * n->plan.context;

	if (conn == CONN_HEALTH) {
		log[s->count++].hash = n->health_hash;
		s->status = SEQ_DONE;
	} else if (s->count < script->n && s->count < s->req.max_tokens) {
		log[s->count].token = script->token[s->count];
		s->count++;
	} else {
		s->status = script->status == SEQ_NONE ? SEQ_RUNNING : script->status;
		s->error = script->error;
	}
}

bool fake_router(struct fake_node *n)
{
	const struct layout *l = &n->at.layout;
	struct router_head *h = n->router.draft;
	bool any = false;
	uint64_t tail;

	if (n->router_stops ||
	    !attach_read_u64(&n->at, OBJ_CLIENT, l->client_record, l->client_record_size,
			     offsetof(struct client_record, announce_tail), &tail))
		return false;
	for (; h->ring_head[2][0] < tail; h->ring_head[2][0]++) {
		const struct msg *ring = attach_at(&n->at, OBJ_CLIENT, l->client_ring);

		take_request(n, ring[h->ring_head[2][0] % RING_ENTRIES_ANNOUNCE].row0);
		any = true;
	}
	for (uint32_t i = 0; i < CONN_PLACES; i++) {
		struct router_seq *s = seq_of(n, i), before = *s;

		if (s->in_pass && !n->script[i].slow_cancel)
			s->in_pass = 0;
		if (s->status == SEQ_RUNNING)
			sample(n, i);
		any |= memcmp(&before, s, sizeof(before)) != 0;
	}
	if (any) {
		n->router.whole = true;
		record_commit(&n->router);
	}
	return any;
}

enum committed {
	COMMITTED_NOTHING,
	COMMITTED_RECORD,
	COMMITTED_ANNOUNCEMENT
};

/* One commit of the gateway, whichever is next. */
static enum committed one_commit(struct fake_node *n)
{
	struct gateway *g = n->g;
	uint64_t tail = ((const struct client_record *)g->rings.draft)->announce_tail;

	g->now = clock_now_ns();
	if (health_step(g))
		return COMMITTED_RECORD;
	for (uint32_t i = 0; i < FAKE_CONNS; i++) {
		if (gateway_step_conn(g, &g->conn[i]))
			return COMMITTED_RECORD;
	}
	follow_announce(g);
	return ((const struct client_record *)g->rings.draft)->announce_tail != tail
		       ? COMMITTED_ANNOUNCEMENT
		       : COMMITTED_NOTHING;
}

bool fake_gateway(struct fake_node *n)
{
	enum committed what;
	bool any = false;

	while ((what = one_commit(n)) != COMMITTED_NOTHING) {
		any = true;
		/*
		 * a successor announces everything again: killing it every time would have no end
		 */
		n->announcements += what == COMMITTED_ANNOUNCEMENT;
		n->commits++;
		if (n->kill && n->commits % n->kill == 0 &&
		    (what == COMMITTED_RECORD || n->announcements % 2))
			fake_kill(n);
	}
	return any;
}

void fake_run(struct fake_node *n)
{
	bool moved = true;

	while (moved) {
		moved = fake_gateway(n);
		moved |= fake_router(n);
		for (uint32_t i = 0; i < FAKE_CONNS; i++)
			moved |= fake_take(n, i);
	}
}

const char *fake_talk(struct fake_node *n, uint32_t conn, const char *bytes, size_t len)
{
	size_t begin = n->n_got[conn], sent = 0;

	while (sent < len) {
		size_t k = fake_send(n, conn, bytes + sent, len - sent);

		sent += k;
		fake_run(n);
		if (!k)
			break;
	}
	fake_run(n);
	return n->got[conn] ? n->got[conn] + begin : "";
}

const char *fake_post(struct fake_node *n, uint32_t conn, const char *path, const char *body)
{
	size_t cap = strlen(path) + strlen(body) + 128;
	char *text = malloc(cap);
	int len = snprintf(text, cap,
			   "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
			   "Content-Length: %zu\r\n\r\n%s",
			   path, strlen(body), body);
	const char *reply = fake_talk(n, conn, text, (size_t)len);

	free(text);
	return reply;
}
