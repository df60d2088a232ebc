/*
 * The report of a benchmark, as text and as JSON; see bench.h. A repetition in which the memory's
 * rate moved by more than a fifth is shown but not counted, unless all are like that: in a virtual
 * machine the memory has states (research: 33 and 57 GB/s), and a share is of one of them.
 */
#include "runtime/cli/bench.h"

#include "drivers/nvme/stream.h"
#include "runtime/cli/stages.h"
#include "runtime/version.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

/* What is said of all repetitions of one case. */
struct summary {
	unsigned used, mixed;
	double tokens_s, low, high; /* median and range of the used ones */
	double memory_gbs, memory_share, gflops, dot_share;
	double read_gbs, drive_share, busy_share, roof_share, read_over_missed;
	const struct bench_rep *typical; /* the median one */
};

static double seconds(const struct bench_rep *r)
{
	return (double)r->wall_ns * 1e-9;
}

static double mean(const double of[2])
{
	return (of[0] + of[1]) / 2;
}

static bool is_mixed(const struct bench_rep *r)
{
	double low = r->memory[0] < r->memory[1] ? r->memory[0] : r->memory[1];
	double high = r->memory[0] < r->memory[1] ? r->memory[1] : r->memory[0];

	return low < high * 0.8;
}

static int by_size(const void *a, const void *b)
{
	const double *p = a, *q = b;

	return (*p > *q) - (*p < *q);
}

static double tokens_per_s(const struct bench *b, const struct bench_rep *r)
{
	(void)b;
	return (double)r->tokens / seconds(r);
}

static double memory_rate(const struct bench *b, const struct bench_rep *r)
{
	return (double)bench_weight_bytes(&b->model, r) / seconds(r) * 1e-9;
}

static double memory_share(const struct bench *b, const struct bench_rep *r)
{
	return memory_rate(b, r) / mean(r->memory);
}

static double flop_rate(const struct bench *b, const struct bench_rep *r)
{
	return bench_flops(&b->model, r) / seconds(r) * 1e-9;
}

static double flop_share(const struct bench *b, const struct bench_rep *r)
{
	return flop_rate(b, r) / mean(r->dot);
}

static double read_rate(const struct bench *b, const struct bench_rep *r)
{
	(void)b;
	return (double)r->did.count[COUNT_READ_BYTES] / seconds(r) * 1e-9;
}

static double drive_share(const struct bench *b, const struct bench_rep *r)
{
	return mean(r->drive) > 0 ? read_rate(b, r) / mean(r->drive) : 0;
}

static double busy_share(const struct bench *b, const struct bench_rep *r)
{
	(void)b;
	return (double)r->did.count[COUNT_DRIVE_BUSY_NS] * 1e-9 / seconds(r);
}

static double missed_bytes(const struct bench *b, const struct bench_rep *r)
{
	return (double)r->did.count[COUNT_MISSES] * (double)index_expert_bytes(b->model.m.ix);
}

/* The time that the missed bytes take at the drive's rate, of the time it took. */
static double roof_share(const struct bench *b, const struct bench_rep *r)
{
	return mean(r->drive) > 0 ? missed_bytes(b, r) * 1e-9 / mean(r->drive) / seconds(r) : 0;
}

static double read_over_missed(const struct bench *b, const struct bench_rep *r)
{
	double missed = missed_bytes(b, r);

	return missed > 0 ? (double)r->did.count[COUNT_READ_BYTES] / missed : 0;
}

/* The median of a figure over the used repetitions. */
static double median(const struct bench *b, const struct bench_case *c, bool all,
		     double (*figure)(const struct bench *, const struct bench_rep *))
{
	double v[BENCH_REPEATS] = {0};
	unsigned n = 0;

	for (unsigned i = 0; i < c->n; i++)
		if (all || !is_mixed(&c->rep[i]))
			v[n++] = figure(b, &c->rep[i]);
	qsort(v, n, sizeof(*v), by_size);
	return n ? (v[(n - 1) / 2] + v[n / 2]) / 2 : 0;
}

static struct summary sum_up(const struct bench *b, const struct bench_case *c)
{
	struct summary s = {0};
	bool all;

	for (unsigned i = 0; i < c->n; i++)
		s.mixed += is_mixed(&c->rep[i]);
	all = s.mixed == c->n;
	s.used = all ? c->n : c->n - s.mixed;
	s.tokens_s = median(b, c, all, tokens_per_s);
	s.memory_gbs = median(b, c, all, memory_rate);
	s.memory_share = median(b, c, all, memory_share);
	s.gflops = median(b, c, all, flop_rate);
	s.dot_share = median(b, c, all, flop_share);
	s.read_gbs = median(b, c, all, read_rate);
	s.drive_share = median(b, c, all, drive_share);
	s.busy_share = median(b, c, all, busy_share);
	s.roof_share = median(b, c, all, roof_share);
	s.read_over_missed = median(b, c, all, read_over_missed);
	for (unsigned i = 0; i < c->n; i++) {
		const struct bench_rep *r = &c->rep[i];
		double v = tokens_per_s(b, r), best;

		if (!all && is_mixed(r))
			continue;
		s.low = s.typical && s.low < v ? s.low : v;
		s.high = s.high > v ? s.high : v;
		best = s.typical ? tokens_per_s(b, s.typical) - s.tokens_s : 0;
		if (!s.typical || (v - s.tokens_s) * (v - s.tokens_s) < best * best)
			s.typical = r;
	}
	return s;
}

/*
 * Bytes of weights that a stage of decoding reads. Shared experts may be computed together with
 * routed ones, in their time: bytes are given for both (`stage` COUNT_EXPERT_NS), see
 * print_stages.
 */
static uint64_t stage_bytes(const struct bench *b, const struct bench_rep *r, enum counter stage)
{
	const struct weights *w = &b->model.weights;
	uint64_t passes = r->did.count[COUNT_PASSES];
	bool tied = b->model.m.ix->config.tie_word_embeddings;

	switch (stage) {
	case COUNT_ATTENTION_NS:
		return passes * w->part[WEIGHTS_ATTENTION].bytes;
	case COUNT_GATE_NS:
		return passes * w->part[WEIGHTS_GATES].bytes;
	case COUNT_EXPERT_NS:
		return (r->did.count[COUNT_HITS] + r->did.count[COUNT_MISSES]) * w->expert.bytes +
		       passes * (w->part[WEIGHTS_DENSE].bytes + w->part[WEIGHTS_SHARED].bytes);
	case COUNT_HEAD_NS:
		return passes * w->part[tied ? WEIGHTS_EMBEDDING : WEIGHTS_HEAD].bytes;
	default:
		return 0;
	}
}

static double hand_over_ns(const struct bench_rep *r)
{
	double left = (double)r->wall_ns;

	for (unsigned i = 0; i < STAGES; i++)
		left -= (double)r->did.count[stages[i].counter];
	return left; /* negative: two batches overlap */
}

static double hit_rate(const struct bench_rep *r)
{
	double hits = (double)r->did.count[COUNT_HITS], misses = (double)r->did.count[COUNT_MISSES];

	return hits + misses > 0 ? hits / (hits + misses) : 1;
}

/* ---- Text ---- */

static void print_stage(const struct bench_rep *r, const char *label, double ns, double bytes)
{
	const double tokens = (double)r->tokens;

	printf("             %-20s %9.3f %5.1f %%", label, ns * 1e-6 / tokens,
	       100 * ns / (double)r->wall_ns);
	if (bytes > 0 && ns > 0)
		printf(" %8.1f %7.1f %10.2f", bytes * 1e-6 / tokens, bytes / ns,
		       bytes / ns / mean(r->memory));
	printf("\n");
}

static void print_stages(const struct bench *b, const struct bench_rep *r, bool bytes)
{
	double blocks = 0;

	printf("             %-20s %9s %7s%s\n", "stage", "ms/token", "share",
	       bytes ? "      MB    GB/s  of memory" : "");
	for (unsigned i = 0; i < STAGES; i++) {
		enum counter c = stages[i].counter;
		double ns = (double)r->did.count[c];
		bool feed_forward = c == COUNT_EXPERT_NS || c == COUNT_SHARED_NS;

		blocks += feed_forward ? ns : 0;
		print_stage(r, stages[i].label, ns,
			    bytes && !feed_forward ? (double)stage_bytes(b, r, c) : 0);
	}
	print_stage(r, "hand-over", hand_over_ns(r), 0);
	if (bytes)
		print_stage(r, "(both feed-forward)", blocks,
			    (double)stage_bytes(b, r, COUNT_EXPERT_NS));
}

static void print_rate(const char *name, uint64_t n, const struct summary *s)
{
	printf("  %s%-7llu %9.2f tokens/s", name, (unsigned long long)n, s->tokens_s);
}

static void print_spread(const struct summary *s)
{
	printf("   median of %u, %.2f to %.2f", s->used, s->low, s->high);
	if (s->mixed && s->typical)
		printf(", %u with the memory in two states", s->mixed);
	printf("\n");
}

static void print_drive(const struct bench *b, const struct summary *s)
{
	const struct bench_rep *r = s->typical;

	if (!r->did.count[COUNT_MISSES])
		return;
	printf("             hit rate %.3f, %.1f MB missed and %.1f MB read per token (%.2f "
	       "times)\n",
	       hit_rate(r), missed_bytes(b, r) * 1e-6 / (double)r->tokens,
	       (double)r->did.count[COUNT_READ_BYTES] * 1e-6 / (double)r->tokens,
	       s->read_over_missed);
	if (mean(r->drive) > 0)
		printf("             drive %.2f GB/s = %.2f of %.2f, busy %.2f of the time; "
		       "tokens/s "
		       "%.2f of (missed bytes / the drive's rate)\n",
		       s->read_gbs, s->drive_share, mean(r->drive), s->busy_share, s->roof_share);
}

static void print_run(const struct bench *b, const struct bench_run *run)
{
	struct summary p = sum_up(b, &run->prefill), d = sum_up(b, &run->decode);
	char size[32];

	printf("%s%s%s\n", run->name, run->budget ? ", --memory " : "",
	       run->budget ? cli_bytes(size, run->budget) : "");
	if (run->start.measured) {
		double must = run->start.drive_gbs > 0
				      ? (double)run->start.bytes * 1e-9 / run->start.drive_gbs
				      : 0;

		printf("  start      ready after %.3f s, first token after %.3f s; %s to read",
		       run->start.ready_s, run->start.first_token_s,
		       cli_bytes(size, run->start.bytes));
		if (must > 0)
			printf(": %.3f s at the drive's %.2f GB/s; first token / (1.15 of that + "
			       "0.25 s) = %.2f",
			       must, run->start.drive_gbs,
			       run->start.first_token_s / (1.15 * must + 0.25));
		printf("\n");
	}
	if (p.typical) {
		print_rate("pp", b->prompt, &p);
		printf("  %.1f GFLOP/s = %.2f of the multipliers' %.1f", p.gflops, p.dot_share,
		       mean(p.typical->dot));
		print_spread(&p);
		print_drive(b, &p);
		print_stages(b, p.typical, false);
	}
	if (d.typical) {
		print_rate("tg", b->tokens, &d);
		printf("  %.2f GB/s = %.2f of the memory's %.2f", d.memory_gbs, d.memory_share,
		       mean(d.typical->memory));
		print_spread(&d);
		print_drive(b, &d);
		print_stages(b, d.typical, true);
	}
}

void bench_print(const struct bench *b, const struct bench_run *run, unsigned runs)
{
	const struct bench_limits *l = &b->limits;

	printf("penstock %s, %s, %u threads, %s\n", PENSTOCK_VERSION, l->name, l->threads,
	       cpu_isa_name(l->isa));
	printf("limits\n  memory     %.2f GB/s read (%s, %s pages)\n", l->read_gbs, l->best->name,
	       l->huge ? "huge" : "small");
	printf("  multiply   %.1f GFLOP/s (%s)\n", l->flops,
	       l->isa == CPU_AVX512BF16 ? "BF16 dot" : "FP32 multiply-add");
	if (l->drive_gbs > 0)
		printf("  drive      %.3f GB/s (%u reads of %u KiB in flight)\n", l->drive_gbs,
		       (unsigned)STREAM_DEPTH, (unsigned)STREAM_PIECE / 1024);
	for (unsigned i = 0; i < runs; i++)
		print_run(b, &run[i]);
}

/* ---- JSON ---- */

/* A number that JSON can hold. */
static void put(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, double v)
{
	yyjson_mut_obj_add_real(doc, o, key, __builtin_isfinite(v) ? v : 0);
}

static yyjson_mut_val *json_stages(yyjson_mut_doc *doc, const struct bench_rep *r)
{
	yyjson_mut_val *o = yyjson_mut_obj(doc);

	for (unsigned i = 0; i < STAGES; i++)
		yyjson_mut_obj_add_uint(doc, o, stages[i].key, r->did.count[stages[i].counter]);
	put(doc, o, "hand_over", hand_over_ns(r));
	return o;
}

static yyjson_mut_val *json_rep(yyjson_mut_doc *doc, const struct bench *b,
				const struct bench_rep *r)
{
	yyjson_mut_val *o = yyjson_mut_obj(doc);

	yyjson_mut_obj_add_uint(doc, o, "tokens", r->tokens);
	put(doc, o, "seconds", seconds(r));
	put(doc, o, "tokens_per_s", tokens_per_s(b, r));
	put(doc, o, "memory_before_gbs", r->memory[0]);
	put(doc, o, "memory_after_gbs", r->memory[1]);
	put(doc, o, "drive_before_gbs", r->drive[0]);
	put(doc, o, "drive_after_gbs", r->drive[1]);
	put(doc, o, "multiply_gflops", mean(r->dot));
	yyjson_mut_obj_add_bool(doc, o, "mixed", is_mixed(r));
	yyjson_mut_obj_add_uint(doc, o, "hits", r->did.count[COUNT_HITS]);
	yyjson_mut_obj_add_uint(doc, o, "misses", r->did.count[COUNT_MISSES]);
	yyjson_mut_obj_add_uint(doc, o, "read_bytes", r->did.count[COUNT_READ_BYTES]);
	yyjson_mut_obj_add_uint(doc, o, "drive_counted_bytes", r->did.drive_bytes);
	yyjson_mut_obj_add_val(doc, o, "stages_ns", json_stages(doc, r));
	return o;
}

static yyjson_mut_val *json_case(yyjson_mut_doc *doc, const struct bench *b,
				 const struct bench_case *c)
{
	struct summary s = sum_up(b, c);
	yyjson_mut_val *o = yyjson_mut_obj(doc), *reps = yyjson_mut_arr(doc);

	put(doc, o, "tokens_per_s", s.tokens_s);
	put(doc, o, "memory_gbs", s.memory_gbs);
	put(doc, o, "memory_share", s.memory_share);
	put(doc, o, "gflops", s.gflops);
	put(doc, o, "multiply_share", s.dot_share);
	put(doc, o, "drive_gbs", s.read_gbs);
	put(doc, o, "drive_share", s.drive_share);
	put(doc, o, "drive_busy_share", s.busy_share);
	put(doc, o, "roof_share", s.roof_share);
	put(doc, o, "read_over_missed", s.read_over_missed);
	put(doc, o, "hit_rate", s.typical ? hit_rate(s.typical) : 1);
	for (unsigned i = 0; i < c->n; i++)
		yyjson_mut_arr_append(reps, json_rep(doc, b, &c->rep[i]));
	yyjson_mut_obj_add_val(doc, o, "repetitions", reps);
	return o;
}

static yyjson_mut_val *json_run(yyjson_mut_doc *doc, const struct bench *b,
				const struct bench_run *run)
{
	yyjson_mut_val *o = yyjson_mut_obj(doc), *start;

	yyjson_mut_obj_add_str(doc, o, "name", run->name);
	yyjson_mut_obj_add_uint(doc, o, "budget", run->budget);
	if (run->start.measured) {
		start = yyjson_mut_obj(doc);
		put(doc, start, "ready_s", run->start.ready_s);
		put(doc, start, "first_token_s", run->start.first_token_s);
		put(doc, start, "drive_gbs", run->start.drive_gbs);
		yyjson_mut_obj_add_uint(doc, start, "bytes", run->start.bytes);
		yyjson_mut_obj_add_val(doc, o, "start", start);
	}
	yyjson_mut_obj_add_val(doc, o, "prefill", json_case(doc, b, &run->prefill));
	yyjson_mut_obj_add_val(doc, o, "decode", json_case(doc, b, &run->decode));
	return o;
}

int bench_print_json(const struct bench *b, const struct bench_run *run, unsigned runs,
		     struct err *e)
{
	const struct bench_limits *l = &b->limits;
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc), *limits = yyjson_mut_obj(doc),
		       *all = yyjson_mut_arr(doc);
	char *text;

	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_str(doc, root, "version", PENSTOCK_VERSION);
	yyjson_mut_obj_add_str(doc, root, "cpu", l->name);
	yyjson_mut_obj_add_uint(doc, root, "threads", l->threads);
	yyjson_mut_obj_add_str(doc, root, "isa", cpu_isa_name(l->isa));
	if (b->model.path)
		yyjson_mut_obj_add_str(doc, root, "model", b->model.path);
	yyjson_mut_obj_add_uint(doc, root, "prompt", b->prompt);
	yyjson_mut_obj_add_uint(doc, root, "tokens", b->tokens);
	put(doc, limits, "memory_gbs", l->read_gbs);
	yyjson_mut_obj_add_str(doc, limits, "memory_loop", l->best->name);
	yyjson_mut_obj_add_bool(doc, limits, "huge_pages", l->huge);
	put(doc, limits, "multiply_gflops", l->flops);
	put(doc, limits, "drive_gbs", l->drive_gbs);
	yyjson_mut_obj_add_val(doc, root, "limits", limits);
	for (unsigned i = 0; i < runs; i++)
		yyjson_mut_arr_append(all, json_run(doc, b, &run[i]));
	yyjson_mut_obj_add_val(doc, root, "runs", all);
	text = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY, NULL);
	yyjson_mut_doc_free(doc);
	if (!text)
		return err_exit(e, STATUS_FAILED, -EINVAL,
				"the model's name is not UTF-8: no JSON can hold it");
	puts(text);
	free(text);
	return 0;
}
