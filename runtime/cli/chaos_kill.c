/*
 * The deaths of chaos; see chaos.h. Servers are found as children of init, and killed by pidfd, so
 * that a number that was given again is never hit. What they do is seen in their counters.
 */
#include "runtime/cli/chaos.h"

#include "runtime/clock.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	WAIT_MAX_US = 60 * 1000,
	SOON_MAX_US = 2 * 1000, /* a death right behind another */
	COMMITS = 200,          /* publish: up to this many commits behind a death */
	COMMIT_WAIT_MS = 50,
	BEGUN_WAIT_MS = 500
};

static void sleep_us(uint64_t us)
{
	const struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000 * 1000)};

	nanosleep(&t, NULL);
}

int chaos_find_init(const char *socket_path, pid_t *pid, struct err *e)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct ucred who;
	socklen_t len = sizeof(who);
	int fd, rc = 0;

	if (strlen(socket_path) >= sizeof(a.sun_path))
		return err_exit(e, STATUS_USAGE, -ENAMETOOLONG, "the socket's path is too long");
	strcpy(a.sun_path, socket_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&a, sizeof(a)) ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len))
		rc = err_set(e, -errno, "no node answers at %s: %s", socket_path, strerror(errno));
	else if (who.pid <= 1)
		rc = err_set(e, -ESRCH, "the node at %s is not a process of this machine",
			     socket_path);
	else
		*pid = who.pid;
	if (fd >= 0)
		close(fd);
	return rc;
}

/* ---- One death ---- */

static const struct log_object *log_of(const struct chaos_kill *k, enum role role)
{
	for (unsigned o = OBJ_LOG_INIT; o <= OBJ_LOG_EXPERTS; o++) {
		if (graph_objects[o].writer == (uint32_t)role)
			return k->watch->log[o - OBJ_LOG_INIT];
	}
	return NULL;
}

static bool in_step(const struct chaos_kill *k, enum role role)
{
	const struct progress *p = &log_of(k, role)->progress;

	return atomic_load_explicit(&p->since_ns, memory_order_relaxed) &&
	       atomic_load_explicit(&p->step, memory_order_relaxed) != UINT64_MAX;
}

/* Waits for the n-th commit from now; looks all the time, as a commit is no more than a moment. */
static void await_commits(const struct chaos_kill *k, enum role role, uint64_t n)
{
	const _Atomic uint64_t *count = &log_of(k, role)->counter[COUNT_STEPS];
	uint64_t from = atomic_load_explicit(count, memory_order_relaxed),
		 until = clock_now_ns() + COMMIT_WAIT_MS * NS_PER_MS;

	while (atomic_load_explicit(count, memory_order_relaxed) - from < n &&
	       clock_now_ns() < until)
		;
}

/* ns from the kill until the successor has begun the step again; 0: it was not seen. */
static uint64_t await_begun(const struct chaos_kill *k, enum role role, uint64_t killed_ns)
{
	const struct progress *p = &log_of(k, role)->progress;

	for (unsigned us = 0; us < BEGUN_WAIT_MS * 1000; us += 50) {
		uint64_t since = atomic_load_explicit(&p->since_ns, memory_order_relaxed);

		if (since > killed_ns)
			return since - killed_ns;
		sleep_us(50);
	}
	return 0;
}

/* Kills by descriptor; false if the process is another one by now, or gone. */
static bool kill_one(const struct chaos_kill *k, const struct chaos_found *f)
{
	int fd = (int)syscall(SYS_pidfd_open, f->pid, 0);
	struct chaos_found now;
	pid_t parent;
	char state;
	bool done;

	if (fd < 0)
		return false;
	done = chaos_read_stat(f->pid, &parent, &state) && parent == k->init &&
	       chaos_describe(f->pid, &now) && now.role == f->role &&
	       !syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	close(fd);
	return done;
}

/* Which roles die: mostly one, at times two, at times all. */
static uint32_t choose(struct chaos_kill *k)
{
	uint64_t kind = chaos_below(&k->seed, 10);
	uint32_t set = 0, n = kind < 7 ? 1 : kind < 9 ? 2 : CHAOS_ROLES;

	if (n == CHAOS_ROLES)
		return (1u << CHAOS_ROLES) - 1;
	while ((uint32_t)__builtin_popcount(set) < n)
		set |= 1u << chaos_below(&k->seed, CHAOS_ROLES);
	return set;
}

static bool serves(const struct chaos_found *found, unsigned n, unsigned i)
{
	for (unsigned j = 0; j < n; j++) {
		if (found[j].role == found[i].role && found[j].generation < found[i].generation)
			return false;
	}
	return true;
}

unsigned chaos_kill(struct chaos_kill *k)
{
	struct chaos_found found[CHAOS_FOUND];
	uint32_t set = choose(k), killed = 0;
	uint64_t wait = chaos_below(&k->seed, chaos_below(&k->seed, 5) ? WAIT_MAX_US : SOON_MAX_US),
		 zombies, now;
	/* spares die too, now and then with those that they stand by for */
	bool spares = chaos_below(&k->seed, 8) == 0, stepping = false;
	unsigned n, count = 0;
	enum role single;

	if (k->publish)
		set = 1u << k->turn % CHAOS_ROLES;
	single = (enum role)(ROLE_CLIENT + __builtin_ctz(set));
	if (!k->publish)
		sleep_us(wait);
	n = chaos_find(k, found, &zombies);
	if (k->publish)
		await_commits(k, single, 1 + k->turn / CHAOS_ROLES % COMMITS);
	stepping = in_step(k, single);
	now = clock_now_ns();
	for (unsigned i = 0; i < n; i++) {
		unsigned at = found[i].role - ROLE_CLIENT;
		bool spare = !serves(found, n, i);

		if (!(set >> at & 1) || (spare && (!spares || k->publish)) ||
		    !kill_one(k, &found[i]))
			continue;
		count++;
		killed |= spare ? 0 : 1u << at;
		k->kills[at] += !spare;
		k->spares += spare;
	}
	k->turn++;
	if (!killed)
		return count;
	k->sets++;
	chaos_add(&k->at, now);
	if (__builtin_popcount(killed) == 1 && stepping) {
		uint64_t ns = await_begun(k, single, now);

		if (ns)
			chaos_add(&k->begun, ns);
	}
	return count;
}
