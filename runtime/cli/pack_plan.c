/*
 * From a checkpoint to a packed store's geometry, catalog and tasks; see pack.h. The same
 * checkpoint gives the same plan.
 */
#include "runtime/cli/pack.h"

#include "drivers/cpu/math.h"
#include "runtime/sha256.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const text_names[] = {"chat_template.jinja", "config.json",
					 "generation_config.json", "tokenizer.json",
					 "tokenizer_config.json"};
enum {
	TEXTS = sizeof(text_names) / sizeof(text_names[0])
};

static uint64_t round_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) & ~(to - 1);
}

static int no_memory(struct err *e)
{
	return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the plan of a packed store");
}

static const struct index_load *loads(const struct index *ix)
{
	return (const struct index_load *)(const void *)((const char *)ix + ix->loads.off);
}

static const char *load_name(const struct index *ix, const struct index_load *load)
{
	return (const char *)ix + ix->names.off + load->name;
}

/* Scales of routed experts lie with their matrices in a packed store. */
static bool of_expert(const char *name)
{
	return strstr(name, ".mlp.experts.") != NULL;
}

/* Which tensors move, in the order in which they will be loaded. */
static int list_moves(struct pack_plan *p, struct err *e)
{
	const struct index *ix = p->m->ix;

	p->move = calloc(ix->loads.count + 1, sizeof(p->move[0]));
	if (!p->move)
		return no_memory(e);
	for (uint64_t i = 0; i < ix->loads.count; i++) {
		const struct index_load *load = &loads(ix)[i];
		const char *name = load_name(ix, load);

		if (of_expert(name))
			continue;
		p->move[p->moves++] = (struct pack_move){
			.from = tensor_find(&p->table, name, strlen(name)), .stored = load->stored};
	}
	return 0;
}

/* Gives each its offset in the area of resident tensors; returns the area's bytes. */
static uint64_t place_moves(struct pack_plan *p)
{
	uint64_t end = 0;

	for (size_t i = 0; i < p->moves; i++) {
		p->move[i].to = end;
		end = round_up(end + p->move[i].from->bytes, 64);
	}
	return end;
}

static int read_text(const struct pack_plan *p, uint32_t file, char *to, struct err *e)
{
	char bounce[2 * PACK_ALIGN];

	return store_read(p->m->files, file, 0, to, p->m->files->file[file].bytes,
			  (char *)round_up((uintptr_t)bounce, PACK_ALIGN), PACK_ALIGN, e);
}

/* What the catalog needs; then, with the addresses known, the catalog itself. */
struct catalog_plan {
	int file[TEXTS]; /* -1: there is none */
	uint32_t texts;
	uint64_t names_off, names_bytes, texts_off, bytes;
};

static void plan_catalog(const struct pack_plan *p, struct catalog_plan *c)
{
	*c = (struct catalog_plan){0};
	for (unsigned i = 0; i < TEXTS; i++) {
		c->file[i] = store_files_find(p->m->files, text_names[i], strlen(text_names[i]));
		c->texts += c->file[i] >= 0;
	}
	c->names_off = sizeof(struct pack_catalog) + c->texts * sizeof(struct pack_text) +
		       p->moves * sizeof(struct pack_tensor);
	for (size_t i = 0; i < p->moves; i++)
		c->names_bytes += p->move[i].from->name_len;
	c->bytes = c->texts_off = round_up(c->names_off + c->names_bytes, 64);
	for (unsigned i = 0; i < TEXTS; i++)
		if (c->file[i] >= 0)
			c->bytes = round_up(c->bytes + p->m->files->file[c->file[i]].bytes, 64);
}

static void write_tensors(const struct pack_plan *p, const struct catalog_plan *c,
			  struct pack_tensor *out)
{
	uint64_t name = 0;

	for (size_t i = 0; i < p->moves; i++) {
		const struct safetensor *t = p->move[i].from;

		out[i] = (struct pack_tensor){.off = p->move[i].to,
					      .shape = {t->shape[0], t->rank > 1 ? t->shape[1] : 0},
					      .name_off = (uint32_t)name,
					      .name_len = (uint16_t)t->name_len,
					      .stored = (uint8_t)p->move[i].stored,
					      .rank = t->rank};
		memcpy(p->catalog + c->names_off + name, t->name, t->name_len);
		name += t->name_len;
	}
}

static int write_catalog(struct pack_plan *p, const struct catalog_plan *c, struct err *e)
{
	struct pack_catalog *head;
	struct pack_text *text;
	uint64_t at = c->texts_off;
	int rc = 0;

	p->catalog = calloc(1, p->g.area[PACK_CATALOG].bytes);
	if (!p->catalog)
		return no_memory(e);
	head = (struct pack_catalog *)(void *)p->catalog;
	*head = (struct pack_catalog){.texts = c->texts,
				      .tensors = (uint32_t)p->moves,
				      .names_off = c->names_off,
				      .names_bytes = c->names_bytes};
	text = (struct pack_text *)(void *)(head + 1);
	for (unsigned i = 0; !rc && i < TEXTS; i++) {
		if (c->file[i] < 0)
			continue;
		*text = (struct pack_text){.off = at, .bytes = p->m->files->file[c->file[i]].bytes};
		memcpy(text->name, text_names[i], strlen(text_names[i]));
		rc = read_text(p, (uint32_t)c->file[i], p->catalog + at, e);
		at = round_up(at + text->bytes, 64);
		text++;
	}
	write_tensors(p, c, (struct pack_tensor *)(void *)text);
	return rc;
}

/*
 * Names what is packed and how, so that only the same is ever continued: with the sources' times,
 * which the store itself does not hold.
 */
static int name_sources(struct pack_plan *p, struct err *e)
{
	const struct store_files *f = p->m->files;
	struct sha256 s;

	sha256_init(&s);
	sha256_update(&s, &p->g, sizeof(p->g));
	sha256_update(&s, p->catalog, p->g.area[PACK_CATALOG].bytes);
	for (uint32_t i = 0; i < f->count; i++) {
		struct stat st;

		if (fstat(f->file[i].fd, &st) < 0)
			return err_exit(e, STATUS_MODEL, -errno, "%s: %s", f->file[i].name,
					strerror(errno));
		sha256_update(&s, f->file[i].name, strlen(f->file[i].name) + 1);
		sha256_update(&s, &st.st_size, sizeof(st.st_size));
		sha256_update(&s, &st.st_mtim, sizeof(st.st_mtim));
	}
	sha256_final(&s, p->journal);
	return 0;
}

/*
 * What the codes of a 4-bit store stand for. Fitting looks at weights, so the plan must have its
 * sources; nothing that it places depends on the table.
 */
static int choose_table(struct pack_plan *p, enum pack_table table, struct err *e)
{
	if (p->g.expert_type != INDEX_Q4)
		return 0;
	switch (table) {
	case PACK_TABLE_LINEAR:
		for (int i = 0; i < 16; i++)
			p->g.table[i] = (int8_t)(8 * i - 64);
		return 0;
	case PACK_TABLE_FITTED:
		return pack_fit_table(p, p->g.table, e);
	default:
		memcpy(p->g.table, q4_gaussian, sizeof(p->g.table));
		return 0;
	}
}

static int plan(struct pack_plan *p, const struct pack_options *o, struct err *e)
{
	static char bounce[1 << 20] __attribute__((aligned(PACK_ALIGN)));
	const struct index *ix = p->m->ix;
	struct pack_shape shape = {
		.parts = o->parts,
		.expert_type = o->bits == 4 && ix->experts.count ? INDEX_Q4 : ix->expert_type,
		.experts = ix->experts.count};
	struct expert_layout layout;
	struct catalog_plan c;
	int rc = tensor_table_read(&p->table, p->m->files, bounce, sizeof(bounce), e);

	if (!rc)
		rc = list_moves(p, e);
	if (rc)
		return rc;
	plan_catalog(p, &c);
	index_expert_layout(&ix->config, shape.expert_type, &layout);
	shape.expert_bytes = layout.bytes;
	shape.catalog = c.bytes;
	shape.resident = place_moves(p);
	rc = pack_layout(&p->g, &shape, e);
	if (rc)
		return rc;
	for (size_t i = 0; i < p->moves; i++)
		p->move[i].to += p->g.area[PACK_RESIDENT].off;
	p->tasks = 1 +
		   (p->g.area[PACK_RESIDENT].bytes + PACK_RESIDENT_TASK - 1) / PACK_RESIDENT_TASK +
		   p->g.area[PACK_EXPERTS].count;
	rc = write_catalog(p, &c, e);
	if (!rc)
		rc = choose_table(p, o->table, e);
	return rc ? rc : name_sources(p, e);
}

int pack_plan_make(struct pack_plan *p, const struct cli_model *m, const struct pack_options *o,
		   struct err *e)
{
	*p = (struct pack_plan){.m = m, .isa = cpu_isa_best()};
	for (unsigned code = 0; code < 256; code++)
		p->e4m3[code] = e4m3_to_f32((uint8_t)code);
	if (m->files->packed)
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"%s is a packed store already: pack takes a checkpoint's directory",
				m->files->file[0].name);
	return plan(p, o, e);
}

void pack_plan_free(struct pack_plan *p)
{
	tensor_table_free(&p->table);
	free(p->catalog);
	free(p->move);
}

struct pack_task pack_task_of(const struct pack_plan *p, uint64_t n)
{
	const struct index_pack_area *a = &p->g.area[PACK_CATALOG];
	const struct index_pack_area *r = &p->g.area[PACK_RESIDENT];
	const uint64_t runs = (r->bytes + PACK_RESIDENT_TASK - 1) / PACK_RESIDENT_TASK;
	struct pack_task t = {.area = PACK_CATALOG};
	uint64_t end;

	if (n > 0 && n <= runs) {
		a = r;
		t.area = PACK_RESIDENT;
		t.piece = (n - 1) * (PACK_RESIDENT_TASK / PACK_PIECE);
	} else if (n > runs) {
		a = &p->g.area[PACK_EXPERTS];
		t.area = PACK_EXPERTS;
		t.item = n - 1 - runs;
	}
	t.address = a->off + t.item * a->stride + t.piece * PACK_PIECE;
	t.bytes = a->bytes - t.piece * PACK_PIECE;
	if (t.area == PACK_RESIDENT && t.bytes > PACK_RESIDENT_TASK)
		t.bytes = PACK_RESIDENT_TASK;
	end = t.item + 1 < a->count ? t.address + a->stride
				    : round_up(t.address + t.bytes, PACK_PIECE);
	t.span = end - t.address;
	t.leaves = (t.bytes + PACK_PIECE - 1) / PACK_PIECE;
	t.leaf = a->first_leaf + t.item * pack_pieces(a) + t.piece;
	return t;
}

uint64_t pack_span_max(const struct pack_plan *p)
{
	const uint64_t expert = round_up(p->g.area[PACK_EXPERTS].stride, PACK_PIECE) + PACK_PIECE;
	const uint64_t catalog = round_up(p->g.area[PACK_CATALOG].bytes, PACK_PIECE);
	const uint64_t most = expert > catalog ? expert : catalog;

	return most > PACK_RESIDENT_TASK ? most : PACK_RESIDENT_TASK;
}
