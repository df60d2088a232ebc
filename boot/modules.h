/*
 * Kernel modules of a booted node: those for which the machine has a device. The image's file
 * /modules/order has a line per driver: the patterns of the devices that it is for (the driver's
 * own aliases), a tab, and the files to load in this order, what it needs first (build.sh).
 */
#ifndef BOOT_MODULES_H
#define BOOT_MODULES_H

#include <stdint.h>

enum modules_part {
	MODULES_FIRST, /* what a start needs: drives, port, buttons; until the list's empty line */
	MODULES_REST
};

/*
 * Loads what the machine has devices for, and what the devices that appear then are for.
 * MODULES_REST may be called on a thread of its own, after MODULES_FIRST. Each module is tried
 * once.
 */
void modules_load(enum modules_part part);

/* One file of /modules; -errno. */
int modules_load_file(const char *name);

/*
 * Nanoseconds that the kernel has had for it so far: linking, and each driver's look for its
 * devices.
 */
uint64_t modules_kernel_ns(void);

#endif
