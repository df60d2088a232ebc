/*
 * The gateway's main; see gateway.h. init has made the objects, and everything after gateway_open
 * needs no more than futexes, clocks and FD_BELL.
 */
#include "runtime/gateway/gateway.h"

#include "ipc/sandbox.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	static struct gateway gateway;
	const struct index *ix;
	struct attach at;
	struct err e = {0};

	if (attach_open(&at, ROLE_CLIENT, &e) ||
	    attach_generation(&at, argc > 1 ? argv[1] : NULL, &e) ||
	    index_open(&ix, attach_at(&at, OBJ_INDEX, sizeof(struct object_header)),
		       at.bytes[OBJ_INDEX] - sizeof(struct object_header), &e) ||
	    gateway_open(&gateway, &at, ix, &e) || sandbox_files(at.node->sandbox_lacks, &e) ||
	    sandbox_calls(ROLE_CLIENT, at.node->sandbox_lacks, &e)) {
		fprintf(stderr, "penstock: gateway: %s\n", e.text);
		return e.status ? e.status : STATUS_FAILED;
	}
	gateway_take_over(&gateway);
	gateway_loop(&gateway);
	return STATUS_OK;
}
