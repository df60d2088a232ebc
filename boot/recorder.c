/*
 * The flight recorder's hand; see recorder.h. Everything it copies is some server's, so every
 * number is checked before it is used: an entry of nonsense costs nothing.
 */
#include "boot/recorder.h"

#include "boot/supervise.h"
#include "ipc/record.h"
#include "ipc/recorder.h"
#include "runtime/clock.h"

#include <string.h>
#include <time.h>

static const void *at(const struct init *in, enum object o, uint64_t offset)
{
	return (const char *)in->objects.map[o] + offset;
}

static void take_spans(const struct init *in, struct recorder_entry *e)
{
	for (unsigned i = 0; i < RECORDER_LOGS; i++) {
		const struct log_object *log =
			at(in, (enum object)(OBJ_LOG_CLIENT + i), sizeof(struct object_header));
		/* acquire: pairs with the release of the span's writer */
		uint64_t n = atomic_load_explicit(&log->spans, memory_order_acquire);

		for (uint64_t k = 0; k < RECORDER_SPANS && k < n; k++) {
			if (!span_read(log, n - 1 - k, &e->span[i][k]))
				memset(&e->span[i][k], 0, sizeof(e->span[i][k]));
		}
	}
}

/* Token `position` of a sequence; UINT32_MAX where there is none. */
static uint32_t token_at(const struct init *in, uint32_t conn, const struct router_seq *q,
			 uint32_t position)
{
	const struct layout *l = &in->layout;
	const uint64_t first = (uint64_t)conn * in->node->plan.context;
	const uint32_t *prompt = at(in, OBJ_CLIENT, l->client_prompt);
	const struct token_entry *log = at(in, OBJ_ROUTER, l->router_tokens);

	if (position >= in->node->plan.context)
		return UINT32_MAX;
	if (position < q->req.n_prompt)
		return prompt[first + position];
	position -= q->req.n_prompt;
	return position < q->count ? log[first + position].token : UINT32_MAX;
}

/* All tokens of a row's sequence before the pass. Rows of a sequence ascend. */
static void take_sequence(const struct init *in, struct recorder_entry *e,
			  const struct pass_row *row)
{
	const struct layout *l = &in->layout;
	struct router_seq q;

	for (uint32_t i = 0; i < e->sequences; i++) {
		if (e->sequence[i].conn == row->conn)
			return;
	}
	if (row->conn >= CONN_PLACES || e->sequences == RECORDER_SEQUENCES ||
	    row->position > RECORDER_TOKENS - e->tokens ||
	    !record_read(at(in, OBJ_ROUTER, l->router_record), l->router_record_size,
			 l->seq_off + row->conn * sizeof(q), &q, sizeof(q))) {
		e->partial |= RECORDER_SOME_TOKENS;
		return;
	}
	e->sequence[e->sequences++] = (struct recorder_sequence){row->conn, row->position};
	for (uint32_t p = 0; p < row->position; p++) {
		e->token[e->tokens] = token_at(in, row->conn, &q, p);
		if (e->token[e->tokens++] >= in->node->plan.vocab)
			e->partial |= RECORDER_SOME_TOKENS;
	}
}

/* Where the rows lie that the step reads. */
static const float *input_of(const struct init *in, enum role role, uint32_t batch, uint64_t hop)
{
	const struct layout *l = &in->layout;
	const struct plan *p = &in->node->plan;

	if (role == ROLE_ROUTER && hop > p->layers)
		return at(in, OBJ_EXPERTS, l->experts_rows[batch]);
	if (role != ROLE_MLA)
		return at(in, OBJ_MLA, l->mla_rows[batch]);
	return hop > 1 ? at(in, OBJ_EXPERTS, l->experts_rows[batch])
		       : at(in, OBJ_ROUTER, l->router_rows[batch]);
}

static void take_input(const struct init *in, enum role role, struct recorder_entry *e)
{
	const struct layout *l = &in->layout;
	const struct plan *p = &in->node->plan;
	const float *rows = input_of(in, role, e->batch, e->seq % (p->layers + 2));
	const uint16_t *route = at(in, OBJ_ROUTER, l->router_expert[e->batch]);

	e->hashed = e->rows < RECORDER_HASHED ? e->rows : RECORDER_HASHED;
	for (uint32_t i = 0; i < e->hashed; i++)
		e->input_hash = recorder_hash(e->input_hash, rows + i * l->row_stride, p->hidden);
	for (uint32_t layer = 0, k = 0; layer < p->layers; layer++) {
		const uint16_t *from = route + (uint64_t)layer * p->rows[e->batch] * p->top_k;

		for (uint32_t i = 0; i < e->hashed * p->top_k && k < RECORDER_ROUTES; i++)
			e->route[k++] = from[i];
	}
}

/* A ring that brings a server its steps, and where that server counts what it has taken. */
struct inbox {
	enum object record_of, entries_of;
	uint64_t record, size, head, entries;
};

/* Whether the message that waits first is the step's. */
static bool waits(const struct init *in, const struct inbox *x, uint32_t batch, uint64_t seq)
{
	const struct msg *ring =
		at(in, x->entries_of, x->entries + batch * RING_ENTRIES * sizeof(*ring));
	uint64_t head;

	return record_read(at(in, x->record_of, x->record), x->size, x->head + batch * sizeof(head),
			   &head, sizeof(head)) &&
	       ring[head % RING_ENTRIES].seq == seq;
}

/*
 * Whether the step was not committed: its message is still to be taken. A server that dies behind
 * its commit may have no time to say that it is in no step, and its neighbours go on.
 */
static bool is_open(const struct init *in, enum role role, uint32_t batch, uint64_t seq)
{
	const struct layout *l = &in->layout;
	const struct inbox router[] = {
		{OBJ_ROUTER, OBJ_MLA, l->router_record, l->router_record_size,
		 offsetof(struct router_head, ring_head[0]), l->mla_ring},
		{OBJ_ROUTER, OBJ_EXPERTS, l->router_record, l->router_record_size,
		 offsetof(struct router_head, ring_head[1]), l->experts_ring[1]},
	};
	const struct inbox mla[] = {
		{OBJ_MLA, OBJ_ROUTER, l->mla_record, sizeof(struct mla_record),
		 offsetof(struct mla_record, attend0_head), l->router_ring[0]},
		{OBJ_MLA, OBJ_EXPERTS, l->mla_record, sizeof(struct mla_record),
		 offsetof(struct mla_record, attend_head), l->experts_ring[0]},
	};
	const struct inbox experts = {OBJ_EXPERTS,
				      OBJ_ROUTER,
				      l->experts_record,
				      sizeof(struct experts_record),
				      offsetof(struct experts_record, feed_head),
				      l->router_ring[1]};

	if (role == ROLE_EXPERTS)
		return waits(in, &experts, batch, seq);
	if (role == ROLE_MLA)
		return waits(in, &mla[0], batch, seq) || waits(in, &mla[1], batch, seq);
	return waits(in, &router[0], batch, seq) || waits(in, &router[1], batch, seq);
}

/* The step that it was in, as its progress word has it. False: in none. */
static bool take_step(const struct init *in, enum role role, struct recorder_entry *e)
{
	const struct log_object *log = supervise_log(in, role);
	const struct plan *p = &in->node->plan;
	const struct layout *l = &in->layout;
	struct pass_area area;
	const char *base;
	uint64_t step;

	if (!log || role < ROLE_ROUTER || role > ROLE_EXPERTS)
		return false;
	/* acquire: pairs with the release in server_progress */
	step = atomic_load_explicit(&log->progress.step, memory_order_acquire);
	if (step == UINT64_MAX)
		return false;
	e->seq = step / 2;
	e->batch = (uint32_t)(step % 2);
	if (!is_open(in, role, e->batch, e->seq))
		return false;
	e->pass = msg_pass(e->seq, p->layers);
	base = at(in, OBJ_ROUTER, l->router_area[e->batch][e->pass & 1]);
	memcpy(&area, base, sizeof(area));
	if (area.pass != e->pass || !area.rows || area.rows > p->rows[e->batch] ||
	    area.kind > PASS_HEALTH)
		return false;
	e->kind = area.kind;
	e->rows = area.rows < RECORDER_ROWS ? area.rows : RECORDER_ROWS;
	e->partial |= e->rows < area.rows ? RECORDER_SOME_ROWS : 0;
	memcpy(e->row, base + sizeof(area), e->rows * sizeof(e->row[0]));
	return true;
}

void recorder_take(struct init *in, enum role role, const siginfo_t *si)
{
	struct recorder *r = in->objects.map[OBJ_RECORDER];
	const struct plan *p = &in->node->plan;
	struct recorder_entry *e;
	struct timespec now;
	uint64_t n;

	if (!p->recorder || !r)
		return;
	r = (void *)((char *)r + sizeof(struct object_header));
	/* relaxed: our own */
	n = atomic_load_explicit(&r->head, memory_order_relaxed);
	e = &r->entry[n % RECORDER_ENTRIES];
	/* release: a reader that copies the old one sees that it is gone */
	atomic_store_explicit(&e->number, 0, memory_order_release);
	atomic_thread_fence(memory_order_seq_cst);
	memset(&e->time_ns, 0,
	       offsetof(struct recorder_entry, token) - offsetof(struct recorder_entry, time_ns));
	clock_gettime(CLOCK_REALTIME, &now);
	e->time_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
	e->role = (uint32_t)role;
	e->generation =
		(uint32_t)atomic_load_explicit(&in->node->generation[role], memory_order_relaxed);
	e->by_signal = si->si_code != CLD_EXITED;
	e->status = (uint32_t)si->si_status;
	e->layers = p->layers;
	e->top_k = p->top_k;
	e->workers = p->workers;
	e->isa = p->isa;
	memcpy(e->model_hash, in->node->model_hash, sizeof(e->model_hash));
	memcpy(e->build, in->node->build, sizeof(e->build));
	take_spans(in, e);
	if (take_step(in, role, e)) {
		take_input(in, role, e);
		for (uint32_t i = 0; i < e->rows; i++)
			take_sequence(in, e, &e->row[i]);
	} else {
		e->partial |= RECORDER_NO_STEP;
	}
	/* release: the entry is whole before its number, and both before the count */
	atomic_store_explicit(&e->number, n + 1, memory_order_release);
	atomic_store_explicit(&r->head, n + 1, memory_order_release);
	bell_ring(&in->bells->bell[ROLE_SCRIBE][0]);
}
