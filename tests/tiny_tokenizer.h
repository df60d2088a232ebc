/*
 * A byte-level BPE tokenizer.json made on the spot, for tests that must not need a published one.
 * Its patterns are DeepSeek-V3's; its vocabulary is the 256 bytes (ids 0 to 255 in byte order), the
 * merges that the test gives (ids 256 onwards, in their order) and V3's markers (ids from 1000 on).
 */
#ifndef TESTS_TINY_TOKENIZER_H
#define TESTS_TINY_TOKENIZER_H

#include "model/text/tokenizer.h"

enum {
	TINY_VOCAB = 1100,
	TINY_BOS = 1000, /* special, as is TINY_EOS */
	TINY_EOS,
	TINY_USER, /* from here on not special, and matched in the second pass */
	TINY_ASSISTANT,
	TINY_THINK,
	TINY_THINK_END,
	TINY_CALLS,
	TINY_CALLS_END,
	TINY_CALL,
	TINY_CALL_END,
	TINY_OUTPUTS,
	TINY_OUTPUTS_END,
	TINY_OUTPUT,
	TINY_OUTPUT_END,
	TINY_SEP,
};

struct tiny_merge {
	uint32_t left, right; /* ids */
};

/* The JSON text, malloc'ed and terminated. Token 256 + i is the merge of merge[i]; n may be 0. */
char *tiny_tokenizer_json(const struct tiny_merge *merge, size_t n);

/* The text with the first `from` replaced by `to`, malloc'ed; aborts if `from` does not occur. */
char *tiny_replace(const char *text, const char *from, const char *to);

/*
 * Compiles and opens JSON; what it allocates stays until tiny_close. Returns tokenizer_compile's or
 * _open's code.
 */
struct tiny {
	struct tokenizer t;
	void *blob, *scratch;
	size_t blob_bytes, scratch_bytes;
};
int tiny_open(struct tiny *tiny, const char *json, size_t longest_piece, struct err *e);
void tiny_close(struct tiny *tiny);

#endif
