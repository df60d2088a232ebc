/*
 * Steps that end their server (machinery 11): how often the same step has done so, and which row
 * did it alone. Called by supervise.c when it has reaped a process.
 */
#ifndef BOOT_POISON_H
#define BOOT_POISON_H

#include "boot/init.h"

/* The role's process is reaped, its successor not started yet. */
void poison_count(struct init *in, enum role role, enum restart_cause cause);

#endif
