/*
 * Whether decode rows run in two halves of opposite phase (machinery 6): attention, gate and head
 * of one hide the drive and the experts of the other, but weights are read from memory for each.
 * Which weighs more is measured: rows are timed in one batch, then in halves, and the faster way is
 * kept until the next trial. Trials become rarer while they change nothing, and begin anew when the
 * number of sequences that decode together has doubled or halved. Only rows without a prompt beside
 * them count. Called by schedule.c and finish.c; private to the process: a successor learns anew,
 * and tokens do not depend on it.
 */
#include "runtime/router/halve.h"

enum {
	SETTLE = 4,       /* rows of each sequence after a change of the way that say nothing */
	TIMED = 20,       /* that are timed */
	HOLD_FIRST = 256, /* until the next trial, doubled while it changes nothing */
	HOLD_LAST = 8192
};

/* The gain that halves must have: within less, the way with less traffic is kept. */
#define GAIN 1.02f

static void window_open(struct halve *h)
{
	h->rows = 0;
	h->begin_ns = 0;
}

static void trial_begin(struct halve *h)
{
	h->trial = HALVE_WHOLE;
	window_open(h);
}

/* What is being timed begins anew; the rows until the next trial are counted on. */
void halve_disturbed(struct halve *h)
{
	if (h->trial != HALVE_NONE)
		window_open(h);
}

bool halve_choose(struct halve *h, uint32_t n)
{
	if (n != h->n) {
		h->n = n;
		halve_disturbed(h);
	}
	if (n < 2)
		return false;
	if (n >= 2 * h->tried || 2 * n <= h->tried) {
		h->tried = n;
		h->hold = HOLD_FIRST;
		trial_begin(h);
	}
	return h->trial == HALVE_NONE ? h->on : h->trial == HALVE_HALVES;
}

static void trial_end(struct halve *h, float halves_ns)
{
	bool on;

	h->gain = h->whole_ns / halves_ns;
	on = h->gain > GAIN;

	if (on != h->on)
		h->hold = HOLD_FIRST;
	else if (h->hold < HOLD_LAST)
		h->hold *= 2;
	h->on = on;
	h->trial = HALVE_NONE;
}

void halve_ended(struct halve *h, uint32_t rows, uint64_t now_ns)
{
	uint32_t timed;
	float row_ns;

	if (h->n < 2)
		return;
	h->rows += rows;
	if (h->trial == HALVE_NONE) {
		if (h->rows >= h->hold * h->n)
			trial_begin(h);
		return;
	}
	if (h->rows < SETTLE * h->n)
		return;
	if (!h->begin_ns) {
		h->begin_ns = now_ns;
		h->begin_rows = h->rows;
		return;
	}
	timed = h->rows - h->begin_rows;
	if (timed < TIMED * h->n)
		return;
	row_ns = (float)(now_ns - h->begin_ns) / (float)timed;
	window_open(h);
	if (h->trial == HALVE_WHOLE) {
		h->whole_ns = row_ns;
		h->trial = HALVE_HALVES;
	} else {
		trial_end(h, row_ns);
	}
}
