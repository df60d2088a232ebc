/*
 * A stand-in for libcuda, for tests without a GPU: the calls of drivers/cuda/driver.h on memory of
 * the process, with the kernel's own source between fibers (shim.h). As unkind as a GPU may be:
 * what is put on a stream happens when somebody waits for it and not before, device memory cannot
 * be touched by the host, a copy may only go where it belongs, and after the first error nothing
 * works any more. Loaded by `cuda` (--libcuda) and by tests; settings and counts: fake.h.
 */
#include "tests/cuda/fake.h"

#include "drivers/cuda/driver.h"
#include "tests/cuda/shim.h"

#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wcast-align"
#pragma GCC diagnostic ignored "-Wunused-function"
#include "drivers/cuda/phases.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))

enum {
	INVALID = 1,
	PIECES = 64, /* allocations */
	WAITING = 1 << 14
};

EXPORT struct fake fake_settings = {
	.magic = FAKE_MAGIC, .memory = 1 << 30, .devices = 1, .major = 9, .blocks = 1};

static struct fake *const fake = &fake_settings;

#define FAKE_DECLARE(field, symbol, parameters) EXPORT int symbol parameters;
CUDA_CALLS(FAKE_DECLARE)
#undef FAKE_DECLARE

/* ---- Faults ---- */

enum call {
	CALL_NONE,
#define FAKE_CALL(field, symbol, parameters) CALL_##field,
	CUDA_CALLS(FAKE_CALL)
#undef FAKE_CALL
};

static int lost; /* the result of everything, once something has failed */

static int enter(enum call c)
{
	if (lost || c != fake->fail_call)
		return lost;
	if (fake->fail_after) {
		fake->fail_after--;
		return 0;
	}
	/* memory that is not there leaves the device as it was */
	if (fake->fail_result != CU_OUT_OF_MEMORY)
		lost = (int)fake->fail_result;
	return (int)fake->fail_result;
}

#define ENTER(field)                                                                               \
	do {                                                                                       \
		int result_ = enter(CALL_##field);                                                 \
		if (result_)                                                                       \
			return result_;                                                            \
	} while (0)

static int wrong(const char *what)
{
	fprintf(stderr, "fake libcuda: %s\n", what);
	fake->wrong++;
	return lost = CU_ILLEGAL_ADDRESS;
}

/* ---- Memory: closed to the host but while something is done on the device ---- */

static struct piece {
	char *at;
	size_t bytes;
} piece[PIECES];
static unsigned pieces;
static size_t used;

static void open_memory(int protection)
{
	for (unsigned i = 0; i < pieces; i++)
		mprotect(piece[i].at, piece[i].bytes, protection);
}

static bool on_device(cu_address p, size_t bytes)
{
	for (unsigned i = 0; i < pieces; i++) {
		uint64_t at = (uint64_t)(uintptr_t)piece[i].at;

		if (p >= at && p - at <= piece[i].bytes && bytes <= piece[i].bytes - (p - at))
			return true;
	}
	return false;
}

/* ---- Streams: what waits to be done ---- */

enum what {
	TO_DEVICE,
	TO_HOST,
	FILL,
	LAUNCH,
	RECORD,
	WAIT
};

struct CUevent_st {
	struct CUstream_st *stream;
	uint64_t at; /* position behind the record in its stream; done when the stream is there */
};

struct task {
	enum what what;
	void *to;
	const void *from;
	size_t bytes;
	unsigned blocks;
	unsigned char value;
	struct CUevent_st event; /* of WAIT: as it was recorded */
};

struct CUstream_st {
	struct task task[WAITING];
	uint64_t done, end;
};

static struct CUstream_st *streams[4];
static unsigned stream_count;

/* The whole grid, command by command: all blocks have done a phase before the next begins. */
struct grid {
	const struct gpu_run *g;
	struct job job;
	uint32_t index, phase;
};

static void thread(void *context)
{
	struct grid *g = context;

	carry_out(&g->job, g->index, g->phase);
}

static void run_kernel(const struct gpu_run *r, unsigned blocks)
{
	static _Alignas(16) char shared[SHARED_BYTES];
	static struct grid g;
	unsigned csr = _mm_getcsr();

	_mm_setcsr(csr | 0x8040); /* subnormals are zero */
	g.g = r;
	for (g.index = r->from; g.index < r->n; g.index++) {
		const struct command *c = &r->list[g.index];

		g.job = (struct job){.g = r, .c = c, .f = &r->frame[c->batch], .shared = shared};
		for (g.phase = 0; g.phase < phases_of(c->kind); g.phase++) {
			memset(shared, 0xff, sizeof(shared));
			shim_run(blocks, THREADS, thread, &g);
		}
		if (c->kind == COMMAND_EXPERTS && r->control->stopped == g.index)
			break;
	}
	_mm_setcsr(csr);
}

static void do_task(const struct task *t)
{
	open_memory(PROT_READ | PROT_WRITE);
	switch (t->what) {
	case TO_DEVICE:
	case TO_HOST:
		memcpy(t->to, t->from, t->bytes);
		fake->copies++;
		break;
	case FILL:
		memset(t->to, t->value, t->bytes);
		break;
	case LAUNCH:
		for (unsigned i = 0; i < stream_count; i++) {
			const struct CUstream_st *s = streams[i];

			if (s->done < s->end && s->task[s->done % WAITING].what != LAUNCH &&
			    &s->task[s->done % WAITING] != t)
				fake->overlapped++;
		}
		fake->launches++;
		run_kernel(t->from, t->blocks);
		break;
	default:
		break;
	}
	open_memory(PROT_NONE);
}

/* Does what stands before `end` in a stream, and whatever that waits for, and nothing else. */
static int advance(struct CUstream_st *s, uint64_t end)
{
	while (s->done < end && !lost) {
		struct task *t = &s->task[s->done % WAITING];

		if (t->what == WAIT && t->event.stream)
			advance(t->event.stream, t->event.at);
		do_task(t);
		s->done++;
	}
	return lost;
}

static int put(struct CUstream_st *s, struct task t)
{
	if (s->end - s->done == WAITING)
		return wrong("a stream is full");
	s->task[s->end++ % WAITING] = t;
	return 0;
}

/* ---- The calls ---- */

EXPORT int cuInit(unsigned flags)
{
	ENTER(init);
	return flags ? INVALID : fake->devices ? 0 : CU_NO_DEVICE;
}

EXPORT int cuDriverGetVersion(int *version)
{
	ENTER(version);
	*version = 13000;
	return 0;
}

EXPORT int cuDeviceGetCount(int *n)
{
	ENTER(device_count);
	*n = (int)fake->devices;
	return 0;
}

EXPORT int cuDeviceGet(int *device, int ordinal)
{
	ENTER(device_get);
	*device = ordinal;
	return 0;
}

EXPORT int cuDeviceGetName(char *name, int size, int device)
{
	ENTER(device_name);
	snprintf(name, (size_t)size, "no GPU but a stand-in for one, number %d", device);
	return 0;
}

EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device)
{
	ENTER(device_attribute);
	(void)device;
	*value = attribute == CU_MULTIPROCESSOR_COUNT ? 1
		 : attribute == CU_CAPABILITY_MAJOR   ? (int)fake->major
		 : attribute == CU_COOPERATIVE_LAUNCH ? 1
		 : attribute == CU_READ_ONLY_REGISTER ? 1
						      : 0;
	return 0;
}

EXPORT int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags)
{
	ENTER(context_flags);
	(void)device;
	return flags & ~7u ? INVALID : 0;
}

EXPORT int cuDevicePrimaryCtxRetain(cu_context *c, int device)
{
	ENTER(context_retain);
	(void)device;
	*c = (cu_context)fake;
	return 0;
}

EXPORT int cuCtxSetCurrent(cu_context c)
{
	ENTER(context_set);
	return c == (cu_context)fake ? 0 : INVALID;
}

EXPORT int cuModuleLoadData(cu_module *m, const void *image)
{
	ENTER(module_load);
	*m = (cu_module)(uintptr_t)image;
	return memcmp(image, "\177ELF", 4) ? INVALID : 0;
}

EXPORT int cuModuleGetFunction(cu_function *f, cu_module m, const char *name)
{
	ENTER(module_function);
	*f = (cu_function)m;
	return strcmp(name, "run_list") ? INVALID : 0;
}

EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, cu_function f, int threads,
						       size_t shared)
{
	ENTER(occupancy);
	*blocks = (int)fake->blocks;
	return f && threads == THREADS && !shared ? 0 : INVALID;
}

EXPORT int cuMemGetInfo_v2(size_t *free, size_t *total)
{
	ENTER(memory_info);
	*total = fake->memory;
	*free = fake->memory - used;
	return 0;
}

EXPORT int cuMemAlloc_v2(cu_address *p, size_t bytes)
{
	size_t whole = (bytes + 4095) & ~(size_t)4095;
	void *at;

	ENTER(memory_alloc);
	if (!bytes || pieces == PIECES)
		return INVALID;
	if (whole > fake->memory - used)
		return CU_OUT_OF_MEMORY;
	at = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return CU_OUT_OF_MEMORY;
	used += whole;
	piece[pieces++] = (struct piece){at, whole};
	*p = (cu_address)(uintptr_t)at;
	return 0;
}

EXPORT int cuMemHostAlloc(void **p, size_t bytes, unsigned flags)
{
	ENTER(host_alloc);
	*p = flags ? NULL : calloc(1, bytes);
	return *p ? 0 : INVALID;
}

EXPORT int cuMemHostRegister_v2(void *p, size_t bytes, unsigned flags)
{
	ENTER(host_register);
	return !p || !bytes || fake->no_register || flags & ~8u ? INVALID : 0;
}

EXPORT int cuMemsetD8Async(cu_address to, unsigned char v, size_t bytes, cu_stream s)
{
	ENTER(fill);
	if (!on_device(to, bytes))
		return wrong("a fill outside of device memory");
	return put(s,
		   (struct task){
			   .what = FILL, .to = (void *)(uintptr_t)to, .bytes = bytes, .value = v});
}

EXPORT int cuMemcpyHtoDAsync_v2(cu_address to, const void *from, size_t bytes, cu_stream s)
{
	ENTER(to_device);
	if (!on_device(to, bytes) || on_device((uintptr_t)from, 1))
		return wrong("a copy to where no device memory is");
	return put(s, (struct task){.what = TO_DEVICE,
				    .to = (void *)(uintptr_t)to,
				    .from = from,
				    .bytes = bytes});
}

EXPORT int cuMemcpyDtoHAsync_v2(void *to, cu_address from, size_t bytes, cu_stream s)
{
	ENTER(to_host);
	if (!on_device(from, bytes) || on_device((uintptr_t)to, 1))
		return wrong("a copy from where no device memory is");
	return put(s, (struct task){.what = TO_HOST,
				    .to = to,
				    .from = (const void *)(uintptr_t)from,
				    .bytes = bytes});
}

EXPORT int cuStreamCreate(cu_stream *s, unsigned flags)
{
	ENTER(stream_create);
	if (stream_count == 4 || flags != CU_STREAM_NON_BLOCKING)
		return INVALID;
	*s = streams[stream_count++] = calloc(1, sizeof(**s));
	return *s ? 0 : CU_OUT_OF_MEMORY;
}

EXPORT int cuStreamWaitEvent(cu_stream s, cu_event e, unsigned flags)
{
	ENTER(stream_wait);
	return flags ? INVALID : put(s, (struct task){.what = WAIT, .event = *e});
}

EXPORT int cuStreamSynchronize(cu_stream s)
{
	ENTER(stream_sync);
	return advance(s, s->end);
}

EXPORT int cuEventCreate(cu_event *e, unsigned flags)
{
	ENTER(event_create);
	*e = calloc(1, sizeof(**e));
	return flags & ~3u ? INVALID : *e ? 0 : CU_OUT_OF_MEMORY;
}

EXPORT int cuEventRecord(cu_event e, cu_stream s)
{
	ENTER(event_record);
	*e = (struct CUevent_st){.stream = s, .at = s->end + 1};
	return put(s, (struct task){.what = RECORD});
}

EXPORT int cuEventQuery(cu_event e)
{
	ENTER(event_query);
	return !e->stream || e->stream->done >= e->at ? 0 : CU_NOT_READY;
}

EXPORT int cuEventSynchronize(cu_event e)
{
	ENTER(event_sync);
	return e->stream ? advance(e->stream, e->at) : 0;
}

EXPORT int cuLaunchCooperativeKernel(cu_function f, unsigned gx, unsigned gy, unsigned gz,
				     unsigned bx, unsigned by, unsigned bz, unsigned shared,
				     cu_stream s, void **parameters)
{
	cu_address run = *(const cu_address *)parameters[0];

	ENTER(launch);
	if (!f || gx > fake->blocks || gy * gz * by * bz != 1 || bx != THREADS || shared)
		return INVALID;
	if (!on_device(run, sizeof(struct gpu_run)))
		return wrong("a launch with figures that are not on the device");
	return put(s, (struct task){
			      .what = LAUNCH, .from = (const void *)(uintptr_t)run, .blocks = gx});
}

EXPORT int cuGetErrorName(int result, const char **name)
{
	*name = result == CU_OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
		: result == CU_NO_DEVICE       ? "CUDA_ERROR_NO_DEVICE"
		: result == CU_ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
					       : "CUDA_ERROR_UNKNOWN";
	return 0;
}
