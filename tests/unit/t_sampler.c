/*
 * The sampler: published answers of Philox, a second implementation of arithmetic 12 (plain loops,
 * the C library's log) on random cases, and the edges of every option.
 */
#include "drivers/cpu/kernels.h"
#include "model/sampler.h"
#include "tests/tap.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	VOCAB = 300,
	CASES = 3000
};

static uint64_t state = 0x1234567;

static uint32_t next32(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 32);
}

static float next_float(void)
{
	return (float)((double)next32() * 0x1p-32);
}

static void *scratch;
static float logits[VOCAB];
static const struct sampler_options neutral = {.temperature = 1, .top_p = 1};

static uint32_t draw(const struct sampler_options *o, const uint8_t *candidates, uint64_t position)
{
	struct err e = {0};
	uint32_t token = UINT32_MAX;

	if (sampler_draw(o, logits, VOCAB, candidates, position, scratch, &token, &e))
		return UINT32_MAX - 1;
	return token;
}

static void check_philox(void)
{
	static const uint32_t in[3][6] = {
		{0},
		{UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
		{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0},
	};
	static const uint32_t want[3][4] = {
		{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
		{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
	};
	uint32_t out[4];

	for (int i = 0; i < 3; i++) {
		philox4x32(out, in[i], in[i] + 4);
		is_mem(out, want[i], sizeof(out), "Philox4x32-10 gives known answer %d", i);
	}
}

/* The same rules, written again: order by repeated search, logarithms by the C library. */
struct ref {
	uint32_t id[VOCAB];
	float z[VOCAB];
	double p[VOCAB];
	size_t n;
};

static void ref_sorted(struct ref *r, float t, const uint8_t *candidates)
{
	bool used[VOCAB] = {false};

	for (r->n = 0;; r->n++) {
		uint32_t best = VOCAB;

		for (uint32_t id = 0; id < VOCAB; id++)
			if (!used[id] && (!candidates || candidates[id / 8] >> id % 8 & 1) &&
			    (best == VOCAB || logits[id] / t > logits[best] / t))
				best = id;
		if (best == VOCAB)
			return;
		used[best] = true;
		r->id[r->n] = best;
		r->z[r->n] = logits[best] / t;
		r->p[r->n] = exp((double)(r->z[r->n] - r->z[0]));
	}
}

static double ref_noise(int64_t seed, uint64_t position, uint32_t id)
{
	uint32_t key[2], counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), id, 0}, x[4];
	uint64_t n;

	memcpy(key, &seed, 8);
	philox4x32(x, counter, key);
	n = (uint64_t)x[0] << 20 | x[1] >> 12;
	return -log(-log(((double)n + 0.5) / 4503599627370496.0));
}

static uint32_t ref_draw(const struct sampler_options *o, const uint8_t *candidates,
			 uint64_t position)
{
	struct ref r;
	double total = 0, cumulative = 0, best = -HUGE_VAL;
	uint32_t token = UINT32_MAX;
	size_t keep = 0;

	ref_sorted(&r, (float)o->temperature, candidates);
	if (o->top_k && o->top_k < r.n)
		r.n = o->top_k;
	for (size_t i = 0; i < r.n; i++)
		total += r.p[i];
	while (keep < r.n && cumulative < o->top_p * total)
		cumulative += r.p[keep++];
	if (o->top_p < 1)
		r.n = keep;
	for (size_t i = 0; i < r.n; i++) {
		double v = (double)r.z[i] + ref_noise(o->seed, position, r.id[i]);

		if (r.p[i] >= o->min_p && (v > best || (v == best && r.id[i] < token))) {
			best = v;
			token = r.id[i];
		}
	}
	return token;
}

static void check_against_reference(void)
{
	unsigned wrong = 0;
	uint8_t mask[(VOCAB + 7) / 8];

	for (unsigned c = 0; c < CASES; c++) {
		struct sampler_options o = {
			.temperature = 0.2 + 2 * (double)next_float(),
			.top_k = next32() % 3 ? 0 : next32() % 40,
			.top_p = next32() % 2 ? 1 : (double)next_float() + 1e-3,
			.min_p = next32() % 2 ? 0 : 0.3 * (double)next_float(),
			.seed = (int64_t)((uint64_t)next32() << 32 | next32()),
		};
		uint64_t position = (uint64_t)(next32() & 1) << 32 | next32();
		const uint8_t *candidates = next32() % 2 ? mask : NULL;

		o.top_p = o.top_p > 1 ? 1 : o.top_p;
		for (size_t i = 0; i < sizeof(mask); i++)
			mask[i] = (uint8_t)next32();
		mask[3] |= 1;
		/* coarse steps, so that equal logits are common */
		for (size_t i = 0; i < VOCAB; i++)
			logits[i] = floorf(next_float() * 64) / 4 - 8;
		if (draw(&o, candidates, position) != ref_draw(&o, candidates, position)) {
			wrong++;
			diag("case %u: temperature %g top_k %u top_p %g min_p %g seed %lld", c,
			     o.temperature, o.top_k, o.top_p, o.min_p, (long long)o.seed);
		}
	}
	is_int(wrong, 0, "%d random cases draw as a second implementation does", CASES);
}

static void check_options(void)
{
	struct sampler_options o = neutral;
	uint8_t mask[(VOCAB + 7) / 8] = {0};
	unsigned seen = 0, differ = 0;

	for (size_t i = 0; i < VOCAB; i++)
		logits[i] = -10;
	logits[7] = logits[20] = 3;
	o.temperature = 0;
	is_int(draw(&o, NULL, 5), 7, "temperature 0 takes the best, the lower id of two");
	o.temperature = 0x1p-21;
	is_int(draw(&o, NULL, 5), 7, "so does a temperature below 2^-20");
	mask[20 / 8] |= 1 << 20 % 8;
	mask[40 / 8] |= 1 << 40 % 8;
	is_int(draw(&o, mask, 5), 20, "only candidates count");
	o = neutral;
	o.top_k = 1;
	for (uint64_t p = 0; p < 50; p++)
		seen += draw(&o, NULL, p) == 7;
	is_int(seen, 50, "top_k 1 is the best, the lower id of two");
	o = neutral;
	o.top_p = 1e-9;
	for (uint64_t p = 0; p < 50; p++)
		seen += draw(&o, NULL, p) == 7;
	is_int(seen, 100, "a tiny top_p keeps the first candidate");
	o = neutral;
	o.min_p = 1;
	for (uint64_t p = 0; p < 200; p++)
		seen += draw(&o, NULL, p) == 20;
	ok(seen > 150 && seen < 250, "min_p 1 keeps the best and its equals (%u of 200)",
	   seen - 100);
	logits[7] = -0.0f;
	logits[20] = 0.0f;
	o.temperature = 0;
	is_int(draw(&o, NULL, 5), 7, "-0 and +0 are equal, the lower id wins");
	for (size_t i = 0; i < VOCAB; i++)
		logits[i] = 0;
	o = neutral;
	for (uint64_t p = 0; p < 100; p++) {
		struct sampler_options high = o;

		high.seed = (int64_t)1 << 40;
		differ += draw(&o, NULL, p) != draw(&high, NULL, p);
		differ += draw(&o, NULL, p) != draw(&o, NULL, p | (uint64_t)1 << 40);
		differ += draw(&o, NULL, p) == draw(&o, NULL, p) ? 0 : 1000;
	}
	ok(differ > 150 && differ <= 200,
	   "all 64 bits of seed and position count, and nothing else");
}

/* Chi-square over 8 tokens, 20000 positions; 24.3 is the 0.1 % point for 7 degrees. */
static void check_distribution(void)
{
	struct sampler_options o = neutral;
	unsigned count[8] = {0};
	double sum = 0, chi = 0;

	for (size_t i = 0; i < VOCAB; i++)
		logits[i] = -1000;
	for (size_t i = 0; i < 8; i++) {
		logits[i] = (float)i / 3;
		sum += exp((double)logits[i] / 1.5);
	}
	o.temperature = 1.5;
	o.seed = -5;
	for (uint64_t p = 0; p < 20000; p++)
		count[draw(&o, NULL, p) & 7]++;
	for (size_t i = 0; i < 8; i++) {
		double want = 20000 * exp((double)logits[i] / 1.5) / sum;

		chi += (count[i] - want) * (count[i] - want) / want;
	}
	ok(chi < 24.3, "tokens come with the probabilities of softmax (chi-square %.1f)", chi);
}

static void check_refusals(void)
{
	static const float bad[] = {NAN, INFINITY, -INFINITY};
	struct sampler_options o = neutral;
	uint8_t mask[(VOCAB + 7) / 8] = {1};
	struct err e = {0};
	uint32_t token;

	for (size_t i = 0; i < VOCAB; i++)
		logits[i] = 0;
	for (int i = 0; i < 3; i++) {
		logits[100] = bad[i];
		memset(&e, 0, sizeof(e));
		is_int(sampler_draw(&o, logits, VOCAB, NULL, 0, scratch, &token, &e), -EDOM,
		       "a logit of %g is an error: %s", (double)bad[i], e.text);
		is_int(sampler_draw(&o, logits, VOCAB, mask, 0, scratch, &token, &e), 0,
		       "unless it belongs to no candidate");
	}
	logits[100] = 3e38f;
	o.temperature = 0.001;
	is_int(sampler_draw(&o, logits, VOCAB, NULL, 0, scratch, &token, &e), -EDOM,
	       "a logit that overflows over the temperature is an error");
	memset(mask, 0, sizeof(mask));
	is_int(sampler_draw(&o, logits, VOCAB, mask, 0, scratch, &token, &e), -ENOENT,
	       "no candidate is an error");
}

static void check_logprobs(void)
{
	uint32_t alt[4];
	double alt_lp[4], sum = 0, worst = 0, lp;
	uint8_t mask[(VOCAB + 7) / 8] = {0};

	for (size_t i = 0; i < VOCAB; i++) {
		logits[i] = 10 * next_float();
		sum += exp((double)logits[i]);
	}
	logits[33] = logits[12] = 20;
	sum = 0;
	for (size_t i = 0; i < VOCAB; i++)
		sum += exp((double)logits[i]);
	for (uint32_t i = 0; i < VOCAB; i++)
		worst = fmax(worst, fabs(sampler_logprob(logits, VOCAB, NULL, i, 0, NULL, NULL) -
					 ((double)logits[i] - log(sum))));
	ok(worst < 1e-13, "log-probabilities are those of softmax (worst %g)", worst);
	lp = sampler_logprob(logits, VOCAB, NULL, 12, 4, alt, alt_lp);
	is_near(lp, alt_lp[0], 0, "the best alternative has its own log-probability");
	ok(alt[0] == 12 && alt[1] == 33 && alt_lp[1] >= alt_lp[2] && alt_lp[2] >= alt_lp[3],
	   "alternatives come best first, the lower id of two");
	mask[33 / 8] |= 1 << 33 % 8;
	lp = sampler_logprob(logits, VOCAB, mask, 33, 4, alt, alt_lp);
	is_near(lp, 0, 0, "a single candidate has probability 1");
	ok(alt[0] == 33 && alt[1] == UINT32_MAX, "missing alternatives are marked");
	ok(isinf(sampler_logprob(logits, VOCAB, mask, 12, 0, NULL, NULL)),
	   "no candidate: minus infinity");
	logits[33] = NAN;
	ok(isnan(sampler_logprob(logits, VOCAB, NULL, 5, 0, NULL, NULL)),
	   "a NaN among the candidates gives NaN");
}

int main(void)
{
	scratch = aligned_alloc(64, sampler_scratch_bytes(VOCAB));
	cpu_thread_init();
	check_philox();
	check_against_reference();
	check_options();
	check_distribution();
	check_refusals();
	check_logprobs();
	free(scratch);
	return tap_done();
}
