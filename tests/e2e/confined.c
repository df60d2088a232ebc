/*
 * What a server that has been taken over could still do: enters the sandbox of a role, tries one
 * thing, and says how that ended. Run by sandbox.t: `confined ROLE THING`; ROLE is a number of
 * ipc/graph.h or "files" for Landlock and capabilities alone. Prints "done" or the error's name, or
 * is ended by SIGSYS.
 */
#include "ipc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long try_open(void)
{
	return open("/etc/passwd", O_RDONLY);
}

static long try_create(void)
{
	return open("/tmp/penstock-confined", O_WRONLY | O_CREAT, 0600);
}

static long try_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static long try_exec(void)
{
	static char name[] = "/bin/true";
	char *const argv[] = {name, NULL};

	return execv(name, argv);
}

static long try_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid;
}

static long try_ptrace(void)
{
	return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}

static long try_kill(void)
{
	return kill(getppid(), 0);
}

/* Code in memory. */
static long try_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? -1 : 0;
}

static long try_memfd(void)
{
	return memfd_create("more", 0);
}

static long try_uring(void)
{
	char params[256] = {0};

	return syscall(SYS_io_uring_setup, 8, params);
}

static long try_mount(void)
{
	return mount("none", "/mnt", "tmpfs", 0, NULL);
}

static long try_write(void)
{
	return write(1, "x", 0);
}

static long try_clock(void)
{
	struct timespec t;

	return syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
}

static const struct thing {
	const char *name;
	long (*act)(void);
} things[] = {
	{"open", try_open},   {"create", try_create}, {"socket", try_socket}, {"exec", try_exec},
	{"fork", try_fork},   {"ptrace", try_ptrace}, {"kill", try_kill},     {"code", try_code},
	{"memfd", try_memfd}, {"uring", try_uring},   {"mount", try_mount},   {"write", try_write},
	{"clock", try_clock},
};

/*
 * In a child, as nothing can be printed afterwards. How it ended is left in memory, as not every
 * role can so much as exit: 1 + errno.
 */
static int attempt(const char *role, const struct thing *t, volatile int *end)
{
	struct err e = {0};
	long rc;

	if (sandbox_files(0, &e))
		_exit(100);
	if (strcmp(role, "files") != 0 && sandbox_calls((unsigned)atoi(role), 0, &e))
		_exit(101);
	rc = t->act();
	*end = 1 + (rc < 0 ? errno : 0);
	syscall(SYS_exit_group, 0);
	return 0;
}

int main(int argc, char **argv)
{
	int status;

	if (argc == 3 && !strcmp(argv[1], "list")) {
		char text[1024];

		sandbox_list((unsigned)atoi(argv[2]), text, sizeof(text));
		puts(text);
		return 0;
	}
	for (size_t i = 0; argc == 3 && i < sizeof(things) / sizeof(things[0]); i++) {
		volatile int *end;
		pid_t pid;

		if (strcmp(things[i].name, argv[2]) != 0)
			continue;
		end = mmap(NULL, sizeof(*end), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			   -1, 0);
		if (end == MAP_FAILED)
			return 1;
		pid = fork();
		if (pid == 0)
			return attempt(argv[1], &things[i], end);
		if (pid < 0 || waitpid(pid, &status, 0) < 0)
			return 1;
		if (*end)
			printf("%s\n", *end > 1 ? strerror(*end - 1) : "done");
		else
			printf("signal %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
		return 0;
	}
	fprintf(stderr, "usage: confined ROLE|files THING, confined list ROLE\n");
	return 2;
}
