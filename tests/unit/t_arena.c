/* Bump allocation stays inside its block, whatever is asked (runtime/arena.h). */
#include "runtime/arena.h"
#include "tests/tap.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

static void test_edges(void)
{
	struct err e = {0};
	struct arena a;

	is_int(arena_map(&a, 200, &e), 0, "a block is mapped");
	ok(arena_alloc(&a, 10, 1) == a.base, "the first bytes come first");
	ok(arena_alloc(&a, 63, 64) == a.base + 64, "others at their alignment");
	ok(arena_alloc(&a, 73, 1) != NULL, "what fits exactly is given");
	is_int((long long)a.used, 200, "and the block is full to its last byte");
	ok(arena_alloc(&a, 0, 1) != NULL, "nothing still fits into a full block");
	ok(!arena_alloc(&a, 1, 1), "one byte more is refused");
	ok(!arena_alloc(&a, 0, 64), "so is padding beyond the end");
	arena_reset(&a, 0);
	ok(!arena_alloc(&a, SIZE_MAX, 1), "a size that would wrap is refused");
	ok(!arena_alloc(&a, SIZE_MAX - 63, 64), "also with padding");
	is_int((long long)a.used, 0, "a refusal uses nothing up");
	arena_fini(&a);
}

static void test_array(void)
{
	struct arena a;
	struct err e = {0};
	uint32_t *x;
	size_t mark;

	is_int(arena_map(&a, 4096, &e), 0, "a page is mapped");
	x = arena_new(&a, uint32_t, 16);
	ok(x && (uintptr_t)x % alignof(uint32_t) == 0, "an array is aligned for its type");
	if (x)
		memset(x, 0xff, 16 * sizeof(*x));
	arena_reset(&a, 0);
	x = arena_new(&a, uint32_t, 16);
	ok(x && x[0] == 0 && x[15] == 0, "an array is zeroed, whoever had the bytes before");
	ok(!arena_array(&a, SIZE_MAX / 2, 4, 4), "a product that would wrap is refused");
	mark = a.used;
	ok(arena_new(&a, uint32_t, 100) != NULL, "a second array fits");
	arena_reset(&a, mark);
	is_int((long long)a.used, 64, "a reset to a mark keeps what was given before it");
	arena_fini(&a);
	arena_fini(&a);
	ok(!a.base, "a second fini does nothing");
	is_int(arena_map(&a, SIZE_MAX / 2, &e), -12, "a map that cannot be is -ENOMEM");
	is_int(e.status, STATUS_MEMORY, "with the exit status for memory");
	ok(!a.base && !arena_alloc(&a, 1, 1), "and leaves an arena in which nothing fits");
}

int main(void)
{
	test_edges();
	test_array();
	return tap_done();
}
