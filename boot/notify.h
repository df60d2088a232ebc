/*
 * Tells a service manager how far the node is (sd_notify(3), Type=notify): a datagram to
 * NOTIFY_SOCKET, if there is one. It is only told; what it does with it is its own affair, so there
 * are no errors. Called by start.c and stage.c, on init's first thread.
 */
#ifndef BOOT_NOTIFY_H
#define BOOT_NOTIFY_H

struct notify {
	int fd; /* connected; -1: nobody wants to know */
};

/* Takes NOTIFY_SOCKET from the environment. */
void notify_open(struct notify *n);

/* Lines of VARIABLE=value. Never waits. */
void notify_tell(const struct notify *n, const char *lines);

#endif
