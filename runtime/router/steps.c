/*
 * router's steps inside a pass: the gate of each layer (ROUTE to FEED) and the end (FINISH to
 * tokens). What a pass computed becomes visible with the commit of its last step only: positions,
 * tokens, page names.
 */
#include "runtime/router/router.h"

#include "runtime/clock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* A step on its way. */
struct step {
	struct router *r;
	struct msg msg;
	struct pass pass;
	uint64_t start_ns;
};

/* ---- gate ---- */

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
	if (moe)
		team_run_last(r->s.team, gate_work, &g, server_twins(&r->s, ROLE_EXPERTS));
	for (uint32_t i = 0; i < st->msg.rows; i++)
		out[i] = in[i] || !r->failed[i] ? in[i]
						: row_error(CAUSE_NOT_FINITE, st->msg.layer, 0, 0);
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

/* The rows that want logits, gathered, normed and multiplied. */
struct head {
	const struct step *st;
	uint32_t n;
	float *norm_out;
	float *logits;
};

static void head_work(void *context, struct worker *w)
{
	const struct head *k = context;
	struct router *r = k->st->r;

	head_norm(&r->s.model, k->st->pass.area.last_layer, r->picked, k->n, k->norm_out,
		  r->picked_x, w);
	worker_barrier(w);
	head_logits(&r->s.model, r->picked_x, k->n, k->logits, r->s.at.plan->vocab, w);
}

/* Final hidden rows of a score run's main pass stay where MTP finds them. */
static struct head pick_rows(const struct step *st)
{
	struct router *r = st->r;
	const struct attach *a = &r->s.at;
	const struct layout *l = &a->layout;
	const float *h = attach_at(a, OBJ_EXPERTS, l->experts_rows[st->msg.batch]);
	struct head k = {.st = st, .norm_out = r->picked, .logits = r->logits};

	for (uint32_t i = 0; i < st->msg.rows; i++) {
		if (!(st->pass.row[i].flags & ROW_LOGITS))
			continue;
		assert(k.n < r->picked_max);
		memcpy(r->picked + (size_t)k.n * l->row_stride, h + (size_t)i * l->row_stride,
		       a->plan->hidden * sizeof(float));
		k.n++;
	}
	if (a->plan->score && st->pass.area.kind != PASS_HEALTH) {
		bool mtp = st->pass.area.kind == PASS_MTP;

		k.logits = attach_at(a, OBJ_LOGITS, l->logits[mtp]);
		if (!mtp)
			k.norm_out = attach_at(a, OBJ_ROUTER, l->router_final[st->msg.batch]);
	}
	return k;
}

static bool is_end_token(const struct model_config *c, uint32_t token)
{
	for (uint32_t i = 0; i < c->n_eos; i++) {
		if (c->eos_token_id[i] == token)
			return true;
	}
	return false;
}

static const uint8_t *candidates(const struct router *r)
{
	const struct index *ix = r->s.model.index;

	return ix->candidates.count ? (const uint8_t *)ix + ix->candidates.off : NULL;
}

/*
 * Draws the next token of a sequence from its logit row; it is in the log when the record is
 * committed.
 */
static void sample(struct router *r, uint32_t conn, const float *logits)
{
	struct router_seq *q = router_seq_edit(r, conn);
	struct sampler_options o = {.temperature = q->req.temperature,
				    .top_k = q->req.top_k,
				    .top_p = q->req.top_p,
				    .min_p = q->req.min_p,
				    .seed = q->req.seed};
	struct token_entry t = {0};
	struct err e = {0};
	int rc = sampler_draw(&o, logits, r->s.at.plan->vocab, candidates(r), router_known(q),
			      r->sampler_work, &t.token, &e);

	if (rc) {
		requests_end(r, conn, SEQ_FAILED,
			     row_error(rc == -EDOM ? CAUSE_NOT_FINITE : CAUSE_BAD_REQUEST, 0xffff,
				       0, 0));
		return;
	}
	t.end = is_end_token(r->s.model.config, t.token);
	t.time_ns = clock_now_ns();
	router_tokens(r, conn)[q->count++] = t;
	count_add(r->s.at.log, COUNT_TOKENS, 1);
	if (t.end || q->count == q->req.max_tokens)
		requests_end(r, conn, SEQ_DONE, 0);
}

/* 64 bits over the logits' own bits. */
static uint64_t hash_logits(const float *logits, size_t n)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < n; i++) {
		uint32_t bits;

		memcpy(&bits, &logits[i], sizeof(bits));
		h = (h ^ bits) * 0x100000001b3ull;
		h ^= h >> 29;
	}
	return h ? h : 1;
}

static void finish_health(struct router *r, const float *logits)
{
	struct token_entry t = {.hash = hash_logits(logits, r->s.at.plan->vocab),
				.time_ns = clock_now_ns()};

	if (!r->s.kernels.all_finite(logits, r->s.at.plan->vocab)) {
		requests_end(r, CONN_HEALTH, SEQ_FAILED, row_error(CAUSE_NOT_FINITE, 0xffff, 0, 0));
		return;
	}
	router_tokens(r, CONN_HEALTH)[0] = t;
	router_seq_edit(r, CONN_HEALTH)->count = 1;
	if (!router_head(r)->health_hash)
		router_head(r)->health_hash = t.hash;
	requests_end(r, CONN_HEALTH, SEQ_DONE, 0);
}

/* A sequence's rows of a score pass lie in the logits object now. */
static void finish_score(struct router *r, uint32_t conn, uint32_t row0, uint32_t rows,
			 uint32_t position, bool mtp)
{
	struct router_seq *q = router_seq_edit(r, conn);
	uint32_t last = q->req.n_prompt - 1;

	if (!mtp)
		q->computed = position + rows;
	else
		q->mtp_done = position + rows;
	q->out_row0 = row0;
	q->out_rows = rows;
	q->out_position = position;
	q->out_mtp = mtp;
	q->passes++;
	if (q->computed == q->req.n_prompt &&
	    (!(q->req.flags & REQUEST_MTP) || q->mtp_done == last))
		requests_end(r, conn, SEQ_DONE, 0);
}

/*
 * One sequence's rows [row0, row0 + n) of a pass that has ended; `picked` of its logit rows begin
 * at `logits`.
 */
static void finish_rows(const struct step *st, uint32_t row0, uint32_t n, uint64_t error,
			const float *logits)
{
	struct router *r = st->r;
	uint32_t conn = st->pass.row[row0].conn, position = st->pass.row[row0].position;
	struct router_seq *q = router_seq_edit(r, conn);
	bool mtp = st->pass.area.kind == PASS_MTP;

	q->in_pass = 0;
	if (error) {
		requests_end(r, conn, SEQ_FAILED, error);
		return;
	}
	pages_copied(r, conn);
	if (conn == CONN_HEALTH) {
		assert(logits); /* of its one row */
		finish_health(r, logits);
		return;
	}
	if (q->req.flags & REQUEST_LOGITS) {
		finish_score(r, conn, row0, n, position - mtp, mtp);
		return;
	}
	q->computed = position + n;
	pages_name(r, conn, &st->pass.row[row0], n);
	if (position < q->req.n_prompt)
		count_add(r->s.at.log, COUNT_PROMPT_TOKENS, n);
	if (logits)
		sample(r, conn, logits);
	q = router_seq_edit(r, conn);
	if (q->set_back && q->status == SEQ_RUNNING)
		schedule_set_back(r, conn);
	q->set_back = 0;
}

/*
 * Appends the rows of a main pass that has been committed to the trace: for scribe, which may be
 * too slow and then loses some.
 */
static void trace_rows(const struct step *st)
{
	struct router *r = st->r;
	const struct attach *a = &r->s.at;
	const struct layout *l = &a->layout;
	uint32_t b = st->msg.batch, k = a->plan->top_k, pairs = a->plan->moe_layers * k;
	struct trace_ring *ring = attach_at(a, OBJ_TRACE, sizeof(struct object_header));
	/* relaxed: router alone writes it */
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

	for (uint32_t i = 0; i < st->msg.rows; i++, head++) {
		const struct pass_row *row = &st->pass.row[i];
		char *out = attach_at(a, OBJ_TRACE,
				      l->trace_rows + head % TRACE_RECORDS * l->trace_stride);
		uint16_t *expert = (uint16_t *)(void *)(out + sizeof(struct trace_row));
		float *weight = (float *)(void *)(out + sizeof(struct trace_row) +
						  ((pairs * sizeof(*expert) + 3) & ~3u));
		const struct trace_row t = {.request = router_seq(r, row->conn)->request,
					    .conn = row->conn,
					    .position = row->position,
					    .token = row->token,
					    .flags = (b == BATCH_PREFILL ? TRACE_PREFILL : 0u) |
						     (i == 0 ? TRACE_FIRST : 0u)};

		memcpy(out, &t, sizeof(t));
		for (uint32_t layer = 0; layer < a->plan->main_layers; layer++) {
			size_t at = ((size_t)layer * a->plan->rows[b] + i) * k;

			if (!r->s.model.layer[layer].is_moe)
				continue;
			memcpy(expert,
			       (const uint16_t *)attach_at(a, OBJ_ROUTER, l->router_expert[b]) + at,
			       k * sizeof(*expert));
			memcpy(weight,
			       (const float *)attach_at(a, OBJ_ROUTER, l->router_weight[b]) + at,
			       k * sizeof(*weight));
			expert += k;
			weight += k;
		}
	}
	/*
	 * release: the records are whole before the count that names them; pairs with scribe's
	 * acquire
	 */
	atomic_store_explicit(&ring->head, head, memory_order_release);
	attach_ring(a, ROLE_SCRIBE);
}

/* Computes the head and ends the pass for each of its sequences, in the draft. */
static void finish_step(const struct step *st)
{
	struct router *r = st->r;
	const struct attach *a = &r->s.at;
	const uint64_t *errors = attach_at(a, OBJ_EXPERTS, a->layout.experts_error[st->msg.batch]);
	struct head k = pick_rows(st);
	uint32_t picked = 0;
	uint64_t now;

	server_wait_layer(&r->s, UINT32_MAX);
	if (k.n)
		team_run(r->s.team, head_work, &k);
	now = clock_now_ns();
	count_time(a->log, COUNT_HEAD_NS, st->start_ns, now, st->msg.batch, UINT32_MAX);
	for (uint32_t i = 0, n; i < st->msg.rows; i += n) {
		const float *logits = NULL;
		uint64_t error = 0;

		for (n = 0;
		     i + n < st->msg.rows && st->pass.row[i + n].conn == st->pass.row[i].conn;
		     n++) {
			if (!error)
				error = errors[i + n];
			if (st->pass.row[i + n].flags & ROW_LOGITS)
				logits = k.logits + (size_t)picked++ * a->plan->vocab;
		}
		finish_rows(st, i, n, error, logits);
	}
	count_time(a->log, COUNT_SAMPLE_NS, now, clock_now_ns(), st->msg.batch, UINT32_MAX);
	count_add(a->log, COUNT_ROWS, st->msg.rows);
}

static void finish_commit(const struct step *st, bool ended)
{
	struct router *r = st->r;
	struct router_head *h = router_head(r);

	h->ring_head[1][st->msg.batch]++;
	if (ended) {
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
		if (lost && h->batch[b].pass)
			abandon(r, b);
	}
	server_repair_head(&r->s, &r->announce, &h->ring_head[2][0]);
	server_repair_tail(&r->s, RING_HINT, 0, &h->ring_tail[2][0]);
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

/*
 * A bad message: popped, its sender named, and the pass that now cannot end is run again; one
 * commit, as nobody else would notice that it cannot.
 */
static void drop(struct step *st, bool finish)
{
	struct router *r = st->r;

	server_refuse(&r->s, &router_head(r)->refused, &st->msg, st->msg.batch,
		      finish ? ROLE_EXPERTS : ROLE_MLA);
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
	finish_step(st);
	finish_commit(st, true);
	if (st->r->s.at.plan->trace && st->pass.area.kind == PASS_MAIN)
		trace_rows(st);
}

bool steps_serve(struct router *r)
{
	for (uint32_t b = 0; b < BATCHES; b++) {
		const struct router_head *h = r->record.draft;

		for (unsigned finish = 0; finish < 2; finish++) {
			struct step st = {.r = r, .start_ns = clock_now_ns()};
			struct err e = {0};
			int rc = server_take(&r->s, finish ? &r->finish[b] : &r->route[b],
					     h->ring_head[finish][b],
					     finish ? MSG_FINISH : MSG_ROUTE, b, &st.msg, &e);

			if (rc == 0)
				continue;
			st.msg.batch = b;
			if (rc == -EPROTO) { /* nothing to pop */
				server_refuse_record(&r->s, &router_head(r)->refused,
						     finish ? ROLE_EXPERTS : ROLE_MLA);
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
