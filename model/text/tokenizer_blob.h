/*
 * The layout of a compiled tokenizer: written by tokenizer_compile.c, checked and read by
 * tokenizer.c and encode.c, known to nobody else. All offsets are bytes from the blob's start; all
 * arrays are aligned to their elements.
 */
#ifndef MODEL_TEXT_TOKENIZER_BLOB_H
#define MODEL_TEXT_TOKENIZER_BLOB_H

#include "model/text/tokenizer.h"

#define TOKENIZER_MAGIC   0x4b4f5454534e5050ull /* "PPNSTTOK" */
#define TOKENIZER_VERSION 1u

enum token_flags {
	TOKEN_PRESENT = 1, /* the id has a token */
	TOKEN_ADDED = 2,   /* of added_tokens */
	TOKEN_SPECIAL = 4, /* added and special */
};

/* An array: count elements at off. */
struct tokenizer_span {
	uint32_t off, count;
};

/*
 * One slot of the merge table: left and right become merged, the lowest rank first. Empty: left is
 * TOKENIZER_NONE.
 */
struct tokenizer_merge {
	uint32_t left, right, rank, merged;
};

/* An added token's own text (what is matched), which need not be what it decodes to. */
struct tokenizer_added {
	uint32_t id;
	struct tokenizer_span text; /* into the blob's text */
};

struct tokenizer_blob {
	uint64_t magic;
	uint32_t version;
	uint32_t bytes; /* of the whole blob */
	uint32_t n_ids;
	uint32_t token_max;
	struct tokenizer_span token_off; /* uint32_t [n_ids + 1], into text */
	struct tokenizer_span flags;     /* uint8_t [n_ids] */
	/*
	 * uint8_t: the decoded tokens in order of id, then the texts of added tokens and patterns
	 */
	struct tokenizer_span text;
	/* struct tokenizer_merge: a power of two of slots, at most half of them used */
	struct tokenizer_span merges;
	/* struct tokenizer_added, sorted by text; [0] normalized false, matched first; [1] true */
	struct tokenizer_span added[2];
	struct tokenizer_span split[TOKENIZER_SPLITS_MAX]; /* patterns, into text */
	uint32_t n_splits;
	uint32_t zero;
	/*
	 * Where BPE starts. TOKENIZER_NONE is allowed for bytes that UTF-8 never has: V2's
	 * vocabulary lacks them.
	 */
	uint32_t byte_id[256];
};

_Static_assert(sizeof(struct tokenizer_blob) % 8 == 0,
	       "arrays behind the header keep their alignment");

/* The table's hash. Pairs of neighbouring ids are common, so both are spread by odd constants. */
static inline uint32_t tokenizer_pair_hash(uint32_t left, uint32_t right)
{
	uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15ull;

	return (uint32_t)(h >> 32) ^ (uint32_t)(h >> 52);
}

#endif
