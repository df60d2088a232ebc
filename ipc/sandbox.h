/*
 * What a server may do once it has opened everything: no file system and no network (Landlock with
 * an empty ruleset), and the few system calls of its line in the table (seccomp; any other ends the
 * process with SIGSYS). Descriptors, user and namespaces are init's part (boot/spawn.h). The tables
 * stand here beside ipc/graph.h because both say what a role is. Called by every server's main, and
 * by init, which asks beforehand what the kernel has.
 */
#ifndef IPC_SANDBOX_H
#define IPC_SANDBOX_H

#include "ipc/graph.h"
#include "runtime/err.h"

#include <stddef.h>

/* The roles, and `score`, which needs more than the gateway in whose place it runs. */
enum {
	SANDBOX_SCORE = ROLE_COUNT,
	SANDBOX_COUNT
};

/* What a kernel may lack: bits. */
enum sandbox_lack {
	SANDBOX_NO_LANDLOCK = 1,
	SANDBOX_NO_SECCOMP = 2
};

/* Asks the kernel; nothing changes. */
unsigned sandbox_lacks(void);

/* The names of what is lacking, "Landlock and seccomp" say. */
const char *sandbox_lack_names(unsigned lacks);

/*
 * Takes files, network and capabilities away from the calling thread and those that it starts
 * later: before the first thread. What stands in `lacks` is left out.
 */
MUST_CHECK int sandbox_files(unsigned lacks, struct err *e);

/*
 * Leaves all threads of the process the system calls of `who` (a role or SANDBOX_SCORE) alone: the
 * last act before the loop.
 */
MUST_CHECK int sandbox_calls(unsigned who, unsigned lacks, struct err *e);

/* The allowed calls of `who`, "futex, exit, ..." into text, cut where it does not fit. */
void sandbox_list(unsigned who, char *text, size_t size);

#endif
