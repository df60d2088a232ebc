/* The slot table; see slots.h. */
#include "runtime/experts/slots.h"

#include "runtime/clock.h"
#include "runtime/experts/numbers.h"
#include "runtime/experts/pieces.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	DEADLINE_S = 60,          /* of one read (machinery 12) */
	MIRROR_S = 2,             /* the same where the store has another copy of it */
	AVOID_S = 30,             /* for so long a copy that did not answer is read last */
	LOOK_BYTES = STREAM_PIECE /* looked through at a time where nobody waits for them yet */
};

static uint32_t *map_at(struct slots *t, uint32_t layer, uint32_t expert)
{
	return &t->map[(size_t)layer * t->s->at.plan->experts + expert];
}

/* Offset of a slot in the slots object: none straddles two registered pieces. */
uint64_t slots_place(const struct slots *t, uint32_t slot)
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
	for (uint32_t i = t->n; i-- > 0;) {
		if (atomic_load_explicit(&t->word[i], memory_order_relaxed) >> 60 != SLOT_READY)
			t->free[t->n_free++] = i;
	}
}

int slots_open(struct slots *t, const struct server *s, struct err *e)
{
	const struct plan *p = s->at.plan;
	const struct node *node = s->at.node;
	const struct layout *l = &s->at.layout;
	const struct node_uring *u = &node->uring[s->at.generation % 4];
	uint32_t drive[sizeof(node->file) / sizeof(node->file[0])], files = node->file_count;

	if (files > sizeof(drive) / sizeof(drive[0]))
		return err_set(e, -EBADMSG, "the node lists %u files", files);
	for (uint32_t i = 0; i < files; i++)
		drive[i] = node->file[i].drive;
	t->s = s;
	t->n = p->experts ? p->slots : 0;
	if (!t->n)
		return 0;
	t->word = attach_at(&s->at, OBJ_EXPERTS, s->at.layout.experts_slots);
	t->slot = calloc(t->n, sizeof(*t->slot));
	t->map = calloc((size_t)p->layers * p->experts, sizeof(*t->map));
	t->arriving = calloc(t->n, sizeof(*t->arriving));
	t->free = calloc(t->n, sizeof(*t->free));
	if (!t->slot || !t->map || !t->arriving || !t->free ||
	    !policy_open(&t->policy, attach_at(&s->at, OBJ_EXPERTS, l->experts_policy),
			 attach_at(&s->at, OBJ_EXPERTS, l->experts_visits),
			 attach_at(&s->at, OBJ_EXPERTS, l->experts_known), p->layers, p->experts,
			 t->map))
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the table of %u slots",
				t->n);
	t->all = t->n >= s->model.index->experts.count;
	return stream_open(&t->stream, FD_URING, u->params, u->base, p->piece_bytes, drive, files,
			   e);
}

void slots_take_over(struct slots *t)
{
	if (t->n)
		adopt(t);
}

/* Whether a slot may be given to another expert. */
static bool may_take(void *context, uint32_t slot)
{
	const struct slots *t = context;
	uint64_t word = atomic_load_explicit(&t->word[slot], memory_order_relaxed);

	/* acquire: pairs with init's release; the buffer is registered */
	if (slot / t->s->at.plan->slots_per_piece >=
	    atomic_load_explicit(&t->s->at.node->slot_pieces, memory_order_acquire))
		return false;
	if (t->slot[slot].pins || t->slot[slot].reading)
		return false; /* it may even have failed, with a read that still lands here */
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

/*
 * Handing a read over, hurrying it or calling it off may wait for the drive as well: submission
 * does where its queue is full, and on file systems that cannot do otherwise.
 */
static void read_put(struct slots *t, struct stream_job *job)
{
	bool before = server_waits(t->s, true);

	stream_put(t->stream, job);
	server_waits(t->s, before);
}

static void read_promote(struct slots *t, struct stream_job *job, enum stream_queue queue)
{
	bool before = server_waits(t->s, true);

	stream_promote(t->stream, job, queue);
	server_waits(t->s, before);
}

static bool read_cancel(struct slots *t, struct stream_job *job, uint64_t *asked)
{
	bool before = server_waits(t->s, true), left = stream_cancel(t->stream, job, asked);

	server_waits(t->s, before);
	return left;
}

static void fill_job(struct slots *t, uint32_t slot, enum stream_queue queue)
{
	const struct index *ix = t->s->model.index;
	struct slot *sl = &t->slot[slot];
	const struct index_expert *x = index_expert(ix, sl->layer, sl->expert);
	struct index_read read[INDEX_READS_MAX];

	_Static_assert((int)STREAM_PIECE == PACK_PIECE && (int)STREAM_EXTENTS >= INDEX_READS_MAX,
		       "a read is a piece, and a job takes an expert");
	sl->job.extents = index_expert_reads(ix, x, sl->copy, read);
	sl->job.queue = queue;
	for (unsigned i = 0; i < sl->job.extents; i++)
		sl->job.extent[i] =
			(struct stream_extent){.off = read[i].off,
					       .bytes = read[i].bytes,
					       .need = read[i].need,
					       .dest = slots_place(t, slot) + read[i].dest,
					       .step = read[i].step,
					       .file = read[i].file};
}

bool slots_ready(const struct slots *t, uint32_t slot)
{
	const struct slot *sl = &t->slot[slot];

	return !sl->reading || stream_done(&sl->job);
}

/* The expert is no longer to be found; the slot is free, once no read can land in it. */
static void release(struct slots *t, uint32_t slot)
{
	struct slot *sl = &t->slot[slot];

	if (*map_at(t, sl->layer, sl->expert) == slot + 1) {
		*map_at(t, sl->layer, sl->expert) = 0;
		policy_moved(&t->policy, sl->layer);
	}
	memset(sl->checked, 0, sizeof(sl->checked));
	sl->bad = false;
	sl->guessed = false;
	if (sl->reading)
		return;
	atomic_store_explicit(&t->word[slot], 0, memory_order_release);
	t->free[t->n_free++] = slot;
}

/*
 * A free slot, no longer in the list; SLOT_NONE if there is none. Those that a predecessor was
 * reading into stay there until its io_uring is empty: they are few.
 */
static uint32_t take_free(struct slots *t)
{
	for (uint32_t i = t->n_free; i-- > 0;) {
		uint32_t slot = t->free[i];

		if (!may_take(t, slot))
			continue;
		t->free[i] = t->free[--t->n_free];
		return slot;
	}
	return SLOT_NONE;
}

/* A slot for another expert: a free one, or one whose expert gives way. */
static uint32_t take_slot(struct slots *t)
{
	uint32_t slot = take_free(t);

	if (slot != SLOT_NONE)
		return slot;
	slot = policy_victim(&t->policy, may_take, t);
	if (slot == POLICY_NONE)
		return SLOT_NONE;
	release(t, slot);
	return take_free(t);
}

/* A read has ended: for the time line. */
static void note_read(const struct slots *t, const struct slot *sl)
{
	const struct span s = {.begin_ns = sl->asked_ns,
			       .end_ns = sl->job.done_ns,
			       .counter = COUNT_READS,
			       .batch = sl->job.queue == STREAM_HINT,
			       .layer = (uint16_t)sl->layer,
			       .expert = (uint16_t)sl->expert};

	span_write(t->s->at.log, &s);
}

bool slots_settle(struct slots *t)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < t->n_arriving; i++) {
		uint32_t slot = t->arriving[i];
		struct slot *sl = &t->slot[slot];

		if (!stream_landed(&sl->job) || (sl->job.error && sl->pins)) {
			t->arriving[kept++] = slot;
			continue;
		}
		sl->reading = false;
		note_read(t, sl);
		if (sl->job.error || *map_at(t, sl->layer, sl->expert) != slot + 1)
			release(t, slot);
		else
			/* release: the bytes are there before the word says so */
			atomic_store_explicit(
				&t->word[slot],
				slot_word(SLOT_READY, t->s->at.generation, sl->layer, sl->expert),
				memory_order_release);
	}
	t->n_arriving = kept;
	return kept > 0;
}

/* Whether an expert may have to give way: there are not slots for all, or not yet. */
static bool is_scarce(const struct slots *t)
{
	/* relaxed: a hint */
	uint64_t made = atomic_load_explicit(&t->s->at.node->slot_pieces, memory_order_relaxed);

	return !t->all || made * t->s->at.plan->slots_per_piece < t->n;
}

void slots_step(struct slots *t, const struct msg *m, bool decode, const uint16_t *route,
		const uint64_t *error)
{
	if (is_scarce(t))
		policy_step(&t->policy, &(struct policy_step){.seq = m->seq,
							      .batch = m->batch,
							      .decode = decode,
							      .layer = m->layer,
							      .rows = m->rows,
							      .top_k = t->s->at.plan->top_k,
							      .route = route,
							      .error = error});
}

uint32_t slots_find(struct slots *t, uint32_t layer, uint32_t expert, enum stream_queue queue)
{
	uint32_t slot;

	slots_settle(t);
	slot = *map_at(t, layer, expert);
	if (!slot)
		return SLOT_NONE;
	slot--;
	t->slot[slot].pins++;
	t->pinned++;
	if (t->slot[slot].reading)
		read_promote(t, &t->slot[slot].job, queue);
	policy_asked(&t->policy, layer, expert);
	return slot;
}

/* Begins to read what the slot is for, from sl->copy. */
static void begin_read(struct slots *t, uint32_t slot, enum stream_queue queue)
{
	struct slot *sl = &t->slot[slot];

	if (!sl->reading)
		t->arriving[t->n_arriving++] = slot;
	sl->reading = true;
	sl->asked_ns = clock_now_ns();
	fill_job(t, slot, queue);
	/* release: before the read that it speaks of can begin (machinery 10) */
	atomic_store_explicit(&t->word[slot],
			      slot_word(SLOT_LOADING, t->s->at.generation, sl->layer, sl->expert),
			      memory_order_release);
	read_put(t, &sl->job);
}

uint32_t slots_fetch(struct slots *t, uint32_t layer, uint32_t expert, enum stream_queue queue)
{
	uint32_t slot;
	struct slot *sl;

	slots_settle(t);
	slot = take_slot(t);
	if (slot == SLOT_NONE)
		return SLOT_NONE;
	sl = &t->slot[slot];
	sl->layer = layer;
	sl->expert = expert;
	sl->pins = queue != STREAM_HINT;
	t->pinned += sl->pins;
	sl->guessed = queue == STREAM_HINT;
	sl->copy = clock_now_ns() < t->first_until_ns ? t->first_copy : 0;
	sl->tried = 0;
	*map_at(t, layer, expert) = slot + 1;
	policy_moved(&t->policy, layer);
	if (queue != STREAM_HINT)
		policy_asked(&t->policy, layer, expert);
	begin_read(t, slot, queue);
	return slot;
}

bool slots_has(const struct slots *t, uint32_t layer, uint32_t expert)
{
	return t->map[(size_t)layer * t->s->at.plan->experts + expert] != 0;
}

uint64_t slots_drop(struct slots *t, uint32_t slot)
{
	struct slot *sl = &t->slot[slot];
	uint64_t bytes = 0;

	/* it may have failed and been given up, or be somebody's by now */
	if (!sl->guessed || sl->pins)
		return 0;
	sl->guessed = false;
	for (uint32_t x = 0; x < sl->job.extents; x++)
		bytes += sl->job.extent[x].bytes;
	if (!sl->reading || !read_cancel(t, &sl->job, &bytes))
		return bytes; /* all of it was asked for: it may as well stay */
	release(t, slot);
	return bytes;
}

bool slots_was_guess(struct slots *t, uint32_t slot)
{
	bool was = t->slot[slot].guessed;

	t->slot[slot].guessed = false;
	return was;
}

static const uint8_t *part_at(const struct slots *t, uint32_t slot, unsigned part)
{
	const struct index *ix = t->s->model.index;
	const struct slot *sl = &t->slot[slot];
	const struct index_expert *x = index_expert(ix, sl->layer, sl->expert);

	return attach_at(&t->s->at, OBJ_SLOTS,
			 slots_place(t, slot) + index_part_place(ix, x, part));
}

/* Bytes of a matrix that are in memory, whole numbers only. */
static uint64_t part_arrived(const struct slots *t, uint32_t slot, unsigned part)
{
	const struct index *ix = t->s->model.index;
	const struct slot *sl = &t->slot[slot];
	uint64_t bytes = index_part_bytes(ix, part), skip, there;

	if (!sl->reading)
		return bytes;
	skip = index_expert(ix, sl->layer, sl->expert)->part[part].off % DRIVE_ALIGN;
	/* acquire: pairs with the stream's release; the bytes are there with the count */
	there = atomic_load_explicit(&sl->job.arrived[part], memory_order_acquire);
	there = there > skip ? there - skip : 0;
	return there < bytes ? there & ~1ull : bytes;
}

/* Pieces of a packed expert that are in memory: up to the first that is not. */
static uint64_t pieces_arrived(const struct slots *t, uint32_t slot)
{
	const struct index_pack_area *a = &t->s->model.index->pack.area[PACK_EXPERTS];
	const struct stream_job *job = &t->slot[slot].job;
	uint64_t pieces = pack_pieces(a), n = t->slot[slot].checked[0];

	if (!t->slot[slot].reading)
		return pieces;
	/* piece n is number n / extents of extent n % extents; acquire: as above */
	while (n < pieces &&
	       atomic_load_explicit(&job->arrived[n % job->extents], memory_order_acquire) >=
		       n / job->extents * PACK_PIECE + pack_piece_bytes(a, n))
		n++;
	return n;
}

static void found_bad_piece(struct slots *t, uint32_t slot, uint64_t piece)
{
	const struct index *ix = t->s->model.index;
	const struct index_pack *k = &ix->pack;
	struct slot *sl = &t->slot[slot];
	const struct index_expert *x = index_expert(ix, sl->layer, sl->expert);
	const uint64_t extent = x->part[0].off - index_part_place(ix, x, 0);
	struct slot_failure *why = &sl->why;

	sl->bad = true;
	*why = (struct slot_failure){.error = -EBADMSG};
	why->file = k->file[sl->copy][pack_part(k->parts, k->data_off, extent + piece * PACK_PIECE,
						&why->at)];
}

static bool look_packed(struct slots *t, uint32_t slot, uint64_t most)
{
	const struct index *ix = t->s->model.index;
	struct slot *sl = &t->slot[slot];
	const uint64_t from = sl->checked[0];
	uint64_t end = pieces_arrived(t, slot);

	if (sl->bad || from == end)
		return false;
	end = end - from < most / PACK_PIECE ? end : from + most / PACK_PIECE;
	sl->checked[0] = pieces_find_bad(
		t->s->team, ix, t->s->kernels.isa, index_expert(ix, sl->layer, sl->expert),
		attach_at(&t->s->at, OBJ_SLOTS, slots_place(t, slot)), from, end);
	if (sl->checked[0] < end)
		found_bad_piece(t, slot, sl->checked[0]);
	return true;
}

/* Looks through at most `most` bytes that have arrived. Whether there were any. */
static bool look(struct slots *t, uint32_t slot, uint64_t most)
{
	const struct index *ix = t->s->model.index;
	struct slot *sl = &t->slot[slot];

	if (ix->pack.parts)
		return look_packed(t, slot, most);
	for (unsigned p = 0; p < EXPERT_PARTS && !sl->bad; p++) {
		uint64_t from = sl->checked[p], n = part_arrived(t, slot, p) - from, at;
		const struct index_expert *x = index_expert(ix, sl->layer, sl->expert);

		if (!n)
			continue;
		n = n < most ? n : most;
		at = numbers_find_bad(t->s->team, part_at(t, slot, p) + from, n,
				      ix->expert_type == INDEX_FP8);
		sl->checked[p] += at;
		if (at < n) {
			sl->bad = true;
			sl->why = (struct slot_failure){.part = p,
							.file = x->part[p].file,
							.at = x->part[p].off + from + at};
		}
		return true;
	}
	return false;
}

/* The same for a slot that will be needed next. */
static bool look_ahead(struct slots *t)
{
	for (uint32_t i = 0; i < t->n_arriving; i++) {
		if (t->slot[t->arriving[i]].pins && look(t, t->arriving[i], LOOK_BYTES))
			return true;
	}
	return false;
}

static bool known(const struct slots *t, uint32_t slot, unsigned parts)
{
	const struct index *ix = t->s->model.index;
	const struct slot *sl = &t->slot[slot];
	const struct index_expert *x = index_expert(ix, sl->layer, sl->expert);

	if (ix->pack.parts) /* an extent has the parts one behind the other */
		return sl->checked[0] == pack_pieces(&ix->pack.area[PACK_EXPERTS]) ||
		       sl->checked[0] * PACK_PIECE >=
			       index_part_place(ix, x, parts - 1) + index_part_bytes(ix, parts - 1);
	for (unsigned p = 0; p < parts; p++) {
		if (sl->checked[p] != index_part_bytes(ix, p))
			return false;
	}
	return true;
}

/* Where the store has a copy of the expert that was not read yet. */
static bool other_copy(const struct slots *t, const struct slot *sl, uint32_t *copy)
{
	const struct index_pack *k = &t->s->model.index->pack;

	for (uint32_t i = 1; k->parts && i < k->copies; i++) {
		*copy = (sl->copy + i) % k->copies;
		if (!(sl->tried >> *copy & 1))
			return true;
	}
	return false;
}

/* How long a read of it may take: no longer than it is worth waiting where there is a copy. */
static uint64_t deadline_ns(const struct slots *t, const struct slot *sl)
{
	uint32_t copy;

	return (other_copy(t, sl, &copy) ? MIRROR_S : DEADLINE_S) * NS_PER_S;
}

/*
 * The expert in a slot that a read may still write to gets another slot, and the caller's pin with
 * it. The old one is nobody's until that read has landed. False: none could be had for a minute.
 */
static bool move(struct slots *t, uint32_t *slot)
{
	const struct slot *from = &t->slot[*slot];
	const uint64_t until = clock_now_ns() + DEADLINE_S * NS_PER_S;
	bool before = server_waits(t->s, true);
	uint32_t to;

	while (slots_settle(t), (to = take_slot(t)) == SLOT_NONE && clock_now_ns() < until)
		stream_pause(t->stream, NS_PER_S / 10);
	server_waits(t->s, before);
	if (to == SLOT_NONE)
		return false;
	t->slot[to].layer = from->layer;
	t->slot[to].expert = from->expert;
	t->slot[to].pins = 1;
	t->slot[to].guessed = false;
	t->pinned++;
	*map_at(t, from->layer, from->expert) = to + 1;
	policy_moved(&t->policy, from->layer);
	slots_unpin(t, *slot);
	*slot = to;
	return true;
}

/*
 * What was read is bad, or does not come: whether the next copy of a packed store is now read
 * instead. The slot may be another then.
 */
static bool read_next_copy(struct slots *t, uint32_t *slot)
{
	struct slot *sl = &t->slot[*slot];
	const struct slot_failure why = sl->why;
	const uint64_t arg[5] = {sl->layer, sl->expert, why.file, why.at, (uint64_t)-why.error};
	uint32_t copy, tried, moved = *map_at(t, sl->layer, sl->expert);

	if (moved && moved != *slot + 1) { /* another step has begun that already */
		t->slot[moved - 1].pins++;
		t->pinned++;
		slots_unpin(t, *slot);
		*slot = moved - 1;
		return true;
	}
	if (!other_copy(t, sl, &copy))
		return false;
	tried = sl->tried | 1u << sl->copy;
	if (sl->reading)
		read_cancel(t, &sl->job, NULL);
	while (!slots_ready(t, *slot))
		stream_wait(t->stream, &sl->job, UINT64_MAX, MIRROR_S * NS_PER_S);
	if (sl->reading && !stream_landed(&sl->job) && !move(t, slot))
		return false;
	sl = &t->slot[*slot];
	if (why.error == -ETIMEDOUT) {
		t->first_copy = copy;
		t->first_until_ns = clock_now_ns() + AVOID_S * NS_PER_S;
	}
	log_write(t->s->at.log, t->s->at.generation, LOG_OTHER_COPY, arg);
	attach_ring(&t->s->at, ROLE_SCRIBE);
	memset(sl->checked, 0, sizeof(sl->checked));
	sl->bad = false;
	sl->copy = copy;
	sl->tried = tried;
	begin_read(t, *slot, STREAM_URGENT);
	return true;
}

/* Waits until the first `parts` matrices are known to be good, or that they are not: sl->bad. */
static void await(struct slots *t, uint32_t slot, unsigned parts)
{
	struct slot *sl = &t->slot[slot];

	while (!sl->bad && !known(t, slot, parts)) {
		uint64_t seen = sl->reading ? stream_arrived(&sl->job) : 0;
		bool done = slots_ready(t, slot);

		if (look(t, slot, UINT64_MAX))
			continue;
		if (done) {
			const struct stream_job *job = &sl->job;

			/* all that came has been looked through, and it is not all */
			sl->bad = true;
			sl->why =
				(struct slot_failure){.error = job->error,
						      .part = job->failed_extent % EXPERT_PARTS,
						      .file = job->extent[job->failed_extent].file,
						      .at = job->failed_at};
		} else if (!look_ahead(t)) {
			stream_wait(t->stream, &sl->job, seen, deadline_ns(t, sl));
		}
	}
}

int slots_use(struct slots *t, uint32_t *slot, unsigned parts, struct weight out[3],
	      struct slot_failure *why)
{
	const void *part[EXPERT_PARTS];
	const struct slot *sl;

	do
		await(t, *slot, parts);
	while (t->slot[*slot].bad && read_next_copy(t, slot));
	sl = &t->slot[*slot];
	if (sl->bad) {
		*why = sl->why;
		slots_unpin(t, *slot);
		return -1;
	}
	for (unsigned p = 0; p < EXPERT_PARTS; p++)
		part[p] = part_at(t, *slot, p);
	model_expert(&t->s->model, sl->layer, sl->expert, part, out);
	return 0;
}

void slots_unpin(struct slots *t, uint32_t slot)
{
	struct slot *sl = &t->slot[slot];

	sl->pins--;
	t->pinned--;
	/*
	 * another step that has pinned a bad one meets the same failure; the last one gives it up,
	 * and what is still being read of it is asked for no longer
	 */
	if (!sl->bad || sl->pins)
		return;
	if (sl->reading)
		read_cancel(t, &sl->job, NULL);
	release(t, slot);
}
