/*
 * Reading a packed store (its format: pack_format.h): header, hashes and catalog, all of it hostile
 * until its hash is right, and pieces of the other areas. Called by the survey, the loading of
 * resident weights, and `verify` and `tokenize`; `experts` reads its extents itself.
 */
#ifndef MODEL_STORE_PACK_H
#define MODEL_STORE_PACK_H

#include "drivers/cpu/kernels.h"
#include "model/store/files.h"
#include "model/store/pack_format.h"
#include "model/store/table.h"

/* Where pieces are read from, and what their hashes must be. */
struct pack_source {
	const struct store_files *files;
	const struct index_pack *map;
	const uint8_t *tops,
		*hashes; /* PACK_HASH bytes each; tops NULL: no pieces of PACK_HASHES */
	enum cpu_isa isa;
};

struct pack {
	struct pack_source source;
	struct pack_geometry geometry;
	struct index_pack map; /* .hashes is the survey's to set */
	uint8_t root[PACK_HASH];
	uint8_t *tops, *hashes;
	char *catalog;
};

/* What decides where everything lies. */
struct pack_shape {
	uint32_t parts;
	uint32_t expert_type;       /* enum index_type */
	uint64_t catalog, resident; /* bytes */
	uint64_t expert_bytes, experts;
	int8_t table[16];
};

/* Fills all of *g. -EINVAL with a text for numbers out of their limits; status 3. */
MUST_CHECK int pack_layout(struct pack_geometry *g, const struct pack_shape *s, struct err *e);

/* Bytes of a part from its begin. */
uint64_t pack_part_bytes(const struct pack_geometry *g, uint32_t part);

/* The hash over geometry and tops. */
void pack_root(enum cpu_isa isa, const struct pack_geometry *g, const uint8_t *tops,
	       uint8_t root[PACK_HASH]);

/*
 * Reads the header of file number `file` and checks it by itself: magic, version, sum, geometry.
 * -ENOTSUP where the file is no packed store at all. `buf` is PACK_HEADER_BYTES, aligned to
 * PACK_ALIGN. A header of a pack that has not ended passes.
 */
MUST_CHECK int pack_header_read(const struct store_files *f, uint32_t file, void *buf,
				struct pack_header *h, struct err *e);

/*
 * Opens the store that the files make up: puts parts and copies in order, reads and checks headers,
 * hashes and catalog. The files must outlive *p. Returns 0, or -errno with status 3 and a text; the
 * caller closes in both cases.
 */
MUST_CHECK int pack_open(struct pack *p, const struct store_files *f, struct err *e);
void pack_close(struct pack *p);

/* A text of the catalog, borrowed; NULL if the store has none of that name. */
const char *pack_text(const struct pack *p, const char *name, size_t *len);

/*
 * The resident tensors as a table; `file` of each is 0, `off` an address. The names are borrowed.
 * The caller frees in both cases.
 */
MUST_CHECK int pack_table(const struct pack *p, struct tensor_table *t, struct err *e);

/*
 * Reads one piece into buf (PACK_PIECE bytes, aligned to PACK_ALIGN) and checks it: from `copy`
 * alone, or (pack_read) from the first copy that has it whole. -EBADMSG: the hash is another. Texts
 * name file and byte.
 */
MUST_CHECK int pack_read_copy(const struct pack_source *s, enum pack_area area, uint64_t item,
			      uint64_t piece, uint32_t copy, void *buf, struct err *e);
MUST_CHECK int pack_read(const struct pack_source *s, enum pack_area area, uint64_t item,
			 uint64_t piece, void *buf, struct err *e);

/* "the catalog", "expert 17": what an item is, for messages. */
const char *pack_item_name(char out[48], enum pack_area area, uint64_t item);

#endif
