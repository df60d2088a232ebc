/*
 * The server `cuda`, whatever executes: takes lists from router, checks them, has them carried out,
 * asks experts for what is missing, and leaves results in its own object (drivers/cuda/README.md).
 * A program of the role gives it an executor: runtime/cuda_cpu has the CPU's.
 */
#ifndef RUNTIME_LISTS_SERVER_H
#define RUNTIME_LISTS_SERVER_H

#include "runtime/lists/executor.h"
#include "runtime/server/server.h"

#include <stdnoreturn.h>

/* An executor: memory of the device's regions, and what can be done with it. */
struct executor {
	/* Makes DEV_WORK, DEV_KV and DEV_SLOTS of d->bytes, and the table. -errno with a text. */
	int (*open)(struct executor *x, struct device *d, const struct server *s, struct err *e);
	/* The weights are complete: they may be used, or copied to the device. */
	int (*weights)(struct executor *x, const void *resident, uint64_t bytes, struct err *e);
	/* Bytes of host memory to an offset of DEV_KV. */
	void (*put)(struct executor *x, uint64_t offset, const void *from, uint64_t bytes);
	/* As host_run. */
	uint32_t (*run)(struct executor *x, const struct command *list, uint32_t from, uint32_t n);
	/* Of a list that has stopped in `layer`: the states and experts of its pairs. */
	void (*pairs)(struct executor *x, const struct frame *f, uint32_t layer, uint32_t pairs,
		      uint32_t *state, uint16_t *expert);
};

struct lists;

/* Attaches and makes room; generation: argv[1]. NULL with a text. */
struct lists *lists_open(struct executor *x, const char *generation, struct err *e);

/* Serves lists until killed. */
noreturn void lists_loop(struct lists *l);

/* For server_confine and server_die. */
const struct server *lists_server(const struct lists *l);

#endif
