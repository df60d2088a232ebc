/* Servers that no longer move; see hang.h. */
#include "boot/hang.h"

#include "boot/supervise.h"
#include "ipc/record.h"
#include "runtime/clock.h"

/* A server's progress word, NULL if it has none or its log is not there yet. */
static const struct progress *progress_of(const struct init *in, enum role role)
{
	const struct log_object *log = supervise_log(in, role);

	if (role == ROLE_CUDA && in->objects.map[OBJ_CUDA])
		log = (const void *)((const char *)in->objects.map[OBJ_CUDA] + in->layout.cuda_log);
	return log ? &log->progress : NULL;
}

/* A driver takes its time to start: a GPU is watched from when it takes passes. */
static bool gpu_ready(const struct init *in)
{
	const char *object = in->objects.map[OBJ_CUDA];
	uint64_t ready;

	return object &&
	       record_read(object + in->layout.cuda_record, sizeof(struct cuda_record),
			   offsetof(struct cuda_record, ready), &ready, sizeof(ready)) &&
	       ready == in->server[ROLE_CUDA].live.generation;
}

static bool watched(const struct init *in, enum role role)
{
	return ((role >= ROLE_CLIENT && role <= ROLE_EXPERTS) ||
		(role == ROLE_CUDA && gpu_ready(in))) &&
	       supervise_alive(in, role) && progress_of(in, role) &&
	       !(role == ROLE_CLIENT && in->options.client);
}

void hang_asked(struct init *in)
{
	for (unsigned role = ROLE_CLIENT; role < ROLE_COUNT; role++)
		in->hang[role].asked = true;
}

void hang_begin(struct init *in, enum role role)
{
	in->hang[role].still_ns = 0;
	/* it has a bell to answer: that of its predecessor's death */
	in->hang[role].asked = true;
}

/* ---- Deadlines ---- */

enum {
	SCALAR_PER_S = 50 * 1000 * 1000, /* multiply-adds of one worker, on a bad day */
	VECTOR_PER_S = 500 * 1000 * 1000
};

static uint64_t attention_work(const struct model_config *c, uint64_t context)
{
	uint64_t hidden = c->hidden_size, heads = c->num_attention_heads, latent = c->kv_lora_rank,
		 rope = c->qk_rope_head_dim, nope = c->qk_nope_head_dim, v = c->v_head_dim;
	uint64_t query = heads * (nope + rope);

	return hidden * (latent + rope + heads * v) +
	       (c->q_lora_rank ? c->q_lora_rank * (hidden + query) : hidden * query) +
	       heads * latent * (nope + v) + context * heads * (2 * latent + rope);
}

static uint64_t experts_work(const struct model_config *c)
{
	uint64_t routed =
		(uint64_t)(c->num_experts_per_tok + c->n_shared_experts) * c->moe_intermediate_size;

	return 3ull * c->hidden_size *
	       (routed > c->intermediate_size ? routed : c->intermediate_size);
}

uint64_t hang_deadline_ns(const struct model_config *c, const struct plan *p, enum role role,
			  uint32_t rows)
{
	uint64_t work = 0, per_ms = (p->isa ? VECTOR_PER_S : SCALAR_PER_S) / 1000;

	if (role == ROLE_MLA)
		work = attention_work(c, p->context);
	else if (role == ROLE_EXPERTS)
		work = experts_work(c);
	else if (role == ROLE_CUDA)
		/* all of a pass; a GPU is much faster, a stand-in for one is not */
		work = p->layers * (attention_work(c, p->context) + experts_work(c)) +
		       (uint64_t)c->hidden_size * c->vocab_size;
	else if (role == ROLE_ROUTER)
		work = (uint64_t)c->hidden_size * (c->vocab_size + c->n_routed_experts);
	/* config_check bounds the widths, the plan the rows: no product of these overflows */
	return (HANG_LEAST_S * 1000 + work / (per_ms * p->workers) * rows) * NS_PER_MS;
}

/* Rows of the batch that the step belongs to. */
static uint32_t rows_of(const struct init *in, uint64_t step)
{
	const struct plan *p = &in->node->plan;
	const char *router = in->objects.map[OBJ_ROUTER];
	uint32_t b = step & 1, most = p->rows[b];
	struct router_head h;

	if (!record_read(router + in->layout.router_record, in->layout.router_record_size, 0, &h,
			 sizeof(h)))
		return most;
	return h.batch[b].rows && h.batch[b].rows < most ? h.batch[b].rows : most;
}

static uint64_t deadline_of(const struct init *in, enum role role, const struct progress *p)
{
	uint64_t step = atomic_load_explicit(&p->step, memory_order_relaxed);

	/* relaxed: only compared with a deadline */
	if (atomic_load_explicit(&p->drive, memory_order_relaxed))
		return HANG_DRIVE_S * NS_PER_S;
	if (step == UINT64_MAX || role == ROLE_CLIENT)
		return HANG_LEAST_S * NS_PER_S;
	return hang_deadline_ns(&in->index->config, &in->node->plan, role, rows_of(in, step));
}

/* ---- Looking ---- */

/* Brings what is known of the server up to date; whether it has something to do. */
static bool look(struct init *in, enum role role, uint64_t passed_ns)
{
	struct hang *h = &in->hang[role];
	const struct progress *p = progress_of(in, role);
	uint64_t turns = atomic_load_explicit(&p->turns, memory_order_relaxed),
		 step = atomic_load_explicit(&p->step, memory_order_relaxed);

	if (turns != h->turns || step != h->step) {
		*h = (struct hang){.turns = turns, .step = step};
		return step != UINT64_MAX;
	}
	if (step == UINT64_MAX && !h->asked) {
		/* while there is work everybody is asked at every look, so that nobody is late */
		h->asked = in->working;
		if (in->working)
			bell_wake(&in->bells->bell[role][0]);
		return in->working;
	}
	h->still_ns += passed_ns;
	return true;
}

void hang_tick(struct init *in)
{
	uint64_t now = clock_now_ns(), passed = now - in->hang_ns;

	if (!in->index || passed < HANG_LOOK_MS * NS_PER_MS / 2)
		return;
	in->hang_ns = now;
	in->hang_busy = false;
	if (passed > HANG_STEP_MS * NS_PER_MS)
		passed = HANG_STEP_MS * NS_PER_MS;
	for (unsigned r = ROLE_CLIENT; r < ROLE_COUNT; r++) {
		enum role role = (enum role)r;
		struct hang *h = &in->hang[role];

		if (!watched(in, role) || !look(in, role, passed))
			continue;
		in->hang_busy = true;
		if (h->still_ns < deadline_of(in, role, progress_of(in, role)))
			continue;
		log_write(in->log, 1, LOG_HUNG,
			  (const uint64_t[5]){role, h->still_ns / NS_PER_MS, h->step, 0, 0});
		h->still_ns = 0;
		supervise_kill_for(in, role, RESTART_HUNG);
	}
}

int hang_timeout(const struct init *in)
{
	return in->working || in->hang_busy ? HANG_LOOK_MS : -1;
}
