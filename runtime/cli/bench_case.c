/* One measured piece of work; see bench.h. */
#include "runtime/cli/bench.h"

#include "runtime/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	REPLIES = 64,     /* of one repetition of decoding: a model may end its replies early */
	RETRY_MS = 2,     /* a node that does not take requests yet */
	TEXT_LEAST = 4096 /* of a request without its ids */
};

volatile sig_atomic_t bench_interrupted;

/* What the drive has read: the kernel's own count. */
static void look_at_drive(const char *path, struct bench_look *out)
{
	FILE *f = path[0] ? fopen(path, "re") : NULL;
	unsigned long long reads, merged, sectors;

	if (!f)
		return;
	if (fscanf(f, "%llu %llu %llu", &reads, &merged, &sectors) == 3)
		out->drive_bytes = sectors * 512;
	fclose(f);
}

void bench_look(const struct bench *b, struct bench_look *out)
{
	memset(out, 0, sizeof(*out));
	out->at_ns = clock_now_ns();
	watch_counts(&b->node.watch, out->count);
	look_at_drive(b->model.drive_stat, out);
}

/* Adds what has happened from `from` to `to`. */
static void add(struct bench_rep *r, const struct bench_look *from, const struct bench_look *to)
{
	r->wall_ns += to->at_ns - from->at_ns;
	for (unsigned c = 0; c < COUNTERS; c++)
		r->did.count[c] += to->count[c] - from->count[c];
	r->did.drive_bytes += to->drive_bytes - from->drive_bytes;
}

/* ---- Requests ---- */

/* Whether the tokenizer has the id. */
static bool has_id(const struct index *ix, uint32_t id)
{
	const uint8_t *has = (const uint8_t *)ix + ix->candidates.off;

	return !ix->candidates.count || (has[id / 8] >> id % 8 & 1);
}

/* An id that the tokenizer has, by the bits of the seed. */
static uint32_t draw_id(const struct index *ix, uint64_t *seed)
{
	for (;;) {
		uint32_t id;

		*seed = *seed * 6364136223846793005u + 1442695040888963407u;
		id = (uint32_t)((*seed >> 33) % ix->config.vocab_size);
		if (has_id(ix, id))
			return id;
	}
}

/*
 * The first id of prompt `number`: the node would not compute again what it has of a prompt that
 * began alike, so that no two do until the vocabulary is used up.
 */
static uint32_t first_id(const struct index *ix, uint64_t number)
{
	uint64_t ids = 0, before;
	uint32_t id = 0;

	for (uint32_t i = 0; i < ix->config.vocab_size; i++)
		ids += has_id(ix, i);
	for (before = ids ? number % ids : 0; !has_id(ix, id) || before--;)
		id++;
	return id;
}

char *bench_body(const struct index *ix, uint64_t number, uint64_t prompt, uint64_t tokens)
{
	uint64_t seed = number * 0x9e3779b97f4a7c15u;
	char *body = NULL;
	size_t len;
	FILE *f = open_memstream(&body, &len);

	if (!f)
		return NULL;
	fprintf(f, "{\"prompt\":[");
	for (uint64_t i = 0; i < prompt; i++)
		fprintf(f, "%s%u", i ? "," : "", i ? draw_id(ix, &seed) : first_id(ix, number));
	fprintf(f,
		"],\"max_tokens\":%llu,\"temperature\":1,\"top_p\":1,\"seed\":%llu,\"stream\":true,"
		"\"stream_options\":{\"include_usage\":true}}",
		(unsigned long long)tokens, (unsigned long long)number);
	if (fclose(f)) {
		free(body);
		return NULL;
	}
	return body;
}

/* What the callback keeps: how things stood at the first token. */
struct first {
	const struct bench *b;
	struct bench_look look;
	bool seen;
};

static void on_piece(void *context, enum client_text kind, const char *text, size_t len)
{
	struct first *f = context;

	(void)text;
	(void)len;
	if (f->seen || kind == TEXT_PROGRESS)
		return;
	f->seen = true;
	bench_look(f->b, &f->look);
}

/* One request; *status is HTTP's. */
static int ask(struct bench *b, uint64_t prompt, uint64_t tokens, struct first *first,
	       unsigned *status, struct err *e)
{
	char *body = bench_body(b->model.m.ix, atomic_fetch_add(&b->seed, 1), prompt, tokens);
	struct client_reply reply;
	int rc;

	*first = (struct first){.b = b};
	*status = 0;
	if (!body)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for a request");
	rc = client_post(b->node.socket, "/v1/completions", body, on_piece, first,
			 &bench_interrupted, &reply, e);
	free(body);
	*status = reply.status;
	if (rc >= 0)
		free(reply.content);
	if (!rc && !first->seen)
		bench_look(b, &first->look); /* ended by its first token */
	return rc;
}

static int probe(struct bench *b, struct bench_rep *r, unsigned at, bool drive, struct err *e)
{
	r->memory[at] = bench_probe_memory(&b->limits);
	r->dot[at] = bench_probe_dot(&b->limits);
	return drive ? bench_probe_drive(&b->limits, b->model.m.files, &r->drive[at], e) : 0;
}

/* ---- The pieces ---- */

int bench_first_token(struct bench *b, struct bench_start *start, struct err *e)
{
	const struct timespec wait = {0, RETRY_MS * 1000000};
	struct bench_look look;
	struct timespec now;
	struct first first;
	unsigned status;
	int rc;

	for (;;) {
		struct err refused = {0};

		rc = ask(b, 1, 1, &first, &status, &refused);
		if (rc >= 0 || status != 503) {
			if (rc < 0) {
				*e = refused;
				return rc;
			}
			break;
		}
		rc = bench_node_alive(&b->node, e);
		if (rc)
			return rc;
		nanosleep(&wait, NULL);
	}
	clock_gettime(CLOCK_REALTIME, &now);
	bench_look(b, &look);
	start->measured = true;
	start->first_token_s = (double)((uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec -
					b->node.begun_ns) *
			       1e-9;
	start->bytes = b->model.m.ix->load_bytes + look.count[COUNT_READ_BYTES];
	while ((start->ready_s = bench_node_ready(&b->node)) < 0 && !bench_interrupted) {
		int dead = bench_node_alive(&b->node, e);

		if (dead)
			return dead;
		nanosleep(&wait, NULL);
	}
	return rc;
}

int bench_prefill(struct bench *b, struct bench_case *c, struct err *e)
{
	struct bench_rep spare = {0}, *r = c ? &c->rep[c->n] : &spare;
	struct bench_look before;
	struct first first;
	unsigned status;
	bool drive = c && b->probe_drive;
	int rc = c ? probe(b, r, 0, drive, e) : 0;

	if (rc)
		return rc;
	bench_look(b, &before);
	rc = ask(b, b->prompt, 1, &first, &status, e);
	if (rc)
		return rc;
	add(r, &before, &first.look);
	r->tokens = r->did.count[COUNT_PROMPT_TOKENS];
	rc = c ? probe(b, r, 1, drive, e) : 0;
	if (!rc && c && r->tokens)
		c->n++;
	return rc;
}

int bench_decode(struct bench *b, struct bench_case *c, struct err *e)
{
	struct bench_rep spare = {0}, *r = c ? &c->rep[c->n] : &spare;
	bool drive = c && b->probe_drive;
	int rc = c ? probe(b, r, 0, drive, e) : 0;

	for (unsigned i = 0; !rc && i < REPLIES && r->tokens < b->tokens; i++) {
		struct bench_look after;
		struct first first;
		unsigned status;

		rc = ask(b, b->depth, b->tokens - r->tokens + 1, &first, &status, e);
		bench_look(b, &after);
		if (rc)
			break;
		add(r, &first.look, &after);
		r->tokens = r->did.count[COUNT_TOKENS];
	}
	if (!rc && c)
		rc = probe(b, r, 1, drive, e);
	if (!rc && c && r->tokens)
		c->n++;
	return rc;
}

/* ---- What it had to do ---- */

uint64_t bench_weight_bytes(const struct bench_model *m, const struct bench_rep *r)
{
	const struct weight_sum *p = m->weights.part;
	uint64_t head =
		p[m->m.ix->config.tie_word_embeddings ? WEIGHTS_EMBEDDING : WEIGHTS_HEAD].bytes;

	return r->did.count[COUNT_PASSES] *
		       (p[WEIGHTS_ATTENTION].bytes + p[WEIGHTS_DENSE].bytes +
			p[WEIGHTS_SHARED].bytes + p[WEIGHTS_GATES].bytes + head) +
	       (r->did.count[COUNT_HITS] + r->did.count[COUNT_MISSES]) * m->weights.expert.bytes;
}

double bench_flops(const struct bench_model *m, const struct bench_rep *r)
{
	const struct model_config *c = &m->m.ix->config;
	const struct weight_sum *p = m->weights.part;
	const double tokens = (double)r->tokens;
	double per_token = (double)(p[WEIGHTS_ATTENTION].params + p[WEIGHTS_DENSE].params +
				    p[WEIGHTS_SHARED].params + p[WEIGHTS_GATES].params) +
			   (double)m->weights.moe_layers * c->num_experts_per_tok *
				   (double)m->weights.expert.params;
	double head = (double)c->vocab_size * c->hidden_size;
	/* each token of a prompt sees itself and those before it: scores, then values */
	double keys = tokens * (tokens + 1) / 2 * c->num_hidden_layers * c->num_attention_heads *
		      (2.0 * c->kv_lora_rank + c->qk_rope_head_dim);

	return 2 * (tokens * per_token + head + keys);
}
