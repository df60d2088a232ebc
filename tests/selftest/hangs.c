/* Never ends: the harness must stop it and say so (tests/selftest/harness.t). */
#include "tests/tap.h"

#include <unistd.h>

int main(void)
{
	ok(1, "one is true");
	for (;;)
		pause();
}
