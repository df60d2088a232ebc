/*
 * Command lists on a GPU; see executor.h. Two streams: `work` has kernels, lists, table and results
 * in order; `upload` has the experts' matrices. The table is written on `work` only, behind the
 * event of an expert's last copy, so a kernel never sees an expert that is not all there, nor one
 * come while it runs.
 */
#include "runtime/cuda/executor.h"

#include "runtime/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum {
	MEASURED = 32 << 20, /* bytes of the copy that is timed */
	DRIVER_SHARE = 64    /* of its memory that the driver may want while it runs */
};

static struct cuda_executor *self(struct executor *x)
{
	return (struct cuda_executor *)x;
}

static int try(struct cuda_executor *x, int result, const char *what, struct err *e)
{
	return cuda_check(&x->gpu.call, result, what, e);
}

/* ---- Start ---- */

/* What the kernels have room for. */
static int check_shape(const struct dev_shape *s, struct err *e)
{
	if (s->rank > GPU_RANK_MAX || s->key > GPU_KEY_MAX || s->n_group > GPU_GROUP_MAX)
		return err_exit(e, STATUS_MEMORY, -ENOTSUP,
				"a latent of %u, keys of %u and %u groups of experts: the GPU's "
				"kernels have room for %u, %u and %u",
				s->rank, s->key, s->n_group, GPU_RANK_MAX, GPU_KEY_MAX,
				GPU_GROUP_MAX);
	return 0;
}

static int make_arrivals(struct cuda_executor *x, struct err *e)
{
	int rc =
		try(x, x->gpu.call.event_create(&x->order, CU_EVENT_DISABLE_TIMING), "an event", e);

	for (unsigned i = 0; !rc && i < ENTRIES; i++)
		rc = try(x, x->gpu.call.event_create(&x->arrival[i].done, CU_EVENT_DISABLE_TIMING),
			 "an event", e);
	return rc;
}

/* As many experts as fit into what is left, less what the driver may want for itself. */
static int make_slots(struct cuda_executor *x, uint64_t slot_bytes, struct err *e)
{
	struct gpu *g = &x->gpu;
	uint64_t *bytes = &x->d->bytes[DEV_SLOTS], room;
	size_t left, total;
	int rc = gpu_wait(g, e);

	if (!rc)
		rc = try(x, g->call.memory_info(&left, &total), "the GPU's memory", e);
	if (rc)
		return rc;
	room = left > total / DRIVER_SHARE ? left - total / DRIVER_SHARE : 0;
	if (*bytes > room / slot_bytes * slot_bytes)
		*bytes = room / slot_bytes * slot_bytes;
	return gpu_alloc(g, &x->region[DEV_SLOTS], *bytes, "experts", e);
}

/* How fast pinned memory is copied: the best of a few. */
static int measure_copy(struct cuda_executor *x, struct err *e)
{
	uint64_t bytes = x->d->bytes[DEV_WORK] < MEASURED ? x->d->bytes[DEV_WORK] : MEASURED;
	void *from = gpu_pinned(&x->gpu, bytes, e);
	int rc = from ? 0 : e->code;

	for (unsigned i = 0; !rc && i < 4; i++) {
		uint64_t start = clock_now_ns(), took, rate;

		rc = gpu_write(&x->gpu, x->region[DEV_WORK], from, bytes, e);
		took = clock_now_ns() - start;
		rate = (uint64_t)((double)bytes * 1e9 / (double)(took ? took : 1));
		if (rate > x->d->copy_rate)
			x->d->copy_rate = rate;
	}
	return rc;
}

static int open_device(struct executor *base, struct device *d, const struct server *s,
		       struct err *e)
{
	static const struct {
		enum dev_region region;
		const char *what;
	} own[] = {{DEV_WORK, "the rows of a pass"},
		   {DEV_KV, "the KV pages"},
		   {DEV_WEIGHTS, "the resident weights"}};
	struct cuda_executor *x = self(base);
	struct gpu *g = &x->gpu;
	const struct plan *p = s->at.plan;
	int rc = check_shape(&d->shape, e);

	x->d = d;
	for (unsigned i = 0; !rc && i < sizeof(own) / sizeof(own[0]); i++)
		rc = gpu_alloc(g, &x->region[own[i].region], d->bytes[own[i].region], own[i].what,
			       e);
	if (!rc)
		rc = gpu_alloc(g, &x->table,
			       (uint64_t)d->shape.layers * d->shape.experts *
				       sizeof(struct dev_expert),
			       "the table of experts", e);
	if (!rc)
		rc = gpu_alloc(g, &x->launch, sizeof(struct launch), "a launch", e);
	if (!rc)
		rc = gpu_alloc(g, &x->list, p->list_bytes[p->list_bytes[1] > p->list_bytes[0]],
			       "a list", e);
	if (!rc)
		rc = gpu_alloc(g, &x->fails, ENTRIES * sizeof(struct command), "a list", e);
	if (!rc)
		rc = make_slots(x, p->slot_bytes, e);
	if (rc)
		return rc;
	x->region[DEV_HOST_LIST] = x->list;
	x->staged = gpu_pinned(g, sizeof(*x->staged), e);
	x->entry = x->staged ? gpu_pinned(g, ENTRIES * sizeof(*x->entry), e) : NULL;
	x->failed = x->entry ? gpu_pinned(g, ENTRIES * sizeof(*x->failed), e) : NULL;
	x->pair_done = x->failed ? gpu_pinned(g, sizeof(*x->pair_done), e) : NULL;
	if (!x->pair_done)
		return e->code;
	*x->pair_done = PAIR_DONE;
	/* without these the driver copies through memory of its own: the same bytes, later */
	(void)gpu_register(g, d->base[DEV_HOST_SLOTS], d->bytes[DEV_HOST_SLOTS], 1);
	(void)gpu_register(g, d->base[DEV_HOST_OUT], d->bytes[DEV_HOST_OUT], 0);
	rc = measure_copy(x, e);
	return rc ? rc : make_arrivals(x, e);
}

static int weights(struct executor *base, const void *resident, uint64_t bytes, struct err *e)
{
	struct cuda_executor *x = self(base);

	return gpu_write(&x->gpu, x->region[DEV_WEIGHTS], resident, bytes, e);
}

static int put(struct executor *base, uint64_t offset, const void *from, uint64_t bytes,
	       struct err *e)
{
	struct cuda_executor *x = self(base);

	return gpu_write(&x->gpu, x->region[DEV_KV] + offset, from, bytes, e);
}

/* ---- Experts ---- */

/* Room for one entry more: all that were written are copied once `work` has come so far. */
static int take_entry(struct cuda_executor *x, const struct dev_expert *e_in,
		      struct dev_expert **out, struct err *e)
{
	int rc = 0;

	if (x->written == ENTRIES) {
		rc = gpu_wait(&x->gpu, e);
		x->written = x->arriving - x->arrived;
	}
	*out = &x->entry[x->next_entry++ % ENTRIES];
	**out = *e_in;
	x->written++;
	return rc;
}

static int put_entry(struct cuda_executor *x, uint64_t at, const struct dev_expert *entry,
		     struct err *e)
{
	return try(x, x->gpu.call.to_device(x->table + at, entry, sizeof(*entry), x->gpu.work),
		   "an expert's entry", e);
}

/* An entry of the table: at once if it is empty, else when the copies before it are done. */
static int load_entry(struct cuda_executor *x, const struct command *c, struct err *e)
{
	uint64_t at = device_table_at(x->d, c->layer, c->id) * sizeof(struct dev_expert);
	struct arrival *a = &x->arrival[x->arriving % ENTRIES];
	struct dev_expert *entry;
	int rc = take_entry(x, &c->expert, &entry, e);

	if (rc)
		return rc;
	if (!c->expert.data[0])
		return put_entry(x, at, entry, e);
	a->at = at;
	a->entry = entry;
	x->arriving++;
	return try(x, x->gpu.call.event_record(a->done, x->gpu.upload), "an event", e);
}

/* Enters what has arrived, or at least one: waits for the first. Whether there was any. */
static int enter_arrivals(struct cuda_executor *x, bool *any, struct err *e)
{
	int rc = 0;

	*any = false;
	while (!rc && x->arrived != x->arriving) {
		const struct arrival *a = &x->arrival[x->arrived % ENTRIES];
		int ready = x->gpu.call.event_query(a->done);

		if (ready == CU_NOT_READY && *any)
			break;
		if (ready && ready != CU_NOT_READY)
			return try(x, ready, "an expert's copy", e);
		rc = try(x, x->gpu.call.stream_wait(x->gpu.work, a->done, 0), "an event", e);
		if (!rc)
			rc = put_entry(x, a->at, a->entry, e);
		x->arrived++;
		*any = true;
	}
	return rc;
}

/* Gives the kernel commands [from, n) at `list` and starts it. */
static int start(struct cuda_executor *x, cu_address list, uint32_t from, uint32_t n, struct err *e)
{
	struct gpu_run *r = &x->staged->run;
	int rc;

	memset(x->staged, 0, sizeof(*x->staged));
	x->staged->control.stopped = n;
	r->list = (const struct command *)(uintptr_t)list;
	r->from = from;
	r->n = n;
	for (unsigned i = 0; i < DEV_REGIONS; i++)
		r->base[i] = (void *)(uintptr_t)x->region[i];
	r->table = (struct dev_expert *)(uintptr_t)x->table;
	r->control = (struct gpu_control *)(uintptr_t)x->launch;
	r->shape = x->d->shape;
	r->frame[0] = x->d->frame[0];
	r->frame[1] = x->d->frame[1];
	rc = try(x, x->gpu.call.to_device(x->launch, x->staged, sizeof(*x->staged), x->gpu.work),
		 "a launch's figures", e);
	x->launches++;
	return rc ? rc : gpu_launch(&x->gpu, x->launch + offsetof(struct launch, run), e);
}

/* An output that the CPU has computed, and its pair is done. */
static int load_result(struct cuda_executor *x, const struct command *c, struct err *e)
{
	const struct frame *f = &x->d->frame[c->batch];
	cu_address work = x->region[DEV_WORK];
	int rc = try(x,
		     x->gpu.call.to_device(work + f->f + 4ull * c->n * x->d->shape.width,
					   (const char *)x->d->base[DEV_HOST_RESULT] +
						   dev_offset(c->from),
					   c->bytes, x->gpu.work),
		     "an output", e);

	return rc ? rc
		  : try(x,
			x->gpu.call.to_device(work + f->state + 4ull * c->n, x->pair_done,
					      sizeof(*x->pair_done), x->gpu.work),
			"a pair's state", e);
}

static int load_copy(struct cuda_executor *x, const struct command *c, struct err *e)
{
	x->uploads++;
	return try(x,
		   x->gpu.call.to_device(x->region[DEV_SLOTS] + dev_offset(c->to),
					 (const char *)x->d->base[DEV_HOST_SLOTS] +
						 dev_offset(c->from),
					 c->bytes, x->gpu.upload),
		   "an expert's copy", e);
}

/* Rows that fail are the kernel's. */
static int load_fails(struct cuda_executor *x, uint32_t n, struct err *e)
{
	int rc;

	if (!n)
		return 0;
	rc = gpu_write(&x->gpu, x->fails, x->failed, n * sizeof(*x->failed), e);
	if (!rc)
		rc = start(x, x->fails, 0, n, e);
	return rc ? rc : gpu_wait(&x->gpu, e);
}

static int load(struct executor *base, const struct command *list, uint32_t n, struct err *e)
{
	struct cuda_executor *x = self(base);
	uint32_t fails = 0;
	int rc;

	if (!n)
		return 0;
	/* a slot is overwritten when nothing that stands on `work` can read it any more */
	rc = try(x, x->gpu.call.event_record(x->order, x->gpu.work), "an event", e);
	if (!rc)
		rc = try(x, x->gpu.call.stream_wait(x->gpu.upload, x->order, 0), "an event", e);
	for (uint32_t i = 0; !rc && i < n; i++) {
		const struct command *c = &list[i];

		if (c->kind == COMMAND_COPY)
			rc = load_copy(x, c, e);
		else if (c->kind == COMMAND_EXPERT)
			rc = load_entry(x, c, e);
		else if (c->kind == COMMAND_RESULT)
			rc = load_result(x, c, e);
		else
			x->failed[fails++ % ENTRIES] = *c;
	}
	return rc ? rc : load_fails(x, fails, e);
}

static int settle(struct executor *base, struct err *e)
{
	struct cuda_executor *x = self(base);
	bool any;
	int rc = try(x, x->gpu.call.stream_sync(x->gpu.upload), "the experts' copies", e);

	while (!rc && x->arrived != x->arriving)
		rc = enter_arrivals(x, &any, e);
	return rc;
}

/* ---- Passes ---- */

/* Where the results begin: the kernel leaves them to the copy engine. */
static uint32_t results_at(const struct command *list, uint32_t n)
{
	while (n && list[n - 1].kind == COMMAND_COPY && dev_region(list[n - 1].to) == DEV_HOST_OUT)
		n--;
	return n;
}

static int fetch_results(struct cuda_executor *x, const struct command *list, uint32_t from,
			 uint32_t n, struct err *e)
{
	int rc = 0;

	for (uint32_t i = from; !rc && i < n; i++)
		rc = try(x,
			 x->gpu.call.to_host((char *)x->d->base[DEV_HOST_OUT] +
						     dev_offset(list[i].to),
					     x->region[DEV_WORK] + dev_offset(list[i].from),
					     list[i].bytes, x->gpu.work),
			 "results", e);
	return rc ? rc : gpu_wait(&x->gpu, e);
}

/* Runs to the end or to experts that are not even on their way. */
static int run(struct executor *base, const struct command *list, uint32_t from, uint32_t n,
	       uint32_t *stopped, struct err *e)
{
	struct cuda_executor *x = self(base);
	const char *whole = x->d->base[DEV_HOST_LIST];
	cu_address at = x->list + (uint64_t)((const char *)list - whole);
	uint32_t end = results_at(list, n);
	bool any = false;
	int rc = 0;

	if (!from || x->listed != whole) /* the other batch's list has been there meanwhile */
		rc = try(x,
			 x->gpu.call.to_device(x->list, whole, x->d->bytes[DEV_HOST_LIST],
					       x->gpu.work),
			 "a list", e);
	x->listed = whole;
	*stopped = from;
	do {
		if (!rc)
			rc = enter_arrivals(x, &any, e);
		if (!rc)
			rc = start(x, at, *stopped, end, e);
		if (!rc)
			rc = gpu_read(&x->gpu, &x->staged->control, x->launch,
				      sizeof(x->staged->control), e);
		if (rc)
			return rc;
		x->written = x->arriving - x->arrived;
		*stopped = x->staged->control.stopped;
	} while (*stopped != end && x->arrived != x->arriving);
	if (*stopped != end)
		return 0;
	*stopped = n;
	return fetch_results(x, list, end, n, e);
}

static int pairs(struct executor *base, const struct frame *f, uint32_t layer, uint32_t rows,
		 uint32_t *state, uint16_t *expert, uint16_t *in, struct err *e)
{
	struct cuda_executor *x = self(base);
	const struct dev_shape *s = &x->d->shape;
	uint64_t n = (uint64_t)rows * s->top_k, at = f->expert + 2ull * layer * f->rows * s->top_k;
	cu_address work = x->region[DEV_WORK];
	int rc = gpu_read(&x->gpu, state, work + f->state, n * sizeof(*state), e);

	if (!rc)
		rc = gpu_read(&x->gpu, expert, work + at, n * sizeof(*expert), e);
	return rc ? rc
		  : gpu_read(&x->gpu, in, work + f->x, (uint64_t)rows * s->width * sizeof(*in), e);
}

int cuda_executor_open(struct cuda_executor *x, const char *library, unsigned ordinal,
		       const struct cubin *cubins, struct err *e)
{
	memset(x, 0, sizeof(*x));
	x->x = (struct executor){.open = open_device,
				 .weights = weights,
				 .put = put,
				 .run = run,
				 .load = load,
				 .settle = settle,
				 .pairs = pairs};
	return gpu_open(&x->gpu, library, ordinal, cubins, e);
}
