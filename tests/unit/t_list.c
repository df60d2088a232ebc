/*
 * Command lists on the CPU's executor give the bits of the functions of model/: logits, routes,
 * hidden rows and cached rows of the golden checkpoints, in chunks of several sizes, with all
 * experts in the table or few that are brought as the list stops for them; MTP rows; a context of
 * several segments. Commands that join others may run in any order. A list that names what it may
 * not is refused.
 */
#include "model/head.h"
#include "tests/list/rig.h"
#include "tests/tap.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct team *team;

/* What a run over all rows gives. */
struct result {
	float *logits, *h;
	uint16_t *routes, *kv;
};

enum {
	LENGTH = 40,
	SEQUENCES = 2,
	TOTAL = LENGTH * SEQUENCES
};

static uint32_t token(const struct model_config *c, uint32_t sequence, uint32_t position)
{
	return (7 + position * 13 + sequence * 101) % c->vocab_size;
}

struct embed {
	const struct model *m;
	uint32_t token[RIG_ROWS], n;
	float *h;
};

static void embed_work(void *context, struct worker *w)
{
	struct embed *k = context;

	embed_rows(k->m, k->token, k->n, k->h, w);
}

static void direct(struct forward *f, const struct result *r)
{
	const struct model_config *c = f->model.config;
	struct forward_row row[TOTAL];
	struct forward_out out = {.logits = r->logits, .hidden = r->h, .routes = r->routes};

	for (uint32_t i = 0; i < TOTAL; i++)
		row[i] = (struct forward_row){.sequence = i / LENGTH,
					      .position = i % LENGTH,
					      .token = token(c, i / LENGTH, i % LENGTH)};
	forward_spoil(f);
	forward_main(f, team, RIG_WORKERS, row, TOTAL, &out);
	memcpy(r->kv, f->kv, RIG_PAGES * config_kv_page_bytes(c));
}

/* The same rows through lists, `chunk` of each sequence at a time, the two in turn. */
static void listed(struct rig *r, uint32_t chunk, const struct result *out)
{
	const struct model_config *c = r->f->model.config;
	size_t width = model_width(c), vocab = c->vocab_size, k = c->num_experts_per_tok;
	uint32_t moe = config_moe_index(c, c->num_hidden_layers);
	const char *from = r->d.base[DEV_HOST_OUT];
	struct embed e = {.m = &r->f->model, .h = forward_alloc(RIG_ROWS * width * sizeof(float))};
	struct forward_row row[RIG_ROWS];

	for (uint32_t at = 0; at < LENGTH; at += chunk)
		for (uint32_t s = 0; s < SEQUENCES; s++) {
			e.n = LENGTH - at < chunk ? LENGTH - at : chunk;
			for (uint32_t i = 0; i < e.n; i++) {
				e.token[i] = token(c, s, at + i);
				row[i] = (struct forward_row){.sequence = s, .position = at + i};
			}
			team_run(team, embed_work, &e);
			rig_pass(r, row, e.n, s, e.h, 0, c->num_hidden_layers - 1);
			memcpy(out->logits + (s * LENGTH + at) * vocab, from + r->out.logits,
			       e.n * vocab * sizeof(float));
			for (uint32_t i = 0, m = 0; i < e.n; i++, m = 0)
				for (uint32_t l = 0; l < c->num_hidden_layers; l++)
					if (config_is_moe(c, l))
						memcpy(out->routes + ((s * LENGTH + at + i) * moe +
								      m++) * k,
						       from + r->out.expert +
							       (l * RIG_ROWS + i) * k * 2,
						       k * 2);
		}
	free(e.h);
	memcpy(out->kv, r->d.base[DEV_KV], r->d.bytes[DEV_KV]);
}

static struct result result_new(const struct model_config *c)
{
	return (struct result){
		.logits = forward_alloc(TOTAL * (size_t)c->vocab_size * sizeof(float)),
		.h = forward_alloc(TOTAL * model_width(c) * sizeof(float)),
		.routes = forward_alloc(TOTAL * (size_t)config_moe_index(c, c->num_hidden_layers) *
						c->num_experts_per_tok * sizeof(uint16_t) +
					1),
		.kv = forward_alloc(RIG_PAGES * config_kv_page_bytes(c))};
}

static void result_free(struct result *r)
{
	free(r->logits);
	free(r->h);
	free(r->routes);
	free(r->kv);
}

/* Cached rows of the main layers; padding behind a row counts too. */
static bool same_kv(const struct forward *f, const uint16_t *a, const uint16_t *b)
{
	const struct model_config *c = f->model.config;
	size_t row = config_kv_row(c), layer = KV_PAGE_ROWS * row;

	for (uint32_t s = 0; s < SEQUENCES; s++)
		for (uint32_t l = 0; l < c->num_hidden_layers; l++) {
			size_t at = f->pages[(size_t)s * f->n_pages] * config_kv_page_bytes(c) / 2 +
				    l * layer;

			if (memcmp(a + at, b + at, LENGTH * row * sizeof(*a)))
				return false;
		}
	return true;
}

static void check_case(const char *dir)
{
	static const struct {
		uint32_t chunk, slots;
		bool shuffle;
		const char *what;
	} runs[] = {{1, 0, false, "a row at a time, all experts there"},
		    {RIG_ROWS, 0, true, "all rows at once, joined commands turned round"},
		    {7, 1, false, "seven rows at a time, room for one expert"},
		    {RIG_ROWS, 3, false, "all rows at once, room for three experts"}};
	const char *name = strrchr(dir, '/') + 1;
	static struct forward f;
	const struct model_config *c;
	struct result want, got;
	struct err e = {0};
	struct rig r;

	if (!ok(!forward_open(&f, dir, FORWARD_SEQUENCES, FORWARD_PAGES, &e),
		"%s: the checkpoint loads (%s)", name, e.text))
		return;
	c = f.model.config;
	cpu_kernels_init(&f.kernels, cpu_isa_best());
	want = result_new(c);
	direct(&f, &want);
	for (unsigned i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		uint32_t experts = c->n_routed_experts, all = config_layers(c) * experts;

		got = result_new(c);
		rig_open(&r, &f, team, runs[i].slots ? runs[i].slots : all ? all : 1);
		r.shuffle = runs[i].shuffle;
		for (uint32_t l = 0; !runs[i].slots && l < config_layers(c); l++)
			for (uint32_t x = 0; config_is_moe(c, l) && x < experts; x++)
				rig_bring(&r, l, x);
		listed(&r, runs[i].chunk, &got);
		ok(!memcmp(got.logits, want.logits, TOTAL * (size_t)c->vocab_size * sizeof(float)),
		   "%s, %s: the same logits", name, runs[i].what);
		ok(!memcmp(got.routes, want.routes,
			   TOTAL * (size_t)config_moe_index(c, c->num_hidden_layers) *
				   c->num_experts_per_tok * sizeof(uint16_t)),
		   "%s, %s: the same routes", name, runs[i].what);
		ok(same_kv(&f, got.kv, want.kv), "%s, %s: the same cached rows", name,
		   runs[i].what);
		ok(!experts || (r.stops > 0) == (runs[i].slots > 0),
		   "%s, %s: it stops where experts are missing (%u times), and only there", name,
		   runs[i].what, r.stops);
		rig_close(&r);
		result_free(&got);
	}
	result_free(&want);
	forward_close(&f);
}

int main(void)
{
	struct dirent **entry;
	struct err e = {0};
	int n = scandir("tests/golden/models", &entry, NULL, alphasort);
	char dir[400];

	team = team_start(RIG_WORKERS, NULL, 0, &e);
	ok(n > 2, "the tree has golden models");
	for (int i = 0; i < n; i++) {
		snprintf(dir, sizeof(dir), "tests/golden/models/%s", entry[i]->d_name);
		if (entry[i]->d_name[0] != '.')
			check_case(dir);
		free(entry[i]);
	}
	free(entry);
	return tap_done();
}
