/*
 * A server for the tests of init, under the name of the program it takes the place of: as `gateway`
 * it echoes (tests/echo.h), else it only sleeps. It attaches like any server, so ipc/attach.c
 * checks what init gave it. A file named like the program with ".fail" makes it end with status 7.
 */
#include "ipc/attach.h"
#include "tests/echo.h"

#include <stdio.h>
#include <string.h>

static enum role role_named(const char *program)
{
	for (unsigned r = ROLE_CLIENT; r < ROLE_COUNT; r++) {
		if (!strcmp(graph_roles[r].program, program))
			return (enum role)r;
	}
	return ROLE_COUNT;
}

int main(int argc, char **argv)
{
	static struct attach a;
	struct err e = {0};
	enum role role = role_named(argv[0]);
	struct bell *bell;

	(void)argc; /* argv ends with NULL */
	if (role == ROLE_COUNT || attach_open(&a, role, &e) || attach_generation(&a, argv[1], &e)) {
		fprintf(stderr, "penstock: %s: %s\n", argv[0], e.text);
		return 1;
	}
	attach_take_over(&a);
	bell = &a.bells->bell[role][0];
	for (;;) {
		bell_prepare(bell);
		if (role == ROLE_CLIENT &&
		    echo_all(&a.layout, a.object[OBJ_CLIENT], a.object[OBJ_CONNS])) {
			bell_cancel(bell);
			echo_tell(a.bells, FD_BELL);
			continue;
		}
		bell_wait(bell, UINT64_MAX);
	}
}
