/*
 * One GPU: its context, two streams, the kernel of this folder, and memory that lives as long as
 * the process. `work` carries kernels and what must stand in order with them, `upload` copies of
 * experts beside them. Called by runtime/cuda. After any error the device is of no more use: the
 * process ends, and its successor begins anew.
 */
#ifndef DRIVERS_CUDA_GPU_H
#define DRIVERS_CUDA_GPU_H

#include "drivers/cuda/cubins.h"
#include "drivers/cuda/driver.h"
#include "drivers/cuda/run.h"

struct gpu {
	struct cuda_driver call;
	cu_function kernel;
	cu_stream work, upload;
	unsigned blocks; /* of a launch: as many as are resident at once */
	unsigned arch;   /* 90: compute capability 9.0 */
	unsigned multiprocessors;
	int read_only;        /* whether read-only memory of the host can be registered */
	uint64_t free, total; /* bytes of its memory, when it was opened */
	double peak;          /* bytes a second of its memory, as it is clocked; 0: unknown */
	char name[96];
};

/*
 * Opens GPU `ordinal` with the driver in `library` and the cubin for its architecture. -errno with
 * a text; STATUS_MEMORY if there is no such driver, device or kernel.
 */
MUST_CHECK int gpu_open(struct gpu *g, const char *library, unsigned ordinal,
			const struct cubin *cubins, struct err *e);

/* `bytes` of device memory, zeros; `what` for the text. */
MUST_CHECK int gpu_alloc(struct gpu *g, cu_address *p, uint64_t bytes, const char *what,
			 struct err *e);

/* Host memory that copies take without a stop between; NULL with a text. */
void *gpu_pinned(struct gpu *g, uint64_t bytes, struct err *e);

/*
 * Makes memory of the process such memory. Copies work without, more slowly: returns whether it
 * is.
 */
int gpu_register(struct gpu *g, const void *p, uint64_t bytes, int read_only);

/* Copies in order with kernels, done when the call returns. */
MUST_CHECK int gpu_write(struct gpu *g, cu_address to, const void *from, uint64_t bytes,
			 struct err *e);
MUST_CHECK int gpu_read(struct gpu *g, void *to, cu_address from, uint64_t bytes, struct err *e);

/* Starts the kernel on what `run` (device memory) says. */
MUST_CHECK int gpu_launch(struct gpu *g, cu_address run, struct err *e);

/* Waits for all that was put on `work`; says what went wrong in it. */
MUST_CHECK int gpu_wait(struct gpu *g, struct err *e);

#endif
