/* Maps a role's objects; see attach.h. */
#include "ipc/attach.h"

#include "runtime/huge.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int map_object(struct attach *a, enum object o, struct err *e)
{
	enum access access = graph_access(a->role, o);
	int fd = FD_OBJECT + (int)o;
	const struct object_header *h;
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "%s: object %s is not there: %s",
			       graph_roles[a->role].program, graph_objects[o].name,
			       strerror(errno));
	if (st.st_size < (off_t)sizeof(*h))
		return err_set(e, -EBADMSG, "%s: object %s has %lld bytes",
			       graph_roles[a->role].program, graph_objects[o].name,
			       (long long)st.st_size);
	p = huge_map(fd, (size_t)st.st_size,
		     access == ACCESS_WRITE ? PROT_READ | PROT_WRITE : PROT_READ);
	if (p == MAP_FAILED)
		return err_set(e, -errno, "%s: cannot map object %s: %s",
			       graph_roles[a->role].program, graph_objects[o].name,
			       strerror(errno));
	/* where the kernel gives huge pages; objects of which little is touched do not want them */
	if (o == OBJ_RESIDENT || o == OBJ_SLOTS || o == OBJ_KV)
		madvise(p, (size_t)st.st_size, MADV_HUGEPAGE);
	a->object[o] = p;
	a->bytes[o] = (uint64_t)st.st_size;
	h = p;
	/*
	 * whether init is of the same build; in another's object the header is what its writer has
	 * made of it, and a hostile one must not keep its successor, or anybody, from starting
	 */
	if (graph_objects[o].writer == ROLE_INIT &&
	    (h->magic != OBJECT_MAGIC || h->version != OBJECT_VERSION || h->object != (uint32_t)o))
		return err_set(e, -EBADMSG, "%s: object %s has another format",
			       graph_roles[a->role].program, graph_objects[o].name);
	return 0;
}

static bool surveyed(enum object o)
{
	return o == OBJ_NODE || o == OBJ_BELLS || o == OBJ_INDEX;
}

static int check_sizes(const struct attach *a, struct err *e)
{
	for (unsigned o = 0; o < OBJ_COUNT; o++) {
		if (a->object[o] && o != OBJ_INDEX && a->bytes[o] < a->layout.bytes[o])
			return err_set(e, -EBADMSG,
				       "%s: object %s has %llu bytes, the plan needs %llu",
				       graph_roles[a->role].program, graph_objects[o].name,
				       (unsigned long long)a->bytes[o],
				       (unsigned long long)a->layout.bytes[o]);
	}
	return 0;
}

static struct log_object *own_log(const struct attach *a)
{
	for (unsigned o = OBJ_LOG_INIT; o <= OBJ_LOG_EXPERTS; o++) {
		if (graph_objects[o].writer == (uint32_t)a->role)
			return attach_at(a, (enum object)o, sizeof(struct object_header));
	}
	return NULL;
}

int attach_open(struct attach *a, enum role role, struct err *e)
{
	int rc;

	memset(a, 0, sizeof(*a));
	a->role = role;
	/* started from a descriptor, a process is called by its number before Linux 6.14 */
	prctl(PR_SET_NAME, program_invocation_short_name);
	for (unsigned o = 0; o < OBJ_COUNT; o++) {
		if (graph_access(role, (enum object)o) == ACCESS_NONE ||
		    (role == ROLE_SURVEY && !surveyed((enum object)o)))
			continue;
		rc = map_object(a, (enum object)o, e);
		if (rc)
			return rc;
	}
	a->node = a->object[OBJ_NODE];
	a->plan = &a->node->plan;
	a->bells = attach_at(a, OBJ_BELLS, sizeof(struct object_header));
	/* relaxed: set by init before this process was started */
	a->generation =
		(uint32_t)atomic_load_explicit(&a->node->generation[role], memory_order_relaxed);
	if (role == ROLE_SURVEY)
		return 0;
	rc = layout_make(&a->layout, a->plan, e);
	if (rc)
		return rc;
	a->log = own_log(a);
	a->bounds = (struct msg_bounds){.layers = a->plan->layers,
					.rows = {a->plan->rows[0], a->plan->rows[1]},
					.conns = CONN_PLACES};
	return check_sizes(a, e);
}

int attach_generation(struct attach *a, const char *text, struct err *e)
{
	unsigned long long g;
	char *end;

	if (!text)
		return 0;
	errno = 0;
	g = strtoull(text, &end, 10);
	if (errno || *end || !g || g > UINT32_MAX)
		return err_set(e, -EINVAL, "%s: generation %.30s", graph_roles[a->role].program,
			       text);
	a->generation = (uint32_t)g;
	return 0;
}

bool attach_stands_by(const struct attach *a)
{
	/* acquire: pairs with init's release; what its predecessor left is to be seen */
	return atomic_load_explicit(&a->node->generation[a->role], memory_order_acquire) <
	       a->generation;
}

void attach_take_over(const struct attach *a)
{
	const _Atomic uint64_t *word = &a->node->generation[a->role];

	while (attach_stands_by(a))
		/* the low half of the count, which this process may only read */
		syscall(SYS_futex, word, FUTEX_WAIT, a->generation - 1, NULL, NULL, 0);
}
