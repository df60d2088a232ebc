/*
 * The tokenizer: text to token ids and back, exactly as the `tokenizers` library does it with a
 * byte-level BPE tokenizer.json (specification 7). Two halves. The loader parses the hostile JSON
 * once and compiles it into a blob: flat arrays without pointers, which travel inside the `index`
 * object. The gateway and the commands open a blob read-only; opening checks it as if it were
 * hostile too, and nothing allocates afterwards.
 *
 *	need = tokenizer_scratch_bytes(longest);
 *	tokenizer_open(&t, blob, bytes, scratch, need, &e);
 *	n = tokenizer_encode(&t, text, len, ENCODE_MARKERS, ids, cap, &e);
 *
 * One struct tokenizer serves one thread: encoding uses its scratch memory. What only reads (find,
 * token_bytes, the detokenizer) may be called from anywhere.
 */
#ifndef MODEL_TEXT_TOKENIZER_H
#define MODEL_TEXT_TOKENIZER_H

#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tokenizer_blob;
struct tokenizer_merge;
struct tokenizer_added;

enum {
	TOKENIZER_SPLITS_MAX = 16, /* Split pre-tokenizers in a row; published files have 3 to 6 */
	TOKENIZER_IDS_MAX =
		1 << 24, /* ids are below this; the largest published vocabulary has 2^18 */
	TOKENIZER_JSON_MAX = 64 << 20,    /* bytes of a tokenizer.json (api.md) */
	TOKENIZER_PATTERN_MAX = 64 << 10, /* bytes of one pattern; V2's longest has 1,100 */
	TOKENIZER_PCRE2_BYTES =
		4 << 20, /* scratch for compiled patterns and the matcher's backtracking */
};

#define TOKENIZER_NONE UINT32_MAX /* no such id */

struct tokenizer {
	const struct tokenizer_blob *blob;
	const uint32_t *token_off; /* [n_ids + 1] into text: the bytes of a token, decoded */
	const uint8_t *flags;      /* [n_ids] */
	const uint8_t *text;
	const struct tokenizer_merge *merges;   /* open addressing, merge_mask + 1 slots */
	const struct tokenizer_added *added[2]; /* sorted by text; [0] is matched before [1] */
	uint32_t n_added[2];
	uint32_t n_ids; /* ids are below this; not every one has a token */
	uint32_t merge_mask;
	uint32_t token_max; /* bytes of the longest token */
	uint32_t n_splits;
	void *split[TOKENIZER_SPLITS_MAX]; /* pcre2_code, in scratch */
	void *match_data, *match_context, *general_context;
	uint8_t *scratch; /* bump allocator for PCRE2: scratch_used of scratch_size bytes */
	size_t scratch_used, scratch_size;
	uint32_t *work;              /* BPE of a long piece */
	size_t piece_max;            /* bytes that work is enough for */
	uint8_t added_first[2][256]; /* whether an added token begins with this byte */
};

/*
 * Compiles tokenizer.json (len bytes, from a checkpoint) into `out`. Refused with a text that names
 * the reason: a model that is not BPE, pre-tokenizers other than Split, Digits and ByteLevel as
 * published for this family, normalizers, byte fallback, a byte of UTF-8 without a token, a token
 * with two ids or an id with two tokens, an id that is not below vocab_size (config.json's), merges
 * of unknown tokens. Uses malloc and frees everything. Returns 0 and the blob's size in *used;
 * -ENOSPC if cap is too small (then *used is what it takes: out may be NULL to ask); else -EBADMSG
 * or -ENOTSUP, status 3, or -ENOMEM.
 */
MUST_CHECK int tokenizer_compile(const char *json, size_t len, uint32_t vocab_size, void *out,
				 size_t cap, size_t *used, struct err *e);

/*
 * Scratch memory for texts whose longest unsplit piece has longest_piece bytes (at most the text's
 * own length).
 */
size_t tokenizer_scratch_bytes(size_t longest_piece);

/*
 * Opens a blob, which must stay mapped and be aligned to 8 bytes, as must scratch. Returns 0,
 * -EBADMSG if an offset, a size or an id in it is wrong or a pattern does not compile, -ENOMEM if
 * scratch_len is too small.
 */
MUST_CHECK int tokenizer_open(struct tokenizer *t, const void *blob, size_t len, void *scratch,
			      size_t scratch_len, struct err *e);

enum encode_flags {
	ENCODE_PLAIN =
		0, /* added tokens in the text are just text: whatever comes in a chat message */
	ENCODE_MARKERS = 1, /* added tokens in the text become their ids, as in the library */
};

/*
 * Encodes len bytes of text. Adds no BOS. Stores at most cap ids and returns how many the text has,
 * which may be more than cap. -EILSEQ if the text is not UTF-8, -E2BIG if a piece is longer than
 * the scratch memory allows, -ELOOP if a pattern of the checkpoint needs too many steps or too much
 * memory (the text names it).
 */
MUST_CHECK ssize_t tokenizer_encode(struct tokenizer *t, const char *text, size_t len,
				    enum encode_flags flags, uint32_t *ids, size_t cap,
				    struct err *e);

/* The id of the added token whose text is exactly these bytes: what the text may be a marker of. */
uint32_t tokenizer_find_added(const struct tokenizer *t, const char *text, size_t len);

/*
 * The bytes that an id decodes to, borrowed from the blob; NULL and *len 0 for an id without a
 * token.
 */
const uint8_t *tokenizer_token_bytes(const struct tokenizer *t, uint32_t id, size_t *len);

/*
 * Whether the id has a token; whether that is an added token marked special, which skip_special
 * drops.
 */
bool tokenizer_has(const struct tokenizer *t, uint32_t id);
bool tokenizer_is_special(const struct tokenizer *t, uint32_t id);

/*
 * Streaming decode. Text is held back while its last bytes may still become a character, so every
 * piece is whole UTF-8 and the pieces join to the decode of all ids (golden/text/README.md). The
 * state is what a fresh detokenizer has after the same ids.
 */
struct detokenizer {
	uint8_t held[3];
	uint8_t n_held;
	bool skip_special; /* added tokens marked special decode to nothing */
};

/* Bytes that one push can write at most. */
size_t detokenizer_piece_max(const struct tokenizer *t);

/*
 * Appends one id; writes what is decided by now to out (detokenizer_piece_max bytes). Returns its
 * length.
 */
size_t detokenizer_push(struct detokenizer *d, const struct tokenizer *t, uint32_t id, char *out);

/*
 * The end of the stream: one U+FFFD for what is still held, to out (3 bytes). Returns its length.
 */
size_t detokenizer_finish(struct detokenizer *d, char *out);

#endif
