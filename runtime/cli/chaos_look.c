/*
 * What a node that is killed again and again still has, and where it stands; see chaos.h. Servers
 * are found as children of init, the node's objects by init's descriptors in /proc.
 */
#include "runtime/cli/chaos.h"

#include "ipc/record.h"
#include "runtime/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LAST_RECORDS = 24 /* of each log that are printed */
};

/* A file of /proc, at most len - 1 bytes, ended with a zero. Bytes read, -1: none. */
static ssize_t read_proc(char *out, size_t len, pid_t pid, const char *name)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, out, len - 1);
	close(fd);
	out[n > 0 ? n : 0] = '\0';
	return n;
}

bool chaos_read_stat(pid_t pid, pid_t *parent, char *state)
{
	char text[512], *end;
	int p;

	if (read_proc(text, sizeof(text), pid, "stat") <= 0)
		return false;
	end = strrchr(text, ')');
	if (!end || sscanf(end + 1, " %c %d", state, &p) != 2)
		return false;
	*parent = p;
	return true;
}

bool chaos_describe(pid_t pid, struct chaos_found *f)
{
	char line[128];
	ssize_t n = read_proc(line, sizeof(line), pid, "cmdline");

	if (n <= 0)
		return false;
	for (unsigned r = ROLE_CLIENT; r <= ROLE_EXPERTS; r++) {
		size_t len = strlen(graph_roles[r].program);

		if (strcmp(line, graph_roles[r].program))
			continue;
		*f = (struct chaos_found){.pid = pid, .role = (enum role)r};
		if ((size_t)n > len + 1)
			f->generation = strtoull(line + len + 1, NULL, 10);
		return true;
	}
	return false;
}

unsigned chaos_find(const struct chaos_kill *k, struct chaos_found out[CHAOS_FOUND],
		    uint64_t *zombies)
{
	DIR *d = opendir("/proc");
	unsigned n = 0;

	*zombies = 0;
	for (struct dirent *entry; d && n < CHAOS_FOUND && (entry = readdir(d));) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10), parent;
		char state;

		if (pid <= 0 || !chaos_read_stat(pid, &parent, &state) || parent != k->init)
			continue;
		if (state == 'Z')
			++*zombies;
		else if (chaos_describe(pid, &out[n]))
			n++;
	}
	if (d)
		closedir(d);
	return n;
}

/* ---- The node's objects ---- */

/* The object whose descriptor of init has this name in /proc; OBJ_COUNT: none. */
static enum object object_named(const char *target)
{
	static const char prefix[] = "/memfd:penstock:";

	if (strncmp(target, prefix, sizeof(prefix) - 1))
		return OBJ_COUNT;
	for (unsigned o = 0; o < OBJ_COUNT; o++) {
		size_t len = strlen(graph_objects[o].name);

		if (!strncmp(target + sizeof(prefix) - 1, graph_objects[o].name, len) &&
		    target[sizeof(prefix) - 1 + len] == ' ')
			return (enum object)o;
	}
	return OBJ_COUNT;
}

static void map_object(struct chaos_view *v, enum object o, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;

	if (fd >= 0 && !fstat(fd, &st) && st.st_size > 0) {
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		if (p != MAP_FAILED) {
			v->object[o] = p;
			v->bytes[o] = (uint64_t)st.st_size;
		}
	}
	if (fd >= 0)
		close(fd);
}

int chaos_view_open(struct chaos_view *v, pid_t init, struct err *e)
{
	char folder[64], path[128], target[128];
	DIR *d;

	memset(v, 0, sizeof(*v));
	snprintf(folder, sizeof(folder), "/proc/%d/fd", (int)init);
	d = opendir(folder);
	if (!d)
		return err_set(e, -errno, "cannot see what the node has open: %s", strerror(errno));
	for (struct dirent *entry; (entry = readdir(d));) {
		enum object o;
		ssize_t n;

		snprintf(path, sizeof(path), "%s/%.32s", folder, entry->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		o = object_named(target);
		/* weights, slots and KV are not looked at */
		if (o != OBJ_COUNT && o != OBJ_RESIDENT && o != OBJ_SLOTS && o != OBJ_KV &&
		    !v->object[o])
			map_object(v, o, path);
	}
	closedir(d);
	v->node = v->object[OBJ_NODE];
	if (!v->node || v->bytes[OBJ_NODE] < sizeof(*v->node))
		return err_set(e, -ESRCH, "the node's objects cannot be seen");
	if (layout_make(&v->layout, &v->node->plan, e))
		return -EBADMSG;
	for (unsigned o = 0; o < OBJ_COUNT; o++) {
		if (v->object[o] && o != OBJ_INDEX && v->bytes[o] < v->layout.bytes[o])
			return err_set(e, -EBADMSG, "object %s is of another build",
				       graph_objects[o].name);
	}
	return 0;
}

void chaos_view_close(struct chaos_view *v)
{
	for (unsigned o = 0; o < OBJ_COUNT; o++) {
		if (v->object[o])
			munmap((void *)(uintptr_t)v->object[o], v->bytes[o]);
	}
	memset(v, 0, sizeof(*v));
}

static const void *at(const struct chaos_view *v, enum object o, uint64_t off)
{
	return (const char *)v->object[o] + off;
}

/* A committed record, copied: zeros where it cannot be had. To be freed. */
static void *copy_record(const struct chaos_view *v, enum object o, uint64_t record, size_t size)
{
	void *copy = calloc(1, size);

	if (!copy || !v->object[o] || !record_read(at(v, o, record), size, 0, copy, size))
		fprintf(stderr, "the record of %s cannot be read\n", graph_objects[o].name);
	return copy;
}

/*
 * Slots whose read has not been seen to land. While nothing is computed there are none: those of a
 * dead process are to be had again once init says that its io_uring is empty.
 */
static uint64_t count_slots(const struct chaos_view *v, enum slot_state state)
{
	const struct plan *p = &v->node->plan;
	const _Atomic uint64_t *word = at(v, OBJ_EXPERTS, v->layout.experts_slots);
	uint64_t empty = atomic_load_explicit(&v->node->uring_empty, memory_order_acquire), n = 0;

	if (!v->object[OBJ_EXPERTS] || !p->experts)
		return 0;
	for (uint32_t i = 0; i < p->slots; i++) {
		uint64_t w = atomic_load_explicit(&word[i], memory_order_relaxed);
		bool dead = ((empty - (w >> 40)) & 0xfffff) < 0x80000;

		n += w >> 60 == (uint64_t)state && !(state == SLOT_LOADING && dead);
	}
	return n;
}

/* ---- What must not be lost ---- */

static uint64_t count_entries(pid_t pid, const char *folder)
{
	char path[64];
	uint64_t n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, folder);
	d = opendir(path);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static uint64_t count_lines(pid_t pid, const char *name)
{
	char path[64];
	uint64_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	f = fopen(path, "re");
	for (int c; f && (c = getc(f)) != EOF;)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

void chaos_look(const struct chaos_kill *k, const struct chaos_view *v, struct chaos_state *s)
{
	struct chaos_found found[CHAOS_FOUND];

	s->descriptors = count_entries(k->init, "fd");
	s->maps = count_lines(k->init, "maps");
	chaos_find(k, found, &s->zombies);
	s->pages_free = watch_count(k->watch, COUNT_PAGES_FREE);
	s->busy = watch_count(k->watch, COUNT_RUNNING) + watch_count(k->watch, COUNT_QUEUED);
	s->slots = count_slots(v, SLOT_LOADING);
	s->pins = watch_count(k->watch, COUNT_SLOTS_PINNED);
}

/* ---- Where a node stands ---- */

static void print_servers(const struct chaos_kill *k, const struct chaos_view *v)
{
	const struct bells *bells = at(v, OBJ_BELLS, sizeof(struct object_header));
	uint64_t now = clock_now_ns();

	fprintf(stderr, "node: stage %u, io_urings empty up to %" PRIu64 ", pieces %" PRIu64 "\n",
		atomic_load(&v->node->stage), atomic_load(&v->node->uring_empty),
		atomic_load(&v->node->slot_pieces));
	for (unsigned o = OBJ_LOG_CLIENT; o <= OBJ_LOG_EXPERTS; o++) {
		enum role r = (enum role)graph_objects[o].writer;
		const struct progress *p = &k->watch->log[o - OBJ_LOG_INIT]->progress;

		fprintf(stderr,
			"%s: generation %" PRIu64 " step %" PRId64 " row %" PRId64
			" since %.1f ms, drive %" PRIu64 ", turns %" PRIu64 ", unwell %u; bells",
			graph_roles[r].program, atomic_load(&v->node->generation[r]),
			(int64_t)atomic_load(&p->step), (int64_t)atomic_load(&p->row),
			(double)(now - atomic_load(&p->since_ns)) / NS_PER_MS,
			atomic_load(&p->drive), atomic_load(&p->turns),
			atomic_load(&v->node->unwell[r]));
		for (unsigned w = 0; v->object[OBJ_BELLS] && w < v->node->plan.workers; w++)
			fprintf(stderr, " %u", atomic_load(&bells->bell[r][w].word));
		fputc('\n', stderr);
	}
}

static void print_ring(const char *name, unsigned batch, uint64_t tail, uint64_t head)
{
	fprintf(stderr, "ring %s %u: tail %" PRIu64 " head %" PRIu64 "%s\n", name, batch, tail,
		head, tail == head ? "" : "  <- waits");
}

static void print_rings(const struct chaos_view *v, const struct router_head *h)
{
	const struct layout *l = &v->layout;
	struct mla_record *m = copy_record(v, OBJ_MLA, l->mla_record, sizeof(*m));
	struct experts_record *x = copy_record(v, OBJ_EXPERTS, l->experts_record, sizeof(*x));
	struct client_record *c = copy_record(v, OBJ_CLIENT, l->client_record, sizeof(*c));

	for (unsigned b = 0; m && x && b < BATCHES; b++) {
		fprintf(stderr,
			"batch %u: pass %" PRIu64 " kind %u rows %u, floor %" PRIu64
			", mla in %" PRIu64 ", experts in %" PRIu64 "\n",
			b, h->batch[b].pass, h->batch[b].kind, h->batch[b].rows, h->floor[b],
			m->pass[b], x->pass[b]);
		print_ring("ATTEND0", b, h->ring_tail[0][b], m->attend0_head[b]);
		print_ring("ROUTE", b, m->route_tail[b], h->ring_head[0][b]);
		print_ring("FEED", b, h->ring_tail[1][b], x->feed_head[b]);
		print_ring("ATTEND", b, x->attend_tail[b], m->attend_head[b]);
		print_ring("FINISH", b, x->finish_tail[b], h->ring_head[1][b]);
	}
	if (c)
		print_ring("ANNOUNCE", 0, c->announce_tail, h->ring_head[2][0]);
	free(m);
	free(x);
	free(c);
}

static void print_connections(const struct chaos_view *v, const struct router_seq *seq)
{
	const struct layout *l = &v->layout;
	const struct conn_in *in = at(v, OBJ_CONNS, l->conns_in);

	for (unsigned i = 0; i < CONN_PLACES && v->object[OBJ_CONNS] && v->object[OBJ_CLIENT];
	     i++) {
		const struct router_seq *q = &seq[i];
		struct conn_record r;

		if (!record_read(at(v, OBJ_CLIENT, l->client_conn + i * l->client_conn_stride),
				 sizeof(r), 0, &r, sizeof(r)))
			continue;
		if (r.head.state == CONN_FREE && !r.request.live && q->status == SEQ_NONE)
			continue;
		fprintf(stderr,
			"connection %u: state %u, request %" PRIu64
			" live %u, prompt %u of up to %u; "
			"router: request %" PRIu64 " status %u place %d tokens %u computed %u "
			"in pass %u set back %u",
			i, r.head.state, r.request.number, r.request.live, r.request.n_prompt,
			r.request.max_tokens, q->request, q->status, (int)q->place, q->count,
			q->computed, q->in_pass, q->set_back);
		if (i < CONNS)
			fprintf(stderr,
				"; life %" PRIu64 " of %" PRIu64 ", unread %" PRIu64
				", unsent %" PRIu64 ", gone %" PRIu64,
				r.head.life, atomic_load(&in[i].life),
				atomic_load(&in[i].rx_tail) - r.head.rx_head,
				r.head.tx_tail - atomic_load(&in[i].tx_head),
				atomic_load(&in[i].gone));
		fputc('\n', stderr);
	}
}

static void print_records(const struct log_object *log, const char *name)
{
#define FORMAT(kind, level, format) format,
	static const char *const formats[LOG_KINDS] = {LOG_LIST(FORMAT)};
#undef FORMAT
	uint64_t head = atomic_load_explicit(&log->head, memory_order_acquire),
		 from = head > LAST_RECORDS ? head - LAST_RECORDS : 0;

	for (uint64_t n = from; n < head; n++) {
		const struct log_record *r = &log->record[n % LOG_RECORDS];

		if (r->kind < LOG_KINDS)
			fprintf(stderr,
				"log of %s, %.3f: \"%s\" %" PRIu64 " %" PRIu64 " %" PRIu64
				" %" PRIu64 " %" PRIu64 "\n",
				name, (double)r->time_ns / NS_PER_S, formats[r->kind], r->arg[0],
				r->arg[1], r->arg[2], r->arg[3], r->arg[4]);
	}
}

/* Every thread: state, the kernel's function and the call that it waits in. */
static void print_threads(pid_t pid, const char *name, uint64_t generation)
{
	static const char *const files[] = {"wchan", "syscall"};
	char path[64], text[256], state;
	pid_t parent;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	for (struct dirent *t; d && (t = readdir(d));) {
		pid_t tid = (pid_t)strtol(t->d_name, NULL, 10);

		if (tid <= 0 || !chaos_read_stat(tid, &parent, &state))
			continue;
		fprintf(stderr, "thread %d of %s %" PRIu64 ": %c", (int)tid, name, generation,
			state);
		for (unsigned j = 0; j < sizeof(files) / sizeof(files[0]); j++) {
			if (read_proc(text, sizeof(text), tid, files[j]) > 0)
				fprintf(stderr, " %.*s", (int)strcspn(text, "\n"), text);
		}
		fputc('\n', stderr);
	}
	if (d)
		closedir(d);
}

void chaos_print_node(const struct chaos_kill *k, const struct chaos_view *v)
{
	const struct layout *l = &v->layout;
	struct chaos_found found[CHAOS_FOUND];
	uint64_t zombies;
	unsigned n = chaos_find(k, found, &zombies);
	char *router = copy_record(v, OBJ_ROUTER, l->router_record, l->router_record_size);

	print_servers(k, v);
	if (router) {
		print_rings(v, (const struct router_head *)(void *)router);
		print_connections(v, (const struct router_seq *)(void *)(router + l->seq_off));
	}
	free(router);
	fprintf(stderr,
		"slots: %u, ready %" PRIu64 ", being read %" PRIu64 ", pinned %" PRIu64 "\n",
		v->node->plan.slots, count_slots(v, SLOT_READY), count_slots(v, SLOT_LOADING),
		watch_count(k->watch, COUNT_SLOTS_PINNED));
	for (unsigned o = OBJ_LOG_INIT; o <= OBJ_LOG_EXPERTS; o++)
		print_records(k->watch->log[o - OBJ_LOG_INIT], graph_objects[o].name);
	print_threads(k->init, "init", 0);
	for (unsigned i = 0; i < n; i++)
		print_threads(found[i].pid, graph_roles[found[i].role].program,
			      found[i].generation);
	fprintf(stderr, "zombies: %" PRIu64 "\n", zombies);
}
