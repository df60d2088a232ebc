/* The slot table; see slots.h. */
#include "runtime/experts/slots.h"

#include "runtime/clock.h"

#include <errno.h>
#include <stdlib.h>

static uint32_t *map_at(struct slots *t, uint32_t layer, uint32_t expert)
{
	return &t->map[(size_t)layer * t->s->at.plan->experts + expert];
}

/* Offset of a slot in the slots object: none straddles two registered pieces. */
static uint64_t slot_offset(const struct slots *t, uint32_t slot)
{
	const struct plan *p = t->s->at.plan;

	return slot / p->slots_per_piece * p->piece_bytes +
	       slot % p->slots_per_piece * p->slot_bytes;
}

/*
 * Takes over what the table says: ready slots keep their expert; a slot that was loading in a
 * predecessor is nobody's until its io_uring is empty.
 */
static void adopt(struct slots *t)
{
	const struct plan *p = t->s->at.plan;

	for (uint32_t i = 0; i < t->n; i++) {
		uint64_t word = atomic_load_explicit(&t->word[i], memory_order_relaxed);
		uint32_t layer = (uint32_t)(word >> 24) & 0xffff,
			 expert = (uint32_t)(word >> 8) & 0xffff;

		if (word >> 60 != SLOT_READY)
			continue;
		if (layer >= p->layers || expert >= p->experts || *map_at(t, layer, expert)) {
			atomic_store_explicit(&t->word[i], 0, memory_order_relaxed);
			continue;
		}
		t->slot[i].layer = layer;
		t->slot[i].expert = expert;
		*map_at(t, layer, expert) = i + 1;
	}
}

int slots_open(struct slots *t, const struct server *s, struct err *e)
{
	const struct plan *p = s->at.plan;
	const struct node_uring *u = &s->at.node->uring[s->at.generation % 4];

	t->s = s;
	t->n = p->experts ? p->slots : 0;
	if (!t->n)
		return 0;
	t->word = attach_at(&s->at, OBJ_EXPERTS, s->at.layout.experts_slots);
	t->slot = calloc(t->n, sizeof(*t->slot));
	t->map = calloc((size_t)p->layers * p->experts, sizeof(*t->map));
	if (!t->slot || !t->map)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the table of %u slots",
				t->n);
	policy_open(&t->policy, attach_at(&s->at, OBJ_EXPERTS, s->at.layout.experts_used), t->n);
	adopt(t);
	return stream_open(&t->stream, FD_URING, u->params, u->base, p->piece_bytes, t->n, e);
}

uint32_t slots_find(struct slots *t, uint32_t layer, uint32_t expert)
{
	uint32_t slot = *map_at(t, layer, expert);

	if (!slot)
		return SLOT_NONE;
	slot--;
	t->slot[slot].pins++;
	policy_touch(&t->policy, slot);
	return slot;
}

/* Whether a slot may be given to another expert. */
static bool may_take(void *context, uint32_t slot)
{
	const struct slots *t = context;
	uint64_t word = atomic_load_explicit(&t->word[slot], memory_order_relaxed);

	if (t->slot[slot].pins || t->slot[slot].reading)
		return false;
	if (word >> 60 != SLOT_LOADING)
		return true;
	/*
	 * A predecessor's read may still land here until init says that its io_uring is empty
	 * (machinery 10). The word has the generation's low 20 bits: compared in a circle, so that
	 * a million deaths do not make a living read look old. acquire: what init saw, we see
	 */
	return ((atomic_load_explicit(&t->s->at.node->uring_empty, memory_order_acquire) -
		 (word >> 40)) &
		0xfffff) < 0x80000;
}

static void fill_job(struct slots *t, uint32_t slot, uint32_t queue)
{
	const struct index *ix = t->s->model.index;
	struct slot *sl = &t->slot[slot];
	const struct index_expert *x = index_expert(ix, sl->layer, sl->expert);
	uint64_t bytes = index_part_bytes(ix);

	sl->job.extents = EXPERT_PARTS;
	sl->job.queue = queue;
	for (unsigned p = 0; p < EXPERT_PARTS; p++) {
		uint64_t skip = x->part[p].off % DRIVE_ALIGN;

		sl->job.extent[p] = (struct stream_extent){
			.off = x->part[p].off - skip,
			.bytes = (skip + bytes + DRIVE_ALIGN - 1) / DRIVE_ALIGN * DRIVE_ALIGN,
			.need = skip + bytes,
			.dest = slot_offset(t, slot) + p * index_part_stride(ix),
			.file = x->part[p].file,
		};
	}
}

static void release(struct slots *t, uint32_t slot)
{
	struct slot *sl = &t->slot[slot];

	if (atomic_load_explicit(&t->word[slot], memory_order_relaxed) >> 60 == SLOT_READY ||
	    sl->reading)
		*map_at(t, sl->layer, sl->expert) = 0;
	sl->reading = 0;
	sl->checked = 0;
	atomic_store_explicit(&t->word[slot], 0, memory_order_release);
}

bool slots_ready(const struct slots *t, uint32_t slot)
{
	const struct slot *sl = &t->slot[slot];

	return !sl->reading || atomic_load_explicit(&sl->job.done, memory_order_acquire);
}

/* The read of this process is whole: the slot is ready. */
static void finish_read(struct slots *t, uint32_t slot)
{
	struct slot *sl = &t->slot[slot];

	sl->reading = 0;
	/* release: the bytes are there before the word says so */
	atomic_store_explicit(&t->word[slot],
			      slot_word(SLOT_READY, t->s->at.generation, sl->layer, sl->expert),
			      memory_order_release);
}

/* Marks what has arrived without anybody waiting for it: such a slot is ready, or free again. */
static void settle(struct slots *t)
{
	for (uint32_t i = 0; i < t->n; i++) {
		struct slot *sl = &t->slot[i];

		if (!sl->reading || sl->pins || !slots_ready(t, i))
			continue;
		if (sl->job.error)
			release(t, i);
		else
			finish_read(t, i);
	}
}

uint32_t slots_fetch(struct slots *t, uint32_t layer, uint32_t expert, uint32_t queue)
{
	uint32_t slot = policy_victim(&t->policy, may_take, t);
	struct slot *sl;

	if (slot == SLOT_NONE) {
		settle(t);
		slot = policy_victim(&t->policy, may_take, t);
	}
	if (slot == SLOT_NONE)
		return SLOT_NONE;
	release(t, slot);
	sl = &t->slot[slot];
	sl->layer = layer;
	sl->expert = expert;
	sl->pins = 1;
	sl->reading = 1;
	*map_at(t, layer, expert) = slot + 1;
	policy_touch(&t->policy, slot);
	fill_job(t, slot, queue);
	/* release: before the read that it speaks of can begin (machinery 10) */
	atomic_store_explicit(&t->word[slot],
			      slot_word(SLOT_LOADING, t->s->at.generation, layer, expert),
			      memory_order_release);
	stream_put(t->stream, &sl->job);
	return slot;
}

/*
 * Position of the first E4M3 NaN code, or n. Eight bytes at a time: a byte is 0x7f without its sign
 * exactly if adding one carries into bit 7.
 */
static size_t find_nan_fp8(const uint8_t *p, size_t n)
{
	const uint64_t low = 0x7f7f7f7f7f7f7f7full, one = 0x0101010101010101ull,
		       high = 0x8080808080808080ull;
	size_t i = 0;

	for (; i + 64 <= n; i += 64) {
		uint64_t any = 0;

		for (size_t j = 0; j < 64; j += 8) {
			uint64_t v;

			__builtin_memcpy(&v, p + i + j, 8);
			any |= ((v & low) + one) & high;
		}
		if (any)
			break;
	}
	for (; i < n; i++) {
		if ((p[i] & 0x7f) == 0x7f)
			return i;
	}
	return n;
}

/* Position in bytes of the first BF16 number that is not finite, or n bytes. */
static size_t find_nan_bf16(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i + 2 <= n; i += 2) {
		uint16_t v;

		__builtin_memcpy(&v, p + i, 2);
		if ((v & 0x7f80) == 0x7f80)
			return i;
	}
	return n;
}

struct check {
	const uint8_t *part[EXPERT_PARTS];
	size_t bytes;
	bool fp8;
	_Atomic uint64_t bad; /* smallest part * bytes + position; UINT64_MAX: none */
};

static void check_work(void *context, struct worker *w)
{
	struct check *c = context;

	for (unsigned p = 0; p < EXPERT_PARTS; p++) {
		size_t begin, end, at;

		worker_share(w, c->bytes, 4096, &begin, &end);
		if (begin == end)
			continue;
		at = begin + (c->fp8 ? find_nan_fp8(c->part[p] + begin, end - begin)
				     : find_nan_bf16(c->part[p] + begin, end - begin));
		if (at < end) {
			uint64_t bad = p * c->bytes + at, old = atomic_load(&c->bad);

			while (bad < old && !atomic_compare_exchange_weak(&c->bad, &old, bad))
				;
		}
	}
}

/* Whether every number of the expert is finite; else fills *why. */
static bool check_numbers(struct slots *t, const struct index_expert *x, const void *const part[3],
			  struct slot_failure *why)
{
	const struct index *ix = t->s->model.index;
	struct check c = {.part = {part[0], part[1], part[2]},
			  .bytes = index_part_bytes(ix),
			  .fp8 = ix->expert_type == INDEX_FP8};

	atomic_init(&c.bad, UINT64_MAX);
	team_run(t->s->team, check_work, &c);
	if (atomic_load(&c.bad) == UINT64_MAX)
		return true;
	why->error = 0;
	why->part = (uint32_t)(atomic_load(&c.bad) / c.bytes);
	why->at = x->part[why->part].off + atomic_load(&c.bad) % c.bytes;
	return false;
}

int slots_use(struct slots *t, uint32_t slot, struct weight out[3], struct slot_failure *why)
{
	const struct index *ix = t->s->model.index;
	struct slot *sl = &t->slot[slot];
	const struct index_expert *x = index_expert(ix, sl->layer, sl->expert);
	const void *part[EXPERT_PARTS];

	if (sl->reading) {
		int rc = stream_wait(t->stream, &sl->job);

		if (rc) {
			*why = (struct slot_failure){rc, sl->job.failed_extent, sl->job.failed_at};
			goto fail;
		}
		finish_read(t, slot);
	}
	for (unsigned p = 0; p < EXPERT_PARTS; p++)
		part[p] = attach_at(&t->s->at, OBJ_SLOTS,
				    slot_offset(t, slot) + p * index_part_stride(ix) +
					    x->part[p].off % DRIVE_ALIGN);
	if (!sl->checked && !check_numbers(t, x, part, why))
		goto fail;
	sl->checked = 1;
	model_expert(&t->s->model, sl->layer, sl->expert, part, out);
	return 0;
fail:
	sl->pins--;
	/*
	 * another step that pinned it meanwhile finds it free and fetches it again: it holds its
	 * own pin until then
	 */
	if (!sl->pins)
		release(t, slot);
	return -1;
}

void slots_unpin(struct slots *t, uint32_t slot)
{
	t->slot[slot].pins--;
}
