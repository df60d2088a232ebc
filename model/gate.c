/*
 * The gate; see gate.h. Logits are split by experts, the choice by rows. A choice is made by K
 * passes over at most a few hundred numbers: no sorting, ties fall to the lower index by
 * themselves.
 */
#include "model/gate.h"

#include <string.h>

static float *own_work(float *after_logits, const struct model_config *c, unsigned index)
{
	return after_logits + index * (scratch_round(2 * c->n_routed_experts * sizeof(float)) / 4);
}

size_t gate_scratch_bytes(const struct model_config *c, unsigned workers, uint32_t rows)
{
	return scratch_round((size_t)rows * c->n_routed_experts * sizeof(float)) +
	       workers * scratch_round(2 * c->n_routed_experts * sizeof(float));
}

/* Scores of all experts: sigmoid, or softmax with rule 6's sum. */
static void score_experts(const struct model *m, const float *logits, float *score)
{
	const struct cpu_kernels *k = m->kernels;
	size_t n = m->config->n_routed_experts;
	float max, sum;

	if (m->config->scoring_func == SCORE_SIGMOID) {
		k->sigmoid(score, logits, n);
		return;
	}
	max = logits[k->argmax(logits, n)];
	for (size_t i = 0; i < n; i++)
		score[i] = logits[i] - max;
	k->exp(score, score, n);
	sum = k->sum(score, n);
	for (size_t i = 0; i < n; i++)
		score[i] = score[i] / sum;
}

/* The sum of the group's two largest values (larger plus smaller), or its largest. */
static float score_group(const float *choice, size_t n, bool two)
{
	float first = -__builtin_inff(), second = first;

	for (size_t i = 0; i < n; i++) {
		if (choice[i] > first) {
			second = first;
			first = choice[i];
		} else if (choice[i] > second) {
			second = choice[i];
		}
	}
	return two ? first + second : first;
}

/* The lowest index of the largest value among those not taken; at least one is not. */
static size_t best_free(const float *value, const uint8_t *taken, size_t n)
{
	size_t best = n;

	for (size_t i = 0; i < n; i++)
		if (!taken[i] && (best == n || value[i] > value[best]))
			best = i;
	return best;
}

/* Marks the experts outside the best topk_group groups as taken. */
static void limit_groups(const struct model_config *c, const float *choice, uint8_t *taken)
{
	size_t groups = c->n_group, members = c->n_routed_experts / groups;
	float value[CONFIG_EXPERTS_MAX];
	uint8_t kept[CONFIG_EXPERTS_MAX] = {0};

	for (size_t g = 0; g < groups; g++)
		value[g] =
			score_group(choice + g * members, members, c->topk_method == TOPK_NOAUX_TC);
	for (uint32_t i = 0; i < c->topk_group; i++)
		kept[best_free(value, kept, groups)] = 1;
	for (size_t g = 0; g < groups; g++)
		if (!kept[g])
			memset(taken + g * members, 1, members);
}

/* Weights of the chosen: specification 4.6 for the family. */
static void weigh(const struct model_config *c, float *weight)
{
	bool normalise = c->norm_topk_prob && c->num_experts_per_tok > 1;
	float sum = 0.0f;

	for (uint32_t i = 0; normalise && i < c->num_experts_per_tok; i++)
		sum = sum + weight[i];
	sum = sum + 1e-20f;
	for (uint32_t i = 0; normalise && i < c->num_experts_per_tok; i++)
		weight[i] = weight[i] / sum;
	if (normalise && c->family == FAMILY_V2 && c->scoring_func == SCORE_SOFTMAX)
		return; /* V2 normalises or scales, its successors do both */
	for (uint32_t i = 0; i < c->num_experts_per_tok; i++)
		weight[i] = weight[i] * c->routed_scaling_factor;
}

void gate_choose(const struct model *m, const float *logits, const float *correction_bias,
		 uint16_t *expert, float *weight, float *work)
{
	const struct model_config *c = m->config;
	float *score = work, *choice = work;
	uint8_t taken[CONFIG_EXPERTS_MAX] = {0}, chosen[CONFIG_EXPERTS_MAX] = {0};
	uint32_t n = 0;

	score_experts(m, logits, score);
	if (c->topk_method == TOPK_NOAUX_TC) {
		choice = work + c->n_routed_experts;
		m->kernels->add(choice, score, correction_bias, c->n_routed_experts);
	}
	if (c->topk_method != TOPK_GREEDY && c->n_group > 1)
		limit_groups(c, choice, taken);
	for (uint32_t i = 0; i < c->num_experts_per_tok; i++) {
		size_t best = best_free(choice, taken, c->n_routed_experts);

		taken[best] = 1;
		chosen[best] = 1;
	}
	for (uint32_t i = 0; i < c->n_routed_experts; i++) {
		if (!chosen[i])
			continue;
		expert[n] = (uint16_t)i;
		weight[n++] = score[i];
	}
	weigh(c, weight);
}

void gate_rows(const struct model *m, uint32_t layer, const uint16_t *x, uint32_t rows,
	       const uint8_t *skip, uint16_t *expert, float *weight, uint8_t *failed, void *scratch,
	       struct worker *w)
{
	const struct layer *l = &m->layer[layer];
	size_t experts = m->config->n_routed_experts, top_k = m->config->num_experts_per_tok;
	float *logits = scratch;
	char *after = (char *)scratch + scratch_round(rows * experts * sizeof(float));
	float *work = own_work((float *)(void *)after, m->config, w->index);
	size_t begin, end;

	worker_share(w, experts, 16, &begin, &end);
	if (begin < end)
		m->kernels->matmul(logits + begin, experts, &l->gate, begin, end, x,
				   model_width(m->config), rows);
	worker_barrier(w);
	worker_share(w, rows, 1, &begin, &end);
	for (size_t r = begin; r < end; r++) {
		if (skip && skip[r])
			continue;
		failed[r] = !m->kernels->all_finite(logits + r * experts, experts);
		if (failed[r]) {
			memset(expert + r * top_k, 0, top_k * sizeof(*expert));
			memset(weight + r * top_k, 0, top_k * sizeof(*weight));
			continue;
		}
		gate_choose(m, logits + r * experts, l->correction_bias, expert + r * top_k,
			    weight + r * top_k, work);
	}
}
