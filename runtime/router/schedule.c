/*
 * The schedule: who gets a place, which rows run next, and the first step of a pass (machinery 6,
 * 7, 18). Decode rows form one batch, prefill rows the other, or where there are none, half of the
 * decode rows; a sequence has rows in at most one running pass. Whatever is decided here, tokens do
 * not depend on it.
 */
#include "runtime/router/router.h"

#include "runtime/clock.h"

#include <assert.h>
#include <string.h>

/* A pass being put together: its area is written outside the record, the rest in the draft. */
struct build {
	struct router *r;
	uint32_t batch;
	struct pass_area *area;
	struct pass_row *row;
	struct pass_copy *copy;
	uint32_t *pages;
	uint32_t failed; /* sequences that ended instead of getting rows */
};

static struct build build_start(struct router *r, uint32_t batch, enum pass_kind kind)
{
	const struct layout *l = &r->s.at.layout;
	uint64_t pass = router_head(r)->next_pass[batch];
	char *base = attach_at(&r->s.at, OBJ_ROUTER, l->router_area[batch][pass & 1]);
	const struct plan *p = r->s.at.plan;
	struct build b = {.r = r,
			  .batch = batch,
			  .area = (void *)base,
			  .row = (void *)(base + sizeof(struct pass_area)),
			  .copy = (void *)(base + l->area_copies[batch]),
			  .pages = (void *)(base + l->area_pages[batch])};

	*b.area = (struct pass_area){
		.pass = pass, .kind = (uint32_t)kind, .last_layer = p->main_layers - 1};
	if (kind == PASS_MTP) {
		b.area->first_layer = p->main_layers;
		b.area->last_layer = p->main_layers;
	}
	return b;
}

static bool score_rows(const struct router_seq *q)
{
	return q->req.flags & REQUEST_LOGITS;
}

/* The youngest running sequence but `conn`, UINT32_MAX if there is none younger than it. */
static uint32_t youngest(const struct router *r, uint32_t conn)
{
	for (uint32_t i = r->n_active; i-- && r->active[i] != conn;) {
		if (router_seq(r, r->active[i])->status == SEQ_RUNNING)
			return r->active[i];
	}
	return UINT32_MAX;
}

void schedule_set_back(struct router *r, uint32_t conn)
{
	struct router_seq *q = router_seq_edit(r, conn);

	pages_release(r, conn);
	q->status = SEQ_QUEUED;
	q->place = NO_PLACE;
	q->set_back = 0;
	count_add(r->s.at.log, COUNT_PREEMPTED, 1);
}

/* Makes sure that the sequence has the page of `position`, if one can be had at nobody's cost. */
static bool find_page(struct router *r, uint32_t conn, uint32_t position)
{
	struct router_seq *q = router_seq_edit(r, conn);
	uint32_t page;

	if (position / KV_PAGE_ROWS < q->n_pages)
		return true;
	page = pages_take(r);
	if (page == NO_PAGE)
		return false;
	router_table_edit(r, q->place, q->n_pages, 1)[q->n_pages] = page;
	q->n_pages++;
	return true;
}

/*
 * Makes sure that the sequence has the page of `position`. False: not now; somebody younger gives
 * up pages, or this one was set back itself.
 */
static bool have_page(struct router *r, uint32_t conn, uint32_t position)
{
	while (!find_page(r, conn, position)) {
		uint32_t other = youngest(r, conn);

		if (other == UINT32_MAX) {
			schedule_set_back(r, conn);
			return false;
		}
		if (router_seq(r, other)->in_pass) {
			router_seq_edit(r, other)->set_back = 1;
			return false;
		}
		schedule_set_back(r, other);
	}
	return true;
}

/*
 * Behind the row of the last known token one of the token that MTP expects, where that can be of
 * use.
 */
static void build_draft(struct build *b, uint32_t conn, uint32_t list)
{
	struct router *r = b->r;
	const struct router_seq *q = router_seq(r, conn);
	uint32_t known = router_known(q);

	if (b->area->kind != PASS_MAIN || b->area->rows == r->s.at.plan->rows[b->batch] ||
	    b->row[b->area->rows - 1].position + 1 != known || !draft_wanted(r, conn) ||
	    !find_page(r, conn, known))
		return;
	b->row[b->area->rows++] = (struct pass_row){.token = q->draft,
						    .position = known,
						    .conn = conn,
						    .page_list = list,
						    .flags = ROW_LOGITS | ROW_DRAFT};
}

/*
 * Adds rows of a sequence at positions from .. to - 1 (MTP: of the pairs whose first members they
 * are); fewer if pages or room run out.
 */
static void build_rows(struct build *b, uint32_t conn, uint32_t from, uint32_t to)
{
	struct router *r = b->r;
	const struct plan *p = r->s.at.plan;
	bool mtp = b->area->kind == PASS_MTP;
	struct router_seq *q = router_seq_edit(r, conn);
	uint32_t list = b->area->n_pages, first = b->area->rows, known = router_known(q),
		 first_key = mtp ? draft_first_key(q) : 0;

	for (uint32_t pos = from; pos < to && b->area->rows < p->rows[b->batch]; pos++) {
		uint32_t at = pos + mtp, token = router_token_at(r, conn, at);

		if (token == UINT32_MAX) {
			b->area->rows = first;
			requests_end(r, conn, SEQ_FAILED, row_error(CAUSE_BAD_REQUEST, 0, 0, 0));
			b->failed++;
			return;
		}
		if (!have_page(r, conn, at)) {
			if (q->status != SEQ_RUNNING)
				b->area->rows = first; /* set back: it has no pages any more */
			break;
		}
		b->row[b->area->rows++] = (struct pass_row){
			.token = token,
			.position = at,
			.conn = conn,
			.page_list = list,
			.flags = score_rows(q) || at + 1 == known ? ROW_LOGITS : 0,
			.first_key = first_key,
			.source = mtp ? q->hidden_row0 + (pos - q->hidden_position) : 0};
	}
	if (b->area->rows == first)
		return;
	build_draft(b, conn, list);
	memcpy(b->pages + list, router_table(r, q->place), q->n_pages * sizeof(uint32_t));
	b->area->n_pages += q->n_pages;
	if (q->copy_rows)
		b->copy[b->area->n_copies++] = (struct pass_copy){
			.from = q->copy_from, .to = q->copy_to, .rows = q->copy_rows};
	q->in_pass = 1;
}

struct embed {
	struct router *r;
	const struct build *b;
};

static void embed_work(void *context, struct worker *w)
{
	const struct embed *m = context;
	struct router *r = m->r;
	const struct attach *a = &r->s.at;
	float *rows = attach_at(a, OBJ_ROUTER, a->layout.router_rows[m->b->batch]);

	if (m->b->area->kind == PASS_MTP)
		mtp_rows(&r->s.model, a->plan->main_layers, r->token,
			 attach_at(a, OBJ_ROUTER, a->layout.router_final[m->b->batch]), r->source,
			 m->b->area->rows, rows, r->mtp_work, w);
	else
		embed_rows(&r->s.model, r->token, m->b->area->rows, rows, w);
}

/* Hop 0: the embedding rows, then the commit that starts the pass. */
static void launch(struct build *b)
{
	struct router *r = b->r;
	const struct attach *a = &r->s.at;
	struct router_head *h = router_head(r);
	struct embed m = {.r = r, .b = b};
	struct msg msg = {.kind = MSG_ATTEND,
			  .batch = b->batch,
			  .layer = b->area->first_layer,
			  .generation = a->generation,
			  .rows = b->area->rows,
			  .seq = msg_seq(b->area->pass, a->plan->layers, b->area->first_layer + 1)};
	uint64_t gpu = lists_gpu(r, b->batch);
	uint64_t *tail = gpu ? &h->list_tail[b->batch] : &h->ring_tail[0][b->batch];

	pay_started(r, b->batch);
	server_wait_layer(&r->s, b->area->first_layer);
	for (uint32_t i = 0; i < b->area->rows; i++) {
		r->token[i] = b->row[i].token;
		r->source[i] = b->row[i].source;
	}
	if (gpu)
		team_run(r->s.team, embed_work, &m);
	else
		team_run_last(r->s.team, embed_work, &m, server_twins(&r->s, ROLE_MLA));
	memset(attach_at(a, OBJ_ROUTER, a->layout.router_error[b->batch]), 0,
	       b->area->rows * sizeof(uint64_t));
	/* never full: one message per batch is under way in the whole circle */
	if (gpu) {
		msg.kind = MSG_LIST;
		lists_put(r, &msg, b->area, b->row, b->copy, b->pages);
	}
	h->on_gpu[b->batch] = gpu;
	ring_put(attach_at(a, OBJ_ROUTER,
			   a->layout.router_ring[gpu ? 2 : 0] +
				   b->batch * RING_ENTRIES * sizeof(msg)),
		 RING_ENTRIES, *tail, *tail, &msg);
	++*tail;
	h->batch[b->batch] = (struct router_batch){
		.pass = b->area->pass, .kind = b->area->kind, .rows = b->area->rows};
	h->next_pass[b->batch]++;
	router_commit(r);
	attach_ring(a, gpu ? ROLE_CUDA : ROLE_MLA);
	count_add(a->log, COUNT_PASSES, 1);
	count_add(a->log, COUNT_GPU_PASSES, gpu != 0);
	count_add(a->log, COUNT_MTP_PASSES, b->area->kind == PASS_MTP);
}

/*
 * Pages that a queued sequence needs beyond those it finds: its tokens', and one more where it was
 * set back (machinery 18).
 */
static bool pages_suffice(const struct router *r, const struct router_seq *q)
{
	uint32_t need = (router_known(q) + KV_PAGE_ROWS - 1) / KV_PAGE_ROWS;

	need += q->count && need < r->s.at.layout.pages_per_seq;
	return need <= q->n_pages + pages_available(r);
}

/* The lowest place that no running sequence has; plan.places if there is none. */
static uint32_t free_place(const struct router *r)
{
	uint32_t place = 0, i = 0;

	while (i < r->n_active && place < r->s.at.plan->places) {
		if (router_seq(r, r->active[i])->place == place) {
			place++;
			i = 0;
		} else {
			i++;
		}
	}
	return place;
}

bool schedule_admit(struct router *r)
{
	const struct plan *p = r->s.at.plan;
	uint32_t oldest = UINT32_MAX, place;
	struct router_seq *q;

	for (uint32_t i = r->n_active; i--;) {
		if (router_seq(r, r->active[i])->status == SEQ_QUEUED)
			oldest = r->active[i];
	}
	place = free_place(r);
	if (oldest == UINT32_MAX || place == p->places)
		return false;
	q = router_seq_edit(r, oldest);
	q->place = place;
	pages_reuse(r, oldest);
	if (!pages_suffice(r, q)) {
		pages_release(r, oldest);
		q->place = NO_PLACE;
		return false;
	}
	q->status = SEQ_RUNNING;
	if (!q->count) {
		q->cached = q->computed;
		count_add(r->s.at.log, COUNT_CACHED_TOKENS, q->cached);
	}
	return true;
}

/* The known-answer pass: BOS through the layers up to the first MoE layer. */
static bool start_health(struct router *r)
{
	const struct plan *p = r->s.at.plan;
	const struct router_seq *q = router_seq(r, CONN_HEALTH);
	struct build b;
	uint32_t layer = 0;

	if (q->status != SEQ_QUEUED)
		return false;
	router_seq_edit(r, CONN_HEALTH)->place = p->places;
	router_table_edit(r, p->places, 0, 1)[0] = pages_reserved(r);
	router_seq_edit(r, CONN_HEALTH)->n_pages = 1;
	router_seq_edit(r, CONN_HEALTH)->status = SEQ_RUNNING;
	b = build_start(r, BATCH_DECODE, PASS_HEALTH);
	b.area->decode = 1;
	while (layer + 1 < p->main_layers && !r->s.model.layer[layer].is_moe)
		layer++;
	b.area->last_layer = layer;
	build_rows(&b, CONN_HEALTH, 0, 1);
	if (!b.area->rows) {
		router_commit(r);
		attach_ring(&r->s.at, ROLE_CLIENT);
		return true;
	}
	launch(&b);
	return true;
}

/*
 * Whether a score client still reads rows of the last pass: the logits object is not overwritten
 * before.
 */
static bool rows_unread(const struct router *r)
{
	for (uint32_t c = 0; r->s.at.plan->score && c < CONNS; c++) {
		const struct router_seq *q = router_seq(r, c);

		if (score_rows(q) && q->req.live && q->passes != q->req.taken)
			return true;
	}
	return false;
}

/* What a pass does for its sequences. */
enum work {
	WORK_PROMPT, /* positions before the last known token */
	WORK_DECODE, /* the last known token */
	WORK_MTP
};

/*
 * Whether a sequence may have rows in the next pass of this batch. MTP's pairs come first: the
 * next main pass overwrites their hidden states.
 */
static bool runnable(const struct router *r, uint32_t conn, uint32_t batch, enum work work)
{
	const struct router_seq *q = router_seq(r, conn);
	uint32_t left = router_known(q) - q->computed;

	if (q->status != SEQ_RUNNING || q->in_pass)
		return false;
	if (work == WORK_MTP || draft_pairs(q))
		return work == WORK_MTP && draft_pairs(q) && q->hidden_batch == batch;
	if (score_rows(q))
		return work == WORK_PROMPT && left > 0;
	return work == WORK_DECODE ? left == 1 : left > 1;
}

static uint32_t count_runnable(const struct router *r, uint32_t batch, enum work work)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->n_active; i++)
		n += runnable(r, r->active[i], batch, work);
	return n;
}

/* Sequences that decode: in a pass or before one. UINT32_MAX: a chunk of a prompt is running. */
static uint32_t count_decoding(const struct router *r)
{
	uint32_t n = count_runnable(r, BATCH_DECODE, WORK_DECODE);

	for (uint32_t i = 0; i < r->n_active; i++) {
		const struct router_seq *q = router_seq(r, r->active[i]);

		if (q->in_pass && router_known(q) - q->computed > 1)
			return UINT32_MAX;
		n += q->in_pass != 0;
	}
	return n;
}

/* Whether the decode pass that is about to begin has drafts. */
static void choose_drafts(struct router *r)
{
	uint32_t here = count_runnable(r, BATCH_DECODE, WORK_DECODE), n = count_decoding(r);

	if (!here)
		return;
	pay_choose(r, n < UINT32_MAX ? n : here);
	for (uint32_t i = 0; i < r->n_active; i++) {
		if (runnable(r, r->active[i], BATCH_DECODE, WORK_DECODE))
			draft_follow(router_seq_edit(r, r->active[i]), r->pay.follow);
	}
}

/*
 * Decode rows for the next pass of `batch`: all, or half of those of both batches. Where every
 * expert has its slot halves would hide nothing; drafts are another way to have more rows.
 */
static uint32_t decode_share(struct router *r, uint32_t batch)
{
	const struct plan *p = r->s.at.plan;
	uint32_t here = count_runnable(r, batch, WORK_DECODE), n = count_decoding(r);

	if (p->slots >= r->s.model.index->experts.count || r->pay.follow || n == UINT32_MAX ||
	    count_runnable(r, BATCH_PREFILL, WORK_PROMPT)) {
		halve_disturbed(&r->halve);
		return batch == BATCH_DECODE ? here : 0;
	}
	if (!halve_choose(&r->halve, n))
		return batch == BATCH_DECODE ? here : 0;
	if (batch == BATCH_PREFILL && !router_head(r)->batch[BATCH_DECODE].pass)
		return 0;
	return here < (n + 1) / 2 ? here : (n + 1) / 2;
}

/* Fills a pass of `batch` with rows of up to `most` sequences and starts it. */
static bool start_pass(struct router *r, uint32_t batch, enum work work, uint32_t most)
{
	struct build b;
	uint16_t conn[CONNS]; /* in the order of admission; one that fails leaves router.active */
	uint32_t n = r->n_active;

	if (!most)
		return false;
	memcpy(conn, r->active, n * sizeof(*conn));
	b = build_start(r, batch, work == WORK_MTP ? PASS_MTP : PASS_MAIN);
	b.area->decode = work == WORK_MTP ? batch == BATCH_DECODE : work == WORK_DECODE;
	for (uint32_t i = 0; i < n && most; i++) {
		uint32_t c = conn[i];
		const struct router_seq *q = router_seq(r, c);

		if (!runnable(r, c, batch, work))
			continue;
		if (work == WORK_MTP)
			build_rows(&b, c, draft_from(q), draft_from(q) + draft_pairs(q));
		else
			build_rows(&b, c, q->computed, router_known(q));
		most--;
	}
	if (b.area->rows) {
		launch(&b);
	} else if (b.failed) {
		router_commit(r);
		attach_ring(&r->s.at, ROLE_CLIENT);
		return true;
	}
	return b.area->rows > 0;
}

static bool start_decode(struct router *r)
{
	uint32_t pairs = count_runnable(r, BATCH_DECODE, WORK_MTP);

	if (pairs)
		return start_pass(r, BATCH_DECODE, WORK_MTP, pairs);
	choose_drafts(r);
	return start_pass(r, BATCH_DECODE, WORK_DECODE, decode_share(r, BATCH_DECODE));
}

/* A chunk of prompts goes before a half of the decode rows. */
static bool start_prefill(struct router *r)
{
	uint32_t pairs = count_runnable(r, BATCH_PREFILL, WORK_MTP);

	if (rows_unread(r))
		return false;
	if (pairs)
		return start_pass(r, BATCH_PREFILL, WORK_MTP, pairs);
	return start_pass(r, BATCH_PREFILL, WORK_PROMPT,
			  count_runnable(r, BATCH_PREFILL, WORK_PROMPT)) ||
	       start_pass(r, BATCH_PREFILL, WORK_DECODE, decode_share(r, BATCH_PREFILL));
}

bool schedule(struct router *r)
{
	const struct router_head *h = r->record.draft;
	bool admitted = false, started = false;

	while (schedule_admit(r))
		admitted = true;
	if (lists_wait(r))
		return false;
	if (h->batch[BATCH_DECODE].pass == 0)
		started = start_health(r) || start_decode(r);
	h = r->record.draft;
	if (h->batch[BATCH_PREFILL].pass == 0)
		started |= start_prefill(r);
	if (admitted && !started)
		router_commit(r);
	count_set(r->s.at.log, COUNT_RUNNING, requests_count(r, SEQ_RUNNING));
	count_set(r->s.at.log, COUNT_QUEUED, requests_count(r, SEQ_QUEUED));
	count_set(r->s.at.log, COUNT_PAGES_FREE, pages_available(r));
	return started;
}
