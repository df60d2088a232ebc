/*
 * Records that cannot be. A gateway inherits what its predecessor committed, and if that was
 * impossible (a bug of ours, a hostile gateway), init would end every successor for it, or the
 * successor itself. So it is looked at once, when it is attached; what cannot be trusted is lost,
 * and its client let go. See gateway.h.
 */
#include "runtime/gateway/gateway.h"

#include <string.h>

enum {
	/*
	 * Request numbers that a reset leaves out: nothing that the predecessor announced, and
	 * router may have seen, gets a number again.
	 */
	NUMBERS_SKIPPED = 1 << 16
};
#define DATE_END 253402300800ull /* seconds: the year 10000 */

static bool head_sound(const struct conn *c)
{
	const struct conn_head *h = &conn_draft(c)->head;

	if (c->i == CONN_HEALTH)
		return true; /* no client, no rings */
	if (h->state > CONN_CLOSING || h->life > c->in.life || !conn_counts_sound(c))
		return false;
	/* one whose client is not served yet has nothing in it */
	return h->life == c->in.life || h->state == CONN_FREE;
}

static bool request_sound(const struct gateway *g, const struct request *q)
{
	uint64_t context = g->at.plan->context;

	if (q->live > 1 || q->number > REQUEST_NUMBER_MAX)
		return false;
	return !q->live || (q->number && q->n_prompt && q->n_prompt <= context &&
			    q->max_tokens <= context - q->n_prompt);
}

/* The assembly area: its own, and no more of it than it has and the pool gives. */
static bool area_sound(const struct gateway *g, const struct own *own)
{
	if (!own->area)
		return own->area_len == 0 && own->area_room == 0;
	return own->area <= CLIENT_BODIES && g->areas[own->area - 1] == 0 &&
	       own->area_room <= g->pool && own->area_room <= CLIENT_BODY &&
	       own->area_len <= own->area_room;
}

static bool reply_sound(const struct gateway *g, const struct conn_record *rec,
			const struct own *own)
{
	const struct request *q = &rec->request;
	uint64_t bytes = 0, context = g->at.plan->context;

	if (own->n_stop > STOP_STRINGS || own->finish > FINISH_ERROR || !q->number ||
	    !q->n_prompt || q->n_prompt > context || q->max_tokens > context - q->n_prompt ||
	    own->end > q->max_tokens || own->event > q->max_tokens + 1ull ||
	    own->cached > q->n_prompt || own->event_off > g->env.event_cap + 4 * 8192)
		return false;
	for (uint32_t k = 0; k < own->n_stop; k++) {
		if (!own->stop_len[k])
			return false;
		bytes += own->stop_len[k];
	}
	return bytes <= STOP_BYTES;
}

bool conn_poisoned(const struct gateway *g, uint32_t i)
{
	const struct node_poison *p = &g->at.node->poison[ROLE_CLIENT];

	_Static_assert((int)CONN_PLACES <= (int)POISON_ROWS, "each has its bit");
	/* relaxed: init wrote it before this generation came */
	return atomic_load_explicit(&p->deaths, memory_order_relaxed) > POISON_CAREFUL &&
	       atomic_load_explicit(&p->rows[i / 64], memory_order_relaxed) >> i % 64 & 1;
}

bool conn_sound(const struct gateway *g, const struct conn *c)
{
	const struct conn_record *rec = conn_draft(c);
	const struct own *own = conn_own(c);

	if (!head_sound(c) || !request_sound(g, &rec->request) || !area_sound(g, own))
		return false;
	switch ((enum phase)own->phase) {
	case PHASE_READ:
		return own->continued <= 1;
	case PHASE_REPLY:
		return own->sent <= GATEWAY_OUT * g->body_max + 4096 && own->date < DATE_END;
	case PHASE_GENERATE:
		return reply_sound(g, rec, own);
	}
	return false;
}

/* What router knows of the connection's requests; 0 if it cannot be read. */
static uint64_t number_known(const struct gateway *g, uint32_t conn)
{
	const struct layout *l = &g->at.layout;
	size_t field = l->seq_off + conn * sizeof(struct router_seq) +
		       offsetof(struct router_seq, request);
	uint64_t number;

	return attach_read_u64(&g->at, OBJ_ROUTER, l->router_record, l->router_record_size, field,
			       &number)
		       ? number
		       : 0;
}

void conn_reset(struct gateway *g, struct conn *c)
{
	struct conn_record *rec = conn_draft(c);
	const struct own *own = conn_own(c);
	struct conn_head h = {.state = CONN_FREE};
	uint64_t number = number_known(g, c->i);

	if (c->i != CONN_HEALTH) {
		/* counts that agree with init's stay: init may be moving its own right now */
		h.life = c->in.life;
		h.rx_head = c->in.rx_tail - rec->head.rx_head <= CONN_RING ? rec->head.rx_head
									   : c->in.rx_tail;
		h.tx_tail = rec->head.tx_tail - c->in.tx_head <= CONN_RING ? rec->head.tx_tail
									   : c->in.tx_head;
		if (c->in.life != c->in.gone)
			h.state = CONN_CLOSING;
	}
	if (h.state == CONN_FREE) {
		h.rx_head = c->in.rx_tail;
		h.tx_tail = c->in.tx_head;
	}
	if (number > REQUEST_NUMBER_MAX - NUMBERS_SKIPPED)
		number = REQUEST_NUMBER_MAX - NUMBERS_SKIPPED;
	/* not of one that is only just inherited: its area may be another's */
	if (own->area && own->area <= CLIENT_BODIES && g->areas[own->area - 1] == c->i + 1)
		conn_release_area(g, c);
	memset(rec, 0, sizeof(*rec));
	rec->head = h;
	rec->request.number = number + NUMBERS_SKIPPED;
	c->announce = true;
	c->reading = c->following = c->asks_health = c->large = false;
	c->request_ns = c->since_ns = 0;
	if (g->out_conn == c->i)
		g->out_conn = CONNS;
	log_write(g->at.log, g->at.generation, LOG_BAD_RECORD, (const uint64_t[5]){c->i});
	conn_commit(g, c);
}

void rings_repair(struct gateway *g)
{
	const struct layout *l = &g->at.layout;
	struct client_record *rec = g->rings.draft;
	uint64_t head;

	if (!attach_read_u64(&g->at, OBJ_ROUTER, l->router_record, l->router_record_size,
			     offsetof(struct router_head, ring_head[2][0]), &head) ||
	    rec->announce_tail - head <= RING_ENTRIES_ANNOUNCE)
		return;
	rec->announce_tail = head; /* every connection is announced again anyway */
	record_touch(&g->rings, &rec->announce_tail, sizeof(rec->announce_tail));
	record_commit(&g->rings);
}
