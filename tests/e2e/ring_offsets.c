/*
 * Where the message rings of a running node lie: prints "OBJECT offset entries" per line, for
 * tests/e2e/hostile.t. The argument is a path of the node object.
 */
#include "ipc/layout.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	struct layout l;
	struct err e = {0};
	const struct node *n;
	int fd = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return STATUS_USAGE;
	n = mmap(NULL, sizeof(*n), PROT_READ, MAP_SHARED, fd, 0);
	if (n == MAP_FAILED || layout_make(&l, &n->plan, &e))
		return STATUS_FAILED;
	printf("MLA %" PRIu64 " %d\n", l.mla_ring, BATCHES * RING_ENTRIES);
	printf("EXPERTS %" PRIu64 " %d\n", l.experts_ring[0], 2 * BATCHES * RING_ENTRIES);
	printf("ROUTER %" PRIu64 " %d\n", l.router_ring[0], 2 * BATCHES * RING_ENTRIES);
	return STATUS_OK;
}
