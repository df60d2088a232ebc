/*
 * fork, descriptors, exec; see spawn.h. Between fork and exec only system calls are made: init has
 * a second thread.
 */
#include "boot/spawn.h"

#include "runtime/team.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Says on the inherited stderr why there is no process, and ends. Runs in the child. */
static _Noreturn void give_up(int stderr_copy, const struct spawn *s, const char *what)
{
	const char *part[] = {"penstock: cannot start ", s->name, ": ", what, "\n"};

	for (unsigned i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		if (write(stderr_copy, part[i], strlen(part[i])) < 0)
			break;
	}
	_exit(STATUS_FAILED);
}

/*
 * Sources may stand where targets belong, so all move above every target first. The program and
 * stderr's copy move up too, and are closed by the exec.
 */
static void place_fds(const struct spawn *s, int null, int *program, int *message)
{
	int floor = s->n ? s->fd[s->n - 1].to + 1 : 3;
	int moved[SPAWN_FDS];

	*message = fcntl(2, F_DUPFD_CLOEXEC, floor);
	*program = fcntl(s->program, F_DUPFD_CLOEXEC, floor);
	if (*message < 0 || *program < 0)
		give_up(2, s, "no descriptor free");
	for (unsigned i = 0; i < s->n; i++) {
		moved[i] = fcntl(s->fd[i].from, F_DUPFD_CLOEXEC, floor);
		if (moved[i] < 0)
			give_up(2, s, "no descriptor free; raise `ulimit -n`");
	}
	null = fcntl(null, F_DUPFD_CLOEXEC, floor);
	if (null < 0 || dup2(null, 0) < 0 || (!s->report && dup2(null, 1) < 0) ||
	    (!s->messages && dup2(null, 2) < 0))
		give_up(*message, s, "no /dev/null");
	for (unsigned i = 0, next = 3; i < s->n; i++) {
		unsigned to = (unsigned)s->fd[i].to;

		if (dup2(moved[i], (int)to) < 0)
			give_up(*message, s, "a descriptor is missing");
		if (to > next)
			syscall(SYS_close_range, next, to - 1, 0);
		next = to + 1;
	}
	syscall(SYS_close_range, (unsigned)floor, ~0u, CLOSE_RANGE_CLOEXEC);
}

static void reset_signals(void)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL); /* KILL, STOP and libc's own refuse: no matter */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

enum {
	PARSE_BYTES = 1 << 30, /* the private memory of a process that parses */
	ROOT_FDS = 64          /* what libraries in its root folder may open */
};

/* What a server that has been taken over could still use up, besides its objects and its CPUs. */
static void limit(const struct spawn *s)
{
	/* 1: a core would go to a program even with 0 (core(5)) */
	const struct rlimit none = {0, 0}, no_core = {1, 1};
	const rlim_t files = (rlim_t)s->n + 3 + (s->root ? ROOT_FDS : 0);
	const struct rlimit open = {files, files};
	/* of a user: one process of the role serves, one stands by, one may be dying */
	const struct rlimit threads = {3 * (TEAM_MAX + 8), 3 * (TEAM_MAX + 8)},
			    parse = {PARSE_BYTES, PARSE_BYTES};

	setrlimit(RLIMIT_CORE, &no_core);
	setrlimit(RLIMIT_NOFILE, &open);
	setrlimit(RLIMIT_MEMLOCK, &none);
	setrlimit(RLIMIT_MSGQUEUE, &none);
	if (confine_alone(&s->confine))
		setrlimit(RLIMIT_NPROC, &threads);
	if (!s->messages && !s->report) /* it has no file to write */
		setrlimit(RLIMIT_FSIZE, &none);
	if (s->parses)
		setrlimit(RLIMIT_DATA, &parse);
}

static _Noreturn void child(const struct spawn *s)
{
	struct pollfd parent = {.fd = s->self, .events = POLLIN};
	const char *argv[] = {s->name, s->argument, s->more[0], s->more[1], NULL};
	const char *envp[] = {NULL};
	int null = open("/dev/null", O_RDWR), program, message;
	const char *problem;

	setsid();
	sched_setaffinity(0, sizeof(s->cpus), &s->cpus);
	if (null < 0)
		give_up(2, s, "no /dev/null, or no descriptor free");
	problem = confine_enter(&s->confine, (unsigned)s->role, s->root);
	if (problem)
		give_up(2, s, problem);
	/* a change of user would undo it */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		give_up(2, s, "prctl");
	if (poll(&parent, 1, 0)) /* init died before PDEATHSIG was set */
		_exit(STATUS_FAILED);
	place_fds(s, null, &program, &message);
	reset_signals();
	limit(s);
	syscall(SYS_execveat, program, "", argv, envp, AT_EMPTY_PATH);
	give_up(message, s, strerror(errno));
}

pid_t spawn_start(const struct spawn *s, int *pidfd, struct err *e)
{
	/* not clone3, whose flags no filter can look at: RestrictNamespaces= takes it away */
	long pid = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD | s->confine.flags, NULL, pidfd, NULL,
			   NULL);

	if (pid == 0)
		child(s);
	if (pid < 0)
		return err_set(e, -errno, "init: cannot start %s: %s", s->name, strerror(errno));
	return (pid_t)pid;
}
