/*
 * One step of experts: the feed-forward block of one layer for the rows of a batch. step_prepare
 * checks everything that other processes wrote, step_compute acts on it. Routed experts are in
 * routed.c.
 */
#include "runtime/experts/experts.h"

#include "runtime/clock.h"

#include <errno.h>
#include <string.h>

/*
 * Sorts the rows by expert: start, list, weight, active. Router's ids are checked here, where they
 * become an index.
 */
static int sort_rows(struct step *st, struct err *e)
{
	const struct plan *p = st->x->s.at.plan;
	struct scratch *sc = st->sc;
	uint32_t k = p->top_k, total = 0;

	memset(sc->start, 0, (p->experts + 1) * sizeof(*sc->start));
	for (uint32_t r = 0; r < st->msg.rows; r++) {
		if (st->error_in[r])
			continue;
		for (uint32_t i = 0; i < k; i++) {
			uint16_t id = st->route[(size_t)r * k + i];

			if (id >= p->experts || (i && id <= st->route[(size_t)r * k + i - 1]))
				return err_set(e, -EBADMSG, "route of row %u: expert %u of %u", r,
					       id, p->experts);
			sc->start[id]++;
		}
	}
	st->n_active = 0;
	for (uint32_t id = 0; id < p->experts; id++) {
		uint32_t n = sc->start[id];

		sc->start[id] = total;
		total += n;
		if (n)
			sc->active[st->n_active++] = id;
	}
	sc->start[p->experts] = total;
	for (uint32_t r = 0; r < st->msg.rows; r++) {
		if (st->error_in[r])
			continue;
		for (uint32_t i = 0; i < k; i++) {
			uint32_t id = st->route[(size_t)r * k + i], at = sc->start[id]++;

			sc->list[at] = r;
			sc->weight[at] = st->route_weight[(size_t)r * k + i];
		}
	}
	/* the loop above has moved every start to its end */
	memmove(sc->start + 1, sc->start, p->experts * sizeof(*sc->start));
	sc->start[0] = 0;
	/* rows that failed count too: the shared block computes them all */
	st->buffered = st->msg.rows * k <= sc->f_rows;
	return 0;
}

int step_prepare(struct step *st, struct err *e)
{
	struct experts *x = st->x;
	const struct attach *a = &x->s.at;
	const struct layout *l = &a->layout;
	uint32_t b = st->msg.batch;
	size_t k = a->plan->top_k, routes = (size_t)st->msg.layer * a->plan->rows[b] * k;
	int rc = server_pass(&x->s, &st->msg, &st->pass, e);

	if (rc)
		return rc;
	st->sc = &x->scratch[b];
	st->layer = &x->s.model.layer[st->msg.layer];
	/* both are looked at more than once, and router could change them between two looks */
	memcpy(st->sc->error, attach_at(a, OBJ_ROUTER, l->router_error[b]),
	       st->msg.rows * sizeof(*st->sc->error));
	memcpy(st->sc->route,
	       (const uint16_t *)attach_at(a, OBJ_ROUTER, l->router_expert[b]) + routes,
	       st->msg.rows * k * sizeof(*st->sc->route));
	st->error_in = st->sc->error;
	st->route = st->sc->route;
	st->error_out = attach_at(a, OBJ_EXPERTS, l->experts_error[b]);
	st->xin = attach_at(a, OBJ_MLA, l->mla_x[b]);
	st->h_in = attach_at(a, OBJ_MLA, l->mla_rows[b]);
	st->h_out = attach_at(a, OBJ_EXPERTS, l->experts_rows[b]);
	st->route_weight = (const float *)attach_at(a, OBJ_ROUTER, l->router_weight[b]) + routes;
	return st->layer->is_moe ? sort_rows(st, e) : 0;
}

static void shared_work(void *context, struct worker *w)
{
	const struct step *st = context;

	ffn_mlp(&st->x->s.model, st->layer->mlp, st->xin, NULL, st->msg.rows, st->sc->shared,
		st->sc->work, w);
}

static void finish_work(void *context, struct worker *w)
{
	const struct step *st = context;
	bool shared = st->layer->mlp[0].data != NULL;

	/*
	 * every call from here on touches this worker's columns only, so no barrier stands between
	 */
	if (st->parts)
		ffn_mlp_set(&st->x->s.model, st->sc->part, st->parts, st->xin, st->sc->work, w);
	if (st->layer->is_moe && st->buffered)
		routed_add_up(st, w);
	ffn_finish(&st->x->s.model, st->h_out, st->h_in, st->layer->is_moe ? st->acc : NULL,
		   shared ? st->sc->shared : NULL, st->sc->skip, st->msg.rows, w);
}

/* Rows that met a number that is not finite. */
static void find_not_finite(const struct step *st)
{
	const struct attach *a = &st->x->s.at;

	for (uint32_t r = 0; r < st->msg.rows; r++) {
		if (!st->error_out[r] &&
		    !st->x->s.kernels.all_finite(st->h_out + (size_t)r * a->layout.row_stride,
						 a->plan->hidden))
			st->error_out[r] = row_error(CAUSE_NOT_FINITE, st->msg.layer, 0, 0);
	}
}

void step_shared(struct step *st)
{
	uint64_t start = clock_now_ns();

	if (st->layer->mlp[0].data)
		team_run(st->x->s.team, shared_work, st);
	count_time(st->x->s.at.log, COUNT_SHARED_NS, start, clock_now_ns(), st->msg.batch,
		   st->msg.layer);
}

/* Row r of a step as a step of its own. */
static struct step row_of(const struct step *st, uint32_t r)
{
	const struct attach *a = &st->x->s.at;
	size_t k = a->plan->top_k, stride = a->layout.row_stride;
	struct step row = *st;

	row.msg.rows = 1;
	row.inside = true; /* the twins are not rung for each row */
	row.xin += (size_t)r * a->layout.x_stride;
	row.h_in += r * stride;
	row.h_out += r * stride;
	row.error_in += r;
	row.error_out += r;
	row.route += r * k;
	row.route_weight += r * k;
	return row;
}

void step_compute_rows(struct step *st)
{
	struct experts *x = st->x;
	struct experts_record *d = x->record.draft;
	struct err e = {0};

	/* parts that a predecessor has committed are of the step as a whole: begin anew */
	record_touch(&x->record, d, sizeof(*d));
	d->part_seq[st->msg.batch] = 0;
	for (uint32_t r = 0; r < st->msg.rows; r++) {
		struct step row = row_of(st, r);

		server_turn(&x->s);
		if (!row.error_in[0] && !server_row(&x->s, r))
			row.error_out[0] = server_poison_error(&x->s, st->msg.layer);
		else if (row.error_in[0] || (st->layer->is_moe && sort_rows(&row, &e)))
			row.error_out[0] = row.error_in[0];
		else
			step_compute(&row);
	}
	server_row(&x->s, UINT32_MAX);
}

void step_compute(struct step *st)
{
	bool last = st->msg.layer == st->pass.area.last_layer;
	uint64_t start;
	void *twins = st->inside ? NULL : server_twins(&st->x->s, last ? ROLE_ROUTER : ROLE_MLA);

	/*
	 * the accumulators of a committed part lack what failed in it, so its error words count
	 * too: they have stayed in the object
	 */
	for (uint32_t r = 0; r < st->msg.rows; r++) {
		if (!routed_resumes(st))
			st->error_out[r] = st->error_in[r];
		st->sc->skip[r] = st->error_out[r] != 0;
	}
	if (st->layer->is_moe) {
		slots_step(&st->x->slots, &st->msg, st->pass.area.decode, st->route, st->error_in);
		routed_compute(st);
	} else
		step_shared(st);
	start = clock_now_ns();
	team_run_last(st->x->s.team, finish_work, st, twins);
	if (st->layer->is_moe && st->buffered) {
		routed_release(st);
		count_time(st->x->s.at.log, COUNT_EXPERT_NS, start, clock_now_ns(), st->msg.batch,
			   st->msg.layer);
	}
	find_not_finite(st);
}
