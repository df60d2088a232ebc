/*
 * The kernels of drivers/cuda on the host: carries out one command as the GPU would, in the memory
 * of a device whose regions are all the host's. For tests/cuda.
 */
#ifndef TESTS_CUDA_EMULATE_H
#define TESTS_CUDA_EMULATE_H

#include "runtime/lists/executor.h"

/* Returns whether the command has stopped the list. `blocks`: of the grid. */
bool emulate(struct device *d, const struct command *c, uint32_t blocks);

#endif
