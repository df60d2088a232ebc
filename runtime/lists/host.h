/*
 * The executor of command lists on the CPU, made of the kernels of drivers/cpu: the reference for
 * that of a GPU, and what stands in for one in tests (`--gpu cpu`). Called by runtime/lists and by
 * tests.
 */
#ifndef RUNTIME_LISTS_HOST_H
#define RUNTIME_LISTS_HOST_H

#include "drivers/cpu/kernels.h"
#include "runtime/lists/executor.h"
#include "runtime/team.h"

struct host;

/*
 * An executor over d's memory, all of which is the host's; d and kernels stay the caller's. NULL:
 * no memory.
 */
struct host *host_open(struct device *d, const struct cpu_kernels *k, struct team *team,
		       unsigned workers);

void host_close(struct host *h);

/*
 * Carries out commands [from, n), which command_check has passed. Returns the index of the command
 * that stopped the list (EXPERTS that wait; it is to be done again), or n.
 */
uint32_t host_run(struct host *h, const struct command *list, uint32_t from, uint32_t n);

#endif
