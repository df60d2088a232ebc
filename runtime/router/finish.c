/*
 * The end of a pass: final norm, head, sampler, and what each sequence has gained. Everything is
 * done in the draft of the record: positions, tokens and page names become visible with the commit
 * of the pass's last step, or not at all.
 */
#include "runtime/router/router.h"

#include "runtime/clock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* The rows that want logits, gathered, normed and multiplied. */
struct head {
	const struct step *st;
	uint32_t n, first; /* of the picked rows */
	uint32_t row0, rows;
	const float *h; /* [rows][row_stride], after the last layer */
	bool keep;      /* MTP will want the final hidden state of every row */
	float *logits;
};

static void head_work(void *context, struct worker *w)
{
	const struct head *k = context;
	const struct step *st = k->st;
	struct router *r = st->r;
	const struct attach *a = &r->s.at;
	const struct layout *l = &a->layout;
	uint32_t b = st->msg.batch, layer = st->pass.area.last_layer;
	size_t stride = l->row_stride, first = k->first;
	float *h = r->picked + first * stride;
	uint16_t *x = r->picked_x + first * l->x_stride;

	if (k->keep)
		head_norm(&r->s.model, layer, k->h + k->row0 * stride, k->rows,
			  (float *)attach_at(a, OBJ_ROUTER, l->router_final[b]) + k->row0 * stride,
			  NULL, w);
	if (!k->n || st->listed)
		return;
	head_norm(&r->s.model, layer, h, k->n, h, x, w);
	worker_barrier(w);
	head_logits(&r->s.model, x, k->n, k->logits + first * r->s.at.plan->vocab,
		    r->s.at.plan->vocab, w);
}

/*
 * A step that has killed a predecessor twice: each row alone (machinery 11). Rows that have killed
 * one alone are marked in router.failed.
 */
static void head_carefully(const struct head *all)
{
	const struct step *st = all->st;
	struct router *r = st->r;
	uint32_t picked = 0;

	for (uint32_t i = 0; i < st->msg.rows; i++) {
		bool wanted = st->pass.row[i].flags & ROW_LOGITS;
		struct head one = {.st = st,
				   .n = wanted,
				   .first = picked,
				   .row0 = i,
				   .rows = 1,
				   .keep = all->keep,
				   .h = all->h,
				   .logits = all->logits};

		picked += wanted;
		r->failed[i] = !server_row(&r->s, i);
		if (!r->failed[i] && (one.n || one.keep))
			team_run(r->s.team, head_work, &one);
	}
	server_row(&r->s, UINT32_MAX);
}

static struct head pick_rows(const struct step *st)
{
	struct router *r = st->r;
	const struct attach *a = &r->s.at;
	const struct layout *l = &a->layout;
	const float *h = st->listed ? lists_rows(st)
				    : attach_at(a, OBJ_EXPERTS, l->experts_rows[st->msg.batch]);
	struct head k = {.st = st, .rows = st->msg.rows, .logits = r->logits, .h = h};

	for (uint32_t i = 0; i < st->msg.rows; i++) {
		k.keep |=
			st->pass.area.kind == PASS_MAIN && router_seq(r, st->pass.row[i].conn)->mtp;
		if (!(st->pass.row[i].flags & ROW_LOGITS))
			continue;
		assert(k.n < r->picked_max);
		memcpy(r->picked + (size_t)k.n * l->row_stride, h + (size_t)i * l->row_stride,
		       a->plan->hidden * sizeof(float));
		k.n++;
	}
	if (a->plan->score && st->pass.area.kind != PASS_HEALTH)
		k.logits = attach_at(a, OBJ_LOGITS, l->logits[st->pass.area.kind == PASS_MTP]);
	if (st->listed)
		memcpy(k.logits, lists_logits(st), (size_t)k.n * a->plan->vocab * sizeof(float));
	return k;
}

bool finish_is_end(const struct router *r, uint32_t token)
{
	const struct model_config *c = r->s.model.config;

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

int finish_draw(struct router *r, uint32_t conn, const float *logits, uint32_t *token)
{
	const struct router_seq *q = router_seq(r, conn);
	struct sampler_options o = {.temperature = q->req.temperature,
				    .top_k = q->req.top_k,
				    .top_p = q->req.top_p,
				    .min_p = q->req.min_p,
				    .seed = q->req.seed};
	struct err e = {0};

	return sampler_draw(&o, logits, r->s.at.plan->vocab, candidates(r), router_known(q),
			    r->sampler_work, token, &e);
}

/*
 * Draws the next token of a sequence from its logit row; it is in the log when the record is
 * committed.
 */
static void sample(struct router *r, uint32_t conn, const float *logits)
{
	struct router_seq *q = router_seq_edit(r, conn);
	struct token_entry t = {0};
	int rc = finish_draw(r, conn, logits, &t.token);

	if (rc) {
		requests_end(r, conn, SEQ_FAILED,
			     row_error(rc == -EDOM ? CAUSE_NOT_FINITE : CAUSE_BAD_REQUEST, 0xffff,
				       0, 0));
		return;
	}
	t.end = finish_is_end(r, t.token);
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

/* One sequence's rows of a pass that has ended. */
struct part {
	uint32_t conn, row0, n;     /* the row of a draft not counted */
	const struct pass_row *row; /* of the area */
	uint64_t error;             /* of the first row that failed */
	const float *logits;        /* of the last row that wanted them */
	const float *draft;         /* of the draft's row; NULL: none, or it failed */
	bool drafted;
};

/* The rows lie in the logits object now. */
static void finish_score(const struct step *st, const struct part *p)
{
	struct router_seq *q = router_seq_edit(st->r, p->conn);
	bool mtp = st->pass.area.kind == PASS_MTP;

	if (mtp) {
		draft_take(st->r, p->conn, p->row, p->n, false, NULL);
	} else {
		q->computed = p->row->position + p->n;
		draft_keep(q, st->msg.batch, p->row0, p->row->position, p->n);
	}
	q->out_row0 = p->row0;
	q->out_rows = p->n;
	q->out_position = p->row->position - mtp;
	q->out_mtp = mtp;
	q->passes++;
	if (q->computed == q->req.n_prompt && (!q->mtp || q->mtp_next == q->req.n_prompt))
		requests_end(st->r, p->conn, SEQ_DONE, 0);
}

/* Whether the draft was the token drawn: then its row has given one more. */
static bool verify(struct router *r, const struct part *p)
{
	struct router_seq *q = router_seq_edit(r, p->conn);
	bool right = q->status == SEQ_RUNNING && p->draft &&
		     router_tokens(r, p->conn)[q->count - 1].token == p->row[p->n].token;

	count_add(r->s.at.log, COUNT_DRAFTED, 1);
	if (!right)
		return false;
	count_add(r->s.at.log, COUNT_ACCEPTED_DRAFTS, 1);
	q->computed++;
	pages_name(r, p->conn, &p->row[p->n], 1);
	sample(r, p->conn, p->draft);
	return true;
}

static void finish_main(const struct step *st, const struct part *p)
{
	struct router *r = st->r;
	struct router_seq *q = router_seq_edit(r, p->conn);
	uint32_t position = p->row->position, rows = p->n;

	q->computed = position + p->n;
	pages_name(r, p->conn, p->row, p->n);
	if (position < q->req.n_prompt)
		count_add(r->s.at.log, COUNT_PROMPT_TOKENS, p->n);
	if (p->logits)
		sample(r, p->conn, p->logits);
	if (p->drafted) {
		bool right = verify(r, p);

		rows += right;
		r->skip[p->row0 + p->n] = !right;
	}
	if (q->status == SEQ_RUNNING && q->mtp)
		draft_keep(q, st->msg.batch, p->row0, position, rows);
}

/* Ends the pass for one sequence. */
static void finish_part(const struct step *st, const struct part *p)
{
	struct router *r = st->r;
	struct router_seq *q = router_seq_edit(r, p->conn);
	bool mtp = st->pass.area.kind == PASS_MTP, score = q->req.flags & REQUEST_LOGITS;

	q->in_pass = 0;
	if (p->error && (!mtp || score)) {
		requests_end(r, p->conn, SEQ_FAILED, p->error);
		return;
	}
	pages_copied(r, p->conn);
	if (p->conn == CONN_HEALTH) {
		assert(p->logits); /* of its one row */
		finish_health(r, p->logits);
		return;
	}
	if (score) {
		finish_score(st, p);
		return;
	}
	if (mtp)
		draft_take(r, p->conn, p->row, p->n, p->error != 0, p->logits);
	else
		finish_main(st, p);
	if (q->set_back && q->status == SEQ_RUNNING)
		schedule_set_back(r, p->conn);
	q->set_back = 0;
}

/*
 * Appends the rows of a main pass that has been committed to the trace: for scribe, which may be
 * too slow and then loses some. A draft that was wrong leaves none.
 */
void finish_trace(const struct step *st)
{
	struct router *r = st->r;
	const struct attach *a = &r->s.at;
	const struct layout *l = &a->layout;
	uint32_t b = st->msg.batch, k = a->plan->top_k, pairs = a->plan->moe_layers * k;
	struct trace_ring *ring = attach_at(a, OBJ_TRACE, sizeof(struct object_header));
	/* relaxed: router alone writes it */
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

	for (uint32_t i = 0; i < st->msg.rows; i++) {
		const struct pass_row *row = &st->pass.row[i];

		if (r->skip[i])
			continue;
		char *out = attach_at(a, OBJ_TRACE,
				      l->trace_rows + head % TRACE_RECORDS * l->trace_stride);
		uint16_t *expert = (uint16_t *)(void *)(out + sizeof(struct trace_row));
		float *weight = (float *)(void *)(out + sizeof(struct trace_row) +
						  ((pairs * sizeof(*expert) + 3) & ~3u));
		const struct trace_row t = {.request = router_seq(r, row->conn)->request,
					    .conn = row->conn,
					    .position = row->position,
					    .token = row->token,
					    .flags = (st->pass.area.decode ? 0u : TRACE_PREFILL) |
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
		head++;
	}
	/*
	 * release: the records are whole before the count that names them; pairs with scribe's
	 * acquire
	 */
	atomic_store_explicit(&ring->head, head, memory_order_release);
	attach_ring(a, ROLE_SCRIBE);
}

/* The part that begins with row `row0`; *picked counts the logit rows of the parts before. */
static struct part next_part(const struct step *st, const struct head *k, uint32_t row0,
			     uint32_t *picked)
{
	const struct attach *a = &st->r->s.at;
	const uint64_t *errors =
		st->listed ? lists_errors(st)
			   : attach_at(a, OBJ_EXPERTS, a->layout.experts_error[st->msg.batch]);
	const uint8_t *failed = st->r->failed;
	struct part p = {.conn = st->pass.row[row0].conn, .row0 = row0, .row = &st->pass.row[row0]};

	for (uint32_t i = row0; i < st->msg.rows && st->pass.row[i].conn == p.conn; i++) {
		const float *logits = NULL;

		if (st->pass.row[i].flags & ROW_LOGITS)
			logits = k->logits + (size_t)(*picked)++ * a->plan->vocab;
		if (st->pass.row[i].flags & ROW_DRAFT) {
			p.drafted = true;
			p.draft = errors[i] || failed[i] ? NULL : logits;
			continue;
		}
		p.n++;
		if (!p.error)
			p.error = errors[i]   ? errors[i]
				  : failed[i] ? server_poison_error(&st->r->s, 0xffff)
					      : 0;
		if (logits)
			p.logits = logits;
	}
	return p;
}

void finish_pass(const struct step *st)
{
	struct router *r = st->r;
	const struct attach *a = &r->s.at;
	struct head k = pick_rows(st);
	uint32_t picked = 0, row = 0, parts = 0, drafts = 0;
	uint64_t now,
		tokens = atomic_load_explicit(&a->log->counter[COUNT_TOKENS], memory_order_relaxed);

	server_wait_layer(&r->s, UINT32_MAX);
	memset(r->failed, 0, st->msg.rows);
	if (server_careful(&r->s))
		head_carefully(&k);
	else if (k.n || k.keep)
		team_run(r->s.team, head_work, &k);
	now = clock_now_ns();
	count_time(a->log, COUNT_HEAD_NS, st->start_ns, now, st->msg.batch, UINT32_MAX);
	memset(r->skip, 0, st->msg.rows);
	while (row < st->msg.rows) {
		struct part p = next_part(st, &k, row, &picked);

		/* the sampler's turn: the row that is drawn from */
		if (!server_row(&r->s, row) && !p.error)
			p.error = server_poison_error(&r->s, 0xffff);
		finish_part(st, &p);
		row += p.n + p.drafted;
		drafts += p.drafted;
		parts++;
	}
	server_row(&r->s, UINT32_MAX);
	tokens =
		atomic_load_explicit(&a->log->counter[COUNT_TOKENS], memory_order_relaxed) - tokens;
	pay_ended(r, st->msg.batch, st->pass.area.kind, parts, (uint32_t)tokens, drafts);
	if (st->pass.area.decode && st->pass.area.kind == PASS_MAIN) {
		halve_ended(&r->halve, parts, clock_now_ns());
		count_set(a->log, COUNT_HALVES_GAIN, (uint64_t)(1000 * r->halve.gain));
		if (st->msg.batch != BATCH_DECODE)
			count_add(a->log, COUNT_SECOND_ROWS, parts);
	}
	count_time(a->log, COUNT_SAMPLE_NS, now, clock_now_ns(), st->msg.batch, UINT32_MAX);
	count_add(a->log, COUNT_ROWS, st->msg.rows);
}
