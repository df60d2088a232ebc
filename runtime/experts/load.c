/*
 * Experts on their way into the GPU's memory: `cuda` says which ones a list waits for, experts
 * brings them into slots, as for itself, and appends lists that copy them. It alone decides which
 * expert gives way on the GPU, by the value that the policy gives them (drivers/cuda/README.md).
 * What the GPU has is for `cuda` to say; what is kept here is only good for choosing well.
 */
#include "runtime/experts/experts.h"

#include "model/list.h"

#include <errno.h>
#include <string.h>

#define TENANT_NONE UINT32_MAX

_Static_assert(LOAD_COMMANDS >= (LIST_EXPERT_COMMANDS + 1) * LOAD_EXPERTS + LOAD_RESULTS &&
		       LOAD_BYTES >=
			       sizeof(struct list_head) + LOAD_COMMANDS * sizeof(struct command),
	       "a list of experts fits");

bool load_open(struct experts *x)
{
	struct load *k = &x->load;
	const struct plan *p = x->s.at.plan;
	uint32_t most = p->rows[0] > p->rows[1] ? p->rows[0] : p->rows[1];

	if (!p->gpu)
		return true;
	k->tenant = server_array(p->gpu_slots, sizeof(*k->tenant));
	k->used = server_array(p->gpu_slots, sizeof(*k->used));
	k->want = server_array(p->experts, sizeof(*k->want));
	k->pair = server_array((size_t)most * p->top_k, sizeof(*k->pair));
	k->list = server_array((size_t)most * p->top_k, sizeof(*k->list));
	if (!k->tenant || !k->used || !k->want || !k->pair || !k->list)
		return false;
	memset(k->tenant, 0xff, p->gpu_slots * sizeof(*k->tenant));
	memset(k->used, 0, p->gpu_slots * sizeof(*k->used));
	return true;
}

bool load_settled(const struct experts *x, uint32_t batch)
{
	const struct experts_record *d = x->record.draft;

	return x->load.pinned[batch] &&
	       (!server_gpu_alive(&x->s, x->load.generation) ||
		server_peer_head(&x->s, RING_LOAD, batch) >= d->load_tail[batch]);
}

/* Slots of lists that have been executed, or never will be, are no longer pinned. */
static void unpin(struct experts *x)
{
	struct load *k = &x->load;

	for (uint32_t b = 0; b < BATCHES; b++) {
		if (!load_settled(x, b))
			continue;
		for (uint32_t i = 0; i < k->pinned[b]; i++)
			slots_unpin(&x->slots, k->slot[b][i]);
		k->pinned[b] = 0;
		count_set(x->s.at.log, COUNT_SLOTS_PINNED, x->slots.pinned);
	}
}

void load_take_over(struct experts *x)
{
	const struct experts_record *d = x->record.draft;

	for (uint32_t b = 0; x->s.at.plan->gpu && b < BATCHES; b++) {
		while (server_gpu(&x->s) &&
		       server_peer_head(&x->s, RING_LOAD, b) < d->load_tail[b]) {
			bell_prepare(x->s.bell);
			bell_wait(x->s.bell, 1000 * 1000); /* its reader is awake */
		}
	}
}

/*
 * The GPU's slot for another expert: an empty one, or that of the expert worth least; SLOT_NONE if
 * all are of this list.
 */
static uint32_t take_slot(struct experts *x)
{
	struct load *k = &x->load;
	uint32_t best = SLOT_NONE, experts = x->s.at.plan->experts;
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i < k->slots; i++) {
		uint32_t t = k->tenant[i];
		uint64_t value;

		if (k->used[i] == k->round) /* of this list */
			continue;
		if (t == TENANT_NONE)
			return i;
		/* equal ones: the one that came longest ago */
		value = (uint64_t)policy_value(&x->slots.policy, t / experts, t % experts) << 32 |
			k->used[i];
		if (value < least) {
			least = value;
			best = i;
		}
	}
	return best;
}

/* Brings one expert: its commands, or those that fail its rows. */
static uint32_t bring(struct experts *x, const struct msg *m, uint32_t id, uint32_t slot,
		      struct command *out)
{
	uint32_t count = load_pairs_of(x, id), n;
	const struct plan *p = x->s.at.plan;
	struct load *k = &x->load;
	struct slot_failure why;
	struct weight mlp[3];
	uint32_t to, b = m->batch;

	if (slots_use(&x->slots, &slot, EXPERT_PARTS, mlp, &why)) {
		*out = (struct command){
			.kind = COMMAND_FAIL,
			.batch = (uint16_t)b,
			.rows = m->rows,
			.layer = m->layer,
			.id = (uint16_t)id,
			.bytes = row_error_part(why.error ? CAUSE_READ : CAUSE_BAD_EXPERT, m->layer,
						id, why.part, -why.error)};
		count_add(x->s.at.log, COUNT_READ_ERRORS, 1);
		return 1;
	}
	to = take_slot(x);
	if (load_computes(x, to, m->layer, id, count)) {
		n = load_compute(x, m, id, mlp, out);
		slots_unpin(&x->slots, slot);
		return n;
	}
	k->slot[b][k->pinned[b]++] = slot;
	count_add(x->s.at.log, COUNT_GPU_LOADS, 1);
	k->tenant[to] = m->layer * p->experts + id;
	k->used[to] = k->round;
	return list_expert(x->s.model.index, m->layer, id, slots_place(&x->slots, slot),
			   to * p->slot_bytes, out);
}

/* How many experts the GPU has room for, as `cuda` says: no more than the plan. */
static uint32_t read_slots(const struct experts *x)
{
	const struct attach *a = &x->s.at;
	uint64_t n;

	if (!attach_read_u64(a, OBJ_CUDA, a->layout.cuda_record, sizeof(struct cuda_record),
			     offsetof(struct cuda_record, slots), &n) ||
	    n > a->plan->gpu_slots)
		return 0;
	return (uint32_t)n;
}

/* Bytes a second that the GPU copies, as it has measured. */
static uint64_t read_rate(const struct experts *x)
{
	const struct attach *a = &x->s.at;
	uint64_t rate;

	return attach_read_u64(a, OBJ_CUDA, a->layout.cuda_record, sizeof(struct cuda_record),
			       offsetof(struct cuda_record, copy_rate), &rate)
		       ? rate
		       : 0;
}

/* Asks for as many of the experts as one list may bring; how many. */
static uint32_t ask(struct experts *x, const struct msg *m, const uint16_t *want, uint32_t n,
		    uint32_t slot[LOAD_EXPERTS])
{
	const struct plan *p = x->s.at.plan;
	enum stream_queue queue = m->batch == BATCH_DECODE ? STREAM_URGENT : STREAM_NORMAL;
	uint32_t most = p->slots / 4 ? p->slots / 4 : 1, asked = 0;

	most = most < LOAD_EXPERTS ? most : LOAD_EXPERTS;
	while (asked < n && asked < most) {
		slot[asked] = slots_find(&x->slots, m->layer, want[asked], queue);
		count_add(x->s.at.log, slot[asked] == SLOT_NONE ? COUNT_MISSES : COUNT_HITS, 1);
		if (slot[asked] == SLOT_NONE)
			slot[asked] = slots_fetch(&x->slots, m->layer, want[asked], queue);
		if (slot[asked] != SLOT_NONE) {
			asked++;
			continue;
		}
		if (asked)
			break;
		/* a slot becomes free when the GPU or a predecessor's reads are done with it */
		unpin(x);
		bell_prepare(x->s.bell);
		bell_wait(x->s.bell, 1000 * 1000);
	}
	return asked;
}

/* What cuda wants, copied, then checked. */
static bool read_missing(struct experts *x, const struct msg *m, uint32_t *n)
{
	const struct attach *a = &x->s.at;
	const struct plan *p = a->plan;
	const char *base = attach_at(a, OBJ_CUDA, a->layout.cuda_missing[m->batch]);
	struct load *k = &x->load;
	struct gpu_missing head;

	memcpy(&head, base, sizeof(head));
	*n = head.n;
	if (head.seq != m->seq || !head.n || head.n > p->experts ||
	    head.pairs > m->rows * p->top_k || !x->s.model.layer[m->layer].is_moe)
		return false;
	memcpy(k->want, base + sizeof(head), head.n * sizeof(uint16_t));
	for (uint32_t i = 0; i < head.n; i++)
		if (k->want[i] >= p->experts)
			return false;
	k->pairs = head.pairs;
	memcpy(k->pair, base + missing_pairs(p->experts), head.pairs * sizeof(*k->pair));
	for (uint32_t i = 0; i < head.pairs; i++)
		if (k->pair[i].pair >= m->rows * p->top_k || k->pair[i].expert >= p->experts)
			return false;
	k->x = (const void *)(base + missing_rows(p->experts, p->rows[m->batch], p->top_k));
	return true;
}

static void answer(struct experts *x, const struct msg *m, uint32_t n)
{
	const struct attach *a = &x->s.at;
	struct load *k = &x->load;
	struct list_head *head = attach_at(a, OBJ_EXPERTS, a->layout.experts_load[m->batch]);
	struct command *out = (void *)(head + 1);
	struct experts_record *d = x->record.draft;
	uint32_t slot[LOAD_EXPERTS], commands = 0, asked;
	struct msg load = *m;

	k->slots = read_slots(x);
	k->copy_rate = read_rate(x);
	k->results = 0;
	asked = ask(x, m, k->want, n, slot);

	k->generation = server_gpu(&x->s);
	k->round++;
	for (uint32_t i = 0; i < asked; i++)
		commands += bring(x, m, k->want[i], slot[i], out + commands);
	*head = (struct list_head){.seq = m->seq, .commands = commands};
	load.kind = MSG_LOAD;
	load.generation = a->generation;
	record_touch(&x->record, d, sizeof(*d));
	/* never full: cuda asks again only when it has taken the last answer */
	ring_put(attach_at(a, OBJ_EXPERTS,
			   a->layout.experts_ring[2] + m->batch * RING_ENTRIES * sizeof(load)),
		 RING_ENTRIES, d->load_tail[m->batch], d->load_tail[m->batch], &load);
	d->load_tail[m->batch]++;
}

bool load_serve(struct experts *x, uint32_t batch)
{
	struct experts_record *d = x->record.draft;
	struct err e = {0};
	struct msg m;
	uint32_t n;
	int rc;

	if (!x->s.at.plan->gpu)
		return false;
	unpin(x);
	rc = server_take(&x->s, &x->missing[batch], d->missing_head[batch], MSG_MISSING, batch, &m,
			 &e);
	if (rc == 0)
		return false;
	record_touch(&x->record, d, sizeof(*d));
	m.batch = batch;
	if (rc == -EPROTO)
		server_refuse_record(&x->s, &d->refused, ROLE_CUDA);
	else if (rc < 0 || !read_missing(x, &m, &n))
		server_refuse(&x->s, &d->refused, &m, batch, ROLE_CUDA);
	else if (server_peer_head(&x->s, RING_LOAD, batch) == d->load_tail[batch])
		answer(x, &m, n);
	if (rc != -EPROTO)
		d->missing_head[batch]++;
	record_commit(&x->record);
	attach_ring(&x->s.at, ROLE_CUDA);
	return true;
}
