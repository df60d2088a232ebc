/* tsan */
/*
 * Message rings and bells: every message arrives once and in order, hostile tails and messages are
 * refused, no wake-up is lost, sleeping costs no CPU.
 */
#include "ipc/bell.h"
#include "ipc/msg.h"
#include "ipc/record.h"
#include "ipc/ring.h"
#include "tests/tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	ENTRIES = 16,
	MESSAGES = 20000
};

/* Producer and consumer as two threads, each with its record, as two servers have them. */
struct end {
	uint64_t count;
};

static struct {
	struct msg ring[ENTRIES];
	_Alignas(64) unsigned char producer[sizeof(struct record_word) + 2 * 64];
	_Alignas(64) unsigned char consumer[sizeof(struct record_word) + 2 * 64];
	struct bell to_consumer, to_producer;
} shared;

static uint64_t peer(const void *record)
{
	uint64_t n;

	while (!record_read(record, sizeof(struct end), 0, &n, sizeof(n)))
		;
	return n;
}

static void *produce(void *unused)
{
	struct record r;

	(void)unused;
	record_open(&r, shared.producer, sizeof(struct end));
	for (uint64_t i = 0; i < MESSAGES; i++) {
		struct msg m = {.kind = MSG_ROUTE, .seq = i, .row0 = (uint32_t)(i * 2654435761u)};
		struct end *d = r.draft;

		while (!ring_put(shared.ring, ENTRIES, peer(shared.consumer), d->count, &m)) {
			bell_prepare(&shared.to_producer);
			if (d->count - peer(shared.consumer) < ENTRIES)
				bell_cancel(&shared.to_producer);
			else
				bell_wait(&shared.to_producer, UINT64_MAX);
		}
		record_touch(&r, d, sizeof(*d));
		d->count++;
		record_commit(&r);
		bell_ring(&shared.to_consumer);
	}
	return NULL;
}

static void test_stream(void)
{
	struct record r;
	pthread_t thread;
	unsigned wrong = 0;

	record_open(&r, shared.consumer, sizeof(struct end));
	if (!ok(pthread_create(&thread, NULL, produce, NULL) == 0, "a producer starts"))
		return;
	for (uint64_t i = 0; i < MESSAGES;) {
		struct end *d = r.draft;
		struct msg m;

		if (ring_peek(shared.ring, ENTRIES, d->count, peer(shared.producer), &m) != 1) {
			bell_prepare(&shared.to_consumer);
			if (peer(shared.producer) != d->count)
				bell_cancel(&shared.to_consumer);
			else
				bell_wait(&shared.to_consumer, UINT64_MAX);
			continue;
		}
		wrong += m.seq != i || m.row0 != (uint32_t)(i * 2654435761u);
		record_touch(&r, d, sizeof(*d));
		d->count++;
		record_commit(&r);
		bell_ring(&shared.to_producer);
		i++;
	}
	pthread_join(thread, NULL);
	is_int(wrong, 0, "%d messages arrive once, in order and whole, and no wake-up is lost",
	       MESSAGES);
}

static void test_hostile_tail(void)
{
	struct msg ring[ENTRIES] = {{0}}, m;

	is_int(ring_peek(ring, ENTRIES, 5, 5, &m), 0, "a ring whose tail is its head is empty");
	is_int(ring_peek(ring, ENTRIES, 5, 5 + ENTRIES, &m), 1, "a full ring has a message");
	is_int(ring_peek(ring, ENTRIES, 5, 6 + ENTRIES, &m), -EBADMSG,
	       "a tail beyond the ring is refused");
	is_int(ring_peek(ring, ENTRIES, 5, 4, &m), -EBADMSG, "a tail behind the head is refused");
	ok(!ring_put(ring, ENTRIES, 5, 5 + ENTRIES, &m), "a full ring takes nothing");
	ok(ring_put(ring, ENTRIES, 6, 5 + ENTRIES, &m), "a ring with one free entry takes one");
}

static const struct msg_bounds bounds = {.layers = 4, .rows = {8, 512}, .conns = 257};

static int check(struct msg m, enum msg_kind kind, uint32_t batch)
{
	struct err e = {0};
	int rc = msg_check(&m, kind, batch, &bounds, &e);

	return rc == 0 ? 0 : rc == -EBADMSG && e.text[0] ? -EBADMSG : 1;
}

static void test_messages(void)
{
	const struct msg good = {.kind = MSG_FEED, .seq = msg_seq(9, 4, 3), .layer = 2, .rows = 8};
	const struct msg finish = {
		.kind = MSG_FINISH, .seq = msg_seq(9, 4, 5), .layer = 3, .rows = 1};
	const struct msg announce = {.kind = MSG_ANNOUNCE, .seq = 1, .row0 = 256};
	struct msg m;

	is_int(check(good, MSG_FEED, 0), 0, "a good message passes");
	is_int(check(finish, MSG_FINISH, 0), 0, "FINISH is hop L + 1");
	is_int(check(announce, MSG_ANNOUNCE, 0), 0, "the last connection may announce");
	is_int(check(good, MSG_ROUTE, 0), -EBADMSG,
	       "a kind that does not belong into the ring is refused");
	is_int(check(good, MSG_FEED, 1), -EBADMSG, "a batch of another ring is refused");
#define REFUSED(field, value, text)                                                                \
	m = good;                                                                                  \
	m.field = value;                                                                           \
	is_int(check(m, MSG_FEED, 0), -EBADMSG, "%s", text)
	REFUSED(batch, 2, "batch 2 of 2 is refused");
	REFUSED(layer, 4, "layer 4 of 4 is refused");
	REFUSED(layer, 1, "a layer that is not the hop's is refused");
	REFUSED(seq, msg_seq(9, 4, 4), "a hop that is not the layer's is refused");
	REFUSED(rows, 9, "9 rows of 8 are refused");
	REFUSED(rows, UINT32_MAX, "rows that would wrap are refused");
	REFUSED(row0, 1, "a first row other than 0 is refused");
	REFUSED(zero[0], 1, "a reserved byte is refused");
	REFUSED(zero[31], 1, "the last one too");
	m = announce;
	m.row0 = 257;
	is_int(check(m, MSG_ANNOUNCE, 0), -EBADMSG, "connection 257 of 257 is refused");
}

static void test_random_messages(void)
{
	unsigned through = 0;

	srand(3);
	for (unsigned i = 0; i < 20000; i++) {
		struct err e = {0};
		struct msg m;

		for (size_t b = 0; b < sizeof(m); b++)
			((unsigned char *)&m)[b] = (unsigned char)rand();
		through += msg_check(&m, MSG_FEED, 0, &bounds, &e) == 0;
	}
	is_int(through, 0, "none of 20000 random messages passes (seed 3)");
}

static void test_timeout(void)
{
	struct bell b = {0};

	bell_prepare(&b);
	bell_wait(&b, 50 * 1000 * 1000);
	ok(true, "a wait with a deadline returns");
	is_int(atomic_load(&b.word), BELL_AWAKE, "and its sleeper is awake");
}

int main(void)
{
	test_hostile_tail();
	test_messages();
	test_random_messages();
	test_timeout();
	test_stream();
	return tap_done();
}
