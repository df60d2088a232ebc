/*
 * New programs for a booted node. A disk has two program partitions; the one that is not running is
 * written, and BootNext names it: the firmware starts it once. Only when it has given the known
 * answer does `init` put it first in BootOrder, so one that does not, whatever it does instead, is
 * followed by the old one. Called by init on a booted node.
 */
#ifndef BOOT_UPDATE_H
#define BOOT_UPDATE_H

#include "drivers/disk/gpt.h"
#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A program partition. */
struct update_slot {
	char device[64];
	uint32_t number, sector;
	struct gpt_part part;
};

struct update {
	int fd; /* -1: none is under way */
	uint64_t bytes, done;
	struct update_slot slot;
};

/* Opens the partition that is not running for `bytes` bytes. */
MUST_CHECK int update_begin(struct update *u, uint64_t bytes, struct err *e);

/* The next bytes. Returns 1 when they were the last: written through, and to be started next. */
MUST_CHECK int update_piece(struct update *u, const void *data, size_t len, struct err *e);

/* This program has answered: it is the one to be started from now on. 1: it was not before. */
MUST_CHECK int update_keep(struct err *e);

/* Whether another program than this is first in the firmware's order: this one is on trial. */
bool update_on_trial(void);

#endif
