/*
 * How much memory a node may take when nobody said: what is free on the machine and within the
 * process's memory cgroups, less a reserve. Called once by init; the tests call the parts.
 */
#ifndef BOOT_MEMORY_H
#define BOOT_MEMORY_H

#include <stdint.h>

struct memory_free {
	uint64_t total;     /* MemTotal, or the cgroup's limit if that is less */
	uint64_t available; /* MemAvailable, or what the cgroup has left if that is less */
};

/*
 * Fails never: what cannot be read sets no limit. `root` is "" but in tests: the folder that /proc
 * and /sys are looked for in.
 */
void memory_look(struct memory_free *m, const char *root);

/*
 * available less a reserve for everybody else: 1/16 of the total, at least 256 MiB, but never more
 * than half.
 */
uint64_t memory_budget(const struct memory_free *m);

#endif
