/* When decode rows run in two halves: what is timed, what is kept, what is tried again. */
#include "runtime/router/halve.h"
#include "tests/tap.h"

/*
 * Passes of n sequences until each has had `tokens` rows; a row takes whole_ns or, in halves,
 * halves_ns. Returns the share of the rows that ran in halves.
 */
static double run(struct halve *h, uint64_t *now, uint32_t n, uint32_t tokens, uint32_t whole_ns,
		  uint32_t halves_ns)
{
	uint32_t left = n * tokens, halved = 0;

	while (left) {
		bool halves = halve_choose(h, n);
		uint32_t rows = halves ? (n + 1) / 2 : n;

		rows = rows < left ? rows : left;
		*now += rows * (halves ? halves_ns : whole_ns);
		halve_ended(h, rows, *now);
		halved += halves ? rows : 0;
		left -= rows;
	}
	return (double)halved / (n * tokens);
}

static void test_one(void)
{
	struct halve h = {0};
	uint64_t now = 1;

	ok(run(&h, &now, 1, 1000, 100, 10) == 0, "one sequence has no halves");
}

static void test_faster(void)
{
	struct halve h = {0};
	uint64_t now = 1;

	ok(run(&h, &now, 4, 20, 100, 80) == 0, "one batch is timed first");
	run(&h, &now, 4, 60, 100, 80);
	ok(h.on, "halves that are faster are kept");
	ok(run(&h, &now, 4, 200, 100, 80) == 1, "until the next trial");
	ok(run(&h, &now, 4, 20000, 100, 80) > 0.98, "trials that change nothing become rare");
	run(&h, &now, 4, 20000, 80, 100);
	ok(!h.on, "and find it when halves have become slower");
}

static void test_slower(void)
{
	struct halve h = {0};
	uint64_t now = 1;

	run(&h, &now, 4, 60, 100, 99);
	ok(!h.on && h.trial == HALVE_NONE,
	   "halves that gain one percent are not worth their traffic");
	ok(run(&h, &now, 4, 20000, 100, 120) < 0.02, "and are tried rarely");
}

static void test_changes(void)
{
	struct halve h = {0};
	uint64_t now = 1;
	double share;

	run(&h, &now, 4, 60, 100, 120);
	run(&h, &now, 5, 60, 100, 50);
	ok(!h.on && h.trial == HALVE_NONE, "one sequence more is no reason for a trial");
	share = run(&h, &now, 8, 60, 100, 50);
	ok(h.on && share > 0.3, "twice as many are");

	h = (struct halve){0};
	for (unsigned i = 0; i < 100; i++) {
		run(&h, &now, 4, 10, 100, 10);
		halve_disturbed(&h);
	}
	ok(h.trial == HALVE_WHOLE, "what runs beside a prompt is not timed");

	h = (struct halve){0};
	run(&h, &now, 4, 60, 100, 120);
	for (unsigned i = 0; i < 100 && h.trial == HALVE_NONE; i++) {
		run(&h, &now, 4 + i % 2, 10, 100, 50);
		halve_disturbed(&h);
	}
	ok(h.trial == HALVE_WHOLE, "and yet brings the next trial nearer");
}

int main(void)
{
	test_one();
	test_faster();
	test_slower();
	test_changes();
	return tap_done();
}
