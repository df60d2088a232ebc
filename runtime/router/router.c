/* router's record, start and loop; see router.h. */
#include "runtime/router/router.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char *draft(const struct router *r)
{
	return r->record.draft;
}

struct router_head *router_head(struct router *r)
{
	struct router_head *h = r->record.draft;

	record_touch(&r->record, h, sizeof(*h));
	return h;
}

const struct router_seq *router_seq(const struct router *r, uint32_t conn)
{
	return (const struct router_seq *)(void *)(draft(r) + r->s.at.layout.seq_off) + conn;
}

struct router_seq *router_seq_edit(struct router *r, uint32_t conn)
{
	struct router_seq *q =
		(struct router_seq *)(void *)(draft(r) + r->s.at.layout.seq_off) + conn;

	record_touch(&r->record, q, sizeof(*q));
	return q;
}

const uint32_t *router_table(const struct router *r, uint32_t place)
{
	const struct layout *l = &r->s.at.layout;

	return (const uint32_t *)(void *)(draft(r) + l->table_off) +
	       (size_t)place * l->pages_per_seq;
}

uint32_t *router_table_edit(struct router *r, uint32_t place, uint32_t first, uint32_t n)
{
	const struct layout *l = &r->s.at.layout;
	uint32_t *t =
		(uint32_t *)(void *)(draft(r) + l->table_off) + (size_t)place * l->pages_per_seq;

	record_touch(&r->record, t + first, n * sizeof(*t));
	return t;
}

const struct router_page *router_page(const struct router *r, uint32_t page)
{
	return (const struct router_page *)(void *)(draft(r) + r->s.at.layout.page_off) + page;
}

struct router_page *router_page_edit(struct router *r, uint32_t page)
{
	struct router_page *p =
		(struct router_page *)(void *)(draft(r) + r->s.at.layout.page_off) + page;

	record_touch(&r->record, p, sizeof(*p));
	return p;
}

uint32_t *router_page_ids(const struct router *r, uint32_t page)
{
	return (uint32_t *)attach_at(&r->s.at, OBJ_ROUTER, r->s.at.layout.router_page_ids) +
	       (size_t)page * KV_PAGE_ROWS;
}

struct token_entry *router_tokens(const struct router *r, uint32_t conn)
{
	return (struct token_entry *)attach_at(&r->s.at, OBJ_ROUTER, r->s.at.layout.router_tokens) +
	       (size_t)conn * r->s.at.plan->context;
}

const uint32_t *router_prompt(const struct router *r, uint32_t conn)
{
	return (const uint32_t *)attach_at(&r->s.at, OBJ_CLIENT, r->s.at.layout.client_prompt) +
	       (size_t)conn * r->s.at.plan->context;
}

uint32_t router_known(const struct router_seq *q)
{
	return q->req.n_prompt + q->count;
}

uint32_t router_token_at(const struct router *r, uint32_t conn, uint32_t position)
{
	const struct router_seq *q = router_seq(r, conn);
	uint32_t token = position < q->req.n_prompt
				 ? router_prompt(r, conn)[position]
				 : router_tokens(r, conn)[position - q->req.n_prompt].token;

	return token < r->s.at.plan->vocab ? token : UINT32_MAX;
}

void router_commit(struct router *r)
{
	record_commit(&r->record);
}

static bool scratch_open(struct router *r)
{
	const struct plan *p = r->s.at.plan;
	const struct model_config *c = r->s.model.config;
	uint32_t rows = p->rows[0] > p->rows[1] ? p->rows[0] : p->rows[1];

	/*
	 * the head runs for a decode pass's rows and health's, or in a score run for every row of a
	 * chunk
	 */
	r->picked_max = p->score ? rows : p->rows[BATCH_DECODE] + 1;
	r->refs = calloc(p->pages, sizeof(*r->refs));
	r->gate_work = server_array(1, p->experts ? gate_scratch_bytes(c, p->workers, rows) : 1);
	r->mtp_work = server_array(1, p->layers > p->main_layers ? mtp_scratch_bytes(c, rows) : 1);
	r->sampler_work = server_array(1, sampler_scratch_bytes(p->vocab));
	r->skip = server_array(rows, 1);
	r->failed = server_array(rows, 1);
	r->token = server_array(rows, sizeof(*r->token));
	r->list_picked = server_array(rows, sizeof(*r->list_picked));
	r->source = server_array(rows, sizeof(*r->source));
	r->picked = server_array(r->picked_max, r->s.at.layout.row_stride * sizeof(float));
	r->picked_x = server_array(r->picked_max, r->s.at.layout.x_stride * sizeof(uint16_t));
	r->logits = p->score ? attach_at(&r->s.at, OBJ_LOGITS, r->s.at.layout.logits[0])
			     : server_array(r->picked_max, (size_t)p->vocab * sizeof(float));
	return r->refs && r->gate_work && r->mtp_work && r->sampler_work && r->skip && r->failed &&
	       r->token && r->list_picked && r->source && r->picked && r->picked_x && r->logits;
}

struct router *router_open(const char *generation, struct err *e)
{
	struct router *r = calloc(1, sizeof(*r));

	if (!r)
		err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory");
	if (!r || server_open(&r->s, ROLE_ROUTER, generation, e))
		return NULL;
	if (!scratch_open(r)) {
		err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the router's rows");
		return NULL;
	}
	for (uint32_t b = 0; b < BATCHES; b++) {
		r->route[b] = server_ring(&r->s, RING_ROUTE, b);
		r->finish[b] = server_ring(&r->s, RING_FINISH, b);
		r->done[b] = server_ring(&r->s, RING_DONE, b);
	}
	r->announce = server_ring(&r->s, RING_ANNOUNCE, 0);
	if (!pay_open(r)) {
		err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the router's rows");
		return NULL;
	}
	return r;
}

void router_take_over(struct router *r)
{
	const struct attach *a = &r->s.at;

	server_take_over(&r->s);
	record_open(&r->record, attach_at(a, OBJ_ROUTER, a->layout.router_record),
		    a->layout.router_record_size);
	for (uint32_t b = 0; b < BATCHES; b++) {
		if (router_head(r)->next_pass[b] == 0)
			router_head(r)->next_pass[b] =
				1; /* 0 means no pass; committed with the first step */
	}
	requests_open(r);
	pages_open(r);
	steps_repair(r);
	/*
	 * a predecessor may have died between popping an announcement and the end of that
	 * connection's pass
	 */
	memset(r->again, 1, sizeof(r->again));
}

/* Takes one announcement. */
static bool announce(struct router *r)
{
	struct err e = {0};
	struct msg m;
	int rc = server_take(&r->s, &r->announce, router_head(r)->ring_head[2][0], MSG_ANNOUNCE, 0,
			     &m, &e);

	if (rc == 0)
		return false;
	if (rc > 0)
		requests_look(r, m.row0);
	else
		server_refuse_record(&r->s, &router_head(r)->refused, ROLE_CLIENT);
	if (rc != -EPROTO)
		router_head(r)->ring_head[2][0]++;
	router_commit(r);
	if (rc > 0)
		requests_give_back(r, m.row0);
	attach_ring(&r->s.at, ROLE_CLIENT);
	return true;
}

/* Requests that could not be dealt with while their old sequence was in a pass. */
static void look_again(struct router *r)
{
	bool any = false, looked[CONN_PLACES] = {false};

	for (uint32_t c = 0; c < CONN_PLACES; c++) {
		if (!r->again[c] || router_seq(r, c)->in_pass)
			continue;
		r->again[c] = 0;
		requests_look(r, c);
		looked[c] = any = true;
	}
	if (any) {
		router_commit(r);
		for (uint32_t c = 0; c < CONN_PLACES; c++) {
			if (looked[c])
				requests_give_back(r, c);
		}
		attach_ring(&r->s.at, ROLE_CLIENT);
	}
}

static bool more(void *context)
{
	struct router *r = context;
	const struct router_head *h = r->record.draft;

	for (uint32_t b = 0; b < BATCHES; b++) {
		if (server_pending(&r->s, &r->route[b], h->ring_head[0][b]) ||
		    server_pending(&r->s, &r->done[b], h->done_head[b]) ||
		    (h->on_gpu[b] && !server_gpu_alive(&r->s, h->on_gpu[b])) ||
		    server_pending(&r->s, &r->finish[b], h->ring_head[1][b]))
			return true;
	}
	return server_pending(&r->s, &r->announce, h->ring_head[2][0]);
}

bool router_turn(struct router *r)
{
	bool busy;

	server_turn(&r->s);
	busy = steps_serve(r);
	while (announce(r))
		busy = true;
	look_again(r);
	busy |= schedule(r);
	busy |= steps_abandon_refused(r);
	busy |= steps_abandon_dead(r);
	return busy;
}

noreturn void router_loop(struct router *r)
{
	router_take_over(r);
	for (;;) {
		while (router_turn(r))
			;
		server_sleep(&r->s, more, r, UINT64_MAX);
	}
}
