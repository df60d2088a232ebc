/*
 * Shared memory in huge pages, whatever the machine's settings say. Most distributions forbid huge
 * pages in shared memory (shmem_enabled = never), but MADV_COLLAPSE is a request for one place and
 * heeds only `deny`. Weights read at 4 KiB pages cost a sixth of the memory's bandwidth, and
 * registering 4 GB of them with io_uring takes seconds. Called by init for the slots, by the loader
 * for the resident weights, by every server for its maps.
 */
#ifndef RUNTIME_HUGE_H
#define RUNTIME_HUGE_H

#include <stdbool.h>
#include <stddef.h>

enum {
	HUGE_PAGE = 2 << 20
};

/*
 * mmap(MAP_SHARED) of the whole file at an address where huge pages of the file stay huge in the
 * map. MAP_FAILED with errno set.
 */
void *huge_map(int fd, size_t bytes, int prot);

/*
 * Makes memory of the whole huge pages inside [p, p + bytes) of a writable map. Contents stay,
 * and others may write there meanwhile. Blocks for about half a second per gigabyte. False where
 * the kernel gives none: asking again for other places is pointless; the memory is then filled when
 * it is touched.
 */
bool huge_fill(void *p, size_t bytes);

/*
 * Maps what there is of [p, p + bytes), page-aligned, so that reading it later makes no faults;
 * memory that is missing is made. Older kernels cannot: no harm.
 */
void huge_touch(const void *p, size_t bytes);

/* Makes what memory is still missing in [p, p + bytes), page-aligned, of a writable map. */
void huge_populate(void *p, size_t bytes);

#endif
