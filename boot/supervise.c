/* Life and death of servers; see supervise.h. */
#include "boot/supervise.h"

#include "boot/poison.h"
#include "boot/recorder.h"
#include "boot/refusal.h"
#include "boot/stage.h"
#include "runtime/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	BAD_STARTS = 3, /* in a row, without a step ever done: a fault that no restart repairs */
	EARLY_S = 1,    /* behind its start: such a death counts as a bad start */
	/* a successor has begun its step by then, so that its own spare takes no CPU from it */
	SPARE_MS = 2,
	DYING_S = 5,       /* deaths that are no further apart belong together */
	DYING = 5,         /* so many of them, and the server is not well */
	SPARE_AGAIN_S = 1, /* a spare that could not be made, or failed by itself */
	TRY_MS = 50,       /* a start that the machine was too short for */
	LOOK_MS = 5        /* an io_uring of a dead process, or one that its successor waits for */
};

/* ---- Table 1: what each server gets, besides its objects ---- */

enum kind {
	KIND_TASK,   /* ends by itself, and then something follows */
	KIND_SERVER, /* never ends by itself */
	KIND_TOOL    /* the client role of `score`: the node ends with it */
};

static const struct server_kind {
	enum kind kind;
	const char *argument;
	bool messages, files, bell, uring;
	bool spare;    /* one stands by */
	bool numbered; /* it is given its generation, as a spare is; others their argument */
} kinds[ROLE_COUNT] = {
	[ROLE_SURVEY] = {.kind = KIND_TASK, .argument = "survey", .messages = true, .files = true},
	[ROLE_LOADER] = {.kind = KIND_TASK, .argument = "loader", .messages = true, .files = true},
	[ROLE_CLIENT] = {.kind = KIND_SERVER, .bell = true, .spare = true},
	[ROLE_ROUTER] = {.kind = KIND_SERVER, .spare = true},
	[ROLE_MLA] = {.kind = KIND_SERVER, .spare = true},
	[ROLE_EXPERTS] = {.kind = KIND_SERVER, .uring = true, .spare = true},
	[ROLE_SCRIBE] = {.kind = KIND_SERVER, .messages = true},
	[ROLE_CUDA] = {.kind = KIND_SERVER, .messages = true, .numbered = true},
};

static enum kind kind_of(const struct init *in, enum role role)
{
	return role == ROLE_CLIENT && in->options.client ? KIND_TOOL : kinds[role].kind;
}

static const char *name_of(const struct init *in, enum role role)
{
	return kind_of(in, role) == KIND_TOOL ? in->options.client : graph_roles[role].program;
}

/* ---- Starting ---- */

/* bell, io_uring and trace are the three */
_Static_assert(3 + CLIENT_FDS + OBJ_COUNT + STORE_FILES_MAX <= SPAWN_FDS, "there is room for all");

/* Descriptors in ascending order of their numbers in ipc/graph.h. */
static void give_fds(struct init *in, enum role role, const struct process *p)
{
	struct spawn *s = &in->spawn;

	s->n = 0;
	if (kinds[role].bell)
		spawn_give(s, in->bell, FD_BELL);
	if (kinds[role].uring)
		spawn_give(s, p->ring.ring_fd, FD_URING);
	if (role == ROLE_SCRIBE && in->trace_fd >= 0)
		spawn_give(s, in->trace_fd, FD_TRACE);
	if (role == ROLE_SCRIBE && in->recorder_fd >= 0)
		spawn_give(s, in->recorder_fd, FD_RECORDER);
	for (int i = 0; kind_of(in, role) == KIND_TOOL && i < CLIENT_FDS; i++) {
		if (in->client_fd[i] >= 0)
			spawn_give(s, in->client_fd[i], FD_PROMPTS + i);
	}
	for (unsigned k = 0; k < OBJ_COUNT; k++) {
		int fd = object_fd(&in->objects, role, (enum object)k);

		/* the survey comes before all others; what exists then is all it sees */
		if (fd >= 0)
			spawn_give(s, fd, FD_OBJECT + (int)k);
	}
	for (unsigned i = 0; kinds[role].files && i < in->files.count; i++)
		spawn_give(s, in->files.file[i].fd, FD_FILE + (int)i);
}

static void forget_ring(struct init *in, const struct process *p)
{
	in->drain[p->generation % DRAINS] = (struct drain){
		.used = true, .generation = (uint32_t)p->generation, .ring = p->ring};
}

/* An io_uring for generation g of experts: 1, 0 if it has to wait, -errno. */
static int take_ring(struct init *in, uint64_t g, struct io_uring *ring, struct err *e)
{
	struct io_uring_params params;
	struct node_uring *u = &in->node->uring[g % DRAINS];
	int rc;

	_Static_assert(sizeof(params) == sizeof(u->params),
		       "the kernel's params fit the node object");
	if (in->drain[g % DRAINS].used)
		return 0;
	rc = rings_take(&in->rings, ring, &params, e);
	if (rc <= 0) {
		if (rc == 0 && rings_failing(&in->rings) != in->ring_error)
			log_write(in->log, 1, LOG_NO_RING,
				  (const uint64_t[5]){(uint64_t)rings_failing(&in->rings)});
		in->ring_error = rings_failing(&in->rings);
		return rc;
	}
	memcpy(u->params, &params, sizeof(params));
	u->base = (uint64_t)(uintptr_t)in->rings.base;
	return 1;
}

static uint64_t generation_of(const struct init *in, enum role role)
{
	/* relaxed: our own */
	return atomic_load_explicit(&in->node->generation[role], memory_order_relaxed);
}

static int watch_process(struct init *in, int op, const struct process *p, uint64_t tag,
			 struct err *e)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = tag};

	return epoll_ctl(in->epoll, op, p->pidfd, &ev)
		       ? err_set(e, -errno, "init: cannot watch a server: %s", strerror(errno))
		       : 0;
}

/* Of processes, memory, namespaces or descriptors: it may pass. */
static bool is_shortage(int rc)
{
	return rc == -EAGAIN || rc == -ENOMEM || rc == -ENOSPC || rc == -EMFILE || rc == -ENFILE;
}

/*
 * Makes the process that is the role's next generation, which serves when node.generation says so.
 * 1, 0: later, -errno.
 */
static int launch(struct init *in, enum role role, struct process *p, uint64_t tag, struct err *e)
{
	struct server *s = &in->server[role];
	char generation[24];
	int rc;

	*p = (struct process){.generation = generation_of(in, role) + 1};
	rc = kinds[role].uring ? take_ring(in, p->generation, &p->ring, e) : 1;
	if (rc <= 0)
		return rc;
	snprintf(generation, sizeof(generation), "%llu", (unsigned long long)p->generation);
	in->spawn.name = name_of(in, role);
	in->spawn.role = role;
	in->spawn.parses = kinds[role].files;
	in->spawn.argument = kinds[role].argument                        ? kinds[role].argument
			     : kinds[role].spare || kinds[role].numbered ? generation
									 : NULL;
	in->spawn.root = NULL;
	in->spawn.more[0] = in->spawn.more[1] = NULL;
	if (role == ROLE_CUDA && in->options.gpu == GPU_CUDA) {
		in->spawn.root = &in->gpu.root;
		in->spawn.more[0] = in->gpu.ordinal;
		in->spawn.more[1] = in->gpu.library;
	}
	in->spawn.program = s->program;
	/* the last try may say why it fails */
	in->spawn.messages = kinds[role].messages || kind_of(in, role) == KIND_TOOL ||
			     s->bad_starts == BAD_STARTS - 1;
	in->spawn.report = kind_of(in, role) == KIND_TOOL;
	in->spawn.cpus = role == ROLE_CLIENT && !in->options.client ? in->client_cpu : in->cpus;
	give_fds(in, role, p);
	p->pid = spawn_start(&in->spawn, &p->pidfd, e);
	if (p->pid < 0) {
		rc = p->pid;
		p->pid = 0;
		if (kinds[role].uring)
			forget_ring(in, p);
		/* short of processes or memory: later, if it ever ran */
		s->try_ns = clock_now_ns() + TRY_MS * NS_PER_MS;
		return is_shortage(rc) && s->started_ns ? 0 : rc;
	}
	rc = watch_process(in, EPOLL_CTL_ADD, p, tag, e);
	return rc ? rc : 1;
}

/* Its generation is the one that serves from now on. */
static void go(struct init *in, enum role role)
{
	struct server *s = &in->server[role];

	s->state = SERVER_RUNNING;
	s->started_ns = clock_now_ns();
	s->spare_ns = s->started_ns + SPARE_MS * NS_PER_MS;
	s->killed_for = 0;
	hang_begin(in, role);
	/* release: what its predecessor's death left to be seen; pairs with attach_take_over */
	atomic_store_explicit(&in->node->generation[role], s->live.generation,
			      memory_order_release);
	/* it waits on the count's low half */
	syscall(SYS_futex, &in->node->generation[role], FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* The spare serves, or a new process if there is none. */
static int start(struct init *in, enum role role, struct err *e)
{
	struct server *s = &in->server[role];
	int rc = 1;

	if (s->spare.pid) {
		s->live = s->spare;
		s->spare.pid = 0;
		rc = watch_process(in, EPOLL_CTL_MOD, &s->live, TAG_SERVER + (uint64_t)role, e);
		rc = rc ? rc : 1;
	} else {
		rc = launch(in, role, &s->live, TAG_SERVER + (uint64_t)role, e);
	}
	if (rc > 0)
		go(in, role);
	return rc;
}

static void try_start(struct init *in, enum role role)
{
	struct err e = {0};

	if (clock_now_ns() < in->server[role].try_ns)
		return;
	if (start(in, role, &e) < 0) {
		in->error = e;
		supervise_end(in, e.status ? e.status : STATUS_FAILED);
	}
}

void supervise_want(struct init *in, enum role role)
{
	in->server[role].state = SERVER_WAITING;
	try_start(in, role);
}

/* ---- Spares ---- */

static unsigned draining(const struct init *in)
{
	unsigned n = 0;

	for (unsigned i = 0; i < DRAINS; i++)
		n += in->drain[i].used;
	return n;
}

/* Whether a spare of the role is to be made, as soon as its time has come. */
static bool lacks_spare(const struct init *in, enum role role)
{
	const struct server *s = &in->server[role];

	if (!kinds[role].spare || kind_of(in, role) == KIND_TOOL || s->spare.pid ||
	    s->state != SERVER_RUNNING || in->stage < STAGE_READY || in->stage == STAGE_STOPPING ||
	    in->exit_status >= 0)
		return false;
	/* one that fails at once may want to say why, which a spare cannot */
	if (s->bad_starts && clock_now_ns() - s->started_ns < EARLY_S * NS_PER_S)
		return false;
	/* relaxed: only this process stores to it; the maker is done with the slots */
	return !kinds[role].uring ||
	       (draining(in) < 2 && rings_stocked(&in->rings) &&
		atomic_load_explicit(&in->node->slot_pieces, memory_order_relaxed) ==
			in->rings.n_pieces);
}

static void spare_tick(struct init *in)
{
	uint64_t now = clock_now_ns();

	for (unsigned role = ROLE_CLIENT; role <= ROLE_EXPERTS; role++) {
		struct server *s = &in->server[role];
		struct err e = {0};

		if (!lacks_spare(in, (enum role)role) || now < s->spare_ns)
			continue;
		/* a node goes on without: tried again */
		if (launch(in, (enum role)role, &s->spare, TAG_SPARE + role, &e) <= 0)
			s->spare_ns = now + SPARE_AGAIN_S * NS_PER_S;
	}
}

static void give_up_process(struct init *in, enum role role, struct process *p)
{
	epoll_ctl(in->epoll, EPOLL_CTL_DEL, p->pidfd, NULL);
	close(p->pidfd);
	p->pid = 0;
	if (kinds[role].uring)
		forget_ring(in, p);
}

/* ---- Table 2: what an end leads to ---- */

enum ending {
	END_DONE,    /* exit 0 */
	END_FAILED,  /* another exit status */
	END_CRASHED, /* a signal that the program brought on itself */
	END_KILLED,  /* any other signal, init's own among them */
	ENDINGS
};

static enum ending ending_of(const siginfo_t *si)
{
	if (si->si_code == CLD_EXITED)
		return si->si_status ? END_FAILED : END_DONE;
	switch (si->si_status) {
	case SIGSEGV:
	case SIGBUS:
	case SIGILL:
	case SIGFPE:
	case SIGABRT:
	case SIGSYS:
	case SIGTRAP:
		return END_CRASHED;
	default:
		return END_KILLED;
	}
}

static void restart(struct init *in, enum role role, const siginfo_t *si)
{
	(void)si;
	supervise_want(in, role);
}

static void end_crashed(struct init *in, enum role role, const siginfo_t *si)
{
	err_set(&in->error, -EIO, "%s was ended by signal %d (%s)", name_of(in, role),
		si->si_status, strsignal(si->si_status));
	supervise_end(in, STATUS_FAILED);
}

/*
 * A death of its own doing. One that never gets as far as a step will not get there the next time
 * either.
 */
static void restart_or_end(struct init *in, enum role role, const siginfo_t *si)
{
	struct server *s = &in->server[role];
	bool early = clock_now_ns() - s->started_ns < EARLY_S * NS_PER_S;
	const struct log_object *log = supervise_log(in, role);

	/* relaxed: a counter */
	if (!early ||
	    (log && atomic_load_explicit(&log->counter[COUNT_STEPS], memory_order_relaxed)))
		s->bad_starts = 0;
	else
		s->bad_starts++;
	/* the circle does without a GPU, and one that is not there does not come */
	if (role == ROLE_CUDA &&
	    (s->bad_starts >= BAD_STARTS ||
	     (ending_of(si) == END_FAILED && si->si_status == STATUS_MEMORY))) {
		/* relaxed: who waits for it is woken behind this, and looks again */
		atomic_store_explicit(&in->node->cuda_off, 1, memory_order_relaxed);
		log_write(in->log, 1, LOG_NO_GPU, (const uint64_t[5]){(uint64_t)si->si_status});
		return;
	}
	if (s->bad_starts < BAD_STARTS) {
		restart(in, role, si);
		return;
	}
	err_set(&in->error, -EIO, "%s cannot start: %s %d, %d times in a row", name_of(in, role),
		si->si_code == CLD_EXITED ? "exit status" : "signal", si->si_status, BAD_STARTS);
	supervise_end(in, STATUS_FAILED);
}

/* Its own message is on stderr already, and its exit status is the node's. */
static void end_with_status(struct init *in, enum role role, const siginfo_t *si)
{
	(void)role;
	supervise_end(in, si->si_status);
}

static void task_done(struct init *in, enum role role, const siginfo_t *si)
{
	(void)si;
	stage_task_done(in, role);
}

static void (*const on_end[][ENDINGS])(struct init *, enum role, const siginfo_t *) = {
	[KIND_TASK] = {[END_DONE] = task_done,
		       [END_FAILED] = end_with_status,
		       [END_CRASHED] = end_crashed,
		       [END_KILLED] = restart},
	[KIND_SERVER] = {[END_DONE] = restart_or_end,
			 [END_FAILED] = restart_or_end,
			 [END_CRASHED] = restart_or_end,
			 [END_KILLED] = restart},
	[KIND_TOOL] = {[END_DONE] = end_with_status,
		       [END_FAILED] = end_with_status,
		       [END_CRASHED] = end_crashed,
		       [END_KILLED] = end_crashed},
};

/* Waits for the process, which has ended, so that it does not wait; tells what it was. */
static bool reap(const struct process *p, siginfo_t *si)
{
	memset(si, 0, sizeof(*si));
	return !waitid(P_PIDFD, (id_t)p->pidfd, si, WEXITED | WNOHANG) && si->si_pid;
}

const struct log_object *supervise_log(const struct init *in, enum role role)
{
	for (unsigned k = OBJ_LOG_INIT; k <= OBJ_LOG_EXPERTS; k++) {
		if (graph_objects[k].writer == (uint32_t)role && in->objects.map[k])
			return (const void *)((const char *)in->objects.map[k] +
					      sizeof(struct object_header));
	}
	return NULL;
}

static enum restart_cause cause_of(const struct server *s, const siginfo_t *si)
{
	static const enum restart_cause causes[ENDINGS] = {[END_DONE] = RESTART_EXITED,
							   [END_FAILED] = RESTART_EXITED,
							   [END_CRASHED] = RESTART_CRASHED,
							   [END_KILLED] = RESTART_KILLED};
	enum ending ending = ending_of(si);

	return ending == END_KILLED && s->killed_for ? (enum restart_cause)(s->killed_for - 1)
						     : causes[ending];
}

static void log_death(struct init *in, enum role role, const siginfo_t *si)
{
	struct server *s = &in->server[role];
	enum restart_cause cause = cause_of(s, si);
	uint64_t g = generation_of(in, role), now = clock_now_ns();
	_Atomic uint64_t *count = &in->log->restarts[role][cause];

	if (kind_of(in, role) != KIND_SERVER || in->stage == STAGE_STOPPING)
		return;
	count_add(in->log, COUNT_RESTARTS, 1);
	/* relaxed: a counter, and ours alone */
	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
			      memory_order_relaxed);
	s->deaths = now - s->died_ns < DYING_S * NS_PER_S ? s->deaths + 1 : 1;
	s->died_ns = now;
	log_write(in->log, 1, LOG_DIED,
		  (const uint64_t[5]){role, (uint64_t)si->si_pid, si->si_code != CLD_EXITED,
				      (uint64_t)si->si_status, g + 1});
	poison_count(in, role, cause);
}

void supervise_spare_died(struct init *in, enum role role)
{
	struct server *s = &in->server[role];
	siginfo_t si;

	if (!s->spare.pid || !reap(&s->spare, &si))
		return;
	give_up_process(in, role, &s->spare);
	if (ending_of(&si) != END_KILLED)
		s->spare_ns = clock_now_ns() + SPARE_AGAIN_S * NS_PER_S;
}

void supervise_died(struct init *in, enum role role)
{
	struct server *s = &in->server[role];
	siginfo_t si;

	if (s->state != SERVER_RUNNING || !reap(&s->live, &si))
		return;
	give_up_process(in, role, &s->live);
	s->state = SERVER_OFF;
	/* release: its object is as it will stay; pairs with lists_alive */
	if (role == ROLE_CUDA)
		atomic_store_explicit(&in->node->cuda_gone, generation_of(in, role),
				      memory_order_release);
	log_death(in, role, &si);
	if (in->stage != STAGE_STOPPING && kind_of(in, role) == KIND_SERVER)
		recorder_take(in, role, &si);
	if (in->stage != STAGE_STOPPING)
		on_end[kind_of(in, role)][ending_of(&si)](in, role, &si);
	else if (ending_of(&si) == END_CRASHED)
		end_crashed(in, role, &si); /* it was to end by itself, or by a SIGKILL */
	supervise_wake_all(in);
	if (role == ROLE_CLIENT && in->pump.in && pump_scan(&in->pump, true) < 0)
		supervise_kill_for(in, ROLE_CLIENT, RESTART_REFUSED);
}

/* ---- What goes on meanwhile ---- */

/* uring_empty is the last generation up to which every dead one's io_uring is known to be empty. */
static void drain_tick(struct init *in)
{
	uint64_t last =
		atomic_load_explicit(&in->node->generation[ROLE_EXPERTS], memory_order_relaxed);
	uint64_t empty = atomic_load_explicit(&in->node->uring_empty, memory_order_relaxed);

	for (unsigned i = 0; i < DRAINS; i++) {
		struct drain *d = &in->drain[i];

		if (d->used && nvme_ring_empty(&d->ring)) {
			nvme_ring_close(&d->ring);
			d->used = false;
		}
	}
	while (empty < last && !in->drain[(empty + 1) % DRAINS].used &&
	       !(empty + 1 == last && in->server[ROLE_EXPERTS].state == SERVER_RUNNING))
		empty++;
	if (empty == atomic_load_explicit(&in->node->uring_empty, memory_order_relaxed))
		return;
	/*
	 * release: no read of these generations writes any more; pairs with the acquire in experts
	 */
	atomic_store_explicit(&in->node->uring_empty, empty, memory_order_release);
	log_write(in->log, 1, LOG_DRAINED, (const uint64_t[5]){empty, 0, 0, 0, 0});
	bell_ring(&in->bells->bell[ROLE_EXPERTS][0]);
}

/* What /health is to say of a server. */
static void unwell_tick(struct init *in)
{
	uint64_t now = clock_now_ns();

	for (unsigned role = ROLE_CLIENT; role <= ROLE_SCRIBE; role++) {
		const struct server *s = &in->server[role];
		enum node_unwell unwell = s->state == SERVER_WAITING ? NODE_MISSING : NODE_WELL;

		if (s->deaths >= DYING && now - s->died_ns < DYING_S * NS_PER_S)
			unwell = NODE_DYING;
		/* relaxed: for a person to read */
		atomic_store_explicit(&in->node->unwell[role], unwell, memory_order_relaxed);
	}
}

void supervise_tick(struct init *in)
{
	drain_tick(in);
	refusal_tick(in);
	spare_tick(in);
	hang_tick(in);
	for (unsigned role = 0; role < ROLE_COUNT; role++) {
		if (in->server[role].state == SERVER_WAITING && in->exit_status < 0)
			try_start(in, (enum role)role);
	}
	unwell_tick(in);
}

static int sooner(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

int supervise_timeout(const struct init *in)
{
	uint64_t now = clock_now_ns();
	int ms = draining(in) ? LOOK_MS : -1;

	for (unsigned role = 0; role < ROLE_COUNT; role++) {
		const struct server *s = &in->server[role];

		/* experts' first ring is announced by TAG_RINGS */
		if (s->state == SERVER_WAITING && (role != ROLE_EXPERTS || s->try_ns > now))
			ms = sooner(ms, s->try_ns <= now
						? LOOK_MS
						: (int)((s->try_ns - now) / NS_PER_MS) + 1);
		if (lacks_spare(in, (enum role)role))
			ms = sooner(ms, s->spare_ns <= now
						? LOOK_MS
						: (int)((s->spare_ns - now) / NS_PER_MS) + 1);
	}
	return ms;
}

void supervise_kill(struct init *in, enum role role)
{
	struct server *s = &in->server[role];

	if (s->state == SERVER_RUNNING)
		syscall(SYS_pidfd_send_signal, s->live.pidfd, SIGKILL, NULL, 0);
	else if (in->stage == STAGE_STOPPING)
		s->state = SERVER_OFF; /* nobody starts any more */
}

void supervise_kill_for(struct init *in, enum role role, enum restart_cause cause)
{
	in->server[role].killed_for = (unsigned)cause + 1;
	supervise_kill(in, role);
}

void supervise_kill_spares(struct init *in)
{
	for (unsigned role = 0; role < ROLE_COUNT; role++) {
		if (in->server[role].spare.pid)
			syscall(SYS_pidfd_send_signal, in->server[role].spare.pidfd, SIGKILL, NULL,
				0);
	}
}

bool supervise_alive(const struct init *in, enum role role)
{
	return in->server[role].state == SERVER_RUNNING;
}

void supervise_wake_all(struct init *in)
{
	uint32_t workers = in->node->plan.workers;

	hang_asked(in);
	for (unsigned role = ROLE_CLIENT; role < ROLE_COUNT; role++) {
		for (unsigned i = 0; i == 0 || i < workers; i++)
			bell_wake(&in->bells->bell[role][i]);
	}
}

void supervise_end(struct init *in, int status)
{
	if (in->exit_status < 0)
		in->exit_status = status;
}
