/*
 * Routes made up so that caches see what they see of published models; see replay.h. The spreads
 * were fitted to the hit rates that others have measured (README.md states the error).
 * Numbers are drawn by a counter-based mix (SplitMix64), nothing else is random.
 */
#include "runtime/replay/replay.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GLM                                                                                        \
	.moe_layers = 58, .experts = 256, .top_k = 8, .popular = 0.336, .topic = 0.78,             \
	.fast = 1.018, .fast_keeps = 0.729, .slow = 0.493, .slow_keeps = 0.9905, .chunk = 512

const struct synth_profile replay_profiles[] = {
	{.name = "long",
	 .about = "one reply of 1,200 tokens; matches GLM-5.2's published curve",
	 GLM,
	 .conversations = 1,
	 .prompt = 16,
	 .reply = 1200,
	 .topic_every = 200,
	 .at_once = 1},
	{.name = "chat",
	 .about = "twelve questions of 60 tokens, answers of 100, a topic each",
	 GLM,
	 .conversations = 12,
	 .prompt = 60,
	 .reply = 100,
	 .at_once = 1},
	{.name = "switch",
	 .about = "replies that change their topic every 40 tokens",
	 GLM,
	 .conversations = 3,
	 .prompt = 30,
	 .reply = 400,
	 .topic_every = 40,
	 .at_once = 1},
	{.name = "documents",
	 .about = "prompts of 1,200 tokens, answers of 100",
	 GLM,
	 .conversations = 4,
	 .prompt = 1200,
	 .reply = 100,
	 .at_once = 1},
	{.name = "crowd",
	 .about = "four conversations side by side",
	 GLM,
	 .conversations = 12,
	 .prompt = 60,
	 .reply = 120,
	 .at_once = 4},
	{.name = "skewed",
	 .about = "as long, with few popular experts",
	 .moe_layers = 58,
	 .experts = 256,
	 .top_k = 8,
	 .popular = 0.9,
	 .topic = 0.4,
	 .fast = 0.8,
	 .fast_keeps = 0.717,
	 .slow = 0.3,
	 .slow_keeps = 0.99,
	 .chunk = 512,
	 .conversations = 3,
	 .prompt = 30,
	 .reply = 400,
	 .at_once = 1},
	{.name = "small",
	 .about = "64 experts, six per token, as DeepSeek-V2-Lite",
	 .moe_layers = 26,
	 .experts = 64,
	 .top_k = 6,
	 .popular = 0.336,
	 .topic = 0.78,
	 .fast = 1.018,
	 .fast_keeps = 0.729,
	 .slow = 0.493,
	 .slow_keeps = 0.9905,
	 .chunk = 512,
	 .conversations = 8,
	 .prompt = 100,
	 .reply = 200,
	 .at_once = 1},
};
const uint32_t replay_n_profiles = sizeof(replay_profiles) / sizeof(replay_profiles[0]);

const struct synth_profile *replay_profile(const char *name)
{
	for (uint32_t i = 0; i < replay_n_profiles; i++) {
		if (!strcmp(name, replay_profiles[i].name))
			return &replay_profiles[i];
	}
	return NULL;
}

static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* Nearly normal, spread 1: the sum of four uniform numbers. */
static float normal(uint64_t *state)
{
	uint64_t z = draw(state);
	int sum = (int)(z & 0xffff) + (int)(z >> 16 & 0xffff) + (int)(z >> 32 & 0xffff) +
		  (int)(z >> 48) - 2 * 65535;

	return (float)sum * (float)(1.0 / 37837.2);
}

/* A conversation's part of the scores. [moe_layers][experts] each. */
struct speaker {
	float *topic, *fast, *slow;
	uint32_t said; /* tokens of the reply */
};

struct synth {
	const struct synth_profile *p;
	struct replay_trace *t;
	uint64_t state;
	size_t all; /* moe_layers * experts */
	float *popular, *score;
	struct speaker *speaker; /* [at_once] */
};

static void fill(struct synth *s, float *to, double spread)
{
	for (size_t i = 0; i < s->all; i++)
		to[i] = (float)spread * normal(&s->state);
}

/* The ids of the top_k largest scores, ascending. */
static void choose(const float *score, uint32_t experts, uint32_t top_k, uint16_t *out)
{
	uint32_t n = 0;

	for (uint32_t e = 0; e < experts; e++) {
		uint32_t at;

		if (n == top_k && score[e] <= score[out[n - 1]])
			continue;
		at = n < top_k ? n++ : n - 1;
		for (; at && score[out[at - 1]] < score[e]; at--)
			out[at] = out[at - 1];
		out[at] = (uint16_t)e;
	}
	for (uint32_t i = 1; i < n; i++) {
		uint16_t e = out[i];
		uint32_t at = i;

		for (; at && out[at - 1] > e; at--)
			out[at] = out[at - 1];
		out[at] = e;
	}
}

/* One token of a speaker through all layers. */
static void speak(struct synth *s, struct speaker *k)
{
	const struct synth_profile *p = s->p;
	struct replay_trace *t = s->t;
	const float fast = (float)p->fast_keeps, slow = (float)p->slow_keeps;
	const float fast_new = (float)(p->fast * sqrt(1 - p->fast_keeps * p->fast_keeps));
	const float slow_new = (float)(p->slow * sqrt(1 - p->slow_keeps * p->slow_keeps));

	for (uint32_t l = 0; l < p->moe_layers; l++) {
		size_t at = (size_t)l * p->experts;

		for (size_t i = at; i < at + p->experts; i++) {
			k->fast[i] = fast * k->fast[i] + fast_new * normal(&s->state);
			k->slow[i] = slow * k->slow[i] + slow_new * normal(&s->state);
			s->score[i - at] = s->popular[i] + k->topic[i] + k->fast[i] + k->slow[i] +
					   normal(&s->state);
		}
		choose(s->score, p->experts, p->top_k,
		       t->route + (t->n_rows * p->moe_layers + l) * p->top_k);
	}
	t->n_rows++;
	t->pass[t->n_passes - 1].rows++;
}

static void begin_pass(struct synth *s, bool prefill)
{
	s->t->pass[s->t->n_passes++] =
		(struct replay_pass){.first = s->t->n_rows, .prefill = prefill};
}

/* A new conversation: its topic, and its prompt in chunks. */
static void open_conversation(struct synth *s, struct speaker *k)
{
	fill(s, k->topic, s->p->topic);
	fill(s, k->fast, s->p->fast);
	fill(s, k->slow, s->p->slow);
	k->said = 0;
	for (uint32_t i = 0; i < s->p->prompt; i++) {
		if (i % s->p->chunk == 0)
			begin_pass(s, true);
		speak(s, k);
	}
}

/*
 * `at_once` conversations run side by side; where one ends, the next begins. Their ends are spread
 * out by giving the first ones shorter replies.
 */
static void converse(struct synth *s)
{
	const struct synth_profile *p = s->p;
	uint32_t begun = 0, running = 0;

	for (; begun < p->at_once && begun < p->conversations; begun++, running++) {
		open_conversation(s, &s->speaker[begun]);
		s->speaker[begun].said = begun * p->reply / p->at_once;
	}
	while (running) {
		begin_pass(s, false);
		for (uint32_t i = 0; i < p->at_once; i++) {
			struct speaker *k = &s->speaker[i];

			if (k->said >= p->reply)
				continue;
			if (p->topic_every && k->said && k->said % p->topic_every == 0)
				fill(s, k->topic, p->topic);
			speak(s, k);
			k->said++;
		}
		for (uint32_t i = 0; i < p->at_once && i < p->conversations; i++) {
			if (s->speaker[i].said != p->reply)
				continue;
			s->speaker[i].said++; /* over */
			running--;
			if (begun < p->conversations) {
				begun++;
				running++;
				open_conversation(s, &s->speaker[i]);
			}
		}
	}
}

static bool synth_open(struct synth *s)
{
	const struct synth_profile *p = s->p;
	struct replay_trace *t = s->t;
	uint64_t rows = (uint64_t)p->conversations * (p->prompt + p->reply);

	s->all = (size_t)p->moe_layers * p->experts;
	s->popular = malloc(s->all * sizeof(float));
	s->score = malloc(p->experts * sizeof(float));
	s->speaker = calloc(p->at_once, sizeof(*s->speaker));
	for (uint32_t i = 0; s->speaker && i < p->at_once; i++) {
		float *parts = malloc(3 * s->all * sizeof(float));

		if (!parts)
			return false;
		s->speaker[i] = (struct speaker){.topic = parts,
						 .fast = parts + s->all,
						 .slow = parts + 2 * s->all,
						 .said = UINT32_MAX};
	}
	*t = (struct replay_trace){.layers = p->moe_layers,
				   .moe_layers = p->moe_layers,
				   .experts = p->experts,
				   .top_k = p->top_k,
				   .chunk = p->chunk};
	t->pass = malloc(rows * sizeof(*t->pass));
	t->route = malloc(rows * p->moe_layers * p->top_k * sizeof(*t->route));
	return s->popular && s->score && s->speaker && t->pass && t->route;
}

int replay_synth(struct replay_trace *t, const struct synth_profile *p, uint64_t seed)
{
	struct synth s = {.p = p, .t = t, .state = seed};
	bool good = synth_open(&s);

	if (good) {
		fill(&s, s.popular, p->popular);
		converse(&s);
	} else {
		replay_free(t);
	}
	for (uint32_t i = 0; s.speaker && i < p->at_once; i++)
		free(s.speaker[i].topic);
	free(s.speaker);
	free(s.popular);
	free(s.score);
	return good ? 0 : -ENOMEM;
}
