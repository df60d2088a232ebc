/*
 * `cuda-cpu` stands in for a GPU (`--gpu cpu`): the server `cuda` with the CPU's executor, and
 * memory of its own in the GPU's place. For tests, and the reference for the one that has a GPU.
 */
#include "runtime/lists/host.h"
#include "runtime/lists/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Bytes a second of a copy: so many that experts are computed on the CPU now and then. */
#define COPY_RATE 1000000000

struct stand_in {
	struct executor x; /* first */
	struct device *d;
	struct host *host;
};

static void *take(uint64_t bytes)
{
	void *p = mmap(NULL, bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int open_device(struct executor *x, struct device *d, const struct server *s, struct err *e)
{
	static const enum dev_region own[] = {DEV_WORK, DEV_KV, DEV_SLOTS};
	struct stand_in *i = (struct stand_in *)x;
	bool there = true;

	for (unsigned n = 0; n < sizeof(own) / sizeof(own[0]); n++) {
		d->base[own[n]] = take(d->bytes[own[n]]);
		there &= d->base[own[n]] != NULL;
	}
	d->table = take((uint64_t)d->shape.layers * d->shape.experts * sizeof(*d->table));
	i->d = d;
	d->copy_rate = COPY_RATE;
	i->host =
		there && d->table ? host_open(d, &s->kernels, s->team, s->at.plan->workers) : NULL;
	return i->host ? 0 : err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory to stand in for a GPU");
}

static int weights(struct executor *x, const void *resident, uint64_t bytes, struct err *e)
{
	struct stand_in *i = (struct stand_in *)x;

	(void)bytes;
	(void)e;
	/* read only, as every map of it */
	i->d->base[DEV_WEIGHTS] = (void *)(uintptr_t)resident;
	return 0;
}

static int put(struct executor *x, uint64_t offset, const void *from, uint64_t bytes, struct err *e)
{
	(void)e;
	memcpy((char *)((struct stand_in *)x)->d->base[DEV_KV] + offset, from, bytes);
	return 0;
}

static int run(struct executor *x, const struct command *list, uint32_t from, uint32_t n,
	       uint32_t *stopped, struct err *e)
{
	(void)e;
	*stopped = host_run(((struct stand_in *)x)->host, list, from, n);
	return 0;
}

static int load(struct executor *x, const struct command *list, uint32_t n, struct err *e)
{
	(void)e;
	host_run(((struct stand_in *)x)->host, list, 0, n);
	return 0;
}

static int settle(struct executor *x, struct err *e)
{
	(void)x;
	(void)e;
	return 0;
}

static int pairs(struct executor *x, const struct frame *f, uint32_t layer, uint32_t rows,
		 uint32_t *state, uint16_t *expert, uint16_t *in, struct err *e)
{
	const struct device *d = ((struct stand_in *)x)->d;
	const char *work = d->base[DEV_WORK];
	uint64_t at = f->expert + 2ull * layer * f->rows * d->shape.top_k;
	size_t n = (size_t)rows * d->shape.top_k;

	(void)e;
	memcpy(state, work + f->state, n * sizeof(*state));
	memcpy(expert, work + at, n * sizeof(*expert));
	memcpy(in, work + f->x, (size_t)rows * d->shape.width * sizeof(*in));
	return 0;
}

int main(int argc, char **argv)
{
	static struct stand_in i = {.x = {.open = open_device,
					  .weights = weights,
					  .put = put,
					  .run = run,
					  .load = load,
					  .settle = settle,
					  .pairs = pairs}};
	struct err e = {0};
	struct lists *l = lists_open(&i.x, argc > 1 ? argv[1] : NULL, &e);

	if (!l || server_confine(lists_server(l), ROLE_CUDA, &e))
		return server_die(ROLE_CUDA, &e);
	lists_loop(l);
}
