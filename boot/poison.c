/* Steps that end their server; see poison.h. */
#include "boot/poison.h"

#include "boot/supervise.h"

/* Relaxed throughout: the successor sees all of it with its generation (release, in go). */
static uint64_t get(const _Atomic uint64_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

static void set(_Atomic uint64_t *v, uint64_t to)
{
	atomic_store_explicit(v, to, memory_order_relaxed);
}

static void begin(struct node_poison *p, uint64_t step)
{
	set(&p->step, step);
	set(&p->deaths, 0);
	for (unsigned i = 0; i < POISON_ROWS / 64; i++)
		set(&p->rows[i], 0);
}

/* A death in a row that was done alone; outside of any row the step as a whole is at fault. */
static void blame(struct node_poison *p, uint64_t row)
{
	for (unsigned i = 0; i < POISON_ROWS / 64; i++) {
		if (row >= POISON_ROWS)
			set(&p->rows[i], UINT64_MAX);
		else if (i == row / 64)
			set(&p->rows[i], get(&p->rows[i]) | 1ull << row % 64);
	}
}

void poison_count(struct init *in, enum role role, enum restart_cause cause)
{
	struct node_poison *p = &in->node->poison[role];
	const struct log_object *log = supervise_log(in, role);
	uint64_t step, row;

	/* what a gateway found here it has dealt with when it began */
	if (role == ROLE_CLIENT && get(&p->deaths) > POISON_CAREFUL)
		set(&p->deaths, 0);
	/* nobody but init ends a server from outside for something that it did */
	if (!log || cause == RESTART_KILLED || cause == RESTART_REFUSED)
		return;
	/* one that ended before it served found the step of its predecessor there */
	if (get(&log->progress.since_ns) < in->server[role].started_ns)
		return;
	step = get(&log->progress.step);
	row = get(&log->progress.row);
	if (step == UINT64_MAX)
		return;
	if (get(&p->step) != step || !get(&p->deaths))
		begin(p, step);
	if (get(&p->deaths) >= POISON_CAREFUL)
		blame(p, row);
	set(&p->deaths, get(&p->deaths) + 1);
	if (get(&p->deaths) >= POISON_CAREFUL)
		log_write(in->log, 1, LOG_POISON,
			  (const uint64_t[5]){role, get(&p->deaths), step, row, 0});
}
