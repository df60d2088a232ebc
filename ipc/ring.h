/*
 * Message rings: entries in the producer's object, tail in the producer's record, head in the
 * consumer's (machinery 2). Single producer, single consumer, 64-bit counts that never wrap. There
 * is no other state: publishing is the producer's commit, popping the consumer's.
 */
#ifndef IPC_RING_H
#define IPC_RING_H

#include "ipc/msg.h"

#include <stdbool.h>

/*
 * Copies the entry at `head` out, for the caller to check with msg_check. `tail` was read from the
 * producer's record. Returns 1, 0 if the ring is empty, or -EBADMSG if tail is behind head or more
 * than `entries` ahead of it: the producer is broken.
 */
int ring_peek(const struct msg *ring, uint32_t entries, uint64_t head, uint64_t tail,
	      struct msg *out);

/*
 * Writes the entry at `tail`; visible to nobody until the producer has committed tail + 1. False if
 * the ring is full.
 */
bool ring_put(struct msg *ring, uint32_t entries, uint64_t head, uint64_t tail,
	      const struct msg *m);

#endif
