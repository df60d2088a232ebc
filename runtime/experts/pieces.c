/* Pieces of packed experts; see pieces.h. */
#include "runtime/experts/pieces.h"

#include "model/piece.h"

#include <stdatomic.h>

enum {
	ALONE = 1 /* pieces that the caller hashes faster than it wakes another worker */
};

struct search {
	const struct index *ix;
	enum cpu_isa isa;
	uint64_t expert;
	const uint8_t *extent;
	uint64_t first, end;
	_Atomic uint64_t bad; /* the smallest so far */
};

static uint64_t find(const struct search *s, uint64_t piece, uint64_t step)
{
	while (piece < s->end && piece_ok(s->ix, s->isa, PACK_EXPERTS, s->expert, piece,
					  s->extent + piece * PACK_PIECE))
		piece += step;
	return piece;
}

static void search_work(void *context, struct worker *w)
{
	struct search *s = context;
	uint64_t at = find(s, s->first + w->index, w->count), old;

	/* relaxed: the team's barrier orders it for the caller */
	old = atomic_load_explicit(&s->bad, memory_order_relaxed);
	while (at < old && !atomic_compare_exchange_weak_explicit(
				   &s->bad, &old, at, memory_order_relaxed, memory_order_relaxed))
		;
}

uint64_t pieces_find_bad(struct team *team, const struct index *ix, enum cpu_isa isa,
			 const struct index_expert *x, const uint8_t *extent, uint64_t first,
			 uint64_t end)
{
	struct search s = {.ix = ix,
			   .isa = isa,
			   .expert = index_expert_number(ix, x),
			   .extent = extent,
			   .first = first,
			   .end = end};

	if (end - first <= ALONE)
		return find(&s, first, 1) < end ? first : end;
	atomic_init(&s.bad, end);
	team_run(team, search_work, &s);
	return atomic_load_explicit(&s.bad, memory_order_relaxed);
}
