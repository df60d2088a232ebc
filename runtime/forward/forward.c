/* See forward.h. */
#include "runtime/forward/forward.h"

#include "model/attention.h"
#include "model/ffn.h"
#include "model/gate.h"
#include "model/head.h"
#include "model/mtp.h"
#include "model/store/load.h"
#include "model/store/survey.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	BOUNCE_BYTES = 1 << 20
};

void *forward_alloc(size_t bytes)
{
	void *p = aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095);

	if (!p)
		abort();
	return memset(p, 0, (bytes + 4095) & ~(size_t)4095);
}

static int survey_all(struct forward *f, struct err *e)
{
	size_t cap = 1 << 16, used = 0;
	void *map = NULL;
	int rc;

	do {
		struct err again = {0};

		free(map);
		map = forward_alloc(cap);
		rc = survey(&f->files, map, cap, &used, &again);
		if (rc && rc != -ENOSPC)
			*e = again;
		cap = used;
	} while (rc == -ENOSPC);
	f->index = map;
	return rc ? rc : index_open(&f->index, map, used, e);
}

static int read_experts(struct forward *f, struct err *e)
{
	const struct model_config *c = f->model.config;
	size_t layers = config_layers(c), experts = c->n_routed_experts;
	void *bounce = forward_alloc(BOUNCE_BYTES);
	int rc = 0;

	f->expert = forward_alloc(layers * experts * 3 * sizeof(void *) + 1);
	for (uint32_t l = 0; l < layers; l++)
		for (uint32_t i = 0; config_is_moe(c, l) && i < experts * 3 && !rc; i++) {
			const struct index_expert *x = index_expert(f->index, l, i / 3);
			uint64_t bytes = index_part_bytes(f->index, i % 3);
			void *to = forward_alloc(bytes);

			f->expert[l * experts * 3 + i] = to;
			rc = store_read(&f->files, x->part[i % 3].file, x->part[i % 3].off, to,
					bytes, bounce, BOUNCE_BYTES, e);
		}
	free(bounce);
	return rc;
}

int forward_open(struct forward *f, const char *dir, uint32_t sequences, uint32_t pages,
		 struct err *e)
{
	int rc;

	memset(f, 0, sizeof(*f));
	rc = store_files_open(&f->files, dir, e);
	if (!rc)
		rc = survey_all(f, e);
	if (rc)
		return rc;
	f->resident = forward_alloc(f->index->resident_bytes);
	rc = load_resident(f->index, &f->files, f->resident, e);
	if (!rc)
		rc = model_attach(&f->model, f->index, f->resident, f->index->resident_bytes,
				  &f->kernels, e);
	if (!rc)
		rc = read_experts(f, e);
	if (rc)
		return rc;
	f->sequences = sequences;
	f->n_pages = pages;
	f->kv = forward_alloc((size_t)sequences * pages * config_kv_page_bytes(f->model.config));
	f->pages = forward_alloc((size_t)sequences * pages * sizeof(*f->pages));
	/* a sequence's pages do not stand in order */
	for (uint32_t s = 0; s < sequences; s++)
		for (uint32_t p = 0; p < pages; p++)
			f->pages[(size_t)s * pages + p] = (pages - 1 - p) * sequences + s;
	return 0;
}

void forward_close(struct forward *f)
{
	const struct model_config *c = &f->index->config;

	for (size_t i = 0; i < (size_t)config_layers(c) * c->n_routed_experts * 3; i++)
		free(f->expert[i]);
	free(f->expert);
	free(f->kv);
	free(f->pages);
	free(f->resident);
	free((void *)(uintptr_t)f->index);
	store_files_close(&f->files);
}

void forward_spoil(struct forward *f)
{
	memset(f->kv, 0xff,
	       (size_t)f->sequences * f->n_pages * config_kv_page_bytes(f->model.config));
}

/* One pass; every worker runs the same code, the leader alone fills the lists. */
struct pass {
	struct forward *f;
	const struct forward_row *row;
	uint32_t n, moe; /* moe: MoE layers passed so far */
	bool mtp;
	uint32_t *token, *source; /* source: row i of hidden goes with row i */
	struct attention_row *at;
	const float *hidden;
	float *h[2], *norm, *acc, *shared, *part;
	uint16_t *x, *expert;
	float *weight;
	uint8_t *failed;
	uint32_t *list; /* [experts][n]: rows that picked the expert */
	float *list_weight;
	uint32_t *picked; /* [experts] */
	void *scratch;
	const struct forward_out *out;
	uint32_t routed_layers;
};

/* Leader: which rows picked which expert. */
static void sort_rows(struct pass *p)
{
	const struct model_config *c = p->f->model.config;
	uint32_t k = c->num_experts_per_tok;

	memset(p->picked, 0, c->n_routed_experts * sizeof(*p->picked));
	for (uint32_t i = 0; i < p->n * k; i++) {
		uint32_t e = p->expert[i], at = e * p->n + p->picked[e]++;

		p->list[at] = i / k;
		p->list_weight[at] = p->weight[i];
	}
	for (uint32_t r = 0; !p->mtp && p->out->routes && r < p->n; r++)
		memcpy(p->out->routes + ((size_t)r * p->routed_layers + p->moe) * k,
		       p->expert + r * k, k * sizeof(uint16_t));
	p->moe++;
}

static void moe(struct pass *p, uint32_t layer, struct worker *w)
{
	const struct model *m = &p->f->model;
	uint32_t experts = m->config->n_routed_experts;
	bool shared = m->layer[layer].mlp[0].data != NULL;

	gate_rows(m, layer, p->x, p->n, NULL, p->expert, p->weight, p->failed, p->scratch, w);
	ffn_clear(m, p->acc, p->n, w);
	worker_barrier(w);
	if (w->index == 0)
		sort_rows(p);
	worker_barrier(w);
	for (uint32_t e = 0; e < experts; e++) {
		struct weight mlp[3];

		if (!p->picked[e])
			continue;
		model_expert(m, layer, e,
			     (const void *const *)&p->f->expert[(layer * experts + e) * 3], mlp);
		ffn_mlp(m, mlp, p->x, p->list + e * p->n, p->picked[e], p->part, p->scratch, w);
		worker_barrier(w);
		ffn_accumulate(m, p->acc, p->part, p->list_weight + e * p->n, p->list + e * p->n,
			       p->picked[e], w);
		worker_barrier(w);
	}
	if (shared)
		ffn_mlp(m, m->layer[layer].mlp, p->x, NULL, p->n, p->shared, p->scratch, w);
	worker_barrier(w);
	ffn_finish(m, p->h[0], p->h[1], p->acc, shared ? p->shared : NULL, NULL, p->n, w);
	worker_barrier(w);
}

/* Everybody has finished what is shown. */
static void show(const struct pass *p, uint32_t layer, enum forward_hop hop, const float *h,
		 struct worker *w)
{
	if (!p->out->seen)
		return;
	if (w->index == 0)
		p->out->seen(p->out->context, layer, hop, h);
	worker_barrier(w);
}

static void layer_pass(struct pass *p, uint32_t layer, struct worker *w)
{
	const struct model *m = &p->f->model;
	struct attention_job job = {.layer = layer,
				    .rows = p->n,
				    .row = p->at,
				    .h_in = p->h[0],
				    .h_out = p->h[1],
				    .x_out = p->x,
				    .kv = p->f->kv,
				    .kv_pages = p->f->sequences * p->f->n_pages};

	show(p, layer, FORWARD_BEFORE, p->h[0], w);
	attention_rows(m, &job, p->scratch, w);
	worker_barrier(w);
	show(p, layer, FORWARD_ATTENDED, p->h[1], w);
	if (m->layer[layer].is_moe) {
		moe(p, layer, w);
		show(p, layer, FORWARD_FED, p->h[0], w);
		return;
	}
	ffn_mlp(m, m->layer[layer].mlp, p->x, NULL, p->n, p->shared, p->scratch, w);
	worker_barrier(w);
	ffn_finish(m, p->h[0], p->h[1], NULL, p->shared, NULL, p->n, w);
	worker_barrier(w);
	show(p, layer, FORWARD_FED, p->h[0], w);
}

static void pass_work(void *context, struct worker *w)
{
	struct pass *p = context;
	const struct model *m = &p->f->model;
	uint32_t first = p->mtp ? m->config->num_hidden_layers : 0;
	uint32_t last = p->mtp ? first : m->config->num_hidden_layers - 1;

	if (p->mtp)
		mtp_rows(m, first, p->token, p->hidden, p->source, p->n, p->h[0], p->scratch, w);
	else
		embed_rows(m, p->token, p->n, p->h[0], w);
	worker_barrier(w);
	for (uint32_t l = first; l <= last; l++)
		layer_pass(p, l, w);
	head_norm(m, last, p->h[0], p->n, p->norm, p->x, w);
	worker_barrier(w);
	if (p->out->logits)
		head_logits(m, p->x, p->n, p->out->logits, m->config->vocab_size, w);
}

static size_t most(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t scratch_bytes(const struct model_config *c, unsigned workers, uint32_t n)
{
	size_t bytes = attention_scratch_bytes(c, workers, n);

	bytes = most(bytes, ffn_scratch_bytes(c, ffn_inner_max(c), n, workers));
	bytes = most(bytes, gate_scratch_bytes(c, workers, n));
	return most(bytes, mtp_scratch_bytes(c, n));
}

/* The next piece of one allocation; with base NULL only counts. */
static void *piece(char *base, size_t *at, size_t bytes)
{
	size_t begin = *at;

	*at += scratch_round(bytes);
	return base ? base + begin : NULL;
}

static size_t pass_layout(struct pass *p, char *base, unsigned workers)
{
	const struct model_config *c = p->f->model.config;
	size_t n = p->n, row = n * model_width(c) * sizeof(float), at = 0;
	size_t k = n * c->num_experts_per_tok, lists = n * c->n_routed_experts * 4;

	p->token = piece(base, &at, n * sizeof(*p->token));
	p->source = piece(base, &at, n * sizeof(*p->source));
	p->at = piece(base, &at, n * sizeof(*p->at));
	p->h[0] = piece(base, &at, row);
	p->h[1] = piece(base, &at, row);
	p->norm = piece(base, &at, row);
	p->acc = piece(base, &at, row);
	p->shared = piece(base, &at, row);
	p->part = piece(base, &at, row);
	p->x = piece(base, &at, row / 2);
	p->expert = piece(base, &at, k * sizeof(*p->expert));
	p->weight = piece(base, &at, k * sizeof(*p->weight));
	p->failed = piece(base, &at, n);
	p->list = piece(base, &at, lists);
	p->list_weight = piece(base, &at, lists);
	p->picked = piece(base, &at, (c->n_routed_experts + 1) * sizeof(*p->picked));
	p->scratch = piece(base, &at, scratch_bytes(c, workers, p->n));
	return at;
}

static void run(struct pass *p, struct team *t, unsigned workers)
{
	const struct model_config *c = p->f->model.config;
	char *memory = forward_alloc(pass_layout(p, NULL, workers));

	pass_layout(p, memory, workers);
	p->routed_layers = config_moe_index(c, c->num_hidden_layers);
	for (uint32_t i = 0; i < p->n; i++) {
		p->token[i] = p->row[i].token;
		p->source[i] = i;
		p->at[i] = (struct attention_row){
			.position = p->row[i].position,
			.first_key = p->mtp,
			.pages = p->f->pages + (size_t)p->row[i].sequence * p->f->n_pages,
			.n_pages = p->f->n_pages};
	}
	team_run(t, pass_work, p);
	if (p->out->hidden)
		memcpy(p->out->hidden, p->norm, p->n * model_width(c) * sizeof(float));
	free(memory);
}

void forward_main(struct forward *f, struct team *t, unsigned workers,
		  const struct forward_row *row, uint32_t n, const struct forward_out *out)
{
	struct pass p = {.f = f, .row = row, .n = n, .out = out};

	run(&p, t, workers);
}

void forward_mtp(struct forward *f, struct team *t, unsigned workers, const struct forward_row *row,
		 uint32_t n, const float *hidden, const struct forward_out *out)
{
	struct pass p = {.f = f, .row = row, .n = n, .out = out, .hidden = hidden, .mtp = true};

	run(&p, t, workers);
}
