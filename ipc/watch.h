/*
 * The second socket of a node, PATH.counters (machinery 25): who connects gets one message with
 * read-only descriptors of every server's counters and log records, and the connection ends.
 * Nothing is read there, so it works on a node that hangs: the maps are the servers' own memory.
 * init sends; `penstock top` and `penstock bench` receive.
 */
#ifndef IPC_WATCH_H
#define IPC_WATCH_H

#include "ipc/layout.h"

#define WATCH_SUFFIX ".counters"

enum {
	WATCH_LOGS = OBJ_LOG_EXPERTS - OBJ_LOG_INIT + 1
};

/* What a watcher maps: [k] is the log of object OBJ_LOG_INIT + k. */
struct watch {
	const struct log_object *log[WATCH_LOGS];
};

/* init: sends the descriptors to a connection. A client that cannot take them at once gets none. */
void watch_send(int connection, const int fd[WATCH_LOGS]);

/*
 * Asks the node that listens on `path` (its ordinary socket; NULL: the usual places) for its
 * counters and maps them. Returns 0 or -errno with a text.
 */
MUST_CHECK int watch_open(struct watch *w, const char *path, struct err *e);
/* Whether the node that listens on `path` is still there. */
bool watch_alive(const char *path);
void watch_close(struct watch *w);

/* The sum of a counter over the servers that fill it. */
uint64_t watch_count(const struct watch *w, enum counter c);

/* All of them at once. */
void watch_counts(const struct watch *w, uint64_t out[COUNTERS]);

#endif
