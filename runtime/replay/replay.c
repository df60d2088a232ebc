/*
 * Runs the node's policy over a trace, with a table of slots that does what slots.c and routed.c
 * do: experts asked for in ascending order, pinned until computed. See replay.h.
 */
#include "runtime/replay/replay.h"

#include "runtime/experts/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const replay_names[REPLAY_POLICIES] = {[REPLAY_OURS] = "penstock",
						   [REPLAY_LRU] = "LRU",
						   [REPLAY_LFU] = "LFU",
						   [REPLAY_ARC] = "ARC",
						   [REPLAY_BELADY] = "Belady"};

/* The experts that a pass needs of one MoE layer, ascending, into id. Returns how many. */
static uint32_t active_of(const struct replay_trace *t, const struct replay_pass *pass,
			  uint32_t layer, uint8_t *mark, uint32_t *id)
{
	uint32_t n = 0;

	memset(mark, 0, t->experts);
	for (uint64_t r = pass->first; r < pass->first + pass->rows; r++) {
		const uint16_t *route = t->route + (r * t->moe_layers + layer) * t->top_k;

		for (uint32_t i = 0; i < t->top_k; i++)
			mark[route[i]] = 1;
	}
	for (uint32_t e = 0; e < t->experts; e++) {
		if (mark[e])
			id[n++] = e;
	}
	return n;
}

int replay_asks_make(struct replay_asks *a, const struct replay_trace *t)
{
	uint8_t *mark = malloc(t->experts);
	uint32_t *id = malloc(t->experts * sizeof(*id));
	uint64_t room = 0;

	*a = (struct replay_asks){.keys = replay_experts(t)};
	for (uint32_t p = 0; p < t->n_passes; p++) {
		uint64_t pairs = (uint64_t)t->pass[p].rows * t->top_k;

		room += t->moe_layers * (pairs < t->experts ? pairs : t->experts);
	}
	a->key = malloc(room * sizeof(*a->key));
	a->pass = malloc(room * sizeof(*a->pass));
	if (!mark || !id || !a->key || !a->pass) {
		free(mark);
		free(id);
		replay_asks_free(a);
		return -ENOMEM;
	}
	for (uint32_t p = 0; p < t->n_passes; p++) {
		for (uint32_t l = 0; l < t->moe_layers; l++) {
			uint32_t n = active_of(t, &t->pass[p], l, mark, id);

			for (uint32_t i = 0; i < n; i++, a->n++) {
				a->key[a->n] = l * t->experts + id[i];
				a->pass[a->n] = p;
			}
		}
	}
	free(mark);
	free(id);
	return 0;
}

void replay_asks_free(struct replay_asks *a)
{
	free(a->key);
	free(a->pass);
	*a = (struct replay_asks){0};
}

/* A table of slots without weights. */
struct table {
	struct policy policy;
	struct policy_head head;
	uint32_t *visits;
	struct policy_expert *known;
	uint32_t *map;   /* [layers][experts]: slot + 1 */
	uint32_t *owner; /* [slots]: layer * experts + expert + 1; 0: free */
	uint8_t *pinned; /* [slots] */
	uint32_t n, slots;
	/* of a step, [experts]: scratch; its experts, their slots, whether they were in one */
	uint8_t *mark, *hit;
	uint32_t *id, *slot;
	uint16_t *route; /* rows of one layer */
};

static bool may_take(void *context, uint32_t slot)
{
	const struct table *b = context;

	return !b->pinned[slot];
}

static bool table_open(struct table *b, const struct replay_trace *t, uint32_t slots)
{
	size_t all = (size_t)t->layers * t->experts;
	uint32_t rows = 0;

	*b = (struct table){.slots = slots};
	for (uint32_t p = 0; p < t->n_passes; p++)
		rows = t->pass[p].rows > rows ? t->pass[p].rows : rows;
	b->visits = calloc(t->layers, sizeof(*b->visits));
	b->known = calloc(all, sizeof(*b->known));
	b->map = calloc(all, sizeof(*b->map));
	b->owner = calloc(slots, sizeof(*b->owner));
	b->pinned = calloc(slots, 1);
	b->mark = calloc(t->experts, 1);
	b->hit = calloc(t->experts, 1);
	b->id = calloc(t->experts, sizeof(*b->id));
	b->slot = calloc(t->experts, sizeof(*b->slot));
	b->route = calloc((size_t)rows * t->top_k, sizeof(*b->route));
	return b->visits && b->known && b->map && b->owner && b->pinned && b->mark && b->hit &&
	       b->id && b->slot && b->route &&
	       policy_open(&b->policy, &b->head, b->visits, b->known, t->layers, t->experts,
			   b->map);
}

static void table_close(struct table *b)
{
	policy_close(&b->policy);
	free(b->visits);
	free(b->known);
	free(b->map);
	free(b->owner);
	free(b->pinned);
	free(b->mark);
	free(b->hit);
	free(b->id);
	free(b->slot);
	free(b->route);
}

/* Asks for expert id[i]; its slot is then pinned. False if every slot is pinned. */
static bool table_ask(struct table *b, const struct replay_trace *t, uint32_t pass, uint32_t layer,
		      uint32_t i, struct replay_count *out)
{
	uint32_t experts = b->policy.experts, expert = b->id[i];
	uint32_t *at = &b->map[(size_t)layer * experts + expert];

	b->hit[i] = *at != 0;
	if (!b->hit[i]) {
		uint32_t s = b->n < b->slots ? b->n++ : policy_victim(&b->policy, may_take, b);

		if (s == POLICY_NONE)
			return false;
		if (b->owner[s]) {
			b->map[b->owner[s] - 1] = 0;
			policy_moved(&b->policy, (b->owner[s] - 1) / experts);
		}
		b->owner[s] = layer * experts + expert + 1;
		*at = s + 1;
		policy_moved(&b->policy, layer);
	}
	b->slot[i] = *at - 1;
	b->pinned[b->slot[i]] = 1;
	policy_asked(&b->policy, layer, expert);
	replay_count(out, t, pass, b->hit[i]);
	return true;
}

/*
 * A large step as routed.c does it: ascending, computed one after the other, some asked for ahead.
 */
static void replay_ordered(struct table *b, const struct replay_trace *t, uint32_t pass,
			   uint32_t layer, uint32_t n, struct replay_count *out)
{
	uint32_t asked = 0, ahead = policy_ahead(b->slots, false);

	for (uint32_t i = 0; i < n; i++) {
		while (asked < n && asked < i + ahead && table_ask(b, t, pass, layer, asked, out))
			asked++;
		b->pinned[b->slot[i]] = 0;
	}
}

/*
 * A small step: what is there is computed whenever no more may be asked for, then what was asked
 * for first. A node takes what its drive delivers first, which is the same as long as slots are
 * many.
 */
static void replay_small(struct table *b, const struct replay_trace *t, uint32_t pass,
			 uint32_t layer, uint32_t n, struct replay_count *out)
{
	uint32_t asked = 0, computed = 0, ahead = policy_ahead(b->slots, true);

	memset(b->mark, 0, n);
	while (computed < n) {
		bool any = false;
		uint32_t first = n;

		while (asked < n && asked - computed < ahead &&
		       table_ask(b, t, pass, layer, asked, out))
			asked++;
		for (uint32_t i = 0; i < asked; i++) {
			if (b->mark[i])
				continue;
			if (b->hit[i])
				any = true;
			else
				first = first < i ? first : i;
		}
		for (uint32_t i = 0; i < asked; i++) {
			if (b->mark[i] || (any ? !b->hit[i] : i != first))
				continue;
			b->mark[i] = 1;
			b->pinned[b->slot[i]] = 0;
			computed++;
		}
	}
}

static void count_missed(const struct replay_trace *t, uint32_t pass, uint64_t missed,
			 struct replay_count *out)
{
	if (!t->pass[pass].prefill && pass >= t->count_from)
		out->missed[missed < REPLAY_MISSED ? missed : REPLAY_MISSED - 1]++;
}

static int run_ours(const struct replay_trace *t, uint32_t slots, struct replay_count *out)
{
	struct table b;
	bool good = table_open(&b, t, slots);

	for (uint32_t p = 0; good && p < t->n_passes; p++) {
		const struct replay_pass *pass = &t->pass[p];

		for (uint32_t l = 0; l < t->moe_layers; l++) {
			uint32_t n = active_of(t, pass, l, b.mark, b.id);
			uint64_t before;
			struct policy_step st = {.seq = (uint64_t)p * t->layers + l + 1,
						 .batch = pass->prefill ? BATCH_PREFILL
									: BATCH_DECODE,
						 .decode = !pass->prefill,
						 .layer = t->first_moe + l,
						 .rows = pass->rows,
						 .top_k = t->top_k,
						 .route = b.route};

			for (uint32_t r = 0; r < pass->rows; r++)
				memcpy(b.route + (size_t)r * t->top_k,
				       t->route +
					       ((pass->first + r) * t->moe_layers + l) * t->top_k,
				       t->top_k * sizeof(*b.route));
			before = out->decode_asked - out->decode_hits;
			policy_step(&b.policy, &st);
			if (pass->prefill && (uint64_t)pass->rows * t->top_k > t->chunk)
				replay_ordered(&b, t, p, st.layer, n, out);
			else
				replay_small(&b, t, p, st.layer, n, out);
			count_missed(t, p, out->decode_asked - out->decode_hits - before, out);
		}
	}
	table_close(&b);
	return good ? 0 : -ENOMEM;
}

int replay_run(const struct replay_trace *t, enum replay_policy policy, uint32_t slots,
	       struct replay_count *out)
{
	*out = (struct replay_count){0};
	return policy == REPLAY_OURS ? run_ours(t, slots, out)
				     : replay_known(t, policy, slots, out);
}
