/* Shared objects; see objects.h. */
#include "boot/objects.h"

#include "runtime/huge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void objects_init(struct objects *o)
{
	memset(o, 0, sizeof(*o));
	for (unsigned k = 0; k < OBJ_COUNT; k++)
		o->own[k] = o->read[k] = -1;
}

/* Objects whose last seals come when their writer has gone, or when init has mapped them. */
static bool sealed_later(enum object k)
{
	return k == OBJ_INDEX || k == OBJ_RESIDENT || k == OBJ_SLOTS;
}

static int failed(enum object k, const char *what, struct err *e)
{
	int rc = -errno;

	if (rc == -EMFILE || rc == -ENFILE)
		return err_exit(e, STATUS_MEMORY, rc,
				"init: %s of object %s: %s. Raise `ulimit -n`", what,
				graph_objects[k].name, strerror(-rc));
	return err_set(e, rc, "init: %s of object %s: %s", what, graph_objects[k].name,
		       strerror(-rc));
}

int object_make(struct objects *o, enum object k, uint64_t bytes, struct err *e)
{
	struct object_header h = {.magic = OBJECT_MAGIC,
				  .version = OBJECT_VERSION,
				  .object = (uint32_t)k,
				  .bytes = bytes};
	char name[64];
	int fd, seals = F_SEAL_SHRINK | F_SEAL_GROW | (sealed_later(k) ? 0 : F_SEAL_SEAL);

	snprintf(name, sizeof(name), "penstock:%s", graph_objects[k].name);
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return failed(k, "memfd_create", e);
	o->own[k] = fd;
	o->bytes[k] = bytes;
	if (ftruncate(fd, (off_t)bytes))
		return failed(k, "size", e);
	if (k != OBJ_SLOTS && pwrite(fd, &h, sizeof(h), 0) != sizeof(h))
		return failed(k, "header", e);
	if (fchmod(fd, 0400) || fcntl(fd, F_ADD_SEALS, seals))
		return failed(k, "seals", e);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	o->read[k] = open(name, O_RDONLY | O_CLOEXEC);
	if (o->read[k] < 0)
		return failed(k, "read-only description (is /proc mounted?)", e);
	return 0;
}

int objects_make(struct objects *o, const struct layout *l, struct err *e)
{
	for (unsigned k = 0; k < OBJ_COUNT; k++) {
		int rc = o->own[k] < 0 ? object_make(o, (enum object)k, l->bytes[k], e) : 0;

		if (rc)
			return rc;
	}
	return 0;
}

int object_map(struct objects *o, enum object k, bool writable, struct err *e)
{
	/*
	 * a read-only map of the writable descriptor could still be made writable: that would keep
	 * F_SEAL_WRITE away
	 */
	void *p = huge_map(writable ? o->own[k] : o->read[k], o->bytes[k],
			   writable ? PROT_READ | PROT_WRITE : PROT_READ);

	if (p == MAP_FAILED)
		return failed(k, "map", e);
	o->map[k] = p;
	return 0;
}

int object_seal(struct objects *o, enum object k, int seals, struct err *e)
{
	return fcntl(o->own[k], F_ADD_SEALS, seals | F_SEAL_SEAL) ? failed(k, "last seals", e) : 0;
}

int object_fd(const struct objects *o, enum role role, enum object k)
{
	switch (graph_access(role, k)) {
	case ACCESS_NONE:
		return -1;
	case ACCESS_READ:
		return o->read[k];
	case ACCESS_WRITE:
		return o->own[k];
	}
	return -1;
}
