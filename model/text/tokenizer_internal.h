/*
 * What the files of the tokenizer share: patterns between tokenizer.c (which compiles them) and
 * encode.c (which matches them), and the checks that both need. Not for use outside model/text.
 */
#ifndef MODEL_TEXT_TOKENIZER_INTERNAL_H
#define MODEL_TEXT_TOKENIZER_INTERNAL_H

#include "model/text/tokenizer_blob.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/*
 * Compiles the blob's patterns and the matcher's state into scratch. The patterns are Oniguruma's:
 * what PCRE2 reads otherwise is rewritten (\s and \S) or refused (\h, \w, options, classes in
 * classes).
 */
MUST_CHECK int pattern_compile_all(struct tokenizer *t, struct err *e);

/*
 * Finds the next match of pattern k in the piece s at or after byte `from`: 1 and its half-open
 * range, 0 for none,
 * -ELOOP with a text if it exceeds its limits.
 */
MUST_CHECK int pattern_find(const struct tokenizer *t, uint32_t k, const char *s, size_t len,
			    size_t from, size_t *start, size_t *end, struct err *e);

/*
 * Scratch bytes per byte of the longest piece, in encode.c's long form: id, rank, and the levels of
 * minima.
 */
#define PIECE_WORDS(n) (2 * (n) + (n) / 8 + 64)

#endif
