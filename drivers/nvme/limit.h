/*
 * What the drive gives at most, for `penstock bench`: reads of one size, as many in flight as asked
 * for, over the model's own files, through an io_uring with registered buffers as the engine has,
 * and nothing else in the way. With runs of one piece the figure that fio gives for --rw=randread
 * --direct=1 --ioengine=io_uring at the same size and depth.
 */
#ifndef DRIVERS_NVME_LIMIT_H
#define DRIVERS_NVME_LIMIT_H

#include "runtime/err.h"

#include <stdint.h>

struct drive_file {
	int fd;         /* O_DIRECT where the file system allows it */
	uint64_t bytes; /* files smaller than a piece are left out */
};

struct drive_rate {
	uint64_t bytes, reads, ns;
	double gbs; /* bytes / ns */
};

/*
 * Reads pieces of `piece` bytes (a multiple of 4096), `depth` (1 to 256) at a time, for `for_ns`:
 * `run` of them one after the other from a random place, then from the next, as experts lie.
 * -ENODATA if no file holds a piece.
 */
MUST_CHECK int drive_limit(struct drive_rate *out, const struct drive_file *file, unsigned files,
			   uint32_t piece, unsigned depth, unsigned run, uint64_t for_ns,
			   struct err *e);

#endif
