/* The kernels' own source, between fibers; see emulate.h. */
#include "tests/cuda/emulate.h"

#include "tests/cuda/shim.h"

/* CUDA's habits: sizes that are ints, wide loads of what is known to be aligned */
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wcast-align"
#pragma GCC diagnostic ignored "-Wunused-function"
#include "drivers/cuda/phases.cuh"

struct emulation {
	struct gpu_run run;
	struct gpu_control control;
	struct job job;
	uint32_t phase;
};

static void thread(void *context)
{
	struct emulation *e = context;

	carry_out(&e->job, 0, e->phase);
}

bool emulate(struct device *d, const struct command *c, uint32_t blocks)
{
	static _Alignas(16) char shared[SHARED_BYTES];
	static struct emulation e;

	if (c->kind == COMMAND_EXPERT) { /* the host's part */
		d->table[device_table_at(d, c->layer, c->id)] = c->expert;
		return false;
	}
	e = (struct emulation){.run = {.list = c,
				       .n = 1,
				       .table = d->table,
				       .control = &e.control,
				       .shape = d->shape,
				       .frame = {d->frame[0], d->frame[1]}},
			       .control = {.stopped = 1}};
	memcpy(e.run.base, d->base, sizeof(e.run.base));
	e.job = (struct job){.g = &e.run, .c = c, .f = &e.run.frame[c->batch], .shared = shared};
	for (e.phase = 0; e.phase < phases_of(c->kind); e.phase++) {
		/* blocks of a GPU find in it what others left there */
		memset(shared, 0xff, sizeof(shared));
		shim_run(blocks, THREADS, thread, &e);
	}
	return e.control.stopped == 0;
}
