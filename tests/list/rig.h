/*
 * A device made of plain memory over a golden checkpoint, with the host's executor: what t_list and
 * the tests of the kernels have in common.
 */
#ifndef TESTS_LIST_RIG_H
#define TESTS_LIST_RIG_H

#include "model/list.h"
#include "runtime/forward/forward.h"
#include "runtime/lists/host.h"

enum {
	RIG_ROWS = 48,
	RIG_WORKERS = 2,
	RIG_CONTEXT = FORWARD_PAGES * KV_PAGE_ROWS,
	RIG_PAGES = FORWARD_SEQUENCES * FORWARD_PAGES
};

/* A device made of plain memory, over the checkpoint of a forward. */
struct rig {
	struct forward *f;
	struct cpu_kernels kernels;
	struct device d;
	struct host *host;
	struct list_layout in;
	struct list_out out;
	char *list; /* what router's object would hold */
	uint32_t slots, next, stops;
	uint64_t slot_bytes;
	uint32_t *tenant; /* [slots]: layer * experts + expert + 1 */
	bool shuffle;     /* runs of joined commands are turned round */
	/* instead of the executor, if set; returns where the list stopped, or n */
	uint32_t (*run)(struct rig *r, const struct command *list, uint32_t from, uint32_t n);
	void *context; /* of whoever has set it */
};

/* Room for `slots` experts on the device. */
void rig_open(struct rig *r, struct forward *f, struct team *team, uint32_t slots);
void rig_close(struct rig *r);

/* Brings an expert in, in the place of the one that came longest ago. */
void rig_bring(struct rig *r, uint32_t layer, uint32_t expert);

/*
 * One pass through a list: rows of sequences, their residual stream from `h`. All rows want logits;
 * results are in DEV_HOST_OUT.
 */
void rig_pass(struct rig *r, const struct forward_row *row, uint32_t n, uint32_t batch,
	      const float *h, uint32_t first, uint32_t last);

#endif
