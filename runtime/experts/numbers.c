/* Numbers that are not finite; see numbers.h. */
#include "runtime/experts/numbers.h"

#include <stdatomic.h>

enum {
	ALONE = 768
		<< 10 /* bytes that the caller looks through faster than it wakes another worker */
};

/*
 * Position of the first E4M3 NaN code, or n. Eight bytes at a time: a byte is 0x7f without its sign
 * exactly if adding one carries into bit 7.
 */
static size_t find_fp8(const uint8_t *p, size_t n)
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

static size_t find_bf16(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i + 2 <= n; i += 2) {
		uint16_t v;

		__builtin_memcpy(&v, p + i, 2);
		if ((v & 0x7f80) == 0x7f80)
			return i;
	}
	return n;
}

static size_t find(const uint8_t *p, size_t n, bool fp8)
{
	return fp8 ? find_fp8(p, n) : find_bf16(p, n);
}

struct search {
	const uint8_t *p;
	size_t n;
	bool fp8;
	_Atomic size_t bad; /* the smallest position so far */
};

static void search_work(void *context, struct worker *w)
{
	struct search *s = context;
	size_t begin, end, at, old;

	worker_share(w, s->n, 4096, &begin, &end);
	at = begin + find(s->p + begin, end - begin, s->fp8);
	if (at == end)
		return;
	/* relaxed: the team's barrier orders it for the caller */
	old = atomic_load_explicit(&s->bad, memory_order_relaxed);
	while (at < old && !atomic_compare_exchange_weak_explicit(
				   &s->bad, &old, at, memory_order_relaxed, memory_order_relaxed))
		;
}

size_t numbers_find_bad(struct team *team, const void *p, size_t n, bool fp8)
{
	struct search s = {.p = p, .n = n, .fp8 = fp8};

	if (n <= ALONE)
		return find(p, n, fp8);
	atomic_init(&s.bad, n);
	team_run(team, search_work, &s);
	return atomic_load_explicit(&s.bad, memory_order_relaxed);
}
