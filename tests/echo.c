/* The echo gateway; see echo.h. */
#include "tests/echo.h"

#include "ipc/record.h"

#include <unistd.h>

struct side {
	uint64_t life, gone, eof, tail, sent; /* what init says */
	const char *rx;
	char *tx;
};

static void read_side(struct side *s, const struct layout *l, char *client, char *conns, unsigned i)
{
	struct conn_in *in = (struct conn_in *)(void *)(conns + l->conns_in) + i;

	s->life = atomic_load_explicit(&in->life, memory_order_acquire);
	s->gone = atomic_load_explicit(&in->gone, memory_order_acquire);
	s->eof = atomic_load_explicit(&in->eof, memory_order_acquire);
	/* after eof: what was received before it is counted */
	s->tail = atomic_load_explicit(&in->rx_tail, memory_order_acquire);
	s->sent = atomic_load_explicit(&in->tx_head, memory_order_acquire);
	s->rx = conns + l->conns_rx + (uint64_t)i * CONN_RING;
	s->tx = client + l->client_tx + (uint64_t)i * CONN_RING;
}

/*
 * Moves what fits from the in-ring to the out-ring. Returns whether the connection is to be closed.
 */
static bool copy(struct conn_head *h, const struct side *s)
{
	while (h->rx_head < s->tail && h->tx_tail - s->sent < CONN_RING) {
		char c = s->rx[h->rx_head++ % CONN_RING];

		s->tx[h->tx_tail++ % CONN_RING] = c;
		if (c == '\004')
			return true;
	}
	return s->eof == s->life && h->rx_head == s->tail;
}

static bool echo(const struct layout *l, char *client, char *conns, unsigned i)
{
	struct side s;
	struct record r;
	struct conn_head *h, before;

	read_side(&s, l, client, conns, i);
	if (!s.life)
		return false;
	record_open(&r, client + l->client_conn + i * l->client_conn_stride,
		    sizeof(struct conn_record));
	h = &((struct conn_record *)r.draft)->head;
	before = *h;
	if (s.gone == s.life) {
		*h = (struct conn_head){.life = s.life, .rx_head = s.tail, .tx_tail = s.sent};
	} else if (h->life != s.life || h->state == CONN_OPEN) {
		h->life = s.life;
		h->state = copy(h, &s) ? CONN_CLOSING : CONN_OPEN;
	}
	if (h->life == before.life && h->state == before.state && h->rx_head == before.rx_head &&
	    h->tx_tail == before.tx_tail)
		return false;
	record_touch(&r, r.draft, sizeof(struct conn_record));
	record_commit(&r); /* consumed and produced in one store */
	return true;
}

bool echo_all(const struct layout *l, char *client, char *conns)
{
	bool any = false;

	for (unsigned i = 0; i < CONNS; i++)
		any |= echo(l, client, conns, i);
	return any;
}

void echo_tell(struct bells *bells, int bell_fd)
{
	uint64_t one = 1;

	/* seq_cst: orders the commit before the exchange; pairs with the fence in init's loop */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_exchange(&bells->init_idle, 0) && write(bell_fd, &one, sizeof(one)) < 0)
		_exit(1);
}
