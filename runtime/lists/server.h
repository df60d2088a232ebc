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

/*
 * An executor: memory of the device's regions, and what can be done with it. All return 0, or
 * -errno with a text: the device is then of no more use, and the process ends.
 */
struct executor {
	/*
	 * Makes DEV_WORK, DEV_KV, DEV_WEIGHTS and DEV_SLOTS of d->bytes, and the table. DEV_SLOTS
	 * may become smaller: by whole slots. Sets d->copy_rate.
	 */
	int (*open)(struct executor *x, struct device *d, const struct server *s, struct err *e);
	/* The weights are complete: they may be used, or copied to the device. */
	int (*weights)(struct executor *x, const void *resident, uint64_t bytes, struct err *e);
	/* Bytes of host memory to an offset of DEV_KV. */
	int (*put)(struct executor *x, uint64_t offset, const void *from, uint64_t bytes,
		   struct err *e);
	/*
	 * Carries out commands [from, n) of a pass whose list is DEV_HOST_LIST. *stopped: the
	 * command that waits for experts, or n: the results are in DEV_HOST_OUT.
	 */
	int (*run)(struct executor *x, const struct command *list, uint32_t from, uint32_t n,
		   uint32_t *stopped, struct err *e);
	/*
	 * A list of experts: COPY, EXPERT, FAIL, RESULT. What it copies from is read at leisure:
	 * until `settle` has returned.
	 */
	int (*load)(struct executor *x, const struct command *list, uint32_t n, struct err *e);
	int (*settle)(struct executor *x, struct err *e);
	/*
	 * Of a list that has stopped in `layer`: the states and experts of the pairs of its first
	 * `rows` rows, and x, what the experts are given of them: BF16 [rows][width].
	 */
	int (*pairs)(struct executor *x, const struct frame *f, uint32_t layer, uint32_t rows,
		     uint32_t *state, uint16_t *expert, uint16_t *in, struct err *e);
};

struct lists;

/* Attaches and makes room; generation: argv[1]. NULL with a text. */
struct lists *lists_open(struct executor *x, const char *generation, struct err *e);

/* Serves lists until killed. */
noreturn void lists_loop(struct lists *l);

/* For server_confine and server_die. */
const struct server *lists_server(const struct lists *l);

#endif
