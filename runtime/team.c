/*
 * Worker teams; see team.h. The leader announces a piece of work by raising `step`; the last to
 * arrive at a barrier raises `phase`; the last follower to finish raises `finished` for the leader.
 * Whoever waits for one of these looks at it for at most 50 us and then sleeps: for a phase or a
 * finish on that word, for a step on the worker's own sleep word, which the twin in another server
 * rings as well.
 *
 * No wake-up is lost on `phase` and `finished`:
 *  1. A sleeper adds itself to `sleepers`, then calls FUTEX_WAIT(word, old), in which the kernel
 *     compares word and old again.
 *  2. Who raises the word stores it, then reads `sleepers`, and calls FUTEX_WAKE if it is not 0.
 *  3. All four accesses are sequentially consistent, so either the raiser's read comes after the
 *     sleeper's addition: it wakes, and a sleeper that is not asleep yet finds in the kernel that
 *     the word has moved; or it comes before: then the store is older than the sleeper's
 *     comparison, which sees it.
 *  4. A word only rises, and by one while any worker waits for it: it cannot come back to `old`
 *     during a wait. Nor on sleep words: a worker exchanges ASLEEP into its own, fences, looks at
 *     `step` again and only then waits; the leader raises `step`, fences, and exchanges AWAKE into
 *     every word that it finds ASLEEP, waking it (ipc/bell.h has the same argument by number). A
 *     twin's ring is a hint only.
 */
#include "runtime/team.h"

#include "runtime/clock.h"

#include <errno.h>
#include <immintrin.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	SPIN_NS = 50000,
	SPIN_LOOKS = 64,         /* between two looks at the clock */
	STACK_BYTES = 256 * 1024 /* a worker's; model functions keep their arrays in scratch */
};

struct word {
	_Alignas(64) _Atomic uint32_t value;
	_Atomic uint32_t sleepers;
};

/* A sleep word of a team that was given none. */
struct rest {
	_Alignas(64) _Atomic uint32_t word;
};

struct team {
	struct word step;     /* raised by the leader: work, context and twin are set */
	struct word phase;    /* raised by the last worker to arrive at a barrier */
	struct word finished; /* raised by every follower that has done its work */
	_Alignas(64) _Atomic uint32_t arrived;
	unsigned count;
	bool spin; /* every worker has a CPU of its own */
	team_work *work;
	void *context;
	char *twin; /* sleep words of the next stage's team, NULL: more work of this step follows */
	_Atomic(char *) sleep; /* own sleep words, `stride` apart */
	char *moved_from;      /* sleep words to be rung as well: team_move */
	size_t stride;
	struct rest rest[TEAM_MAX];
	struct worker worker[TEAM_MAX];
	pthread_t thread[TEAM_MAX];
	unsigned cpu[TEAM_MAX];
};

static void word_wait(struct word *w, uint32_t old, bool spin)
{
	uint64_t begin = spin ? clock_now_ns() : 0;

	while (spin && clock_now_ns() - begin < SPIN_NS) {
		for (unsigned i = 0; i < SPIN_LOOKS; i++) {
			/* acquire: pairs with the store in word_raise; what the raiser wrote before
			 * is visible */
			if (atomic_load_explicit(&w->value, memory_order_acquire) != old)
				return;
			_mm_pause();
		}
	}
	while (atomic_load(&w->value) == old) {
		atomic_fetch_add(&w->sleepers, 1);
		syscall(SYS_futex, &w->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
		atomic_fetch_sub(&w->sleepers, 1);
	}
}

static void word_raise(struct word *w, uint32_t value)
{
	atomic_store(&w->value, value);
	if (atomic_load(&w->sleepers))
		syscall(SYS_futex, &w->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void word_add(struct word *w)
{
	atomic_fetch_add(&w->value, 1);
	if (atomic_load(&w->sleepers))
		syscall(SYS_futex, &w->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void worker_barrier(struct worker *w)
{
	struct team *t = w->team;
	uint32_t phase;

	if (w->count == 1)
		return;
	/* relaxed: it cannot move before this worker has arrived */
	phase = atomic_load_explicit(&t->phase.value, memory_order_relaxed);
	/* acq_rel: the last one has seen what all others wrote, and passes it on by raising the
	 * phase */
	if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 < w->count) {
		word_wait(&t->phase, phase, t->spin);
		return;
	}
	atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
	word_raise(&t->phase, phase + 1);
}

void worker_share(const struct worker *w, size_t n, size_t grain, size_t *begin, size_t *end)
{
	size_t units = (n + grain - 1) / grain;
	size_t each = units / w->count, extra = units % w->count;
	size_t first = w->index * each + (w->index < extra ? w->index : extra);
	size_t last = first + each + (w->index < extra);

	*begin = first * grain < n ? first * grain : n;
	*end = last * grain < n ? last * grain : n;
}

/* Flush to zero, denormals are zero, nearest even, all exceptions masked: arithmetic rule 1. */
static void float_mode_set(void)
{
	_mm_setcsr(0x1f80 | 0x8040);
}

static _Atomic uint32_t *sleep_word(char *words, size_t stride, unsigned i)
{
	return (_Atomic uint32_t *)(void *)(words + i * stride);
}

/* Shared with other processes, so never FUTEX_PRIVATE. */
static void sleep_ring(_Atomic uint32_t *word)
{
	if (atomic_load_explicit(word, memory_order_relaxed) == TEAM_ASLEEP &&
	    atomic_exchange(word, TEAM_AWAKE) == TEAM_ASLEEP)
		syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* Looks at the step for a while. Whether it has moved. */
static bool step_spin(struct team *t, uint32_t old)
{
	uint64_t begin = clock_now_ns();

	do {
		for (unsigned i = 0; i < SPIN_LOOKS; i++) {
			/* acquire: pairs with the store in team_run_last */
			if (atomic_load_explicit(&t->step.value, memory_order_acquire) != old)
				return true;
			_mm_pause();
		}
	} while (t->spin && clock_now_ns() - begin < SPIN_NS);
	return false;
}

/*
 * Waits for the step after `old`. Behind a piece of work that others of the same step follow, the
 * worker looks first; behind the last, its CPU belongs to its twin: it sleeps at once, and looks
 * when the previous stage's worker on its CPU has woken it.
 */
static void step_wait(struct team *t, unsigned i, uint32_t old, bool last)
{
	/* relaxed: team_move rings the old and the new words */
	_Atomic uint32_t *word =
		sleep_word(atomic_load_explicit(&t->sleep, memory_order_relaxed), t->stride, i);

	if (!last && step_spin(t, old))
		return;
	for (;;) {
		atomic_exchange(word, TEAM_ASLEEP);
		atomic_thread_fence(memory_order_seq_cst);
		if (atomic_load(&t->step.value) != old)
			break;
		syscall(SYS_futex, word, FUTEX_WAIT, TEAM_ASLEEP, NULL, NULL, 0);
		/* relaxed: only whether a wake is needed; `step` decides */
		atomic_store_explicit(word, TEAM_AWAKE, memory_order_relaxed);
		if (step_spin(t, old))
			return;
	}
	atomic_store_explicit(word, TEAM_AWAKE, memory_order_relaxed);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct team *t = w->team;
	bool last = false;
	char *twin;

	float_mode_set();
	for (uint32_t step = 0;; step++) {
		step_wait(t, w->index, step, last);
		twin = t->twin;
		t->work(t->context, w);
		/*
		 * relaxed for the value, seq_cst by word_add: the leader sees what this worker
		 * wrote
		 */
		word_add(&t->finished);
		last = twin != NULL;
		if (last)
			sleep_ring(sleep_word(twin, t->stride, w->index));
	}
	return NULL;
}

void team_run_last(struct team *t, team_work *work, void *context, void *twin)
{
	struct worker *leader = &t->worker[0];
	uint32_t step, finished;

	if (t->count == 1) {
		work(context, leader);
		return;
	}
	t->work = work;
	t->context = context;
	t->twin = twin;
	/* relaxed: only the leader raises it, and no follower is at work */
	step = atomic_load_explicit(&t->step.value, memory_order_relaxed);
	finished = atomic_load_explicit(&t->finished.value, memory_order_relaxed);
	atomic_store(&t->step.value, step + 1);
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned i = 1; i < t->count; i++) {
		sleep_ring(sleep_word(atomic_load_explicit(&t->sleep, memory_order_relaxed),
				      t->stride, i));
		if (t->moved_from)
			sleep_ring(sleep_word(t->moved_from, t->stride, i));
	}
	work(context, leader);
	for (uint32_t want = finished + t->count - 1, now;
	     (now = atomic_load_explicit(&t->finished.value, memory_order_acquire)) != want;)
		word_wait(&t->finished, now, t->spin);
}

static void nothing(void *context, struct worker *w)
{
	(void)context;
	(void)w;
}

void team_move(struct team *t, void *sleep_words)
{
	/* a follower may still be asleep on its old word, or on its way there */
	t->moved_from = atomic_load_explicit(&t->sleep, memory_order_relaxed);
	atomic_store_explicit(&t->sleep, sleep_words, memory_order_relaxed);
	team_run(t, nothing, NULL);
	t->moved_from = NULL;
}

void team_run(struct team *t, team_work *work, void *context)
{
	team_run_last(t, work, context, NULL);
}

/*
 * The CPUs this process may use, in order: n of them in cpu. The mask is kept from the first call,
 * since that call pins the calling thread and a second team of the same process would see one CPU
 * only.
 */
static int cpus_allowed(unsigned *cpu, unsigned *n, struct err *e)
{
	static cpu_set_t mask;
	static bool known;

	if (!known && sched_getaffinity(0, sizeof(mask), &mask))
		return err_set(e, -errno, "team: the CPUs of this process cannot be read: %s",
			       strerror(errno));
	known = true;
	*n = 0;
	for (unsigned i = 0; i < CPU_SETSIZE && *n < TEAM_MAX; i++)
		if (CPU_ISSET(i, &mask))
			cpu[(*n)++] = i;
	return *n ? 0 : err_set(e, -EINVAL, "team: this process may use no CPU");
}

static int thread_pin(pthread_t thread, unsigned cpu, struct err *e)
{
	cpu_set_t one;
	int rc;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	rc = pthread_setaffinity_np(thread, sizeof(one), &one);
	if (rc)
		return err_set(e, -rc, "team: cannot pin a worker to CPU %u: %s", cpu,
			       strerror(rc));
	return 0;
}

/* Starts and pins one worker beside the leader. Signals stay with the leader, which has the
 * process's signalfd. */
static int worker_start(struct team *t, unsigned i, const pthread_attr_t *attr, struct err *e)
{
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&t->thread[i], attr, worker_main, &t->worker[i]);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		return err_set(e, -rc, "team: cannot start worker %u of %u: %s", i, t->count,
			       strerror(rc));
	return thread_pin(t->thread[i], t->cpu[i], e);
}

struct team *team_start(unsigned count, void *sleep_words, size_t stride, struct err *e)
{
	pthread_attr_t attr;
	struct team *t;
	unsigned cpus;
	int rc = 0;

	if (!count || count > TEAM_MAX) {
		err_set(e, -EINVAL, "team: %u workers; 1 to %d are possible", count, TEAM_MAX);
		return NULL;
	}
	t = aligned_alloc(64, sizeof(*t));
	if (!t) {
		err_exit(e, STATUS_MEMORY, -ENOMEM, "team: no memory for %u workers", count);
		return NULL;
	}
	memset(t, 0, sizeof(*t));
	t->count = count;
	atomic_init(&t->sleep, sleep_words ? sleep_words : (char *)t->rest);
	t->stride = sleep_words ? stride : sizeof(struct rest);
	if (cpus_allowed(t->cpu, &cpus, e))
		goto fail;
	t->spin = count <= cpus;
	for (unsigned i = 0; i < count; i++) {
		t->worker[i] = (struct worker){.team = t, .index = i, .count = count};
		t->cpu[i] = t->cpu[i % cpus];
	}
	t->thread[0] = pthread_self();
	float_mode_set();
	if (thread_pin(t->thread[0], t->cpu[0], e))
		goto fail;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	for (unsigned i = 1; i < count && !rc; i++)
		rc = worker_start(t, i, &attr, e);
	pthread_attr_destroy(&attr);
	/* Workers that did start hold the team's memory, and the process ends with this error: it
	 * is not given back. */
	return rc ? NULL : t;
fail:
	free(t);
	return NULL;
}
