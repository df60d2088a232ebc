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

/*
 * The roles, and `score` and the `cuda` of a GPU, which need more than the gateway and the stand-in
 * in whose places they run.
 */
enum {
	SANDBOX_SCORE = ROLE_COUNT,
	SANDBOX_GPU,
	SANDBOX_COUNT
};

/* What a machine may lack: bits. The last five are found out by boot/confine.h. */
enum sandbox_lack {
	SANDBOX_NO_LANDLOCK = 1,
	SANDBOX_NO_SECCOMP = 2,
	SANDBOX_NO_USER = 4,
	SANDBOX_NO_MOUNT = 8,
	SANDBOX_NO_NETWORK = 16,
	SANDBOX_NO_IPC = 32,
	SANDBOX_NO_PID = 64
};

enum {
	SANDBOX_NAMES = 200 /* bytes that the names of all take at most */
};

/* Which of the first two it lacks. Asks the kernel; nothing changes. */
unsigned sandbox_lacks(void);

/* The names of what is lacking, "Landlock and a network namespace" say. */
void sandbox_lack_names(unsigned lacks, char names[SANDBOX_NAMES]);

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
