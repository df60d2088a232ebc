/*
 * A gateway without HTTP, for the tests of init and its byte pump: echoes every byte of every
 * connection by the rules of ipc/conn.h, so that what comes back proves what went through. The byte
 * 4 (end of transmission) is echoed and closes; so does the end of what a client sends.
 */
#ifndef TESTS_ECHO_H
#define TESTS_ECHO_H

#include "ipc/layout.h"

#include <stdbool.h>

/*
 * One look at all connections. `client` and `conns` are the mapped objects. Returns whether
 * anything was committed.
 */
bool echo_all(const struct layout *l, char *client, char *conns);

/* Tells init about it: the gateway's half of "no lost wake-up" (boot/loop.c). */
void echo_tell(struct bells *bells, int bell_fd);

#endif
