/*
 * The relay of a node that listens on vsock: each client has a connection of its own, so there is
 * nothing to frame. Called by relay.c.
 */
#ifndef RUNTIME_CLI_RELAY_DIRECT_H
#define RUNTIME_CLI_RELAY_DIRECT_H

#include "runtime/err.h"

#include <signal.h>

/*
 * Whether `port` names such a node: "vsock:CID" or "vsock:CID:PORT" (AF_VSOCK), or "hybrid:PATH" or
 * "hybrid:PATH:PORT" (the Unix socket of Firecracker and Cloud Hypervisor). 0: no; 1: yes, *number
 * is the port; -EINVAL with a text.
 */
MUST_CHECK int relay_direct_names(const char *port, struct err *e);

/* Serves the clients of `listener` until *stopped. */
MUST_CHECK int relay_direct(const char *port, int listener, const volatile sig_atomic_t *stopped,
			    struct err *e);

#endif
