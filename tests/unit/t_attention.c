/* tsan */
/*
 * The attention block on a random model in memory, over more than one page: near a naive
 * double-precision attention (with expanded keys and values), and the same bits for any number of
 * workers, chunk, neighbours, instruction set and page contents.
 */
#include "drivers/cpu/math.h"
#include "model/attention.h"
#include "model/rope.h"
#include "tests/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	D = 72,
	HEADS = 5,
	NOPE = 24,
	ROPE = 16,
	V = 20,
	RANK = 40,
	Q_RANK = 56,
	WIDTH = 128, /* pad128(D) */
	LENGTH = 600,
	PAGES = 16,
	MTP_LAYER = 1
};

static struct model_config config;
static struct model model;
static struct cpu_kernels kernels;
static uint64_t state = 42;
static struct team *team[4]; /* of 0 to 3 workers */

static float uniform(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(uint32_t)(state >> 32) * 0x1p-31 - 1);
}

static void *allocate(size_t bytes)
{
	void *p = aligned_alloc(64, scratch_round(bytes));

	memset(p, 0, scratch_round(bytes));
	return p;
}

/* Memory that lives as long as the test; reachable, so that no leak is reported. */
static void *allocate_kept(size_t bytes)
{
	static void *kept[256];
	static size_t n;

	return kept[n++] = allocate(bytes);
}

static const float *vector(size_t n, float around)
{
	float *v = allocate_kept(n * sizeof(float));

	for (size_t i = 0; i < n; i++)
		v[i] = around + 0.3f * uniform();
	return v;
}

static struct weight matrix(uint32_t n_out, uint32_t n_in, bool fp8)
{
	size_t blocks = (size_t)((n_out + 127) / 128) * ((n_in + 127) / 128);
	float *scale = fp8 ? allocate_kept(blocks * sizeof(float)) : NULL;
	uint8_t *data = allocate_kept((size_t)n_out * n_in * 2);

	for (size_t i = 0; i < blocks && fp8; i++)
		scale[i] = 1 + 0.5f * uniform();
	for (size_t i = 0; i < (size_t)n_out * n_in; i++) {
		float v = uniform() / sqrtf((float)n_in) * 2;
		uint16_t b = f32_to_bf16(v);

		if (fp8)
			data[i] = f32_to_e4m3(v);
		else
			memcpy(data + 2 * i, &b, 2);
	}
	return (struct weight){.data = data,
			       .scale = scale,
			       .n_out = n_out,
			       .n_in = n_in,
			       .type = fp8 ? WEIGHT_FP8 : WEIGHT_BF16};
}

/* Layer 0 and, of the same weights, MTP layer 1. */
static void make_model(uint32_t q_rank, bool bias, bool fp8)
{
	struct layer *l = &model.layer[0];

	config = (struct model_config){
		.hidden_size = D,
		.num_attention_heads = HEADS,
		.q_lora_rank = q_rank,
		.kv_lora_rank = RANK,
		.qk_nope_head_dim = NOPE,
		.qk_rope_head_dim = ROPE,
		.v_head_dim = V,
		.num_hidden_layers = 1,
		.num_nextn_predict_layers = 1,
		.max_position_embeddings = LENGTH,
		.rms_norm_eps = 1e-6f,
		.latent_norm_eps = 1e-6f,
		.softmax_scale = 0.4f,
		.rope_mu = 1.1,
	};
	for (int i = 0; i < ROPE / 2; i++)
		config.rope_freq[i] = pow(100, -2.0 * i / ROPE);
	memset(&model, 0, sizeof(model));
	model.config = &config;
	model.kernels = &kernels;
	l->input_norm = vector(D, 1);
	l->post_norm = vector(D, 1);
	if (q_rank) {
		l->q_a = matrix(q_rank, D, fp8);
		l->q_a_norm = vector(q_rank, 1);
	}
	l->q_b = matrix(HEADS * (NOPE + ROPE), q_rank ? q_rank : D, fp8);
	l->kv_a = matrix(RANK + ROPE, D, fp8);
	l->kv_a_norm = vector(RANK, 1);
	l->kv_b = matrix(HEADS * (NOPE + V), RANK, fp8);
	l->o = matrix(D, HEADS * V, fp8);
	if (bias) {
		l->q_a_bias = q_rank ? vector(q_rank, 0) : NULL;
		l->kv_a_bias = vector(RANK + ROPE, 0);
		l->o_bias = vector(D, 0);
	}
	model.layer[MTP_LAYER] = *l;
	model.layer[MTP_LAYER].is_mtp = true;
}

/* ---- the naive reference --------------------------------------------------------------------- */

static double bf16(double x)
{
	return (double)bf16_to_f32(f32_to_bf16((float)x));
}

static double element(const struct weight *w, size_t o, size_t i)
{
	size_t at = o * w->n_in + i, blocks = (w->n_in + 127) / 128;
	uint16_t b;

	if (w->type == WEIGHT_FP8)
		return (double)e4m3_to_f32(((const uint8_t *)w->data)[at]) *
		       (double)w->scale[o / 128 * blocks + i / 128];
	memcpy(&b, (const uint8_t *)w->data + 2 * at, 2);
	return (double)bf16_to_f32(b);
}

static void ref_linear(double *y, const struct weight *w, const double *x, const float *bias)
{
	for (size_t o = 0; o < w->n_out; o++) {
		y[o] = bias ? (double)bias[o] : 0;
		for (size_t i = 0; i < w->n_in; i++)
			y[o] += element(w, o, i) * bf16(x[i]);
	}
}

static void ref_norm(double *y, const double *x, const float *w, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += x[i] * x[i];
	for (size_t i = 0; i < n; i++)
		y[i] = x[i] / sqrt(sum / (double)n + 1e-6) * (double)w[i];
}

static void ref_rope(double *x, uint32_t position)
{
	for (int i = 0; i < ROPE / 2; i++) {
		double a = position * config.rope_freq[i], c = cos(a) * 1.1, s = sin(a) * 1.1;
		double x0 = x[2 * i], x1 = x[2 * i + 1];

		x[2 * i] = x0 * c - x1 * s;
		x[2 * i + 1] = x0 * s + x1 * c;
	}
}

struct ref_row {
	double q[HEADS][NOPE + ROPE], k[HEADS][NOPE + ROPE], v[HEADS][V];
};

static struct ref_row ref[LENGTH];
static uint32_t first_key = 1; /* of the MTP layer */

static void ref_project(const struct layer *l, const float *h, uint32_t position, uint32_t q_rank)
{
	double in[D], x[D], cq[D], down[RANK + ROPE], kv[HEADS * (NOPE + V)];
	struct ref_row *r = &ref[position];

	for (int i = 0; i < D; i++)
		in[i] = (double)h[i];
	ref_norm(x, in, l->input_norm, D);
	memcpy(cq, x, sizeof(cq));
	if (q_rank) {
		ref_linear(cq, &l->q_a, x, l->q_a_bias);
		ref_norm(cq, cq, l->q_a_norm, q_rank);
	}
	ref_linear(&r->q[0][0], &l->q_b, cq, NULL);
	ref_linear(down, &l->kv_a, x, l->kv_a_bias);
	ref_norm(down, down, l->kv_a_norm, RANK);
	ref_linear(kv, &l->kv_b, down, NULL);
	ref_rope(down + RANK, position);
	for (int n = 0; n < HEADS; n++) {
		ref_rope(r->q[n] + NOPE, position);
		memcpy(r->k[n], kv + n * (NOPE + V), NOPE * sizeof(double));
		memcpy(r->k[n] + NOPE, down + RANK, ROPE * sizeof(double));
		memcpy(r->v[n], kv + n * (NOPE + V) + NOPE, V * sizeof(double));
	}
}

/* The residual stream after attention at `position`, over keys first..position. */
static void ref_attend(const struct layer *l, const float *h, uint32_t first, uint32_t position,
		       double *out)
{
	double o[HEADS * V] = {0}, p[LENGTH] = {0}, sum;

	for (int n = 0; n < HEADS; n++) {
		sum = 0;
		for (uint32_t j = first; j <= position; j++) {
			double s = 0;

			for (int i = 0; i < NOPE + ROPE; i++)
				s += ref[position].q[n][i] * ref[j].k[n][i];
			p[j] = exp(s * 0.4);
			sum += p[j];
		}
		for (uint32_t j = first; j <= position; j++)
			for (int i = 0; i < V; i++)
				o[n * V + i] += p[j] / sum * ref[j].v[n][i];
	}
	ref_linear(out, &l->o, o, l->o_bias);
	for (int i = 0; i < D; i++)
		out[i] += (double)h[i];
}

/* ---- runs ------------------------------------------------------------------------------------ */

struct sequence {
	float *h, *out; /* [LENGTH][WIDTH] */
	uint16_t *x;
	uint32_t pages[3];
};

static void *kv;

static void sequence_make(struct sequence *s, uint32_t a, uint32_t b, uint32_t c)
{
	s->h = allocate_kept(LENGTH * WIDTH * sizeof(float));
	s->out = allocate_kept(LENGTH * WIDTH * sizeof(float));
	s->x = allocate_kept(LENGTH * WIDTH * sizeof(uint16_t));
	s->pages[0] = a;
	s->pages[1] = b;
	s->pages[2] = c;
	for (size_t i = 0; i < LENGTH * WIDTH; i++)
		s->h[i] = uniform();
}

struct call {
	struct attention_job job;
	void *scratch;
};

static void attend_work(void *context, struct worker *w)
{
	struct call *c = context;

	attention_rows(&model, &c->job, c->scratch, w);
}

/* Runs one job over rows of several sequences: rows [from, to) of each, interleaved. */
static void run(struct sequence **s, size_t sequences, uint32_t layer, uint32_t from, uint32_t to,
		unsigned workers)
{
	uint32_t n = (to - from) * (uint32_t)sequences;
	struct attention_row *row = allocate(n * sizeof(*row));
	struct call c = {
		.job = {.layer = layer, .rows = n, .row = row, .kv = kv, .kv_pages = PAGES}};
	float *h = allocate(n * WIDTH * sizeof(float)), *out = allocate(n * WIDTH * sizeof(float));
	uint16_t *x = allocate(n * WIDTH * sizeof(uint16_t));
	struct err e = {0};

	for (uint32_t i = 0; i < n; i++) {
		struct sequence *q = s[i % sequences];
		uint32_t position = from + i / (uint32_t)sequences;

		row[i] = (struct attention_row){.position = position,
						.first_key = layer == MTP_LAYER ? first_key : 0,
						.pages = q->pages,
						.n_pages = 3};
		memcpy(h + i * WIDTH, q->h + position * WIDTH, WIDTH * sizeof(float));
	}
	c.job.h_in = h;
	c.job.h_out = out;
	c.job.x_out = x;
	c.scratch = allocate(attention_scratch_bytes(&config, workers, n));
	if (attention_check(&model, &c.job, &e))
		ok(false, "the job is valid: %s", e.text);
	else
		team_run(team[workers], attend_work, &c);
	for (uint32_t i = 0; i < n; i++) {
		struct sequence *q = s[i % sequences];
		uint32_t position = from + i / (uint32_t)sequences;

		memcpy(q->out + position * WIDTH, out + i * WIDTH, D * sizeof(float));
		memcpy(q->x + position * WIDTH, x + i * WIDTH, WIDTH * sizeof(uint16_t));
	}
	free(row);
	free(h);
	free(out);
	free(x);
	free(c.scratch);
}

/* Stale pages: every number in them a NaN. */
static void kv_spoil(void)
{
	memset(kv, 0xff, PAGES * config_kv_page_bytes(&config));
}

static void run_whole(struct sequence *s, uint32_t layer, uint32_t chunk, unsigned workers)
{
	uint32_t first = layer == MTP_LAYER ? first_key : 0;

	kv_spoil();
	for (uint32_t at = first; at < LENGTH; at += chunk)
		run(&s, 1, layer, at, at + chunk < LENGTH ? at + chunk : LENGTH, workers);
}

static void check_reference(uint32_t layer, uint32_t q_rank, bool bias, bool fp8)
{
	struct sequence s;
	double want[D], worst = 0, rms = 0;
	uint32_t first = layer == MTP_LAYER ? first_key : 0;

	make_model(q_rank, bias, fp8);
	sequence_make(&s, 3, 0, 7);
	run_whole(&s, layer, 512, 1);
	for (uint32_t t = first; t < LENGTH; t++)
		ref_project(&model.layer[layer], s.h + t * WIDTH, t, q_rank);
	for (uint32_t t = first; t < LENGTH; t += t < 40 ? 1 : 23) {
		ref_attend(&model.layer[layer], s.h + t * WIDTH, first, t, want);
		for (int i = 0; i < D; i++) {
			worst = fmax(worst, fabs((double)s.out[t * WIDTH + (size_t)i] - want[i]));
			rms = fmax(rms, fabs(want[i] - (double)s.h[t * WIDTH + (size_t)i]));
			worst = isnan(s.out[t * WIDTH + (size_t)i]) ? HUGE_VAL : worst;
		}
	}
	/* BF16 keeps 8 bits; the sum of a handful of such roundings */
	ok(worst < 0.02 * rms,
	   "%s%s%s%s is near the naive form from position %u to %d: %.2g of %.2g",
	   layer ? "MTP, " : "", q_rank ? "q_lora" : "q_proj", bias ? ", biases" : "",
	   fp8 ? ", FP8" : ", BF16", first, LENGTH, worst, rms);
}

static bool same(const struct sequence *a, const float *out, const uint16_t *x, uint32_t first)
{
	for (uint32_t t = first; t < LENGTH; t++)
		if (memcmp(a->out + t * WIDTH, out + t * WIDTH, D * sizeof(float)) ||
		    memcmp(a->x + t * WIDTH, x + t * WIDTH, WIDTH * sizeof(uint16_t)))
			return false;
	return true;
}

static void check_bits(uint32_t layer)
{
	struct sequence s, other[2], *three[3] = {&other[0], &s, &other[1]};
	float *out = allocate_kept(LENGTH * WIDTH * sizeof(float));
	uint16_t *x = allocate_kept(LENGTH * WIDTH * sizeof(uint16_t));
	static const uint32_t chunks[] = {1, 7, 512, LENGTH, 1}; /* the last is cut by keys */
	uint32_t first = layer == MTP_LAYER ? first_key : 0;

	make_model(Q_RANK, true, true);
	sequence_make(&s, 3, 0, 7);
	sequence_make(&other[0], 1, 2, 4);
	sequence_make(&other[1], 5, 6, 8);
	cpu_kernels_init(&kernels, CPU_SCALAR);
	run_whole(&s, layer, 512, 1);
	memcpy(out, s.out, LENGTH * WIDTH * sizeof(float));
	memcpy(x, s.x, LENGTH * WIDTH * sizeof(uint16_t));
	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		cpu_kernels_init(&kernels, cpu_isa_best());
		run_whole(&s, layer, chunks[i], 1 + (unsigned)i % 3);
		ok(same(&s, out, x, first),
		   "layer %u: chunks of %u by %zu workers give the same bits", layer, chunks[i],
		   1 + i % 3);
	}
	for (int isa = CPU_AVX2; isa < CPU_ISA_COUNT; isa++) {
		if (!cpu_isa_usable((enum cpu_isa)isa)) {
			skip("no %s here", cpu_isa_name((enum cpu_isa)isa));
			continue;
		}
		cpu_kernels_init(&kernels, (enum cpu_isa)isa);
		run_whole(&s, layer, 100, 2);
		ok(same(&s, out, x, first), "layer %u: %s gives the bits of scalar", layer,
		   cpu_isa_name((enum cpu_isa)isa));
	}
	kv_spoil();
	for (uint32_t at = first; at < LENGTH; at += 50)
		run(three, 3, layer, at, at + 50 < LENGTH ? at + 50 : LENGTH, 2);
	ok(same(&s, out, x, first), "layer %u: between rows of two other sequences, the same bits",
	   layer);
	cpu_kernels_init(&kernels, CPU_SCALAR);
}

static void check_skip(void)
{
	struct sequence s;
	struct attention_row row[3];
	struct call c = {.job = {.layer = 0, .rows = 3, .row = row, .kv = kv, .kv_pages = PAGES}};
	uint32_t page = 2, sentinel = 0x12345678;
	uint8_t *cache = kv;
	size_t at = 2 * config_kv_page_bytes(&config) + config_kv_row(&config) * 2;

	sequence_make(&s, 2, 2, 2);
	kv_spoil();
	for (uint32_t i = 0; i < 3; i++)
		row[i] = (struct attention_row){
			.position = i, .skip = i == 1, .pages = &page, .n_pages = 1};
	memcpy(s.out + WIDTH, &sentinel, 4);
	c.job.h_in = s.h;
	c.job.h_out = s.out;
	c.job.x_out = s.x;
	c.scratch = allocate_kept(attention_scratch_bytes(&config, 2, 3));
	team_run(team[2], attend_work, &c);
	ok(!memcmp(s.out + WIDTH, &sentinel, 4) && cache[at] == 0xff && s.out[0] == s.out[0],
	   "a skipped row is neither written nor cached");
}

static void check_refusals(void)
{
	uint32_t pages[2] = {0, 1};
	struct attention_row row = {.position = 300, .pages = pages, .n_pages = 2};
	struct attention_job job = {.rows = 1, .row = &row, .kv = kv, .kv_pages = 2};
	struct err e = {0};

	is_int(attention_check(&model, &job, &e), 0, "a valid job passes");
	pages[1] = 2;
	ok(attention_check(&model, &job, &e) < 0, "a page outside the cache: %s", e.text);
	pages[1] = 1;
	row.n_pages = 1;
	ok(attention_check(&model, &job, NULL) < 0, "a position without a page is refused");
	row.n_pages = 2;
	row.position = LENGTH;
	ok(attention_check(&model, &job, NULL) < 0, "a position beyond the model is refused");
	row.position = 20;
	row.first_key = 1;
	ok(attention_check(&model, &job, NULL) < 0, "a main layer misses no key");
	job.layer = MTP_LAYER;
	is_int(attention_check(&model, &job, NULL), 0, "MTP has no key at position 0");
	row.first_key = 21;
	ok(attention_check(&model, &job, NULL) < 0, "a row has at least its own key");
	row.position = row.first_key = 0;
	ok(attention_check(&model, &job, NULL) < 0, "position 0 of MTP is refused");
	job.layer = 2;
	ok(attention_check(&model, &job, NULL) < 0, "a layer beyond the model is refused");
}

int main(void)
{
	struct err e = {0};

	for (unsigned i = 1; i < 4; i++)
		team[i] = team_start(i, NULL, 0, &e);
	cpu_thread_init();
	cpu_kernels_init(&kernels, cpu_isa_best());
	make_model(0, false, false);
	kv = allocate(PAGES * config_kv_page_bytes(&config));
	check_reference(0, 0, false, false);
	check_reference(0, Q_RANK, true, false);
	check_reference(0, Q_RANK, true, true);
	check_reference(MTP_LAYER, Q_RANK, false, true);
	check_bits(0);
	check_bits(MTP_LAYER);
	first_key = 300; /* as after a hole: keys before it are missing, those in its page too */
	check_reference(MTP_LAYER, Q_RANK, false, true);
	check_bits(MTP_LAYER);
	check_skip();
	check_refusals();
	return tap_done();
}
