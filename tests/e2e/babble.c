/*
 * A hostile server, under the name of the program it takes the place of: writes bytes of its own
 * choice over everything that its role may write (records, rings, rows, logs), again and again, and
 * rings every bell. For babble.t.
 */
#include "ipc/attach.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t state;

/* xorshift; what it gives need only be various */
static uint64_t draw(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

/* Whole words of noise, small numbers or ones: counts that are nearly right do the most harm. */
static void scribble(char *p, uint64_t bytes)
{
	uint64_t at = draw() % bytes & ~7ull, n = 1 + draw() % 64, kind = draw() % 4;

	/* records, rings and tables stand first */
	if (draw() % 2)
		at %= 65536;
	for (; n && at + 8 <= bytes; n--, at += 8) {
		uint64_t word = kind == 0   ? draw()
				: kind == 1 ? draw() % 16
				: kind == 2 ? UINT64_MAX
					    : *(volatile uint64_t *)(void *)(p + at) + draw() % 3;

		*(volatile uint64_t *)(void *)(p + at) = word;
	}
}

int main(int argc, char **argv)
{
	static struct attach a;
	struct err e = {0};
	enum role role = ROLE_CLIENT;

	while (role < ROLE_EXPERTS && argc && strcmp(graph_roles[role].program, argv[0]) != 0)
		role++;
	state = (uint64_t)time(NULL) * 2654435761u + role + 1;
	if (attach_open(&a, role, &e)) {
		fprintf(stderr, "penstock: %s: %s\n", argv[0], e.text);
		return 1;
	}
	for (uint64_t turn = 0;; turn++) {
		const struct timespec rest = {.tv_nsec = 200 * 1000};

		for (unsigned o = 0; o < OBJ_COUNT; o++) {
			if (o != OBJ_BELLS && graph_access(role, (enum object)o) == ACCESS_WRITE)
				scribble(a.object[o], a.bytes[o]);
		}
		for (unsigned r = ROLE_CLIENT; r <= ROLE_EXPERTS; r++)
			attach_ring(&a, (enum role)r);
		if (turn % 8 == 0)
			nanosleep(&rest, NULL); /* the others are to look at it */
	}
}
