/*
 * The program `scribe`: prints the servers' log records as text on stderr (machinery 25). It only
 * reads; what it has printed is nobody's state, so its successor goes on with what is new. Sleeps
 * on its bell, which init rings at deaths and stages and servers ring after a record worth reading.
 */
#include "ipc/attach.h"
#include "ipc/recorder.h"
#include "ipc/sandbox.h"

#include "runtime/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	LOGS = OBJ_LOG_EXPERTS - OBJ_LOG_INIT + 1,
	LOOK_MS = 250,          /* after something was printed, more may come without a bell */
	LOOKS = 8,              /* then only the bell wakes it, */
	VERBOSE_LOOK_MS = 1000, /* or this, with --verbose: details ring nobody */
	OVERLAP_MS = 100        /* what a predecessor may not have got to; may be printed twice */
};

struct reader {
	const char *name; /* whose log */
	const struct log_object *log;
	uint64_t next; /* number of the next record */
};

/* The route trace (ipc/trace.h): copied into FD_TRACE as it is. */
struct trace {
	const struct trace_ring *ring;
	const char *rows;
	uint32_t stride;
	uint64_t next; /* number of the next record */
	bool on;       /* off after a write that failed */
};

/* The flight recorder (ipc/recorder.h): appended to FD_RECORDER. */
struct flights {
	const struct recorder *recorder;
	uint64_t next; /* number of the next entry */
	bool on;
};

struct scribe {
	struct attach attach;
	struct trace trace;
	struct flights flights;
	struct reader reader[LOGS];
	uint64_t from_ns; /* older records were printed by a predecessor */
};

static const struct {
	unsigned level;
	const char *format;
} kinds[LOG_KINDS] = {
#define LOG_ROW(kind, level, format) [LOG_##kind] = {level, format},
	LOG_LIST(LOG_ROW)
#undef LOG_ROW
};

/* Records hold numbers of roles; people want names. */
static const char *role_name(uint64_t role)
{
	return role < ROLE_COUNT ? graph_roles[role].program : "somebody";
}

/* A format of ipc/log.h: text, and %llu for the next number. */
static void print_format(const char *format, const uint64_t arg[5])
{
	unsigned next = 0;

	for (const char *hole; (hole = strstr(format, "%llu")); format = hole + 4) {
		fwrite(format, 1, (size_t)(hole - format), stderr);
		fprintf(stderr, "%" PRIu64, next < 5 ? arg[next] : 0);
		next++;
	}
	fputs(format, stderr);
}

static void print_lacks(unsigned lacks)
{
	char names[SANDBOX_NAMES];

	sandbox_lack_names(lacks, names);
	fprintf(stderr, "the servers run without %s, which cannot be had here", names);
}

static void print_text(const struct scribe *s, const struct log_record *r)
{
	const struct node *node = s->attach.node;
	const uint64_t *a = r->arg;
	char name[204];

	if (r->kind == LOG_DIED)
		fprintf(stderr,
			"%s (pid %" PRIu64 ") ended by %s %" PRIu64 "; generation %" PRIu64
			" starts",
			role_name(a[0]), a[1], a[2] ? "signal" : "exit status", a[3], a[4]);
	else if (r->kind == LOG_BAD_MESSAGE)
		fprintf(stderr,
			"a message of %s was refused (batch %" PRIu64 ", step %" PRIu64
			", field %" PRIu64 ")",
			role_name(a[0]), a[1], a[2], a[3]);
	else if (r->kind == LOG_UNCONFINED)
		print_lacks((unsigned)a[0]);
	else if (r->kind == LOG_NOT_DIRECT && a[0] < sizeof(node->file) / sizeof(node->file[0]))
		fprintf(stderr,
			"%s: the file system refuses O_DIRECT; reads go through the page cache",
			err_name(name, node->file[a[0]].name,
				 strnlen(node->file[a[0]].name, sizeof(node->file[0].name))));
	else
		print_format(kinds[r->kind].format, a);
}

/* The record was copied from a process that is not trusted: only its kind is used as an index. */
static void print(const struct scribe *s, const struct reader *from, const struct log_record *r)
{
	if (r->kind >= LOG_KINDS || (kinds[r->kind].level > 2 && !s->attach.plan->verbose))
		return;
	fprintf(stderr, "penstock: %s: ", from->name);
	print_text(s, r);
	fputc('\n', stderr);
}

/* Copies record n. False if it has been overwritten, or is being written. */
static bool read_record(const struct log_object *log, uint64_t n, struct log_record *out)
{
	const struct log_record *r = &log->record[n % LOG_RECORDS];

	/* acquire: pairs with the release in log_write */
	if (atomic_load_explicit(&r->number, memory_order_acquire) != n + 1)
		return false;
	memcpy(&out->time_ns, &r->time_ns, sizeof(*r) - offsetof(struct log_record, time_ns));
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&r->number, memory_order_relaxed) == n + 1;
}

/* Prints what is new in one log. Returns whether there was anything. */
static bool drain(struct scribe *s, struct reader *from)
{
	/* acquire: pairs with the release in log_write */
	uint64_t head = atomic_load_explicit(&from->log->head, memory_order_acquire);
	struct log_record r;
	bool any = head != from->next;

	if (head < from->next || head - from->next > LOG_RECORDS)
		from->next = head < LOG_RECORDS ? 0 : head - LOG_RECORDS;
	for (; from->next < head; from->next++) {
		if (read_record(from->log, from->next, &r) && r.time_ns >= s->from_ns)
			print(s, from, &r);
	}
	return any;
}

static bool write_whole(int fd, const void *p, size_t len)
{
	for (const char *at = p; len;) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

/* Copies what router has added. What it overwrote meanwhile is lost, and said. */
static bool drain_trace(struct trace *t)
{
	uint64_t head, now;

	if (!t->on)
		return false;
	/* acquire: pairs with the release in router */
	head = atomic_load_explicit(&t->ring->head, memory_order_acquire);
	if (head == t->next)
		return false;
	while (t->next < head) {
		uint64_t first = t->next % TRACE_RECORDS, n = head - t->next;

		if (n > TRACE_RECORDS - first)
			n = TRACE_RECORDS - first;
		if (!write_whole(FD_TRACE, t->rows + first * t->stride, n * t->stride)) {
			fprintf(stderr,
				"penstock: scribe: --trace-routes: cannot write: %s; the trace "
				"ends here\n",
				strerror(errno));
			t->on = false;
			return true;
		}
		t->next += n;
		now = atomic_load_explicit(&t->ring->head, memory_order_acquire);
		if (now - (t->next - n) > TRACE_RECORDS)
			fprintf(stderr,
				"penstock: scribe: --trace-routes: the disk is too slow; %" PRIu64
				" rows up to row %" PRIu64 " are damaged or lost\n",
				now - (t->next - n) - TRACE_RECORDS, t->next);
	}
	return true;
}

/* Writes the file's head once; a successor goes on behind what is there. */
static void open_trace(struct scribe *s)
{
	const struct attach *a = &s->attach;
	struct trace_file f = {.magic = TRACE_MAGIC,
			       .version = TRACE_VERSION,
			       .record_bytes = a->layout.trace_stride,
			       .moe_layers = a->plan->moe_layers,
			       .top_k = a->plan->top_k,
			       .experts = a->plan->experts,
			       .first_moe_layer = a->plan->first_moe_layer,
			       .layers = a->plan->layers,
			       .chunk = a->plan->rows[BATCH_PREFILL]};

	if (!a->plan->trace)
		return;
	memcpy(f.model_hash, a->node->model_hash, sizeof(f.model_hash));
	s->trace = (struct trace){.ring = attach_at(a, OBJ_TRACE, sizeof(struct object_header)),
				  .rows = attach_at(a, OBJ_TRACE, a->layout.trace_rows),
				  .stride = a->layout.trace_stride,
				  .on = true};
	if (a->generation > 1)
		s->trace.next = atomic_load_explicit(&s->trace.ring->head, memory_order_acquire);
	else
		s->trace.on = write_whole(FD_TRACE, &f, sizeof(f));
}

/* Appends what init has kept of servers that died. */
static bool drain_recorder(struct flights *r)
{
	static struct recorder_entry entry; /* too large for a stack */
	uint64_t head;

	if (!r->on)
		return false;
	/* acquire: pairs with the release in init */
	head = atomic_load_explicit(&r->recorder->head, memory_order_acquire);
	if (head == r->next)
		return false;
	if (head - r->next > RECORDER_ENTRIES)
		r->next = head - RECORDER_ENTRIES; /* deaths faster than the disk */
	for (; r->next < head; r->next++) {
		const struct recorder_entry *e = &r->recorder->entry[r->next % RECORDER_ENTRIES];

		memcpy(&entry, e, sizeof(entry));
		atomic_thread_fence(memory_order_acquire);
		/* one that is being overwritten is left out */
		if (atomic_load_explicit(&e->number, memory_order_relaxed) != r->next + 1)
			continue;
		r->on = write_whole(FD_RECORDER, &entry, sizeof(entry));
		if (!r->on) {
			fprintf(stderr, "penstock: scribe: --recorder: cannot write: %s\n",
				strerror(errno));
			break;
		}
	}
	return true;
}

static void open_recorder(struct scribe *s)
{
	const struct attach *a = &s->attach;
	const struct recorder_file f = {.magic = RECORDER_MAGIC,
					.version = RECORDER_VERSION,
					.entry_bytes = sizeof(struct recorder_entry)};

	if (!a->plan->recorder)
		return;
	s->flights = (struct flights){
		.recorder = attach_at(a, OBJ_RECORDER, sizeof(struct object_header)), .on = true};
	/* its own predecessor's death was kept, and nobody has written it */
	if (a->generation > 1)
		s->flights.next =
			atomic_load_explicit(&s->flights.recorder->head, memory_order_acquire) - 1;
	else
		s->flights.on = write_whole(FD_RECORDER, &f, sizeof(f));
}

static bool drain_all(struct scribe *s)
{
	bool any = drain_trace(&s->trace);

	any |= drain_recorder(&s->flights);

	for (unsigned i = 0; i < LOGS; i++)
		any |= drain(s, &s->reader[i]);
	return any;
}

static void loop(struct scribe *s)
{
	struct bell *bell = &s->attach.bells->bell[ROLE_SCRIBE][0];
	uint64_t forever = s->attach.plan->verbose ? VERBOSE_LOOK_MS * NS_PER_MS : UINT64_MAX;
	unsigned looks = 0;

	for (;;) {
		/* acquire: what was logged before the stage is there */
		uint32_t stage = atomic_load_explicit(&s->attach.node->stage, memory_order_acquire);

		bell_prepare(bell);
		looks = drain_all(s) ? LOOKS : looks - (looks > 0);
		if (stage == STAGE_STOPPING)
			return;
		bell_wait(bell, looks ? LOOK_MS * NS_PER_MS : forever);
	}
}

int main(void)
{
	static struct scribe s;
	struct err e = {0};
	struct timespec now;

	if (attach_open(&s.attach, ROLE_SCRIBE, &e)) {
		fprintf(stderr, "penstock: %s\n", e.text);
		return STATUS_FAILED;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	if (s.attach.generation > 1)
		s.from_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec -
			    OVERLAP_MS * NS_PER_MS;
	for (unsigned i = 0; i < LOGS; i++) {
		enum object o = (enum object)(OBJ_LOG_INIT + i);

		s.reader[i].name = graph_roles[graph_objects[o].writer].program;
		s.reader[i].log = attach_at(&s.attach, o, sizeof(struct object_header));
	}
	open_trace(&s);
	open_recorder(&s);
	if (sandbox_files(s.attach.node->sandbox_lacks, &e) ||
	    sandbox_calls(ROLE_SCRIBE, s.attach.node->sandbox_lacks, &e)) {
		fprintf(stderr, "penstock: scribe: %s\n", e.text);
		return STATUS_FAILED;
	}
	loop(&s);
	return STATUS_OK;
}
