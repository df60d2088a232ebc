/*
 * Strict JSON over yyjson; see json.h. yyjson checks grammar and UTF-8 (and refuses a byte-order
 * mark); keys that occur twice and depth are checked here, because readers disagree about them and
 * a file must not mean two things.
 */
#include "model/store/json.h"

#include "model/store/name_hash.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct check {
	const char *file;
	yyjson_val **slot; /* scratch: an open hash of the keys of the object being checked */
	size_t slots;      /* a power of two */
	uint64_t seed;
	struct err *e;
};

/* An empty table for n keys, reusing the scratch; the part in use is all that is cleared. */
static int clear_slots(struct check *c, size_t n, size_t *used)
{
	for (*used = 8; *used < 2 * n; *used *= 2)
		;
	if (*used > c->slots) {
		free(c->slot);
		c->slots = *used;
		c->slot = malloc(c->slots * sizeof(c->slot[0]));
	}
	if (!c->slot) {
		c->slots = 0;
		return err_exit(c->e, STATUS_MEMORY, -ENOMEM, "%s: no memory for %zu keys", c->file,
				n);
	}
	memset(c->slot, 0, *used * sizeof(c->slot[0]));
	return 0;
}

static int check_keys(struct check *c, yyjson_val *object)
{
	size_t slots;
	size_t index;
	size_t max;
	yyjson_val *key;
	yyjson_val *value;
	int rc = clear_slots(c, yyjson_obj_size(object), &slots);

	if (rc)
		return rc;
	yyjson_obj_foreach(object, index, max, key, value)
	{
		const char *text = yyjson_get_str(key);
		size_t i;
		char name[204];

		assert(text); /* a key is a string */
		i = name_hash(c->seed, text, yyjson_get_len(key));
		for (; c->slot[i & (slots - 1)]; i++)
			if (yyjson_equals(c->slot[i & (slots - 1)], key))
				return err_exit(c->e, STATUS_MODEL, -EBADMSG,
						"%s: the key \"%s\" occurs twice", c->file,
						err_name(name, text, yyjson_get_len(key)));
		c->slot[i & (slots - 1)] = key;
	}
	return 0;
}

static int check_value(struct check *c, yyjson_val *v, int depth)
{
	size_t index;
	size_t max;
	yyjson_val *key;
	yyjson_val *child;
	int rc = 0;

	if (!yyjson_is_ctn(v))
		return 0;
	if (depth == JSON_DEPTH_MAX)
		return err_exit(c->e, STATUS_MODEL, -EBADMSG, "%s: nested deeper than %d", c->file,
				JSON_DEPTH_MAX);
	if (yyjson_is_arr(v)) {
		yyjson_arr_foreach(v, index, max, child)
		{
			rc = check_value(c, child, depth + 1);
			if (rc)
				return rc;
		}
		return 0;
	}
	rc = check_keys(c, v);
	if (rc)
		return rc;
	yyjson_obj_foreach(v, index, max, key, child)
	{
		rc = check_value(c, child, depth + 1);
		if (rc)
			return rc;
	}
	return 0;
}

int store_json_read(yyjson_doc **doc, const char *file, const char *text, size_t len, struct err *e)
{
	struct check c = {.file = file, .seed = name_hash_seed(), .e = e};
	yyjson_read_err why = {0};
	int rc;

	/*
	 * yyjson does not write into the text without YYJSON_READ_INSITU; its prototype only lacks
	 * the const.
	 */
	*doc = yyjson_read_opts((char *)(uintptr_t)text, len, YYJSON_READ_NOFLAG, NULL, &why);
	if (!*doc && why.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "%s: no memory to parse %zu bytes", file,
				len);
	if (!*doc)
		return err_exit(e, STATUS_MODEL, -EBADMSG, "%s: not valid JSON: %s at byte %zu",
				file, why.msg, why.pos);
	if (yyjson_is_obj(yyjson_doc_get_root(*doc)))
		rc = check_value(&c, yyjson_doc_get_root(*doc), 0);
	else
		rc = err_exit(e, STATUS_MODEL, -EBADMSG, "%s: not a JSON object", file);
	free(c.slot);
	if (rc) {
		yyjson_doc_free(*doc);
		*doc = NULL;
	}
	return rc;
}

bool store_json_u64(const yyjson_val *v, bool real_too, uint64_t *out)
{
	const double limit = 0x1p53;
	yyjson_val *value = (yyjson_val *)(uintptr_t)v;

	if (yyjson_is_uint(value)) {
		*out = yyjson_get_uint(value);
		return *out <= (uint64_t)1 << 53;
	}
	if (real_too && yyjson_is_real(value)) {
		double x = yyjson_get_real(value);

		if (!(x >= 0 && x <= limit) || x != (double)(uint64_t)x)
			return false;
		*out = (uint64_t)x;
		return true;
	}
	return false;
}
