/*
 * Who gets how much memory; see plan.h. The order of preference: resident weights, the fewest slots
 * and one sequence's context must fit; then rows for the largest chunk that costs no more than an
 * eighth of the budget; then larger bodies of requests, and more at once, for no more than another
 * eighth and a quarter of what is left; then a quarter of what is left for the pages of more
 * sequences; slots get the rest. What is left when every expert has its slot is for more pages, and
 * then for bodies again.
 */
#include "boot/plan.h"

#include "boot/rings.h"

#include "model/attention.h"
#include "model/ffn.h"
#include "model/gate.h"
#include "model/list.h"
#include "model/mtp.h"
#include "model/sampler.h"

#include <errno.h>
#include <inttypes.h>

enum {
	SLOTS_MIN = 2, /* one computing, one loading (machinery 21) */
	CHUNK_MAX = 512,
	CHUNK_MIN = 16,          /* of those the plan chooses itself */
	PROCESS_BYTES = 3 << 19, /* text and data of one small static program: 1.5 MiB */
	PROCESSES = 11,          /* init, loader, the five servers and four spares */
	THREAD_BYTES = 64 << 10, /* touched stack and the kernel's part of a thread */
	KERNEL_SHARE = 80,       /* page tables of five processes and the index of a memfd */
	PIN_SHARE = 128,         /* of slots besides: 16 bytes per page for io_uring, and more */
	CONNS_PER_PLACE = 5,     /* running, and four waiting */
	GATEWAY_BYTES =
		8 << 20 /* the tokenizer's patterns and matcher, stop strings, small replies */
};

/*
 * What bodies may take, from the smallest node on: the largest body in MiB, and how many of them
 * the assembly areas hold.
 */
static const struct body_level {
	uint32_t mib, areas;
} body_levels[] = {{BODY_LEAST >> 20, 2},
		   {2, 2},
		   {4, 2},
		   {8, 2},
		   {BODY_MAX >> 20, 2},
		   {BODY_MAX >> 20, 4},
		   {BODY_MAX >> 20, 8},
		   {BODY_MAX >> 20, CLIENT_BODIES}};
enum {
	BODY_LEVELS = sizeof(body_levels) / sizeof(body_levels[0])
};

#define PIECE_MAX ((uint64_t)1 << 30)  /* more is EFAULT (machinery 20) */
#define PIECE     ((uint64_t)64 << 20) /* or one slot: pinned in 2 ms, while nothing is submitted */

const char *const plan_part_names[PLAN_PARTS] = {
	[PART_RESIDENT] = "resident weights", [PART_KV] = "KV pages",
	[PART_ROWS] = "rows and rings",       [PART_PRIVATE] = "servers (estimate)",
	[PART_KERNEL] = "kernel (estimate)",  [PART_SLOTS] = "expert slots"};

/* The fields that do not depend on memory. */
static int set_figures(struct plan *p, struct plan_table *t, const struct plan_input *in,
		       struct err *e)
{
	const struct model_config *c = in->config;
	const struct boot_options *o = in->options;
	uint32_t moe_layers = 0;

	*p = (struct plan){.layers = config_layers(c),
			   .main_layers = c->num_hidden_layers,
			   .hidden = c->hidden_size,
			   .vocab = c->vocab_size,
			   .top_k = c->num_experts_per_tok ? c->num_experts_per_tok : 1,
			   .experts = c->n_routed_experts,
			   .places = (uint32_t)o->parallel,
			   .queue = 4 * (uint32_t)o->parallel,
			   .workers = o->threads ? (uint32_t)o->threads : in->cpus,
			   .isa = o->isa,
			   .gpu = o->gpu,
			   .mtp = in->score || !c->num_nextn_predict_layers ? MTP_OFF : o->mtp,
			   .score = in->score,
			   .verbose = o->verbose,
			   .trace = o->trace_routes != NULL,
			   .recorder = o->recorder != NULL,
			   .kv_page_bytes = config_kv_page_bytes(c),
			   .slot_bytes = in->slot_bytes,
			   .index_bytes = in->index_bytes,
			   .resident_bytes = in->resident_bytes,
			   .memory = in->budget};
	if (o->mtp == MTP_ON && !c->num_nextn_predict_layers)
		return err_exit(e, STATUS_USAGE, -EINVAL, "--mtp on: this model has no MTP module");
	if (o->context > c->max_position_embeddings)
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"--context %" PRIu64 ": this model has %u positions", o->context,
				c->max_position_embeddings);
	p->context = o->context                          ? (uint32_t)o->context
		     : c->max_position_embeddings < 8192 ? c->max_position_embeddings
							 : 8192;
	if (!in->slot_bytes || in->slot_bytes > PIECE_MAX)
		return err_exit(e, STATUS_MODEL, -EINVAL,
				"plan: an expert of %" PRIu64
				" bytes does not fit in a slot of 1 GiB",
				in->slot_bytes);
	for (uint32_t l = 0; l < p->layers; l++)
		moe_layers += config_is_moe(c, l);
	p->moe_layers = config_moe_index(c, p->main_layers);
	while (p->moe_layers && !config_is_moe(c, p->first_moe_layer))
		p->first_moe_layer++;
	t->all_slots = (uint64_t)moe_layers * c->n_routed_experts;
	if (t->all_slots < SLOTS_MIN)
		t->all_slots = SLOTS_MIN;
	t->kv_wanted = (uint64_t)p->places * ((p->context + 255) / 256) + 1;
	p->rows[BATCH_DECODE] = p->mtp == MTP_OFF ? p->places : 2 * p->places;
	return 0;
}

static void set_bodies(struct plan *p, unsigned level)
{
	p->body_bytes = (uint64_t)body_levels[level].mib << 20;
	p->body_pool = body_levels[level].areas * (p->body_bytes + BODY_FRAME);
}

/* What bodies take: areas, and the gateway's scratch memory for one body. */
static uint64_t body_cost(const struct plan *p)
{
	return p->body_pool + p->body_pool / KERNEL_SHARE + BODY_SCRATCH * p->body_bytes + 1;
}

/* As much for bodies as the share pays for, beyond what they take now. */
static void choose_bodies(struct plan *p, uint64_t share)
{
	uint64_t now = body_cost(p);
	struct plan try = *p;

	for (unsigned level = 0; level < BODY_LEVELS; level++) {
		set_bodies(&try, level);
		if (body_cost(&try) > now && body_cost(&try) - now <= share)
			set_bodies(p, level);
	}
}

static void set_slots(struct plan *p, uint64_t slots)
{
	uint64_t per_piece = p->slot_bytes < PIECE ? PIECE / p->slot_bytes : 1;

	while (slots / per_piece >= RINGS_PIECES)
		per_piece *= 2;
	p->slots = (uint32_t)slots;
	p->slots_per_piece = (uint32_t)(per_piece < slots ? per_piece : slots);
	p->piece_bytes = p->slots_per_piece * p->slot_bytes;
}

/* Objects that are only partly touched: what 5 connections per place need of them. */
static uint64_t rows_bytes(const struct layout *l, const struct plan *p)
{
	uint64_t conns = (uint64_t)CONNS_PER_PLACE * p->places;
	uint64_t logs, prompts = CONN_PLACES * (uint64_t)p->context * sizeof(uint32_t), sum = 0;

	if (conns > CONNS)
		conns = CONNS;
	logs = CONN_PLACES * (uint64_t)p->context * sizeof(struct token_entry);
	for (unsigned o = 0; o < OBJ_COUNT; o++) {
		if (o != OBJ_INDEX && o != OBJ_RESIDENT && o != OBJ_SLOTS && o != OBJ_KV)
			sum += l->bytes[o];
	}
	sum -= logs + prompts + 2ull * CONNS * CONN_RING + (uint64_t)CLIENT_BODIES * CLIENT_BODY;
	sum += (p->places + 1ull) * p->context * sizeof(struct token_entry);
	sum += conns * (p->context * sizeof(uint32_t) + 2ull * CONN_RING);
	/* of the others, open and idle: two rings, prompt and log */
	sum += (CONNS - conns) * 4ull * CONN_IDLE_KEPT;
	return sum + p->body_pool;
}

static uint64_t private_bytes(const struct plan *p, const struct plan_input *in)
{
	const struct model_config *c = in->config;
	uint32_t decode = p->rows[BATCH_DECODE], chunk = p->rows[BATCH_PREFILL],
		 most = decode > chunk ? decode : chunk;
	uint64_t rows = (uint64_t)chunk + decode, width = (p->hidden + 127) & ~127u;
	uint64_t sum = (uint64_t)PROCESSES * PROCESS_BYTES + 6ull * p->workers * THREAD_BYTES;

	sum += 2 * in->tokenizer_bytes + GATEWAY_BYTES + BODY_SCRATCH * p->body_bytes;
	sum += attention_scratch_bytes(c, p->workers, most);
	sum += gate_scratch_bytes(c, p->workers, most) + mtp_scratch_bytes(c, most);
	sum += ffn_scratch_bytes(c, ffn_inner_max(c), most, p->workers) +
	       (plan_kept_rows(p, 0) + plan_kept_rows(p, 1) + rows) * width * sizeof(float);
	for (unsigned b = 0; b < BATCHES; b++)
		sum += ffn_set_scratch_bytes(c, ffn_moe_inner_max(c), plan_set_rows(p, b),
					     p->workers);
	return sum + (decode + 1ull) * p->vocab * sizeof(float) + sampler_scratch_bytes(p->vocab);
}

/* What passes take as lists, where there is somebody to execute them. */
static void set_lists(struct plan *p, const struct plan_table *t, const struct model_config *c,
		      const struct boot_options *o)
{
	/* the GPU's memory is `cuda`'s to know; the stand-in's is ours */
	uint64_t most = o->gpu == GPU_CUDA ? t->all_slots : p->slots;
	uint64_t pages = (p->places + 1ull) * ((p->context + 255ull) / 256);

	if (!p->gpu)
		return;
	p->gpu_slots = (uint32_t)(o->gpu_slots < most ? o->gpu_slots : most);
	for (unsigned b = 0; b < BATCHES; b++) {
		struct list_layout list;
		struct list_out out;

		list_layout(&list, c, p->rows[b], (uint32_t)pages, plan_logit_rows(p),
			    p->places + 1);
		list_out(&out, c, 0, p->rows[b], plan_logit_rows(p));
		p->list_bytes[b] = list.bytes;
		p->out_bytes[b] = out.bytes;
	}
}

/* Adds everything up for the chunk, pages and slots of the plan. */
static int add_up(struct plan *p, struct plan_table *t, const struct plan_input *in, struct err *e)
{
	struct layout l;
	uint64_t *b = t->bytes;
	int rc;

	set_lists(p, t, in->config, in->options);
	rc = layout_make(&l, p, e);
	if (rc)
		return rc;
	b[PART_RESIDENT] = p->resident_bytes + p->index_bytes;
	b[PART_KV] = p->pages * p->kv_page_bytes; /* below 2^62: layout_make has checked it */
	b[PART_SLOTS] = p->slots * p->slot_bytes;
	b[PART_ROWS] = rows_bytes(&l, p);
	b[PART_PRIVATE] = private_bytes(p, in);
	b[PART_KERNEL] =
		(b[PART_RESIDENT] + b[PART_KV] + b[PART_SLOTS] + b[PART_ROWS]) / KERNEL_SHARE +
		b[PART_SLOTS] / PIN_SHARE + (2u << 20);
	t->total = 0;
	for (unsigned i = 0; i < PLAN_PARTS; i++) {
		if (__builtin_add_overflow(t->total, b[i], &t->total))
			return err_set(e, -EOVERFLOW, "plan: the sizes of this model do not fit");
	}
	p->memory_planned = t->total;
	return 0;
}

static int refuse(const struct plan *p, const struct plan_table *t, struct err *e)
{
	const double gb = 1e9;
	const uint64_t *b = t->bytes;

	return err_exit(
		e, STATUS_MEMORY, -ENOMEM,
		"not enough memory: this model needs %.3f GB (resident weights %.3f, context of "
		"%u %.3f, rows of chunk %u %.3f, %u slots %.3f, servers and kernel %.3f), the "
		"budget is %.3f GB, %.3f GB are missing. Raise --memory to %" PRIu64
		"M, or try a smaller --context, --chunk or --parallel",
		(double)t->total / gb, (double)b[PART_RESIDENT] / gb, p->context,
		(double)b[PART_KV] / gb, p->rows[BATCH_PREFILL], (double)b[PART_ROWS] / gb,
		p->slots, (double)b[PART_SLOTS] / gb,
		(double)(b[PART_PRIVATE] + b[PART_KERNEL]) / gb, (double)p->memory / gb,
		(double)(t->total - p->memory) / gb, plan_mib(t));
}

static int add_up_chunk(struct plan *p, struct plan_table *t, const struct plan_input *in,
			uint32_t chunk, struct err *e)
{
	p->rows[BATCH_PREFILL] = chunk;
	return add_up(p, t, in, e);
}

/*
 * Of the smallest node: the chunk that was asked for, or the largest that costs no more than an
 * eighth of the budget.
 */
static int choose_chunk(struct plan *p, struct plan_table *t, const struct plan_input *in,
			struct err *e)
{
	uint32_t chunk = CHUNK_MAX;
	uint64_t least = t->total;
	int rc;

	if (in->options->chunk)
		return 0;
	while (chunk / 2 >= p->context && chunk > CHUNK_MIN)
		chunk /= 2;
	for (; chunk > CHUNK_MIN; chunk /= 2) {
		rc = add_up_chunk(p, t, in, chunk, e);
		if (rc || (t->total <= in->budget && t->total - least <= in->budget / 8))
			return rc;
	}
	return add_up_chunk(p, t, in, CHUNK_MIN, e);
}

/* How many units of `bytes` the share pays for, kernel's part included. */
static uint64_t units(uint64_t share, uint64_t bytes)
{
	return share / (bytes + bytes / KERNEL_SHARE + bytes / PIN_SHARE + 1);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Every expert has its slot: the rest is for pages, and then for bodies. */
static int spend_rest(struct plan *p, struct plan_table *t, const struct plan_input *in,
		      struct err *e)
{
	uint64_t more = units(in->budget - t->total, p->kv_page_bytes);
	int rc;

	p->pages += (uint32_t)smaller(more, t->kv_wanted - p->pages);
	rc = add_up(p, t, in, e);
	if (rc || p->pages < t->kv_wanted)
		return rc;
	choose_bodies(p, in->budget - t->total);
	return add_up(p, t, in, e);
}

struct plan_input plan_input_of(const struct index *ix, const struct boot_options *o, uint32_t cpus)
{
	return (struct plan_input){.options = o,
				   .config = &ix->config,
				   .index_bytes = ix->bytes,
				   .resident_bytes = ix->resident_bytes,
				   .slot_bytes = index_slot_bytes(ix),
				   .tokenizer_bytes = ix->tokenizer.count,
				   .budget = o->memory,
				   .cpus = cpus,
				   .score = o->client != NULL};
}

uint64_t plan_mib(const struct plan_table *t)
{
	return (t->total + (1u << 20) - 1) >> 20;
}

int plan_least(struct plan *p, struct plan_table *t, const struct plan_input *in, struct err *e)
{
	const struct boot_options *o = in->options;
	int rc;

	*t = (struct plan_table){0};
	rc = set_figures(p, t, in, e);
	if (rc)
		return rc;
	if (t->kv_wanted > UINT32_MAX || t->all_slots > UINT32_MAX)
		return err_set(e, -EOVERFLOW, "plan: too many KV pages or experts");
	set_slots(p, o->slots ? smaller(o->slots, t->all_slots) : SLOTS_MIN);
	set_bodies(p, 0);
	p->pages = (p->context + 255) / 256 + 1;
	return add_up_chunk(p, t, in, o->chunk ? (uint32_t)o->chunk : CHUNK_MIN, e);
}

int plan_make(struct plan *p, struct plan_table *t, const struct plan_input *in, struct err *e)
{
	const struct boot_options *o = in->options;
	uint64_t left, more;
	int rc = plan_least(p, t, in, e);

	if (rc || t->total > in->budget)
		return rc ? rc : refuse(p, t, e);
	rc = choose_chunk(p, t, in, e);
	if (rc)
		return rc;
	choose_bodies(p, smaller(in->budget / 8, (in->budget - t->total) / 4));
	rc = add_up(p, t, in, e);
	if (rc)
		return rc;
	left = in->budget - t->total;
	more = units(o->slots ? left : left / 4, p->kv_page_bytes);
	p->pages += (uint32_t)smaller(more, t->kv_wanted - p->pages);
	rc = add_up(p, t, in, e);
	if (rc)
		return rc;
	if (o->slots)
		return spend_rest(p, t, in, e);
	left = in->budget - t->total;
	set_slots(p, smaller(SLOTS_MIN + units(left, p->slot_bytes), t->all_slots));
	rc = add_up(p, t, in, e);
	if (rc || t->total >= in->budget)
		return rc;
	return p->slots == t->all_slots ? spend_rest(p, t, in, e) : 0;
}
