/*
 * The executor of command lists on a GPU: the same lists as runtime/lists/host.h, carried out by
 * the kernel of drivers/cuda. A pass is one launch, and one more each time it has had to wait for
 * experts; experts are copied on a stream of their own, and each is computed as soon as it is
 * there. Called by this folder's main and by tests.
 */
#ifndef RUNTIME_CUDA_EXECUTOR_H
#define RUNTIME_CUDA_EXECUTOR_H

#include "drivers/cuda/gpu.h"
#include "runtime/lists/server.h"

enum {
	ENTRIES = 256 /* of the table of experts on their way: more than two lists bring */
};

/* What the kernel is given, as one piece: copied whole before each launch. */
struct launch {
	struct gpu_control control;
	struct gpu_run run;
};

/* An expert that is being copied: its entry is made when the copies are done. */
struct arrival {
	cu_event done;
	uint64_t at; /* bytes into the table */
	const struct dev_expert *entry;
};

struct cuda_executor {
	struct executor x; /* first */
	struct gpu gpu;
	struct device *d;
	cu_address region[DEV_REGIONS], table, launch, list, fails;
	const char *listed;           /* whose copy is at `list` */
	struct launch *staged;        /* pinned, as the next three */
	struct dev_expert *entry;     /* [ENTRIES]: what the table is given, in turn */
	struct command *failed;       /* [ENTRIES]: FAIL commands */
	uint32_t *pair_done;          /* PAIR_DONE */
	uint32_t next_entry, written; /* of `entry`: the next; since all were copied */
	cu_event order;               /* what is on `work` when an upload begins */
	struct arrival arrival[ENTRIES];
	uint32_t arrived, arriving; /* counts: entries made, copies begun */
	uint64_t launches, uploads;
};

/*
 * Before anything else of the process: opens the driver in `library` and GPU `ordinal`. x->x is
 * then what lists_open wants. -errno with a text.
 */
MUST_CHECK int cuda_executor_open(struct cuda_executor *x, const char *library, unsigned ordinal,
				  const struct cubin *cubins, struct err *e);

#endif
