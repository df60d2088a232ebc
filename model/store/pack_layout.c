/*
 * Where everything in a packed store lies, and the reading of one header; see pack.h. Used by the
 * reader and the writer alike.
 */
#include "model/store/pack.h"

#include "drivers/cpu/blake3.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static uint64_t round_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) & ~(to - 1);
}

/* Places an area at *end, and its leaves at *leaves. */
static void place(struct index_pack_area *a, uint64_t bytes, uint64_t stride, uint64_t count,
		  uint64_t *end, uint64_t *leaves)
{
	*a = (struct index_pack_area){.off = *end,
				      .bytes = bytes,
				      .stride = stride,
				      .count = count,
				      .first_leaf = *leaves};
	*end = round_up(a->off + count * stride, PACK_PIECE);
	*leaves += count * pack_pieces(a);
}

/* Every number in its limit, so that no sum below can wrap: at most 2^60 bytes in all. */
static bool shape_ok(const struct pack_shape *s)
{
	const uint64_t most = (uint64_t)1 << 44;
	const uint64_t experts_most = (uint64_t)CONFIG_LAYERS_MAX * CONFIG_EXPERTS_MAX;

	return s->parts && s->parts <= PACK_PARTS_MAX && s->catalog &&
	       s->catalog <= PACK_CATALOG_MAX && s->resident && s->resident <= most &&
	       s->expert_bytes && s->expert_bytes <= (uint64_t)1 << 30 &&
	       !(s->expert_bytes % PACK_ALIGN) && s->experts <= experts_most &&
	       (s->expert_type == INDEX_FP8 || s->expert_type == INDEX_BF16 ||
		s->expert_type == INDEX_Q4);
}

int pack_layout(struct pack_geometry *g, const struct pack_shape *s, struct err *e)
{
	uint64_t leaves = 0, none = 0, end = 0, hashes;
	uint64_t catalog = round_up(s->catalog, PACK_ALIGN);
	uint64_t resident = round_up(s->resident, PACK_ALIGN);
	uint64_t stride = s->parts > 1 ? round_up(s->expert_bytes, PACK_PIECE) : s->expert_bytes;
	struct index_pack_area *a = g->area;

	memset(g, 0, sizeof(*g));
	if (!shape_ok(s))
		return err_exit(e, STATUS_MODEL, -EINVAL,
				"the sizes of a packed store are impossible");
	/* twice: how long the table of hashes is decides where the rest lies, and nothing else */
	for (unsigned round = 0; round < 2; round++) {
		hashes = leaves ? leaves * PACK_HASH : PACK_ALIGN;
		end = leaves = 0;
		place(&a[PACK_HASHES], round_up(hashes, PACK_ALIGN), round_up(hashes, PACK_PIECE),
		      1, &end, &none);
		place(&a[PACK_CATALOG], catalog, round_up(catalog, PACK_PIECE), 1, &end, &leaves);
		place(&a[PACK_RESIDENT], resident, round_up(resident, PACK_PIECE), 1, &end,
		      &leaves);
		place(&a[PACK_EXPERTS], s->expert_bytes, stride, s->experts, &end, &leaves);
	}
	a[PACK_HASHES].first_leaf = 0;
	g->parts = s->parts;
	g->piece_bytes = PACK_PIECE;
	g->expert_type = s->expert_type;
	g->tops = (uint32_t)pack_pieces(&a[PACK_HASHES]);
	g->data_off = round_up(PACK_TOPS_OFF + g->tops * (uint64_t)PACK_HASH, PACK_ALIGN);
	g->leaves = leaves;
	g->end = end;
	memcpy(g->table, s->table, sizeof(g->table));
	if (pack_pieces(&a[PACK_HASHES]) > PACK_TOPS_MAX)
		return err_exit(e, STATUS_MODEL, -EFBIG,
				"a packed store has at most %d times %d pieces of 512 KiB",
				PACK_TOPS_MAX, PACK_HASHES_PER_PIECE);
	return 0;
}

uint64_t pack_part_bytes(const struct pack_geometry *g, uint32_t part)
{
	uint64_t units = g->end / PACK_PIECE;

	return g->data_off + (units / g->parts + (part < units % g->parts)) * PACK_PIECE;
}

void pack_root(enum cpu_isa isa, const struct pack_geometry *g, const uint8_t *tops,
	       uint8_t root[PACK_HASH])
{
	uint8_t all[sizeof(*g) + PACK_TOPS_MAX * PACK_HASH];

	memcpy(all, g, sizeof(*g));
	memcpy(all + sizeof(*g), tops, g->tops * (size_t)PACK_HASH);
	blake3(isa, all, sizeof(*g) + g->tops * (size_t)PACK_HASH, root);
}

/* Whether a header's geometry is the one that its own numbers lead to. */
static bool geometry_ok(const struct pack_geometry *g)
{
	struct pack_shape s = {.parts = g->parts,
			       .expert_type = g->expert_type,
			       .catalog = g->area[PACK_CATALOG].bytes,
			       .resident = g->area[PACK_RESIDENT].bytes,
			       .expert_bytes = g->area[PACK_EXPERTS].bytes,
			       .experts = g->area[PACK_EXPERTS].count};
	struct pack_geometry again = {0};

	memcpy(s.table, g->table, sizeof(s.table));
	return !pack_layout(&again, &s, NULL) && !memcmp(g, &again, sizeof(again));
}

int pack_header_read(const struct store_files *f, uint32_t file, void *buf, struct pack_header *h,
		     struct err *e)
{
	const struct store_file *from = &f->file[file];
	uint8_t sum[PACK_HASH], want[PACK_HASH];
	int rc = 0;

	if (from->bytes >= PACK_HEADER_BYTES)
		rc = store_read(f, file, 0, buf, PACK_HEADER_BYTES, NULL, 0, e);
	if (rc)
		return rc;
	memcpy(h, buf, sizeof(*h));
	if (from->bytes < PACK_HEADER_BYTES || h->magic != PACK_MAGIC)
		return err_exit(
			e, STATUS_MODEL, -ENOTSUP,
			"%s: not a packed store. A model is a checkpoint's directory, or what "
			"`penstock pack` has written",
			from->name);
	if (h->version != PACK_VERSION)
		return err_exit(e, STATUS_MODEL, -ENOTSUP,
				"%s: a packed store of version %" PRIu32 ", this program reads %u",
				from->name, h->version, PACK_VERSION);
	memcpy(want, h->sum, sizeof(want));
	memset((char *)buf + offsetof(struct pack_header, sum), 0, sizeof(h->sum));
	blake3(CPU_SCALAR, buf, PACK_HEADER_BYTES, sum);
	if (memcmp(sum, want, sizeof(sum)) || h->complete > 1 || h->part >= h->geometry.parts ||
	    !geometry_ok(&h->geometry))
		return err_exit(e, STATUS_MODEL, -EBADMSG,
				"%s: the packed store's header is damaged. Copy the file again",
				from->name);
	return 0;
}
