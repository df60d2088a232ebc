/*
 * mla's steps. One message is one step: read it and what it names, write the rows after attention
 * where nobody looks yet, commit. A step that is cut off is done again from the same input: rows
 * come from another object than they go to, and KV rows are written with the same bytes.
 */
#include "runtime/mla/mla.h"

#include "runtime/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What is inherited is made to agree with the neighbours' counts. */
static void repair(struct mla *m)
{
	struct mla_record *d = m->record.draft;
	bool any = false;

	for (uint32_t b = 0; b < BATCHES; b++) {
		bool lost = server_repair_head(&m->s, &m->attend0[b], &d->attend0_head[b]);

		lost |= server_repair_head(&m->s, &m->attend[b], &d->attend_head[b]);
		lost |= server_repair_tail(&m->s, RING_ROUTE, b, &d->route_tail[b]);
		any |= server_repair_head(&m->s, &m->store[b], &d->store_head[b]);
		if (lost)
			server_lost(&m->s, &d->refused, b);
		any |= lost;
	}
	if (!any)
		return;
	record_touch(&m->record, d, sizeof(*d));
	record_commit(&m->record);
	attach_ring(&m->s.at, ROLE_ROUTER);
}

struct mla *mla_open(const char *generation, struct err *e)
{
	struct mla *m = calloc(1, sizeof(*m));
	const struct plan *p;
	uint32_t rows;

	if (!m)
		err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory");
	if (!m || server_open(&m->s, ROLE_MLA, generation, e))
		return NULL;
	p = m->s.at.plan;
	rows = p->rows[0] > p->rows[1] ? p->rows[0] : p->rows[1];
	m->row = server_array(rows, sizeof(*m->row));
	m->error = server_array(rows, sizeof(*m->error));
	m->pages = server_array(m->s.at.layout.page_list_max, sizeof(*m->pages));
	m->scratch = server_array(1, attention_scratch_bytes(m->s.model.config, p->workers, rows));
	if (!m->row || !m->error || !m->pages || !m->scratch) {
		err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for %u rows", rows);
		return NULL;
	}
	for (uint32_t b = 0; b < BATCHES; b++) {
		m->attend0[b] = server_ring(&m->s, RING_ATTEND0, b);
		m->attend[b] = server_ring(&m->s, RING_ATTEND, b);
		m->store[b] = server_ring(&m->s, RING_STORE, b);
	}
	return m;
}

static void take_over(struct mla *m)
{
	server_take_over(&m->s);
	record_open(&m->record, attach_at(&m->s.at, OBJ_MLA, m->s.at.layout.mla_record),
		    sizeof(struct mla_record));
	repair(m);
}

uint16_t *mla_page(const struct mla *m, uint32_t page)
{
	const struct attach *a = &m->s.at;

	return attach_at(a, OBJ_KV, a->layout.kv_pages + page * a->plan->kv_page_bytes);
}

/*
 * Copies of shared pages that a sequence is about to write on (machinery 17): in the pass's first
 * step.
 */
static int copy_pages(const struct mla_step *st, struct err *e)
{
	const struct plan *p = st->m->s.at.plan;
	size_t row = config_kv_row(st->m->s.model.config);

	for (uint32_t i = 0; i < st->pass.area.n_copies; i++) {
		struct pass_copy c = st->pass.copy[i];

		if (c.from >= p->pages || c.to >= p->pages || c.from == c.to ||
		    c.rows > KV_PAGE_ROWS)
			return err_set(e, -EBADMSG, "page copy %u: %u to %u of %u, %u rows", i,
				       c.from, c.to, p->pages, c.rows);
		for (uint32_t l = 0; l < p->layers; l++) {
			size_t at = l * KV_PAGE_ROWS * row;

			memcpy(mla_page(st->m, c.to) + at, mla_page(st->m, c.from) + at,
			       c.rows * row * sizeof(uint16_t));
		}
	}
	return 0;
}

/*
 * What workers use as an index, or look at twice, is copied first: router and experts could change
 * it between two looks.
 */
static int fill_rows(struct mla_step *st, const uint64_t *error, struct err *e)
{
	const struct pass *p = &st->pass;

	memcpy(st->m->error, error, p->area.rows * sizeof(*error));
	memcpy(st->m->pages, p->pages, p->area.n_pages * sizeof(*p->pages));
	for (uint32_t r = 0; r < p->area.rows; r++) {
		struct pass_row row = p->row[r];
		uint32_t n = row.position / KV_PAGE_ROWS + 1;

		if (row.position >= st->m->s.at.plan->context || row.page_list > p->area.n_pages ||
		    n > p->area.n_pages - row.page_list)
			return err_set(e, -EBADMSG, "row %u: position %u, pages from %u of %u", r,
				       row.position, row.page_list, p->area.n_pages);
		st->m->row[r] = (struct attention_row){.position = row.position,
						       .first_key = row.first_key,
						       .skip = st->m->error[r] != 0,
						       .pages = st->m->pages + row.page_list,
						       .n_pages = n};
	}
	return 0;
}

static void attend_work(void *context, struct worker *w)
{
	struct mla_step *st = context;

	attention_rows(&st->m->s.model, &st->job, st->m->scratch, w);
}

/*
 * The rows of a step that has killed a predecessor twice, each alone and in order: a row finds the
 * keys of those before it as it would have.
 */
static void attend_carefully(struct mla_step *st)
{
	struct mla *m = st->m;

	for (uint32_t r = 0; r < st->msg.rows; r++) {
		if (m->error[r])
			continue;
		if (!server_row(&m->s, r)) {
			m->error[r] = server_poison_error(&m->s, st->msg.layer);
			continue;
		}
		for (uint32_t i = 0; i < st->msg.rows; i++)
			m->row[i].skip = i != r;
		team_run(m->s.team, attend_work, st);
	}
	server_row(&m->s, UINT32_MAX);
}

/* Passes error words on, and finds rows that met a number that is not finite. */
static void write_errors(const struct mla_step *st)
{
	const struct attach *a = &st->m->s.at;
	uint64_t *out = attach_at(a, OBJ_MLA, a->layout.mla_error[st->msg.batch]);
	size_t stride = a->layout.row_stride;

	for (uint32_t r = 0; r < st->msg.rows; r++) {
		out[r] = st->m->error[r];
		if (!out[r] &&
		    !st->m->s.kernels.all_finite(st->job.h_out + r * stride, a->plan->hidden))
			out[r] = row_error(CAUSE_NOT_FINITE, st->msg.layer, 0, 0);
	}
}

int mla_prepare(struct mla_step *st, bool from_router, struct err *e)
{
	struct mla *m = st->m;
	const struct attach *a = &m->s.at;
	const struct layout *l = &a->layout;
	uint32_t b = st->msg.batch;
	int rc = server_pass(&m->s, &st->msg, &st->pass, e);

	if (rc)
		return rc;
	if (from_router != (st->msg.layer == st->pass.area.first_layer))
		return err_set(e, -EBADMSG, "layer %u comes from the wrong neighbour",
			       st->msg.layer);
	rc = fill_rows(st,
		       from_router ? attach_at(a, OBJ_ROUTER, l->router_error[b])
				   : attach_at(a, OBJ_EXPERTS, l->experts_error[b]),
		       e);
	if (rc)
		return rc;
	st->job = (struct attention_job){
		.layer = st->msg.layer,
		.rows = st->msg.rows,
		.row = m->row,
		.h_in = from_router ? attach_at(a, OBJ_ROUTER, l->router_rows[b])
				    : attach_at(a, OBJ_EXPERTS, l->experts_rows[b]),
		.h_out = attach_at(a, OBJ_MLA, l->mla_rows[b]),
		.x_out = attach_at(a, OBJ_MLA, l->mla_x[b]),
		.kv = mla_page(m, 0),
		.kv_pages = a->plan->pages,
	};
	return attention_check(&m->s.model, &st->job, e);
}

static void commit(struct mla_step *st, bool from_router, bool answer)
{
	struct mla *m = st->m;
	struct mla_record *d = m->record.draft;
	uint32_t b = st->msg.batch;

	record_touch(&m->record, d, sizeof(*d));
	if (from_router)
		d->attend0_head[b]++;
	else
		d->attend_head[b]++;
	if (answer) {
		struct msg out = st->msg;

		d->pass[b] = msg_pass(st->msg.seq, m->s.at.plan->layers);
		out.kind = MSG_ROUTE;
		out.generation = m->s.at.generation;
		/* never full: one message per batch is under way in the whole circle */
		ring_put(attach_at(&m->s.at, OBJ_MLA,
				   m->s.at.layout.mla_ring + b * RING_ENTRIES * sizeof(out)),
			 RING_ENTRIES, d->route_tail[b], d->route_tail[b], &out);
		d->route_tail[b]++;
	}
	record_commit(&m->record);
	attach_ring(&m->s.at, ROLE_ROUTER);
}

/* A bad message: popped, and its sender named. */
static void drop(struct mla_step *st, bool from_router)
{
	struct mla *m = st->m;

	server_refuse(&m->s, &((struct mla_record *)m->record.draft)->refused, &st->msg,
		      st->msg.batch, from_router ? ROLE_ROUTER : ROLE_EXPERTS);
	commit(st, from_router, false);
}

static void run_step(struct mla_step *st, bool from_router)
{
	struct mla *m = st->m;
	struct err e = {0};
	uint64_t start = clock_now_ns();

	if (msg_pass(st->msg.seq, m->s.at.plan->layers) < server_floor(&m->s, st->msg.batch)) {
		commit(st, from_router, false);
		return;
	}
	server_wait_layer(&m->s, st->msg.layer);
	if (mla_prepare(st, from_router, &e) || (from_router && copy_pages(st, &e))) {
		drop(st, from_router);
		return;
	}
	server_progress(&m->s, st->msg.seq, st->msg.batch);
	if (server_careful(&m->s))
		attend_carefully(st);
	else
		team_run_last(m->s.team, attend_work, st, server_twins(&m->s, ROLE_ROUTER));
	write_errors(st);
	commit(st, from_router, true);
	server_progress(&m->s, UINT64_MAX, 0);
	count_add(m->s.at.log, COUNT_STEPS, 1);
	count_add(m->s.at.log, COUNT_ROWS, st->msg.rows);
	count_time(m->s.at.log, COUNT_ATTENTION_NS, start, clock_now_ns(), st->msg.batch,
		   st->msg.layer);
}

/* Its producer's count is impossible: nothing is popped. */
static void refuse_record(struct mla *m, bool from_router)
{
	struct refusal *r = &((struct mla_record *)m->record.draft)->refused;

	record_touch(&m->record, r, sizeof(*r));
	server_refuse_record(&m->s, r, from_router ? ROLE_ROUTER : ROLE_EXPERTS);
	record_commit(&m->record);
}

/* Takes one message, decode first. Whether there was one. */
static bool serve(struct mla *m)
{
	const struct mla_record *d = m->record.draft;

	/* what a pass of the GPU has cached, before anything looks at it */
	for (uint32_t b = 0; b < BATCHES; b++) {
		if (store_serve(m, b))
			return true;
	}
	for (uint32_t b = 0; b < BATCHES; b++) {
		for (int from_router = 1; from_router >= 0; from_router--) {
			struct mla_step st = {.m = m};
			struct err e = {0};
			int rc = server_take(&m->s, from_router ? &m->attend0[b] : &m->attend[b],
					     from_router ? d->attend0_head[b] : d->attend_head[b],
					     MSG_ATTEND, b, &st.msg, &e);

			if (rc == 0)
				continue;
			st.msg.batch = b;
			if (rc == -EPROTO)
				refuse_record(m, from_router);
			else if (rc < 0)
				drop(&st, from_router);
			else
				run_step(&st, from_router);
			return true;
		}
	}
	return false;
}

static bool more(void *context)
{
	struct mla *m = context;
	const struct mla_record *d = m->record.draft;

	for (uint32_t b = 0; b < BATCHES; b++) {
		if (server_pending(&m->s, &m->attend0[b], d->attend0_head[b]) ||
		    server_pending(&m->s, &m->store[b], d->store_head[b]) ||
		    server_pending(&m->s, &m->attend[b], d->attend_head[b]))
			return true;
	}
	return false;
}

noreturn void mla_loop(struct mla *m)
{
	take_over(m);
	for (;;) {
		while (serve(m))
			server_turn(&m->s);
		server_sleep(&m->s, more, m, UINT64_MAX);
	}
}
