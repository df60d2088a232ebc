/*
 * Passes as command lists (ipc/command.h): where there is a `cuda` that is ready, a pass goes to it
 * as one list instead of round the circle. When it dies, what it was running is run again through
 * the circle (machinery 5). It mirrors the KV pages and sees only its own passes, so one begins
 * only while no pass of the circle is under way.
 */
#include "runtime/router/router.h"

#include "model/list.h"
#include "model/rope.h"

#include <string.h>

uint64_t lists_gpu(const struct router *r, uint32_t batch)
{
	const struct router_head *h = r->record.draft;
	uint64_t gpu = server_gpu(&r->s);

	for (uint32_t b = 0; gpu && b < BATCHES; b++)
		if (b != batch && h->batch[b].pass && h->on_gpu[b] != gpu)
			return 0;
	return gpu;
}

bool lists_wait(struct router *r)
{
	const struct node *n = r->s.at.node;

	if (!r->s.at.plan->score || !r->s.at.plan->gpu || r->gpu_seen)
		return false;
	/* relaxed: init wakes everybody behind it */
	r->gpu_seen =
		server_gpu(&r->s) || atomic_load_explicit(&n->cuda_off, memory_order_relaxed) != 0;
	return !r->gpu_seen;
}

/* The rows' tables, in the list behind its head. */
static void put_rows(struct router *r, const struct list_layout *in, char *base, uint32_t batch,
		     const struct pass_area *area, const struct pass_row *row,
		     const uint32_t *pages)
{
	const struct attach *a = &r->s.at;
	const struct model_config *c = r->s.model.config;
	struct dev_row *to = (void *)(base + in->row);
	float *angle = (void *)(base + in->angle);

	for (uint32_t i = 0; i < area->rows; i++) {
		to[i] = (struct dev_row){.position = row[i].position,
					 .first_key = row[i].first_key,
					 .first_page = row[i].page_list};
		rope_angles(c, row[i].position, angle + (size_t)i * c->qk_rope_head_dim);
	}
	memcpy(base + in->page, pages, area->n_pages * sizeof(*pages));
	memset(base + in->error, 0, area->rows * sizeof(uint64_t));
	memcpy(base + in->h, attach_at(a, OBJ_ROUTER, a->layout.router_rows[batch]),
	       (size_t)area->rows * a->layout.row_stride * sizeof(float));
}

void lists_put(struct router *r, const struct msg *m, const struct pass_area *area,
	       const struct pass_row *row, const struct pass_copy *copy, const uint32_t *pages)
{
	const struct attach *a = &r->s.at;
	const struct plan *p = a->plan;
	const struct model_config *c = r->s.model.config;
	uint64_t side = area->pass & 1;
	char *base = attach_at(a, OBJ_ROUTER, a->layout.router_list[m->batch][side]);
	struct list_head *head = (void *)base;
	struct list_layout in;
	struct list_out out;
	struct frame frame[BATCHES];
	struct list_pass pass = {.m = &r->s.model,
				 .frame = &frame[m->batch],
				 .at = &in,
				 .out = &out,
				 .batch = m->batch,
				 .rows = area->rows,
				 .pages = area->n_pages,
				 .first_layer = area->first_layer,
				 .last_layer = area->last_layer,
				 .picked = r->list_picked,
				 .n_copies = area->n_copies,
				 .not_finite = row_error(CAUSE_NOT_FINITE, 0, 0, 0)};
	struct list_copy copies[CONNS + 1];
	uint64_t at = 256;

	for (uint32_t b = 0; b < BATCHES; b++) {
		list_frame(&frame[b], c, at, p->rows[b], (uint32_t)a->layout.page_list_max,
			   plan_logit_rows(p), p->context);
		at = frame[b].bytes;
	}
	list_layout(&in, c, p->rows[m->batch], (uint32_t)a->layout.page_list_max,
		    plan_logit_rows(p), p->places + 1);
	list_out(&out, c, a->layout.cuda_out[m->batch][side], p->rows[m->batch],
		 plan_logit_rows(p));
	for (uint32_t i = 0; i < area->rows; i++)
		if (row[i].flags & ROW_LOGITS)
			r->list_picked[pass.n_picked++] = i;
	for (uint32_t i = 0; i < area->n_copies; i++)
		copies[i] = (struct list_copy){
			.from = copy[i].from, .to = copy[i].to, .rows = copy[i].rows};
	pass.copy = copies;
	put_rows(r, &in, base, m->batch, area, row, pages);
	*head = (struct list_head){.seq = m->seq,
				   .rows = area->rows,
				   .pages = area->n_pages,
				   .commands = list_pass(&pass, (void *)(base + in.command))};
}

static struct list_out results_of(const struct step *st)
{
	const struct attach *a = &st->r->s.at;
	const struct plan *p = a->plan;
	uint32_t b = st->msg.batch;
	struct list_out out;

	list_out(&out, st->r->s.model.config, a->layout.cuda_out[b][st->pass.area.pass & 1],
		 p->rows[b], plan_logit_rows(p));
	return out;
}

const float *lists_rows(const struct step *st)
{
	return attach_at(&st->r->s.at, OBJ_CUDA, results_of(st).h);
}

const float *lists_logits(const struct step *st)
{
	return attach_at(&st->r->s.at, OBJ_CUDA, results_of(st).logits);
}

const uint64_t *lists_errors(const struct step *st)
{
	return attach_at(&st->r->s.at, OBJ_CUDA, results_of(st).error);
}

void lists_take_routes(const struct step *st)
{
	const struct attach *a = &st->r->s.at;
	const struct pass_area *area = &st->pass.area;
	uint32_t b = st->msg.batch;
	size_t k = a->plan->top_k, pairs = a->plan->rows[b] * k;
	struct list_out out = results_of(st);

	for (uint32_t l = area->first_layer; a->plan->experts && l <= area->last_layer; l++) {
		memcpy((uint16_t *)attach_at(a, OBJ_ROUTER, a->layout.router_expert[b]) + l * pairs,
		       (const uint16_t *)attach_at(a, OBJ_CUDA, out.expert) + l * pairs,
		       area->rows * k * sizeof(uint16_t));
		memcpy((float *)attach_at(a, OBJ_ROUTER, a->layout.router_weight[b]) + l * pairs,
		       (const float *)attach_at(a, OBJ_CUDA, out.weight) + l * pairs,
		       area->rows * k * sizeof(float));
	}
}
