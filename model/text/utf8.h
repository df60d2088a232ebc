/*
 * UTF-8 by the Unicode standard's table 3-7: what is well formed, what may still become so, and the
 * replacement of what cannot. Used by the tokenizer, the detokenizer and whoever must not pass
 * broken text on.
 */
#ifndef MODEL_TEXT_UTF8_H
#define MODEL_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bytes of the well-formed sequence that s begins with (1 to 4), or 0 if it begins with none. len
 * may be 0.
 */
size_t utf8_sequence(const uint8_t *s, size_t len);

/* Whether a byte occurs in UTF-8 at all: all but C0, C1 and F5 to FF. */
bool utf8_has_byte(uint8_t b);

/* The code point of a well-formed sequence of n bytes. */
uint32_t utf8_code_point(const uint8_t *s, size_t n);

/* Index of the first byte that belongs to no well-formed sequence, or len. */
size_t utf8_valid_prefix(const uint8_t *s, size_t len);

/* Length of the longest suffix that is a proper prefix of a well-formed sequence: 0 to 3. */
size_t utf8_incomplete_tail(const uint8_t *s, size_t len);

/*
 * Copies s to out and puts U+FFFD in place of each maximal part of an ill-formed sequence (as
 * Rust's from_utf8_lossy and Python's "replace" do). Returns the bytes written; out needs 3 * len.
 */
size_t utf8_copy_lossy(char *out, const uint8_t *s, size_t len);

#endif
