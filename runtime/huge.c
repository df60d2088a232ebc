/* Huge pages in shared memory; see huge.h. */
#include "runtime/huge.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

void *huge_map(int fd, size_t bytes, int prot)
{
	char *room, *p;
	size_t before, all = bytes + HUGE_PAGE;

	if (bytes < HUGE_PAGE)
		return mmap(NULL, bytes, prot, MAP_SHARED, fd, 0);
	room = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return room;
	before = -(uintptr_t)room % HUGE_PAGE;
	p = mmap(room + before, bytes, prot, MAP_SHARED | MAP_FIXED, fd, 0);
	if (p == MAP_FAILED) {
		int error = errno;

		munmap(room, all);
		errno = error;
		return p;
	}
	/* the map takes whole pages */
	bytes = (bytes + 4095) & ~(size_t)4095;
	if (before)
		munmap(room, before);
	if (before + bytes < all)
		munmap(p + bytes, all - before - bytes);
	return p;
}

bool huge_fill(void *p, size_t bytes)
{
	char *begin = (char *)p + -(uintptr_t)p % HUGE_PAGE, *end = (char *)p + bytes;
	size_t whole;
	int tries = 2;

	if (end < begin || (size_t)(end - begin) < HUGE_PAGE)
		return true;
	whole = (size_t)(end - begin) & ~(size_t)(HUGE_PAGE - 1);
	/* a huge page grows from a small one; a system call, as others may write here */
	for (size_t at = 0; at < whole; at += HUGE_PAGE) {
		if (madvise(begin + at, 4096, MADV_POPULATE_WRITE))
			return false;
	}
	/*
	 * One call for all: each waits until every CPU has emptied its lists of pages, and for
	 * whoever else does. EAGAIN: a page was just being moved; what is then still small may stay
	 */
	while (madvise(begin, whole, MADV_COLLAPSE)) {
		if (errno != EAGAIN)
			return false;
		if (!--tries)
			break;
	}
	return true;
}

void huge_populate(void *p, size_t bytes)
{
	/* where it fails, the first touch does it */
	madvise(p, bytes, MADV_POPULATE_WRITE);
}

void huge_touch(const void *p, size_t bytes)
{
	madvise((void *)(uintptr_t)p, bytes, MADV_POPULATE_READ);
}
