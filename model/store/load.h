/*
 * Loads what stays in memory: reads the index's list from the drive into the resident object, in
 * the order of use, widens vectors to F32 and refuses numbers that are not finite. Called by the
 * loader, and by one-shot commands that compute.
 */
#ifndef MODEL_STORE_LOAD_H
#define MODEL_STORE_LOAD_H

#include "model/index.h"
#include "model/store/files.h"

/*
 * `resident` has ix->resident_bytes zeroed bytes. `files` are those that the survey saw. Publishes
 * the bytes done in the header with release after each tensor. Returns 0, or -errno with status 3
 * and a text that names file and tensor.
 */
MUST_CHECK int load_resident(const struct index *ix, const struct store_files *files,
			     void *resident, struct err *e);

/*
 * The first element of `bytes` bytes of `stored` (enum index_type) that is not finite, or -1. FP8:
 * the codes 0x7f and 0xff. Any alignment.
 */
int64_t load_find_nonfinite(const void *data, uint64_t bytes, uint32_t stored);

#endif
