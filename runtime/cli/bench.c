/*
 * `penstock bench`: its command line and the order in which things are measured; see bench.h. All
 * options that are not its own are those of `penstock run` and go to the node.
 */
#include "runtime/cli/bench.h"

#include "boot/cores.h"
#include "boot/options.h"
#include "runtime/cli/cli.h"
#include "runtime/cli/split.h"
#include "runtime/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct bench_request {
	bool json, help;
	const char *socket, *timeline;
	uint64_t budget;
	int argc; /* of the node: argv[0], the model, its options */
	char *argv[BENCH_ARGS + 4];
	struct boot_options node; /* what they say */
};

enum {
	OWN_OPTIONS = 8,
	WARM_MOST = 20 /* prompts until every expert that has a slot is in it */
};

static void own_table(struct bench_request *q, struct bench *b, struct opt table[OWN_OPTIONS])
{
	const struct opt all[OWN_OPTIONS] = {
		{"json", OPT_FLAG, &q->json, .help = "print JSON"},
		{"budget", OPT_SIZE, &q->budget, .value = "N",
		 .help = "measure a second node, with --memory N: streaming", .min = 1 << 20,
		 .max = 1e18},
		{"prompt", OPT_U64, &b->prompt, .value = "N", .help = "tokens of a prompt (512)",
		 .min = 1, .max = 1 << 20},
		{"tokens", OPT_U64, &b->tokens, .value = "N", .help = "tokens to decode (128)",
		 .min = 1, .max = 1 << 20},
		{"depth", OPT_U64, &b->depth, .value = "N",
		 .help = "tokens of context before those that are decoded (1)", .min = 1,
		 .max = 1 << 20},
		{"repeat", OPT_U64, &b->repeat, .value = "N", .help = "repetitions of each (3)",
		 .min = 1, .max = BENCH_REPEATS},
		{"timeline", OPT_STRING, &q->timeline, .value = "FILE",
		 .help = "also a trace of a prompt and a reply at once, for ui.perfetto.dev"},
		{"socket", OPT_STRING, &q->socket, .value = "PATH",
		 .help = "a node that runs MODEL already, instead of one of its own"},
	};

	memcpy(table, all, sizeof(all));
}

static int help(struct options *o)
{
	int rc = options_help(o, stdout);

	puts("\nand the options of `penstock run`: --memory --context --parallel --chunk --slots "
	     "--threads --isa,\nand --mtp, which is off here unless it is named.\n"
	     "Without a MODEL only memory and multipliers are measured.");
	return rc;
}

/* Own options are read here, the rest goes to the node after its own parser has agreed. */
static int parse(struct bench_request *q, struct bench *b, int argc, char **argv, struct err *e)
{
	struct opt table[OWN_OPTIONS];
	struct options o = {.usage = "penstock bench [MODEL]",
			    .about = "The limits of this machine, and a node on MODEL beside them.",
			    .table = table,
			    .n = OWN_OPTIONS};
	char *copy[BENCH_ARGS + 4];
	struct split split;
	int rc;

	own_table(q, b, table);
	rc = split_options(&split, table, OWN_OPTIONS, argc, argv, e);
	if (rc)
		return rc;
	q->argc = split.n_node;
	memcpy(q->argv, split.node, sizeof(q->argv));
	rc = options_parse(&o, split.n_own, split.own, e);
	if (rc < 0)
		return rc;
	if (o.help) {
		q->help = true;
		return help(&o);
	}
	if (q->argc == 1)
		return q->socket || q->budget || q->timeline
			       ? err_exit(e, STATUS_USAGE, -EINVAL,
					  "bench needs the MODEL for --socket, --budget and "
					  "--timeline")
			       : 0;
	if (q->socket && (q->budget || q->argc > 2))
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"a running node (--socket) has its options already: --budget and "
				"those of `penstock run` do not go with it");
	memcpy(copy, q->argv, sizeof(copy));
	rc = boot_options_parse(&q->node, q->argc, copy, e);
	b->model.path = q->node.model;
	return rc;
}

static void on_signal(int signo)
{
	(void)signo;
	bench_interrupted = 1;
}

/* Without SA_RESTART: a wait for the node ends. The node gets Ctrl-C too, and ends. */
static void take_signals(void)
{
	struct sigaction a = {.sa_handler = on_signal};

	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int open_model(struct bench_model *m, struct err *e)
{
	struct stat st;
	int rc = cli_model_open(&m->m, m->path, e);

	if (rc)
		return rc;
	weigh(&m->weights, m->m.ix);
	if (!stat(m->path, &st)) {
		snprintf(m->drive_stat, sizeof(m->drive_stat), "/sys/dev/block/%u:%u/stat",
			 major(st.st_dev), minor(st.st_dev));
	}
	return 0;
}

/*
 * Caches fill, pages are touched. A node is ready before all its slots are made, so a prompt that
 * misses something is followed by another as long as that helps: a budget below the model's size
 * always misses.
 */
static int warm_up(struct bench *b, struct err *e)
{
	uint64_t misses = UINT64_MAX, least = misses;
	int rc = 0;

	for (unsigned i = 0, stuck = 0; !rc && i < WARM_MOST && misses && stuck < 2; i++) {
		struct bench_case once = {.n = 0};

		rc = bench_prefill(b, &once, e);
		misses = once.rep[0].did.count[COUNT_MISSES];
		stuck = misses < least ? 0 : stuck + 1;
		least = misses < least ? misses : least;
	}
	return rc ? rc : bench_decode(b, NULL, e);
}

/* What one node can do. A repetition of prefill and one of decoding take turns. */
static int measure(struct bench *b, struct bench_run *run, struct err *e)
{
	double after = 0;
	int rc = b->node.pid ? bench_first_token(b, &run->start, e) : 0;

	if (!rc && b->node.pid)
		rc = bench_probe_drive(&b->limits, b->model.m.files, &after, e);
	run->start.drive_gbs = (run->start.drive_gbs + after) / 2;

	if (!rc)
		rc = warm_up(b, e);
	for (uint64_t i = 0; !rc && i < b->repeat; i++) {
		rc = bench_prefill(b, &run->prefill, e);
		if (!rc)
			rc = bench_decode(b, &run->decode, e);
	}
	return rc;
}

/*
 * Whether the command line says what drafts should do. Without a word there are none: what they
 * give depends on the text, and a token's bytes are counted for passes of one row.
 */
static bool names_mtp(const struct bench_request *q)
{
	for (int i = 2; i < q->argc; i++) {
		if (!strcmp(q->argv[i], "--mtp") || !strncmp(q->argv[i], "--mtp=", 6))
			return true;
	}
	return false;
}

static int run_node(struct bench *b, const struct bench_request *q, struct bench_run *run,
		    struct err *e)
{
	char *argv[BENCH_ARGS + 6], memory[32];
	int argc = q->argc, rc;

	memcpy(argv, q->argv, sizeof(q->argv));
	if (run->budget) {
		snprintf(memory, sizeof(memory), "%llu", (unsigned long long)run->budget);
		argv[argc++] = (char *)(uintptr_t) "--memory";
		argv[argc++] = memory;
	}
	if (!q->socket && !names_mtp(q)) {
		argv[argc++] = (char *)(uintptr_t) "--mtp";
		argv[argc++] = (char *)(uintptr_t) "off";
	}
	b->probe_drive = run->budget > 0;
	rc = bench_probe_drive(&b->limits, b->model.m.files, &run->start.drive_gbs, e);
	if (!rc)
		rc = bench_node_open(&b->node, q->socket, argc, argv, &b->limits.cpus, e);
	if (!rc)
		rc = measure(b, run, e);
	if (!rc && q->timeline && run->budget == (q->budget ? q->budget : q->node.memory))
		rc = bench_timeline(b, q->timeline, e); /* of the last node */
	if (rc < 0 && !b->node.pid)
		; /* it has said why */
	else if (rc < 0 && !q->socket) {
		struct err why = {0};

		if (bench_node_alive(&b->node, &why))
			*e = why; /* the cause, not that a connection broke */
	}
	bench_node_close(&b->node);
	if (bench_interrupted)
		return STATUS_CTRL_C;
	return rc;
}

static int run_all(struct bench *b, const struct bench_request *q, struct bench_run run[BENCH_RUNS],
		   unsigned *runs, struct err *e)
{
	int rc;

	*runs = 0;
	if (!b->model.path)
		return 0;
	rc = open_model(&b->model, e);
	run[0].name = q->socket ? "the running node" : "default memory";
	run[0].budget = q->node.memory;
	run[1].name = "at the budget";
	run[1].budget = q->budget;
	for (unsigned i = 0; !rc && i < (q->budget ? 2u : 1u); i++) {
		rc = run_node(b, q, &run[i], e);
		++*runs;
	}
	return rc;
}

int cmd_bench(int argc, char **argv, struct err *e)
{
	static struct bench b; /* large, and once */
	static struct bench_run run[BENCH_RUNS];
	struct bench_request q = {0};
	enum cpu_isa isa = cpu_isa_best();
	cpu_set_t cpus;
	unsigned runs = 0;
	int rc;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--replay") || !strncmp(argv[i], "--replay=", 9))
			return cmd_replay(argc, argv, e);
	}
	b.prompt = 512;
	b.tokens = 128;
	b.depth = 1;
	b.repeat = 3;
	b.seed = clock_now_ns(); /* a running node may keep the pages of another run's prompts */
	rc = parse(&q, &b, argc, argv, e);
	if (rc || q.help)
		return rc > 0 ? STATUS_OK : rc;
	if (b.model.path)
		isa = (enum cpu_isa)q.node.isa;
	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		return err_set(e, -errno, "cannot read the CPU mask: %s", strerror(errno));
	take_signals();
	rc = bench_limits_open(
		&b.limits, q.node.threads ? (unsigned)q.node.threads : cores_count(&cpus), isa, e);
	if (!rc)
		rc = run_all(&b, &q, run, &runs, e);
	if (!rc && q.json)
		rc = bench_print_json(&b, run, runs, e);
	else if (!rc)
		bench_print(&b, run, runs);
	if (b.model.m.ix)
		cli_model_close(&b.model.m);
	return rc;
}
