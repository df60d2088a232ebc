/* A NaN is near nothing: the harness must notice (tests/selftest/harness.t). */
#include "tests/tap.h"

#include <math.h>

int main(void)
{
	is_near((double)NAN, 0.0, 1e9, "a NaN is within any tolerance");
	return tap_done();
}
