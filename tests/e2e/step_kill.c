/*
 * Kills a process at an exact place, for publish.t (as root):
 *
 *	step_kill PID at ADDRESS N      N instructions behind its next arrival at ADDRESS
 *	step_kill PID calls N           at its N-th stop at a system call: entered, left ...
 *	step_kill PID call NUMBER N     at its N-th stop at that call
 *
 * PID may be any thread's: that one is meant. Prints what it saw: `at`: the instructions stepped,
 * of them until the function had returned (0: it has not), `calls`: the last call's number. Exit
 * status 0: killed; 3: the place was not reached in 10 s, and the process goes on.
 */
/* no asan: it steps through another process */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	NOT_REACHED = 3,
	PATIENCE_S = 10
};

static pid_t pid;

static void die(const char *what)
{
	fprintf(stderr, "step_kill: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void out_of_time(int signo)
{
	(void)signo;
}

/* Waits for the next stop. False if time is up. */
static int stop(void)
{
	int status;

	if (waitpid(pid, &status, __WALL) < 0)
		return 0;
	if (!WIFSTOPPED(status)) {
		fprintf(stderr, "step_kill: it has ended\n");
		exit(1);
	}
	return WSTOPSIG(status);
}

/* A thread that waits in a call is interrupted, so that it can be left alone or changed. */
static void interrupt(void)
{
	alarm(0);
	if (ptrace(PTRACE_INTERRUPT, pid, 0, 0))
		die("interrupt");
	stop();
}

static void set_code(uint64_t address, long word)
{
	if (ptrace(PTRACE_POKETEXT, pid, (void *)address, (void *)word))
		die("write");
}

static void kill_it(void)
{
	int status;

	kill(pid, SIGKILL);
	while (waitpid(pid, &status, __WALL) == pid && !WIFSIGNALED(status))
		;
}

static int kill_at(uint64_t address, long steps)
{
	long code = ptrace(PTRACE_PEEKTEXT, pid, (void *)address, 0), done = 0, returned = 0;
	struct user_regs_struct r;
	uint64_t stack;

	set_code(address, (code & ~0xffl) | 0xcc);
	do {
		if (ptrace(PTRACE_CONT, pid, 0, 0))
			die("go on");
		if (!stop()) {
			interrupt();
			set_code(address, code);
			ptrace(PTRACE_DETACH, pid, 0, 0);
			return NOT_REACHED;
		}
		if (ptrace(PTRACE_GETREGS, pid, 0, &r))
			die("registers");
	} while (r.rip != address + 1);
	set_code(address, code);
	r.rip = address;
	stack = r.rsp;
	if (ptrace(PTRACE_SETREGS, pid, 0, &r))
		die("registers");
	for (; done < steps; done++) {
		if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) || !stop() ||
		    ptrace(PTRACE_GETREGS, pid, 0, &r))
			break; /* it sleeps: as far as one can go */
		if (!returned && r.rsp > stack)
			returned = done + 1;
	}
	kill_it();
	printf("%ld %ld\n", done, returned);
	return 0;
}

/* number -1: any. */
static int kill_at_call(long number, long n)
{
	struct user_regs_struct r = {0};

	for (long i = 0; i < n; i += number < 0 || (long)r.orig_rax == number) {
		if (ptrace(PTRACE_SYSCALL, pid, 0, 0))
			die("go on");
		if (!stop()) {
			interrupt();
			ptrace(PTRACE_DETACH, pid, 0, 0);
			return NOT_REACHED;
		}
		ptrace(PTRACE_GETREGS, pid, 0, &r);
	}
	kill_it();
	printf("%llu\n", (unsigned long long)r.orig_rax);
	return 0;
}

int main(int argc, char **argv)
{
	struct sigaction a = {.sa_handler = out_of_time};

	if (argc < 4)
		return 2;
	pid = (pid_t)strtol(argv[1], NULL, 10);
	sigaction(SIGALRM, &a, NULL);
	alarm(PATIENCE_S);
	if (ptrace(PTRACE_SEIZE, pid, 0, (void *)(uintptr_t)PTRACE_O_TRACESYSGOOD))
		die("attach");
	if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) || !stop())
		die("attach");
	if (!strcmp(argv[2], "at") && argc == 5)
		return kill_at(strtoull(argv[3], NULL, 16), strtol(argv[4], NULL, 10));
	if (!strcmp(argv[2], "call") && argc == 5)
		return kill_at_call(strtol(argv[3], NULL, 10), strtol(argv[4], NULL, 10));
	return kill_at_call(-1, strtol(argv[3], NULL, 10));
}
