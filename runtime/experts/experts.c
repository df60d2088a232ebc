/*
 * experts' start, loop and commits; see experts.h. One FEED message is one step, its commit the
 * answer to mla or router.
 */
#include "runtime/experts/experts.h"

#include "runtime/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SETTLE_NS (100 * 1000 * 1000ull) /* between two looks at reads under way while idle */

bool step_scratch_open(struct scratch *sc, const struct server *s, uint32_t batch)
{
	const struct plan *p = s->at.plan;
	const struct model_config *c = s->model.config;
	size_t rows = p->rows[batch], row = s->at.layout.row_stride * sizeof(float),
	       pairs = rows * p->top_k, experts = p->experts + 1ull, set, work;

	sc->f_rows = plan_kept_rows(p, batch);
	set = ffn_set_scratch_bytes(c, ffn_moe_inner_max(c), plan_set_rows(p, batch), p->workers);
	work = ffn_scratch_bytes(c, ffn_inner_max(c), (uint32_t)rows, p->workers);
	sc->shared = server_array(rows, row);
	sc->f = server_array(sc->f_rows, row);
	sc->work = server_array(1, work > set ? work : set);
	sc->part = server_array(experts, sizeof(*sc->part));
	sc->mlp = server_array(experts, sizeof(*sc->mlp));
	sc->list = server_array(pairs, sizeof(*sc->list));
	sc->weight = server_array(pairs, sizeof(*sc->weight));
	sc->compact = server_array(rows, sizeof(*sc->compact));
	sc->compact_weight = server_array(rows, sizeof(*sc->compact_weight));
	sc->start = server_array(experts, sizeof(*sc->start));
	sc->active = server_array(experts, sizeof(*sc->active));
	sc->slot = server_array(experts, sizeof(*sc->slot));
	sc->state = server_array(experts, 1);
	sc->skip = server_array(rows, 1);
	sc->error = server_array(rows, sizeof(*sc->error));
	sc->route = server_array(pairs, sizeof(*sc->route));
	return sc->shared && sc->f && sc->work && sc->part && sc->mlp && sc->list && sc->weight &&
	       sc->compact && sc->compact_weight && sc->start && sc->active && sc->slot &&
	       sc->state && sc->skip && sc->error && sc->route;
}

/* What is inherited is made to agree with the neighbours' counts. */
static void repair(struct experts *x)
{
	struct experts_record *d = x->record.draft;
	bool any = false;

	for (uint32_t b = 0; b < BATCHES; b++) {
		bool lost = server_repair_head(&x->s, &x->feed[b], &d->feed_head[b]);

		lost |= server_repair_tail(&x->s, RING_ATTEND, b, &d->attend_tail[b]);
		lost |= server_repair_tail(&x->s, RING_FINISH, b, &d->finish_tail[b]);
		any |= server_repair_head(&x->s, &x->missing[b], &d->missing_head[b]);
		any |= server_repair_tail(&x->s, RING_LOAD, b, &d->load_tail[b]);
		if (lost)
			server_lost(&x->s, &d->refused, b);
		any |= lost;
	}
	if (!any)
		return;
	record_touch(&x->record, d, sizeof(*d));
	record_commit(&x->record);
	attach_ring(&x->s.at, ROLE_ROUTER);
}

struct experts *experts_open(const char *generation, struct err *e)
{
	struct experts *x = calloc(1, sizeof(*x));

	if (!x)
		err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory");
	if (!x || server_open(&x->s, ROLE_EXPERTS, generation, e))
		return NULL;
	for (uint32_t b = 0; b < BATCHES; b++) {
		if (!step_scratch_open(&x->scratch[b], &x->s, b)) {
			err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for %u rows",
				 x->s.at.plan->rows[b]);
			return NULL;
		}
		x->feed[b] = server_ring(&x->s, RING_FEED, b);
		x->missing[b] = server_ring(&x->s, RING_MISSING, b);
	}
	if (slots_open(&x->slots, &x->s, e))
		return NULL;
	if (!load_open(x)) {
		err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the GPU's slots");
		return NULL;
	}
	hint_open(&x->hint, &x->s, &x->slots);
	return x;
}

static void take_over(struct experts *x)
{
	server_take_over(&x->s);
	count_set(x->s.at.log, COUNT_SLOTS, x->s.at.plan->slots);
	record_open(&x->record, attach_at(&x->s.at, OBJ_EXPERTS, x->s.at.layout.experts_record),
		    sizeof(struct experts_record));
	repair(x);
	load_take_over(x);
	slots_take_over(&x->slots);
	count_set(x->s.at.log, COUNT_SLOTS_PINNED, x->slots.pinned);
}

/* The message that passes the rows on, into the ring of whoever is next. */
static void answer(struct step *st, struct experts_record *d)
{
	const struct attach *a = &st->x->s.at;
	uint32_t b = st->msg.batch, layers = a->plan->layers;
	bool last = st->msg.layer == st->pass.area.last_layer;
	uint64_t *tail = last ? &d->finish_tail[b] : &d->attend_tail[b];
	struct msg out = st->msg;

	out.kind = last ? MSG_FINISH : MSG_ATTEND;
	out.layer += last ? 0 : 1;
	out.seq = msg_seq(msg_pass(st->msg.seq, layers), layers, last ? layers + 1 : out.layer + 1);
	out.generation = a->generation;
	/* never full: one message per batch is under way in the whole circle */
	ring_put(attach_at(a, OBJ_EXPERTS,
			   a->layout.experts_ring[last] + b * RING_ENTRIES * sizeof(out)),
		 RING_ENTRIES, *tail, *tail, &out);
	++*tail;
}

static void commit(struct step *st, bool good)
{
	struct experts *x = st->x;
	struct experts_record *d = x->record.draft;
	uint32_t b = st->msg.batch;
	enum role next = good && st->msg.layer != st->pass.area.last_layer ? ROLE_MLA : ROLE_ROUTER;

	record_touch(&x->record, d, sizeof(*d));
	d->feed_head[b]++;
	d->part_seq[b] = 0;
	if (good) {
		d->pass[b] = msg_pass(st->msg.seq, x->s.at.plan->layers);
		answer(st, d);
	}
	record_commit(&x->record);
	attach_ring(&x->s.at, next);
}

void experts_commit_part(struct experts *x, const struct msg *m, uint32_t next, uint32_t side)
{
	struct experts_record *d = x->record.draft;

	record_touch(&x->record, d, sizeof(*d));
	d->part_seq[m->batch] = m->seq;
	d->part_next[m->batch] = next;
	d->part_side[m->batch] = side;
	record_commit(&x->record);
}

static void refuse(struct step *st)
{
	struct experts_record *d = st->x->record.draft;

	server_refuse(&st->x->s, &d->refused, &st->msg, st->msg.batch, ROLE_ROUTER);
	commit(st, false);
}

/* Router's count is impossible: nothing is popped. */
static void refuse_record(struct experts *x)
{
	struct refusal *r = &((struct experts_record *)x->record.draft)->refused;

	record_touch(&x->record, r, sizeof(*r));
	server_refuse_record(&x->s, r, ROLE_ROUTER);
	record_commit(&x->record);
}

/* Brings a counter of the log up to a count of the stream's. */
static void count_on(struct experts *x, enum counter to, const _Atomic uint64_t *count,
		     uint64_t *seen)
{
	uint64_t now = atomic_load_explicit(count, memory_order_relaxed);

	count_add(x->s.at.log, to, now - *seen);
	*seen = now;
}

/* The stream's counts begin anew with each process; the log's, which go on, are the leader's. */
static void count_reads(struct experts *x)
{
	const struct stream_counts *c;

	if (!x->slots.n)
		return;
	c = stream_counts(x->slots.stream);
	count_on(x, COUNT_READ_BYTES, &c->bytes, &x->seen_bytes);
	count_on(x, COUNT_READS, &c->reads, &x->seen_reads);
	count_on(x, COUNT_HINT_BYTES, &c->hint_bytes, &x->seen_hints);
	count_on(x, COUNT_DRIVE_ERRORS, &c->errors, &x->seen_errors);
	count_on(x, COUNT_DRIVE_BUSY_NS, &c->busy_ns, &x->seen_busy_ns);
}

bool experts_serve(struct experts *x, uint32_t batch, bool inside)
{
	const struct experts_record *d = x->record.draft;
	struct step st = {.x = x, .inside = inside};
	struct err e = {0};
	int rc = server_take(&x->s, &x->feed[batch], d->feed_head[batch], MSG_FEED, batch, &st.msg,
			     &e);
	uint64_t start = clock_now_ns();
	/* relaxed: our own */
	uint64_t outer = atomic_load_explicit(&x->s.at.log->progress.step, memory_order_relaxed),
		 outer_ns = atomic_load_explicit(&x->s.at.log->progress.since_ns,
						 memory_order_relaxed);

	if (rc == 0)
		return false;
	if (rc == -EPROTO) {
		refuse_record(x);
		return true;
	}
	st.msg.batch = batch;
	if (rc < 0) {
		refuse(&st);
		return true;
	}
	if (msg_pass(st.msg.seq, x->s.at.plan->layers) < server_floor(&x->s, batch)) {
		commit(&st, false);
		return true;
	}
	server_wait_layer(&x->s, st.msg.layer);
	if (step_prepare(&st, &e)) {
		refuse(&st);
		return true;
	}
	server_progress(&x->s, st.msg.seq, batch);
	if (server_careful(&x->s))
		step_compute_rows(&st);
	else
		step_compute(&st);
	count_reads(x);
	count_add(x->s.at.log, COUNT_STEPS, 1);
	count_add(x->s.at.log, COUNT_ROWS, st.msg.rows);
	count_add(x->s.at.log, COUNT_STEP_NS, clock_now_ns() - start);
	if (!inside)
		count_set(x->s.at.log, COUNT_SLOTS_PINNED, x->slots.pinned);
	commit(&st, true);
	server_progress(&x->s, UINT64_MAX, 0);
	if (inside)
		server_resume(&x->s, outer, outer_ns);
	return true;
}

static bool more(void *context)
{
	struct experts *x = context;
	const struct experts_record *d = x->record.draft;

	for (uint32_t b = 0; x->s.at.plan->gpu && b < BATCHES; b++)
		if (server_pending(&x->s, &x->missing[b], d->missing_head[b]) || load_settled(x, b))
			return true;
	return server_pending(&x->s, &x->feed[0], d->feed_head[0]) ||
	       server_pending(&x->s, &x->feed[1], d->feed_head[1]);
}

noreturn void experts_loop(struct experts *x)
{
	take_over(x);
	for (;;) {
		while (load_serve(x, BATCH_DECODE) || experts_serve(x, BATCH_DECODE, false) ||
		       load_serve(x, BATCH_PREFILL) || experts_serve(x, BATCH_PREFILL, false))
			server_turn(&x->s);
		/* reads that nobody waits for land unannounced */
		server_sleep(&x->s, more, x, slots_settle(&x->slots) ? SETTLE_NS : UINT64_MAX);
	}
}
