/*
 * The compiled kernels that a program has built in, one for each architecture (`./build.sh cuda`
 * makes them; a build without it has none). Used by gpu.c.
 */
#ifndef DRIVERS_CUDA_CUBINS_H
#define DRIVERS_CUDA_CUBINS_H

struct cubin {
	unsigned arch; /* 90: sm_90; 0 ends the table */
	const void *image;
};

#endif
