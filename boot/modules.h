/*
 * Kernel modules of a booted node. The image's file /modules/order lists them so that each comes
 * after those that it needs (build.sh); init only walks it.
 */
#ifndef BOOT_MODULES_H
#define BOOT_MODULES_H

/*
 * Loads them all; what the machine has no use for refuses, and no matter. Returns how many stayed.
 */
int modules_load(void);

#endif
