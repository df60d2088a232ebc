/* Landlock and seccomp; see sandbox.h. */
#include "ipc/sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What one argument of a call must be. Only the lower 32 bits of any matter to these calls. */
enum test {
	ANY,
	EQUAL, /* argument == value */
	HAS,   /* all bits of value are set */
	LACKS  /* no bit of value is set */
};

struct rule {
	const char *name; /* as a reader should see it */
	uint32_t call;
	uint8_t argument;
	uint8_t test;
	uint32_t value;
};

#define CALL(x)                                                                                    \
	{                                                                                          \
		.name = #x, .call = SYS_##x                                                        \
	}
#define IF(x, arg, t, v, s)                                                                        \
	{                                                                                          \
		.name = #x "(" s ")", .call = SYS_##x, .argument = arg, .test = t, .value = v      \
	}

/* ---- The tables: each line is needed (tests/e2e/needed.t takes it out) ---- */

/* Waiting and waking, and a clock of the kernel's where the vDSO has none. */
#define SERVER_RULES CALL(futex), CALL(clock_gettime)

/* A wait with a time limit goes on by this after an interruption. */
#define TIMED_RULES CALL(restart_syscall)

static const struct rule client_rules[] = {
	SERVER_RULES,
	TIMED_RULES,
	CALL(exit_group),
	IF(write, 0, EQUAL, FD_BELL, "the bell of init"),
	IF(madvise, 2, EQUAL, MADV_DONTNEED, "DONTNEED"),
	IF(madvise, 2, EQUAL, MADV_REMOVE, "REMOVE"),
};

/* The memory of a log that nobody reads any more goes back. */
static const struct rule router_rules[] = {
	SERVER_RULES,
	IF(madvise, 2, EQUAL, MADV_REMOVE, "REMOVE"),
};

static const struct rule mla_rules[] = {
	SERVER_RULES,
};

static const struct rule experts_rules[] = {
	SERVER_RULES,
	TIMED_RULES,
	IF(io_uring_enter, 0, EQUAL, FD_URING, "the ring of init"),
};

/* The one that stands in for a GPU. */
static const struct rule cuda_rules[] = {
	SERVER_RULES,
	TIMED_RULES,
};

/*
 * What libcuda does once context, kernel and memory are there is not ours to know: it talks to the
 * driver, waits, and has memory of its own. No file is opened any more, nothing becomes code.
 */
static const struct rule gpu_rules[] = {
	SERVER_RULES,
	TIMED_RULES,
	CALL(ioctl),
	CALL(poll),
	CALL(ppoll),
	CALL(read),
	CALL(write),
	CALL(sched_yield),
	CALL(clock_nanosleep),
	CALL(getpid),
	CALL(gettid),
	CALL(brk),
	IF(mmap, 2, LACKS, PROT_EXEC, "no code"),
	IF(mprotect, 2, LACKS, PROT_EXEC, "no code"),
	CALL(munmap),
	CALL(madvise),
	CALL(rt_sigprocmask),
	CALL(exit_group),
};

static const struct rule scribe_rules[] = {
	CALL(futex),
	TIMED_RULES,
	CALL(exit_group),
	IF(writev, 0, EQUAL, 2, "stderr"),
	IF(write, 0, EQUAL, FD_TRACE, "the trace"),
	IF(write, 0, EQUAL, FD_RECORDER, "the recorder"),
};

/* Parsing hostile files takes memory, never code. */
#define MEMORY_RULES IF(mmap, 2, LACKS, PROT_EXEC, "no code"), CALL(munmap), CALL(brk)

static const struct rule survey_rules[] = {
	MEMORY_RULES,     CALL(mremap), CALL(pread64), IF(writev, 0, EQUAL, 2, "stderr"),
	CALL(exit_group),
};

static const struct rule loader_rules[] = {
	MEMORY_RULES,
	CALL(madvise),
	CALL(pread64),
	CALL(futex),
	IF(mprotect, 2, LACKS, PROT_EXEC, "no code"), /* stacks have guards */
	IF(clone, 0, HAS, CLONE_THREAD, "threads"),
	CALL(rt_sigprocmask),
	CALL(exit),
	IF(writev, 0, EQUAL, 2, "stderr"),
	CALL(exit_group),
};

static const struct rule score_rules[] = {
	SERVER_RULES,
	CALL(writev),
	CALL(pwrite64),
	CALL(exit_group),
};

static const struct {
	const struct rule *rule;
	unsigned n;
} tables[SANDBOX_COUNT] = {
#define TABLE(t)                                                                                   \
	{                                                                                          \
		t, sizeof(t) / sizeof(*(t))                                                        \
	}
	[ROLE_SURVEY] = TABLE(survey_rules),  [ROLE_LOADER] = TABLE(loader_rules),
	[ROLE_CLIENT] = TABLE(client_rules),  [ROLE_ROUTER] = TABLE(router_rules),
	[ROLE_MLA] = TABLE(mla_rules),        [ROLE_EXPERTS] = TABLE(experts_rules),
	[ROLE_SCRIBE] = TABLE(scribe_rules),  [ROLE_CUDA] = TABLE(cuda_rules),
	[SANDBOX_SCORE] = TABLE(score_rules), [SANDBOX_GPU] = TABLE(gpu_rules),
};

/* ---- What the kernel has ---- */

unsigned sandbox_lacks(void)
{
	uint32_t kill = SECCOMP_RET_KILL_PROCESS;
	unsigned lacks = 0;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1)
		lacks |= SANDBOX_NO_LANDLOCK;
	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &kill))
		lacks |= SANDBOX_NO_SECCOMP;
	return lacks;
}

void sandbox_lack_names(unsigned lacks, char names[SANDBOX_NAMES])
{
	static const char *const name[] = {"Landlock",
					   "seccomp",
					   "a user",
					   "a mount namespace",
					   "a network namespace",
					   "an IPC namespace",
					   "a PID namespace"};
	size_t at = 0;

	names[0] = 0;
	for (unsigned i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
		bool last = !(lacks >> i >> 1);

		if (lacks >> i & 1)
			at += (size_t)snprintf(names + at, SANDBOX_NAMES - at, "%s%s",
					       !at    ? ""
					       : last ? " and "
						      : ", ",
					       name[i]);
	}
}

/* ---- Files and capabilities ---- */

/* Rights of the file system by version of Landlock: all are taken away, none is given back. */
static uint64_t file_rights(long version)
{
	const unsigned bits[] = {13, 14, 15, 15, 16};
	long last = (long)(sizeof(bits) / sizeof(bits[0]));

	return (1ull << bits[(version < last ? version : last) - 1]) - 1;
}

static int close_files(struct err *e)
{
	/* the later fields do not exist for an older kernel, which is told a smaller size */
	struct {
		uint64_t files, network, scopes;
	} rights;
	long version =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	size_t size = version < 4 ? 8 : version < 6 ? 16 : 24;
	int fd, rc;

	if (version < 1)
		return err_set(e, -errno, "Landlock: %s", strerror(errno));
	rights.files = file_rights(version);
	rights.network = 3; /* bind and connect, TCP */
	rights.scopes = 3;  /* abstract sockets and signals outside */
	fd = (int)syscall(SYS_landlock_create_ruleset, &rights, size, 0);
	if (fd < 0)
		return err_set(e, -errno, "Landlock: no ruleset: %s", strerror(errno));
	rc = (int)syscall(SYS_landlock_restrict_self, fd, 0);
	if (rc)
		err_set(e, -errno, "Landlock: %s", strerror(errno));
	close(fd);
	return rc ? e->code : 0;
}

static int drop_capabilities(struct err *e)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct none[2] = {{0}, {0}};

	return syscall(SYS_capset, &h, none)
		       ? err_set(e, -errno, "capabilities: %s", strerror(errno))
		       : 0;
}

int sandbox_files(unsigned lacks, struct err *e)
{
	int rc;

	/* a core dump would hold clients' text, and /proc/PID/mem is nobody's business */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return err_set(e, -errno, "prctl: %s", strerror(errno));
	rc = lacks & SANDBOX_NO_LANDLOCK ? 0 : close_files(e);
	return rc ? rc : drop_capabilities(e);
}

/* ---- System calls ---- */

enum {
	RULE_CODE = 6, /* instructions of a rule at most */
	HEAD_CODE = 4, /* and before them */
	PROGRAM_CODE = HEAD_CODE + 32 * RULE_CODE
};

struct program {
	struct sock_filter code[PROGRAM_CODE];
	unsigned short n;
};

static void put(struct program *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
	p->code[p->n++] = (struct sock_filter){.code = code, .jt = yes, .jf = no, .k = k};
}

/* Allows the call if its argument passes; else goes on behind the rule. */
static void put_rule(struct program *p, const struct rule *r)
{
	const uint16_t load = BPF_LD | BPF_W | BPF_ABS, jump = BPF_JMP | BPF_K;
	uint32_t argument = (uint32_t)offsetof(struct seccomp_data, args) +
			    8u * r->argument; /* its lower half */

	put(p, load, offsetof(struct seccomp_data, nr), 0, 0);
	if (r->test == ANY) {
		put(p, jump | BPF_JEQ, r->call, 0, 1);
	} else {
		put(p, jump | BPF_JEQ, r->call, 0, r->test == HAS ? 4 : 3);
		put(p, load, argument, 0, 0);
		if (r->test == HAS)
			put(p, BPF_ALU | BPF_AND | BPF_K, r->value, 0, 0);
		if (r->test == LACKS)
			put(p, jump | BPF_JSET, r->value, 1, 0);
		else
			put(p, jump | BPF_JEQ, r->value, 0, 1);
	}
	put(p, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

int sandbox_calls(unsigned who, unsigned lacks, struct err *e)
{
	struct program p = {.n = 0};
	struct sock_fprog f = {.filter = p.code};

	if (lacks & SANDBOX_NO_SECCOMP)
		return 0;
	put(&p, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
	put(&p, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	put(&p, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	for (unsigned i = 0; i < tables[who].n; i++)
		put_rule(&p, &tables[who].rule[i]);
	put(&p, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	f.len = p.n;
	/* all threads at once: those of the team run already */
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &f)
		       ? err_set(e, errno ? -errno : -ESRCH, "seccomp: %s", strerror(errno))
		       : 0;
}

void sandbox_list(unsigned who, char *text, size_t size)
{
	size_t at = 0;

	for (unsigned i = 0; i < tables[who].n && at < size; i++) {
		int put = snprintf(text + at, size - at, "%s%s", at ? ", " : "",
				   tables[who].rule[i].name);

		at += put < 0 ? 0 : (size_t)put;
	}
}
