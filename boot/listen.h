/*
 * The node's Unix sockets: where they are, who may have them, and their end. Called once by init's
 * start and once by its end.
 */
#ifndef BOOT_LISTEN_H
#define BOOT_LISTEN_H

#include "runtime/err.h"

#include <stdbool.h>
#include <sys/types.h>

struct listen_socket {
	int fd;
	bool ours; /* we bound it, so we unlink it */
	dev_t dev;
	ino_t ino;
	char path[108]; /* "" for a socket passed by LISTEN_FDS */
};

/*
 * Takes the socket that LISTEN_FDS passes, else binds `path`, else /run/penstock/penstock.sock, or
 * $XDG_RUNTIME_DIR/penstock.sock where that folder cannot be written. Mode 0660. A stale socket is
 * replaced; a live one and anything that is no socket are refused.
 */
MUST_CHECK int listen_open(struct listen_socket *s, const char *path, struct err *e);

/*
 * Binds a socket beside `main`, of its name and `suffix`: for the counters (ipc/watch.h), or a
 * relay's control. Where main was passed by LISTEN_FDS, or the name does not fit, there is none:
 * s->fd is -1. Errors as above.
 */
MUST_CHECK int listen_beside(struct listen_socket *s, const struct listen_socket *main,
			     const char *suffix, struct err *e);

/* Takes the path away if it is still ours. Connections go on. */
void listen_close(struct listen_socket *s);

#endif
