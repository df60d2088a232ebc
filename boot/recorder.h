/*
 * Keeps what a server was doing when it died (ipc/recorder.h), before its successor goes on. Called
 * by supervise.c.
 */
#ifndef BOOT_RECORDER_H
#define BOOT_RECORDER_H

#include "boot/init.h"

#include <signal.h>

/* Nothing without --recorder. */
void recorder_take(struct init *in, enum role role, const siginfo_t *si);

#endif
