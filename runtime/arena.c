/*
 * The bump allocator of runtime/arena.h.
 */
#include "runtime/arena.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

int arena_map(struct arena *a, size_t size, struct err *e)
{
	void *p = MAP_FAILED;

	*a = (struct arena){0};
	if (size > 0)
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "cannot get %zu bytes of memory", size);
	*a = (struct arena){.base = p, .size = size};
	return 0;
}

void arena_fini(struct arena *a)
{
	if (a->base)
		munmap(a->base, a->size);
	*a = (struct arena){0};
}

void *arena_alloc(struct arena *a, size_t size, size_t align)
{
	size_t pad;

	assert(align > 0 && (align & (align - 1)) == 0);
	pad = (size_t)(-((uintptr_t)a->base + a->used)) & (align - 1);
	if (pad > a->size - a->used || size > a->size - a->used - pad)
		return NULL;
	a->used += pad + size;
	return a->base + a->used - size;
}

void *arena_array(struct arena *a, size_t n, size_t size, size_t align)
{
	size_t bytes;
	void *p;

	if (__builtin_mul_overflow(n, size, &bytes))
		return NULL;
	p = arena_alloc(a, bytes, align);
	if (p && bytes > 0)
		memset(p, 0, bytes);
	return p;
}

void arena_reset(struct arena *a, size_t mark)
{
	assert(mark <= a->used);
	a->used = mark;
}
