/*
 * From requests in connection records to sequences (machinery 15). The client role is not believed:
 * what its record says is copied, checked and only then used, and what it announces is looked up
 * again in the record.
 */
#include "runtime/router/router.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>

bool requests_active(const struct router_seq *q)
{
	return q->status == SEQ_QUEUED || q->status == SEQ_RUNNING;
}

/* False: the client role has been refused. Its successor announces every connection again. */
static bool read_request(struct router *r, uint32_t conn, struct request *req)
{
	const struct layout *l = &r->s.at.layout;
	const void *record =
		attach_at(&r->s.at, OBJ_CLIENT, l->client_conn + conn * l->client_conn_stride);

	if (record_read(record, sizeof(struct conn_record), offsetof(struct conn_record, request),
			req, sizeof(*req)) &&
	    req->number <= REQUEST_NUMBER_MAX)
		return true;
	server_refuse_record(&r->s, &router_head(r)->refused, ROLE_CLIENT);
	return false;
}

static bool valid(const struct router *r, uint32_t conn, const struct request *q)
{
	const struct plan *p = r->s.at.plan;
	uint32_t known = REQUEST_LOGITS | REQUEST_MTP | REQUEST_HEALTH | REQUEST_NO_REUSE;
	bool rows_only = q->flags & REQUEST_LOGITS;

	if (q->flags & ~known || (rows_only && !p->score) ||
	    (q->flags & REQUEST_MTP && p->layers == p->main_layers) ||
	    !(q->flags & REQUEST_HEALTH) != (conn != CONN_HEALTH) ||
	    (conn == CONN_HEALTH && q->n_prompt != 1))
		return false;
	if (q->n_prompt == 0 || q->n_prompt > p->context ||
	    q->max_tokens > p->context - q->n_prompt || (q->max_tokens == 0) != rows_only)
		return false;
	return isfinite(q->temperature) && q->temperature >= 0 && q->top_p > 0 && q->top_p <= 1 &&
	       q->min_p >= 0 && q->min_p <= 1;
}

/* Its admission number is the largest there is: it belongs behind all others. */
static void active_append(struct router *r, uint32_t conn)
{
	if (conn != CONN_HEALTH)
		r->active[r->n_active++] = (uint16_t)conn;
}

static void active_remove(struct router *r, uint32_t conn)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->n_active; i++) {
		if (r->active[i] != conn)
			r->active[n++] = r->active[i];
	}
	r->n_active = n;
}

void requests_open(struct router *r)
{
	for (uint32_t c = 0; c < CONNS; c++) {
		uint32_t i;

		if (!requests_active(router_seq(r, c)))
			continue;
		for (i = r->n_active++;
		     i && router_seq(r, r->active[i - 1])->order > router_seq(r, c)->order; i--)
			r->active[i] = r->active[i - 1];
		r->active[i] = (uint16_t)c;
	}
}

uint32_t requests_count(const struct router *r, enum seq_status status)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->n_active; i++)
		n += router_seq(r, r->active[i])->status == (uint32_t)status;
	return n;
}

void requests_end(struct router *r, uint32_t conn, enum seq_status status, uint64_t error)
{
	struct router_seq *q = router_seq_edit(r, conn);

	if (q->status == SEQ_RUNNING)
		pages_release(r, conn);
	if (requests_active(q))
		active_remove(r, conn);
	q->status = (uint32_t)status;
	q->error = error;
	q->place = NO_PLACE;
}

/*
 * Whether one more may wait: places that are free are given out first, so that many requests at
 * once are not refused for want of a look.
 */
static bool has_room(struct router *r)
{
	while (requests_count(r, SEQ_QUEUED) >= r->s.at.plan->queue) {
		if (!schedule_admit(r))
			return false;
	}
	return true;
}

/* A request that the router has not seen: into the queue, or refused. */
static void take(struct router *r, uint32_t conn, const struct request *req)
{
	struct router_seq *q = router_seq_edit(r, conn);

	memset(q, 0, sizeof(*q));
	q->request = req->number;
	q->place = NO_PLACE;
	q->copy_from = NO_PAGE;
	q->req = *req;
	if (!req->live)
		return;
	count_add(r->s.at.log, COUNT_REQUESTS, 1);
	if (!valid(r, conn, req)) {
		q->status = SEQ_FAILED;
		q->error = row_error(CAUSE_BAD_REQUEST, 0, 0, 0);
	} else if (conn != CONN_HEALTH && !has_room(r)) {
		q->status = SEQ_BUSY;
		count_add(r->s.at.log, COUNT_REJECTED, 1);
	} else {
		q->status = SEQ_QUEUED;
		q->order = ++router_head(r)->clock;
		active_append(r, conn);
	}
}

void requests_look(struct router *r, uint32_t conn)
{
	const struct router_seq *q = router_seq(r, conn);
	struct request req;

	if (!read_request(r, conn, &req) || req.number == 0 || req.number < q->request)
		return;
	if (q->in_pass && (req.number != q->request || !req.live)) {
		r->again[conn] = 1;
		return;
	}
	if (req.number == q->request) {
		struct router_seq *own = router_seq_edit(r, conn);

		if (!req.live && requests_active(q))
			requests_end(r, conn, SEQ_DONE, 0);
		own->req.live = req.live;
		own->req.taken = req.taken;
		return;
	}
	if (requests_active(q))
		requests_end(r, conn, SEQ_DONE, 0);
	take(r, conn, &req);
}

void requests_give_back(const struct router *r, uint32_t conn)
{
	const struct router_seq *q = router_seq(r, conn);
	uintptr_t log = (uintptr_t)router_tokens(r, conn), begin = (log + 4095) & ~(uintptr_t)4095;
	uintptr_t end = (log + q->count * sizeof(struct token_entry)) & ~(uintptr_t)4095;

	if (q->req.live || q->in_pass || requests_active(q) || begin >= end ||
	    end - begin < CONN_IDLE_KEPT)
		return;
	madvise((char *)router_tokens(r, conn) + (begin - log), end - begin, MADV_REMOVE);
}
