/*
 * What carries command lists out: the memory they name, and one function. A program of the role
 * `cuda` has one of the two executors: host.c, or that of drivers/cuda for a GPU. Used by
 * runtime/lists and by the mains of both programs.
 */
#ifndef RUNTIME_LISTS_EXECUTOR_H
#define RUNTIME_LISTS_EXECUTOR_H

#include "ipc/command.h"
#include "runtime/err.h"

#include <stddef.h>

enum {
	LIST_BATCHES = 2,
	DEV_NOAUX_TC = 2 /* of dev_shape.topk_method: enum topk_method */
};

/*
 * Regions of host memory have a pointer here; so have those of the device where the CPU executes.
 */
struct device {
	struct dev_shape shape;
	struct frame frame[LIST_BATCHES];
	void *base[DEV_REGIONS];     /* host addresses; NULL: not the host's memory */
	uint64_t bytes[DEV_REGIONS]; /* of each region; 0: there is none */
	struct dev_expert *table;    /* [layers][experts]: the executor's own */
	uint32_t row_max;            /* the longest row that NORM and ENTER make */
	uint64_t copy_rate; /* bytes a second from host memory, as the executor has measured */
};

static inline size_t device_table_at(const struct device *d, uint32_t layer, uint32_t expert)
{
	return (size_t)layer * d->shape.experts + expert;
}

/*
 * Whether a command of a list names nothing but what it may: kinds, rows, layers, every span of
 * memory, its region and its alignment. Row tables and page lists are checked by list_check.
 * -EBADMSG with a text.
 */
MUST_CHECK int command_check(const struct device *d, const struct command *c, struct err *e);

/* The same for a pass's row table and page list: afterwards no row leads outside the KV pages. */
MUST_CHECK int rows_check(const struct device *d, const struct frame *f, const struct dev_row *row,
			  uint32_t rows, const uint32_t *page, uint32_t pages, uint32_t context,
			  struct err *e);

#endif
