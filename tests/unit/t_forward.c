/*
 * The forward pass over the golden checkpoints, in one process: logits, routes and MTP logits
 * within the limits that came with them (the rule of golden/compare.py), and the same bits for
 * every instruction set, number of workers, chunk and company. Cases: tests/golden/models in the
 * tree, and any others in /work/shared/golden/models where that exists.
 */
#include "runtime/forward/forward.h"
#include "tests/tap.h"

#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PROMPTS = FORWARD_SEQUENCES,
	TOKENS = 4096
};

struct golden {
	char dir[400];
	uint32_t token[TOKENS], begin[PROMPTS + 1],
		prompts; /* prompt p: token[begin[p]..begin[p + 1]) */
	char *limits;
	float *logits, *mtp_logits;
	uint16_t *routes;
};

struct result {
	float *logits, *mtp_logits, *hidden;
	uint16_t *routes;
};

static struct team *team[3]; /* of 1 and 2 workers; they never end */

static void *read_file(const char *dir, const char *name, size_t *size)
{
	char path[512];
	FILE *f;
	long end;
	char *data;

	snprintf(path, sizeof(path), "%s/expect/%s", dir, name);
	f = fopen(path, "rb");
	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	end = ftell(f);
	rewind(f);
	data = forward_alloc((size_t)end + 1);
	*size = fread(data, 1, (size_t)end, f);
	fclose(f);
	return data;
}

/* {"prompts": [[id, ...], ...]} */
static void read_prompts(struct golden *g)
{
	size_t size;
	char *text = read_file(g->dir, "prompts.json", &size), *at = text;
	uint32_t n = 0, depth = 0;

	for (; at && *at; at++) {
		depth += *at == '[';
		if (*at == ']' && depth-- == 2)
			g->begin[++g->prompts] = n;
		if (isdigit((unsigned char)*at)) {
			g->token[n++] = (uint32_t)strtoul(at, &at, 10);
			at--;
		}
	}
	free(text);
}

/* NaN, within which nothing is, if there is no such limit. */
static double limit(const struct golden *g, const char *name)
{
	char key[32];
	const char *at;

	snprintf(key, sizeof(key), "\"%s\":", name);
	at = g->limits ? strstr(g->limits, key) : NULL;
	return at ? strtod(at + strlen(key), NULL) : (double)NAN;
}

static bool read_golden(struct golden *g, const char *dir, const struct model_config *c)
{
	size_t n, size[3] = {0}, vocab = c->vocab_size;

	memset(g, 0, sizeof(*g));
	snprintf(g->dir, sizeof(g->dir), "%s", dir);
	read_prompts(g);
	n = g->begin[g->prompts];
	g->limits = read_file(dir, "limits.json", &size[0]);
	g->logits = read_file(dir, "logits.f32", &size[0]);
	g->routes = read_file(dir, "routes.u16", &size[1]);
	g->mtp_logits = read_file(dir, "mtp_logits.f32", &size[2]);
	return size[0] == n * vocab * 4 &&
	       size[1] ==
		       n * config_moe_index(c, c->num_hidden_layers) * c->num_experts_per_tok * 2 &&
	       (!g->mtp_logits || size[2] == (n - g->prompts) * vocab * 4);
}

static void free_golden(struct golden *g)
{
	free(g->limits);
	free(g->logits);
	free(g->routes);
	free(g->mtp_logits);
}

static struct result make_result(const struct golden *g, const struct model_config *c)
{
	size_t n = g->begin[g->prompts];
	struct result r = {
		.logits = forward_alloc(n * c->vocab_size * sizeof(float)),
		.mtp_logits = forward_alloc(n * c->vocab_size * sizeof(float)),
		.hidden = forward_alloc(n * model_width(c) * sizeof(float)),
		.routes = forward_alloc(n * config_moe_index(c, c->num_hidden_layers) *
					c->num_experts_per_tok * sizeof(uint16_t)),
	};

	return r;
}

static void free_result(struct result *r)
{
	free(r->logits);
	free(r->mtp_logits);
	free(r->hidden);
	free(r->routes);
}

/* One prompt from its begin to its end in chunks; results go to its rows of r. */
static void run_prompt(struct forward *f, const struct golden *g, uint32_t p, uint32_t chunk,
		       unsigned workers, struct result *r)
{
	const struct model_config *c = f->model.config;
	size_t k = (size_t)config_moe_index(c, c->num_hidden_layers) * c->num_experts_per_tok;
	size_t width = model_width(c), vocab = c->vocab_size;
	uint32_t first = g->begin[p], length = g->begin[p + 1] - first;
	struct forward_row *row = forward_alloc(length * sizeof(*row));

	for (uint32_t i = 0; i < length; i++)
		row[i] = (struct forward_row){
			.sequence = p, .position = i, .token = g->token[first + i]};
	for (uint32_t at = 0; at < length; at += chunk) {
		struct forward_out out = {.logits = r->logits + (first + at) * vocab,
					  .hidden = r->hidden + (first + at) * width,
					  .routes = r->routes + (first + at) * k};

		forward_main(f, team[workers], workers, row + at,
			     length - at < chunk ? length - at : chunk, &out);
	}
	for (uint32_t at = 1; c->num_nextn_predict_layers && at < length; at += chunk) {
		struct forward_out out = {.logits = r->mtp_logits + (first - p + at - 1) * vocab};

		forward_mtp(f, team[workers], workers, row + at,
			    length - at < chunk ? length - at : chunk,
			    r->hidden + (first + at - 1) * width, &out);
	}
	free(row);
}

static void run_alone(struct forward *f, const struct golden *g, uint32_t chunk, unsigned workers,
		      struct result *r)
{
	forward_spoil(f);
	for (uint32_t p = 0; p < g->prompts; p++)
		run_prompt(f, g, p, chunk, workers, r);
}

/* All prompts at once, a row of each in turn, in passes of at most 50 rows. */
static void run_together(struct forward *f, const struct golden *g, unsigned workers,
			 struct result *r)
{
	const struct model_config *c = f->model.config;
	uint32_t n = g->begin[g->prompts], made = 0, total = 0;
	size_t vocab = c->vocab_size;
	size_t k = (size_t)config_moe_index(c, c->num_hidden_layers) * c->num_experts_per_tok;
	struct forward_row *row = forward_alloc(n * sizeof(*row));
	struct result mixed = make_result(g, c);

	for (uint32_t position = 0; total < n; position++)
		for (uint32_t p = 0; p < g->prompts; p++)
			if (position < g->begin[p + 1] - g->begin[p])
				row[total++] = (struct forward_row){
					p, position, g->token[g->begin[p] + position]};
	forward_spoil(f);
	for (; made < n; made += 50) {
		struct forward_out out = {.logits = mixed.logits + made * vocab,
					  .routes = mixed.routes + made * k};

		forward_main(f, team[workers], workers, row + made, n - made < 50 ? n - made : 50,
			     &out);
	}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t to = g->begin[row[i].sequence] + row[i].position;

		memcpy(r->logits + to * vocab, mixed.logits + i * vocab, vocab * sizeof(float));
		memcpy(r->routes + to * k, mixed.routes + i * k, k * sizeof(uint16_t));
	}
	free_result(&mixed);
	free(row);
}

/* Largest and rms difference against their limits, as compare.py. */
static void compare(const struct golden *g, const float *got, const float *want, size_t n,
		    const char *prefix)
{
	const char *name = strrchr(g->dir, '/') + 1;
	char key[32];
	double max = 0, sum = 0, rms;

	for (size_t i = 0; i < n; i++) {
		double d = fabs((double)got[i] - (double)want[i]);

		max = d > max || isnan(d) ? d : max;
		sum += d * d;
	}
	rms = sqrt(sum / (double)n);
	snprintf(key, sizeof(key), "%smax_abs", prefix);
	ok(max <= limit(g, key), "%s: %s %.3g is %.2f of its limit", name, key, max,
	   max / limit(g, key));
	snprintf(key, sizeof(key), "%srms", prefix);
	ok(rms <= limit(g, key), "%s: %s %.3g is %.2f of its limit", name, key, rms,
	   rms / limit(g, key));
}

static bool same(const struct golden *g, const struct model_config *c, const struct result *a,
		 const struct result *b, bool mtp)
{
	size_t n = g->begin[g->prompts];
	size_t k = (size_t)config_moe_index(c, c->num_hidden_layers) * c->num_experts_per_tok;

	return !memcmp(a->logits, b->logits, n * c->vocab_size * sizeof(float)) &&
	       !memcmp(a->routes, b->routes, n * k * sizeof(uint16_t)) &&
	       (!mtp || !memcmp(a->mtp_logits, b->mtp_logits, n * c->vocab_size * sizeof(float)));
}

static void check_bits(struct forward *f, const struct golden *g, const struct result *want)
{
	static const uint32_t chunks[] = {1,
					  7}; /* 512 is what the instruction sets were run with */
	const char *name = strrchr(g->dir, '/') + 1;
	const struct model_config *c = f->model.config;
	struct result r = make_result(g, c);

	for (int isa = CPU_SCALAR; isa < CPU_ISA_COUNT; isa++) {
		unsigned workers = 1 + (unsigned)isa % 2;

		if (!cpu_isa_usable((enum cpu_isa)isa)) {
			skip("%s: this processor has no %s", name, cpu_isa_name((enum cpu_isa)isa));
			continue;
		}
		cpu_kernels_init(&f->kernels, (enum cpu_isa)isa);
		run_alone(f, g, 512, workers, &r);
		ok(same(g, c, &r, want, true), "%s: %s with %u workers gives the same bits", name,
		   cpu_isa_name((enum cpu_isa)isa), workers);
	}
	cpu_kernels_init(&f->kernels, cpu_isa_best());
	for (unsigned i = 0; i < 2; i++) {
		run_alone(f, g, chunks[i], 1 + i % 2, &r);
		ok(same(g, c, &r, want, true), "%s: chunks of %u give the same bits", name,
		   chunks[i]);
	}
	run_together(f, g, 2, &r);
	ok(same(g, c, &r, want, false), "%s: all prompts in one batch give the same bits", name);
	free_result(&r);
}

static void check_case(const char *dir)
{
	const char *name = strrchr(dir, '/') + 1;
	static struct forward forward;
	static struct golden golden;
	struct forward *f = &forward;
	struct golden *g = &golden;
	struct err e = {0};
	struct result r;
	size_t n;

	if (!ok(!forward_open(f, dir, FORWARD_SEQUENCES, FORWARD_PAGES, &e),
		"%s: the checkpoint loads (%s)", name, e.text))
		return;
	if (!ok(read_golden(g, dir, f->model.config), "%s: expected values are complete", name))
		return;
	n = g->begin[g->prompts];
	r = make_result(g, f->model.config);
	cpu_kernels_init(&f->kernels, CPU_AVX2 <= cpu_isa_best() ? CPU_AVX2 : CPU_SCALAR);
	run_alone(f, g, 512, 1, &r);
	compare(g, r.logits, g->logits, n * f->model.config->vocab_size, "");
	ok(!memcmp(r.routes, g->routes,
		   n * config_moe_index(f->model.config, f->model.config->num_hidden_layers) *
			   f->model.config->num_experts_per_tok * 2),
	   "%s: every row goes to the experts it should", name);
	if (g->mtp_logits)
		compare(g, r.mtp_logits, g->mtp_logits,
			(n - g->prompts) * f->model.config->vocab_size, "mtp_");
	check_bits(f, g, &r);
	free_result(&r);
	free_golden(g);
	forward_close(f);
}

#ifndef __SANITIZE_ADDRESS__
/* Cases of `root` that are not among those of the tree. */
static void check_others(const char *root)
{
	struct dirent **entry;
	int n = scandir(root, &entry, NULL, alphasort);
	char dir[400];

	if (n < 0)
		skip("no %s here: the cases beyond those of the tree", root);
	for (int i = 0; i < n; i++) {
		snprintf(dir, sizeof(dir), "tests/golden/models/%s", entry[i]->d_name);
		if (entry[i]->d_name[0] != '.' && access(dir, F_OK)) {
			snprintf(dir, sizeof(dir), "%s/%s", root, entry[i]->d_name);
			check_case(dir);
		}
		free(entry[i]);
	}
	if (n >= 0)
		free(entry);
}

#endif

int main(void)
{
	struct dirent **entry;
	struct err e = {0};
	int n = scandir("tests/golden/models", &entry, NULL, alphasort);
	char dir[400];

	for (unsigned i = 1; i < 3; i++)
		team[i] = team_start(i, NULL, 0, &e);
	ok(n > 2, "the tree has golden models");
	for (int i = 0; i < n; i++) {
		snprintf(dir, sizeof(dir), "tests/golden/models/%s", entry[i]->d_name);
		if (entry[i]->d_name[0] != '.')
			check_case(dir);
		free(entry[i]);
	}
	free(entry);
#ifdef __SANITIZE_ADDRESS__
	skip("under sanitizers only the cases of the tree are run: the others take too long");
#else
	check_others("/work/shared/golden/models");
#endif
	return tap_done();
}
