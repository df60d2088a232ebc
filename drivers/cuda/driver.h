/*
 * The GPU's driver as a table of functions: NVIDIA's libcuda, loaded at run time, of which nothing
 * is needed to build. Names, types and numbers are those of the CUDA driver API, versions 11.4 and
 * later. Called by gpu.c of this folder; a stand-in for tests is tests/cuda/fake.c.
 */
#ifndef DRIVERS_CUDA_DRIVER_H
#define DRIVERS_CUDA_DRIVER_H

#include "runtime/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct CUctx_st *cu_context;
typedef struct CUmod_st *cu_module;
typedef struct CUfunc_st *cu_function;
typedef struct CUstream_st *cu_stream;
typedef struct CUevent_st *cu_event;
typedef unsigned long long cu_address; /* of device memory */

/* Results that somebody looks at; 0 is success. */
enum {
	CU_OUT_OF_MEMORY = 2,
	CU_NO_DEVICE = 100,
	CU_NOT_READY = 600,
	CU_ILLEGAL_ADDRESS = 700
};

enum {
	CU_SCHED_BLOCKING_SYNC = 4,
	CU_STREAM_NON_BLOCKING = 1,
	CU_EVENT_DISABLE_TIMING = 2,
	CU_HOST_REGISTER_READ_ONLY = 8,
	/* attributes of a device */
	CU_CLOCK_RATE = 13,
	CU_MULTIPROCESSOR_COUNT = 16,
	CU_MEMORY_CLOCK_RATE = 36,
	CU_MEMORY_BUS_WIDTH = 37,
	CU_CAPABILITY_MAJOR = 75,
	CU_CAPABILITY_MINOR = 76,
	CU_COOPERATIVE_LAUNCH = 95,
	CU_READ_ONLY_REGISTER = 113
};

/* X(field, symbol, parameters). All return a result, 0 for success. */
#define CUDA_CALLS(X)                                                                              \
	X(init, cuInit, (unsigned flags))                                                          \
	X(version, cuDriverGetVersion, (int *version))                                             \
	X(device_count, cuDeviceGetCount, (int *n))                                                \
	X(device_get, cuDeviceGet, (int *device, int ordinal))                                     \
	X(device_name, cuDeviceGetName, (char *name, int size, int device))                        \
	X(device_attribute, cuDeviceGetAttribute, (int *value, int attribute, int device))         \
	X(context_flags, cuDevicePrimaryCtxSetFlags_v2, (int device, unsigned flags))              \
	X(context_retain, cuDevicePrimaryCtxRetain, (cu_context * c, int device))                  \
	X(context_set, cuCtxSetCurrent, (cu_context c))                                            \
	X(module_load, cuModuleLoadData, (cu_module * m, const void *image))                       \
	X(module_function, cuModuleGetFunction, (cu_function * f, cu_module m, const char *name))  \
	X(occupancy, cuOccupancyMaxActiveBlocksPerMultiprocessor,                                  \
	  (int *blocks, cu_function f, int threads, size_t shared))                                \
	X(memory_info, cuMemGetInfo_v2, (size_t * free, size_t * total))                           \
	X(memory_alloc, cuMemAlloc_v2, (cu_address * p, size_t bytes))                             \
	X(host_alloc, cuMemHostAlloc, (void **p, size_t bytes, unsigned flags))                    \
	X(host_register, cuMemHostRegister_v2, (void *p, size_t bytes, unsigned flags))            \
	X(fill, cuMemsetD8Async, (cu_address to, unsigned char v, size_t bytes, cu_stream s))      \
	X(to_device, cuMemcpyHtoDAsync_v2,                                                         \
	  (cu_address to, const void *from, size_t bytes, cu_stream s))                            \
	X(to_host, cuMemcpyDtoHAsync_v2, (void *to, cu_address from, size_t bytes, cu_stream s))   \
	X(stream_create, cuStreamCreate, (cu_stream * s, unsigned flags))                          \
	X(stream_wait, cuStreamWaitEvent, (cu_stream s, cu_event e, unsigned flags))               \
	X(stream_sync, cuStreamSynchronize, (cu_stream s))                                         \
	X(event_create, cuEventCreate, (cu_event * e, unsigned flags))                             \
	X(event_record, cuEventRecord, (cu_event e, cu_stream s))                                  \
	X(event_query, cuEventQuery, (cu_event e))                                                 \
	X(event_sync, cuEventSynchronize, (cu_event e))                                            \
	X(launch, cuLaunchCooperativeKernel,                                                       \
	  (cu_function f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,         \
	   unsigned bz, unsigned shared, cu_stream s, void **parameters))                          \
	X(error_name, cuGetErrorName, (int result, const char **name))

struct cuda_driver {
#define CUDA_FIELD(field, symbol, parameters) int(*field) parameters;
	CUDA_CALLS(CUDA_FIELD)
#undef CUDA_FIELD
};

/*
 * Loads the library (a path, or a name that the loader looks for) for the life of the process.
 * -ENODEV with a text if it is not there or lacks a function.
 */
MUST_CHECK int cuda_driver_load(struct cuda_driver *d, const char *library, struct err *e);

/* 0 for result 0; else -EIO (-ENOMEM, -ENODEV) with a text: what was tried, and why not. */
int cuda_check(const struct cuda_driver *d, int result, const char *what, struct err *e);

#endif
