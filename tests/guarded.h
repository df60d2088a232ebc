/* Memory for fuzz targets behind which lies a page that nobody may touch. */
#ifndef TESTS_GUARDED_H
#define TESTS_GUARDED_H

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
	GUARDED_PAGE = 4096
};

/*
 * Zeroed, at a cache line, and but for less than one right before the guard. Never given back; no
 * memory ends the process.
 */
static inline void *map_guarded(uint64_t bytes)
{
	size_t len = (bytes + GUARDED_PAGE - 1) / GUARDED_PAGE * GUARDED_PAGE;
	char *p = mmap(NULL, len + GUARDED_PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED || mprotect(p + len, GUARDED_PAGE, PROT_NONE))
		abort();
	return p + (len - bytes) / 64 * 64;
}

#endif
