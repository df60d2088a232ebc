/*
 * A node of the benchmark's own: a child on a socket in a temporary folder, or somebody else's; see
 * bench.h.
 */
#include "runtime/cli/bench.h"

#include "runtime/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	LOOK_MS = 2,  /* at a node that starts */
	TRIES = 1000, /* at a node that lives and gives no counters */
	STOP_S = 40,  /* more than a node's own deadline for running replies */
	TAIL = 4096   /* of what it has printed */
};

static void sleep_ms(long ms)
{
	const struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

static uint64_t realtime_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int make_folder(struct bench_node *n, struct err *e)
{
	const char *where = getenv("TMPDIR");

	if (asprintf(&n->folder, "%s/penstock-bench.XXXXXX", where && *where ? where : "/tmp") < 0)
		n->folder = NULL;
	if (!n->folder)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory");
	if (!mkdtemp(n->folder)) {
		err_set(e, -errno, "cannot make a temporary folder: %s", strerror(errno));
		free(n->folder);
		n->folder = NULL;
		return e->code;
	}
	if (asprintf(&n->socket, "%s/s", n->folder) < 0)
		n->socket = NULL;
	if (asprintf(&n->log, "%s/log", n->folder) < 0)
		n->log = NULL;
	return n->socket && n->log ? 0 : err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory");
}

/* In the child: never returns. */
static _Noreturn void become_init(const struct bench_node *n, int argc, char **argv,
				  const cpu_set_t *cpus)
{
	char path[PATH_MAX], *args[BENCH_ARGS + 8];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - sizeof("init"));
	int log = open(n->log, O_WRONLY | O_CREAT | O_APPEND, 0600);

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (log < 0 || len < 0)
		_exit(STATUS_FAILED);
	dup2(log, 1);
	dup2(log, 2);
	close(log);
	sched_setaffinity(0, sizeof(*cpus), cpus);
	path[len] = '\0';
	strcpy(strrchr(path, '/') + 1, "init");
	args[0] = path;
	for (int i = 1; i < argc; i++)
		args[i] = argv[i];
	args[argc] = (char *)(uintptr_t) "--socket";
	args[argc + 1] = n->socket;
	args[argc + 2] = NULL;
	execv(path, args);
	dprintf(2, "penstock: cannot start %s: %s\n", path, strerror(errno));
	_exit(STATUS_FAILED);
}

/* The node has ended: its last message is ours, and its status. */
static int ended(const struct bench_node *n, int status, struct err *e)
{
	char text[TAIL + 1];
	int fd = open(n->log, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	ssize_t len = fd < 0 ? 0 : pread(fd, text, TAIL, size > TAIL ? size - TAIL : 0);
	char *line;

	if (fd >= 0)
		close(fd);
	text[len > 0 ? len : 0] = '\0';
	while (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	if (!strncmp(line, "penstock: ", 10))
		line += 10;
	if (WIFSIGNALED(status))
		return err_set(e, -EIO, "the node was killed by signal %d. It said: %s",
			       WTERMSIG(status), line);
	return err_exit(e,
			WEXITSTATUS(status) ? (enum err_status)WEXITSTATUS(status) : STATUS_FAILED,
			-EIO, "%s", *line ? line : "the node ended without a word");
}

int bench_node_alive(struct bench_node *n, struct err *e)
{
	int status;

	if (!n->pid || waitpid(n->pid, &status, WNOHANG) != n->pid)
		return 0;
	n->pid = 0;
	return ended(n, status, e);
}

static int start(struct bench_node *n, int argc, char **argv, const cpu_set_t *cpus, struct err *e)
{
	int rc = make_folder(n, e);

	if (rc)
		return rc;
	n->begun_ns = realtime_ns();
	n->pid = fork();
	if (n->pid < 0) {
		n->pid = 0;
		return err_set(e, -errno, "cannot start a node: %s", strerror(errno));
	}
	if (!n->pid)
		become_init(n, argc, argv, cpus);
	return 0;
}

int bench_node_open(struct bench_node *n, const char *socket, int argc, char **argv,
		    const cpu_set_t *cpus, struct err *e)
{
	char path[PATH_MAX];
	int rc, tries = 0;

	memset(n, 0, sizeof(*n));
	if (socket) {
		n->socket = strdup(socket);
		return n->socket ? watch_open(&n->watch, socket, e)
				 : err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory");
	}
	rc = start(n, argc, argv, cpus, e);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s%s", n->socket, WATCH_SUFFIX);
	while (access(path, F_OK)) { /* made when the model's files are open */
		rc = bench_node_alive(n, e);
		if (rc)
			return rc;
		if (bench_interrupted)
			return err_exit(e, STATUS_CTRL_C, -EINTR, "interrupted");
		sleep_ms(LOOK_MS);
	}
	for (;;) { /* it answers when the survey is done */
		struct err not_yet = {0};

		rc = watch_open(&n->watch, n->socket, &not_yet);
		if (!rc)
			return 0;
		rc = bench_node_alive(n, e);
		if (rc)
			return rc;
		if (bench_interrupted)
			return err_exit(e, STATUS_CTRL_C, -EINTR, "interrupted");
		if (not_yet.code != -EAGAIN && ++tries > TRIES)
			return err_set(e, not_yet.code, "%s", not_yet.text);
		sleep_ms(LOOK_MS);
	}
}

double bench_node_ready(const struct bench_node *n)
{
	const struct log_object *log = n->watch.log[0];
	uint64_t head;

	if (!n->begun_ns)
		return -1;
	/* acquire: pairs with log_write's release */
	head = atomic_load_explicit(&log->head, memory_order_acquire);
	for (uint64_t i = head > LOG_RECORDS ? head - LOG_RECORDS : 0; i < head; i++) {
		const struct log_record *r = &log->record[i % LOG_RECORDS];

		if (r->kind == LOG_STAGE && r->arg[0] == STAGE_READY && r->time_ns > n->begun_ns)
			return (double)(r->time_ns - n->begun_ns) * 1e-9;
	}
	return -1;
}

static void stop(const struct bench_node *n)
{
	int status;

	kill(n->pid, SIGTERM);
	for (unsigned ms = 0; waitpid(n->pid, &status, WNOHANG) == 0; ms += LOOK_MS) {
		if (ms > STOP_S * 1000)
			kill(n->pid, SIGKILL);
		sleep_ms(LOOK_MS);
	}
}

void bench_node_close(struct bench_node *n)
{
	watch_close(&n->watch);
	if (n->pid)
		stop(n);
	if (n->folder) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s%s", n->socket, WATCH_SUFFIX);
		unlink(path); /* left over only where the node was killed */
		unlink(n->socket);
		unlink(n->log);
		rmdir(n->folder);
	}
	free(n->folder);
	free(n->socket);
	free(n->log);
	memset(n, 0, sizeof(*n));
}
