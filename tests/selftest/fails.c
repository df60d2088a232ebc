/* One check fails: the harness must notice (tests/selftest/harness.t). */
#include "tests/tap.h"

int main(void)
{
	ok(1, "one is true");
	is_int(1, 2, "one is two");
	return tap_done();
}
