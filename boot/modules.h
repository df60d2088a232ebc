/*
 * Kernel modules of a booted node: those for which the machine has a device. The image's file
 * /modules/order has a line per driver: the patterns of the devices that it is for (the driver's
 * own aliases), a tab, and the files to load in this order, what it needs first (build.sh).
 */
#ifndef BOOT_MODULES_H
#define BOOT_MODULES_H

/*
 * Loads what the machine has devices for, and what the devices that appear then are for. Returns
 * how many modules were loaded.
 */
int modules_load(void);

/* One file of /modules; -errno. */
int modules_load_file(const char *name);

#endif
