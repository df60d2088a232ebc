/*
 * A server for the tests of init, under the name of the program it takes the place of: as `gateway` it echoes every byte of every connection
 * by the rules of ipc/conn.h (a client's line "quit" closes), else it only sleeps. It attaches like any server, so init's descriptors and
 * objects are checked by ipc/attach.c.
 */
#include "ipc/attach.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum role role_named(const char *program)
{
	for (unsigned r = ROLE_CLIENT; r < ROLE_COUNT; r++) {
		if (!strcmp(graph_roles[r].program, program))
			return (enum role)r;
	}
	return ROLE_COUNT;
}

/* Moves what fits from the in-ring to the out-ring; consuming and producing commit together. Returns whether anything was done. */
static bool echo(struct attach *a, unsigned i)
{
	struct conn_in *in = (struct conn_in *)attach_at(a, OBJ_CONNS, a->layout.conns_in) + i;
	const char *rx = attach_at(a, OBJ_CONNS, a->layout.conns_rx + (uint64_t)i * CONN_RING);
	char *tx = attach_at(a, OBJ_CLIENT, a->layout.client_tx + (uint64_t)i * CONN_RING);
	uint64_t life = atomic_load_explicit(&in->life, memory_order_acquire);
	uint64_t gone = atomic_load_explicit(&in->gone, memory_order_acquire);
	uint64_t eof = atomic_load_explicit(&in->eof, memory_order_acquire);
	uint64_t tail = atomic_load_explicit(&in->rx_tail, memory_order_acquire);
	uint64_t sent = atomic_load_explicit(&in->tx_head, memory_order_acquire);
	struct record r;
	struct conn_head *h;

	if (!life)
		return false;
	record_open(
		&r,
		attach_at(a, OBJ_CLIENT, a->layout.client_conn + i * a->layout.client_conn_stride),
		sizeof(struct conn_record));
	h = &((struct conn_record *)r.draft)->head;
	if (h->life == life && h->state == CONN_FREE)
		return false;
	if (gone == life) {
		*h = (struct conn_head){.life = life, .rx_head = tail, .tx_tail = sent};
	} else {
		bool quit = false;
		uint64_t before = h->rx_head;

		if (h->life == life && h->state == CONN_CLOSING)
			return false;
		while (h->rx_head < tail && h->tx_tail - sent < CONN_RING && !quit) {
			char c = rx[h->rx_head++ % CONN_RING];

			quit = c == '\004';
			tx[h->tx_tail++ % CONN_RING] = c;
		}
		quit |= eof == life && h->rx_head == tail;
		if (h->life == life && h->rx_head == before && !quit)
			return false;
		h->life = life;
		h->state = quit ? CONN_CLOSING : CONN_OPEN;
	}
	record_touch(&r, r.draft, sizeof(struct conn_record));
	record_commit(&r);
	return true;
}

static bool echo_all(struct attach *a)
{
	bool any = false;

	for (unsigned i = 0; i < CONNS; i++)
		any |= echo(a, i);
	if (!any)
		return false;
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_exchange(&a->bells->init_idle, 0)) {
		uint64_t one = 1;

		if (write(FD_BELL, &one, sizeof(one)) < 0)
			_exit(1);
	}
	return true;
}

int main(int argc, char **argv)
{
	static struct attach a;
	struct err e = {0};
	enum role role = role_named(argv[0]);
	struct bell *bell;

	(void)argc;
	if (role == ROLE_COUNT || attach_open(&a, role, &e)) {
		fprintf(stderr, "penstock: %s: %s\n", argv[0], e.text);
		return 1;
	}
	bell = &a.bells->bell[role][0];
	for (;;) {
		bell_prepare(bell);
		if (role == ROLE_CLIENT && echo_all(&a)) {
			bell_cancel(bell);
			continue;
		}
		bell_wait(bell, UINT64_MAX);
	}
}
