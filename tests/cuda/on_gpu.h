/*
 * The same as emulate.h on a GPU: one command at a time, all memory copied there and back. Beside
 * the first machine that has one, this is what shows whether its kernels give the bits that the
 * host's give. For tests/cuda/t_kernels_cuda.c.
 */
#ifndef TESTS_CUDA_ON_GPU_H
#define TESTS_CUDA_ON_GPU_H

#include "drivers/cuda/cubins.h"
#include "runtime/lists/executor.h"

/* Opens GPU 0 by the driver in `library`. -errno with a text. */
MUST_CHECK int on_gpu_open(const char *library, const struct cubin *cubins, struct err *e);

/* Returns whether the command has stopped the list. An error of the GPU ends the test. */
bool on_gpu(struct device *d, const struct command *c);

#endif
