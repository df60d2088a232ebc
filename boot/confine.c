/* Users and namespaces; see confine.h. */
#include "boot/confine.h"

#include "ipc/graph.h"
#include "ipc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWPID)

/*
 * Two ranges of users that belong to nobody: one that systemd leaves alone, with sixteen for every
 * node of the machine, and for containers that have no numbers so large the end of the range for
 * services.
 */
enum {
	USERS_LARGE = 0x70000000,
	USERS_SMALL = 65400
};

#define ROOT_PLACE "/sys" /* as /proc below, and needed by nobody meanwhile */

/*
 * Nothing to be seen: a file system without a file, and no way out of it. /proc is only a place
 * that is sure to be there, and a mount of its own. The first and the last step have a second form
 * for a node that was itself started in a chroot.
 */
static int empty_root(void)
{
	if ((mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	     mount(NULL, "/proc", NULL, MS_PRIVATE, NULL)) ||
	    mount("none", "/proc", "tmpfs", MS_RDONLY | MS_NOEXEC | MS_NOSUID | MS_NODEV,
		  "size=4k,nr_inodes=1") ||
	    chdir("/proc"))
		return -1;
	if (syscall(SYS_pivot_root, ".", ".") ? chroot(".") : umount2(".", MNT_DETACH))
		return -1;
	return chdir("/");
}

/* The folders of a path below ROOT_PLACE, and an empty file at its end. */
static int make_place(char *path)
{
	int fd;

	for (char *p = path + sizeof(ROOT_PLACE); *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		mkdir(path, 0755);
		*p = '/';
	}
	fd = open(path, O_CREAT | O_RDONLY | O_CLOEXEC, 0644);
	return fd < 0 ? -1 : close(fd);
}

/*
 * The same with a few files of the machine in it, none of which can be written; a device's file is
 * no exception, but what is behind it is another matter. What libcuda asks /proc is there where the
 * kernel lets it be mounted: of this process and no other.
 */
static int filled_root(const struct confine_root *root)
{
	static const char place[] = ROOT_PLACE;
	char path[sizeof(place) + PATH_MAX];

	if ((mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	     mount(NULL, place, NULL, MS_PRIVATE, NULL)) ||
	    mount("none", place, "tmpfs", MS_NOSUID, "size=64k,nr_inodes=128,mode=755"))
		return -1;
	for (unsigned i = 0; i < root->n; i++) {
		memcpy(path, place, sizeof(place));
		strncat(path, root->file[i].path, PATH_MAX - 1);
		if (make_place(path) || mount(root->file[i].path, path, NULL, MS_BIND, NULL))
			return -1;
		/* where it may not be said a second time, the file's own mode says it */
		(void)mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
	}
	mkdir(ROOT_PLACE "/proc", 0755);
	(void)mount("proc", ROOT_PLACE "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	if (chdir(place) ||
	    (syscall(SYS_pivot_root, ".", ".") ? chroot(".") : umount2(".", MNT_DETACH)) ||
	    mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL))
		return -1;
	return chdir("/");
}

const char *confine_enter(const struct confine *c, unsigned role, const struct confine_root *root)
{
	uid_t user = c->users + role;

	if (c->flags & CLONE_NEWNS && (root ? filled_root(root) : empty_root()))
		return "its file system cannot be taken away";
	if (!c->users)
		return NULL;
	/* the libc's own would want to tell threads that a fork has not brought along */
	if (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, user, user, user) ||
	    syscall(SYS_setresuid, user, user, user))
		return "it cannot have a user of its own";
	/* a user namespace beside the user is one more wall; some machines keep it for root */
	if (unshare(CLONE_NEWUSER) && errno != EPERM && errno != ENOSYS && errno != EINVAL &&
	    errno != ENOSPC && errno != EUSERS)
		return "it cannot have a user namespace of its own";
	return NULL;
}

/* Whether a process can be made so, and killed afterwards. */
static bool works(const struct confine *c)
{
	long pid = syscall(SYS_clone, c->flags | SIGCHLD, NULL, NULL, NULL, NULL);
	siginfo_t si;
	bool good;

	if (pid == 0)
		_exit(confine_enter(c, ROLE_CLIENT, NULL) ? 1 : 0);
	if (pid < 0)
		return false;
	while (waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT) && errno == EINTR)
		;
	good = si.si_code == CLD_EXITED && !si.si_status && !kill((pid_t)pid, 0);
	while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
		;
	return good;
}

/* One way to have it all. */
struct way {
	uid_t users;
	uint64_t flags;
};

/* As much of it as there is: each namespace by itself. */
static unsigned find_part(struct confine *c, const struct way *w)
{
	static const struct {
		uint64_t flag;
		unsigned lack;
	} parts[] = {
		{CLONE_NEWNS, SANDBOX_NO_MOUNT},
		{CLONE_NEWNET, SANDBOX_NO_NETWORK},
		{CLONE_NEWIPC, SANDBOX_NO_IPC},
		{CLONE_NEWPID, SANDBOX_NO_PID},
	};
	unsigned lacks = 0;

	*c = (struct confine){.flags = w->flags & CLONE_NEWUSER, .users = w->users};
	if (!works(c)) {
		*c = (struct confine){0};
		lacks = SANDBOX_NO_USER;
	}
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		c->flags |= parts[i].flag;
		if (works(c))
			continue;
		c->flags &= ~parts[i].flag;
		lacks |= parts[i].lack;
	}
	return lacks;
}

unsigned confine_find(struct confine *c)
{
	const struct way ways[] = {
		{USERS_LARGE + (uid_t)getpid() % (1 << 22) * 16, NAMESPACES},
		{USERS_SMALL, NAMESPACES},
		{0, NAMESPACES | CLONE_NEWUSER},
	};
	struct confine best = {0};
	unsigned least = ~0u;

	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		*c = (struct confine){.flags = ways[i].flags, .users = ways[i].users};
		if (works(c))
			return 0;
	}
	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		unsigned lacks = find_part(c, &ways[i]);

		if (__builtin_popcount(lacks) >= __builtin_popcount(least))
			continue;
		least = lacks;
		best = *c;
	}
	*c = best;
	return least;
}
