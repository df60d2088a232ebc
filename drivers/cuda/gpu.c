/* A GPU; see gpu.h. */
#include "drivers/cuda/gpu.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int try(struct gpu *g, int result, const char *what, struct err *e)
{
	return cuda_check(&g->call, result, what, e);
}

static unsigned attribute(struct gpu *g, int device, int which)
{
	int v = 0;

	return g->call.device_attribute(&v, which, device) || v < 0 ? 0 : (unsigned)v;
}

/* A cubin runs on its own architecture and on later ones of the same generation. */
static const struct cubin *choose_cubin(const struct cubin *cubins, unsigned arch)
{
	const struct cubin *best = NULL;

	for (const struct cubin *c = cubins; c->arch; c++)
		if (c->arch / 10 == arch / 10 && c->arch <= arch && (!best || c->arch > best->arch))
			best = c;
	return best;
}

static int load_kernel(struct gpu *g, const struct cubin *cubins, struct err *e)
{
	const struct cubin *c = choose_cubin(cubins, g->arch);
	cu_module module;
	int each = 0, rc;

	if (!c)
		return err_exit(e, STATUS_MEMORY, -ENODEV,
				cubins->arch
					? "%s has architecture sm_%u, for which there is no kernel"
					: "%s (sm_%u): this build has no kernels for GPUs; "
					  "./build.sh cuda makes them",
				g->name, g->arch);
	rc = try(g, g->call.module_load(&module, c->image), "loading the kernel", e);
	if (!rc)
		rc = try(g, g->call.module_function(&g->kernel, module, "run_list"), "the kernel",
			 e);
	if (!rc)
		rc = try(g, g->call.occupancy(&each, g->kernel, GPU_THREADS, 0), "occupancy", e);
	if (!rc && each < 1)
		rc = err_set(e, -EIO, "%s: the kernel does not fit", g->name);
	g->blocks = g->multiprocessors * (unsigned)each;
	return rc;
}

static int find_device(struct gpu *g, unsigned ordinal, int *device, struct err *e)
{
	int n = 0, rc = try(g, g->call.init(0), "starting the GPU's driver", e);

	if (!rc)
		rc = try(g, g->call.device_count(&n), "counting GPUs", e);
	if (rc)
		return rc;
	if (ordinal >= (unsigned)n)
		return err_exit(e, STATUS_MEMORY, -ENODEV, "there is no GPU %u: the driver has %d",
				ordinal, n);
	return try(g, g->call.device_get(device, (int)ordinal), "finding the GPU", e);
}

static void describe(struct gpu *g, int device)
{
	if (g->call.device_name(g->name, (int)sizeof(g->name) - 1, device))
		snprintf(g->name, sizeof(g->name), "a GPU");
	g->arch = attribute(g, device, CU_CAPABILITY_MAJOR) * 10 +
		  attribute(g, device, CU_CAPABILITY_MINOR);
	g->multiprocessors = attribute(g, device, CU_MULTIPROCESSOR_COUNT);
	g->read_only = attribute(g, device, CU_READ_ONLY_REGISTER) != 0;
	/* two transfers a clock, bus in bits */
	g->peak = attribute(g, device, CU_MEMORY_CLOCK_RATE) * 1e3 *
		  attribute(g, device, CU_MEMORY_BUS_WIDTH) / 4;
}

int gpu_open(struct gpu *g, const char *library, unsigned ordinal, const struct cubin *cubins,
	     struct err *e)
{
	cu_context context;
	size_t bytes[2];
	int device, rc;

	memset(g, 0, sizeof(*g));
	rc = cuda_driver_load(&g->call, library, e);
	if (!rc)
		rc = find_device(g, ordinal, &device, e);
	if (rc)
		return rc;
	describe(g, device);
	if (!attribute(g, device, CU_COOPERATIVE_LAUNCH))
		return err_exit(e, STATUS_MEMORY, -ENODEV, "%s has no cooperative launch", g->name);
	/* a server that waits takes no CPU from the others; a flag that is set already stays */
	(void)g->call.context_flags(device, CU_SCHED_BLOCKING_SYNC);
	rc = try(g, g->call.context_retain(&context, device), "a context on the GPU", e);
	if (!rc)
		rc = try(g, g->call.context_set(context), "a context on the GPU", e);
	if (!rc)
		rc = load_kernel(g, cubins, e);
	if (!rc)
		rc = try(g, g->call.memory_info(&bytes[0], &bytes[1]), "the GPU's memory", e);
	if (!rc)
		rc = try(g, g->call.stream_create(&g->work, CU_STREAM_NON_BLOCKING), "a stream", e);
	if (!rc)
		rc = try(g, g->call.stream_create(&g->upload, CU_STREAM_NON_BLOCKING), "a stream",
			 e);
	if (rc)
		return rc;
	g->free = bytes[0];
	g->total = bytes[1];
	return 0;
}

int gpu_alloc(struct gpu *g, cu_address *p, uint64_t bytes, const char *what, struct err *e)
{
	int rc = g->call.memory_alloc(p, bytes ? bytes : 1);

	if (rc == CU_OUT_OF_MEMORY)
		return err_exit(e, STATUS_MEMORY, -ENOMEM,
				"%s: no room for %s: %.3f GB of %.3f (%.3f free when it was "
				"opened). Fewer --gpu-slots, a smaller --context or --chunk",
				g->name, what, (double)bytes / 1e9, (double)g->total / 1e9,
				(double)g->free / 1e9);
	rc = try(g, rc, what, e);
	if (!rc)
		rc = try(g, g->call.fill(*p, 0, bytes ? bytes : 1, g->work), what, e);
	return rc;
}

void *gpu_pinned(struct gpu *g, uint64_t bytes, struct err *e)
{
	void *p = NULL;

	if (try(g, g->call.host_alloc(&p, bytes, 0), "pinned memory", e))
		return NULL;
	return p;
}

int gpu_register(struct gpu *g, const void *p, uint64_t bytes, int read_only)
{
	if (!bytes || (read_only && !g->read_only))
		return 0;
	return !g->call.host_register((void *)(uintptr_t)p, bytes,
				      read_only ? CU_HOST_REGISTER_READ_ONLY : 0);
}

int gpu_wait(struct gpu *g, struct err *e)
{
	return try(g, g->call.stream_sync(g->work), g->name, e);
}

int gpu_write(struct gpu *g, cu_address to, const void *from, uint64_t bytes, struct err *e)
{
	int rc = try(g, g->call.to_device(to, from, bytes, g->work), "a copy to the GPU", e);

	return rc ? rc : gpu_wait(g, e);
}

int gpu_read(struct gpu *g, void *to, cu_address from, uint64_t bytes, struct err *e)
{
	int rc = try(g, g->call.to_host(to, from, bytes, g->work), "a copy from the GPU", e);

	return rc ? rc : gpu_wait(g, e);
}

int gpu_launch(struct gpu *g, cu_address run, struct err *e)
{
	void *parameters[] = {&run};

	return try(g,
		   g->call.launch(g->kernel, g->blocks, 1, 1, GPU_THREADS, 1, 1, 0, g->work,
				  parameters),
		   "starting the kernel", e);
}
