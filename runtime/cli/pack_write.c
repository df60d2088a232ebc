/*
 * The threads of `penstock pack`: each takes the next task, fills it, hashes its pieces and writes
 * them, so that reads, arithmetic and writes of different tasks overlap. The calling thread keeps
 * the journal; see pack.h.
 */
#include "drivers/cpu/blake3.h"
#include "runtime/cli/pack.h"
#include "runtime/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	WRITERS_MAX = 16,
	SYNC_NS = 250 * 1000 * 1000 /* what a kill costs, about */
};

/* States of a task. */
enum {
	TASK_OPEN,
	TASK_WRITTEN, /* bytes handed to the drive, hashes in memory */
	TASK_NOTED    /* in the journal */
};

struct writing {
	struct pack_out *o;
	_Atomic uint8_t
		*state; /* [tasks]: WRITTEN by its writer with release, NOTED by the journal */
	_Atomic uint64_t next;    /* task that nobody has taken; relaxed: only a number */
	_Atomic uint64_t done;    /* bytes; relaxed */
	_Atomic uint32_t running; /* writers that have not finished; release, acquire */
	_Atomic bool stop;        /* somebody failed; relaxed: a hint to end early */
	pthread_mutex_t lock;     /* over e */
	struct err e;
};

static void fail(struct writing *w, const struct err *why)
{
	pthread_mutex_lock(&w->lock);
	err_exit(&w->e, (enum err_status)why->status, why->code, "%s", why->text);
	pthread_mutex_unlock(&w->lock);
	atomic_store_explicit(&w->stop, true, memory_order_relaxed);
}

static int do_task(struct writing *w, uint64_t n, struct pack_scratch *s, struct err *e)
{
	const struct pack_plan *p = w->o->p;
	const struct pack_task t = pack_task_of(p, n);
	int rc = pack_fill(p, &t, s, e);

	if (rc)
		return rc;
	for (uint64_t i = 0; i < t.leaves; i++) {
		uint64_t at = i * PACK_PIECE;

		blake3(p->isa, s->data + at, t.bytes - at < PACK_PIECE ? t.bytes - at : PACK_PIECE,
		       w->o->hashes + (t.leaf + i) * PACK_HASH);
	}
	rc = pack_out_write(w->o, t.address, s->data, t.span, e);
	if (rc)
		return rc;
	atomic_fetch_add_explicit(&w->done, t.span, memory_order_relaxed);
	atomic_store_explicit(&w->state[n], TASK_WRITTEN, memory_order_release);
	return 0;
}

static void *writer(void *context)
{
	struct writing *w = context;
	struct pack_scratch s;
	struct err why = {0};
	int rc = pack_scratch_open(&s, w->o->p, &why);

	while (!rc && !atomic_load_explicit(&w->stop, memory_order_relaxed)) {
		uint64_t n = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);

		if (n >= w->o->p->tasks)
			break;
		if (atomic_load_explicit(&w->state[n], memory_order_relaxed) == TASK_OPEN)
			rc = do_task(w, n, &s, &why);
	}
	if (rc)
		fail(w, &why);
	pack_scratch_close(&s);
	atomic_fetch_sub_explicit(&w->running, 1, memory_order_release);
	return NULL;
}

/* What the journal has already: a task's hashes are there all or not at all. */
static void recall(struct writing *w)
{
	static const uint8_t none[PACK_HASH];

	for (uint64_t n = 0; n < w->o->p->tasks; n++) {
		const struct pack_task t = pack_task_of(w->o->p, n);
		bool all = true;

		for (uint64_t i = 0; all && i < t.leaves; i++)
			all = memcmp(w->o->hashes + (t.leaf + i) * PACK_HASH, none, PACK_HASH);
		if (!all)
			continue;
		atomic_store_explicit(&w->state[n], TASK_NOTED, memory_order_relaxed);
		atomic_fetch_add_explicit(&w->done, t.span, memory_order_relaxed);
	}
}

/*
 * Notes all that has been written: first it reaches the drive, then its hashes do. `from`: tasks
 * below are noted.
 */
static int keep_journal(struct writing *w, uint64_t *from, struct err *e)
{
	struct pack_out *o = w->o;
	uint64_t taken = atomic_load_explicit(&w->next, memory_order_relaxed);
	uint64_t first_leaf = UINT64_MAX, end_leaf = 0;
	uint8_t *ready = NULL;
	int rc = 0;

	if (taken > o->p->tasks)
		taken = o->p->tasks;
	ready = calloc(taken - *from + 1, 1);
	if (!ready)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the journal");
	for (uint64_t n = *from; n < taken; n++)
		/* acquire: the hashes of such a task are there */
		ready[n - *from] =
			atomic_load_explicit(&w->state[n], memory_order_acquire) == TASK_WRITTEN;
	rc = pack_out_sync(o, e);
	for (uint64_t n = *from; !rc && n < taken; n++) {
		const struct pack_task t = pack_task_of(o->p, n);

		if (!ready[n - *from])
			continue;
		memcpy(o->written + t.leaf * PACK_HASH, o->hashes + t.leaf * PACK_HASH,
		       t.leaves * PACK_HASH);
		atomic_store_explicit(&w->state[n], TASK_NOTED, memory_order_relaxed);
		first_leaf = t.leaf < first_leaf ? t.leaf : first_leaf;
		end_leaf = t.leaf + t.leaves > end_leaf ? t.leaf + t.leaves : end_leaf;
	}
	free(ready);
	if (!rc && end_leaf)
		rc = pack_out_note(o, first_leaf, end_leaf - first_leaf, e);
	while (*from < taken &&
	       atomic_load_explicit(&w->state[*from], memory_order_relaxed) == TASK_NOTED)
		++*from;
	return rc;
}

static unsigned writers(const struct pack_plan *p)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	/* so many that the drive always has one to read for and one to write for */
	unsigned n = cpus > 0 ? (unsigned)cpus + 2 : 3;

	if (n > WRITERS_MAX)
		n = WRITERS_MAX;
	return n < p->tasks ? n : (unsigned)p->tasks;
}

static int run(struct writing *w, double *seconds, uint64_t *bytes, struct err *e)
{
	const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
	const uint64_t recalled = atomic_load_explicit(&w->done, memory_order_relaxed);
	const unsigned wanted = writers(w->o->p);
	uint64_t synced = clock_now_ns(), from = 0;
	pthread_t thread[WRITERS_MAX];
	struct cli_progress p;
	unsigned started = 0;
	int rc;

	atomic_store_explicit(&w->running, wanted, memory_order_relaxed);
	if (recalled)
		fprintf(stderr, "penstock: going on: %.2f of %.2f GB are there\n",
			(double)recalled * 1e-9, (double)w->o->p->g.end * 1e-9);
	progress_begin(&p, "pack", w->o->p->g.end - recalled);
	for (; started < wanted; started++)
		if (pthread_create(&thread[started], NULL, writer, w))
			break;
	atomic_fetch_sub_explicit(&w->running, wanted - started, memory_order_relaxed);
	if (!started)
		return err_set(e, -EAGAIN, "cannot start a thread");
	while (atomic_load_explicit(&w->running, memory_order_acquire)) {
		struct err why = {0};

		if (pack_interrupted()) {
			err_exit(&why, STATUS_CTRL_C, -EINTR,
				 "interrupted. Start it again as before, and it goes on");
			fail(w, &why);
		}
		progress_show(&p, atomic_load_explicit(&w->done, memory_order_relaxed) - recalled);
		nanosleep(&pause, NULL);
		if (clock_now_ns() - synced < SYNC_NS)
			continue;
		if (keep_journal(w, &from, &why))
			fail(w, &why);
		synced = clock_now_ns();
	}
	for (unsigned i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
	*bytes = atomic_load_explicit(&w->done, memory_order_relaxed) - recalled;
	*seconds = progress_end(&p, *bytes);
	if (w->e.code)
		err_exit(e, (enum err_status)w->e.status, w->e.code, "%s", w->e.text);
	rc = keep_journal(w, &from, e); /* after a failure too: what has been done stays done */
	return e->code ? e->code : rc;
}

int pack_write(struct pack_out *o, double *seconds, uint64_t *bytes, struct err *e)
{
	struct writing w = {.o = o, .lock = PTHREAD_MUTEX_INITIALIZER};
	int rc;

	w.state = calloc(o->p->tasks, sizeof(w.state[0]));
	if (!w.state)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for packing");
	recall(&w);
	rc = run(&w, seconds, bytes, e);
	free((void *)w.state);
	return rc;
}
