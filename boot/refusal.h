/*
 * Servers that a neighbour has caught with a bad message are started again (machinery 5). What a
 * record says of a sender is no more than a reason to restart it: whoever lies costs a restart,
 * never an answer. Called by supervise.c.
 */
#ifndef BOOT_REFUSAL_H
#define BOOT_REFUSAL_H

#include "boot/init.h"

/* Looks at every record that can refuse; kills who was refused. */
void refusal_tick(struct init *in);

#endif
