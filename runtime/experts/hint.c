/* Guesses for the next layer; see hint.h. */
#include "runtime/experts/hint.h"

#include "model/gate.h"
#include "runtime/experts/experts.h"

enum {
	SLOTS_MIN = 8,   /* times top_k: with fewer, a guess takes what this layer needs */
	WASTE_PART = 25, /* at most one byte in so many is read in vain */
	HISTORY = 256    /* guesses by which a rank is judged */
};

void hint_open(struct hint *h, const struct server *s, const struct slots *t)
{
	const struct plan *p = s->at.plan;
	size_t rows = p->rows[BATCH_DECODE], k = p->top_k;

	h->layer = UINT32_MAX;
	for (unsigned r = 0; r < HINT_RANKS; r++)
		h->rank[r] = (struct hint_rank){.tried = 8, .right = 6};
	if (!t->n || t->n < SLOTS_MIN * p->top_k)
		return;
	h->sum = server_array(rows, s->at.layout.row_stride * sizeof(*h->sum));
	h->x = server_array(rows, s->at.layout.x_stride * sizeof(*h->x));
	h->expert = server_array(rows * k, sizeof(*h->expert));
	h->weight = server_array(rows * k, sizeof(*h->weight));
	h->failed = server_array(rows, 1);
	h->work = server_array(1, gate_scratch_bytes(s->model.config, p->workers, (uint32_t)rows));
	/* without memory there are no guesses */
	h->on = h->sum && h->x && h->expert && h->weight && h->failed && h->work;
}

/* ---- Guessing ---- */

static void guess_work(void *context, struct worker *w)
{
	const struct step *st = context;
	const struct model *m = &st->x->s.model;
	struct hint *h = &st->x->hint;
	size_t width = st->x->s.at.layout.row_stride, x_width = st->x->s.at.layout.x_stride,
	       hidden = m->config->hidden_size, begin, end;

	worker_share(w, st->msg.rows, 1, &begin, &end);
	for (size_t r = begin; r < end; r++) {
		float *sum = h->sum + r * width;
		const float *row = st->h_in + r * width;

		if (st->sc->skip[r])
			continue;
		if (st->layer->mlp[0].data) {
			m->kernels->add(sum, row, st->sc->shared + r * width, hidden);
			row = sum;
		}
		m->kernels->rmsnorm(sum, row, m->layer[st->msg.layer + 1].post_norm, hidden,
				    m->config->rms_norm_eps);
		m->kernels->to_bf16(h->x + r * x_width, sum, hidden, x_width);
	}
	worker_barrier(w);
	gate_rows(m, st->msg.layer + 1, h->x, st->msg.rows, st->sc->skip, h->expert, h->weight,
		  h->failed, h->work, w);
}

/* The choice of a row that `rank` of its others outweigh. */
static uint32_t of_rank(const uint16_t *expert, const float *weight, uint32_t k, uint32_t rank)
{
	for (uint32_t i = 0; i < k; i++) {
		uint32_t above = 0;

		for (uint32_t j = 0; j < k; j++)
			above += weight[j] > weight[i] || (j < i && weight[j] == weight[i]);
		if (above == rank)
			return expert[i];
	}
	return expert[0];
}

static void note(struct step *st, uint32_t expert, uint32_t rank)
{
	struct hint *h = &st->x->hint;

	if (h->n == HINT_GUESSES || slots_has(&st->x->slots, h->layer, expert))
		return;
	for (uint32_t i = 0; i < h->n; i++) {
		if (h->guess[i].expert == expert)
			return;
	}
	h->guess[h->n].expert = expert;
	h->guess[h->n].slot = SLOT_NONE;
	h->guess[h->n].rank = rank < HINT_RANKS ? rank : HINT_RANKS - 1;
	h->n++;
}

/* Whether more may be read in vain. */
static bool may_waste(const struct log_object *log)
{
	return atomic_load_explicit(&log->counter[COUNT_HINT_WASTE], memory_order_relaxed) *
		       WASTE_PART <=
	       atomic_load_explicit(&log->counter[COUNT_READ_BYTES], memory_order_relaxed);
}

static void read_likely(struct step *st)
{
	struct hint *h = &st->x->hint;
	uint32_t reads = 0;
	uint64_t most = HINT_BYTES / st->x->s.at.plan->slot_bytes + 1;

	if (most > HINT_READS)
		most = HINT_READS;
	if (!may_waste(st->x->s.at.log))
		return;
	for (uint32_t i = 0; i < h->n && reads < most; i++) {
		const struct hint_rank *r = &h->rank[h->guess[i].rank];

		if (r->right * 2 < r->tried)
			continue;
		h->guess[i].slot =
			slots_fetch(&st->x->slots, h->layer, h->guess[i].expert, STREAM_HINT);
		if (h->guess[i].slot == SLOT_NONE)
			return;
		reads++;
	}
}

void hint_guess(struct step *st)
{
	struct experts *x = st->x;
	struct hint *h = &x->hint;
	uint32_t k = x->s.at.plan->top_k, layer = st->msg.layer + 1;

	if (!h->on || st->inside || st->msg.batch != BATCH_DECODE ||
	    st->msg.layer >= st->pass.area.last_layer || !x->s.model.layer[layer].is_moe ||
	    h->layer == layer || !server_has_layer(&x->s, layer))
		return;
	h->layer = layer;
	h->pass = st->pass.area.pass;
	h->n = 0;
	team_run(x->s.team, guess_work, st);
	for (uint32_t rank = 0; rank < k; rank++) {
		for (uint32_t r = 0; r < st->msg.rows; r++) {
			if (!st->sc->skip[r] && !h->failed[r])
				note(st,
				     of_rank(h->expert + (size_t)r * k, h->weight + (size_t)r * k,
					     k, rank),
				     rank);
		}
	}
	read_likely(st);
}

/* ---- Judging ---- */

static void judge(struct hint_rank *r, bool right)
{
	r->tried++;
	r->right += right;
	if (r->tried > HISTORY) {
		r->tried /= 2;
		r->right /= 2;
	}
}

void hint_judge(struct step *st)
{
	struct experts *x = st->x;
	struct hint *h = &x->hint;
	bool same = h->layer == st->msg.layer && h->pass == st->pass.area.pass;

	if (h->layer == UINT32_MAX || st->msg.batch != BATCH_DECODE)
		return;
	for (uint32_t i = 0; i < h->n; i++) {
		uint32_t id = h->guess[i].expert;
		bool right = same && st->sc->start[id] != st->sc->start[id + 1];

		if (same)
			judge(&h->rank[h->guess[i].rank], right);
		count_add(x->s.at.log, right ? COUNT_HINTS_RIGHT : COUNT_HINTS_WRONG, same);
		if (h->guess[i].slot != SLOT_NONE && !right)
			count_add(x->s.at.log, COUNT_HINT_WASTE,
				  slots_drop(&x->slots, h->guess[i].slot));
	}
	h->layer = UINT32_MAX;
	h->n = 0;
}
