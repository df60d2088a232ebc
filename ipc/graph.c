/* The tables of graph.h as data, for init, ipc/attach.c and the tests. */
#include "ipc/graph.h"

#define ROLE_ROW(role, program, what) [ROLE_##role] = {#role, program, what},
const struct graph_role graph_roles[ROLE_COUNT] = {ROLE_LIST(ROLE_ROW)};

#define OBJECT_ROW(object, writer, readers, what)                                                  \
	[OBJ_##object] = {#object, what, ROLE_##writer, readers},
const struct graph_object graph_objects[OBJ_COUNT] = {OBJECT_LIST(OBJECT_ROW)};

#define RING_ROW(ring, producer, consumer, batched, what)                                          \
	[RING_##ring] = {#ring, what, ROLE_##producer, ROLE_##consumer, batched},
const struct graph_ring graph_rings[RING_COUNT] = {RING_LIST(RING_ROW)};

enum access graph_access(enum role role, enum object object)
{
	const struct graph_object *o = &graph_objects[object];

	if (object == OBJ_BELLS || o->writer == (uint32_t)role)
		return ACCESS_WRITE;
	return o->readers >> role & 1 ? ACCESS_READ : ACCESS_NONE;
}
