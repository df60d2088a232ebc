/*
 * A server that has been taken over, under the name of the program it takes the place of: started
 * by init with all that the role has, it tries everything that a server must not be able to do, and
 * prints how each try ended, as "role: walls|sandbox: thing: end". First behind init's walls alone,
 * as in a program that was lost before it confined itself, then in the role's sandbox; each try in
 * a process of its own. Said on stderr; a role that has none keeps it in its own log object, from
 * the first counter on, where sandbox.t reads it. Then it sleeps.
 */
#include "ipc/attach.h"
#include "ipc/sandbox.h"
#include "runtime/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PIDS = 4096,    /* as many process numbers are tried */
	ENDED = 1 << 16 /* a try by signal n ended with ENDED + n, else with an errno or 0 */
};

static struct attach at;

/* ---- Things. Each returns 0 if it was done, else an errno ---- */

static int end_of(long rc)
{
	return rc < 0 ? errno : 0;
}

static int try_open(void)
{
	return end_of(open("/etc/passwd", O_RDONLY));
}

static int try_proc(void)
{
	return end_of(open("/proc/self/fd/16", O_RDWR));
}

static int try_create(void)
{
	return end_of(open("/penstock-evil", O_WRONLY | O_CREAT, 0600));
}

static int try_up(void)
{
	return end_of(open("../../etc/passwd", O_RDONLY));
}

/* A socket may be made before the sandbox; there is nowhere to go with it. */
static int try_network(void)
{
	const unsigned char to[16] = {AF_INET, 0, 0, 53, 127, 0, 0, 1};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	return fd < 0 ? errno : end_of(sendto(fd, "x", 1, 0, (const void *)to, sizeof(to)));
}

static int try_exec(void)
{
	char *const argv[] = {(char[]){"true"}, NULL};

	return end_of(execv("/bin/true", argv));
}

/* Its own processes are 1 and the try itself. */
static int try_sibling(int (*act)(pid_t))
{
	int last = ESRCH;

	for (pid_t pid = 2; pid < PIDS; pid++) {
		int rc = pid == getpid() ? ESRCH : act(pid);

		if (!rc)
			return 0;
		if (rc != ESRCH)
			last = rc;
	}
	return last;
}

static int ptrace_pid(pid_t pid)
{
	return end_of(ptrace(PTRACE_ATTACH, pid, NULL, NULL));
}

static int kill_pid(pid_t pid)
{
	return end_of(kill(pid, 0));
}

static int try_ptrace(void)
{
	return try_sibling(ptrace_pid);
}

static int try_kill(void)
{
	return try_sibling(kill_pid);
}

static int try_mount(void)
{
	return end_of(mount("none", "/", "tmpfs", 0, NULL));
}

static int try_root(void)
{
	return end_of(syscall(SYS_setresuid, 0, 0, 0));
}

static int try_namespace(void)
{
	return end_of(unshare(CLONE_NEWUSER | CLONE_NEWNS));
}

static int try_nice(void)
{
	struct sched_param p = {.sched_priority = 1};

	/* the libc's own only says that there is none */
	return end_of(syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &p));
}

static int try_shm(void)
{
	return end_of(syscall(SYS_shmget, 0x5045, 4096, 0600));
}

static int try_lock(void)
{
	static char page[8192];

	return end_of(mlock(page, sizeof(page)));
}

/* Wants an object that it may only read, or may not see; `act` on each. */
static int each_object(enum access access, int (*act)(unsigned o))
{
	int last = ENOENT;

	for (unsigned o = 0; o < OBJ_COUNT; o++) {
		if (graph_access(at.role, (enum object)o) != access)
			continue;
		last = act(o);
		if (!last)
			return 0;
	}
	return last;
}

/* ROLE_SURVEY and ROLE_LOADER have few. */
static bool given(unsigned o)
{
	return at.object[o] != NULL;
}

static int map_writable(unsigned o)
{
	void *p;

	if (!given(o))
		return EBADF;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, FD_OBJECT + (int)o, 0);
	return p == MAP_FAILED ? errno : 0;
}

static int make_writable(unsigned o)
{
	return given(o) ? end_of(mprotect(at.object[o], 4096, PROT_READ | PROT_WRITE)) : EBADF;
}

static int write_object(unsigned o)
{
	return given(o) ? end_of(pwrite(FD_OBJECT + (int)o, "x", 1, 4096)) : EBADF;
}

static int resize(unsigned o)
{
	return given(o) ? end_of(ftruncate(FD_OBJECT + (int)o, (off_t)at.bytes[o] + 4096)) : EBADF;
}

static int seal(unsigned o)
{
	return given(o) ? end_of(fcntl(FD_OBJECT + (int)o, F_ADD_SEALS, F_SEAL_WRITE)) : EBADF;
}

static int store(unsigned o)
{
	if (!given(o))
		return EBADF;
	*(volatile char *)at.object[o] = 1;
	return 0;
}

static int touch_fd(unsigned o)
{
	return end_of(fcntl(FD_OBJECT + (int)o, F_GETFD));
}

static int try_map_writable(void)
{
	return each_object(ACCESS_READ, map_writable);
}

static int try_make_writable(void)
{
	return each_object(ACCESS_READ, make_writable);
}

static int try_write(void)
{
	return each_object(ACCESS_READ, write_object);
}

static int try_resize(void)
{
	return each_object(ACCESS_WRITE, resize);
}

static int try_seal(void)
{
	return each_object(ACCESS_READ, seal);
}

static int try_store(void)
{
	return each_object(ACCESS_READ, store);
}

static int try_other(void)
{
	return each_object(ACCESS_NONE, touch_fd);
}

static int try_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? errno : 0;
}

static int try_own_code(void)
{
	return end_of(mprotect((void *)((uintptr_t)try_own_code & ~4095ul), 4096,
			       PROT_READ | PROT_WRITE | PROT_EXEC));
}

static int try_fork(void)
{
	return end_of(syscall(SYS_fork));
}

static int try_socket(void)
{
	return end_of(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int try_uring(void)
{
	char params[256] = {0};

	return end_of(syscall(SYS_io_uring_setup, 8, params));
}

static int try_memfd(void)
{
	return end_of(memfd_create("more", 0));
}

/* A call of the 32-bit world: its getpid has the number of writev here. */
static int try_old_call(void)
{
	long rc;

	__asm__ volatile("int $0x80" : "=a"(rc) : "a"(20), "b"(0) : "memory");
	return rc < 0 ? (int)-rc : 0;
}

static int try_x32_call(void)
{
	return end_of(syscall(0x40000000 + SYS_getpid));
}

static const struct thing {
	const char *name;
	int (*act)(void);
	bool walls; /* to be stopped by init's walls alone */
} things[] = {
	{"open a file", try_open, true},
	{"open through /proc", try_proc, true},
	{"create a file", try_create, true},
	{"leave its root", try_up, true},
	{"send", try_network, true},
	{"exec", try_exec, true},
	{"ptrace another", try_ptrace, true},
	{"signal another", try_kill, true},
	{"mount", try_mount, true},
	{"become root", try_root, true},
	{"make a namespace", try_namespace, true},
	{"real time", try_nice, true},
	{"lock memory", try_lock, true},
	{"map what it reads writable", try_map_writable, true},
	{"make what it reads writable", try_make_writable, true},
	{"write what it reads", try_write, true},
	{"store into what it reads", try_store, true},
	{"resize what it writes", try_resize, true},
	{"seal what it reads", try_seal, true},
	{"see what is another's", try_other, true},
	{"SysV memory", try_shm, false},
	{"map code", try_code, false},
	{"rewrite its code", try_own_code, false},
	{"fork", try_fork, false},
	{"socket", try_socket, false},
	{"io_uring", try_uring, false},
	{"memfd", try_memfd, false},
	{"32-bit call", try_old_call, false},
	{"x32 call", try_x32_call, false},
};

enum {
	THINGS = sizeof(things) / sizeof(things[0])
};
_Static_assert(2 * THINGS <= 64, "a log object has room for all ends");

/* ---- Trying ---- */

/* Not every role can so much as exit, so what a try has come to is left in memory. */
static uint64_t attempt(const struct thing *t, bool sandboxed, unsigned who)
{
	static volatile int *end; /* 1 + an errno */
	struct err e = {0};
	int status;
	pid_t pid;

	if (!end)
		end = mmap(NULL, sizeof(*end), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			   -1, 0);
	*end = 0;
	pid = fork();
	if (pid < 0)
		return 0;
	if (!pid) {
		if (sandboxed && (sandbox_files(at.node->sandbox_lacks, &e) ||
				  sandbox_calls(who, at.node->sandbox_lacks, &e)))
			*end = 1; /* a test that does not begin has not passed */
		else
			*end = 1 + t->act();
		syscall(SYS_exit_group, 0);
	}
	waitpid(pid, &status, 0);
	return *end ? (uint64_t)*end - 1 : ENDED + (uint64_t)WTERMSIG(status);
}

static enum role role_named(const char *program, const char *argument)
{
	for (unsigned r = ROLE_INIT + 1; r < ROLE_COUNT; r++) {
		const char *name = r <= ROLE_LOADER ? argument : program;

		if (name &&
		    !strcasecmp(r <= ROLE_LOADER ? graph_roles[r].name : graph_roles[r].program,
				name))
			return (enum role)r;
	}
	return ROLE_CLIENT; /* as `score` */
}

int main(int argc, char **argv)
{
	struct err e = {0};
	enum role role = role_named(argv[0], argc > 1 ? argv[1] : NULL);
	unsigned who = strcmp(argv[0], "score") ? (unsigned)role : SANDBOX_SCORE;

	if (attach_open(&at, role, &e)) {
		fprintf(stderr, "penstock: %s: %s\n", argv[0], e.text);
		return 1;
	}
	for (unsigned i = 0; i < 2 * THINGS; i++) {
		const struct thing *t = &things[i % THINGS];
		bool sandboxed = i >= THINGS;
		uint64_t end = sandboxed || t->walls ? attempt(t, sandboxed, who) : EPERM;

		fprintf(stderr, "%s: %s: %s: %llu\n",
			who == (unsigned)role ? graph_roles[role].name : "SCORE",
			sandboxed ? "sandbox" : "walls", t->name, (unsigned long long)end);
		if (at.log)
			/* + 1: it was tried; relaxed: read when all are there */
			atomic_store_explicit(&at.log->counter[i], end + 1, memory_order_relaxed);
	}
	if (role == ROLE_SURVEY || role == ROLE_LOADER || who == SANDBOX_SCORE)
		return 1;
	for (;;)
		bell_wait(&at.bells->bell[role][1], UINT64_MAX);
}
