/* A connection's rings and record: bytes in, bytes out, commits. See gateway.h and ipc/conn.h. */
#include "runtime/gateway/gateway.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

enum {
	AREA_PAGE = 4096
};
_Static_assert(CLIENT_BODY % AREA_PAGE == 0, "areas are whole pages");

struct own *conn_own(const struct conn *c)
{
	return (struct own *)(void *)conn_draft(c)->own;
}

void conn_look(const struct gateway *g, const struct conn *c, struct conn_view *v)
{
	const struct conn_in *in =
		(const struct conn_in *)attach_at(&g->at, OBJ_CONNS, g->at.layout.conns_in) + c->i;

	/*
	 * acquire: bytes in the ring before the count that covers them; pairs with init's release
	 */
	v->life = atomic_load_explicit(&in->life, memory_order_acquire);
	v->gone = atomic_load_explicit(&in->gone, memory_order_acquire);
	v->eof = atomic_load_explicit(&in->eof, memory_order_acquire);
	v->rx_tail = atomic_load_explicit(&in->rx_tail, memory_order_acquire);
	v->tx_head = atomic_load_explicit(&in->tx_head, memory_order_acquire);
}

bool conn_counts_sound(const struct conn *c)
{
	const struct conn_head *h = &conn_draft(c)->head;

	return c->in.rx_tail - h->rx_head <= CONN_RING && h->tx_tail - c->in.tx_head <= CONN_RING;
}

void conn_attach(struct gateway *g, uint32_t i)
{
	const struct layout *l = &g->at.layout;
	struct conn *c = &g->conn[i];
	uint32_t area;

	c->i = i;
	record_open(&c->record,
		    attach_at(&g->at, OBJ_CLIENT, l->client_conn + i * l->client_conn_stride),
		    sizeof(struct conn_record));
	/* records are small: every commit repeats the whole */
	record_touch(&c->record, c->record.draft, sizeof(struct conn_record));
	if (i < CONNS)
		conn_look(g, c, &c->in);
	if (!conn_sound(g, c) || conn_poisoned(g, i))
		conn_reset(g, c);
	c->announce = c->touched = conn_draft(c)->request.number > 0;
	area = conn_own(c)->area;
	if (area) {
		g->areas[area - 1] = i + 1;
		g->pool -= conn_own(c)->area_room;
	}
}

void conn_commit(struct gateway *g, struct conn *c)
{
	count_add(g->at.log, COUNT_STEPS, 1);
	record_commit(&c->record);
	record_touch(&c->record, c->record.draft, sizeof(struct conn_record));
	g->ring_init = true;
}

static uint64_t ring_len(const struct conn *c)
{
	return c->in.rx_tail - conn_draft(c)->head.rx_head;
}

uint64_t conn_raw_len(const struct conn *c)
{
	return conn_own(c)->area_len + ring_len(c);
}

static char *area_at(const struct gateway *g, uint32_t k)
{
	return (char *)attach_at(&g->at, OBJ_CLIENT, g->at.layout.client_body) +
	       (uint64_t)k * CLIENT_BODY;
}

static char *area_of(const struct gateway *g, const struct conn *c)
{
	return area_at(g, conn_own(c)->area - 1);
}

/* [at, at + len) of a ring is one stretch or two; returns the first and cuts *len to it. */
static char *ring_at(char *ring, uint64_t at, uint64_t *len)
{
	uint64_t off = at % CONN_RING;

	if (*len > CONN_RING - off)
		*len = CONN_RING - off;
	return ring + off;
}

static char *rx_ring(const struct gateway *g, const struct conn *c)
{
	return (char *)attach_at(&g->at, OBJ_CONNS, g->at.layout.conns_rx) +
	       (uint64_t)c->i * CONN_RING;
}

size_t conn_raw(const struct gateway *g, const struct conn *c, uint64_t from, const char **bytes)
{
	const struct own *own = conn_own(c);
	uint64_t len = conn_raw_len(c) - from;

	if (from < own->area_len) {
		*bytes = area_of(g, c) + from;
		return own->area_len - from;
	}
	if (len)
		*bytes = ring_at(rx_ring(g, c),
				 conn_draft(c)->head.rx_head + (from - own->area_len), &len);
	return len;
}

void conn_clean_areas(struct gateway *g)
{
	for (uint32_t k = 0; k < CLIENT_BODIES; k++) {
		if (g->areas[k] != AREA_FREED)
			continue;
		/* a hole in the object: its pages are gone for every process */
		madvise(area_at(g, k), CLIENT_BODY, MADV_REMOVE);
		g->areas[k] = 0;
	}
}

static bool take_area(struct gateway *g, struct conn *c)
{
	conn_clean_areas(g);
	for (uint32_t k = 0; k < CLIENT_BODIES; k++) {
		if (g->areas[k])
			continue;
		g->areas[k] = c->i + 1;
		conn_own(c)->area = k + 1;
		return true;
	}
	return false;
}

/* Keeps `bytes` of the pool, in whole pages, for the connection's area. */
static bool keep_room(struct gateway *g, struct conn *c, uint64_t bytes)
{
	struct own *own = conn_own(c);
	uint64_t room = (bytes + AREA_PAGE - 1) & ~(uint64_t)(AREA_PAGE - 1);

	if (bytes > g->body_max + BODY_FRAME)
		return false;
	if (room <= own->area_room)
		return true;
	if (room - own->area_room > g->pool)
		return false;
	g->pool -= room - own->area_room;
	own->area_room = room;
	return true;
}

bool conn_spill(struct gateway *g, struct conn *c, uint64_t whole)
{
	struct conn_record *rec = conn_draft(c);
	struct own *own = conn_own(c);
	uint64_t len = ring_len(c), need = own->area_len + len;

	if (!own->area && !take_area(g, c))
		return false;
	if (!keep_room(g, c, need > whole ? need : whole))
		return false;
	while (len) {
		uint64_t n = len;
		const char *from = ring_at(rx_ring(g, c), rec->head.rx_head, &n);

		memcpy(area_of(g, c) + own->area_len, from, n);
		own->area_len += n;
		rec->head.rx_head += n;
		len -= n;
	}
	conn_commit(g, c);
	return true;
}

void conn_release_area(struct gateway *g, struct conn *c)
{
	struct own *own = conn_own(c);

	if (own->area)
		g->areas[own->area - 1] = AREA_FREED;
	g->pool += own->area_room;
	own->area = 0;
	own->area_len = own->area_room = 0;
}

void conn_consume(struct gateway *g, struct conn *c, uint64_t len)
{
	struct own *own = conn_own(c);

	/*
	 * What lies in an area was consumed from the ring when it was put there, and all of it
	 * belongs to this request.
	 */
	assert(len >= own->area_len && len <= conn_raw_len(c));
	conn_draft(c)->head.rx_head += len - own->area_len;
	conn_release_area(g, c);
	own->continued = 0;
	own->sent = 0;
	c->reading = c->large = false;
	c->request_ns = c->since_ns = 0;
}

static void remove_pages(void *p, size_t len)
{
	uintptr_t begin = ((uintptr_t)p + AREA_PAGE - 1) & ~(uintptr_t)(AREA_PAGE - 1);
	uintptr_t end = ((uintptr_t)p + len) & ~(uintptr_t)(AREA_PAGE - 1);

	if (begin < end)
		madvise((char *)p + (begin - (uintptr_t)p), end - begin, MADV_REMOVE);
}

void conn_give_back(struct gateway *g, struct conn *c)
{
	const struct layout *l = &g->at.layout;
	uint64_t tail = conn_draft(c)->head.tx_tail, stride = g->at.plan->context * 4ull;
	char *client = attach_at(&g->at, OBJ_CLIENT, 0);

	if (c->in.tx_head == tail && tail - c->tx_given >= CONN_IDLE_KEPT) {
		remove_pages(client + l->client_tx + (uint64_t)c->i * CONN_RING, CONN_RING);
		c->tx_given = tail;
	}
	/* the router may read a prompt as long as it holds the request: invariant 2 */
	if (!c->touched || c->following || conn_own(c)->phase != PHASE_READ || !follow_quiet(c))
		return;
	remove_pages(client + l->client_prompt + c->i * stride, stride);
	remove_pages(client + l->client_stop + (uint64_t)c->i * CLIENT_STOP, CLIENT_STOP);
	madvise(c->held[0], CONN_SCRATCH, MADV_DONTNEED);
	c->touched = false;
}

size_t conn_tx_free(const struct conn *c)
{
	return CONN_RING - (size_t)(conn_draft(c)->head.tx_tail - c->in.tx_head);
}

void conn_put(struct gateway *g, struct conn *c, const char *bytes, size_t len)
{
	struct conn_record *rec = conn_draft(c);
	char *ring = (char *)attach_at(&g->at, OBJ_CLIENT, g->at.layout.client_tx) +
		     (uint64_t)c->i * CONN_RING;

	assert(len <= conn_tx_free(c));
	if (len)
		c->produced_ns = g->now;
	while (len) {
		uint64_t n = len;
		char *to = ring_at(ring, rec->head.tx_tail, &n);

		memcpy(to, bytes, n);
		rec->head.tx_tail += n;
		bytes += n;
		len -= n;
	}
}

void conn_closing(struct conn *c)
{
	conn_draft(c)->head.state = CONN_CLOSING;
}
