/* Leaks memory: the harness must notice in the sanitized build (tests/selftest/harness.t). */
#include "tests/tap.h"

#include <stdlib.h>

int main(void)
{
	char *p = malloc(100);

	ok(p != NULL, "memory is there");
	p = malloc(200); /* cppcheck-suppress memleak ; that is the point */
	ok(p != NULL, "and more, in place of the first");
	free(p);
	return tap_done();
}
