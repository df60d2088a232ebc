/*
 * The deaths of chaos; see chaos.h. Servers are found as children of init, and killed by pidfd, so
 * that a number that was given again is never hit. What they do is seen in their counters.
 */
#include "runtime/cli/chaos.h"

#include "runtime/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	FOUND_MAX = 4 * ROLE_COUNT,
	WAIT_MAX_US = 60 * 1000,
	SOON_MAX_US = 2 * 1000, /* a death right behind another */
	COMMITS = 200,          /* publish: up to this many commits behind a death */
	COMMIT_WAIT_MS = 50,
	BEGUN_WAIT_MS = 500
};

/* A child of init. */
struct found {
	pid_t pid;
	enum role role;
	uint64_t generation; /* of a role, the lowest serves and the others are spares */
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

/* A file of /proc, at most len - 1 bytes, ended with a zero. Bytes read, -1: none. */
static ssize_t read_proc(char *out, size_t len, pid_t pid, const char *name)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, out, len - 1);
	close(fd);
	out[n > 0 ? n : 0] = '\0';
	return n;
}

/* Parent and state; false if the process is gone. */
static bool read_stat(pid_t pid, pid_t *parent, char *state)
{
	char text[512], *end;
	int p;

	if (read_proc(text, sizeof(text), pid, "stat") <= 0)
		return false;
	end = strrchr(text, ')');
	if (!end || sscanf(end + 1, " %c %d", state, &p) != 2)
		return false;
	*parent = p;
	return true;
}

/* What the process is called by init: name, and behind it its generation. */
static bool describe(pid_t pid, struct found *f)
{
	char line[128];
	ssize_t n = read_proc(line, sizeof(line), pid, "cmdline");

	if (n <= 0)
		return false;
	for (unsigned r = ROLE_CLIENT; r <= ROLE_EXPERTS; r++) {
		size_t len = strlen(graph_roles[r].program);

		if (strcmp(line, graph_roles[r].program))
			continue;
		*f = (struct found){.pid = pid, .role = (enum role)r};
		if ((size_t)n > len + 1)
			f->generation = strtoull(line + len + 1, NULL, 10);
		return true;
	}
	return false;
}

/* The servers that live, and how many have ended without being waited for. */
static unsigned find(const struct chaos_kill *k, struct found out[FOUND_MAX], uint64_t *zombies)
{
	DIR *d = opendir("/proc");
	unsigned n = 0;

	*zombies = 0;
	for (struct dirent *entry; d && n < FOUND_MAX && (entry = readdir(d));) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10), parent;
		char state;

		if (pid <= 0 || !read_stat(pid, &parent, &state) || parent != k->init)
			continue;
		if (state == 'Z')
			++*zombies;
		else if (describe(pid, &out[n]))
			n++;
	}
	if (d)
		closedir(d);
	return n;
}

static uint64_t count_entries(pid_t pid, const char *folder)
{
	char path[64];
	uint64_t n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, folder);
	d = opendir(path);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static uint64_t count_lines(pid_t pid, const char *name)
{
	char path[64];
	uint64_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	f = fopen(path, "re");
	for (int c; f && (c = getc(f)) != EOF;)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

void chaos_look(const struct chaos_kill *k, struct chaos_state *s)
{
	struct found found[FOUND_MAX];

	s->descriptors = count_entries(k->init, "fd");
	s->maps = count_lines(k->init, "maps");
	find(k, found, &s->zombies);
	s->pages_free = watch_count(k->watch, COUNT_PAGES_FREE);
	s->busy = watch_count(k->watch, COUNT_RUNNING) + watch_count(k->watch, COUNT_QUEUED);
}

void chaos_print_threads(const struct chaos_kill *k)
{
	static const char *const names[] = {"comm", "wchan", "syscall"};
	struct found found[FOUND_MAX];
	uint64_t zombies;
	unsigned n = find(k, found, &zombies);

	for (unsigned i = 0; i < n; i++) {
		char path[64], text[256];
		DIR *d;

		snprintf(path, sizeof(path), "/proc/%d/task", (int)found[i].pid);
		d = opendir(path);
		for (struct dirent *t; d && (t = readdir(d));) {
			pid_t tid = (pid_t)strtol(t->d_name, NULL, 10);

			if (tid <= 0)
				continue;
			fprintf(stderr, "%d %s:", (int)tid, graph_roles[found[i].role].program);
			for (unsigned j = 0; j < 3; j++) {
				if (read_proc(text, sizeof(text), tid, names[j]) > 0)
					fprintf(stderr, " %.*s", (int)strcspn(text, "\n"), text);
			}
			fputc('\n', stderr);
		}
		if (d)
			closedir(d);
	}
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
static bool kill_one(const struct chaos_kill *k, const struct found *f)
{
	int fd = (int)syscall(SYS_pidfd_open, f->pid, 0);
	struct found now;
	pid_t parent;
	char state;
	bool done;

	if (fd < 0)
		return false;
	done = read_stat(f->pid, &parent, &state) && parent == k->init && describe(f->pid, &now) &&
	       now.role == f->role && !syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
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

static bool serves(const struct found *found, unsigned n, unsigned i)
{
	for (unsigned j = 0; j < n; j++) {
		if (found[j].role == found[i].role && found[j].generation < found[i].generation)
			return false;
	}
	return true;
}

unsigned chaos_kill(struct chaos_kill *k)
{
	struct found found[FOUND_MAX];
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
	n = find(k, found, &zombies);
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
