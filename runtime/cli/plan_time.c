/*
 * The arithmetic of `penstock plan`; see plan.h. A token's time is counted layer by layer: what is
 * resident is read from memory; then the shared expert and the experts that are there are computed
 * while the drive reads the others; what came last is computed at the end. How many miss in a layer
 * comes from replaying a trace with the node's own policy and the slots of its own plan of memory.
 */
#include "runtime/cli/plan.h"

#include "boot/plan.h"

#include <errno.h>

const struct efficiency efficiency_default = {
	.memory = 0.85, .dot = 0.75, .drive = 0.90, .layer_s = 30e-6, .read_s = 300e-6};

enum {
	TRACE_TOKENS = 160,       /* of a reply in a made-up trace */
	TRACE_PROMPT = 1024,      /* of a prompt at most: longer ones are like it, chunk by chunk */
	LAST_PIECE = 4,           /* an expert's arithmetic that its last piece holds up: a part */
	TOKENIZER_BYTES = 8 << 20 /* of V3's vocabulary */
};

/* Rates as they are reached. */
struct rates {
	double memory, dot, drive;           /* of the CPU */
	double resident, resident_dot, copy; /* of who computes what is resident; GPU's copies */
};

static uint64_t expert_bytes(const struct plan_job *j)
{
	uint64_t params = j->weights.expert.params;

	return j->bits == 4 ? params / 32 * 18 : params * j->bits / 8;
}

static uint64_t resident_bytes(const struct plan_job *j)
{
	uint64_t sum = j->bits == 8 ? j->weights.expert_scales : 0;

	for (unsigned i = 0; i < WEIGHTS_PARTS; i++)
		sum += j->weights.part[i].bytes;
	return sum;
}

/* The node's own plan of memory. */
static int make_plan(struct plan *p, const struct plan_job *j, struct err *e)
{
	const struct boot_options options = {
		.parallel = PLACES_DEFAULT, .context = j->context, .slots = j->slots};
	const struct plan_input in = {
		.options = &options,
		.config = j->config,
		.index_bytes = j->weights.n_experts * sizeof(struct index_expert) + TOKENIZER_BYTES,
		.resident_bytes = resident_bytes(j),
		.slot_bytes = (expert_bytes(j) / DRIVE_ALIGN + 7) * DRIVE_ALIGN,
		.tokenizer_bytes = TOKENIZER_BYTES,
		.budget = j->budget ? j->budget : (uint64_t)(j->machine->ram * 0.92),
		.cpus = j->machine->cores};
	struct plan_table t;

	return plan_make(p, &t, &in, e);
}

static uint32_t slots_of_trace(const struct replay_trace *t, double share)
{
	double slots = share * replay_experts(t);

	if (slots < 1)
		return 1;
	return slots < replay_experts(t) ? (uint32_t)(slots + 0.5) : replay_experts(t);
}

/* Every expert has its slot: what a trace's first use missed has been read at last. */
static void all_hits(struct replay_count *c)
{
	c->hits = c->asked;
	c->decode_hits = c->decode_asked;
	for (unsigned m = 1; m < REPLAY_MISSED; m++) {
		c->missed[0] += c->missed[m];
		c->missed[m] = 0;
	}
}

static double rate_of(const struct replay_count *c)
{
	return c->decode_asked ? (double)c->decode_hits / (double)c->decode_asked : 1;
}

static struct rates rates_of(const struct plan_job *j)
{
	const struct machine *m = j->machine;
	const struct efficiency *f = &j->efficiency;
	struct rates r = {.memory = m->memory_rate * f->memory,
			  .dot = m->dot_rate * f->dot,
			  .drive = m->drive * f->drive};

	r.resident = r.memory;
	r.resident_dot = r.dot;
	r.copy = r.memory;
	if (m->gpu_memory > 0) {
		r.resident = m->gpu_rate * f->memory;
		r.resident_dot = m->gpu_dot * f->dot;
		r.copy = m->gpu_copy > r.memory ? m->gpu_copy : r.memory;
	}
	return r;
}

/* Resident bytes that a decoded token reads. */
static double token_bytes(const struct plan_job *j)
{
	const struct weight_sum *p = j->weights.part;
	uint64_t sum = p[WEIGHTS_ATTENTION].bytes + p[WEIGHTS_DENSE].bytes +
		       p[WEIGHTS_GATES].bytes + p[WEIGHTS_NORMS].bytes + p[WEIGHTS_HEAD].bytes;

	if (!p[WEIGHTS_HEAD].bytes)
		sum += p[WEIGHTS_EMBEDDING].bytes;
	return (double)sum + (double)(j->weights.kv_token_bytes * j->context) / 2;
}

/* One decoded token. gpu: share of experts asked for that lie on the GPU. */
static void predict_token(struct plan_answer *a, const struct plan_job *j, const struct rates *r,
			  const struct replay_count *c)
{
	const struct weights *w = &j->weights;
	double layers = w->moe_layers ? w->moe_layers : 1, top_k = j->config->num_experts_per_tok;
	double bytes = (double)expert_bytes(j), slow = bytes / r->copy, read = bytes / r->drive;
	double shared = (double)w->part[WEIGHTS_SHARED].bytes / layers / r->resident;
	/* of the hits, those that lie on a GPU */
	double near = a->hit_rate > 0 ? a->gpu_hit_rate / a->hit_rate : 0;
	double hit = near * bytes / r->resident + (1 - near) * slow;
	uint64_t steps = 0;

	a->resident_s = token_bytes(j) / r->resident;
	a->layers_s = j->config->num_hidden_layers * j->efficiency.layer_s;
	for (unsigned m = 0; m < REPLAY_MISSED; m++)
		steps += c->missed[m];
	for (unsigned m = 0; steps && m < REPLAY_MISSED; m++) {
		double part = layers * (double)c->missed[m] / (double)steps;
		double there = top_k > m ? top_k - m : 0;
		double compute = shared + there * hit + m * slow;
		double drive = m ? m * read + j->efficiency.read_s : 0;
		double early = shared + there * hit + (m ? (m - 1.0 / LAST_PIECE) * slow : 0);

		/* while the drive is slower, arithmetic waits for it, but for the last piece */
		a->experts_s += part * compute;
		a->drive_s += part * (drive > early ? drive - early : 0);
	}
	a->token_s = a->resident_s + a->experts_s + a->drive_s + a->layers_s;
	a->tokens_per_s = 1 / a->token_s;
}

/*
 * A prompt, chunk by chunk: attention and dense blocks, then routed experts, computed while others
 * are read.
 */
static void predict_prompt(struct plan_answer *a, const struct plan_job *j, const struct rates *r,
			   const struct replay_count *c)
{
	const struct weights *w = &j->weights;
	const struct model_config *f = j->config;
	double tokens = (double)j->prompt,
	       chunks = ((double)j->prompt + (double)a->chunk - 1) / (double)a->chunk;
	double always = (double)(w->part[WEIGHTS_ATTENTION].params + w->part[WEIGHTS_DENSE].params +
				 w->part[WEIGHTS_SHARED].params + w->part[WEIGHTS_GATES].params);
	double scores = (2.0 * f->kv_lora_rank + f->qk_rope_head_dim) * f->num_attention_heads *
			f->num_hidden_layers * tokens / 2;
	double routed = (double)w->moe_layers * f->num_experts_per_tok * (double)w->expert.params;
	double asked = (double)(c->asked - c->decode_asked);
	double missed = asked - (double)(c->hits - c->decode_hits);
	double rows = 0, read, compute;

	chunks = (double)(uint64_t)chunks;
	for (uint32_t p = j->trace->count_from; p < j->trace->n_passes; p++)
		rows += j->trace->pass[p].prefill ? j->trace->pass[p].rows : 0;
	/* the trace's prompts may be shorter or longer than the one asked about */
	missed *= rows > 0 ? tokens / rows : 0;
	missed *= (double)w->moe_layers / j->trace->moe_layers;
	read = missed * (double)expert_bytes(j) / r->drive;
	compute = 2 * routed * tokens / r->dot;
	a->prompt_s = 2 * (always + scores) * tokens / r->resident_dot +
		      (compute > read ? compute : read) +
		      chunks * f->num_hidden_layers * j->efficiency.layer_s +
		      (double)w->part[WEIGHTS_HEAD].bytes / r->resident;
}

int plan_predict(struct plan_answer *a, const struct plan_job *j, struct err *e)
{
	const struct machine *m = j->machine;
	struct rates r = rates_of(j);
	struct replay_count c = {0}, near = {0};
	struct plan p;
	int rc = make_plan(&p, j, e);
	double left;

	*a = (struct plan_answer){0};
	if (rc)
		return rc;
	a->all_slots = j->weights.n_experts;
	a->chunk = p.rows[BATCH_PREFILL];
	a->expert_bytes = expert_bytes(j);
	a->resident = (double)resident_bytes(j);
	a->start_s = a->resident / r.drive;
	if (m->gpu_memory > 0) {
		left = 0.92 * m->gpu_memory - a->resident -
		       (double)(j->weights.kv_token_bytes * j->context);
		if (left < 0)
			return err_exit(e, STATUS_MEMORY, -ENOMEM,
					"%s: resident weights of %.1f GB do not fit on its GPU",
					m->name, a->resident / 1e9);
		a->gpu_slots = (uint64_t)(left / (double)a->expert_bytes);
	}
	a->slots = p.slots + a->gpu_slots < a->all_slots ? p.slots + a->gpu_slots : a->all_slots;
	if (j->weights.moe_layers) {
		double all = (double)a->all_slots;

		rc = replay_run(j->trace, REPLAY_OURS,
				slots_of_trace(j->trace, (double)a->slots / all), &c);
		if (!rc && a->gpu_slots)
			rc = replay_run(j->trace, REPLAY_OURS,
					slots_of_trace(j->trace, (double)a->gpu_slots / all),
					&near);
		if (rc)
			return err_exit(e, STATUS_MEMORY, rc, "no memory to replay a trace");
		if (a->slots == a->all_slots)
			all_hits(&c);
	}
	a->hit_rate = rate_of(&c);
	a->gpu_hit_rate = a->gpu_slots ? rate_of(&near) : 0;
	predict_token(a, j, &r, &c);
	predict_prompt(a, j, &r, &c);
	return 0;
}

int plan_trace(struct replay_trace *t, const struct model_config *c, uint64_t prompt)
{
	struct synth_profile p = *replay_profile("chat");
	uint32_t moe = config_moe_index(c, c->num_hidden_layers);

	if (!moe) {
		*t = (struct replay_trace){0};
		return 0;
	}
	p.moe_layers = moe;
	p.experts = c->n_routed_experts;
	p.top_k = c->num_experts_per_tok;
	p.conversations = 2;
	p.prompt = prompt < TRACE_PROMPT ? (uint32_t)prompt : TRACE_PROMPT;
	p.reply = TRACE_TOKENS;
	if (replay_synth(t, &p, 1))
		return -ENOMEM;
	t->count_from = t->n_passes / 2;
	return 0;
}
