/*
 * Starts one process with exactly its descriptors: the numbers of ipc/graph.h, nothing else open,
 * no environment, a session, a user and namespaces of its own (boot/confine.h), limits on what it
 * may use, no core dump, no way to gain privileges, and no life beyond init's.
 * Called by boot/supervise.c, on init's first thread only (PDEATHSIG follows the thread that
 * forks).
 */
#ifndef BOOT_SPAWN_H
#define BOOT_SPAWN_H

#include "boot/confine.h"
#include "ipc/graph.h"
#include "runtime/err.h"

#include <sched.h>
#include <stdbool.h>
#include <sys/types.h>

enum {
	SPAWN_FDS = 1100 /* objects, files, and a few */
};

struct spawn {
	const char *name;                /* argv[0] */
	const char *argument;            /* argv[1], or NULL */
	const char *more[2];             /* the next two */
	const struct confine_root *root; /* what its root folder has; NULL: nothing */
	/* the executable, open: successors are of the same build even after an upgrade */
	int program;
	enum role role;
	struct confine confine;
	int self;      /* init's own pidfd: whether init still lives */
	bool messages; /* 2 is init's own stderr; else /dev/null */
	bool report;   /* 1 is init's own stdout; else /dev/null */
	bool parses;   /* it allocates as a hostile file says, so not without end */
	cpu_set_t cpus;
	unsigned n;
	struct {
		int from, to; /* ascending in `to`, above 2 */
	} fd[SPAWN_FDS];
};

static inline void spawn_give(struct spawn *s, int from, int to)
{
	s->fd[s->n].from = from;
	s->fd[s->n].to = to;
	s->n++;
}

/* Starts it; *pidfd tells of its death. Returns the pid, or -errno with a text. */
MUST_CHECK pid_t spawn_start(const struct spawn *s, int *pidfd, struct err *e);

#endif
