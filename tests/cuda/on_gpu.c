/* A command on a GPU; see on_gpu.h. */
#include "tests/cuda/on_gpu.h"

#include "drivers/cuda/gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct image {
	struct gpu_control control;
	struct gpu_run run;
	struct command command;
};

static struct gpu gpu;
static cu_address place[DEV_REGIONS + 2]; /* of each region, the table, the image */
static uint64_t room[DEV_REGIONS + 2];
static struct err why;

static void need(int rc)
{
	if (!rc)
		return;
	printf("Bail out! %s\n", why.text);
	exit(1);
}

int on_gpu_open(const char *library, const struct cubin *cubins, struct err *e)
{
	return gpu_open(&gpu, library, 0, cubins, e);
}

/* Memory for `bytes`; what was there before is not needed any more, and not given back. */
static cu_address at_least(unsigned which, uint64_t bytes)
{
	if (bytes > room[which] || !place[which]) {
		need(gpu_alloc(&gpu, &place[which], bytes, "a test", &why));
		room[which] = bytes;
	}
	return place[which];
}

bool on_gpu(struct device *d, const struct command *c)
{
	static const enum dev_region back[] = {DEV_WORK, DEV_KV, DEV_HOST_OUT};
	uint64_t table = (uint64_t)d->shape.layers * d->shape.experts * sizeof(*d->table);
	struct image image = {.control = {.stopped = 1}};
	cu_address to = at_least(DEV_REGIONS, sizeof(image));

	if (c->kind == COMMAND_EXPERT) { /* the host's part, as what copies experts */
		d->table[device_table_at(d, c->layer, c->id)] = c->expert;
		return false;
	}
	if (c->kind == COMMAND_COPY && dev_region(c->from) == DEV_HOST_SLOTS) {
		memcpy((char *)d->base[DEV_SLOTS] + dev_offset(c->to),
		       (char *)d->base[DEV_HOST_SLOTS] + dev_offset(c->from), c->bytes);
		return false;
	}
	image.command = *c;
	image.run =
		(struct gpu_run){.n = 1, .shape = d->shape, .frame = {d->frame[0], d->frame[1]}};
	image.run.list = (const struct command *)(uintptr_t)(to + offsetof(struct image, command));
	image.run.control = (struct gpu_control *)(uintptr_t)to;
	for (unsigned r = DEV_WORK; r <= DEV_HOST_OUT; r++) {
		if (!d->base[r] || r == DEV_HOST_SLOTS)
			continue;
		image.run.base[r] = (void *)(uintptr_t)at_least(r, d->bytes[r]);
		need(gpu_write(&gpu, place[r], d->base[r], d->bytes[r], &why));
	}
	image.run.table = (struct dev_expert *)(uintptr_t)at_least(DEV_REGIONS + 1, table + 1);
	need(gpu_write(&gpu, place[DEV_REGIONS + 1], d->table, table, &why));
	need(gpu_write(&gpu, to, &image, sizeof(image), &why));
	need(gpu_launch(&gpu, to + offsetof(struct image, run), &why));
	for (unsigned i = 0; i < 3; i++)
		if (d->base[back[i]])
			need(gpu_read(&gpu, d->base[back[i]], place[back[i]], d->bytes[back[i]],
				      &why));
	need(gpu_read(&gpu, &image.control, to, sizeof(image.control), &why));
	return image.control.stopped == 0;
}
