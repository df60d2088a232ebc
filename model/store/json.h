/*
 * Strict reading of the JSON files of a checkpoint, which are hostile input: one object, valid
 * UTF-8, no key twice, nesting of at most 64. Over yyjson. Called by the other parsers of
 * model/store.
 */
#ifndef MODEL_STORE_JSON_H
#define MODEL_STORE_JSON_H

#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

enum {
	JSON_DEPTH_MAX = 64
};

/*
 * Parses `len` bytes of `text`; `file` names them in messages. The caller frees *doc by
 * yyjson_doc_free. Returns 0 or -errno, status 3.
 */
MUST_CHECK int store_json_read(yyjson_doc **doc, const char *file, const char *text, size_t len,
			       struct err *e);

/*
 * Whether v is a whole number of 0..2^53 written as an integer, or, with `real_too`, as 40.0.
 * Anything else (a fraction, a sign, an exponent too large, another type) is false.
 */
bool store_json_u64(const yyjson_val *v, bool real_too, uint64_t *out);

#endif
