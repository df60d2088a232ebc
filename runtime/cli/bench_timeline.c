/*
 * `bench --timeline FILE`: what every server did and when, over one prompt and one reply that run
 * at the same time, so that the overlap of the two batches, and of drive and arithmetic, is to be
 * seen. The file is in the trace event format that ui.perfetto.dev and chrome://tracing open: a
 * process per server, a line per batch. See bench.h.
 */
#include "runtime/cli/bench.h"

#include "runtime/cli/stages.h"
#include "runtime/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	POLL_MS = 5,
	LEAD_MS = 100, /* the reply is on its way before the prompt comes */
	SERVERS = 3
};

static const struct {
	const char *name;
	enum object log;
} servers[SERVERS] = {
	{"router", OBJ_LOG_ROUTER}, {"mla", OBJ_LOG_MLA}, {"experts", OBJ_LOG_EXPERTS}};

/* Spans as they are collected. */
struct line {
	const struct log_object *log;
	uint64_t next; /* number of the next span to take */
	struct span *span;
	size_t n, room;
	uint64_t lost;
};

struct timeline {
	struct line line[SERVERS];
	_Atomic bool stop;
	bool no_memory;
};

static void keep(struct timeline *t, struct line *l, const struct span *s)
{
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 4096;
		struct span *p = realloc(l->span, room * sizeof(*p));

		if (!p) {
			t->no_memory = true;
			return;
		}
		l->span = p;
		l->room = room;
	}
	l->span[l->n++] = *s;
}

static void collect(struct timeline *t)
{
	for (unsigned i = 0; i < SERVERS; i++) {
		struct line *l = &t->line[i];
		/* acquire: pairs with count_time's release */
		uint64_t head = atomic_load_explicit(&l->log->spans, memory_order_acquire);

		if (head - l->next > LOG_SPANS) {
			l->lost += head - l->next - LOG_SPANS;
			l->next = head - LOG_SPANS;
		}
		for (; l->next < head; l->next++) {
			struct span s;

			if (span_read(l->log, l->next, &s))
				keep(t, l, &s);
			else
				l->lost++;
		}
	}
}

static void *watch_spans(void *context)
{
	const struct timespec wait = {0, POLL_MS * 1000000};
	struct timeline *t = context;

	while (!atomic_load_explicit(&t->stop, memory_order_relaxed)) {
		nanosleep(&wait, NULL);
		collect(t);
	}
	return NULL;
}

/* ---- The work that is watched ---- */

struct reply {
	struct bench *b;
	struct err e;
	int rc;
};

static void *decode(void *context)
{
	struct reply *r = context;

	r->rc = bench_decode(r->b, NULL, &r->e);
	return NULL;
}

/* A reply, and in the middle of it a prompt. */
static int run_both(struct bench *b, struct err *e)
{
	const struct timespec lead = {0, LEAD_MS * 1000000};
	struct reply r = {.b = b};
	pthread_t thread;
	int rc;

	if (pthread_create(&thread, NULL, decode, &r))
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for a thread");
	nanosleep(&lead, NULL);
	rc = bench_prefill(b, NULL, e);
	pthread_join(thread, NULL);
	if (!rc && r.rc < 0)
		*e = r.e;
	return rc ? rc : r.rc;
}

/* ---- The file ---- */

static const char *stage_name(unsigned counter)
{
	for (unsigned i = 0; i < STAGES; i++)
		if ((unsigned)stages[i].counter == counter)
			return stages[i].label;
	return "other";
}

static uint64_t first_ns(const struct timeline *t)
{
	uint64_t first = UINT64_MAX;

	for (unsigned i = 0; i < SERVERS; i++)
		for (size_t k = 0; k < t->line[i].n; k++)
			if (t->line[i].span[k].begin_ns < first)
				first = t->line[i].span[k].begin_ns;
	return first;
}

static void write_names(FILE *f)
{
	fprintf(f,
		"{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%u,\"args\":{\"name\":\"drive\"}},"
		"\n",
		SERVERS + 1u);
	for (unsigned i = 0; i < SERVERS; i++) {
		fprintf(f,
			"{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%u,\"args\":{\"name\":"
			"\"%s\"}},\n",
			i + 1, servers[i].name);
		for (unsigned batch = 0; batch < BATCHES; batch++)
			fprintf(f,
				"{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%u,\"tid\":%u,"
				"\"args\":{\"name\":\"%s\"}},\n",
				i + 1, batch + 1, batch == BATCH_DECODE ? "decode" : "prefill");
	}
}

/* An expert's read: one of several at once, so its two ends are events of their own. */
static void write_read(FILE *f, size_t id, const struct span *s, uint64_t zero)
{
	const uint64_t at[2] = {s->begin_ns, s->end_ns};

	for (unsigned end = 0; end < 2; end++)
		fprintf(f,
			"{\"name\":\"%s\",\"cat\":\"drive\",\"ph\":\"%s\",\"id\":%zu,\"pid\":%u,"
			"\"tid\":1,\"ts\":%.3f,\"args\":{\"layer\":%u,\"expert\":%u}},\n",
			s->batch ? "hint" : "expert", end ? "e" : "b", id, SERVERS + 1u,
			(double)(at[end] - zero) * 1e-3, s->layer, s->expert);
}

static void write_span(FILE *f, unsigned server, size_t id, const struct span *s, uint64_t zero)
{
	if (s->begin_ns >= s->end_ns)
		return;
	if (s->counter == COUNT_READS) {
		write_read(f, id, s, zero);
		return;
	}
	fprintf(f, "{\"name\":\"%s\",\"ph\":\"X\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"dur\":%.3f",
		stage_name(s->counter), server + 1, s->batch + 1u,
		(double)(s->begin_ns - zero) * 1e-3, (double)(s->end_ns - s->begin_ns) * 1e-3);
	if (s->layer != SPAN_NO_LAYER)
		fprintf(f, ",\"args\":{\"layer\":%u}", s->layer);
	fprintf(f, "},\n");
}

static int write_file(const struct timeline *t, const char *path, struct err *e)
{
	FILE *f = fopen(path, "we");
	uint64_t zero = first_ns(t), lost = 0;

	if (!f)
		return err_exit(e, STATUS_USAGE, -errno, "--timeline: cannot create %s: %s", path,
				strerror(errno));
	fprintf(f, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n");
	write_names(f);
	for (unsigned i = 0; i < SERVERS; i++) {
		lost += t->line[i].lost;
		for (size_t k = 0; k < t->line[i].n; k++)
			write_span(f, i, k, &t->line[i].span[k], zero);
	}
	/* the format allows no comma behind the last event */
	fprintf(f,
		"{\"name\":\"spans lost\",\"ph\":\"M\",\"pid\":0,\"args\":{\"count\":%llu}}\n]}\n",
		(unsigned long long)lost);
	if (ferror(f) | fclose(f))
		return err_set(e, -EIO, "--timeline: cannot write %s", path);
	return 0;
}

int bench_timeline(struct bench *b, const char *path, struct err *e)
{
	struct timeline t = {0};
	pthread_t thread;
	int rc;

	for (unsigned i = 0; i < SERVERS; i++) {
		t.line[i].log = b->node.watch.log[servers[i].log - OBJ_LOG_INIT];
		t.line[i].next = atomic_load_explicit(&t.line[i].log->spans, memory_order_acquire);
	}
	if (pthread_create(&thread, NULL, watch_spans, &t))
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for a thread");
	rc = run_both(b, e);
	atomic_store_explicit(&t.stop, true, memory_order_relaxed);
	pthread_join(thread, NULL);
	collect(&t);
	if (!rc && t.no_memory)
		rc = err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the time line");
	if (!rc)
		rc = write_file(&t, path, e);
	for (unsigned i = 0; i < SERVERS; i++)
		free(t.line[i].span);
	return rc;
}
