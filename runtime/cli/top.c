/*
 * `penstock top`: a live view of a node, from its counters alone. They are mapped, not asked for,
 * so it shows what a node that hangs hangs in.
 */
#include "ipc/watch.h"
#include "runtime/cli/cli.h"
#include "runtime/cli/stages.h"
#include "runtime/cli/talk.h"
#include "runtime/clock.h"
#include "runtime/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yyjson.h>

enum {
	BAR = 40,
	LATE_MS = 500 /* a step that takes longer is worth a line */
};

/* What one server is in. */
struct doing {
	const char *role;
	double seconds; /* in its step; negative: in none */
	bool drive;     /* it waits for the drive */
};

enum {
	DOING = 3
};

/* Two looks, and what lies between them. */
struct view {
	double seconds;
	uint64_t now[COUNTERS], did[COUNTERS];
	struct doing doing[DOING];
};

struct top {
	const char *socket;
	uint64_t interval; /* ms */
	bool once, json;
	struct watch watch;
	uint64_t before[COUNTERS], before_ns;
};

static void look(struct top *t, struct view *v)
{
	static const struct {
		const char *role;
		enum object log;
	} servers[DOING] = {
		{"router", OBJ_LOG_ROUTER}, {"mla", OBJ_LOG_MLA}, {"experts", OBJ_LOG_EXPERTS}};
	uint64_t now = clock_now_ns();

	watch_counts(&t->watch, v->now);
	v->seconds = (double)(now - t->before_ns) * 1e-9;
	for (unsigned c = 0; c < COUNTERS; c++)
		v->did[c] = v->now[c] - t->before[c];
	memcpy(t->before, v->now, sizeof(t->before));
	t->before_ns = now;
	for (unsigned i = 0; i < DOING; i++) {
		const struct progress *p = &t->watch.log[servers[i].log - OBJ_LOG_INIT]->progress;
		/* acquire: the time is there with the step; pairs with server_progress */
		uint64_t step = atomic_load_explicit(&p->step, memory_order_acquire);
		uint64_t since = atomic_load_explicit(&p->since_ns, memory_order_relaxed);

		v->doing[i] = (struct doing){
			.role = servers[i].role,
			.seconds = step == UINT64_MAX || !since || since > now
					   ? -1
					   : (double)(now - since) * 1e-9,
			.drive = atomic_load_explicit(&p->drive, memory_order_relaxed),
		};
	}
}

static double rate(const struct view *v, enum counter c)
{
	return (double)v->did[c] / v->seconds;
}

static double share(const struct view *v, enum counter c)
{
	return (double)v->did[c] / (v->seconds * 1e9);
}

/* Of the experts that were needed, in the interval or since the start. */
static double hit_rate(const uint64_t c[COUNTERS])
{
	uint64_t all = c[COUNT_HITS] + c[COUNT_MISSES];

	return all ? (double)c[COUNT_HITS] / (double)all : 1;
}

static double left_share(const struct view *v)
{
	double left = 1;

	for (unsigned i = 0; i < STAGES; i++)
		left -= share(v, stages[i].counter);
	return left > 0 ? left : 0; /* two batches at once can be more than the wall clock */
}

/* ---- Text ---- */

static void bar(const char *label, double part)
{
	int full = part > 1 ? BAR : (int)(part * BAR + 0.5);

	printf("  %-20s %5.1f %%  ", label, 100 * part);
	for (int i = 0; i < full; i++)
		putchar('#');
	printf("\033[K\n");
}

static unsigned long long now_of(const struct view *v, enum counter c)
{
	return (unsigned long long)v->now[c];
}

static void print_text(const struct view *v)
{
	printf("decode     %10.2f tokens/s   prefill %.1f tokens/s, %.1f from kept pages\033[K\n",
	       rate(v, COUNT_TOKENS), rate(v, COUNT_PROMPT_TOKENS), rate(v, COUNT_CACHED_TOKENS));
	printf("sequences  %10llu running, %llu queued; %llu connections; %llu pages free\033[K\n",
	       now_of(v, COUNT_RUNNING), now_of(v, COUNT_QUEUED), now_of(v, COUNT_CONNECTIONS),
	       now_of(v, COUNT_PAGES_FREE));
	printf("experts    %10.3f hit rate, %.3f since start; %llu slots\033[K\n", hit_rate(v->did),
	       hit_rate(v->now), now_of(v, COUNT_SLOTS));
	printf("drive      %10.2f MB/s, %.1f reads/s, %llu experts unreadable\033[K\n",
	       rate(v, COUNT_READ_BYTES) * 1e-6, rate(v, COUNT_READS),
	       now_of(v, COUNT_READ_ERRORS));
	printf("node       %10llu restarts, %llu passes, %llu tokens\033[K\n",
	       now_of(v, COUNT_RESTARTS), now_of(v, COUNT_PASSES), now_of(v, COUNT_TOKENS));
	for (unsigned i = 0; i < STAGES; i++)
		bar(stages[i].label, share(v, stages[i].counter));
	bar("hand-over and idle", left_share(v));
	for (unsigned i = 0; i < DOING; i++)
		if (v->doing[i].seconds * 1000 >= LATE_MS)
			printf("%s has been in one step for %.1f s%s\033[K\n", v->doing[i].role,
			       v->doing[i].seconds,
			       v->doing[i].drive ? ", waiting for the drive" : "");
}

/* ---- JSON ---- */

static int print_json(const struct view *v, struct err *e)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc), *parts = yyjson_mut_obj(doc),
		       *doing = yyjson_mut_obj(doc), *total = yyjson_mut_obj(doc);
	char *text;

	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_real(doc, root, "seconds", v->seconds);
	yyjson_mut_obj_add_real(doc, root, "tokens_per_s", rate(v, COUNT_TOKENS));
	yyjson_mut_obj_add_real(doc, root, "prompt_tokens_per_s", rate(v, COUNT_PROMPT_TOKENS));
	yyjson_mut_obj_add_real(doc, root, "hit_rate", hit_rate(v->did));
	yyjson_mut_obj_add_real(doc, root, "drive_bytes_per_s", rate(v, COUNT_READ_BYTES));
	for (unsigned i = 0; i < STAGES; i++)
		yyjson_mut_obj_add_real(doc, parts, stages[i].key, share(v, stages[i].counter));
	yyjson_mut_obj_add_real(doc, parts, "left", left_share(v));
	yyjson_mut_obj_add_val(doc, root, "share", parts);
	for (unsigned i = 0; i < DOING; i++)
		if (v->doing[i].seconds >= 0)
			yyjson_mut_obj_add_real(doc, doing, v->doing[i].role, v->doing[i].seconds);
	yyjson_mut_obj_add_val(doc, root, "in_step_s", doing);
#define PUT(counter, roles, name, help)                                                            \
	yyjson_mut_obj_add_uint(doc, total, name, v->now[COUNT_##counter]);
	COUNTER_LIST(PUT)
#undef PUT
	yyjson_mut_obj_add_val(doc, root, "counters", total);
	text = yyjson_mut_write(doc, 0, NULL);
	yyjson_mut_doc_free(doc);
	if (!text)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the report");
	puts(text);
	free(text);
	return 0;
}

/* ---- The loop ---- */

static void wait_ms(uint64_t ms)
{
	const struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000 * 1000000)};

	nanosleep(&t, NULL); /* Ctrl-C ends it early */
}

/* One interval after the other, until Ctrl-C or the node's end. */
static int run(struct top *t, struct err *e)
{
	bool redraw = !t->once && !t->json && isatty(STDOUT_FILENO);

	if (redraw)
		printf("\033[2J");
	for (;;) {
		struct view v;
		int rc = 0;

		wait_ms(t->interval);
		if (talk_interrupted)
			return STATUS_CTRL_C;
		if (!watch_alive(t->socket))
			return err_set(e, -ECONNREFUSED, "the node has ended");
		look(t, &v);
		if (redraw)
			printf("\033[H");
		if (t->json)
			rc = print_json(&v, e);
		else
			print_text(&v);
		if (redraw)
			printf("\033[J");
		if (fflush(stdout) || ferror(stdout))
			return err_set(e, -EIO, "cannot write to standard output");
		if (rc || t->once)
			return rc;
	}
}

int cmd_top(int argc, char **argv, struct err *e)
{
	struct top t = {.interval = 1000};
	struct opt table[] = {
		{"socket", OPT_STRING, &t.socket, .value = "PATH", .help = "the node's socket"},
		{"interval", OPT_U64, &t.interval, .value = "MS",
		 .help = "milliseconds between two looks (1000)", .min = 10, .max = 3600000},
		{"once", OPT_FLAG, &t.once, .help = "one interval, then the end"},
		{"json", OPT_FLAG, &t.json, .help = "a line of JSON per interval"},
	};
	struct options o = {.usage = "penstock top",
			    .about = "What a running node is doing, also one that hangs.",
			    .table = table,
			    .n = sizeof(table) / sizeof(table[0])};
	struct view first;
	int rc = options_parse(&o, argc, argv, e);

	if (rc < 0)
		return rc;
	if (o.help)
		return options_help(&o, stdout);
	rc = watch_open(&t.watch, t.socket, e);
	if (rc)
		return rc;
	talk_begin();
	look(&t, &first);
	rc = run(&t, e);
	watch_close(&t.watch);
	return rc;
}
