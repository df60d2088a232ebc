/*
 * `penstock bench --replay TRACE`: the hit rates of the node's cache policy over a trace of routes,
 * beside LRU, LFU, ARC and Belady's optimum, at any number of slots. TRACE is a file that
 * `penstock run --trace-routes` wrote, or `synth:NAME` for one that is made up.
 */
#include "runtime/replay/replay.h"

#include "runtime/cli/cli.h"
#include "runtime/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SIZES_MAX = 64
};

struct request {
	const char *path, *shares, *write;
	uint64_t slots, seed;
	bool json;
};

/* Numbers of slots to try. */
struct sizes {
	double share[SIZES_MAX]; /* of all experts, in percent */
	uint32_t slots[SIZES_MAX];
	uint32_t n;
};

static void add_size(struct sizes *z, double share, double slots)
{
	z->share[z->n] = share;
	z->slots[z->n] = slots < 1 ? 1 : (uint32_t)slots;
	z->n++;
}

static int sizes_of(struct sizes *z, const struct request *q, uint32_t experts, struct err *e)
{
	*z = (struct sizes){0};
	if (q->slots) {
		double slots = q->slots < experts ? (double)q->slots : experts;

		add_size(z, 100 * slots / experts, slots);
		return 0;
	}
	for (const char *at = q->shares; z->n < SIZES_MAX;) {
		char word[24];
		size_t len = strcspn(at, ",");
		double share;

		if (len >= sizeof(word))
			break;
		memcpy(word, at, len);
		word[len] = 0;
		if (parse_double(word, &share) || !(share > 0) || share > 100)
			break;
		add_size(z, share, share / 100 * experts);
		at += len;
		if (!*at++)
			return 0;
	}
	return err_exit(e, STATUS_USAGE, -EINVAL,
			"--share %.60s: percentages of the experts, such as 10,20,30,50",
			q->shares);
}

static int open_trace(struct replay_trace *t, const struct request *q, struct err *e)
{
	const struct synth_profile *p;
	size_t n = 0;

	if (strncmp(q->path, "synth:", 6))
		return replay_read(t, q->path, e);
	p = replay_profile(q->path + 6);
	if (p)
		return replay_synth(t, p, q->seed)
			       ? err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the trace")
			       : 0;
	n = (size_t)snprintf(e->text, sizeof(e->text), "synth:%.40s: there are", q->path + 6);
	for (uint32_t i = 0; i < replay_n_profiles && n < sizeof(e->text); i++)
		n += (size_t)snprintf(e->text + n, sizeof(e->text) - n, " %s",
				      replay_profiles[i].name);
	e->status = STATUS_USAGE;
	return e->code = -EINVAL;
}

static double rate(uint64_t hits, uint64_t asked)
{
	return asked ? (double)hits / (double)asked : 0;
}

static void print_head(const struct replay_trace *t, const struct request *q)
{
	uint64_t prefill = 0;

	for (uint32_t i = 0; i < t->n_passes; i++)
		prefill += t->pass[i].prefill ? t->pass[i].rows : 0;
	if (q->json) {
		printf("{\"moe_layers\": %u, \"experts\": %u, \"top_k\": %u, \"passes\": %u, "
		       "\"rows\": %" PRIu64 ", \"prefill_rows\": %" PRIu64 ",\n \"sizes\": [",
		       t->moe_layers, t->experts, t->top_k, t->n_passes, t->n_rows, prefill);
		return;
	}
	printf("%u MoE layers of %u experts, %u per token; %u passes, %" PRIu64 " rows, %" PRIu64
	       " of them prefill\n\n slots      of all",
	       t->moe_layers, t->experts, t->top_k, t->n_passes, t->n_rows, prefill);
	for (uint32_t p = 0; p < REPLAY_POLICIES; p++)
		printf("%10s", replay_names[p]);
	printf("   of Belady   decode alone\n");
}

static void print_size(const struct sizes *z, uint32_t i, const struct replay_count *c,
		       const struct request *q)
{
	const struct replay_count *ours = &c[REPLAY_OURS], *best = &c[REPLAY_BELADY];

	if (q->json) {
		printf("%s\n  {\"slots\": %u, \"share\": %.4f, \"asked\": %" PRIu64, i ? "," : "",
		       z->slots[i], z->share[i] / 100, ours->asked);
		for (uint32_t p = 0; p < REPLAY_POLICIES; p++)
			printf(", \"%s\": {\"hits\": %" PRIu64 ", \"rate\": %.4f, "
			       "\"decode_rate\": %.4f}",
			       replay_names[p], c[p].hits, rate(c[p].hits, c[p].asked),
			       rate(c[p].decode_hits, c[p].decode_asked));
		putchar('}');
		return;
	}
	printf("%6u  %8.1f %%", z->slots[i], z->share[i]);
	for (uint32_t p = 0; p < REPLAY_POLICIES; p++)
		printf("%8.1f %%", 100 * rate(c[p].hits, c[p].asked));
	printf("%12.3f", best->hits ? (double)ours->hits / (double)best->hits : 1);
	printf("%10.1f %%\n", 100 * rate(ours->decode_hits, ours->decode_asked));
}

static int replay(const struct request *q, struct err *e)
{
	struct replay_trace t;
	struct sizes z;
	int rc = open_trace(&t, q, e);

	if (rc)
		return rc;
	rc = sizes_of(&z, q, replay_experts(&t), e);
	if (!rc && q->write)
		rc = replay_write(&t, q->write, e);
	if (!rc)
		print_head(&t, q);
	for (uint32_t i = 0; !rc && i < z.n; i++) {
		struct replay_count c[REPLAY_POLICIES];

		for (uint32_t p = 0; !rc && p < REPLAY_POLICIES; p++)
			rc = replay_run(&t, (enum replay_policy)p, z.slots[i], &c[p]);
		if (rc)
			err_exit(e, STATUS_MEMORY, rc, "no memory to replay the trace");
		else
			print_size(&z, i, c, q);
	}
	if (!rc && q->json)
		printf("\n]}\n");
	replay_free(&t);
	return rc;
}

int cmd_replay(int argc, char **argv, struct err *e)
{
	struct request q = {.shares = "10,20,30,50", .seed = 1};
	struct opt table[] = {
		{"replay", OPT_STRING, &q.path, .value = "TRACE",
		 .help = "a file of --trace-routes, or synth:NAME"},
		{"slots", OPT_U64, &q.slots, .value = "N", .help = "expert slots", .min = 1,
		 .max = UINT32_MAX},
		{"share", OPT_STRING, &q.shares, .value = "P,P,...",
		 .help = "slots as percentages of all experts (10,20,30,50)"},
		{"seed", OPT_U64, &q.seed, .value = "N", .help = "of a made-up trace (1)"},
		{"write", OPT_STRING, &q.write, .value = "FILE", .help = "write the trace"},
		{"json", OPT_FLAG, &q.json, .help = "print JSON"},
	};
	struct options o = {
		.usage = "penstock bench --replay TRACE",
		.about = "Hit rates of the node's cache policy over a trace of routes, beside LRU, "
			 "LFU with decay (the best\nof three half-lives), ARC, and Belady's "
			 "optimum, which knows the future.",
		.table = table,
		.n = sizeof(table) / sizeof(table[0])};
	int rc = options_parse(&o, argc, argv, e);

	if (rc < 0)
		return rc;
	if (o.help)
		return options_help(&o, stdout);
	if (!q.path)
		return err_exit(e, STATUS_USAGE, -EINVAL, "--replay TRACE is missing");
	return replay(&q, e);
}
