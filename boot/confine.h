/*
 * A user and namespaces of its own for every server (machinery's promise 5): what this machine
 * allows is found out once, by trying it, and every new process enters it between fork and exec.
 * Two ways lead there. With root's capabilities each role of each node has a user number that
 * nobody else has, and namespaces made by that privilege; an ordinary user, or a root without
 * them, gets the namespaces within a user namespace in which the process is nobody. Either way its
 * root folder is empty (that of the role `cuda` has libcuda and what that needs, boot/gpu.h) and
 * cannot be left. Called by boot/start.c and boot/spawn.c.
 */
#ifndef BOOT_CONFINE_H
#define BOOT_CONFINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A file of the machine that a role's root folder has, under the same name. */
struct confine_file {
	const char *path;
};
struct confine_root {
	const struct confine_file *file;
	unsigned n;
};

struct confine {
	uint64_t flags; /* of clone: the new process's own namespaces */
	uid_t users;    /* role r is user and group users + r; 0: the user of init */
};

/* Tries; returns what cannot be had: bits of enum sandbox_lack. */
unsigned confine_find(struct confine *c);

/*
 * In the process that clone has made with those flags, by system calls alone. Leaves nothing open,
 * so descriptors that it had it still has. `root`: what its root folder has, NULL: nothing. NULL,
 * or what could not be done (errno).
 */
const char *confine_enter(const struct confine *c, unsigned role, const struct confine_root *root);

/* Whether the process is alone among the processes of its user, so that they can be limited. */
static inline bool confine_alone(const struct confine *c)
{
	const uint64_t new_user = 0x10000000; /* CLONE_NEWUSER */

	return c->users || c->flags & new_user;
}

#endif
