/*
 * fork, descriptors, exec; see spawn.h. Between fork and exec only system calls are made: init has
 * a second thread.
 */
#include "boot/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
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
static void place_fds(const struct spawn *s, int *program, int *message)
{
	int floor = s->n ? s->fd[s->n - 1].to + 1 : 3;
	int null = open("/dev/null", O_RDWR);
	int moved[SPAWN_FDS];

	*message = fcntl(2, F_DUPFD_CLOEXEC, floor);
	*program = fcntl(s->program, F_DUPFD_CLOEXEC, floor);
	if (null < 0 || *message < 0 || *program < 0)
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

static _Noreturn void child(const struct spawn *s, pid_t parent)
{
	const struct rlimit no_core = {0, 0};
	const char *argv[] = {s->name, s->argument, NULL};
	const char *envp[] = {NULL};
	int program, message;

	setsid();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		give_up(2, s, "prctl");
	if (getppid() != parent) /* init died before PDEATHSIG was set */
		_exit(STATUS_FAILED);
	setrlimit(RLIMIT_CORE, &no_core);
	sched_setaffinity(0, sizeof(s->cpus), &s->cpus);
	place_fds(s, &program, &message);
	reset_signals();
	syscall(SYS_execveat, program, "", argv, envp, AT_EMPTY_PATH);
	give_up(message, s, strerror(errno));
}

pid_t spawn_start(const struct spawn *s, int *pidfd, struct err *e)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD, .pidfd = (uintptr_t)pidfd, .exit_signal = SIGCHLD};
	pid_t parent = getpid();
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0)
		child(s, parent);
	if (pid < 0)
		return err_set(e, -errno, "init: cannot start %s: %s", s->name, strerror(errno));
	return (pid_t)pid;
}
