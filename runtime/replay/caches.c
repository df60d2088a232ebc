/*
 * The policies that ours is measured against; see replay.h. LRU, LFU and Belady keep a key per
 * expert in a slot and give up the smallest; ARC (Megiddo and Modha, FAST 2003) keeps two lists and
 * the ghosts of two.
 */
#include "runtime/replay/replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- by key ---- */

/* A heap of keys, the smallest on top, that knows where each lies. */
struct heap {
	uint32_t *item; /* [n] */
	uint32_t *at;   /* [keys]: place in item + 1; 0: not there */
	double *rank;   /* [keys] */
	uint64_t *time; /* [keys]: decides between equal ranks, the older first */
	uint32_t n;
};

static bool heap_below(const struct heap *h, uint32_t a, uint32_t b)
{
	return h->rank[a] < h->rank[b] || (!(h->rank[b] < h->rank[a]) && h->time[a] < h->time[b]);
}

static void heap_put(struct heap *h, uint32_t place, uint32_t item)
{
	h->item[place] = item;
	h->at[item] = place + 1;
}

static void heap_up(struct heap *h, uint32_t place)
{
	uint32_t item = h->item[place];

	while (place && heap_below(h, item, h->item[(place - 1) / 2])) {
		heap_put(h, place, h->item[(place - 1) / 2]);
		place = (place - 1) / 2;
	}
	heap_put(h, place, item);
}

static void heap_down(struct heap *h, uint32_t place)
{
	uint32_t item = h->item[place];

	for (uint32_t child; (child = 2 * place + 1) < h->n; place = child) {
		if (child + 1 < h->n && heap_below(h, h->item[child + 1], h->item[child]))
			child++;
		if (!heap_below(h, h->item[child], item))
			break;
		heap_put(h, place, h->item[child]);
	}
	heap_put(h, place, item);
}

static void heap_pop(struct heap *h)
{
	h->at[h->item[0]] = 0;
	h->n--;
	if (h->n) {
		h->item[0] = h->item[h->n];
		heap_down(h, 0);
	}
}

/* A new rank for an item, which comes in if it is not there. */
static void heap_set(struct heap *h, uint32_t item, double rank, uint64_t time)
{
	if (!h->at[item])
		heap_put(h, h->n++, item);
	h->rank[item] = rank;
	h->time[item] = time;
	heap_up(h, h->at[item] - 1);
	heap_down(h, h->at[item] - 1);
}

static bool heap_open(struct heap *h, uint32_t keys)
{
	*h = (struct heap){.item = calloc(keys, sizeof(*h->item)),
			   .at = calloc(keys, sizeof(*h->at)),
			   .rank = calloc(keys, sizeof(*h->rank)),
			   .time = calloc(keys, sizeof(*h->time))};
	return h->item && h->at && h->rank && h->time;
}

static void heap_close(struct heap *h)
{
	free(h->item);
	free(h->at);
	free(h->rank);
	free(h->time);
}

/* For every ask the number of the next one of the same expert, or n. */
static uint64_t *next_uses(const struct replay_asks *a)
{
	uint64_t *next = malloc((a->n + 1) * sizeof(*next));
	uint64_t *seen = malloc((a->keys + 1ull) * sizeof(*seen));

	if (next && seen) {
		for (uint32_t k = 0; k < a->keys; k++)
			seen[k] = a->n;
		for (uint64_t i = a->n; i-- > 0;) {
			next[i] = seen[a->key[i]];
			seen[a->key[i]] = i;
		}
	} else {
		free(next);
		next = NULL;
	}
	free(seen);
	return next;
}

static int run_keyed(const struct replay_trace *t, const struct replay_asks *a,
		     enum replay_policy policy, double growth, uint32_t slots,
		     struct replay_count *out)
{
	const double too_large = 1e300;
	uint64_t *next = policy == REPLAY_BELADY ? next_uses(a) : NULL;
	double *count = calloc(a->keys, sizeof(*count)), unit = 1;
	struct heap h;
	bool good = heap_open(&h, a->keys) && count && (next || policy != REPLAY_BELADY);

	for (uint64_t i = 0; good && i < a->n; i++) {
		uint32_t k = a->key[i];
		bool hit = h.at[k] != 0;

		/* a use of today counts more, so that those of yesterday count less */
		for (uint32_t p = i ? a->pass[i - 1] : 0; p < a->pass[i] && unit < too_large; p++)
			unit *= growth;
		count[k] += unit;
		if (!hit && h.n == slots)
			heap_pop(&h);
		heap_set(&h, k,
			 policy == REPLAY_BELADY ? -(double)next[i]
			 : policy == REPLAY_LFU  ? count[k]
						 : (double)i,
			 i);
		replay_count(out, t, a->pass[i], hit);
	}
	free(next);
	free(count);
	heap_close(&h);
	return good ? 0 : -ENOMEM;
}

/*
 * LFU is as good as its memory is long, and which length is right depends on the trace: the best of
 * three, chosen afterwards.
 */
static int run_lfu(const struct replay_trace *t, const struct replay_asks *a, uint32_t slots,
		   struct replay_count *out)
{
	/* 2^(1/n): a use counts half after n passes, 8, 32 and 128 */
	const double growth[] = {1.0905077326652577, 1.0218971486541166, 1.0054299011128027};
	int rc = 0;

	for (unsigned i = 0; !rc && i < sizeof(growth) / sizeof(growth[0]); i++) {
		struct replay_count c = {0};

		rc = run_keyed(t, a, REPLAY_LFU, growth[i], slots, &c);
		if (c.hits >= out->hits)
			*out = c;
	}
	return rc;
}

/* ---- ARC ---- */

enum arc_list {
	ARC_OUT,
	ARC_T1, /* in a slot, used once of late */
	ARC_T2, /* in a slot, used more often */
	ARC_B1, /* ghosts: what T1 gave up */
	ARC_B2,
	ARC_LISTS
};

/* Lists through arrays: entry keys + l is the ring's head of list l; its next is the oldest. */
struct arc {
	uint32_t *next, *previous;
	uint8_t *list; /* [keys] */
	uint32_t keys, n[ARC_LISTS];
	double target; /* of T1's length */
};

static void arc_take(struct arc *a, uint32_t k)
{
	a->n[a->list[k]]--;
	a->next[a->previous[k]] = a->next[k];
	a->previous[a->next[k]] = a->previous[k];
}

static void arc_append(struct arc *a, uint32_t k, enum arc_list l)
{
	uint32_t head = a->keys + l;

	a->list[k] = (uint8_t)l;
	a->n[l]++;
	a->next[k] = head;
	a->previous[k] = a->previous[head];
	a->next[a->previous[k]] = k;
	a->previous[head] = k;
}

static void arc_move(struct arc *a, uint32_t k, enum arc_list l)
{
	arc_take(a, k);
	arc_append(a, k, l);
}

static uint32_t arc_oldest(const struct arc *a, enum arc_list l)
{
	return a->next[a->keys + l];
}

/* The paper's REPLACE. */
static void arc_replace(struct arc *a, bool in_b2)
{
	if (a->n[ARC_T1] &&
	    (a->n[ARC_T1] > a->target || (in_b2 && !(a->n[ARC_T1] < a->target)) || !a->n[ARC_T2]))
		arc_move(a, arc_oldest(a, ARC_T1), ARC_B1);
	else
		arc_move(a, arc_oldest(a, ARC_T2), ARC_B2);
}

static double ratio(uint32_t a, uint32_t b)
{
	return a > b ? (double)a / b : 1;
}

/* One ask; whether it was a hit. The paper's four cases. */
static bool arc_ask(struct arc *a, uint32_t k, uint32_t c)
{
	uint32_t *n = a->n;

	switch (a->list[k]) {
	case ARC_T1:
	case ARC_T2:
		arc_move(a, k, ARC_T2);
		return true;
	case ARC_B1:
		a->target += ratio(n[ARC_B2], n[ARC_B1]);
		a->target = a->target < c ? a->target : c;
		arc_replace(a, false);
		arc_move(a, k, ARC_T2);
		return false;
	case ARC_B2:
		a->target -= ratio(n[ARC_B1], n[ARC_B2]);
		a->target = a->target > 0 ? a->target : 0;
		arc_replace(a, true);
		arc_move(a, k, ARC_T2);
		return false;
	default:
		break;
	}
	if (n[ARC_T1] + n[ARC_B1] == c) {
		if (n[ARC_T1] < c) {
			arc_move(a, arc_oldest(a, ARC_B1), ARC_OUT);
			arc_replace(a, false);
		} else {
			arc_move(a, arc_oldest(a, ARC_T1), ARC_OUT);
		}
	} else if (n[ARC_T1] + n[ARC_T2] + n[ARC_B1] + n[ARC_B2] >= c) {
		if (n[ARC_T1] + n[ARC_T2] + n[ARC_B1] + n[ARC_B2] == 2 * c)
			arc_move(a, arc_oldest(a, ARC_B2), ARC_OUT);
		if (n[ARC_T1] + n[ARC_T2] >= c)
			arc_replace(a, false);
	}
	arc_move(a, k, ARC_T1);
	return false;
}

static int run_arc(const struct replay_trace *t, const struct replay_asks *asks, uint32_t slots,
		   struct replay_count *out)
{
	size_t places = (size_t)asks->keys + ARC_LISTS;
	struct arc a = {.keys = asks->keys,
			.next = calloc(places, sizeof(*a.next)),
			.previous = calloc(places, sizeof(*a.previous)),
			.list = calloc(places, 1)};
	bool good = a.next && a.previous && a.list;

	for (uint32_t l = 0; good && l < ARC_LISTS; l++)
		a.next[a.keys + l] = a.previous[a.keys + l] = a.keys + l;
	for (uint32_t k = 0; good && k < a.keys; k++)
		arc_append(&a, k, ARC_OUT);
	for (uint64_t i = 0; good && i < asks->n; i++)
		replay_count(out, t, asks->pass[i], arc_ask(&a, asks->key[i], slots));
	free(a.next);
	free(a.previous);
	free(a.list);
	return good ? 0 : -ENOMEM;
}

int replay_known(const struct replay_trace *t, enum replay_policy policy, uint32_t slots,
		 struct replay_count *out)
{
	struct replay_asks a;
	int rc = replay_asks_make(&a, t);

	if (rc)
		return rc;
	if (policy == REPLAY_ARC)
		rc = run_arc(t, &a, slots, out);
	else if (policy == REPLAY_LFU)
		rc = run_lfu(t, &a, slots, out);
	else
		rc = run_keyed(t, &a, policy, 1, slots, out);
	replay_asks_free(&a);
	return rc;
}
