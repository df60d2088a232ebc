/*
 * What a booted node does besides serving: it proves itself once with a known answer, does what its
 * host asks (ipc/frame.h, enum frame_ask), says on its console how it goes. Called by the loop, on
 * PID 1 only.
 */
#ifndef BOOT_ASK_H
#define BOOT_ASK_H

#include "boot/init.h"

/* Of port_init; context is struct init. */
void ask_take(void *context, uint64_t ask, const void *data, size_t len);

/* The known answer may have come. */
void ask_proof(struct init *in);

/* Before init sleeps: for how many ms at most, -1: for ever. */
int ask_tick(struct init *in);

#endif
