/*
 * The cache policy; see policy.h. Costs a pass over the experts of one layer per step and per
 * victim, never one over all slots.
 */
#include "runtime/experts/policy.h"

#include <stdlib.h>
#include <string.h>

#define LEAST_NONE UINT32_MAX /* of policy.least: no expert of the layer is in a slot */

enum {
	SHARE_SHIFT = 6,        /* a share forgets with a time constant of 64 visits */
	SHARE_ONE = 1024,       /* what one use adds: 65536 >> SHARE_SHIFT */
	PREFILL_ROWS = 128,     /* last rows of a chunk that count: twice the time constant */
	ODDS_SEEN_MAX = 1 << 16 /* then half of both is forgotten: models of late weigh more */
};

/* Ages 0 to 5 have a class each; then each class is half as long again as the one before. */
static const uint8_t age_end[POLICY_AGES - 1] = {1,  2,  3,  4,  5,  6,   8,  12,
						 18, 27, 40, 60, 90, 135, 202};

/* Two classes per power of two, the first below 1/256. */
static uint32_t share_class(uint32_t share)
{
	uint32_t bits;

	if (share < 256)
		return 0;
	bits = 31 - (uint32_t)__builtin_clz(share); /* 8 .. 15 */
	return 2 * (bits - 8) + (share >> (bits - 1) & 1);
}

static struct policy_odds *odds_of(const struct policy *p, const struct policy_expert *x,
				   uint32_t visits)
{
	uint32_t age = visits - x->last;

	if (!x->last || age > 255)
		age = 255;
	return &p->head->odds[p->age_class[age]][share_class(x->share)];
}

/*
 * What is believed before anything is seen: chances fall with age and rise with share. As little
 * weight as one token's experts have.
 */
static void guess(struct policy_head *h)
{
	for (uint32_t a = 0; a < POLICY_AGES; a++) {
		for (uint32_t s = 0; s < POLICY_SHARES; s++)
			h->odds[a][s] = (struct policy_odds){8, 4 / (1 + a) + s / 4};
	}
}

bool policy_open(struct policy *p, struct policy_head *head, uint32_t *visits,
		 struct policy_expert *known, uint32_t layers, uint32_t experts,
		 const uint32_t *map)
{
	bool good;

	*p = (struct policy){.head = head,
			     .visits = visits,
			     .known = known,
			     .map = map,
			     .layers = layers,
			     .experts = experts};
	p->least = calloc(layers, sizeof(*p->least));
	p->used = calloc(experts, 1);
	good = p->least && p->used;
	for (uint32_t b = 0; b < BATCHES; b++) {
		p->wanted[b] = calloc(experts, 1);
		p->wanted_layer[b] = layers;
		good = good && p->wanted[b];
	}
	for (uint32_t age = 0, c = 0; age < 256; age++) {
		c += c < POLICY_AGES - 1 && age >= age_end[c];
		p->age_class[age] = (uint8_t)c;
	}
	if (!head->odds[0][0].seen)
		guess(head);
	return good;
}

void policy_close(struct policy *p)
{
	free(p->least);
	free(p->used);
	for (uint32_t b = 0; b < BATCHES; b++)
		free(p->wanted[b]);
}

static void learn(struct policy_odds *o, bool used)
{
	o->seen++;
	o->used += used;
	if (o->seen >= ODDS_SEEN_MAX) {
		o->seen /= 2;
		o->used /= 2;
	}
}

/* One visit to a layer that used p->used. What prefill shows of chances is not decode's. */
static void visit(struct policy *p, uint32_t layer, bool decode)
{
	struct policy_expert *x = &p->known[(size_t)layer * p->experts];
	uint32_t before = p->visits[layer]++;

	for (uint32_t e = 0; e < p->experts; e++) {
		uint32_t share = x[e].share - (x[e].share >> SHARE_SHIFT);

		if (decode)
			learn(odds_of(p, &x[e], before), p->used[e]);
		if (p->used[e]) {
			share += SHARE_ONE;
			x[e].last = before + 1;
		}
		x[e].share = (uint16_t)(share < 65535 ? share : 65535);
	}
}

static void value_layer(struct policy *p, uint32_t layer)
{
	struct policy_expert *x = &p->known[(size_t)layer * p->experts];

	for (uint32_t e = 0; e < p->experts; e++) {
		const struct policy_odds *o = odds_of(p, &x[e], p->visits[layer]);
		uint64_t value = ((uint64_t)o->used << 16) / o->seen;

		x[e].value = (uint16_t)(value < 65535 ? value : 65535);
	}
	p->least[layer] = 0;
}

static void mark(const struct policy_step *st, uint32_t row, uint8_t *marks)
{
	if (st->error && st->error[row])
		return;
	for (uint32_t i = 0; i < st->top_k; i++)
		marks[st->route[(size_t)row * st->top_k + i]] = 1;
}

static void count_step(struct policy *p, const struct policy_step *st)
{
	uint32_t row = 0;

	if (st->decode) {
		memcpy(p->used, p->wanted[st->batch], p->experts);
		visit(p, st->layer, true);
	} else {
		if (st->rows > PREFILL_ROWS)
			row = st->rows - PREFILL_ROWS;
		for (; row < st->rows; row++) {
			memset(p->used, 0, p->experts);
			mark(st, row, p->used);
			visit(p, st->layer, false);
		}
	}
	value_layer(p, st->layer);
}

void policy_step(struct policy *p, const struct policy_step *st)
{
	p->now = st->layer;
	p->rows = st->decode ? 0 : st->rows;
	p->wanted_layer[st->batch] = st->layer;
	memset(p->wanted[st->batch], 0, p->experts);
	for (uint32_t row = 0; row < st->rows; row++)
		mark(st, row, p->wanted[st->batch]);
	if (p->head->seq[st->batch] == st->seq)
		return;
	p->head->seq[st->batch] = st->seq;
	count_step(p, st);
}

void policy_asked(struct policy *p, uint32_t layer, uint32_t expert)
{
	for (uint32_t b = 0; b < BATCHES; b++) {
		if (p->wanted_layer[b] == layer)
			p->wanted[b][expert] = 0;
	}
}

void policy_moved(struct policy *p, uint32_t layer)
{
	p->least[layer] = 0;
}

static bool is_wanted(const struct policy *p, uint32_t layer, uint32_t expert)
{
	for (uint32_t b = 0; b < BATCHES; b++) {
		if (p->wanted_layer[b] == layer && p->wanted[b][expert])
			return true;
	}
	return false;
}

/*
 * Of the layer's experts in slots that may go and that no step is about to ask for, the one of
 * least value; the lowest id of several. POLICY_NONE if there is none. Kept in least if no expert
 * had to be passed over, which would be another's turn later.
 */
static uint32_t layer_least(struct policy *p, uint32_t layer, bool (*may)(void *, uint32_t),
			    void *context)
{
	const uint32_t *map = &p->map[(size_t)layer * p->experts];
	const struct policy_expert *x = &p->known[(size_t)layer * p->experts];
	uint32_t best = POLICY_NONE;
	bool passed = false;

	for (uint32_t e = 0; e < p->experts; e++) {
		if (!map[e] || (best != POLICY_NONE && x[e].value >= x[best].value))
			continue;
		if (is_wanted(p, layer, e) || !may(context, map[e] - 1))
			passed = true;
		else
			best = e;
	}
	if (!passed)
		p->least[layer] = best == POLICY_NONE ? LEAST_NONE : best + 1;
	return best;
}

/*
 * Passes until an expert's next use, as far as can be told: its layer's next visit is part of a
 * pass away, and each visit uses it with the same chance. In a prefill the visits of this pass that
 * are still to come have a chance for each of its rows.
 */
static double wait_for(const struct policy *p, uint32_t layer, uint32_t value)
{
	double layers = p->layers, chance = (value + 1) / 65536.0;
	double away =
		(layer > p->now ? layer - p->now - 1 : layer + p->layers - p->now - 1) / layers;
	double misses = 1 / chance - 1;

	if (p->rows && layer > p->now)
		misses /= 1 + p->rows * chance;
	return away + misses;
}

/* With nothing else to be had: the wanted expert that is asked for last. */
static uint32_t last_wanted(const struct policy *p, bool (*may)(void *, uint32_t), void *context)
{
	for (uint32_t b = BATCHES; b-- > 0;) {
		const uint32_t *map = &p->map[(size_t)p->wanted_layer[b] * p->experts];

		if (p->wanted_layer[b] >= p->layers)
			continue;
		for (uint32_t e = p->experts; e-- > 0;) {
			if (map[e] && p->wanted[b][e] && may(context, map[e] - 1))
				return map[e] - 1;
		}
	}
	return POLICY_NONE;
}

uint32_t policy_victim(struct policy *p, bool (*may)(void *, uint32_t), void *context)
{
	uint32_t best = POLICY_NONE;
	double longest = -1;

	for (uint32_t l = 0; l < p->layers; l++) {
		const uint32_t *map = &p->map[(size_t)l * p->experts];
		uint32_t e = p->least[l] - 1;
		double wait;

		if (p->least[l] == LEAST_NONE)
			continue;
		if (!p->least[l] || is_wanted(p, l, e) || !may(context, map[e] - 1))
			e = layer_least(p, l, may, context);
		if (e == POLICY_NONE)
			continue;
		wait = wait_for(p, l, p->known[(size_t)l * p->experts + e].value);
		if (wait > longest) {
			longest = wait;
			best = map[e] - 1;
		}
	}
	return best == POLICY_NONE ? last_wanted(p, may, context) : best;
}
