/*
 * The growing arrays of a survey and the writing of the index; see builder.h.
 */
#include "model/store/builder.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	RESIDENT_ALIGN = 64,
	RESIDENT_SLACK =
		256 /* behind the last tensor: vector loads of a last row may reach that far */
};

static uint64_t round_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) & ~(to - 1);
}

int builder_init(struct builder *p, const struct store_files *f, struct err *e)
{
	static const char index_name[] = "model.safetensors.index.json";

	memset(p, 0, sizeof(*p));
	p->files = f;
	p->e = e;
	p->source = f->packed                                                 ? f->file[0].name
		    : store_files_find(f, index_name, strlen(index_name)) < 0 ? "model.safetensors"
									      : index_name;
	p->resident = sizeof(struct resident_header);
	p->bounce = aligned_alloc(DRIVE_ALIGN, BUILDER_BOUNCE_BYTES);
	if (!p->bounce)
		return err_exit(e, STATUS_MEMORY, -ENOMEM,
				"no memory for reading the model's headers");
	return 0;
}

void builder_fini(struct builder *p)
{
	tensor_table_free(&p->table);
	pack_close(&p->pack);
	free(p->bounce);
	free(p->layers);
	free(p->experts);
	free(p->loads);
	free(p->names);
	free(p->tokenizer);
	free(p->candidates);
}

static int no_memory(struct builder *p)
{
	return err_exit(p->e, STATUS_MEMORY, -ENOMEM, "no memory for the model's index");
}

int builder_layers(struct builder *p, uint32_t layers)
{
	p->layers = calloc(layers, sizeof(p->layers[0]));
	return p->layers ? 0 : no_memory(p);
}

/* Doubles an array that is full. */
static void *grown(void *array, size_t n, size_t *max, size_t size)
{
	size_t more = *max ? 2 * *max : 1024;

	if (n < *max)
		return array;
	array = realloc(array, more * size);
	if (array)
		*max = more;
	return array;
}

static int add_name(struct builder *p, const struct safetensor *t, uint32_t *name)
{
	if (p->names_len + t->name_len + 1 > p->names_max) {
		size_t more = 2 * (p->names_len + t->name_len + 1) + 65536;
		char *names = realloc(p->names, more);

		if (!names || more > UINT32_MAX)
			return no_memory(p);
		p->names = names;
		p->names_max = more;
	}
	*name = (uint32_t)p->names_len;
	memcpy(p->names + p->names_len, t->name, t->name_len);
	p->names_len += t->name_len;
	p->names[p->names_len++] = 0;
	return 0;
}

int builder_load(struct builder *p, const struct safetensor *t, uint32_t stored, bool widen,
		 uint64_t *off)
{
	struct index_load *loads = grown(p->loads, p->n_loads, &p->loads_max, sizeof(loads[0]));
	struct index_load *load;
	int rc;

	if (!loads)
		return no_memory(p);
	p->loads = loads;
	load = &loads[p->n_loads];
	*load = (struct index_load){.file_off = t->off,
				    .bytes = t->bytes,
				    .off = p->resident,
				    .file = t->file,
				    .stored = stored,
				    .widen = widen};
	rc = add_name(p, t, &load->name);
	if (rc)
		return rc;
	p->n_loads++;
	*off = p->resident;
	/* Files are below 2^63 bytes and tensors do not overlap, so these sums cannot wrap. */
	p->resident = round_up(p->resident + t->bytes * (widen ? 2 : 1), RESIDENT_ALIGN);
	p->load_bytes += t->bytes;
	return 0;
}

int builder_expert(struct builder *p, const struct index_expert *expert)
{
	size_t max = p->experts_max;
	struct index_expert *experts = grown(p->experts, p->n_experts, &max, sizeof(experts[0]));

	if (!experts)
		return no_memory(p);
	p->experts = experts;
	p->experts_max = (uint32_t)max; /* at most 512 layers of 4096 */
	p->experts[p->n_experts++] = *expert;
	return 0;
}

static int compare_loads(const void *a, const void *b)
{
	const struct index_load *x = a;
	const struct index_load *y = b;

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->file_off < y->file_off ? -1 : x->file_off > y->file_off;
}

void builder_sort_loads(struct builder *p)
{
	qsort(p->loads + p->sorted, p->n_loads - p->sorted, sizeof(p->loads[0]), compare_loads);
	p->sorted = p->n_loads;
}

void builder_warn(struct builder *p, const char *format, ...)
{
	size_t used = strlen(p->warnings);
	size_t room = sizeof(p->warnings) - used;
	struct err printable = {0};
	char raw[sizeof(printable.text)];
	va_list args;
	int n;

	va_start(args, format);
	vsnprintf(raw, sizeof(raw), format, args);
	va_end(args);
	(void)err_set(&printable, -EINVAL, "%s", raw);
	n = snprintf(p->warnings + used, room, "%s\n", printable.text);
	if (n < 0 || (size_t)n >= room)
		p->warnings[used] = 0;
}

int builder_read(struct builder *p, const char *name, uint64_t max, char **text, size_t *len,
		 struct err *e)
{
	int file = store_files_find(p->files, name, strlen(name));
	const char *packed = p->files->packed ? pack_text(&p->pack, name, len) : NULL;
	uint64_t bytes;

	*text = NULL;
	if (!packed)
		*len = 0;
	if (!packed && (p->files->packed || file < 0))
		return 0;
	bytes = packed ? *len : p->files->file[file].bytes;
	if (bytes > max)
		return err_exit(e, STATUS_MODEL, -EFBIG,
				"%s: %" PRIu64 " bytes are more than the limit of %" PRIu64, name,
				bytes, max);
	*text = malloc(bytes + 1);
	if (!*text)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "%s: no memory for %" PRIu64 " bytes",
				name, bytes);
	*len = bytes;
	if (packed) {
		memcpy(*text, packed, bytes);
		return 0;
	}
	return store_read(p->files, (uint32_t)file, 0, *text, bytes, p->bounce,
			  BUILDER_BOUNCE_BYTES, e);
}

static struct index_span place(uint64_t *end, uint64_t count, uint64_t size)
{
	struct index_span span = {round_up(*end, RESIDENT_ALIGN), count};

	*end = span.off + count * size;
	return span;
}

static void copy_span(struct index *ix, struct index_span span, const void *from, size_t size)
{
	if (span.count)
		memcpy((char *)ix + span.off, from, span.count * size);
}

int builder_write(struct builder *p, void *out, size_t cap, size_t *used)
{
	struct index *ix = out;
	uint64_t end = sizeof(*ix);
	const struct index_span layers =
		place(&end, config_layers(&p->config), sizeof(p->layers[0]));
	const struct index_span experts = place(&end, p->n_experts, sizeof(p->experts[0]));
	const struct index_span files = place(&end, p->files->count, sizeof(struct index_file));
	const struct index_span loads = place(&end, p->n_loads, sizeof(p->loads[0]));
	const struct index_span names = place(&end, p->names_len, 1);

	const struct index_span tokenizer = place(&end, p->tokenizer_bytes, 1);
	const struct index_span candidates = place(&end, p->candidates_bytes, 1);
	const struct index_span hashes =
		place(&end, p->pack.map.parts ? p->pack.geometry.leaves * PACK_HASH : 0, 1);

	end = round_up(end, RESIDENT_ALIGN);
	*used = end;
	if (end > cap)
		return err_exit(p->e, STATUS_MEMORY, -ENOSPC,
				"the index needs %zu bytes, its object has %zu", *used, cap);
	memset(out, 0, end);
	ix->magic = INDEX_MAGIC;
	ix->version = INDEX_VERSION;
	ix->bytes = end;
	memcpy(ix->model_hash, p->model_hash, sizeof(ix->model_hash));
	ix->config = p->config;
	ix->embed = p->embed;
	ix->norm = p->norm;
	ix->head = p->head;
	ix->layers = layers;
	ix->experts = experts;
	ix->files = files;
	ix->loads = loads;
	ix->names = names;
	ix->tokenizer = tokenizer;
	ix->candidates = candidates;
	ix->pack = p->pack.map;
	ix->pack.hashes = hashes;
	ix->template_id = p->template_id;
	memcpy(ix->template_problem, p->template_problem, sizeof(ix->template_problem));
	memcpy(ix->tokenizer_problem, p->tokenizer_problem, sizeof(ix->tokenizer_problem));
	ix->resident_bytes = p->resident + RESIDENT_SLACK;
	ix->load_bytes = p->load_bytes;
	ix->param_count = p->param_count;
	ix->expert_type = p->expert_type ? p->expert_type : INDEX_BF16;
	memcpy(ix->warnings, p->warnings, sizeof(ix->warnings));
	copy_span(ix, layers, p->layers, sizeof(p->layers[0]));
	copy_span(ix, experts, p->experts, sizeof(p->experts[0]));
	copy_span(ix, loads, p->loads, sizeof(p->loads[0]));
	copy_span(ix, names, p->names, 1);
	copy_span(ix, tokenizer, p->tokenizer, 1);
	copy_span(ix, candidates, p->candidates, 1);
	copy_span(ix, hashes, p->pack.hashes, 1);
	for (uint32_t i = 0; i < p->files->count; i++) {
		struct index_file *file = (struct index_file *)(void *)((char *)ix + files.off) + i;

		file->bytes = p->files->file[i].bytes;
		memcpy(file->name, p->files->file[i].name, sizeof(file->name));
	}
	return 0;
}
