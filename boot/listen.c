/* The listening socket; see listen.h. */
#include "boot/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define RUN_FOLDER  "/run/penstock"
#define SOCKET_NAME "/penstock.sock"

enum {
	FIRST_PASSED = 3, /* sd_listen_fds(3) */
	BACKLOG = 512
};

/* ---- A socket from outside ---- */

/* 1: taken, 0: none was passed. */
static int take_passed(struct listen_socket *s, struct err *e)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	int listening = 0, type = 0, domain = 0;
	socklen_t len = sizeof(int);

	if (!pid || !fds || strtoul(pid, NULL, 10) != (unsigned long)getpid() || !strcmp(fds, "0"))
		return 0;
	if (strcmp(fds, "1"))
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"LISTEN_FDS=%s: exactly one socket can be served", fds);
	if (getsockopt(FIRST_PASSED, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) || !listening ||
	    getsockopt(FIRST_PASSED, SOL_SOCKET, SO_TYPE, &type, &len) || type != SOCK_STREAM ||
	    getsockopt(FIRST_PASSED, SOL_SOCKET, SO_DOMAIN, &domain, &len) || domain != AF_UNIX)
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"LISTEN_FDS: descriptor 3 is not a listening Unix stream socket");
	s->fd = FIRST_PASSED;
	fcntl(s->fd, F_SETFD, FD_CLOEXEC);
	fcntl(s->fd, F_SETFL, O_NONBLOCK);
	return 1;
}

/* ---- One of our own ---- */

static int choose_path(struct listen_socket *s, const char *path, struct err *e)
{
	const char *user = getenv("XDG_RUNTIME_DIR");
	int n;

	if (path)
		n = snprintf(s->path, sizeof(s->path), "%s", path);
	else if ((!mkdir(RUN_FOLDER, 0755) || errno == EEXIST) && !access(RUN_FOLDER, W_OK))
		n = snprintf(s->path, sizeof(s->path), "%s", RUN_FOLDER SOCKET_NAME);
	else if (user && *user)
		n = snprintf(s->path, sizeof(s->path), "%s%s", user, SOCKET_NAME);
	else
		return err_exit(e, STATUS_FAILED, -EACCES,
				"socket: " RUN_FOLDER
				" cannot be written and XDG_RUNTIME_DIR is not "
				"set. Name a path with --socket");
	if (n <= 0 || n >= (int)sizeof(s->path))
		return err_exit(
			e, STATUS_USAGE, -ENAMETOOLONG,
			"socket: a path has 1 to %zu bytes, this one has %d. Choose a shorter one",
			sizeof(s->path) - 1, n);
	return 0;
}

static void set_address(struct sockaddr_un *a, const struct listen_socket *s)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	memcpy(a->sun_path, s->path, strlen(s->path));
}

/*
 * What stands in our way: nothing or a socket that nobody serves (then it is taken away), else an
 * error.
 */
static int clear_path(const struct listen_socket *s, struct err *e)
{
	struct sockaddr_un a;
	struct stat st;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd, rc;

	if (lstat(s->path, &st))
		return 0; /* bind will say what is wrong */
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST,
			       "socket: %s exists and is not a socket. Remove it, or name "
			       "another path with --socket",
			       s->path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	set_address(&a, s);
	rc = connect(fd, (struct sockaddr *)&a, sizeof(a)) ? -errno : 0;
	if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		peer.pid = 0;
	close(fd);
	if (rc == -ECONNREFUSED)
		return unlink(s->path)
			       ? err_set(e, -errno, "socket: cannot remove the stale %s: %s",
					 s->path, strerror(errno))
			       : 0;
	if (rc == 0)
		return err_set(
			e, -EADDRINUSE,
			"socket: process %ld already answers on %s. Stop it, or name another "
			"path with --socket",
			(long)peer.pid, s->path);
	return err_set(e, -EADDRINUSE,
		       "socket: somebody listens on %s: %s. Name another path with --socket",
		       s->path, strerror(-rc));
}

static int bind_path(struct listen_socket *s, struct err *e)
{
	struct sockaddr_un a;
	struct stat st;
	mode_t before;
	int rc;

	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	set_address(&a, s);
	before = umask(0117);
	rc = bind(s->fd, (struct sockaddr *)&a, sizeof(a)) ? -errno : 0;
	umask(before);
	if (rc)
		return err_set(e, rc, "socket: cannot make %s: %s. Name another path with --socket",
			       s->path, strerror(-rc));
	if (listen(s->fd, BACKLOG) || lstat(s->path, &st))
		return err_set(e, -errno, "socket: cannot listen on %s: %s", s->path,
			       strerror(errno));
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	s->ours = true;
	return 0;
}

int listen_open(struct listen_socket *s, const char *path, struct err *e)
{
	int rc;

	memset(s, 0, sizeof(*s));
	s->fd = -1;
	rc = take_passed(s, e);
	if (rc)
		return rc < 0 ? rc : 0;
	rc = choose_path(s, path, e);
	if (!rc)
		rc = clear_path(s, e);
	return rc ? rc : bind_path(s, e);
}

int listen_beside(struct listen_socket *s, const struct listen_socket *main, const char *suffix,
		  struct err *e)
{
	int rc;

	memset(s, 0, sizeof(*s));
	s->fd = -1;
	if (!main->path[0])
		return 0;
	if (snprintf(s->path, sizeof(s->path), "%s%s", main->path, suffix) >=
	    (int)sizeof(s->path)) {
		s->path[0] = '\0';
		return 0;
	}
	rc = clear_path(s, e);
	return rc ? rc : bind_path(s, e);
}

void listen_close(struct listen_socket *s)
{
	struct stat st;

	if (s->ours && !lstat(s->path, &st) && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->path);
	s->ours = false;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}
