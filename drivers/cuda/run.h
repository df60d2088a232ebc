/*
 * What the executor gives its one kernel: the memory that commands name, as device pointers, and
 * the commands to carry out. Shared by the kernels (drivers/cuda), who starts them, and tests.
 */
#ifndef DRIVERS_CUDA_RUN_H
#define DRIVERS_CUDA_RUN_H

#include "ipc/command.h"

#include <stddef.h>
#include <stdint.h>

/* In device memory; the host reads `stopped` when the kernel has ended. */
struct gpu_control {
	uint32_t arrived, round; /* of the barrier between commands */
	uint32_t stopped;        /* index of the command that stopped the list, or its end */
	uint32_t pad;
};

struct gpu_run {
	const struct command *list;
	uint32_t from, n; /* commands [from, n) */
	void *base[DEV_REGIONS];
	struct dev_expert *table;
	struct gpu_control *control;
	struct dev_shape shape;
	struct frame frame[2];
};

enum {
	GPU_THREADS = 256,   /* of a block */
	GPU_GROUP_MAX = 256, /* n_group */
	GPU_RANK_MAX = 512,  /* latent and key widths that ATTEND's shared memory can hold */
	GPU_KEY_MAX = 640
};

#endif
