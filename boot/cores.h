/*
 * How many cores a set of CPUs has: the default number of workers. Called by init, and by `penstock
 * info` for what the plan will be here.
 */
#ifndef BOOT_CORES_H
#define BOOT_CORES_H

#include <sched.h>
#include <stdint.h>

/*
 * CPUs of the mask that are the first of their core, 1 to TEAM_MAX. Where /sys does not tell, every
 * CPU is a core.
 */
uint32_t cores_count(const cpu_set_t *mask);

#endif
