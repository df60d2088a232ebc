/*
 * The cache policy: what it gives up, what it keeps, what it learns, and that a successor decides
 * as its predecessor would have.
 */
#include "runtime/experts/policy.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <string.h>

enum {
	LAYERS = 4,
	EXPERTS = 16,
	SLOTS = 12,
	ALL = LAYERS * EXPERTS
};

/* A cache without weights: free slots first, then the policy's choice. */
struct cache {
	struct policy policy;
	struct policy_head head;
	uint32_t visits[LAYERS];
	struct policy_expert known[ALL];
	uint32_t map[ALL];
	uint32_t owner[SLOTS]; /* layer * EXPERTS + expert */
	uint32_t n, slots;
	uint8_t pinned[SLOTS];
	uint64_t seq;
	unsigned hits, asked;
};

static bool may(void *context, uint32_t slot)
{
	return !((const struct cache *)context)->pinned[slot];
}

static bool may_not(void *context, uint32_t slot)
{
	(void)context;
	(void)slot;
	return false;
}

static void open_cache(struct cache *c, uint32_t slots)
{
	memset(c, 0, sizeof(*c));
	c->slots = slots;
	if (!policy_open(&c->policy, &c->head, c->visits, c->known, LAYERS, EXPERTS, c->map))
		abort();
}

static void put(struct cache *c, uint32_t layer, uint32_t expert, uint32_t slot)
{
	if (slot < c->n) {
		c->map[c->owner[slot]] = 0;
		policy_moved(&c->policy, c->owner[slot] / EXPERTS);
	} else {
		c->n++;
	}
	c->owner[slot] = layer * EXPERTS + expert;
	c->map[c->owner[slot]] = slot + 1;
	policy_moved(&c->policy, layer);
}

static void step(struct cache *c, uint32_t batch, uint32_t layer, const uint16_t *route,
		 uint32_t rows, uint32_t top_k)
{
	policy_step(&c->policy, &(struct policy_step){.seq = ++c->seq,
						      .batch = batch,
						      .decode = batch == BATCH_DECODE,
						      .layer = layer,
						      .rows = rows,
						      .top_k = top_k,
						      .route = route});
}

static void ask(struct cache *c, uint32_t layer, uint32_t expert)
{
	c->asked++;
	if (c->map[layer * EXPERTS + expert])
		c->hits++;
	else
		put(c, layer, expert, c->n < c->slots ? c->n : policy_victim(&c->policy, may, c));
	policy_asked(&c->policy, layer, expert);
}

/* A decode pass that uses the same experts in every layer. */
static void pass(struct cache *c, const uint16_t *route, uint32_t top_k)
{
	for (uint32_t l = 0; l < LAYERS; l++) {
		step(c, BATCH_DECODE, l, route, 1, top_k);
		for (uint32_t i = 0; i < top_k; i++)
			ask(c, l, route[i]);
	}
}

static void test_victims(void)
{
	static struct cache c;
	const uint16_t first[2] = {3, 5}, second[2] = {3, 7};

	open_cache(&c, 2);
	is_int(policy_victim(&c.policy, may, &c), POLICY_NONE, "an empty cache has no victim");
	put(&c, 0, 3, 0);
	put(&c, 1, 9, 1);
	step(&c, BATCH_DECODE, 0, first, 1, 2);
	is_int(policy_victim(&c.policy, may, &c), 1,
	       "what the step has yet to ask for stays if anything else can go");
	c.pinned[1] = 1;
	is_int(policy_victim(&c.policy, may, &c), 0, "and goes if nothing else can");
	c.pinned[1] = 0;
	is_int(policy_victim(&c.policy, may_not, &c), POLICY_NONE,
	       "with everything pinned there is no victim");
	policy_asked(&c.policy, 0, 3);
	step(&c, BATCH_DECODE, 0, second, 1, 2);
	put(&c, 0, 5, 1);
	is_int(policy_victim(&c.policy, may, &c), 1, "an expert asked for before goes first");
	policy_close(&c.policy);
}

static void test_frequent_stay(void)
{
	static struct cache c;
	uint16_t route[2] = {4, 0};

	open_cache(&c, SLOTS);
	for (uint32_t i = 0; i < 200; i++) {
		route[0] = 4;
		route[1] = (uint16_t)(5 + i * 7 % 11);
		pass(&c, route, 2);
	}
	c.hits = c.asked = 0;
	for (uint32_t i = 0; i < 20; i++) {
		route[1] = (uint16_t)(5 + i * 7 % 11);
		pass(&c, route, 2);
	}
	ok(c.hits >= 20 * LAYERS, "what every pass uses stays, whatever passes by: %u of %u hits",
	   c.hits, c.asked);
	policy_close(&c.policy);
}

static void test_sweep(void)
{
	static struct cache c;
	static uint16_t all[EXPERTS];
	const uint16_t hot[2] = {2, 11};
	unsigned kept = 0, hits;

	for (uint32_t e = 0; e < EXPERTS; e++)
		all[e] = (uint16_t)e;
	open_cache(&c, SLOTS);
	for (uint32_t i = 0; i < 50; i++)
		pass(&c, hot, 2);
	c.hits = 0;
	for (uint32_t l = 0; l < LAYERS; l++) {
		step(&c, BATCH_PREFILL, l, all, 1, EXPERTS);
		for (uint32_t e = 0; e < EXPERTS; e++)
			ask(&c, l, e);
	}
	hits = c.hits;
	for (uint32_t l = 0; l < LAYERS; l++) {
		for (uint32_t i = 0; i < 2; i++)
			kept += c.map[l * EXPERTS + hot[i]] != 0;
	}
	is_int(kept, 2 * LAYERS, "a prefill that needs every expert leaves decode's own in place");
	ok(hits >= 2 * LAYERS, "and finds them there: %u hits", hits);
	policy_close(&c.policy);
}

static void test_cycle(void)
{
	static struct cache c;
	static uint16_t all[EXPERTS];

	for (uint32_t e = 0; e < EXPERTS; e++)
		all[e] = (uint16_t)e;
	open_cache(&c, SLOTS);
	for (uint32_t i = 0; i < 20; i++) {
		for (uint32_t l = 0; l < LAYERS; l++) {
			step(&c, BATCH_PREFILL, l, all, 1, EXPERTS);
			for (uint32_t e = 0; e < EXPERTS; e++)
				ask(&c, l, e);
		}
	}
	ok(c.hits * ALL >= c.asked * (SLOTS - 2u) * 9 / 10,
	   "passes that need every expert still find most of those that fit: %u of %u asked, %d of "
	   "%d fit",
	   c.hits, c.asked, SLOTS, ALL);
	policy_close(&c.policy);
}

static void test_counts_once(void)
{
	static struct cache c, d;
	const uint16_t route[4] = {1, 2, 3, 4};
	const uint64_t error[2] = {0, 7};
	struct policy_step st = {
		.seq = 9, .decode = true, .layer = 1, .rows = 2, .top_k = 2, .route = route};

	open_cache(&c, SLOTS);
	open_cache(&d, SLOTS);
	policy_step(&c.policy, &st);
	policy_step(&d.policy, &st);
	policy_step(&d.policy, &st);
	ok(!memcmp(c.known, d.known, sizeof(c.known)) && !memcmp(&c.head, &d.head, sizeof(c.head)),
	   "a step that is done again counts once");
	is_int(c.visits[1], 1, "a decode step of several rows is one visit");
	st.seq = 10;
	st.layer = 2;
	st.error = error;
	policy_step(&c.policy, &st);
	ok(c.known[2 * EXPERTS + 1].last && !c.known[2 * EXPERTS + 3].last,
	   "a row that has failed does not count");
	st.batch = BATCH_PREFILL;
	st.decode = false;
	st.seq = 11;
	st.error = NULL;
	policy_step(&c.policy, &st);
	is_int(c.visits[2], 3, "each row of a prefill is a visit");
	policy_close(&c.policy);
	policy_close(&d.policy);
}

static uint32_t draw(uint32_t *state)
{
	return (*state = *state * 1664525u + 1013904223u) >> 8;
}

/* Opens a policy on a copy of what is shared, as a successor does that redoes the step. */
static uint32_t successor(const struct cache *c, const struct policy_step *st, uint32_t asked)
{
	static struct cache copy;
	uint32_t victim;

	copy = *c;
	if (!policy_open(&copy.policy, &copy.head, copy.visits, copy.known, LAYERS, EXPERTS,
			 copy.map))
		abort();
	policy_step(&copy.policy, st);
	for (uint32_t i = 0; i < asked; i++)
		policy_asked(&copy.policy, st->layer, st->route[i]);
	victim = policy_victim(&copy.policy, may, &copy);
	policy_close(&copy.policy);
	return victim;
}

static void test_successor(void)
{
	static struct cache c;
	uint32_t state = 5, same = 0, all = 0;

	open_cache(&c, SLOTS);
	for (uint32_t i = 0; i < 2000; i++) {
		uint16_t route[2];
		struct policy_step st = {.seq = i + 1,
					 .batch = i % 50 == 7 ? BATCH_PREFILL : BATCH_DECODE,
					 .decode = i % 50 != 7,
					 .layer = i % LAYERS,
					 .rows = 1,
					 .top_k = 2,
					 .route = route};

		route[0] = (uint16_t)(draw(&state) % 8 * (draw(&state) % 2));
		route[1] = (uint16_t)(route[0] + 1 + draw(&state) % 8);
		policy_step(&c.policy, &st);
		for (uint32_t k = 0; k < 2; k++) {
			if (c.n == SLOTS) {
				all++;
				same += successor(&c, &st, k) == policy_victim(&c.policy, may, &c);
			}
			ask(&c, st.layer, route[k]);
		}
	}
	is_int(same, all, "a successor gives up what its predecessor would have, every time");
	policy_close(&c.policy);
}

int main(void)
{
	test_victims();
	test_frequent_stay();
	test_sweep();
	test_cycle();
	test_counts_once();
	test_successor();
	return tap_done();
}
