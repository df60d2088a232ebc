/*
 * Undefined behaviour: the harness must notice in the sanitized build (tests/selftest/harness.t).
 */
#include "tests/tap.h"

#include <limits.h>

int main(int argc, char **argv)
{
	int n = INT_MAX;

	(void)argv;
	n += argc;
	ok(n != argc, "a number differs from another");
	return tap_done();
}
