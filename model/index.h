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
	INDEX_FP8
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
	uint64_t
		ready_after; /* bytes of the load list up to which everything this layer needs is resident */
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
 * Where one routed expert lies on the drive: three matrices, anywhere; its FP8 scales are resident.
 */
struct index_expert {
	struct {
		uint64_t off;       /* bytes from the file's start */
		uint64_t scale_off; /* in the resident object; 0 for BF16 */
		uint32_t file;      /* into index.files */
		uint32_t pad;
	} part[EXPERT_PARTS];
};

/*
 * A checkpoint file. Number i is descriptor i of the list that init opened (model/store/files.h).
 */
struct index_file {
	uint64_t bytes;
	char name[256];
};

/* One read of the loader, in the order of use. */
struct index_load {
	uint64_t file_off, bytes; /* as stored */
	uint64_t off;             /* destination in the resident object */
	uint32_t file;
	uint32_t stored; /* enum index_type as stored; BF16 vectors are widened to F32 */
	uint32_t widen;  /* 1: widen BF16 to F32 */
	uint32_t name;   /* offset of the tensor's NUL-terminated name in index.names */
};

/* An array inside the index object. */
struct index_span {
	uint64_t off, count; /* byte offset from the index's start; elements */
};

struct index {
	uint64_t magic;
	uint32_t version, pad;
	uint64_t bytes; /* of the whole index */
	uint8_t model_hash
		[32]; /* SHA-256 over config, tensor table and file sizes: names the model (KV pages, fingerprint) */
	struct model_config config;
	struct index_tensor embed, norm, head; /* head: the embedding where tied */
	struct index_span layers;              /* struct index_layer, config_layers() of them */
	struct index_span experts;             /* struct index_expert */
	struct index_span files;               /* struct index_file */
	struct index_span loads;               /* struct index_load */
	struct index_span names;               /* char */
	struct index_span tokenizer; /* bytes: the blob of model/text/tokenizer.h; count 0: none */
	struct index_span
		candidates; /* bytes: bit id%8 of byte id/8 set where the tokenizer has id; count 0: every id */
	uint64_t resident_bytes; /* of the resident object, its header included */
	uint64_t load_bytes;     /* sum over loads: progress */
	uint64_t param_count;    /* of everything stored, scales excluded */
	uint32_t expert_type;    /* INDEX_FP8 or INDEX_BF16 */
	uint32_t template_id;    /* enum template_id of model/text/template.h; 0: unknown or none */
	char template_problem[120];  /* why chat is off, else "" */
	char tokenizer_problem[240]; /* why there is no tokenizer, else "" */
	char warnings[480];          /* for the user, lines; else "" */
};

/* The resident object begins with this; only the loader writes it. */
struct resident_header {
	uint64_t magic;
	uint64_t bytes;
	_Atomic uint64_t
		loaded; /* bytes of the load list done, in its order; release by the loader, acquire by readers */
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

/* Bytes of part p of any routed expert (all have one shape), as stored. */
static inline uint64_t index_part_bytes(const struct index *ix)
{
	return (uint64_t)ix->config.hidden_size * ix->config.moe_intermediate_size *
	       (ix->expert_type == INDEX_FP8 ? 1 : 2);
}

enum {
	DRIVE_ALIGN = 4096
}; /* O_DIRECT: offsets, lengths and memory; satisfies every logical block size in use */

/*
 * A slot holds one expert: three regions of this many bytes, each an extent rounded out to
 * DRIVE_ALIGN; the matrix of part p begins at region p + part.off % DRIVE_ALIGN.
 */
static inline uint64_t index_part_stride(const struct index *ix)
{
	return ((index_part_bytes(ix) + DRIVE_ALIGN - 1) & ~(uint64_t)(DRIVE_ALIGN - 1)) +
	       DRIVE_ALIGN;
}

static inline uint64_t index_slot_bytes(const struct index *ix)
{
	return EXPERT_PARTS * index_part_stride(ix);
}

#endif
