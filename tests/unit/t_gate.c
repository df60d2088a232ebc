/* tsan */
/*
 * The gate: which experts, which weights, for each family; ties, groups, bias; rows that are not
 * finite. Expected values are worked out by hand or by the plain double-precision code below.
 */
#include "model/gate.h"
#include "tests/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	E = 8,
	K = 2,
	ROWS = 37,
	WIDE = 96
};

static struct model model;
static struct model_config config;
static struct cpu_kernels kernels;

/* A V3-like gate: 8 experts in 4 groups, 2 groups kept, 2 experts. */
static void reset(void)
{
	config = (struct model_config){
		.family = FAMILY_V3,
		.hidden_size = WIDE,
		.n_routed_experts = E,
		.num_experts_per_tok = K,
		.n_group = 4,
		.topk_group = 2,
		.topk_method = TOPK_NOAUX_TC,
		.scoring_func = SCORE_SIGMOID,
		.norm_topk_prob = 1,
		.routed_scaling_factor = 2.5f,
	};
	model.config = &config;
	model.kernels = &kernels;
}

static float logit_of(double p)
{
	return (float)log(p / (1 - p));
}

static void choose(const float *p, const float *bias, uint16_t *expert, float *weight)
{
	float logits[E], work[2 * E];

	for (int i = 0; i < E; i++)
		logits[i] = logit_of((double)p[i]);
	gate_choose(&model, logits, bias, expert, weight, work);
}

static void check_groups(void)
{
	static const float none[E] = {0};
	/* groups by sum of two: 0.9+0.05, 0.5+0.5, 0.6+0.45, 0.1+0.1 */
	static const float p[E] = {0.9f, 0.05f, 0.5f, 0.5f, 0.6f, 0.45f, 0.1f, 0.1f};
	uint16_t expert[K];
	float weight[K];

	choose(p, none, expert, weight);
	ok(expert[0] == 2 && expert[1] == 4,
	   "a group counts by the sum of its best two: expert 0, the best of all, is not chosen "
	   "(%u, %u)",
	   expert[0], expert[1]);
	is_near((double)weight[0], 2.5 * 0.5 / 1.1, 1e-6, "weights are normalised and scaled");
	is_near((double)weight[1], 2.5 * 0.6 / 1.1, 1e-6, "weights stand in the order of ids");
	config.topk_method = TOPK_GROUP_LIMITED;
	choose(p, NULL, expert, weight);
	ok(expert[0] == 0 && expert[1] == 4,
	   "group_limited_greedy: a group counts by its best (%u, %u)", expert[0], expert[1]);
	config.topk_method = TOPK_GREEDY;
	choose((const float[E]){.1f, .2f, .3f, .3f, .1f, .3f, .1f, .1f}, NULL, expert, weight);
	ok(expert[0] == 2 && expert[1] == 3, "greedy: no groups, the lower index wins a tie");
	reset();
}

static void check_bias(void)
{
	static const float p[E] = {0.9f, 0.8f, 0.7f, 0.6f, 0.5f, 0.4f, 0.3f, 0.2f};
	static const float low[E] = {-2, -2, -2, -2, -2, -2, -2, -2};
	static const float up[E] = {0, 0, 0, 0, 0, 0, 1, 1};
	uint16_t expert[K];
	float weight[K];

	choose(p, low, expert, weight);
	ok(expert[0] == 0 && expert[1] == 1,
	   "experts of dropped groups do not win over negative choices");
	choose(p, up, expert, weight);
	ok(expert[0] == 6 && expert[1] == 7, "the bias decides who is chosen");
	is_near((double)weight[0], 2.5 * 0.3 / 0.5, 1e-6, "and takes no part in the weight");
	choose((const float[E]){.5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f}, (const float[E]){0},
	       expert, weight);
	ok(expert[0] == 0 && expert[1] == 1,
	   "ties between groups and experts go to the lower index");
	config.norm_topk_prob = 0;
	choose(p, (const float[E]){0}, expert, weight);
	is_near((double)weight[0], 2.5 * 0.9, 1e-6, "without norm_topk_prob: the score, scaled");
	config.norm_topk_prob = 1;
	config.num_experts_per_tok = 1;
	choose(p, (const float[E]){0}, expert, weight);
	is_near((double)weight[0], 2.5 * 0.9, 1e-6, "one expert is not normalised");
	reset();
}

static void check_softmax(void)
{
	float logits[E] = {1, 2, 3, 4, 5, 6, 7, 8}, work[2 * E], weight[K];
	uint16_t expert[K];
	double sum = 0;

	for (int i = 0; i < E; i++)
		sum += exp((double)logits[i]);
	config.family = FAMILY_V2;
	config.topk_method = TOPK_GREEDY;
	config.scoring_func = SCORE_SOFTMAX;
	config.norm_topk_prob = 0;
	gate_choose(&model, logits, NULL, expert, weight, work);
	is_near((double)weight[1], 2.5 * exp(8) / sum, 1e-6,
		"V2: softmax over all experts, scaled");
	config.norm_topk_prob = 1;
	gate_choose(&model, logits, NULL, expert, weight, work);
	is_near((double)weight[1], exp(8) / (exp(7) + exp(8)), 1e-6,
		"V2 with norm_topk_prob: normalised, not scaled");
	config.family = FAMILY_V3;
	gate_choose(&model, logits, NULL, expert, weight, work);
	is_near((double)weight[1], 2.5 * exp(8) / (exp(7) + exp(8)), 1e-6,
		"V3 code scales in both cases");
	reset();
}

struct call {
	uint16_t *x;
	uint8_t *skip;
	uint32_t rows;
	uint16_t expert[ROWS * K];
	float weight[ROWS * K];
	uint8_t failed[ROWS];
	void *scratch;
};

static void gate_work(void *context, struct worker *w)
{
	struct call *c = context;

	gate_rows(&model, 0, c->x, c->rows, c->skip, c->expert, c->weight, c->failed, c->scratch,
		  w);
}

static void run(struct team *t, unsigned workers, struct call *c, uint16_t *x, uint32_t rows)
{
	c->x = x;
	c->rows = rows;
	c->scratch = aligned_alloc(64, gate_scratch_bytes(&config, workers, rows));
	team_run(t, gate_work, c);
	free(c->scratch);
}

static void check_rows(void)
{
	static uint16_t x[ROWS * 128] __attribute__((aligned(64))), matrix[E * WIDE];
	static float bias[E];
	static struct call all, split, one;
	struct err e = {0};
	static struct team *alone, *three; /* reachable at exit: teams never end */
	bool same = true;

	alone = team_start(1, NULL, 0, &e);
	three = team_start(3, NULL, 0, &e);
	srand(7);
	for (size_t i = 0; i < ROWS * 128; i++)
		x[i] = i % 128 < WIDE ? (uint16_t)(0x3e00 | (unsigned)rand() % 512 |
						   ((unsigned)rand() & 0x8000))
				      : 0;
	for (size_t i = 0; i < E * WIDE; i++)
		matrix[i] =
			(uint16_t)(0x3c00 | (unsigned)rand() % 512 | ((unsigned)rand() & 0x8000));
	x[5 * 128 + 3] = 0x7fc0; /* a NaN */
	x[9 * 128 + 3] = 0x7f80; /* an infinity */
	model.layer[0].gate = (struct weight){.data = matrix, .n_out = E, .n_in = WIDE};
	model.layer[0].correction_bias = bias;
	run(alone, 1, &all, x, ROWS);
	run(three, 3, &split, x, ROWS);
	ok(!memcmp(all.expert, split.expert, sizeof(all.expert)) &&
		   !memcmp(all.weight, split.weight, sizeof(all.weight)),
	   "three workers choose as one does, to the bit");
	for (uint32_t r = 0; r < ROWS; r++) {
		run(alone, 1, &one, x + r * 128, 1);
		same &= !memcmp(one.weight, all.weight + r * K, K * sizeof(float)) &&
			!memcmp(one.expert, all.expert + r * K, K * sizeof(uint16_t)) &&
			one.failed[0] == all.failed[r];
	}
	ok(same, "a row alone chooses as it does among %d", ROWS);
	ok(all.failed[5] && all.failed[9] && !all.failed[4] && !all.failed[6] &&
		   all.weight[5 * K] == 0,
	   "a row with a logit that is not finite fails, its neighbours do not");
	split.skip = (uint8_t[ROWS]){[2] = 1};
	memset(split.expert, 0xee, sizeof(split.expert));
	run(three, 3, &split, x, ROWS);
	ok(split.expert[2 * K] == 0xeeee && split.expert[3 * K] != 0xeeee,
	   "a skipped row is left as it was");
}

int main(void)
{
	cpu_thread_init();
	cpu_kernels_init(&kernels, CPU_SCALAR);
	reset();
	check_groups();
	check_bias();
	check_softmax();
	check_rows();
	return tap_done();
}
