/*
 * An expert in host memory that the GPU lacks is copied there or computed here. Copying is worth
 * more than this pass if the expert is likelier to be used again than the one that gives way; else
 * what takes less time is done, by rates that are measured: the copy's by `cuda`, our own here.
 * Where the GPU has no room for experts all are computed here. The bits are the same.
 */
#include "runtime/experts/experts.h"

#include "runtime/clock.h"

#include <string.h>

enum {
	FEW_ROWS = 4,  /* so many take no longer than one: the weights are read once */
	WORTH_MORE = 2 /* times as likely: a copy has to pay for itself before it gives way */
};

uint32_t load_pairs_of(const struct experts *x, uint32_t id)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < x->load.pairs; i++)
		n += x->load.pair[i].expert == id;
	return n;
}

bool load_computes(const struct experts *x, uint32_t to, uint32_t layer, uint32_t id,
		   uint32_t pairs)
{
	const struct load *k = &x->load;
	uint32_t experts = x->s.at.plan->experts, tenant;
	double bytes = (double)x->s.at.plan->slot_bytes, here;

	if (to == SLOT_NONE)
		return true;
	tenant = k->tenant[to];
	if (tenant == UINT32_MAX || !k->copy_rate ||
	    policy_value(&x->slots.policy, layer, id) >
		    WORTH_MORE * policy_value(&x->slots.policy, tenant / experts, tenant % experts))
		return false;
	/* once to know how long it takes */
	here = k->compute_rate > 0 ? bytes / k->compute_rate : 0;
	if (pairs > FEW_ROWS)
		here *= (double)pairs / FEW_ROWS;
	return here < bytes / (double)k->copy_rate;
}

struct work {
	struct experts *x;
	const struct weight *mlp;
	const uint32_t *list;
	uint32_t n, batch;
	float *f;
};

static void compute_work(void *context, struct worker *w)
{
	const struct work *k = context;

	ffn_mlp(&k->x->s.model, k->mlp, k->x->load.x, k->list, k->n, k->f,
		k->x->scratch[k->batch].work, w);
}

uint32_t load_compute(struct experts *x, const struct msg *m, uint32_t id,
		      const struct weight mlp[3], struct command *out)
{
	const struct attach *a = &x->s.at;
	struct load *k = &x->load;
	uint32_t room = plan_results(a->plan, m->batch) - k->results, n = 0;
	uint64_t row = a->layout.row_stride * sizeof(float), start = clock_now_ns(), took;
	uint64_t at = a->layout.experts_result[m->batch] + k->results * row;
	struct work work = {.x = x, .mlp = mlp, .list = k->list, .batch = m->batch};
	double rate;

	for (uint32_t i = 0; i < k->pairs && n < room; i++) {
		if (k->pair[i].expert != id)
			continue;
		k->list[n] = k->pair[i].pair / a->plan->top_k;
		out[n] = (struct command){.kind = COMMAND_RESULT,
					  .batch = (uint16_t)m->batch,
					  .rows = m->rows,
					  .layer = m->layer,
					  .from = dev_at(DEV_HOST_RESULT, at + n * row),
					  .bytes = 4ull * a->plan->hidden,
					  .n = k->pair[i].pair};
		n++;
	}
	if (!n)
		return 0;
	work.n = n;
	work.f = attach_at(a, OBJ_EXPERTS, at);
	team_run(x->s.team, compute_work, &work);
	k->results += n;
	count_add(a->log, COUNT_GPU_INSTEAD, 1);
	took = clock_now_ns() - start;
	rate = (double)a->plan->slot_bytes * 1e9 / (double)(took ? took : 1);
	if (n <= FEW_ROWS)
		k->compute_rate = k->compute_rate > 0 ? k->compute_rate * 0.9 + rate * 0.1 : rate;
	return n;
}
