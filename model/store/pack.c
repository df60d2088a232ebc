/*
 * Opens packed stores and reads their pieces; see pack.h. From header to catalog each step's bytes
 * are checked by the hashes of the step before; what the hashes cannot vouch for, the catalog's
 * sense, is checked at the end.
 */
#include "model/store/pack.h"

#include "drivers/cpu/blake3.h"
#include "model/store/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct store_file *file_at(const struct pack_source *s, uint32_t copy,
					uint64_t address, uint32_t *number, uint64_t *off)
{
	uint32_t part = pack_part(s->map->parts, s->map->data_off, address, off);

	*number = s->map->file[copy][part];
	return &s->files->file[*number];
}

const char *pack_item_name(char out[48], enum pack_area area, uint64_t item)
{
	static const char *const names[] = {"the table of hashes", "the catalog",
					    "the resident tensors"};

	if (area == PACK_EXPERTS)
		snprintf(out, 48, "expert %" PRIu64, item);
	else
		snprintf(out, 48, "%s", names[area]);
	return out;
}

int pack_read_copy(const struct pack_source *s, enum pack_area area, uint64_t item, uint64_t piece,
		   uint32_t copy, void *buf, struct err *e)
{
	const struct index_pack_area *a = &s->map->area[area];
	const uint32_t len = pack_piece_bytes(a, piece);
	const uint64_t leaf = a->first_leaf + item * pack_pieces(a) + piece;
	const uint8_t *want = (area == PACK_HASHES ? s->tops : s->hashes) + leaf * PACK_HASH;
	uint8_t hash[PACK_HASH];
	char name[48];
	uint64_t off;
	uint32_t number;
	const struct store_file *from =
		file_at(s, copy, a->off + item * a->stride + piece * PACK_PIECE, &number, &off);
	int rc = store_read(s->files, number, off, buf, len, NULL, 0, e);

	if (rc)
		return rc;
	blake3(s->isa, buf, len, hash);
	if (!memcmp(hash, want, sizeof(hash)))
		return 0;
	return err_exit(e, STATUS_MODEL, -EBADMSG,
			"%s: the piece of %" PRIu32 " bytes at byte %" PRIu64
			" (%s) is damaged: its hash is another. Copy the file again",
			from->name, len, off, pack_item_name(name, area, item));
}

int pack_read(const struct pack_source *s, enum pack_area area, uint64_t item, uint64_t piece,
	      void *buf, struct err *e)
{
	int rc = -EINVAL;

	for (uint32_t copy = 0; rc && copy < s->map->copies; copy++) {
		struct err why = {0};

		rc = pack_read_copy(s, area, item, piece, copy, buf, &why);
		if (rc)
			err_exit(e, (enum err_status)why.status, rc, "%s", why.text);
	}
	if (!rc && e)
		*e = (struct err){0}; /* another copy had it */
	return rc;
}

/* ---- Headers ---- */

/* Gives a part its place; a second one of the same number is a copy of it. */
static int take_part(struct pack *p, uint32_t file, const struct pack_header *h, uint32_t have[],
		     struct err *e)
{
	const char *name = p->source.files->file[file].name;

	if (!h->complete)
		return err_exit(
			e, STATUS_MODEL, -EINPROGRESS,
			"%s: `penstock pack` was interrupted. Start it again as before, and it "
			"goes on",
			name);
	if (!file) {
		p->geometry = h->geometry;
		memcpy(p->root, h->root, sizeof(p->root));
	}
	if (memcmp(&p->geometry, &h->geometry, sizeof(p->geometry)) ||
	    memcmp(p->root, h->root, sizeof(p->root)))
		return err_exit(e, STATUS_MODEL, -EINVAL, "%s and %s are of different stores",
				p->source.files->file[0].name, name);
	if (p->source.files->file[file].bytes < pack_part_bytes(&h->geometry, h->part))
		return err_exit(e, STATUS_MODEL, -ENODATA,
				"%s: the file ends before byte %" PRIu64
				": it was cut or is still being copied",
				name, pack_part_bytes(&h->geometry, h->part));
	if (have[h->part] == PACK_COPIES_MAX)
		return err_exit(e, STATUS_MODEL, -EINVAL, "%s: more than %d copies of part %u",
				name, PACK_COPIES_MAX, h->part + 1);
	p->map.file[have[h->part]++][h->part] = (uint16_t)file;
	return 0;
}

static int read_headers(struct pack *p, void *buf, struct err *e)
{
	const struct store_files *f = p->source.files;
	const struct pack_geometry *g = &p->geometry;
	uint32_t have[PACK_PARTS_MAX] = {0};

	for (uint32_t i = 0; i < f->count; i++) {
		struct pack_header h;
		int rc = pack_header_read(f, i, buf, &h, e);

		if (!rc)
			rc = take_part(p, i, &h, have, e);
		if (rc)
			return rc;
	}
	for (uint32_t part = 0; part < g->parts; part++)
		if (!have[part] || have[part] != have[0])
			return err_exit(
				e, STATUS_MODEL, -ENOENT,
				"%s: part %u of %u is missing%s. Name the files of all parts "
				"with commas between them",
				f->file[0].name, part + 1, g->parts,
				have[part] ? " in a copy" : "");
	p->map.parts = g->parts;
	p->map.copies = have[0];
	p->map.data_off = g->data_off;
	p->map.end = g->end;
	memcpy(p->map.area, g->area, sizeof(p->map.area));
	memcpy(p->map.table, g->table, sizeof(p->map.table));
	return 0;
}

static int no_memory(struct err *e)
{
	return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the store's tables");
}

/* From the first copy whose tops fit the root. */
static int read_tops(struct pack *p, void *buf, struct err *e)
{
	const size_t bytes = p->geometry.tops * (size_t)PACK_HASH;
	uint8_t root[PACK_HASH];

	p->tops = malloc(bytes);
	if (!p->tops)
		return no_memory(e);
	for (uint32_t copy = 0; copy < p->map.copies; copy++) {
		uint32_t file = p->map.file[copy][0];
		struct err why = {0};

		if (store_read(p->source.files, file, PACK_TOPS_OFF, p->tops, bytes, buf,
			       PACK_PIECE, &why)) {
			err_exit(e, STATUS_MODEL, why.code, "%s", why.text);
			continue;
		}
		pack_root(p->source.isa, &p->geometry, p->tops, root);
		if (!memcmp(root, p->root, sizeof(root))) {
			if (e)
				*e = (struct err){0};
			return 0;
		}
		err_exit(e, STATUS_MODEL, -EBADMSG,
			 "%s: the hashes at byte %d are damaged. Copy the file again",
			 p->source.files->file[file].name, PACK_TOPS_OFF);
	}
	return e ? e->code : -EBADMSG;
}

/* A whole area of one item into memory of its own. */
static int read_area(struct pack *p, enum pack_area area, void *buf, void *to, struct err *e)
{
	const struct index_pack_area *a = &p->map.area[area];

	for (uint64_t piece = 0; piece < pack_pieces(a); piece++) {
		int rc = pack_read(&p->source, area, 0, piece, buf, e);

		if (rc)
			return rc;
		memcpy((char *)to + piece * PACK_PIECE, buf, pack_piece_bytes(a, piece));
	}
	return 0;
}

/* ---- The catalog ---- */

static const struct pack_catalog *catalog(const struct pack *p)
{
	return (const struct pack_catalog *)(const void *)p->catalog;
}

static const struct pack_text *texts(const struct pack *p)
{
	return (const struct pack_text *)(const void *)(p->catalog + sizeof(struct pack_catalog));
}

static const struct pack_tensor *tensors(const struct pack *p)
{
	return (const struct pack_tensor *)(const void *)(texts(p) + catalog(p)->texts);
}

static bool span_ok(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

static uint64_t type_bytes(unsigned stored)
{
	return stored == INDEX_F32 ? 4 : stored == INDEX_BF16 ? 2 : 1;
}

static uint64_t tensor_elements(const struct pack_tensor *t)
{
	return t->rank == 2 ? t->shape[0] * t->shape[1] : t->shape[0]; /* each below 2^32 */
}

/* Tensors in order and apart, so that no byte belongs to two. */
static bool tensor_ok(const struct pack *p, const struct pack_tensor *t, uint64_t *end)
{
	const struct index_pack_area *a = &p->map.area[PACK_RESIDENT];
	uint64_t bytes;

	if (t->rank < 1 || t->rank > 2 || t->shape[0] > UINT32_MAX || t->shape[1] > UINT32_MAX ||
	    (t->rank == 1 && t->shape[1]) || t->stored < INDEX_F32 || t->stored > INDEX_FP8 ||
	    t->off % 64 || t->off < *end ||
	    !span_ok(t->name_off, t->name_len, catalog(p)->names_bytes))
		return false;
	if (__builtin_mul_overflow(tensor_elements(t), type_bytes(t->stored), &bytes) ||
	    !span_ok(t->off - a->off, bytes, a->bytes))
		return false;
	*end = t->off + bytes;
	return true;
}

static int check_catalog(const struct pack *p, struct err *e)
{
	const uint64_t size = p->map.area[PACK_CATALOG].bytes;
	const struct pack_catalog *c = catalog(p);
	uint64_t end = p->map.area[PACK_RESIDENT].off;
	bool good;

	good = c->texts <= PACK_TEXTS_MAX && c->tensors <= PACK_TENSORS_MAX &&
	       sizeof(*c) + c->texts * sizeof(struct pack_text) +
			       (uint64_t)c->tensors * sizeof(struct pack_tensor) <=
		       size &&
	       span_ok(c->names_off, c->names_bytes, size);
	for (uint32_t i = 0; good && i < c->texts; i++)
		good = memchr(texts(p)[i].name, 0, sizeof(texts(p)[i].name)) &&
		       span_ok(texts(p)[i].off, texts(p)[i].bytes, size);
	for (uint32_t i = 0; good && i < c->tensors; i++)
		good = tensor_ok(p, &tensors(p)[i], &end);
	return good ? 0
		    : err_exit(e, STATUS_MODEL, -EBADMSG,
			       "%s: the packed store's catalog makes no sense",
			       p->source.files->file[0].name);
}

const char *pack_text(const struct pack *p, const char *name, size_t *len)
{
	for (uint32_t i = 0; i < catalog(p)->texts; i++)
		if (!strcmp(texts(p)[i].name, name)) {
			*len = texts(p)[i].bytes;
			return p->catalog + texts(p)[i].off;
		}
	return NULL;
}

int pack_table(const struct pack *p, struct tensor_table *t, struct err *e)
{
	static const uint8_t dtype[] = {
		[INDEX_F32] = DTYPE_F32, [INDEX_BF16] = DTYPE_BF16, [INDEX_FP8] = DTYPE_F8_E4M3};
	const struct pack_catalog *c = catalog(p);

	memset(t, 0, sizeof(*t));
	t->tensor = calloc(c->tensors + 1ul, sizeof(t->tensor[0]));
	if (!t->tensor)
		return no_memory(e);
	for (uint32_t i = 0; i < c->tensors; i++) {
		const struct pack_tensor *x = &tensors(p)[i];

		t->tensor[i] = (struct safetensor){
			.name = p->catalog + c->names_off + x->name_off,
			.name_len = x->name_len,
			.dtype = dtype[x->stored],
			.rank = x->rank,
			.shape = {x->shape[0], x->shape[1]},
			.off = x->off,
			.bytes = tensor_elements(x) * type_bytes(x->stored),
		};
	}
	t->count = c->tensors;
	return tensor_table_hash(t, p->source.files, e);
}

/* ---- Opening ---- */

static int open_all(struct pack *p, void *buf, struct err *e)
{
	int rc = read_headers(p, buf, e);

	if (!rc)
		rc = read_tops(p, buf, e);
	if (rc)
		return rc;
	/* not larger than the files, whose lengths have been compared */
	p->hashes = malloc(p->map.area[PACK_HASHES].bytes);
	p->catalog = malloc(p->map.area[PACK_CATALOG].bytes);
	if (!p->hashes || !p->catalog)
		return no_memory(e);
	p->source.tops = p->tops;
	p->source.hashes = p->hashes;
	rc = read_area(p, PACK_HASHES, buf, p->hashes, e);
	if (!rc)
		rc = read_area(p, PACK_CATALOG, buf, p->catalog, e);
	return rc ? rc : check_catalog(p, e);
}

int pack_open(struct pack *p, const struct store_files *f, struct err *e)
{
	void *buf = aligned_alloc(PACK_ALIGN, PACK_PIECE);
	int rc;

	memset(p, 0, sizeof(*p));
	p->source = (struct pack_source){.files = f, .map = &p->map, .isa = cpu_isa_best()};
	rc = buf ? open_all(p, buf, e) : no_memory(e);
	free(buf);
	return rc;
}

void pack_close(struct pack *p)
{
	free(p->tops);
	free(p->hashes);
	free(p->catalog);
	p->tops = p->hashes = NULL;
	p->catalog = NULL;
}
