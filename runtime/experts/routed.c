/*
 * The routed experts of one layer for the rows of one step (machinery 21, arithmetic 11): asks for
 * what is missing, computes what is there, adds up in ascending order of expert id. Small steps
 * keep every expert's output and compute in the order of arrival; large ones (prefill) go through
 * the experts in ascending order, each read at most once, commit in parts, and let a decode step in
 * between two experts.
 */
#include "runtime/experts/experts.h"

#include "runtime/clock.h"

#include <errno.h>
#include <string.h>

struct expert_work {
	struct step *st;
	const struct weight *mlp;
	uint32_t n; /* of scratch.compact */
};

static void expert_run(void *context, struct worker *w)
{
	const struct expert_work *k = context;
	const struct model *m = &k->st->x->s.model;
	const struct scratch *sc = k->st->sc;

	ffn_mlp(m, k->mlp, k->st->xin, sc->compact, k->n, sc->f, sc->work, w);
	/* each worker adds its own columns: no barrier */
	ffn_accumulate(m, k->st->acc, sc->f, sc->compact_weight, sc->compact, k->n, w);
}

/* Every row that needs expert active[i] fails with `why`. */
static void fail_rows(struct step *st, uint32_t i, const struct slot_failure *why)
{
	struct experts *x = st->x;
	uint32_t id = st->sc->active[i];
	uint64_t arg[5] = {st->msg.layer, id, why->part, why->at, (uint64_t)-why->error};
	uint64_t piece[5] = {st->msg.layer, id, why->at, why->file};

	if (why->error == -EBADMSG)
		log_write(x->s.at.log, x->s.at.generation, LOG_BAD_PIECE, piece);
	else
		log_write(x->s.at.log, x->s.at.generation,
			  why->error ? LOG_READ_ERROR : LOG_BAD_EXPERT, arg);
	attach_ring(&x->s.at, ROLE_SCRIBE);
	count_add(x->s.at.log, COUNT_READ_ERRORS, 1);
	for (uint32_t j = st->sc->start[id]; j < st->sc->start[id + 1]; j++) {
		uint32_t r = st->sc->list[j];

		if (st->sc->skip[r])
			continue;
		st->sc->skip[r] = 1;
		st->error_out[r] = row_error_part(why->error ? CAUSE_READ : CAUSE_BAD_EXPERT,
						  st->msg.layer, id, why->part, -why->error);
	}
}

/* The rows of active[i] that have not failed, into compact. */
static uint32_t live_rows(struct step *st, uint32_t i)
{
	struct scratch *sc = st->sc;
	uint32_t id = sc->active[i], n = 0;

	for (uint32_t j = sc->start[id]; j < sc->start[id + 1]; j++) {
		if (sc->skip[sc->list[j]])
			continue;
		sc->compact[n] = sc->list[j];
		sc->compact_weight[n] = sc->weight[j];
		n++;
	}
	return n;
}

/* Pins or asks for active[i]. False if no slot can be had now. */
static bool ask(struct step *st, uint32_t i)
{
	struct experts *x = st->x;
	enum stream_queue queue = st->pass.area.decode ? STREAM_URGENT : STREAM_NORMAL;
	uint32_t slot = slots_find(&x->slots, st->msg.layer, st->sc->active[i], queue);

	if (slot != SLOT_NONE) {
		/* what a guess has read is still a miss of the cache */
		count_add(x->s.at.log, slots_was_guess(&x->slots, slot) ? COUNT_MISSES : COUNT_HITS,
			  1);
	} else {
		slot = slots_fetch(&x->slots, st->msg.layer, st->sc->active[i], queue);
		if (slot == SLOT_NONE)
			return false;
		count_add(x->s.at.log, COUNT_MISSES, 1);
	}
	st->sc->slot[i] = slot;
	return true;
}

/*
 * Asks for active[i], come what may: with nothing else pinned a slot becomes free when a
 * predecessor's reads have landed.
 */
static void ask_or_wait(struct step *st, uint32_t i)
{
	server_waits(&st->x->s, true);
	while (!ask(st, i)) {
		bell_prepare(st->x->s.bell);
		bell_wait(st->x->s.bell, 1000 * 1000); /* init rings when an io_uring is empty */
	}
	server_waits(&st->x->s, false);
}

/*
 * Large steps: waits for active[i], computes it and adds it up; its slot is no longer pinned. If
 * the expert failed, its rows have failed too.
 */
static void compute(struct step *st, uint32_t i)
{
	struct experts *x = st->x;
	struct weight mlp[3];
	struct slot_failure why;
	uint64_t start = clock_now_ns(), ready;
	struct expert_work k = {.st = st, .mlp = mlp};
	int rc;

	server_turn(&x->s);
	server_waits(&x->s, !slots_ready(&x->slots, st->sc->slot[i]));
	rc = slots_use(&x->slots, &st->sc->slot[i], EXPERT_PARTS, mlp, &why);
	server_waits(&x->s, false);
	ready = clock_now_ns();
	count_time(x->s.at.log, COUNT_DRIVE_NS, start, ready, st->msg.batch, st->msg.layer);
	if (rc) {
		fail_rows(st, i, &why);
		return;
	}
	k.n = live_rows(st, i);
	if (k.n)
		team_run(x->s.team, expert_run, &k);
	slots_unpin(&x->slots, st->sc->slot[i]);
	count_time(x->s.at.log, COUNT_EXPERT_NS, ready, clock_now_ns(), st->msg.batch,
		   st->msg.layer);
}

void routed_add_up(const struct step *st, struct worker *w)
{
	const struct scratch *sc = st->sc;
	const struct model *m = &st->x->s.model;

	ffn_clear(m, st->acc, st->msg.rows, w);
	for (uint32_t i = 0; i < st->n_active; i++) {
		uint32_t id = sc->active[i], at = sc->start[id];

		if (sc->state[i] != EXPERT_FAILED)
			ffn_accumulate(m, st->acc,
				       sc->f + (size_t)at * st->x->s.at.layout.row_stride,
				       sc->weight + at, sc->list + at, sc->start[id + 1] - at, w);
	}
}

void routed_release(struct step *st)
{
	for (uint32_t i = 0; i < st->n_active; i++) {
		if (st->sc->slot[i] != SLOT_NONE)
			slots_unpin(&st->x->slots, st->sc->slot[i]);
	}
}

/* Waits for active[i]; it joins the next set, or has failed with its rows. */
static void take(struct step *st, uint32_t i)
{
	struct experts *x = st->x;
	struct scratch *sc = st->sc;
	uint32_t id = sc->active[i], at = sc->start[id];
	struct slot_failure why;

	if (slots_use(&x->slots, &sc->slot[i], EXPERT_PARTS, sc->mlp[i], &why)) {
		fail_rows(st, i, &why);
		sc->state[i] = EXPERT_FAILED;
		sc->slot[i] = SLOT_NONE;
		return;
	}
	/* rows that failed stay in their places, so that f and list agree */
	sc->part[st->parts++] =
		(struct ffn_part){.mlp = sc->mlp[i],
				  .list = sc->list + at,
				  .n = sc->start[id + 1] - at,
				  .f = sc->f + (size_t)at * x->s.at.layout.row_stride};
	sc->state[i] = EXPERT_TAKEN;
}

/* Of what has been asked for, what still holds its slot. */
static uint32_t pinned(const struct step *st, uint32_t asked)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < asked; i++)
		n += st->sc->slot[i] != SLOT_NONE;
	return n;
}

/* Takes what is there, or (none: false) nothing. */
static bool take_ready(struct step *st, uint32_t asked)
{
	bool any = false;

	for (uint32_t i = 0; i < asked; i++) {
		if (st->sc->state[i] != EXPERT_WAITS ||
		    !slots_ready(&st->x->slots, st->sc->slot[i]))
			continue;
		take(st, i);
		any = true;
	}
	return any;
}

static void set_work(void *context, struct worker *w)
{
	const struct step *st = context;

	ffn_mlp_set(&st->x->s.model, st->sc->part, st->parts, st->xin, st->sc->work, w);
}

/* Computes the set. Its slots may then be given up. */
static void compute_set(struct step *st)
{
	struct experts *x = st->x;
	uint64_t start = clock_now_ns();

	if (!st->parts)
		return;
	team_run(x->s.team, set_work, st);
	st->parts = 0;
	for (uint32_t i = 0; i < st->n_active; i++) {
		if (st->sc->state[i] != EXPERT_TAKEN || st->sc->slot[i] == SLOT_NONE)
			continue;
		slots_unpin(&x->slots, st->sc->slot[i]);
		st->sc->slot[i] = SLOT_NONE;
	}
	count_time(x->s.at.log, COUNT_EXPERT_NS, start, clock_now_ns(), st->msg.batch,
		   st->msg.layer);
}

/* Waits for the first expert that is asked for and not there. */
static void wait_first(struct step *st, uint32_t asked)
{
	struct experts *x = st->x;
	uint64_t start = clock_now_ns();
	uint32_t i = 0;

	while (i < asked && st->sc->state[i] != EXPERT_WAITS)
		i++;
	if (i == asked)
		return;
	server_turn(&x->s);
	server_waits(&x->s, true);
	take(st, i);
	server_waits(&x->s, false);
	count_time(x->s.at.log, COUNT_DRIVE_NS, start, clock_now_ns(), st->msg.batch,
		   st->msg.layer);
}

/*
 * Small steps: what is there is computed together, then what has arrived meanwhile; all outputs are
 * kept. The last set is left to the finish: with every expert in its slot a layer is one piece of
 * work with one barrier.
 */
static void compute_buffered(struct step *st)
{
	struct scratch *sc = st->sc;
	uint32_t asked = 0, done = 0, ahead = policy_ahead(st->x->slots.n, true);
	bool shared = st->layer->mlp[0].data != NULL;

	hint_judge(st);
	memset(sc->state, EXPERT_WAITS, st->n_active);
	memset(sc->slot, 0xff, st->n_active * sizeof(*sc->slot)); /* SLOT_NONE */
	for (;;) {
		while (asked < st->n_active && pinned(st, asked) < ahead && ask(st, asked))
			asked++;
		take_ready(st, asked);
		for (done = 0; done < asked && sc->state[done] != EXPERT_WAITS;)
			done++;
		if (done == st->n_active)
			break;
		if (shared) { /* while the drive reads */
			step_shared(st);
			shared = false;
			continue;
		}
		if (st->parts) {
			compute_set(st);
			continue;
		}
		if (done == asked) { /* all slots are taken by others' reads */
			ask_or_wait(st, asked);
			asked++;
		}
		hint_guess(st);
		wait_first(st, asked);
	}
	if (shared)
		sc->part[st->parts++] = (struct ffn_part){
			.mlp = st->layer->mlp, .n = st->msg.rows, .f = sc->shared};
}

/*
 * Large steps: ascending, added at once, in parts. `from` is the first index that is not in the
 * accumulators yet.
 */
static void compute_ordered(struct step *st, uint32_t from, uint32_t side)
{
	struct experts *x = st->x;
	const struct layout *l = &x->s.at.layout;
	uint32_t asked = from, part = 0, ahead = policy_ahead(x->slots.n, false);
	size_t bytes = (size_t)st->msg.rows * l->row_stride * sizeof(float);

	while (asked < st->n_active && asked < from + ahead && ask(st, asked))
		asked++;
	step_shared(st); /* while the drive reads */
	for (uint32_t i = from; i < st->n_active; i++) {
		if (part == PART_EXPERTS) {
			float *next = attach_at(&x->s.at, OBJ_EXPERTS,
						l->experts_acc[st->msg.batch][side ^ 1]);

			/*
			 * what is committed is not written again: the next part works on a copy
			 * (machinery 3, 4)
			 */
			experts_commit_part(x, &st->msg, st->sc->active[i], side);
			memcpy(next, st->acc, bytes);
			st->acc = next;
			side ^= 1;
			part = 0;
		}
		while (asked < st->n_active && asked < i + ahead && ask(st, asked))
			asked++;
		if (asked == i) {
			ask_or_wait(st, i);
			asked = i + 1;
		}
		compute(st, i);
		part++;
		if (st->msg.batch == BATCH_PREFILL)
			experts_serve(x, BATCH_DECODE, true);
	}
}

/* First index whose expert id is not below `id`. */
static uint32_t index_from(const struct step *st, uint32_t id)
{
	uint32_t i = 0;

	while (i < st->n_active && st->sc->active[i] < id)
		i++;
	return i;
}

static void clear_work(void *context, struct worker *w)
{
	const struct step *st = context;

	ffn_clear(&st->x->s.model, st->acc, st->msg.rows, w);
}

bool routed_resumes(const struct step *st)
{
	const struct experts_record *d = st->x->record.draft;

	return st->layer->is_moe && !st->buffered && d->part_seq[st->msg.batch] == st->msg.seq;
}

void routed_compute(struct step *st)
{
	struct experts *x = st->x;
	const struct experts_record *d = x->record.draft;
	uint32_t b = st->msg.batch, side = 0, from = 0;

	if (routed_resumes(st)) {
		float *committed;

		from = index_from(st, d->part_next[b]);
		side = d->part_side[b] & 1;
		committed = attach_at(&x->s.at, OBJ_EXPERTS, x->s.at.layout.experts_acc[b][side]);
		side ^= 1;
		st->acc = attach_at(&x->s.at, OBJ_EXPERTS, x->s.at.layout.experts_acc[b][side]);
		memcpy(st->acc, committed,
		       (size_t)st->msg.rows * x->s.at.layout.row_stride * sizeof(float));
	} else {
		st->acc = attach_at(&x->s.at, OBJ_EXPERTS, x->s.at.layout.experts_acc[b][side]);
		if (!st->buffered)
			team_run(x->s.team, clear_work, st);
	}
	if (st->buffered)
		compute_buffered(st);
	else
		compute_ordered(st, from, side);
}
