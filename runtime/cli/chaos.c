/*
 * `penstock chaos`: its command line, the order of things and the report; see chaos.h. A node of
 * its own answers twice: once while its servers are killed, once afresh and undisturbed. A node
 * that runs already (--socket) gives the undisturbed replies first, to a pool of requests.
 */
#include "runtime/cli/chaos.h"

#include "boot/options.h"
#include "runtime/cli/cli.h"
#include "runtime/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum {
	OWN_OPTIONS = 8,
	POOL = 16,    /* requests per stream of a node that runs already */
	SETTLE_S = 5, /* what a node has to be as it was */
	SHOWN = 5,    /* differences that are printed */
	IDLE_LOOK_MS = 20
};

struct chaos {
	bool json, help;
	const char *socket;
	uint64_t kills, streams;
	struct split split;
	struct cli_model model;
	struct bench_node node;
	struct chaos_load load;
	struct chaos_kill kill;
	struct chaos_view view;
	struct chaos_state before, after;
	uint64_t killed, seconds, replies, differences, errors, tokens, stuck;
	struct chaos_list calm, pause; /* ns between two tokens: undisturbed; around a kill */
	struct chaos_reply *disturbed;
};

static int parse(struct chaos *c, const char **model, int argc, char **argv, struct err *e)
{
	static struct boot_options node;
	struct opt table[OWN_OPTIONS] = {
		{"kills", OPT_U64, &c->kills, .value = "N", .help = "kill so many servers (200)",
		 .min = 1, .max = 1e9},
		{"seed", OPT_U64, &c->load.seed, .value = "S",
		 .help = "of requests and deaths; printed where none is given"},
		{"streams", OPT_U64, &c->streams, .value = "N",
		 .help = "requests at the same time (6)", .min = 1, .max = CHAOS_STREAMS},
		{"prompt", OPT_U64, &c->load.prompt, .value = "N",
		 .help = "tokens of the longest prompts (400)", .min = 1, .max = 1 << 20},
		{"tokens", OPT_U64, &c->load.tokens, .value = "N",
		 .help = "tokens of the longest replies (120)", .min = 1, .max = 1 << 20},
		{"publish", OPT_FLAG, &c->kill.publish,
		 .help = "kill right behind a commit: the first, the second, ... of each server"},
		{"json", OPT_FLAG, &c->json, .help = "print JSON"},
		{"socket", OPT_STRING, &c->socket, .value = "PATH",
		 .help = "a node that runs MODEL already; its prompts repeat, so fewer are "
			 "computed"},
	};
	struct options o = {.usage = "penstock chaos MODEL",
			    .about = "Kills the servers of a node on MODEL while it works, and "
				     "compares each reply with its undisturbed twin.",
			    .table = table,
			    .n = OWN_OPTIONS};
	char *copy[SPLIT_ARGS + 4];
	int rc = split_options(&c->split, table, OWN_OPTIONS, argc, argv, e);

	if (!rc)
		rc = options_parse(&o, c->split.n_own, c->split.own, e);
	if (rc < 0)
		return rc;
	if (o.help) {
		c->help = true;
		rc = options_help(&o, stdout);
		puts("\nand the options of `penstock run`. Exit status 5: a reply differed, or "
		     "something was lost.");
		return rc;
	}
	if (c->socket && c->split.n_node > 2)
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"a running node (--socket) has its options already");
	memcpy(copy, c->split.node, sizeof(copy));
	rc = boot_options_parse(&node, c->split.n_node, copy, e);
	*model = node.model;
	return rc;
}

static void on_signal(int signo)
{
	(void)signo;
	bench_interrupted = 1;
}

static void sleep_ms(long ms)
{
	const struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

static int open_node(struct chaos *c, struct err *e)
{
	char *argv[BENCH_ARGS + 4];
	cpu_set_t cpus;
	int rc;

	memcpy(argv, c->split.node, sizeof(argv));
	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		return err_set(e, -errno, "cannot read the CPU mask: %s", strerror(errno));
	rc = bench_node_open(&c->node, c->socket, c->split.n_node, argv, &cpus, e);
	while (!rc && !c->socket && bench_node_ready(&c->node) < 0) {
		rc = bench_node_alive(&c->node, e);
		if (!rc && bench_interrupted)
			rc = err_exit(e, STATUS_CTRL_C, -EINTR, "interrupted");
		sleep_ms(IDLE_LOOK_MS);
	}
	if (rc)
		return rc;
	c->kill.watch = &c->node.watch;
	c->kill.init = c->node.pid;
	rc = c->socket ? chaos_find_init(c->socket, &c->kill.init, e) : 0;
	return rc ? rc : chaos_view_open(&c->view, c->kill.init, e);
}

static void close_node(struct chaos *c)
{
	chaos_view_close(&c->view);
	bench_node_close(&c->node);
}

/*
 * A stream has not moved for long. On a machine that gives the node less CPU than its deaths cost
 * that is no wonder, so it is left in peace; then what a stream that is stuck leaves to be seen.
 */
static int stuck(struct chaos *c, int stream, struct err *e)
{
	const struct chaos_stream *s = &c->load.stream[stream];
	uint64_t moved = atomic_load(&s->moved_ns);

	for (unsigned ms = 0; ms < CHAOS_STUCK_S * 1000 && !bench_interrupted; ms += 100) {
		if (atomic_load(&s->moved_ns) != moved)
			return 0;
		sleep_ms(100);
	}
	fprintf(stderr, "penstock: stream %d is stuck; the node, twice within a second:\n", stream);
	chaos_print_node(&c->kill, &c->view);
	sleep_ms(1000);
	chaos_print_node(&c->kill, &c->view);
	c->stuck++;
	return err_exit(e, STATUS_VERIFY, -ETIMEDOUT,
			"a request has not moved for %d s, half of them without a kill (stream %d)",
			2 * CHAOS_STUCK_S, stream);
}

/* Until all requests have been answered. */
static int wait_for_load(struct chaos *c, struct err *e)
{
	int rc = 0, stream;

	while (!rc && !chaos_load_over(&c->load)) {
		sleep_ms(IDLE_LOOK_MS);
		if (c->node.pid)
			rc = bench_node_alive(&c->node, e);
		if (!rc && bench_interrupted)
			rc = err_exit(e, STATUS_CTRL_C, -EINTR, "interrupted");
		stream = rc ? -1 : chaos_load_stuck(&c->load);
		if (stream >= 0)
			rc = stuck(c, stream, e);
	}
	return rc;
}

/* The node as it is when nothing is left to do, so that what is lost can be told. */
static void settle(struct chaos *c, struct chaos_state *s, const struct chaos_state *want)
{
	for (unsigned ms = 0; ms < SETTLE_S * 1000; ms += 100) {
		chaos_look(&c->kill, &c->view, s);
		if (want ? !memcmp(s, want, sizeof(*s)) : !s->busy && !s->zombies && ms >= 500)
			break;
		sleep_ms(100);
	}
}

static int run_disturbed(struct chaos *c, struct err *e)
{
	uint64_t begin = clock_now_ns(), last = begin;
	int rc, stream;

	settle(c, &c->before, NULL);
	rc = chaos_load_start(&c->load, c->node.socket, UINT64_MAX, e);
	while (!rc && c->killed < c->kills && !bench_interrupted) {
		c->killed += chaos_kill(&c->kill);
		if (c->node.pid)
			rc = bench_node_alive(&c->node, e);
		stream = rc ? -1 : chaos_load_stuck(&c->load);
		if (stream >= 0)
			rc = stuck(c, stream, e);
		if (clock_now_ns() - last > 10 * NS_PER_S) {
			last = clock_now_ns();
			fprintf(stderr, "penstock: %llu of %llu kills, %llu requests, %.0f s\n",
				(unsigned long long)c->killed, (unsigned long long)c->kills,
				(unsigned long long)atomic_load(&c->load.next),
				(double)(last - begin) / NS_PER_S);
		}
		if (!rc && chaos_load_over(&c->load))
			break; /* every reply was refused, or there is room for no more */
	}
	atomic_store(&c->load.stop, true);
	if (!rc)
		rc = wait_for_load(c, e);
	c->replies = chaos_load_end(&c->load, rc != 0);
	c->seconds = (clock_now_ns() - begin) / NS_PER_S;
	if (!rc)
		settle(c, &c->after, &c->before);
	return rc;
}

static int run_undisturbed(struct chaos *c, uint64_t requests, struct err *e)
{
	int rc = chaos_load_start(&c->load, c->node.socket, requests, e);

	if (!rc)
		rc = wait_for_load(c, e);
	chaos_load_end(&c->load, rc != 0);
	for (unsigned i = 0; i < c->load.streams; i++) {
		const struct chaos_stream *s = &c->load.stream[i];

		for (size_t j = 0; j < s->begin.n && j < s->end.n; j++)
			chaos_add(&c->calm, s->end.v[j] - s->begin.v[j]);
	}
	return rc;
}

/* The pauses of a disturbed run in which there was a kill. */
static void take_pauses(struct chaos *c)
{
	const struct chaos_list *at = &c->kill.at;

	for (unsigned i = 0; i < c->load.streams; i++) {
		const struct chaos_stream *s = &c->load.stream[i];

		for (size_t j = 0, k = 0; j < s->begin.n && j < s->end.n; j++) {
			while (k < at->n && at->v[k] <= s->begin.v[j])
				k++;
			if (k < at->n && at->v[k] < s->end.v[j])
				chaos_add(&c->pause, s->end.v[j] - s->begin.v[j]);
		}
	}
}

static bool same(const struct chaos_reply *a, const struct chaos_reply *b)
{
	return a->content && b->content && !strcmp(a->content, b->content) &&
	       !strcmp(a->finish, b->finish) && a->tokens == b->tokens &&
	       a->prompt_tokens == b->prompt_tokens;
}

static void print_difference(uint64_t number, const struct chaos_reply *got,
			     const struct chaos_reply *want)
{
	size_t at = 0;

	fprintf(stderr, "penstock: reply %llu: ", (unsigned long long)number);
	if (!got->content || !want->content) {
		fprintf(stderr, "%s%s\n", got->content ? "its undisturbed twin: " : "",
			got->content ? want->error : got->error);
		return;
	}
	while (got->content[at] && got->content[at] == want->content[at])
		at++;
	fprintf(stderr, "differs from byte %zu on: %llu tokens (%s), undisturbed %llu (%s)\n", at,
		(unsigned long long)got->tokens, got->finish, (unsigned long long)want->tokens,
		want->finish);
}

/* `pool`: the twin of reply n is number n % pool; 0: n. */
static void compare(struct chaos *c, const struct chaos_reply *got, const struct chaos_reply *want,
		    uint64_t pool)
{
	for (uint64_t i = 0; i < c->replies; i++) {
		const struct chaos_reply *twin = &want[pool ? i % pool : i];

		c->errors += got[i].error[0] != 0;
		c->tokens += got[i].tokens;
		if (same(&got[i], twin))
			continue;
		if (c->differences++ < SHOWN)
			print_difference(i, &got[i], twin);
	}
}

/* Replies and pauses of the last run; the load's are new then. */
static struct chaos_reply *take_replies(struct chaos_load *l)
{
	struct chaos_reply *r = l->reply;

	l->reply = NULL;
	chaos_load_free(l);
	return r;
}

static void free_replies(struct chaos_reply *r)
{
	for (uint64_t i = 0; r && i < CHAOS_REPLIES; i++)
		free(r[i].content);
	free(r);
}

/* A node of our own: disturbed, then another one that is not. */
static int run_own(struct chaos *c, struct err *e)
{
	int rc = open_node(c, e);

	if (!rc) {
		rc = run_disturbed(c, e);
		take_pauses(c);
	}
	close_node(c);
	c->disturbed = take_replies(&c->load);
	if (rc || bench_interrupted)
		return rc;
	fprintf(stderr, "penstock: %llu kills; now %llu replies undisturbed\n",
		(unsigned long long)c->killed, (unsigned long long)c->replies);
	rc = open_node(c, e);
	if (!rc)
		rc = run_undisturbed(c, c->replies, e);
	if (!rc)
		compare(c, c->disturbed, c->load.reply, 0);
	close_node(c);
	return rc;
}

static int run_other(struct chaos *c, struct err *e)
{
	struct chaos_reply *calm = NULL;
	uint64_t pool = POOL * c->streams;
	int rc = open_node(c, e);

	if (!rc)
		rc = run_undisturbed(c, pool, e);
	calm = take_replies(&c->load);
	c->load.pool = pool;
	if (!rc) {
		rc = run_disturbed(c, e);
		take_pauses(c);
	}
	if (!rc)
		compare(c, c->load.reply, calm, pool);
	close_node(c);
	free_replies(calm);
	return rc;
}

/* ---- Report ---- */

static double ms(uint64_t ns)
{
	return (double)ns / NS_PER_MS;
}

/* What a pause is longer than an undisturbed one. */
static double added(const struct chaos *c, uint64_t pause, uint64_t usual)
{
	(void)c;
	return pause > usual ? ms(pause - usual) : 0;
}

static uint64_t lost(uint64_t before, uint64_t after)
{
	return before == after ? 0 : before < after ? after - before : before - after;
}

/* Those that wait for a read that nobody has under way, and those that no step needs. */
static uint64_t lost_slots(const struct chaos *c)
{
	return lost(c->before.slots, c->after.slots) + lost(c->before.pins, c->after.pins);
}

static void print(struct chaos *c)
{
	uint64_t usual = chaos_percentile(&c->calm, 50);

	printf("kills        %llu in %llu s:", (unsigned long long)c->killed,
	       (unsigned long long)c->seconds);
	for (unsigned i = 0; i < CHAOS_ROLES; i++)
		printf(" %s %llu", graph_roles[ROLE_CLIENT + i].program,
		       (unsigned long long)c->kill.kills[i]);
	printf(" spares %llu\n", (unsigned long long)c->kill.spares);
	printf("replies      %llu, %llu tokens, %llu streams at once\n",
	       (unsigned long long)c->replies, (unsigned long long)c->tokens,
	       (unsigned long long)c->streams);
	printf("differences  %llu\n", (unsigned long long)c->differences);
	printf("errors       %llu\n", (unsigned long long)c->errors);
	printf("stuck        %llu\n", (unsigned long long)c->stuck);
	printf("step again   p50 %.2f ms  p99 %.2f ms  after its server was killed in it (%zu)\n",
	       ms(chaos_percentile(&c->kill.begun, 50)), ms(chaos_percentile(&c->kill.begun, 99)),
	       c->kill.begun.n);
	printf("pause        p50 %.2f ms  p99 %.2f ms  more between two tokens than the usual "
	       "%.2f ms (%zu; undisturbed p99 %.2f ms)\n",
	       added(c, chaos_percentile(&c->pause, 50), usual),
	       added(c, chaos_percentile(&c->pause, 99), usual), ms(usual), c->pause.n,
	       ms(chaos_percentile(&c->calm, 99)));
	printf("lost         descriptors %llu  maps %llu  zombies %llu  pages %llu  slots %llu  "
	       "requests %llu\n",
	       (unsigned long long)lost(c->before.descriptors, c->after.descriptors),
	       (unsigned long long)lost(c->before.maps, c->after.maps),
	       (unsigned long long)c->after.zombies,
	       (unsigned long long)lost(c->before.pages_free, c->after.pages_free),
	       (unsigned long long)lost_slots(c), (unsigned long long)c->after.busy);
}

static void print_json(struct chaos *c)
{
	uint64_t usual = chaos_percentile(&c->calm, 50);

	printf("{\"seed\":%llu,\"kills\":%llu,\"seconds\":%llu,\"replies\":%llu,\"tokens\":%llu,"
	       "\"differences\":%llu,\"errors\":%llu,\"stuck\":%llu,",
	       (unsigned long long)c->load.seed, (unsigned long long)c->killed,
	       (unsigned long long)c->seconds, (unsigned long long)c->replies,
	       (unsigned long long)c->tokens, (unsigned long long)c->differences,
	       (unsigned long long)c->errors, (unsigned long long)c->stuck);
	printf("\"step_again_ms\":{\"n\":%zu,\"p50\":%.3f,\"p99\":%.3f},", c->kill.begun.n,
	       ms(chaos_percentile(&c->kill.begun, 50)), ms(chaos_percentile(&c->kill.begun, 99)));
	printf("\"pause_ms\":{\"n\":%zu,\"p50\":%.3f,\"p99\":%.3f,\"usual\":%.3f},", c->pause.n,
	       added(c, chaos_percentile(&c->pause, 50), usual),
	       added(c, chaos_percentile(&c->pause, 99), usual), ms(usual));
	printf("\"lost\":{\"descriptors\":%llu,\"maps\":%llu,\"zombies\":%llu,\"pages\":%llu,"
	       "\"slots\":%llu,\"requests\":%llu}}\n",
	       (unsigned long long)lost(c->before.descriptors, c->after.descriptors),
	       (unsigned long long)lost(c->before.maps, c->after.maps),
	       (unsigned long long)c->after.zombies,
	       (unsigned long long)lost(c->before.pages_free, c->after.pages_free),
	       (unsigned long long)lost_slots(c), (unsigned long long)c->after.busy);
}

static int status(const struct chaos *c)
{
	if (bench_interrupted)
		return STATUS_CTRL_C;
	return c->differences || c->stuck || memcmp(&c->before, &c->after, sizeof(c->before))
		       ? STATUS_VERIFY
		       : STATUS_OK;
}

int cmd_chaos(int argc, char **argv, struct err *e)
{
	static struct chaos c; /* large, and once */
	struct sigaction a = {.sa_handler = on_signal};
	const char *model = NULL;
	int rc;

	c.kills = 200;
	c.streams = 6;
	c.load.prompt = 400;
	c.load.tokens = 120;
	c.load.seed = clock_now_ns() % 1000000000;
	rc = parse(&c, &model, argc, argv, e);
	if (rc || c.help)
		return rc > 0 ? STATUS_OK : rc;
	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
	signal(SIGPIPE, SIG_IGN);
	fprintf(stderr, "penstock: --seed %llu repeats this run\n",
		(unsigned long long)c.load.seed);
	c.kill.seed = c.load.seed;
	c.load.streams = (unsigned)c.streams;
	rc = cli_model_open(&c.model, model, e);
	if (rc)
		return rc;
	c.load.ix = c.model.ix;
	rc = c.socket ? run_other(&c, e) : run_own(&c, e);
	if (!rc && c.json)
		print_json(&c);
	else if (!rc)
		print(&c);
	chaos_load_free(&c.load);
	free_replies(c.disturbed);
	cli_model_close(&c.model);
	return rc ? rc : status(&c);
}
