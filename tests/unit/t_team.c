/* tsan */
/* The worker team: every worker runs every step, barriers order memory, sleeping workers use no
 * CPU. */
#include "runtime/clock.h"
#include "runtime/team.h"
#include "tests/tap.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <xmmintrin.h>

enum {
	STEPS = 300,
	PHASES = 7,
	SLOTS = 8
};

struct relay {
	unsigned long cell[SLOTS]; /* plain memory: only barriers order it */
	unsigned long seen[SLOTS];
	unsigned wrong[SLOTS];
	unsigned csr[SLOTS];
	int cpu[SLOTS];
};

/* Each worker writes its own cell and, behind a barrier, reads its neighbour's. */
static void relay_work(void *context, struct worker *w)
{
	struct relay *r = context;
	unsigned next = (w->index + 1) % w->count;

	r->csr[w->index] = _mm_getcsr() & 0xffc0;
	r->cpu[w->index] = sched_getcpu();
	for (unsigned long p = 0; p < PHASES; p++) {
		r->cell[w->index] = r->seen[w->index] + p + 1;
		worker_barrier(w);
		r->wrong[w->index] += r->cell[next] != r->seen[w->index] + p + 1;
		worker_barrier(w);
	}
	r->seen[w->index]++;
}

static unsigned relay_total(const struct relay *r, unsigned count, unsigned long steps)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < count; i++)
		wrong += r->wrong[i] + (r->seen[i] != steps);
	return wrong;
}

static uint64_t process_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A team is never ended; without this, one that has no threads to remember it would look leaked. */
static struct team *alive[6];

static void check_count(unsigned count)
{
	struct err e = {0};
	struct team *t = alive[count] = team_start(count, NULL, 0, &e);
	struct relay r = {0};
	struct timespec pause = {0, 200000};
	unsigned csr_wrong = 0;
	uint64_t before;

	ok(t, "a team of %u starts (%s)", count, e.text);
	if (!t)
		return;
	for (unsigned s = 0; s < STEPS; s++)
		team_run(t, relay_work, &r);
	is_int(relay_total(&r, count, STEPS), 0,
	       "%u workers see each other's writes behind a barrier", count);
	for (unsigned s = 0; s < 50; s++) {
		nanosleep(&pause, NULL);
		team_run(t, relay_work, &r);
	}
	is_int(relay_total(&r, count, STEPS + 50), 0, "%u workers that fell asleep wake up", count);
	for (unsigned i = 0; i < count; i++)
		csr_wrong += r.csr[i] != (0x1f80u | 0x8040u);
	is_int(csr_wrong, 0, "all %u workers flush subnormals and round to nearest", count);
	before = process_cpu_ns();
	nanosleep(&(struct timespec){0, 100000000}, NULL);
	ok(process_cpu_ns() - before < 10000000, "%u idle workers use no CPU", count);
}

static void check_shares(void)
{
	static const size_t sizes[] = {0, 1, 15, 16, 17, 31, 255, 256, 1000, 7168};
	bool good = true;

	for (unsigned count = 1; count <= 9; count++)
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
			for (size_t grain = 1; grain <= 64; grain *= 4) {
				size_t at = 0, begin, end;

				for (unsigned i = 0; i < count; i++) {
					struct worker w = {.index = i, .count = count};

					worker_share(&w, sizes[s], grain, &begin, &end);
					good &= begin == at && end >= begin &&
						(begin == end || begin % grain == 0);
					at = end;
				}
				good &= at == sizes[s];
			}
	ok(good, "shares tile the items without gap or overlap and begin at the grain");
}

int main(void)
{
	struct err e = {0};

	check_shares();
	for (unsigned count = 1; count <= 5; count++)
		check_count(count);
	ok(!team_start(0, NULL, 0, &e) && e.text[0], "a team of none is refused: %s", e.text);
	memset(&e, 0, sizeof(e));
	ok(!team_start(TEAM_MAX + 1, NULL, 0, &e) && e.text[0], "a team too large is refused: %s",
	   e.text);
	return tap_done();
}
