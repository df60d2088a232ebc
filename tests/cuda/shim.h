/*
 * CUDA for the host: the kernels of drivers/cuda are C as well, and run here block by block, a
 * block's threads being fibers that take turns at barriers and shuffles. For comparing bits where
 * there is no GPU; said slowly, but exactly: each operation is the IEEE one the GPU has. Included
 * by tests/cuda/emulate.c before the kernels.
 */
#ifndef TESTS_CUDA_SHIM_H
#define TESTS_CUDA_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <xmmintrin.h>

#define DEVICE static inline
#define UNROLL
#define UNROLL_1
#define NO_HOIST()

struct shim_index {
	uint32_t x;
};

typedef struct {
	_Alignas(16) uint32_t x;
	uint32_t y, z, w;
} uint4;

enum shim_wait {
	SHIM_RUNS,
	SHIM_WARP,
	SHIM_BLOCK,
	SHIM_ENDED
};

extern uint32_t shim_thread, shim_block, shim_blocks;
#define threadIdx ((struct shim_index){shim_thread})
#define blockIdx  ((struct shim_index){shim_block})
#define gridDim   ((struct shim_index){shim_blocks})

/* Until all threads of the warp, or of the block, have come here. */
void shim_wait(enum shim_wait until);
uint32_t shim_exchange(uint32_t value, uint32_t distance);
int shim_any(int value);

#define __syncthreads()     shim_wait(SHIM_BLOCK)
#define __syncwarp(m)       shim_wait(SHIM_WARP)
#define __syncthreads_or(v) shim_any(v)

static inline float __uint_as_float(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

static inline uint32_t __float_as_uint(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	return u;
}

static inline float shim_shuffle_float(float v, uint32_t d)
{
	return __uint_as_float(shim_exchange(__float_as_uint(v), d));
}

#define __shfl_xor_sync(m, v, d)                                                                   \
	_Generic((v), float : shim_shuffle_float, uint32_t : shim_exchange)(v, (uint32_t)(d))

#define __fmaf_rn(a, b, c) __builtin_fmaf(a, b, c)
#define __fdiv_rn(a, b)    ((a) / (b))
#define __fsqrt_rn(a)      _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a)))
#define __float2int_rn(a)  _mm_cvtss_si32(_mm_set_ss(a))

/* Runs body(context) on every thread of every block of the grid. */
void shim_run(uint32_t blocks, uint32_t threads, void (*body)(void *), void *context);

#endif
