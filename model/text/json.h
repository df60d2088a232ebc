/*
 * Strict JSON for everything that comes from outside as text: requests, messages, tokenizer.json
 * and its companions. yyjson does the reading (RFC 8259, valid UTF-8, paired surrogates, no byte-
 * order mark); this adds what it leaves open: nesting is limited and an object has each key once.
 * Numbers may be kept as written.
 */
#ifndef MODEL_TEXT_JSON_H
#define MODEL_TEXT_JSON_H

#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <yyjson.h>

enum {
	JSON_DEPTH_MAX = 64
};

enum json_flags {
	JSON_PLAIN = 0,
	JSON_RAW_NUMBERS =
		1, /* numbers are raw text (yyjson_is_raw), so that they can be printed again */
};

/*
 * Reads one JSON text. The document is allocated by alc (NULL: malloc) and is the caller's to free
 * with yyjson_doc_free. -EBADMSG with a text that says what and at which byte; -ENOMEM if alc has
 * no more.
 */
MUST_CHECK int json_read(yyjson_doc **out, const char *text, size_t len, enum json_flags flags,
			 const yyjson_alc *alc, struct err *e);

/* Whether a value is the string `want`. */
bool json_is(yyjson_val *v, const char *want);

/*
 * The value of a key, or NULL where it is absent or null ("null means absent everywhere", api.md).
 */
yyjson_val *json_get(yyjson_val *object, const char *key);

/* Bytes that json_quote writes at most for a string of len bytes. */
#define JSON_QUOTED_MAX(len) ((size_t)6 * (len) + 2)

/*
 * Writes a string as JSON with its quotes. ascii: everything outside 0x20..0x7e is escaped, as
 * Python's json.dumps does; else only quotes, backslashes and control characters are. s must be
 * UTF-8. Returns the bytes written.
 */
size_t json_quote(char *out, const char *s, size_t len, bool ascii);

#endif
