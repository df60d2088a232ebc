/*
 * The packed store on the drive (version 1). Everything is little-endian. Written by `penstock
 * pack` (runtime/cli/pack*.c), read through model/store/pack.h and by `experts` through the index.
 *
 * A store is a set of `parts` files or block devices; each begins with the same three things, then
 * come its share of the data:
 *
 *	0                   struct pack_header, 4 KiB
 *	PACK_SETTINGS_OFF   settings of a node, 4 KiB of text (struct pack_settings); in no hash, so
 *	                    that changing them needs no new signature
 *	PACK_TOPS_OFF       the hashes of the hash table's pieces, 32 bytes each
 *	data_off            data, in units of PACK_PIECE: unit u of the store is unit u / parts of
 *	                    part u % parts
 *
 * The data are one address space, bytes from 0, cut into four areas. An area has `count` items of
 * `bytes` bytes, `stride` apart; an item is read in pieces of PACK_PIECE, of which the last is
 * shorter. Pieces begin and end at multiples of PACK_ALIGN, and with several parts none lies in two
 * units. What lies between items and areas is zero.
 *
 *	PACK_HASHES     the hash of every piece of the other areas, in their order: the leaves
 *	PACK_CATALOG    struct pack_catalog: the checkpoint's texts, and the resident tensors' names
 *	PACK_RESIDENT   the resident tensors as the checkpoint has them, in the order of use
 *	PACK_EXPERTS    one item per routed expert, in the order of the layers: gate, up, down, each
 *	                with its scales before it (index_expert_layout)
 *
 * Hash: BLAKE3. The tree has three levels: pieces, pieces of the hash table, and `root`, which is
 * the hash of the geometry and the tops; so the root vouches for every byte but the settings. A
 * part's number, its root and the state of a pack that has not ended stand beside the geometry.
 *
 * Where everything lies follows from five numbers (pack_layout), so a header is checked by
 * computing it again.
 */
#ifndef MODEL_STORE_PACK_FORMAT_H
#define MODEL_STORE_PACK_FORMAT_H

#include "model/index.h"

#include <stdint.h>

#define PACK_MAGIC   0x45524f54534e4550ull /* "PENSTORE" */
#define PACK_VERSION 1u

enum {
	PACK_ALIGN = 4096,
	PACK_SETTINGS_OFF = 4096,
	PACK_TOPS_OFF = 8192,
	PACK_HASHES_PER_PIECE = PACK_PIECE / PACK_HASH,
	PACK_TOPS_MAX = 1024, /* 8.8 TB of data, 512 MiB of hashes */
	PACK_CATALOG_MAX = 192 << 20,
	PACK_TENSORS_MAX = 1 << 20,
	PACK_TEXTS_MAX = 16
};

struct pack_geometry {
	uint32_t parts;
	uint32_t piece_bytes; /* PACK_PIECE */
	uint32_t expert_type; /* enum index_type */
	uint32_t tops;
	uint64_t data_off; /* in each part */
	uint64_t leaves;   /* pieces of catalog, resident tensors and experts */
	uint64_t end;      /* of the data's addresses; a multiple of PACK_PIECE */
	struct index_pack_area area[PACK_AREAS];
	int8_t table[16]; /* INDEX_Q4: what the codes stand for (arithmetic 13); else 0 */
	uint8_t zero[64];
};

struct pack_header {
	uint64_t magic;
	uint32_t version;
	uint32_t complete;      /* 0: `penstock pack` has not ended; continue it */
	uint8_t sum[PACK_HASH]; /* of the whole header, with this zero */
	struct pack_geometry geometry;
	uint32_t part; /* this one's number */
	uint32_t pad;
	uint8_t root[PACK_HASH];    /* complete: hash of geometry and tops */
	uint8_t journal[PACK_HASH]; /* not complete: hash of geometry, sources and options */
};

/* Bytes of the header's place; what is behind the struct is zero. */
#define PACK_HEADER_BYTES 4096
_Static_assert(sizeof(struct pack_header) <= PACK_HEADER_BYTES, "the header fits in its place");

/* Text such as "context=8192\nparallel=4\n": options of `penstock run` without their dashes. */
struct pack_settings {
	uint8_t sum[PACK_HASH]; /* of the text; all zero: no settings */
	char text[4064];        /* NUL-terminated */
};
_Static_assert(sizeof(struct pack_settings) == 4096, "settings are one page");

/* The catalog: this, texts, tensors, names, then the texts' bytes. */
struct pack_catalog {
	uint32_t texts, tensors;
	uint64_t names_off, names_bytes; /* from the catalog's begin */
};

struct pack_text {
	char name[48];       /* of the checkpoint's file: "config.json" */
	uint64_t off, bytes; /* from the catalog's begin */
};

struct pack_tensor {
	uint64_t off; /* an address of the resident area, multiple of 64, ascending */
	uint64_t shape[2];
	uint32_t name_off; /* in names */
	uint16_t name_len;
	uint8_t stored; /* enum index_type: F32, BF16 or FP8 */
	uint8_t rank;   /* 1 or 2 */
};

#endif
