/*
 * The firmware's variables of a booted node: which partition it was started from, and what is
 * started next (UEFI specification 2.10, 3.3). Linux shows them as files. Called by boot/update.c.
 */
#ifndef BOOT_EFIVAR_H
#define BOOT_EFIVAR_H

#include "drivers/disk/gpt.h"
#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	EFIVAR_ORDER_MAX = 256
};

/* Mounts them; -ENODEV with a text on a machine that was not started by UEFI firmware. */
MUST_CHECK int efivar_open(struct err *e);
void efivar_close(void);

/* The partition that the stub of this program was read from. */
MUST_CHECK int efivar_own_partition(struct gpt_guid *g, struct err *e);

/* The boot entries in their order; their number, 0: there is no order. */
unsigned efivar_order(uint16_t order[EFIVAR_ORDER_MAX]);
MUST_CHECK int efivar_set_order(const uint16_t *order, unsigned n, struct err *e);

MUST_CHECK int efivar_set_next(uint16_t entry, struct err *e);

/* Writes the boot entry of a partition, unless it stands there already. */
MUST_CHECK int efivar_set_entry(uint16_t entry, const struct gpt_part *part, uint32_t number,
				uint32_t sector, struct err *e);

#endif
