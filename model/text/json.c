/*
 * See json.h. Nesting is counted before yyjson sees the text, because what walks the values
 * afterwards recurses; keys are compared after it, when escapes are resolved. Large objects are
 * sorted, so a hostile one costs n log n.
 */
#include "model/text/json.h"
#include "model/text/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int check_depth(const char *text, size_t len, struct err *e)
{
	size_t depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > JSON_DEPTH_MAX)
				return err_set(e, -EBADMSG,
					       "JSON is nested deeper than %d levels at byte %zu",
					       JSON_DEPTH_MAX, i);
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return 0;
}

static int compare_keys(const void *a, const void *b)
{
	yyjson_val *const *x = a, *const *y = b;
	size_t n = yyjson_get_len(*x), m = yyjson_get_len(*y);

	if (n != m)
		return n < m ? -1 : 1;
	return memcmp(yyjson_get_str(*x), yyjson_get_str(*y), n);
}

static int duplicate(yyjson_val *key, struct err *e)
{
	char name[204];

	return err_set(e, -EBADMSG, "JSON has the key \"%s\" twice in one object",
		       err_name(name, yyjson_get_str(key), yyjson_get_len(key)));
}

/* Few keys: every pair. Many: sort them in memory of alc's. */
static int check_keys(yyjson_val *object, const yyjson_alc *alc, struct err *e)
{
	yyjson_val *few[16], **key = few, *k;
	yyjson_obj_iter it = yyjson_obj_iter_with(object);
	size_t n = 0, count = yyjson_obj_size(object);
	int rc = 0;

	if (count > sizeof(few) / sizeof(few[0])) {
		key = alc->malloc(alc->ctx, count * sizeof(*key));
		if (!key)
			return err_set(e, -ENOMEM, "no memory to check an object of %zu keys",
				       count);
	}
	while ((k = yyjson_obj_iter_next(&it)) != NULL && n < count)
		key[n++] = k;
	qsort(key, n, sizeof(*key), compare_keys);
	for (size_t i = 1; i < n && !rc; i++)
		if (compare_keys(&key[i - 1], &key[i]) == 0)
			rc = duplicate(key[i], e);
	if (key != few)
		alc->free(alc->ctx, key);
	return rc;
}

/* Recursion is bounded by check_depth. */
static int check_value(yyjson_val *v, const yyjson_alc *alc, struct err *e)
{
	int rc = 0;

	if (yyjson_is_arr(v)) {
		yyjson_arr_iter it = yyjson_arr_iter_with(v);
		yyjson_val *item;

		while (!rc && (item = yyjson_arr_iter_next(&it)) != NULL)
			rc = check_value(item, alc, e);
	} else if (yyjson_is_obj(v)) {
		yyjson_obj_iter it = yyjson_obj_iter_with(v);
		yyjson_val *key;

		rc = check_keys(v, alc, e);
		while (!rc && (key = yyjson_obj_iter_next(&it)) != NULL)
			rc = check_value(yyjson_obj_iter_get_val(key), alc, e);
	}
	return rc;
}

static void *heap_malloc(void *ctx, size_t size)
{
	(void)ctx;
	return malloc(size);
}

static void *heap_realloc(void *ctx, void *p, size_t old_size, size_t size)
{
	(void)ctx;
	(void)old_size;
	return realloc(p, size);
}

static void heap_free(void *ctx, void *p)
{
	(void)ctx;
	free(p);
}

int json_read(yyjson_doc **out, const char *text, size_t len, enum json_flags flags,
	      const yyjson_alc *alc, struct err *e)
{
	static const yyjson_alc heap = {heap_malloc, heap_realloc, heap_free, NULL};
	yyjson_read_err bad = {0};
	yyjson_doc *doc;
	char *copy;
	int rc;

	*out = NULL;
	if (!alc)
		alc = &heap;
	rc = check_depth(text, len, e);
	if (rc)
		return rc;
	/*
	 * yyjson takes a writable pointer but writes only with READ_INSITU, which is not asked for.
	 */
	memcpy(&copy, &text, sizeof(copy));
	doc = yyjson_read_opts(copy, len, flags & JSON_RAW_NUMBERS ? YYJSON_READ_NUMBER_AS_RAW : 0,
			       alc, &bad);
	if (!doc)
		return bad.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION
			       ? err_set(e, -ENOMEM, "no memory to read %zu bytes of JSON", len)
			       : err_set(e, -EBADMSG, "invalid JSON at byte %zu: %s", bad.pos,
					 bad.msg ? bad.msg : "empty");
	rc = check_value(yyjson_doc_get_root(doc), alc, e);
	if (rc)
		yyjson_doc_free(doc);
	else
		*out = doc;
	return rc;
}

bool json_is(yyjson_val *v, const char *want)
{
	size_t n = strlen(want);

	return yyjson_is_str(v) && yyjson_get_len(v) == n &&
	       memcmp(yyjson_get_str(v), want, n) == 0;
}

yyjson_val *json_get(yyjson_val *object, const char *key)
{
	yyjson_val *v = yyjson_obj_get(object, key);

	return v && !yyjson_is_null(v) ? v : NULL;
}

static size_t put_unicode(char *out, uint32_t unit)
{
	static const char hex[] = "0123456789abcdef";

	out[0] = '\\';
	out[1] = 'u';
	for (unsigned i = 0; i < 4; i++)
		out[2 + i] = hex[unit >> (12 - 4 * i) & 15];
	return 6;
}

/* A character that stands for itself as a backslash and one letter, or 0. */
static char short_escape(unsigned char c)
{
	switch (c) {
	case '"':
	case '\\':
		return (char)c;
	case '\b':
		return 'b';
	case '\f':
		return 'f';
	case '\n':
		return 'n';
	case '\r':
		return 'r';
	case '\t':
		return 't';
	default:
		return 0;
	}
}

size_t json_quote(char *out, const char *s, size_t len, bool ascii)
{
	const uint8_t *u = (const uint8_t *)s;
	size_t n = 0, i = 0;

	out[n++] = '"';
	while (i < len) {
		size_t k = u[i] < 0x80 ? 1 : utf8_sequence(u + i, len - i);
		char letter = short_escape(u[i]);

		k = k ? k : 1;
		if (letter) {
			out[n++] = '\\';
			out[n++] = letter;
		} else if (u[i] < 0x20 || (ascii && (u[i] > 0x7e))) {
			uint32_t c = utf8_code_point(u + i, k);

			if (c >= 0x10000) {
				n += put_unicode(out + n, 0xd800 + ((c - 0x10000) >> 10));
				c = 0xdc00 + (c & 0x3ff);
			}
			n += put_unicode(out + n, c);
		} else {
			memcpy(out + n, u + i, k);
			n += k;
		}
		i += k;
	}
	out[n++] = '"';
	return n;
}
