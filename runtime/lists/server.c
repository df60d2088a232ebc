/* The server `cuda`; see server.h. */
#include "runtime/lists/lists.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct server *lists_server(const struct lists *l)
{
	return &l->s;
}

/* ---- Start ---- */

static void set_regions(struct lists *l)
{
	const struct plan *p = l->s.at.plan;
	struct device *d = &l->d;

	d->bytes[DEV_WORK] = d->frame[1].bytes;
	d->bytes[DEV_KV] = p->pages * p->kv_page_bytes;
	d->bytes[DEV_WEIGHTS] = l->s.model.resident_len;
	d->bytes[DEV_SLOTS] = p->gpu_slots * p->slot_bytes;
	d->bytes[DEV_HOST_SLOTS] = l->s.at.bytes[OBJ_SLOTS];
	d->base[DEV_HOST_SLOTS] = l->s.at.object[OBJ_SLOTS];
	d->bytes[DEV_HOST_RESULT] = l->s.at.layout.bytes[OBJ_EXPERTS];
	d->base[DEV_HOST_RESULT] = l->s.at.object[OBJ_EXPERTS];
	d->bytes[DEV_HOST_OUT] = l->s.at.layout.bytes[OBJ_CUDA];
	d->base[DEV_HOST_OUT] = l->s.at.object[OBJ_CUDA];
}

static bool make_room(struct lists *l)
{
	const struct plan *p = l->s.at.plan;
	uint32_t pairs = (p->rows[0] > p->rows[1] ? p->rows[0] : p->rows[1]) * p->top_k;
	bool there = true;

	for (uint32_t b = 0; b < BATCHES; b++) {
		l->list[b] = server_ring(&l->s, RING_LIST, b);
		l->load[b] = server_ring(&l->s, RING_LOAD, b);
		l->run[b].list = server_array(1, p->list_bytes[b]);
		there &= l->run[b].list != NULL;
	}
	l->loads = server_array(LOAD_COMMANDS, sizeof(*l->loads));
	l->evicted = server_array(LOAD_COMMANDS, sizeof(*l->evicted));
	l->tenant = server_array(p->gpu_slots, sizeof(*l->tenant));
	l->mirrored = server_array(p->pages, 1);
	l->state = server_array(pairs, sizeof(*l->state));
	l->expert = server_array(pairs, sizeof(*l->expert));
	l->wanted = server_array(p->experts, 1);
	if (!there || !l->loads || !l->evicted || !l->tenant || !l->mirrored || !l->state ||
	    !l->expert || !l->wanted)
		return false;
	memset(l->tenant, 0xff, p->gpu_slots * sizeof(*l->tenant));
	memset(l->mirrored, 0, p->pages);
	return true;
}

struct lists *lists_open(struct executor *x, const char *generation, struct err *e)
{
	struct lists *l = calloc(1, sizeof(*l));
	const struct plan *p;
	const struct model_config *c;
	uint64_t at = 256;

	if (!l)
		err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory");
	if (!l || server_open(&l->s, ROLE_CUDA, generation, e))
		return NULL;
	/* init alone looks at it: router and experts count what there is to be shown of lists */
	l->s.at.log = attach_at(&l->s.at, OBJ_CUDA, l->s.at.layout.cuda_log);
	l->x = x;
	p = l->s.at.plan;
	c = l->s.model.config;
	list_shape(&l->d.shape, l->s.model.index, p->pages);
	l->d.row_max = list_row_max(c);
	for (uint32_t b = 0; b < BATCHES; b++) {
		uint32_t pages = (uint32_t)l->s.at.layout.page_list_max, n = plan_logit_rows(p);

		list_frame(&l->d.frame[b], c, at, p->rows[b], pages, n, p->context);
		at = l->d.frame[b].bytes;
		list_layout(&l->in[b], c, p->rows[b], pages, n, p->places + 1);
		for (unsigned side = 0; side < 2; side++)
			list_out(&l->out[b][side], c, l->s.at.layout.cuda_out[b][side], p->rows[b],
				 n);
	}
	set_regions(l);
	if (!make_room(l)) {
		err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for command lists");
		return NULL;
	}
	if (x->open(x, &l->d, &l->s, e))
		return NULL;
	l->slots = (uint32_t)(l->d.bytes[DEV_SLOTS] / p->slot_bytes);
	return l;
}

/* ---- Lists of passes ---- */

void lists_need(int rc, const struct err *e)
{
	if (rc)
		_exit(server_die(ROLE_CUDA, e));
}

struct cuda_record *lists_draft(struct lists *l)
{
	struct cuda_record *d = l->record.draft;

	record_touch(&l->record, d, sizeof(*d));
	return d;
}

static void put(struct lists *l, unsigned ring, uint64_t *tail, uint32_t batch, const struct msg *m)
{
	/* never full: one pass of a batch is under way, and mla is waited for */
	ring_put(attach_at(&l->s.at, OBJ_CUDA,
			   l->s.at.layout.cuda_ring[ring] + batch * RING_ENTRIES * sizeof(*m)),
		 RING_ENTRIES, *tail, *tail, m);
	++*tail;
}

static const struct dev_row *rows_of(const struct lists *l, uint32_t b)
{
	return (const void *)(l->run[b].list + l->in[b].row);
}

static const uint32_t *pages_of(const struct lists *l, uint32_t b)
{
	return (const void *)(l->run[b].list + l->in[b].page);
}

const struct command *lists_commands(const struct lists *l, uint32_t b)
{
	return (const void *)(l->run[b].list + l->in[b].command);
}

/* Copies the list of a message and checks it. */
static int take_list(struct lists *l, uint32_t b, struct err *e)
{
	const struct attach *a = &l->s.at;
	struct running *r = &l->run[b];
	uint64_t side = msg_pass(r->msg.seq, a->plan->layers) & 1;
	struct list_head head;
	bool results = false;
	int rc;

	memcpy(r->list, attach_at(a, OBJ_ROUTER, a->layout.router_list[b][side]),
	       a->plan->list_bytes[b]);
	memcpy(&head, r->list, sizeof(head));
	if (head.seq != r->msg.seq || head.rows != r->msg.rows || head.commands > l->in[b].commands)
		return err_set(e, -EBADMSG, "the list of another pass");
	rc = rows_check(&l->d, &l->d.frame[b], rows_of(l, b), head.rows, pages_of(l, b), head.pages,
			a->plan->context, e);
	l->d.base[DEV_HOST_LIST] = r->list;
	l->d.bytes[DEV_HOST_LIST] = a->plan->list_bytes[b];
	for (uint32_t i = 0; !rc && i < head.commands; i++) {
		const struct command *c = &lists_commands(l, b)[i];

		rc = c->batch != b || c->kind == COMMAND_EXPERT || dev_region(c->to) == DEV_SLOTS
			     ? err_set(e, -EBADMSG, "a command that passes do not have")
			     : command_check(&l->d, c, e);
		/* results have their place, which is nobody else's, and come last */
		if (!rc && results && dev_region(c->to) != DEV_HOST_OUT)
			rc = err_set(e, -EBADMSG, "a command behind the results");
		results |= dev_region(c->to) == DEV_HOST_OUT;
		if (!rc && dev_region(c->to) == DEV_HOST_OUT &&
		    (dev_offset(c->to) < a->layout.cuda_out[b][side] ||
		     dev_offset(c->to) + c->bytes > l->out[b][side].bytes))
			rc = err_set(e, -EBADMSG, "results that are not the pass's");
	}
	r->n = head.commands;
	r->done = 0;
	return rc;
}

static void mirror_page(struct lists *l, uint32_t page)
{
	const struct attach *a = &l->s.at;
	uint64_t bytes = a->plan->kv_page_bytes;
	struct err e = {0};

	if (l->mirrored[page])
		return;
	l->mirrored[page] = 1;
	lists_need(l->x->put(l->x, page * bytes,
			     attach_at(a, OBJ_KV, a->layout.kv_pages + page * bytes), bytes, &e),
		   &e);
}

/* Pages that the device has not met: what is in them was computed before its time. */
static void mirror_pages(struct lists *l, uint32_t b)
{
	const struct list_head *head = (const void *)l->run[b].list;

	for (uint32_t i = 0; i < head->pages; i++)
		mirror_page(l, pages_of(l, b)[i]);
	for (uint32_t i = 0; i < l->run[b].n; i++) {
		const struct command *c = &lists_commands(l, b)[i];

		if (c->kind == COMMAND_PAGE) {
			mirror_page(l, c->page_from);
			mirror_page(l, c->page_to);
		}
	}
}

/* What mla needs to bring the cached rows to their pages. */
static void leave_store(struct lists *l, uint32_t b)
{
	const struct attach *a = &l->s.at;
	const struct running *r = &l->run[b];
	uint64_t side = msg_pass(r->msg.seq, a->plan->layers) & 1;
	char *base = attach_at(a, OBJ_CUDA, a->layout.cuda_store[b][side]);
	struct store_head *head = (void *)base;
	struct store_row *row = (void *)(base + sizeof(*head));
	struct pass_copy *copy = (void *)(base + store_copies(a->plan->rows[b]));
	const uint64_t *error = attach_at(a, OBJ_CUDA, l->out[b][side].error);

	*head = (struct store_head){
		.seq = r->msg.seq, .rows = r->msg.rows, .first_layer = UINT32_MAX};
	for (uint32_t i = 0; i < r->n; i++) {
		const struct command *c = &lists_commands(l, b)[i];

		if (c->kind == COMMAND_PAGE && head->copies <= a->plan->places)
			copy[head->copies++] = (struct pass_copy){
				.from = c->page_from, .to = c->page_to, .rows = c->positions};
		if (c->kind == COMMAND_CACHE) {
			head->first_layer =
				c->layer < head->first_layer ? c->layer : head->first_layer;
			head->last_layer =
				c->layer > head->last_layer ? c->layer : head->last_layer;
		}
	}
	for (uint32_t i = 0; i < r->msg.rows; i++) {
		const struct dev_row *x = &rows_of(l, b)[i];

		row[i] = (struct store_row){
			.page = pages_of(l, b)[x->first_page + x->position / KV_PAGE_ROWS],
			.position = x->position,
			.clear = x->first_key && x->position == x->first_key,
			.skip = error[i] != 0};
	}
}

/* The list has ended: its results are there. */
static void finish(struct lists *l, uint32_t b)
{
	struct cuda_record *d = lists_draft(l);
	struct running *r = &l->run[b];
	struct msg m = r->msg;

	leave_store(l, b);
	m.generation = l->s.at.generation;
	m.seq = msg_seq(msg_pass(m.seq, l->s.at.plan->layers), l->s.at.plan->layers,
			l->s.at.plan->layers + 1);
	((struct store_head *)attach_at(
		 &l->s.at, OBJ_CUDA,
		 l->s.at.layout.cuda_store[b][msg_pass(m.seq, l->s.at.plan->layers) & 1]))
		->seq = m.seq;
	m.kind = MSG_STORE;
	put(l, 1, &d->store_tail[b], b, &m);
	m.kind = MSG_DONE;
	put(l, 0, &d->done_tail[b], b, &m);
	d->list_head[b]++;
	r->active = false;
	record_commit(&l->record);
	attach_ring(&l->s.at, ROLE_MLA);
	attach_ring(&l->s.at, ROLE_ROUTER);
}

/* The list has stopped: which experts it waits for. */
static void ask(struct lists *l, uint32_t b)
{
	const struct attach *a = &l->s.at;
	const struct plan *p = a->plan;
	struct running *r = &l->run[b];
	const struct command *c = &lists_commands(l, b)[r->done];
	struct gpu_missing *g = attach_at(a, OBJ_CUDA, a->layout.cuda_missing[b]);
	uint16_t *id = (void *)(g + 1);
	struct missing_pair *pair = (void *)((char *)g + missing_pairs(p->experts));
	uint16_t *in = (void *)((char *)g + missing_rows(p->experts, p->rows[b], p->top_k));
	struct cuda_record *d = lists_draft(l);
	uint32_t pairs = c->rows * p->top_k;
	struct msg m = r->msg;
	struct err e = {0};

	lists_need(
		l->x->pairs(l->x, &l->d.frame[b], c->layer, c->rows, l->state, l->expert, in, &e),
		&e);
	memset(l->wanted, 0, p->experts);
	*g = (struct gpu_missing){0};
	for (uint32_t i = 0; i < pairs; i++) {
		if (l->state[i] != PAIR_WAITS)
			continue;
		l->wanted[l->expert[i]] = 1;
		pair[g->pairs++] = (struct missing_pair){.pair = i, .expert = l->expert[i]};
	}
	m.kind = MSG_MISSING;
	m.layer = c->layer;
	m.generation = a->generation;
	m.seq = msg_seq(msg_pass(m.seq, p->layers), p->layers, c->layer + 1);
	g->seq = m.seq;
	for (uint32_t i = 0; i < p->experts; i++)
		if (l->wanted[i])
			id[g->n++] = (uint16_t)i;
	put(l, 2, &d->missing_tail[b], b, &m);
	r->waits = true;
	record_commit(&l->record);
	attach_ring(a, ROLE_EXPERTS);
}

/* Experts' lists are done with their slots: popped with the next commit. Whether there were any. */
static bool settle(struct lists *l)
{
	struct err e = {0};

	if (!l->run[0].loading && !l->run[1].loading)
		return false;
	lists_need(l->x->settle(l->x, &e), &e);
	for (uint32_t b = 0; b < BATCHES; b++) {
		lists_draft(l)->load_head[b] += l->run[b].loading;
		l->run[b].loading = false;
	}
	return true;
}

static void execute(struct lists *l, uint32_t b)
{
	struct running *r = &l->run[b];
	struct err e = {0};
	bool settled;

	l->d.base[DEV_HOST_LIST] = r->list;
	l->d.bytes[DEV_HOST_LIST] = l->s.at.plan->list_bytes[b];
	server_progress(&l->s, r->msg.seq, b);
	lists_need(l->x->run(l->x, lists_commands(l, b), r->done, r->n, &r->done, &e), &e);
	settled = settle(l);
	server_progress(&l->s, UINT64_MAX, 0);
	if (r->done == r->n)
		finish(l, b);
	else
		ask(l, b);
	if (settled)
		attach_ring(&l->s.at, ROLE_EXPERTS);
}

/* Pops the message of a pass that is not run. */
static void drop(struct lists *l, uint32_t b)
{
	bool settled = settle(l);

	lists_draft(l)->list_head[b]++;
	l->run[b].active = l->run[b].waits = false;
	record_commit(&l->record);
	if (settled)
		attach_ring(&l->s.at, ROLE_EXPERTS);
}

/* Whether mla has taken what lies where the next results of the batch go. */
static bool has_room(const struct lists *l, uint32_t b)
{
	const struct cuda_record *d = l->record.draft;

	return d->store_tail[b] - server_peer_head(&l->s, RING_STORE, b) <= 1;
}

static bool serve_list(struct lists *l, uint32_t b)
{
	const struct cuda_record *d = l->record.draft;
	struct running *r = &l->run[b];
	struct err e = {0};
	int rc;

	if (r->active) {
		if (r->waits)
			return false;
		execute(l, b);
		return true;
	}
	if (!has_room(l, b))
		return false;
	rc = server_take(&l->s, &l->list[b], d->list_head[b], MSG_LIST, b, &r->msg, &e);
	if (rc == 0)
		return false;
	r->msg.batch = b;
	if (rc == -EPROTO) {
		server_refuse_record(&l->s, &lists_draft(l)->refused, ROLE_ROUTER);
		record_commit(&l->record);
		return true;
	}
	if (rc > 0 && msg_pass(r->msg.seq, l->s.at.plan->layers) < server_floor(&l->s, b)) {
		drop(l, b);
		return true;
	}
	if (rc < 0 || take_list(l, b, &e)) {
		server_refuse(&l->s, &lists_draft(l)->refused, &r->msg, b, ROLE_ROUTER);
		drop(l, b);
		return true;
	}
	r->active = true;
	mirror_pages(l, b);
	return true;
}

/* ---- Loop ---- */

static bool abandoned(const struct lists *l, uint32_t b)
{
	return l->run[b].active &&
	       msg_pass(l->run[b].msg.seq, l->s.at.plan->layers) < server_floor(&l->s, b);
}

static bool serve(struct lists *l)
{
	for (uint32_t b = 0; b < BATCHES; b++) {
		if (abandoned(l, b)) {
			drop(l, b);
			return true;
		}
		if (lists_serve_load(l, b) || serve_list(l, b))
			return true;
	}
	return false;
}

static bool more(void *context)
{
	struct lists *l = context;
	const struct cuda_record *d = l->record.draft;

	for (uint32_t b = 0; b < BATCHES; b++) {
		if ((!l->run[b].loading && server_pending(&l->s, &l->load[b], d->load_head[b])) ||
		    abandoned(l, b) || (l->run[b].active && !l->run[b].waits) ||
		    (!l->run[b].active && has_room(l, b) &&
		     server_pending(&l->s, &l->list[b], d->list_head[b])))
			return true;
	}
	return false;
}

/* What is inherited is made to agree with the neighbours' counts; their lists were another's. */
static void repair(struct lists *l)
{
	struct cuda_record *d = lists_draft(l);

	for (uint32_t b = 0; b < BATCHES; b++) {
		server_repair_head(&l->s, &l->list[b], &d->list_head[b]);
		server_repair_head(&l->s, &l->load[b], &d->load_head[b]);
		server_repair_tail(&l->s, RING_DONE, b, &d->done_tail[b]);
		server_repair_tail(&l->s, RING_STORE, b, &d->store_tail[b]);
		server_repair_tail(&l->s, RING_MISSING, b, &d->missing_tail[b]);
	}
	record_commit(&l->record);
}

/* Waits for weights, and for mla to have taken what a predecessor has left. */
static void wait_ready(struct lists *l)
{
	const struct cuda_record *d = l->record.draft;

	server_wait_layer(&l->s, UINT32_MAX);
	for (uint32_t b = 0; b < BATCHES; b++) {
		while (server_peer_head(&l->s, RING_STORE, b) != d->store_tail[b]) {
			bell_prepare(l->s.bell);
			bell_wait(l->s.bell, 1000 * 1000);
		}
	}
}

noreturn void lists_loop(struct lists *l)
{
	struct err e = {0};

	server_take_over(&l->s);
	record_open(&l->record, attach_at(&l->s.at, OBJ_CUDA, l->s.at.layout.cuda_record),
		    sizeof(struct cuda_record));
	repair(l);
	wait_ready(l);
	lists_need(l->x->weights(l->x, l->s.model.resident, l->s.model.resident_len, &e), &e);
	lists_draft(l)->slots = l->slots;
	lists_draft(l)->copy_rate = l->d.copy_rate;
	lists_draft(l)->ready = l->s.at.generation;
	record_commit(&l->record);
	attach_ring(&l->s.at, ROLE_ROUTER);
	for (;;) {
		while (serve(l))
			server_turn(&l->s);
		server_sleep(&l->s, more, l, UINT64_MAX);
	}
}
