/*
 * Where the message rings of a running node lie: prints "RING producer consumer OBJECT offset
 * bytes" per line (of all batches together), for tests/e2e/hostile.t; last, where the client role's
 * records lie: "RECORDS rings-offset rings-bytes connections-offset bytes-of-one", and those of mla
 * and experts: "mla-offset mla-bytes experts-offset experts-bytes". The argument is a path of the
 * node object.
 */
#include "ipc/layout.h"
#include "ipc/record.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

static void print(enum ring_name ring, enum object object, uint64_t offset, int entries)
{
	const struct graph_ring *r = &graph_rings[ring];

	printf("%s %s %s %s %" PRIu64 " %zu\n", r->name, graph_roles[r->producer].program,
	       graph_roles[r->consumer].program, graph_objects[object].name, offset,
	       (size_t)entries * sizeof(struct msg));
}

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
	print(RING_ATTEND0, OBJ_ROUTER, l.router_ring[0], BATCHES * RING_ENTRIES);
	print(RING_FEED, OBJ_ROUTER, l.router_ring[1], BATCHES * RING_ENTRIES);
	print(RING_ROUTE, OBJ_MLA, l.mla_ring, BATCHES * RING_ENTRIES);
	print(RING_ATTEND, OBJ_EXPERTS, l.experts_ring[0], BATCHES * RING_ENTRIES);
	print(RING_FINISH, OBJ_EXPERTS, l.experts_ring[1], BATCHES * RING_ENTRIES);
	print(RING_ANNOUNCE, OBJ_CLIENT, l.client_ring, RING_ENTRIES_ANNOUNCE);
	printf("RECORDS %" PRIu64 " %zu %" PRIu64 " %" PRIu64, l.client_record,
	       record_bytes(l.client_record_size), l.client_conn, l.client_conn_stride);
	printf(" %" PRIu64 " %zu %" PRIu64 " %zu\n", l.mla_record,
	       record_bytes(sizeof(struct mla_record)), l.experts_record,
	       record_bytes(sizeof(struct experts_record)));
	return STATUS_OK;
}
