/* glibc, without asan: it cannot follow the fibers' stacks, and -d loads libcuda */
/*
 * The kernels of drivers/cuda, compiled for the host (shim.h), against the executor of the CPU: the
 * same bytes after every command. First over golden checkpoints, command by command of whole
 * passes; then over random memory: ragged widths, every type of weight, contexts of several
 * segments, MTP's missing keys, zeros, largest values and subnormals. -s N chooses the seed, -n N
 * the number of random devices. -d FILE: on GPU 0, by that libcuda, instead of on the host.
 */
#include "drivers/cuda/run.h"
#include "tests/cuda/emulate.h"
#include "tests/cuda/on_gpu.h"
#include "tests/list/rig.h"
#include "tests/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct team *team;
static uint64_t state = 1;
static const char *library; /* -d */

extern const struct cubin cuda_cubins[]; /* build/cuda */

static bool kernel(struct device *d, const struct command *c, uint32_t blocks)
{
	return library ? on_gpu(d, c) : emulate(d, c, blocks);
}

static uint32_t random32(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 32);
}

static uint32_t below(uint32_t n)
{
	return random32() % n;
}

/* ---- Two devices with the same content, one for each executor ---- */

struct twin {
	struct device gpu;
	uint32_t commands[COMMAND_KINDS], differ[COMMAND_KINDS];
};

static const enum dev_region written[] = {DEV_WORK, DEV_KV, DEV_SLOTS, DEV_HOST_OUT};

static size_t table_bytes(const struct device *d)
{
	return (size_t)d->shape.layers * d->shape.experts * sizeof(*d->table);
}

static void twin_open(struct twin *t, const struct device *d)
{
	t->gpu = *d;
	for (unsigned i = 0; i < 4; i++) {
		enum dev_region r = written[i];

		t->gpu.base[r] = forward_alloc(d->bytes[r] + 1);
		memcpy(t->gpu.base[r], d->base[r], d->bytes[r]);
	}
	t->gpu.table = forward_alloc(table_bytes(d) + 1);
	memcpy(t->gpu.table, d->table, table_bytes(d));
}

static void twin_close(struct twin *t)
{
	for (unsigned i = 0; i < 4; i++)
		free(t->gpu.base[written[i]]);
	free(t->gpu.table);
}

/* What an executor has for itself does not count. */
static void forget_own(const struct device *cpu, struct twin *t)
{
	for (unsigned b = 0; b < LIST_BATCHES; b++) {
		const struct frame *f = &cpu->frame[b];
		const struct {
			uint64_t begin, end;
		} own[] = {{f->part, f->logits}, {f->order, f->v}, {f->q8, f->f}};

		for (unsigned i = 0; i < 3; i++)
			memset((char *)t->gpu.base[DEV_WORK] + own[i].begin, 0xaa,
			       own[i].end - own[i].begin);
	}
}

/* All that commands write; NaNs are equal to each other. */
static bool same_memory(const struct device *a, const struct device *b)
{
	for (unsigned i = 0; i < 4; i++) {
		enum dev_region r = written[i];

		if (memcmp(a->base[r], b->base[r], a->bytes[r]))
			return false;
	}
	return !memcmp(a->table, b->table, table_bytes(a));
}

/* ---- Golden checkpoints ---- */

/* Carries a list out on both, command by command. */
static uint32_t run_both(struct rig *r, const struct command *list, uint32_t from, uint32_t n)
{
	struct twin *t = r->context;

	for (uint32_t i = from; i < n; i++) {
		bool stopped = host_run(r->host, list, i, i + 1) == i;
		bool gpu = kernel(&t->gpu, &list[i], 1 + i % 3);

		forget_own(&r->d, t);
		t->commands[list[i].kind]++;
		t->differ[list[i].kind] += stopped != gpu || !same_memory(&r->d, &t->gpu);
		if (stopped)
			return i;
	}
	return n;
}

static const char *const kinds[COMMAND_KINDS] = {
#define COMMAND_NAME(kind, value, what) [COMMAND_##kind] = #kind,
	COMMAND_LIST(COMMAND_NAME)
#undef COMMAND_NAME
};

static void report(const struct twin *t, const char *name)
{
	for (unsigned k = 0; k < COMMAND_KINDS; k++)
		if (t->commands[k])
			ok(!t->differ[k], "%s: %u times %s, %u with other bytes than the CPU", name,
			   t->commands[k], kinds[k], t->differ[k]);
}

static void check_golden(const char *name, uint32_t slots)
{
	static struct forward f;
	static struct twin t;
	struct forward_row row[RIG_ROWS];
	struct err e = {0};
	struct rig r;
	char dir[200];
	float *h;

	snprintf(dir, sizeof(dir), "tests/golden/models/%s", name);
	if (!ok(!forward_open(&f, dir, FORWARD_SEQUENCES, FORWARD_PAGES, &e),
		"%s: the checkpoint loads (%s)", name, e.text))
		return;
	memset(&t, 0, sizeof(t));
	rig_open(&r, &f, team, slots);
	memset(r.d.base[DEV_WORK], 0xaa, r.d.bytes[DEV_WORK]);
	twin_open(&t, &r.d);
	t.gpu.base[DEV_HOST_LIST] = r.d.base[DEV_HOST_LIST];
	r.run = run_both;
	r.context = &t;
	h = forward_alloc(RIG_ROWS * model_width(f.model.config) * sizeof(float));
	for (uint32_t i = 0; i < RIG_ROWS * model_width(f.model.config); i++)
		h[i] = (float)(int32_t)random32() * 0x1p-31f;
	/* eleven rows of two sequences, then one more of each */
	for (uint32_t i = 0; i < 11; i++)
		row[i] = (struct forward_row){.sequence = i > 6, .position = i > 6 ? i - 7 : i};
	rig_pass(&r, row, 11, 0, h, 0, f.model.config->num_hidden_layers - 1);
	row[0] = (struct forward_row){.sequence = 0, .position = 7};
	row[1] = (struct forward_row){.sequence = 1, .position = 4};
	rig_pass(&r, row, 1, 1, h, 0, f.model.config->num_hidden_layers - 1);
	rig_pass(&r, row + 1, 1, 0, h, 0, f.model.config->num_hidden_layers - 1);
	report(&t, name);
	free(h);
	twin_close(&t);
	rig_close(&r);
	forward_close(&f);
}

/* ---- Random devices ---- */

enum kind {
	ORDINARY,
	ZEROS,
	EXTREME,
	KINDS
};

static uint32_t float_bits(enum kind kind)
{
	static const uint32_t odd[] = {0x7f7fffff, 0xff7fffff, 0x00800000, 0x80800001, 0x00000001,
				       0x807fffff, 0x00400000, 0x7f800000, 0x3f800000, 0x80000000};
	uint32_t r = random32();

	switch (kind) {
	case ORDINARY: /* 2^-8 to 2^3, either sign */
		return (r & 0x807fffff) | (119 + (r >> 8) % 11) << 23;
	case ZEROS:
		return r & 3 ? (r & 0x80000000) : 0x3f800000 | (r & 0x807ffffc);
	default:
		if (r & 1)
			return odd[below(10)];
		return (r & 0x807ffffe) | (r & 2 ? 60 + (r >> 8) % 8 : 1 + (r >> 8) % 80) << 23;
	}
}

static void fill_floats(void *at, size_t n, enum kind kind)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t u = float_bits(kind);

		memcpy((char *)at + 4 * i, &u, 4);
	}
}

static void fill_bf16(void *at, size_t n, enum kind kind)
{
	for (size_t i = 0; i < n; i++) {
		uint16_t u = (uint16_t)(float_bits(kind) >> 16);

		memcpy((char *)at + 2 * i, &u, 2);
	}
}

/* BF16 rows of n, padded with +0. */
static void fill_rows(void *at, size_t rows, size_t ld, size_t n, enum kind kind)
{
	memset(at, 0, rows * ld * 2);
	for (size_t r = 0; r < rows; r++)
		fill_bf16((char *)at + 2 * r * ld, n, kind);
}

enum {
	DEVICE_ROWS = 11,
	DEVICE_PAGES = 6,
	LIST_PAGES = 12,
	DEVICE_CONTEXT = 3 * KV_PAGE_ROWS,
	WEIGHT_BYTES = 4 << 20,
	SLOT_BYTES = 1 << 20
};

/* A device of random shape, and the command that is tried on it. */
struct lab {
	struct model_config c;
	struct index ix;
	struct device d;
	struct cpu_kernels kernels;
	struct host *host;
	struct twin t;
	enum kind kind;
	uint64_t used; /* of the weights */
	uint32_t rows;
};

static void random_config(struct model_config *c)
{
	static const uint32_t widths[] = {72, 128, 129, 200, 256, 384, 40, 1000};

	*c = (struct model_config){
		.family = below(2) ? FAMILY_V3 : FAMILY_V2,
		.vocab_size = 50,
		.hidden_size = widths[below(8)],
		.intermediate_size = 100 + below(400),
		.moe_intermediate_size = 33 + below(200),
		.num_hidden_layers = 2,
		.num_attention_heads = 1 + below(11),
		.q_lora_rank = 30 + below(200),
		.kv_lora_rank = 1 + below(300),
		.qk_nope_head_dim = 1 + below(300),
		.qk_rope_head_dim = 2 + 2 * below(20),
		.v_head_dim = 1 + below(200),
		.n_routed_experts = 24,
		.n_shared_experts = 1,
		.num_experts_per_tok = 1 + below(6),
		.n_group = 4,
		.topk_group = 2,
		.topk_method = below(3),
		.scoring_func = below(2),
		.norm_topk_prob = below(2),
		.rms_norm_eps = 1e-6f,
		.latent_norm_eps = 1e-6f,
		.routed_scaling_factor = 2.5f,
		.softmax_scale = 0.07f,
	};
}

static void *lab_region(struct lab *b, enum dev_region region, uint64_t bytes)
{
	b->d.bytes[region] = bytes;
	return b->d.base[region] = forward_alloc(bytes + 1);
}

static void *work(const struct lab *b, uint64_t offset)
{
	return (char *)b->d.base[DEV_WORK] + offset;
}

/* FP32 numbers of the weights. */
static dev_addr vector(struct lab *b, size_t n, enum kind kind)
{
	uint64_t at = (b->used + 63) & ~63ull;

	b->used = at + 4 * n;
	if (b->used > WEIGHT_BYTES)
		abort();
	fill_floats((char *)b->d.base[DEV_WEIGHTS] + at, n, kind);
	return dev_at(DEV_WEIGHTS, at);
}

/* Numbers of a matrix: no NaN among FP8's, nothing but finite scales. */
static void fill_weights(void *at, uint64_t bytes, uint32_t type, enum kind kind)
{
	if (type == WEIGHT_BF16) {
		fill_bf16(at, bytes / 2, kind);
		return;
	}
	for (uint64_t i = 0; i < bytes; i++) {
		uint8_t v = (uint8_t)random32();

		if (type == WEIGHT_FP8 && (v & 127) == 127 && kind != EXTREME)
			v ^= 1;
		if (kind == ZEROS && type == WEIGHT_FP8 && below(4))
			v &= 0x87;
		((uint8_t *)at)[i] = v;
	}
}

static struct dev_weight matrix(struct lab *b, uint32_t n_out, uint32_t n_in, uint32_t type)
{
	uint64_t bytes = weight_bytes(type, n_out, n_in), at;
	struct dev_weight w = {.n_out = n_out, .n_in = n_in, .type = type};

	if (type == WEIGHT_FP8)
		w.scale = vector(b, ((n_out + 127) / 128) * (size_t)((n_in + 127) / 128), ORDINARY);
	at = ((b->used + 63) & ~63ull) + (below(4) ? 0 : 1); /* sometimes odd addresses */
	w.data = dev_at(DEV_WEIGHTS, at);
	b->used = at + bytes;
	if (b->used > WEIGHT_BYTES)
		abort();
	fill_weights((char *)b->d.base[DEV_WEIGHTS] + at, bytes, type, b->kind);
	return w;
}

/* All of layer 1's experts but every fifth, in slots. */
static void fill_experts(struct lab *b)
{
	const struct dev_shape *s = &b->d.shape;
	uint64_t at = 0;

	for (uint32_t x = 0; x < s->experts; x++) {
		struct dev_expert *e = &b->d.table[s->experts + x];

		for (unsigned p = 0; x % 5 && p < 3; p++) {
			uint32_t n_out = p == 2 ? s->hidden : s->inner;
			uint32_t n_in = p == 2 ? s->inner : s->hidden;
			uint64_t bytes = weight_bytes(s->expert_type, n_out, n_in);
			uint8_t *data = (uint8_t *)b->d.base[DEV_SLOTS] + at;

			e->data[p] = dev_at(DEV_SLOTS, at);
			fill_weights(data, bytes, s->expert_type, b->kind);
			for (uint64_t g = 0; s->expert_type == WEIGHT_Q4 && g < bytes; g += 288)
				fill_bf16(data + g + 256, 16, b->kind);
			at = (at + bytes + 255) & ~255ull;
			if (s->expert_type == WEIGHT_FP8) {
				size_t n = ((n_out + 127) / 128) * (size_t)((n_in + 127) / 128);

				e->scale[p] = dev_at(DEV_SLOTS, at);
				fill_floats((char *)b->d.base[DEV_SLOTS] + at, n, ORDINARY);
				at = (at + 4 * n + 255) & ~255ull;
			}
		}
		if (at > b->d.bytes[DEV_SLOTS])
			abort();
	}
}

/* Row tables: positions over three segments, pages of their own, some failed rows. */
static void fill_tables(struct lab *b)
{
	const struct frame *f = &b->d.frame[0];
	struct dev_row *row = work(b, f->row);
	uint32_t *page = work(b, f->page);
	uint64_t *error = work(b, f->error);

	for (uint32_t i = 0; i < LIST_PAGES; i++)
		page[i] = i < 3 ? i : 3 + i % 3;
	for (uint32_t r = 0; r < DEVICE_ROWS; r++) {
		uint32_t sequence = r % 2;

		row[r] = (struct dev_row){.position = below(3) ? below(DEVICE_CONTEXT)
							       : below(2) * 255 + below(3),
					  .first_page = 3 * sequence};
		if (b->c.family == FAMILY_V2 && below(3) == 0)
			row[r].first_key = below(row[r].position + 1);
		error[r] = below(7) == 0 ? 1234 : 0;
	}
	fill_floats(work(b, f->angle), DEVICE_ROWS * (size_t)b->d.shape.rope, ORDINARY);
}

static void lab_open(struct lab *b, uint32_t rows, enum kind kind)
{
	memset(b, 0, sizeof(*b));
	random_config(&b->c);
	b->rows = rows;
	b->kind = kind;
	b->ix.config = b->c;
	b->ix.expert_type = below(3) == 0 ? INDEX_Q4 : below(2) ? INDEX_FP8 : INDEX_BF16;
	memcpy(b->ix.pack.table, q4_gaussian, 16);
	cpu_kernels_init(&b->kernels, CPU_SCALAR);
	list_shape(&b->d.shape, &b->ix, DEVICE_PAGES);
	list_frame(&b->d.frame[0], &b->c, 256, rows, LIST_PAGES, 2, DEVICE_CONTEXT);
	b->d.frame[1] = b->d.frame[0];
	b->d.row_max = list_row_max(&b->c);
	lab_region(b, DEV_WORK, b->d.frame[0].bytes);
	fill_floats(b->d.base[DEV_WORK], b->d.bytes[DEV_WORK] / 4, kind);
	lab_region(b, DEV_KV, DEVICE_PAGES * config_kv_page_bytes(&b->c));
	fill_bf16(b->d.base[DEV_KV], b->d.bytes[DEV_KV] / 2, kind);
	lab_region(b, DEV_WEIGHTS, WEIGHT_BYTES);
	lab_region(b, DEV_SLOTS, 24ull * SLOT_BYTES * 2);
	lab_region(b, DEV_HOST_OUT, 4096);
	b->d.table = forward_alloc(table_bytes(&b->d));
	fill_tables(b);
	fill_experts(b);
	b->host = host_open(&b->d, &b->kernels, team, RIG_WORKERS);
}

static void lab_close(struct lab *b)
{
	static const enum dev_region all[] = {DEV_WORK, DEV_KV, DEV_WEIGHTS, DEV_SLOTS,
					      DEV_HOST_OUT};

	for (unsigned i = 0; i < 5; i++)
		free(b->d.base[all[i]]);
	free(b->d.table);
	host_close(b->host);
}

/* Equal but for NaNs' payloads: what a command left in FP32 or BF16 arrays. */
static bool same_numbers(const struct device *a, const struct device *b)
{
	const uint32_t *x = a->base[DEV_WORK], *y = b->base[DEV_WORK];

	for (uint64_t i = 0; i < a->bytes[DEV_WORK] / 4; i++) {
		bool half = true;

		if (x[i] == y[i] ||
		    ((x[i] & 0x7fffffff) > 0x7f800000 && (y[i] & 0x7fffffff) > 0x7f800000))
			continue;
		for (unsigned h = 0; h < 32; h += 16) {
			uint32_t p = x[i] >> h & 0xffff, q = y[i] >> h & 0xffff;

			half &= p == q || ((p & 0x7fff) > 0x7f80 && (q & 0x7fff) > 0x7f80);
		}
		if (!half)
			return false;
	}
	return !memcmp(a->base[DEV_KV], b->base[DEV_KV], a->bytes[DEV_KV]);
}

static void attempt(struct lab *b, struct command c)
{
	struct err e = {0};
	bool stopped, gpu;

	c.rows = b->rows;
	c.layer = 1;
	if (command_check(&b->d, &c, &e)) {
		ok(false, "%s of seed %llu: %s", kinds[c.kind], (unsigned long long)state, e.text);
		return;
	}
	twin_open(&b->t, &b->d);
	stopped = host_run(b->host, &c, 0, 1) == 0;
	gpu = kernel(&b->t.gpu, &c, 1 + below(3));
	forget_own(&b->d, &b->t);
	{ /* and of the other side, which has filled none of it since */
		struct twin other = {.gpu = b->d};

		forget_own(&b->d, &other);
	}
	b->t.commands[c.kind]++;
	if (stopped != gpu || !same_numbers(&b->d, &b->t.gpu)) {
		b->t.differ[c.kind]++;
		diag("%s: hidden %u heads %u rank %u nope %u rope %u v %u inner %u type %u kind %u "
		     "rows %u",
		     kinds[c.kind], b->d.shape.hidden, b->d.shape.heads, b->d.shape.rank,
		     b->d.shape.nope, b->d.shape.rope, b->d.shape.v, b->d.shape.inner,
		     b->d.shape.expert_type, b->kind, b->rows);
	}
	twin_close(&b->t);
}

/* Every command that computes, once. */
static void try_all(struct lab *b)
{
	const struct dev_shape *s = &b->d.shape;
	const struct frame *f = &b->d.frame[0];
	uint32_t type = below(2) ? WEIGHT_FP8 : WEIGHT_BF16, n = b->rows;
	uint32_t kv_b = s->heads * (s->nope + s->v);
	struct command c = {.kind = COMMAND_NORM,
			    .from = dev_at(DEV_WORK, f->h[0]),
			    .to = dev_at(DEV_WORK, f->x),
			    .ldx = s->width,
			    .ldy = s->width,
			    .n = s->hidden,
			    .eps = 1e-6f};

	c.vector = vector(b, s->hidden, b->kind);
	c.bias = below(2) ? vector(b, s->hidden, b->kind) : 0;
	attempt(b, c);
	fill_rows(work(b, f->x), n, s->width, s->hidden, b->kind);
	c = (struct command){.kind = COMMAND_MATMUL,
			     .from = dev_at(DEV_WORK, f->x),
			     .to = dev_at(DEV_WORK, f->wide),
			     .ldx = s->width,
			     .ldy = s->heads * (s->nope + s->rope)};
	c.weight = matrix(b, 1 + below(c.ldy), s->hidden, type);
	attempt(b, c);
	c = (struct command){.kind = COMMAND_ENTER,
			     .from = dev_at(DEV_WORK, f->x),
			     .to = dev_at(DEV_WORK, f->v),
			     .ldx = s->width,
			     .ldy = s->inner_pad};
	c.weight = matrix(b, s->inner, s->hidden, type);
	c.weight2 = matrix(b, s->inner, s->hidden, type);
	attempt(b, c);
	fill_floats(work(b, f->kv_down), n * (size_t)(s->rank + s->rope), b->kind);
	c = (struct command){.kind = COMMAND_CACHE,
			     .vector = vector(b, s->rank, b->kind),
			     .bias = below(2) ? vector(b, s->rank + s->rope, b->kind) : 0};
	attempt(b, c);
	fill_floats(work(b, f->wide), n * (size_t)s->heads * (s->nope + s->rope), b->kind);
	c = (struct command){.kind = COMMAND_ABSORB, .weight = matrix(b, kv_b, s->rank, type)};
	attempt(b, c);
	fill_rows(work(b, f->q), n * (size_t)s->heads, s->key, s->rank + s->rope, b->kind);
	attempt(b, (struct command){.kind = COMMAND_ATTEND});
	fill_rows(work(b, f->o), n * (size_t)s->heads, s->latent, s->rank, b->kind);
	c.kind = COMMAND_VALUES;
	attempt(b, c);
	c = (struct command){.kind = COMMAND_RESIDUAL,
			     .bias = below(2) ? vector(b, s->hidden, b->kind) : 0};
	attempt(b, c);
	c = (struct command){.kind = COMMAND_FINITE,
			     .from = dev_at(DEV_WORK, f->h[1]),
			     .ldx = s->width,
			     .n = s->hidden,
			     .bytes = 77};
	attempt(b, c);
	/* logits with ties */
	for (uint32_t i = 0; i < n * s->experts; i++)
		((float *)work(b, f->logits))[i] = (float)below(40) * 0.25f - 5.0f;
	c = (struct command){.kind = COMMAND_CHOOSE, .bytes = 77};
	c.bias = s->topk_method == TOPK_NOAUX_TC ? vector(b, s->experts, ORDINARY) : 0;
	attempt(b, c);
	fill_rows(work(b, f->x), n, s->width, s->hidden, b->kind);
	attempt(b, (struct command){.kind = COMMAND_EXPERTS});
	attempt(b, (struct command){.kind = COMMAND_FAIL, .id = 5, .bytes = 78});
	fill_floats(work(b, f->f), n * (size_t)s->top_k * s->width, b->kind);
	attempt(b, (struct command){.kind = COMMAND_COMBINE,
				    .flags = COMMAND_ROUTED | (below(2) ? COMMAND_SHARED : 0)});
	attempt(b, (struct command){.kind = COMMAND_COMBINE, .flags = COMMAND_SHARED});
	attempt(b, (struct command){.kind = COMMAND_PAGE,
				    .page_from = 1,
				    .page_to = 4,
				    .positions = below(257)});
}

static void check_random(uint32_t devices)
{
	static struct lab b;
	struct twin sum = {.commands = {0}};

	for (uint32_t i = 0; i < devices; i++) {
		lab_open(&b, i % 2 ? 1 + below(8) : 9 + below(DEVICE_ROWS - 8),
			 (enum kind)(i / 2 % KINDS));
		try_all(&b);
		for (unsigned k = 0; k < COMMAND_KINDS; k++) {
			sum.commands[k] += b.t.commands[k];
			sum.differ[k] += b.t.differ[k];
		}
		lab_close(&b);
	}
	report(&sum, "random memory");
}

int main(int argc, char **argv)
{
	struct err e = {0};
	uint32_t devices = 18;
	int option;

	while ((option = getopt(argc, argv, "s:n:d:")) > 0) {
		if (option == 's')
			state = strtoull(optarg, NULL, 0);
		else if (option == 'n')
			devices = (uint32_t)strtoul(optarg, NULL, 0);
		else if (option == 'd')
			library = optarg;
	}
	if (library && on_gpu_open(library, cuda_cubins, &e)) {
		printf("Bail out! %s\n", e.text);
		return 1;
	}
	team = team_start(RIG_WORKERS, NULL, 0, &e);
	diag("-s %llu repeats this", (unsigned long long)state);
	check_golden("v3", 3);
	check_golden("moonlight", 2);
	check_random(devices);
	return tap_done();
}
