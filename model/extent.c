/*
 * Where the bytes of a routed expert lie: on the drive and in a slot, for checkpoints in place and
 * for packed stores; see index.h.
 */
#include "model/index.h"

#include "drivers/cpu/kernels.h"
#include "model/tensors.h"

static uint64_t round_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) & ~(to - 1);
}

static uint64_t matrix_bytes(const struct model_config *c, uint32_t type, unsigned part)
{
	uint32_t n_out, n_in;

	tensor_expert_shape(c, part, &n_out, &n_in);
	return weight_bytes(type == INDEX_FP8  ? WEIGHT_FP8
			    : type == INDEX_Q4 ? WEIGHT_Q4
					       : WEIGHT_BF16,
			    n_out, n_in);
}

static uint64_t scale_bytes(const struct model_config *c, uint32_t type, unsigned part)
{
	uint32_t n_out, n_in;

	tensor_expert_shape(c, part, &n_out, &n_in);
	return type == INDEX_FP8 ? tensor_blocks(n_out) * tensor_blocks(n_in) * sizeof(float) : 0;
}

uint64_t index_part_bytes(const struct index *ix, unsigned part)
{
	return matrix_bytes(&ix->config, ix->expert_type, part);
}

uint64_t index_expert_bytes(const struct index *ix)
{
	uint64_t sum = 0;

	if (ix->pack.parts)
		return ix->pack.area[PACK_EXPERTS].bytes;
	for (unsigned part = 0; part < EXPERT_PARTS; part++)
		sum += index_part_bytes(ix, part);
	return sum;
}

void index_expert_layout(const struct model_config *c, uint32_t type, struct expert_layout *out)
{
	uint64_t at = 0;

	for (unsigned p = 0; p < EXPERT_PARTS; p++) {
		out->scale[p] = at;
		at = round_up(at + scale_bytes(c, type, p), 64);
		out->data[p] = at;
		at = round_up(at + matrix_bytes(c, type, p), 64);
	}
	out->bytes =
		at ? round_up(at, DRIVE_ALIGN) : DRIVE_ALIGN; /* a dense model has no experts */
}

/*
 * A checkpoint in place: each part has a region of this many bytes in the slot, the part's extent
 * rounded out to DRIVE_ALIGN; its matrix begins at off % DRIVE_ALIGN of the region.
 */
static uint64_t region_bytes(const struct index *ix)
{
	return round_up(index_part_bytes(ix, EXPERT_GATE), DRIVE_ALIGN) + DRIVE_ALIGN;
}

static uint64_t extent_off(const struct index *ix, const struct index_expert *x)
{
	const struct index_pack_area *a = &ix->pack.area[PACK_EXPERTS];

	return a->off + index_expert_number(ix, x) * a->stride;
}

/* A part's share of an extent is one run of its file, whose units lie apart in the slot. */
static unsigned packed_reads(const struct index *ix, const struct index_expert *x, uint32_t copy,
			     struct index_read out[INDEX_READS_MAX])
{
	const struct index_pack *k = &ix->pack;
	const struct index_pack_area *a = &k->area[PACK_EXPERTS];
	const uint64_t begin = extent_off(ix, x);
	unsigned n = 0;

	if (k->parts == 1) {
		out[0] = (struct index_read){.bytes = a->bytes,
					     .need = a->bytes,
					     .step = PACK_PIECE,
					     .file = k->file[copy][0]};
		pack_part(1, k->data_off, begin, &out[0].off);
		return 1;
	}
	for (uint64_t piece = 0; piece < pack_pieces(a); piece++) {
		struct index_read *r = &out[piece % k->parts];

		if (piece < k->parts) {
			*r = (struct index_read){.dest = piece * PACK_PIECE,
						 .step = (uint64_t)k->parts * PACK_PIECE};
			r->file = k->file[copy][pack_part(k->parts, k->data_off,
							  begin + piece * PACK_PIECE, &r->off)];
			n++;
		}
		r->bytes += pack_piece_bytes(a, piece);
		r->need = r->bytes;
	}
	return n;
}

unsigned index_expert_reads(const struct index *ix, const struct index_expert *x, uint32_t copy,
			    struct index_read out[INDEX_READS_MAX])
{
	if (ix->pack.parts)
		return packed_reads(ix, x, copy, out);
	for (unsigned p = 0; p < EXPERT_PARTS; p++) {
		uint64_t skip = x->part[p].off % DRIVE_ALIGN;
		uint64_t need = skip + index_part_bytes(ix, p);

		out[p] = (struct index_read){.off = x->part[p].off - skip,
					     .bytes = round_up(need, DRIVE_ALIGN),
					     .need = need,
					     .dest = p * region_bytes(ix),
					     .step = PACK_PIECE,
					     .file = x->part[p].file};
	}
	return EXPERT_PARTS;
}

uint64_t index_part_place(const struct index *ix, const struct index_expert *x, unsigned part)
{
	if (ix->pack.parts)
		return x->part[part].off - extent_off(ix, x);
	return part * region_bytes(ix) + x->part[part].off % DRIVE_ALIGN;
}

uint64_t index_slot_bytes(const struct index *ix)
{
	return ix->pack.parts ? ix->pack.area[PACK_EXPERTS].bytes : EXPERT_PARTS * region_bytes(ix);
}
