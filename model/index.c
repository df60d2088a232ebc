/*
 * Checks an index that another process wrote before anybody uses an offset from it; see index.h.
 */
#include "model/index.h"

#include "model/tensors.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static int bad(struct err *e, const char *what)
{
	return err_exit(e, STATUS_FAILED, -EBADMSG, "index: %s", what);
}

static bool span_ok(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off; /* nothing here can wrap */
}

static bool array_ok(const struct index *ix, const struct index_span *s, uint64_t size)
{
	uint64_t bytes;

	return !(s->off % 64) && s->off >= sizeof(*ix) &&
	       !__builtin_mul_overflow(s->count, size, &bytes) && span_ok(s->off, bytes, ix->bytes);
}

static int check_spans(const struct index *ix, struct err *e)
{
	const struct {
		const struct index_span *span;
		uint64_t size;
	} arrays[] = {
		{&ix->layers, sizeof(struct index_layer)},
		{&ix->experts, sizeof(struct index_expert)},
		{&ix->files, sizeof(struct index_file)},
		{&ix->loads, sizeof(struct index_load)},
		{&ix->names, 1},
	};

	for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
		if (!array_ok(ix, arrays[i].span, arrays[i].size))
			return bad(e, "an array lies outside the object");
	/*
	 * Without a tokenizer these are empty, and still nobody shall compute an address outside
	 * the object.
	 */
	if (!span_ok(ix->tokenizer.off, ix->tokenizer.count, ix->bytes) || ix->tokenizer.off % 8 ||
	    !span_ok(ix->candidates.off, ix->candidates.count, ix->bytes))
		return bad(e, "the tokenizer lies outside the object");
	if (ix->candidates.count &&
	    ix->candidates.count != ((uint64_t)ix->config.vocab_size + 7) / 8)
		return bad(e, "the candidates do not match the vocabulary");
	if (ix->layers.count != config_layers(&ix->config))
		return bad(e, "the number of layers does not match the config");
	if (ix->names.count && ((const char *)ix + ix->names.off)[ix->names.count - 1])
		return bad(e, "the names are not terminated");
	return 0;
}

/*
 * An absent tensor is all zero but for what the table says; a present one has the expected shape
 * and lies inside the resident object.
 */
static bool tensor_ok(const struct index *ix, const struct index_tensor *t,
		      const struct tensor_spec *spec)
{
	const uint64_t size = ix->resident_bytes;
	uint64_t elements;

	if (!spec)
		return t->type == INDEX_ABSENT;
	if (t->n_out != spec->n_out || t->n_in != spec->n_in)
		return false;
	if (t->off % 64 || t->off < sizeof(struct resident_header))
		return false;
	elements = (uint64_t)t->n_out * t->n_in;
	if (spec->kind == TENSOR_VECTOR)
		return t->type == INDEX_F32 && span_ok(t->off, elements * 4, size);
	if (t->type == INDEX_BF16)
		return span_ok(t->off, elements * 2, size);
	return t->type == INDEX_FP8 && spec->kind == TENSOR_MATRIX &&
	       span_ok(t->off, elements, size) && !(t->scale_off % 64) &&
	       t->scale_off >= sizeof(struct resident_header) &&
	       span_ok(t->scale_off, tensor_blocks(t->n_out) * tensor_blocks(t->n_in) * 4, size);
}

static bool layer_ok(const struct index *ix, uint32_t number)
{
	const struct index_layer *layer = index_layer(ix, number);
	const struct model_config *c = &ix->config;

	for (unsigned which = 0; which < LAYER_TENSORS; which++) {
		struct tensor_spec spec;
		bool has = tensor_spec(c, number, which, &spec);
		const struct index_tensor *t =
			(const struct index_tensor *)(const void *)((const char *)layer +
								    spec.member);

		if (!tensor_ok(ix, t, has ? &spec : NULL))
			return false;
	}
	if (layer->ready_after > ix->load_bytes || layer->is_moe != config_is_moe(c, number))
		return false;
	return !layer->is_moe ||
	       span_ok(layer->first_expert, c->n_routed_experts, ix->experts.count);
}

/* Bytes that can be read of a file, or of a packed store's addresses. */
static uint64_t source_bytes(const struct index *ix, uint32_t file)
{
	return ix->pack.parts ? ix->pack.end : index_file(ix, file)->bytes;
}

/* In a packed store everything about an expert follows from its number. */
static bool packed_expert_ok(const struct index *ix, const struct index_expert *expert,
			     const struct expert_layout *layout)
{
	const struct index_pack_area *a = &ix->pack.area[PACK_EXPERTS];
	const uint64_t begin = a->off + index_expert_number(ix, expert) * a->stride;

	for (unsigned part = 0; part < EXPERT_PARTS; part++) {
		uint64_t scale = ix->expert_type == INDEX_FP8 ? begin + layout->scale[part] : 0;

		if (expert->part[part].off != begin + layout->data[part] ||
		    expert->part[part].scale_off != scale || expert->part[part].file)
			return false;
	}
	return true;
}

static bool area_ok(const struct index *ix, const struct index_pack_area *a)
{
	uint64_t len;
	uint64_t leaves;

	/* the last item ends inside the addresses, and every piece has its hash */
	return !(a->off % PACK_PIECE) && a->bytes && !(a->bytes % DRIVE_ALIGN) &&
	       a->stride >= a->bytes && !(a->stride % DRIVE_ALIGN) &&
	       (ix->pack.parts == 1 || !(a->stride % PACK_PIECE)) &&
	       !__builtin_mul_overflow(a->count, a->stride, &len) &&
	       span_ok(a->off, len, ix->pack.end) &&
	       !__builtin_mul_overflow(a->count, pack_pieces(a), &leaves) &&
	       span_ok(a->first_leaf, leaves, ix->pack.hashes.count / PACK_HASH);
}

static int check_pack(const struct index *ix, struct err *e)
{
	const struct index_pack *k = &ix->pack;
	struct expert_layout layout;

	if (!k->parts)
		return 0;
	if (k->parts > PACK_PARTS_MAX || !k->copies || k->copies > PACK_COPIES_MAX ||
	    k->data_off % DRIVE_ALIGN || k->data_off > (uint64_t)1 << 48 ||
	    k->end > (uint64_t)1 << 60 || k->end % PACK_PIECE)
		return bad(e, "the packed store's parts are impossible");
	if (!array_ok(ix, &k->hashes, 1))
		return bad(e, "the hashes lie outside the object");
	if (!area_ok(ix, &k->area[PACK_RESIDENT]) || !area_ok(ix, &k->area[PACK_EXPERTS]) ||
	    k->area[PACK_RESIDENT].count != 1)
		return bad(e, "an area lies outside the packed store");
	index_expert_layout(&ix->config, ix->expert_type, &layout);
	if (k->area[PACK_EXPERTS].bytes != layout.bytes ||
	    k->area[PACK_EXPERTS].count != ix->experts.count)
		return bad(e, "the packed experts do not match the config");
	for (uint32_t c = 0; c < k->copies; c++)
		for (uint32_t p = 0; p < k->parts; p++)
			if (k->file[c][p] >= ix->files.count)
				return bad(e, "a part has no file");
	return 0;
}

static bool expert_ok(const struct index *ix, const struct index_expert *expert)
{
	struct expert_layout layout;

	if (ix->pack.parts) {
		index_expert_layout(&ix->config, ix->expert_type, &layout);
		return packed_expert_ok(ix, expert, &layout);
	}
	for (unsigned part = 0; part < EXPERT_PARTS; part++) {
		uint64_t scale = expert->part[part].scale_off;
		uint32_t n_out;
		uint32_t n_in;

		tensor_expert_shape(&ix->config, part, &n_out, &n_in);
		if (expert->part[part].file >= ix->files.count ||
		    !span_ok(expert->part[part].off, index_part_bytes(ix, part),
			     index_file(ix, expert->part[part].file)->bytes))
			return false;
		if (ix->expert_type == INDEX_BF16)
			continue;
		if (scale % 64 || scale < sizeof(struct resident_header) ||
		    !span_ok(scale, tensor_blocks(n_out) * tensor_blocks(n_in) * 4,
			     ix->resident_bytes))
			return false;
	}
	return true;
}

/* Reads of a packed store stay in the area of resident tensors, whose pieces have hashes. */
static bool load_in_area(const struct index *ix, const struct index_load *load)
{
	const struct index_pack_area *a = &ix->pack.area[PACK_RESIDENT];

	return !ix->pack.parts || (load->file_off >= a->off &&
				   span_ok(load->file_off - a->off, load->bytes, a->bytes));
}

static int check_loads(const struct index *ix, struct err *e)
{
	const struct index_load *load =
		(const struct index_load *)(const void *)((const char *)ix + ix->loads.off);
	uint64_t sum = 0;

	for (uint64_t i = 0; i < ix->loads.count; i++, load++) {
		uint64_t size = load->stored == INDEX_F32 ? 4 : load->stored == INDEX_BF16 ? 2 : 1;

		if (load->stored < INDEX_F32 || load->stored > INDEX_FP8 || load->widen > 1 ||
		    (load->widen && load->stored != INDEX_BF16) || load->bytes % size ||
		    load->file >= ix->files.count || load->name >= ix->names.count ||
		    !span_ok(load->file_off, load->bytes, source_bytes(ix, load->file)) ||
		    load->off % 64 || load->off < sizeof(struct resident_header) ||
		    !load_in_area(ix, load) ||
		    !span_ok(load->off, load->bytes, ix->resident_bytes) ||
		    !span_ok(load->off, load->bytes << load->widen, ix->resident_bytes))
			return bad(e, "a read lies outside its file or the resident object");
		sum += load->bytes;
	}
	return sum == ix->load_bytes ? 0 : bad(e, "the reads do not add up");
}

static int check_ends(const struct index *ix, struct err *e)
{
	const struct model_config *c = &ix->config;
	const struct tensor_spec table = {
		.kind = TENSOR_PLAIN, .n_out = c->vocab_size, .n_in = c->hidden_size};
	const struct tensor_spec norm = {.kind = TENSOR_VECTOR, .n_out = 1, .n_in = c->hidden_size};

	if (!tensor_ok(ix, &ix->embed, &table) || !tensor_ok(ix, &ix->head, &table) ||
	    !tensor_ok(ix, &ix->norm, &norm))
		return bad(e, "embedding, norm or head lies outside the resident object");
	return 0;
}

int index_open(const struct index **out, const void *map, uint64_t len, struct err *e)
{
	const struct index *ix = map;
	const uint64_t size_max = (uint64_t)1 << 48; /* keeps every sum below 2^64 */
	int rc;

	if (len < sizeof(*ix) || ix->magic != INDEX_MAGIC)
		return bad(e, "not an index");
	if (ix->version != INDEX_VERSION)
		return bad(e, "of another version");
	if (ix->bytes < sizeof(*ix) || ix->bytes > len)
		return bad(e, "longer than its object");
	if (ix->resident_bytes < sizeof(struct resident_header) || ix->resident_bytes > size_max)
		return bad(e, "the resident object's size is impossible");
	if (ix->expert_type != INDEX_FP8 && ix->expert_type != INDEX_BF16 &&
	    (ix->expert_type != INDEX_Q4 || !ix->pack.parts))
		return bad(e, "the experts' type is unknown");
	if (memchr(ix->template_problem, 0, sizeof(ix->template_problem)) == NULL ||
	    memchr(ix->tokenizer_problem, 0, sizeof(ix->tokenizer_problem)) == NULL ||
	    memchr(ix->warnings, 0, sizeof(ix->warnings)) == NULL)
		return bad(e, "a text is not terminated");
	rc = config_check(&ix->config, e);
	if (!rc)
		rc = check_spans(ix, e);
	for (uint64_t i = 0; !rc && i < ix->files.count; i++)
		if (!memchr(index_file(ix, (uint32_t)i)->name, 0, sizeof(index_file(ix, 0)->name)))
			rc = bad(e, "a file's name is not terminated");
	if (!rc)
		rc = check_pack(ix, e);
	if (!rc)
		rc = check_loads(ix, e);
	if (!rc)
		rc = check_ends(ix, e);
	for (uint32_t l = 0; !rc && l < ix->layers.count; l++)
		if (!layer_ok(ix, l))
			rc = bad(e, "a layer does not match the config");
	for (uint64_t i = 0; !rc && i < ix->experts.count; i++)
		if (!expert_ok(ix, (const struct index_expert *)(const void *)((const char *)ix +
									       ix->experts.off) +
					   i))
			rc = bad(e, "an expert lies outside its file");
	if (!rc)
		*out = ix;
	return rc;
}
