/* A server that cannot start, for restart.t: says so, and ends with status 7. */
#include <stdio.h>

int main(int argc, char **argv)
{
	fprintf(stderr, "penstock: %s: told to fail\n", argc ? argv[0] : "");
	return 7;
}
