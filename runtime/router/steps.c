/*
 * router's steps inside a pass: the messages of the circle, the gate of each layer (ROUTE to FEED),
 * and what becomes of a bad message. What the end of a pass (FINISH) computes is in finish.c.
 */
#include "runtime/router/router.h"

#include "runtime/clock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* ---- gate ---- */

enum {
	FAILED_POISON = 2 /* of router.failed: beside 1, a number that is not finite */
};

struct gate {
	const struct step *st;
	uint16_t *expert;
	float *weight;
};

static void gate_work(void *context, struct worker *w)
{
	const struct gate *g = context;
	struct router *r = g->st->r;
	const struct attach *a = &r->s.at;

	gate_rows(&r->s.model, g->st->msg.layer,
		  attach_at(a, OBJ_MLA, a->layout.mla_x[g->st->msg.batch]), g->st->msg.rows,
		  r->skip, g->expert, g->weight, r->failed, r->gate_work, w);
}

struct gate_row {
	const struct gate *g;
	uint32_t row;
};

static void gate_row_work(void *context, struct worker *w)
{
	const struct gate_row *k = context;
	const struct step *st = k->g->st;
	struct router *r = st->r;
	const struct attach *a = &r->s.at;
	size_t top_k = a->plan->top_k;
	const uint16_t *x = attach_at(a, OBJ_MLA, a->layout.mla_x[st->msg.batch]);

	gate_rows(&r->s.model, st->msg.layer, x + (size_t)k->row * a->layout.x_stride, 1, NULL,
		  k->g->expert + k->row * top_k, k->g->weight + k->row * top_k, r->failed + k->row,
		  r->gate_work, w);
}

/* A step that has killed a predecessor twice: each row alone (machinery 11). */
static void gate_carefully(const struct gate *g, const uint64_t *in)
{
	struct router *r = g->st->r;

	for (uint32_t i = 0; i < g->st->msg.rows; i++) {
		struct gate_row k = {.g = g, .row = i};

		if (in[i])
			continue;
		if (server_row(&r->s, i))
			team_run(r->s.team, gate_row_work, &k);
		else
			r->failed[i] = FAILED_POISON;
	}
	server_row(&r->s, UINT32_MAX);
}

/* Passes error words on and picks each row's experts. */
static void gate_step(const struct step *st)
{
	struct router *r = st->r;
	const struct attach *a = &r->s.at;
	const struct layout *l = &a->layout;
	uint32_t b = st->msg.batch;
	size_t at = (size_t)st->msg.layer * a->plan->rows[b] * a->plan->top_k;
	const uint64_t *in = attach_at(a, OBJ_MLA, l->mla_error[b]);
	uint64_t *out = attach_at(a, OBJ_ROUTER, l->router_error[b]);
	struct gate g = {.st = st,
			 .expert = (uint16_t *)attach_at(a, OBJ_ROUTER, l->router_expert[b]) + at,
			 .weight = (float *)attach_at(a, OBJ_ROUTER, l->router_weight[b]) + at};
	bool moe = r->s.model.layer[st->msg.layer].is_moe;

	for (uint32_t i = 0; i < st->msg.rows; i++) {
		r->skip[i] = in[i] != 0;
		r->failed[i] = 0;
	}
	if (moe && server_careful(&r->s))
		gate_carefully(&g, in);
	else if (moe)
		team_run_last(r->s.team, gate_work, &g, server_twins(&r->s, ROLE_EXPERTS));
	for (uint32_t i = 0; i < st->msg.rows; i++) {
		if (in[i])
			out[i] = in[i];
		else if (r->failed[i] == FAILED_POISON)
			out[i] = server_poison_error(&r->s, st->msg.layer);
		else
			out[i] =
				r->failed[i] ? row_error(CAUSE_NOT_FINITE, st->msg.layer, 0, 0) : 0;
	}
}

static void gate_commit(const struct step *st, bool good)
{
	struct router *r = st->r;
	const struct attach *a = &r->s.at;
	struct router_head *h = router_head(r);
	uint32_t b = st->msg.batch;

	h->ring_head[0][b]++;
	if (good) {
		struct msg out = st->msg;

		out.kind = MSG_FEED;
		out.generation = a->generation;
		/* never full: one message per batch is under way in the whole circle */
		ring_put(attach_at(a, OBJ_ROUTER,
				   a->layout.router_ring[1] + b * RING_ENTRIES * sizeof(out)),
			 RING_ENTRIES, h->ring_tail[1][b], h->ring_tail[1][b], &out);
		h->ring_tail[1][b]++;
	}
	router_commit(r);
	if (good)
		attach_ring(a, ROLE_EXPERTS);
}

/* ---- end of a pass ---- */

static void finish_commit(const struct step *st, bool ended)
{
	struct router *r = st->r;
	struct router_head *h = router_head(r);

	if (st->listed)
		h->done_head[st->msg.batch]++;
	else
		h->ring_head[1][st->msg.batch]++;
	if (ended) {
		h->on_gpu[st->msg.batch] = 0;
		h->batch[st->msg.batch] = (struct router_batch){0};
		h->health_ns = clock_now_ns();
	}
	router_commit(r);
	attach_ring(&r->s.at, ROLE_CLIENT);
}

/* ---- messages ---- */

/*
 * In the draft: the rows of a running pass are done again as a new one, and steps of the old one
 * are popped without work (machinery 5).
 */
static void abandon(struct router *r, uint32_t batch)
{
	struct router_head *h = router_head(r);
	const struct layout *l = &r->s.at.layout;
	const struct pass_row *row = attach_at(&r->s.at, OBJ_ROUTER,
					       l->router_area[batch][h->batch[batch].pass & 1] +
						       sizeof(struct pass_area));

	for (uint32_t i = 0; i < h->batch[batch].rows; i++)
		router_seq_edit(r, row[i].conn)->in_pass = 0;
	h->floor[batch] = h->next_pass[batch];
	h->on_gpu[batch] = 0;
	h->batch[batch] = (struct router_batch){0};
}

static bool refused(const struct attach *a, uint32_t batch, uint64_t pass)
{
	size_t at = batch * sizeof(uint64_t);
	uint64_t found;

	return (attach_read_u64(a, OBJ_MLA, a->layout.mla_record, sizeof(struct mla_record),
				offsetof(struct mla_record, refused.pass) + at, &found) &&
		found == pass) ||
	       (attach_read_u64(a, OBJ_EXPERTS, a->layout.experts_record,
				sizeof(struct experts_record),
				offsetof(struct experts_record, refused.pass) + at, &found) &&
		found == pass) ||
	       (a->plan->gpu &&
		attach_read_u64(a, OBJ_CUDA, a->layout.cuda_record, sizeof(struct cuda_record),
				offsetof(struct cuda_record, refused.pass) + at, &found) &&
		found == pass);
}

void steps_repair(struct router *r)
{
	struct router_head *h = router_head(r);

	for (uint32_t b = 0; b < BATCHES; b++) {
		bool lost = server_repair_head(&r->s, &r->route[b], &h->ring_head[0][b]);

		lost |= server_repair_head(&r->s, &r->finish[b], &h->ring_head[1][b]);
		lost |= server_repair_tail(&r->s, RING_ATTEND0, b, &h->ring_tail[0][b]);
		lost |= server_repair_tail(&r->s, RING_FEED, b, &h->ring_tail[1][b]);
		lost |= server_repair_head(&r->s, &r->done[b], &h->done_head[b]);
		lost |= server_repair_tail(&r->s, RING_LIST, b, &h->list_tail[b]);
		if (lost && h->batch[b].pass)
			abandon(r, b);
	}
	server_repair_head(&r->s, &r->announce, &h->ring_head[2][0]);
	router_commit(r);
}

bool steps_abandon_refused(struct router *r)
{
	bool any = false;

	for (uint32_t b = 0; b < BATCHES; b++) {
		uint64_t pass = ((const struct router_head *)r->record.draft)->batch[b].pass;

		if (pass && refused(&r->s.at, b, pass)) {
			abandon(r, b);
			any = true;
		}
	}
	if (any)
		router_commit(r);
	return any;
}

bool steps_abandon_dead(struct router *r)
{
	const struct router_head *h = r->record.draft;
	bool any = false;

	for (uint32_t b = 0; b < BATCHES; b++) {
		/* what it had done before it died is there to be taken */
		if (!h->on_gpu[b] || server_gpu_alive(&r->s, h->on_gpu[b]) ||
		    server_pending(&r->s, &r->done[b], h->done_head[b]))
			continue;
		abandon(r, b);
		count_add(r->s.at.log, COUNT_GPU_LOST, 1);
		any = true;
	}
	if (any)
		router_commit(r);
	return any;
}

/*
 * A bad message: popped, its sender named, and the pass that now cannot end is run again; one
 * commit, as nobody else would notice that it cannot.
 */
static void drop(struct step *st, bool finish)
{
	struct router *r = st->r;

	server_refuse(&r->s, &router_head(r)->refused, &st->msg, st->msg.batch,
		      st->listed ? ROLE_CUDA
		      : finish   ? ROLE_EXPERTS
				 : ROLE_MLA);
	if (router_head(r)->batch[st->msg.batch].pass)
		abandon(r, st->msg.batch);
	if (finish)
		finish_commit(st, false);
	else
		gate_commit(st, false);
}

/* Whether the message speaks of the pass that is running. */
static int check_pass(struct step *st, struct err *e)
{
	const struct router_head *h = st->r->record.draft;
	uint32_t layers = st->r->s.at.plan->layers;

	if (msg_pass(st->msg.seq, layers) != h->batch[st->msg.batch].pass)
		return err_set(e, -EBADMSG, "pass %llu is not running",
			       (unsigned long long)msg_pass(st->msg.seq, layers));
	return server_pass(&st->r->s, &st->msg, &st->pass, e);
}

static void serve_route(struct step *st)
{
	struct err e = {0};

	if (check_pass(st, &e)) {
		drop(st, false);
		return;
	}
	server_wait_layer(&st->r->s, st->msg.layer);
	gate_step(st);
	gate_commit(st, true);
	count_time(st->r->s.at.log, COUNT_GATE_NS, st->start_ns, clock_now_ns(), st->msg.batch,
		   st->msg.layer);
}

static void serve_finish(struct step *st)
{
	struct err e = {0};

	if (check_pass(st, &e)) {
		drop(st, true);
		return;
	}
	if (st->listed)
		lists_take_routes(st);
	finish_pass(st);
	finish_commit(st, true);
	if (st->r->s.at.plan->trace && st->pass.area.kind == PASS_MAIN)
		finish_trace(st);
}

bool steps_serve(struct router *r)
{
	for (uint32_t b = 0; b < BATCHES; b++) {
		const struct router_head *h = r->record.draft;

		for (unsigned finish = 0; finish < (r->s.at.plan->gpu ? 3 : 2); finish++) {
			static const enum msg_kind kind[] = {MSG_ROUTE, MSG_FINISH, MSG_DONE};
			struct step st = {
				.r = r, .start_ns = clock_now_ns(), .listed = finish == 2};
			struct ring_end *ring[] = {&r->route[b], &r->finish[b], &r->done[b]};
			struct err e = {0};
			int rc = server_take(&r->s, ring[finish],
					     st.listed ? h->done_head[b] : h->ring_head[finish][b],
					     kind[finish], b, &st.msg, &e);

			if (rc == 0)
				continue;
			st.msg.batch = b;
			if (rc == -EPROTO) { /* nothing to pop */
				server_refuse_record(&r->s, &router_head(r)->refused,
						     st.listed ? ROLE_CUDA
						     : finish  ? ROLE_EXPERTS
							       : ROLE_MLA);
				router_commit(r);
				return true;
			}
			if (rc < 0) {
				drop(&st, finish);
				return true;
			}
			if (msg_pass(st.msg.seq, r->s.at.plan->layers) < h->floor[b]) {
				if (finish)
					finish_commit(&st, false);
				else
					gate_commit(&st, false);
				return true;
			}
			server_progress(&r->s, st.msg.seq, b);
			if (finish)
				serve_finish(&st);
			else
				serve_route(&st);
			server_progress(&r->s, UINT64_MAX, 0);
			count_add(r->s.at.log, COUNT_STEPS, 1);
			return true;
		}
	}
	return false;
}
