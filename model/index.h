/*
 * The index: everything about one model that is not weights, as flat data without pointers. The
 * loader's survey writes it once (model/store/survey.c) into the `index` object, which is then
 * sealed; the gateway, router, mla and experts map it read-only and check it with index_open before
 * they use an offset from it. The resident weights lie in the `resident` object at the offsets
 * named here; routed experts stay on the drive at the extents named here.
 */
#ifndef MODEL_INDEX_H
#define MODEL_INDEX_H

#include "model/config.h"
#include "runtime/err.h"

#include <stdint.h>

#define INDEX_MAGIC    0x58444e4954534e50ull /* "PNSTINDX" little-endian */
#define INDEX_VERSION  1u
#define RESIDENT_MAGIC 0x49534552534e50ull

enum index_type {
	INDEX_ABSENT,
	INDEX_F32,
	INDEX_BF16,
	INDEX_FP8,
	INDEX_Q4 /* routed experts of packed stores: arithmetic 13 */
};

/* An array inside the index object. */
struct index_span {
	uint64_t off, count; /* byte offset from the index's start; elements */
};

/*
 * One resident tensor. Vectors (norms, biases, correction bias) are F32 in the resident object
 * whatever they were stored as.
 */
struct index_tensor {
	uint64_t off;         /* of the data in the resident object; 64-byte aligned */
	uint64_t scale_off;   /* FP8: of the scales [ceil(n_out/128), ceil(n_in/128)] F32; else 0 */
	uint32_t n_out, n_in; /* vectors: n_out = 1 */
	uint32_t type;        /* enum index_type; INDEX_ABSENT: the layer has none */
	uint32_t pad;
};

/* The tensors of one layer by the checkpoint's names. */
struct index_layer {
	struct index_tensor input_layernorm, post_attention_layernorm;
	struct index_tensor q_a_proj, q_a_layernorm,
		q_b_proj; /* q_lora_rank 0: q_b_proj is q_proj, the other two absent */
	struct index_tensor kv_a_proj, kv_a_layernorm, kv_b_proj, o_proj;
	struct index_tensor q_a_bias, kv_a_bias, o_bias; /* attention_bias; else absent */
	struct index_tensor mlp
		[3]; /* gate, up, down of a dense layer, or of the shared experts of a MoE layer */
	struct index_tensor gate, correction_bias; /* MoE layers; the bias only with noaux_tc */
	struct index_tensor enorm, hnorm, eh_proj, shared_head_norm; /* MTP layers only */
	/* bytes of the load list up to which everything this layer needs is resident */
	uint64_t ready_after;
	uint32_t is_moe;
	uint32_t first_expert; /* MoE: index of expert 0 in index.experts */
};

enum expert_part {
	EXPERT_GATE,
	EXPERT_UP,
	EXPERT_DOWN,
	EXPERT_PARTS
};

/*
 * Where one routed expert lies on the drive. A checkpoint in place: three matrices, anywhere; its
 * FP8 scales are resident. A packed store: matrices and scales inside one extent.
 */
struct index_expert {
	struct {
		uint64_t off; /* bytes from the file's start; packed: an address of the store */
		uint64_t scale_off; /* in the resident object; packed: an address; 0: no scales */
		uint32_t file;      /* into index.files; packed: 0 */
		uint32_t pad;
	} part[EXPERT_PARTS];
};

/*
 * A packed store (model/store/pack_format.h): one address space in areas of pieces, cut into units
 * of PACK_PIECE that lie in turn in the parts of a striped set, of which there may be copies.
 */
enum {
	PACK_PIECE = 512 << 10, /* what is read and hashed at once; the unit of striping */
	PACK_HASH = 32,
	PACK_PARTS_MAX = 8,
	PACK_COPIES_MAX = 4
};
enum pack_area {
	PACK_HASHES,
	PACK_CATALOG,
	PACK_RESIDENT,
	PACK_EXPERTS,
	PACK_AREAS
};

/* `count` items of `bytes` bytes, `stride` apart; the pieces' hashes from `first_leaf` on. */
struct index_pack_area {
	uint64_t off, bytes, stride, count;
	uint64_t first_leaf;
};

struct index_pack {
	uint32_t parts;  /* of the striped set; 0: the model is a checkpoint in place */
	uint32_t copies; /* of every part; at least 1 */
	uint64_t data_off;
	uint64_t end; /* of the addresses */
	struct index_pack_area area[PACK_AREAS];
	struct index_span hashes; /* PACK_HASH bytes of every piece: the leaves */
	int8_t table[16];         /* INDEX_Q4 */
	uint16_t file[PACK_COPIES_MAX][PACK_PARTS_MAX]; /* into index.files */
};

static inline uint64_t pack_pieces(const struct index_pack_area *a)
{
	return (a->bytes + PACK_PIECE - 1) / PACK_PIECE; /* of one item */
}

/* Bytes of piece p of an item. */
static inline uint32_t pack_piece_bytes(const struct index_pack_area *a, uint64_t p)
{
	return a->bytes - p * PACK_PIECE < PACK_PIECE ? (uint32_t)(a->bytes - p * PACK_PIECE)
						      : PACK_PIECE;
}

/* Where the byte at an address lies: which part, and at which byte of it. */
static inline uint32_t pack_part(uint32_t parts, uint64_t data_off, uint64_t address, uint64_t *off)
{
	uint64_t unit = address / PACK_PIECE;

	*off = data_off + unit / parts * PACK_PIECE + address % PACK_PIECE;
	return (uint32_t)(unit % parts);
}

/*
 * A model's file. Number i is descriptor i of the list that init opened (model/store/files.h).
 */
struct index_file {
	uint64_t bytes;
	char name[256];
};

/* One read of the loader, in the order of use. */
struct index_load {
	uint64_t file_off, bytes; /* as stored; packed: an address of the store */
	uint64_t off;             /* destination in the resident object */
	uint32_t file;
	uint32_t stored; /* enum index_type as stored; BF16 vectors are widened to F32 */
	uint32_t widen;  /* 1: widen BF16 to F32 */
	uint32_t name;   /* offset of the tensor's NUL-terminated name in index.names */
};

struct index {
	uint64_t magic;
	uint32_t version, pad;
	uint64_t bytes; /* of the whole index */
	/*
	 * names the model (KV pages, fingerprint): SHA-256 over config, tensor table and file
	 * sizes; packed: the root
	 */
	uint8_t model_hash[32];
	struct model_config config;
	struct index_tensor embed, norm, head; /* head: the embedding where tied */
	struct index_span layers;              /* struct index_layer, config_layers() of them */
	struct index_span experts;             /* struct index_expert */
	struct index_span files;               /* struct index_file */
	struct index_span loads;               /* struct index_load */
	struct index_span names;               /* char */
	struct index_span tokenizer; /* bytes: the blob of model/text/tokenizer.h; count 0: none */
	/* bytes: bit id%8 of byte id/8 set where the tokenizer has id; count 0: every id */
	struct index_span candidates;
	uint64_t resident_bytes; /* of the resident object, its header included */
	uint64_t load_bytes;     /* sum over loads: progress */
	uint64_t param_count;    /* of everything stored, scales excluded */
	struct index_pack pack;
	uint32_t expert_type; /* INDEX_FP8, INDEX_BF16, or (packed) INDEX_Q4 */
	uint32_t template_id; /* enum template_id of model/text/template.h; 0: unknown or none */
	char template_problem[120];  /* why chat is off, else "" */
	char tokenizer_problem[240]; /* why there is no tokenizer, else "" */
	char warnings[480];          /* for the user, lines; else "" */
};

/* The resident object begins with this; only the loader writes it. */
struct resident_header {
	uint64_t magic;
	uint64_t bytes;
	/* bytes of the load list done, in its order; release by the loader, acquire by readers */
	_Atomic uint64_t loaded;
	uint8_t pad[40];
};

/*
 * Checks that `map` (len bytes, from another process) is an index whose every offset, count and
 * shape is inside its object, and that every tensor lies inside a resident object of
 * index.resident_bytes. Returns 0 or -EBADMSG with a text.
 */
MUST_CHECK int index_open(const struct index **out, const void *map, uint64_t len, struct err *e);

static inline const struct index_layer *index_layer(const struct index *ix, uint32_t layer)
{
	return (const struct index_layer *)(const void *)((const char *)ix + ix->layers.off) +
	       layer;
}

static inline const struct index_expert *index_expert(const struct index *ix, uint32_t layer,
						      uint32_t expert)
{
	return (const struct index_expert *)(const void *)((const char *)ix + ix->experts.off) +
	       index_layer(ix, layer)->first_expert + expert;
}

static inline const struct index_file *index_file(const struct index *ix, uint32_t file)
{
	return (const struct index_file *)(const void *)((const char *)ix + ix->files.off) + file;
}

enum {
	DRIVE_ALIGN = 4096
}; /* O_DIRECT: offsets, lengths and memory; satisfies every logical block size in use */

/* Bytes of part p of any routed expert (all have one shape), as stored, scales excluded. */
uint64_t index_part_bytes(const struct index *ix, unsigned part);

/* Bytes of one routed expert on the drive; scales that are resident excluded. */
uint64_t index_expert_bytes(const struct index *ix);

/*
 * What one routed expert is in a packed store: scales (FP8) and matrix of each part, from the
 * extent's begin, each at a multiple of 64; `bytes` is a multiple of DRIVE_ALIGN. Shapes by the
 * config, which has passed config_check.
 */
struct expert_layout {
	uint64_t scale[EXPERT_PARTS], data[EXPERT_PARTS];
	uint64_t bytes;
};
void index_expert_layout(const struct model_config *c, uint32_t type, struct expert_layout *out);

/* One read from the drive into a slot. */
struct index_read {
	uint64_t off;   /* in the file; DRIVE_ALIGN-aligned */
	uint64_t bytes; /* a multiple of DRIVE_ALIGN; may reach beyond the end of the file */
	uint64_t need;  /* of these must be there */
	uint64_t dest;  /* in the slot */
	uint64_t step;  /* from one PACK_PIECE to the next in the slot; PACK_PIECE: without a gap */
	uint32_t file;
};

enum {
	INDEX_READS_MAX = PACK_PARTS_MAX
};

/*
 * The reads that fill a slot with an expert, from that copy of a packed store; returns how many. A
 * checkpoint in place: read p brings matrix p.
 */
unsigned index_expert_reads(const struct index *ix, const struct index_expert *x, uint32_t copy,
			    struct index_read out[INDEX_READS_MAX]);

/* Where matrix `part` begins in a slot so filled. */
uint64_t index_part_place(const struct index *ix, const struct index_expert *x, unsigned part);

/* Bytes of a slot: a multiple of DRIVE_ALIGN. */
uint64_t index_slot_bytes(const struct index *ix);

/* The number of an expert among all: its item in the area PACK_EXPERTS. */
static inline uint64_t index_expert_number(const struct index *ix, const struct index_expert *x)
{
	return (uint64_t)(x - (const struct index_expert *)(const void *)((const char *)ix +
									  ix->experts.off));
}

#endif
