/*
 * Times the functions of model/ in one process, without servers and drive: what the engine's
 * arithmetic makes of the processor. Passes a prompt in one chunk, and then decodes single tokens;
 * beside the multipliers' peak of the same run. Not a test: `forward_bench -n 512 -d 16 DIR`, and
 * `perf record` shows where the time goes.
 */
#include "drivers/cpu/limits.h"
#include "runtime/clock.h"
#include "runtime/forward/forward.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	PEAK_TURNS = 1 << 20
};

struct options {
	unsigned threads, repeats;
	uint32_t rows, decode;
	enum cpu_isa isa;
};

static double peak_flops[TEAM_MAX];

static void peak_work(void *context, struct worker *w)
{
	peak_flops[w->index] = cpu_peak_run(*(enum cpu_isa *)context, PEAK_TURNS);
}

/* GFLOP/s of all threads */
static double peak(struct team *t, const struct options *o)
{
	enum cpu_isa isa = o->isa;
	uint64_t begin = clock_now_ns();
	double sum = 0.0;

	team_run(t, peak_work, &isa);
	begin = clock_now_ns() - begin;
	for (unsigned i = 0; i < o->threads; i++)
		sum += peak_flops[i];
	return sum / (double)begin;
}

/* Operations of one row at a position, attention's products with the cache included. */
static double row_flops(const struct model_config *c, double position)
{
	double d = c->hidden_size, heads = c->num_attention_heads, rank = c->kv_lora_rank;
	double nope = c->qk_nope_head_dim, rope = c->qk_rope_head_dim, v = c->v_head_dim;
	double q_in = c->q_lora_rank ? c->q_lora_rank : d, sum = 0.0;

	for (uint32_t l = 0; l < c->num_hidden_layers; l++) {
		sum += (c->q_lora_rank ? d * q_in : 0) + q_in * heads * (nope + rope);
		sum += d * (rank + rope) + heads * rank * (nope + v) + d * heads * v;
		sum += heads * (position + 1) * (2 * rank + rope);
		if (config_is_moe(c, l))
			sum += 3 * d * c->moe_intermediate_size *
				       (c->num_experts_per_tok + c->n_shared_experts) +
			       d * c->n_routed_experts;
		else
			sum += 3 * d * c->intermediate_size;
	}
	return 2 * sum;
}

static bool parse(struct options *o, int argc, char **argv)
{
	for (int c; (c = getopt(argc, argv, "t:n:r:i:d:")) != -1;) {
		switch (c) {
		case 't':
			o->threads = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'n':
			o->rows = (uint32_t)strtoul(optarg, NULL, 0);
			break;
		case 'd':
			o->decode = (uint32_t)strtoul(optarg, NULL, 0);
			break;
		case 'r':
			o->repeats = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'i':
			if (cpu_isa_parse(optarg, &o->isa))
				return false;
			break;
		default:
			return false;
		}
	}
	return optind + 1 == argc && o->rows + o->decode <= FORWARD_PAGES * 256 && o->threads;
}

int main(int argc, char **argv)
{
	struct options o = {.threads = 2, .repeats = 5, .rows = 512, .isa = cpu_isa_best()};
	struct forward_row row[FORWARD_PAGES * 256];
	struct forward_out out = {0};
	struct err e = {0};
	struct forward f;
	struct team *t;
	double flops = 0.0;

	if (!parse(&o, argc, argv)) {
		fprintf(stderr, "usage: forward_bench [-t threads] [-n rows] [-d tokens] [-r "
				"repeats] [-i isa] DIR\n");
		return 2;
	}
	t = team_start(o.threads, NULL, 0, &e);
	if (!t || forward_open(&f, argv[optind], FORWARD_SEQUENCES, FORWARD_PAGES, &e)) {
		fprintf(stderr, "forward_bench: %s\n", e.text);
		return 1;
	}
	cpu_kernels_init(&f.kernels, o.isa);
	out.logits = forward_alloc((size_t)f.model.config->vocab_size * sizeof(float));
	for (uint32_t i = 0; i < o.rows + o.decode; i++) {
		uint32_t token = i * 2654435761u >> 7;

		row[i] = (struct forward_row){.position = i,
					      .token = token % f.model.config->vocab_size};
	}
	for (uint32_t i = 0; i < o.rows; i++)
		flops += row_flops(f.model.config, i);
	for (unsigned i = 0; i < o.repeats; i++) {
		double before = peak(t, &o), after;
		uint64_t begin = clock_now_ns(), ns;

		forward_main(&f, t, o.threads, row, o.rows, &(struct forward_out){0});
		ns = clock_now_ns() - begin;
		after = peak(t, &o);
		printf("%u rows: %.1f ms, %.0f GFLOP/s = %.3f of %.0f and %.0f\n", o.rows,
		       (double)ns * 1e-6, flops / (double)ns,
		       flops / (double)ns * 2 / (before + after), before, after);
		begin = clock_now_ns();
		for (uint32_t d = 0; d < o.decode; d++)
			forward_main(&f, t, o.threads, row + o.rows + d, 1, &out);
		ns = clock_now_ns() - begin;
		if (o.decode)
			printf("decode: %.3f ms a token\n", (double)ns * 1e-6 / o.decode);
	}
	forward_close(&f);
	return 0;
}
