/*
 * The sampler; see sampler.h. Candidates are gathered as (z, id) in ascending order of id; they are
 * sorted only where an option needs it (top_k, top_p), by a radix sort, which is stable: equal z
 * keep ascending ids. The draw itself looks for the largest z + noise and does not depend on any
 * order.
 */
#include "model/sampler.h"

#include "drivers/cpu/math.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
	DIGIT_BITS = 11,
	DIGITS = 3,
	BUCKETS = 1 << DIGIT_BITS
};

struct candidate {
	uint32_t key; /* rises as z falls; used by the sort */
	uint32_t id;
	float z;
};

struct draw {
	struct candidate *c, *spare; /* [vocab] each */
	size_t n;
	size_t max; /* index of the largest z, the lowest such id */
};

static size_t half_bytes(uint32_t vocab)
{
	return (vocab * sizeof(struct candidate) + 63) & ~(size_t)63;
}

size_t sampler_scratch_bytes(uint32_t vocab)
{
	return 2 * half_bytes(vocab);
}

static bool is_candidate(const uint8_t *candidates, uint32_t id)
{
	return !candidates || (candidates[id / 8] >> (id % 8) & 1);
}

/* An order-reversing map of floats to integers; -0 falls together with +0. */
static uint32_t descending_key(float z)
{
	uint32_t u;

	z = z + 0.0f;
	memcpy(&u, &z, sizeof(u));
	return u & 0x80000000u ? u : ~u & 0x7fffffffu;
}

/* z = logit / t of every candidate. */
static int gather(struct draw *d, const float *logits, uint32_t vocab, const uint8_t *candidates,
		  float t, struct err *e)
{
	d->n = d->max = 0;
	for (uint32_t id = 0; id < vocab; id++) {
		float z;

		if (!is_candidate(candidates, id))
			continue;
		if (!isfinite(logits[id]))
			return err_set(e, -EDOM, "sampler: the logit of token %u is not finite",
				       id);
		z = logits[id] / t;
		d->c[d->n] = (struct candidate){.key = descending_key(z), .id = id, .z = z};
		if (z > d->c[d->max].z)
			d->max = d->n;
		d->n++;
	}
	return d->n ? 0 : err_set(e, -ENOENT, "sampler: the tokenizer has none of the model's ids");
}

static void sort(struct draw *d)
{
	for (unsigned digit = 0; digit < DIGITS; digit++) {
		unsigned shift = digit * DIGIT_BITS;
		uint32_t at[BUCKETS] = {0}, sum = 0;
		struct candidate *swap = d->c;

		for (size_t i = 0; i < d->n; i++)
			at[d->c[i].key >> shift & (BUCKETS - 1)]++;
		for (unsigned b = 0; b < BUCKETS; b++) {
			uint32_t count = at[b];

			at[b] = sum;
			sum += count;
		}
		for (size_t i = 0; i < d->n; i++)
			d->spare[at[d->c[i].key >> shift & (BUCKETS - 1)]++] = d->c[i];
		d->c = d->spare;
		d->spare = swap;
	}
	d->max = 0;
}

static float probability(const struct draw *d, size_t i, float max)
{
	return exp_f32(d->c[i].z - max);
}

/* top_k, then top_p of what is left: cuts the sorted candidates. */
static void cut(struct draw *d, const struct sampler_options *o)
{
	double total = 0, reached = 0;
	float max = d->c[0].z;
	size_t keep = 0;

	if (o->top_k >= 1 && o->top_k < d->n)
		d->n = o->top_k;
	if (!(o->top_p < 1))
		return;
	for (size_t i = 0; i < d->n; i++)
		total += (double)probability(d, i, max);
	while (keep < d->n) {
		reached += (double)probability(d, keep++, max);
		if (reached >= o->top_p * total)
			break;
	}
	d->n = keep;
}

/* 52 random bits of one token at one position. */
static uint64_t random_bits(int64_t seed, uint64_t position, uint32_t id)
{
	uint32_t key[2] = {(uint32_t)(uint64_t)seed, (uint32_t)((uint64_t)seed >> 32)};
	uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), id, 0}, x[4];

	philox4x32(x, counter, key);
	return ((uint64_t)x[0] << 32 | x[1]) >> 12;
}

/* Gumbel noise. */
static double noise(uint64_t bits)
{
	return -log_f64(-log_f64(((double)bits + 0.5) * 0x1p-52));
}

/* The best z + noise so far. */
struct leader {
	double value;
	double lead; /* exp(largest z - value) */
	uint32_t id;
	bool exact; /* z so large that its rounding could matter below */
};

static void compete(struct leader *best, const struct candidate *c, uint64_t bits, float max)
{
	double value = (double)c->z + noise(bits);

	if (value > best->value || (value == best->value && c->id < best->id)) {
		best->value = value;
		best->id = c->id;
		best->lead = exp_f64((double)max - value);
	}
}

/*
 * Spares most candidates their two logarithms: z + g >= value means -log(u) <= exp(z - value) = p *
 * lead, and -log(u) is at least 1 - u. The factor is far more than all roundings while z is below
 * 2^30.
 */
static bool is_beaten(const struct leader *best, double p, uint64_t bits)
{
	double rest = (0x1p52 - (double)bits - 0.5) * 0x1p-52; /* 1 - u, exact */

	return !best->exact && rest > p * best->lead * (1 + 0x1p-10);
}

/*
 * The largest z + noise among those that min_p keeps (the largest z is one of them); ties to the
 * lower id.
 */
static uint32_t pick(const struct draw *d, const struct sampler_options *o, uint64_t position)
{
	const struct candidate *top = &d->c[d->max];
	struct leader best = {.value = -HUGE_VAL, .id = UINT32_MAX};

	best.exact = !(top->z < 0x1p30f && top->z > -0x1p30f);
	compete(&best, top, random_bits(o->seed, position, top->id), top->z);
	for (size_t i = 0; i < d->n; i++) {
		double p = (double)probability(d, i, top->z);
		uint64_t bits;

		if (o->min_p > 0 && !(p >= o->min_p))
			continue;
		bits = random_bits(o->seed, position, d->c[i].id);
		if (!is_beaten(&best, p, bits))
			compete(&best, &d->c[i], bits, top->z);
	}
	return best.id;
}

int sampler_draw(const struct sampler_options *o, const float *logits, uint32_t vocab,
		 const uint8_t *candidates, uint64_t position, void *scratch, uint32_t *token,
		 struct err *e)
{
	struct draw d = {.c = scratch, .spare = (void *)((char *)scratch + half_bytes(vocab))};
	float t = (float)o->temperature;
	bool greedy = t < 0x1p-20f;
	int rc = gather(&d, logits, vocab, candidates, greedy ? 1.0f : t, e);

	if (rc)
		return rc;
	if (greedy) {
		*token = d.c[d.max].id;
		return 0;
	}
	if (!isfinite(d.c[d.max].z))
		return err_set(e, -EDOM,
			       "sampler: the logit of token %u over the temperature is not finite",
			       d.c[d.max].id);
	if (o->top_k >= 1 || o->top_p < 1) {
		sort(&d);
		cut(&d, o);
	}
	*token = pick(&d, o, position);
	return 0;
}

/*
 * Puts (id, logit) into the n best so far, best first; ids come ascending, so an equal one goes
 * behind.
 */
static void insert(uint32_t *alt, double *alt_lp, uint32_t n, uint32_t id, double logit)
{
	uint32_t at = n;

	while (at && (alt[at - 1] == UINT32_MAX || logit > alt_lp[at - 1]))
		at--;
	if (at == n)
		return;
	memmove(alt + at + 1, alt + at, (n - at - 1) * sizeof(*alt));
	memmove(alt_lp + at + 1, alt_lp + at, (n - at - 1) * sizeof(*alt_lp));
	alt[at] = id;
	alt_lp[at] = logit;
}

double sampler_logprob(const float *logits, uint32_t vocab, const uint8_t *candidates,
		       uint32_t token, uint32_t n, uint32_t *alt, double *alt_lp)
{
	double max = -HUGE_VAL, sum = 0, log_sum;
	bool finite = true;

	for (uint32_t i = 0; i < n; i++) {
		alt[i] = UINT32_MAX;
		alt_lp[i] = -HUGE_VAL;
	}
	for (uint32_t id = 0; id < vocab; id++) {
		if (!is_candidate(candidates, id))
			continue;
		finite &= isfinite(logits[id]) != 0;
		if ((double)logits[id] > max)
			max = (double)logits[id];
		if (n)
			insert(alt, alt_lp, n, id, (double)logits[id]);
	}
	for (uint32_t id = 0; id < vocab && finite; id++)
		if (is_candidate(candidates, id))
			sum += exp_f64((double)logits[id] - max);
	log_sum = finite ? log_f64(sum) : (double)NAN;
	for (uint32_t i = 0; i < n; i++)
		if (alt[i] != UINT32_MAX)
			alt_lp[i] = alt_lp[i] - max - log_sum;
	if (token >= vocab || !is_candidate(candidates, token))
		return -HUGE_VAL;
	return (double)logits[token] - max - log_sum;
}
