/*
 * Validates a safetensors header; see safetensors.h. The rules come in the reference library's
 * order, so that a file with two faults is refused for the one that other tools name too.
 */
#include "model/store/safetensors.h"

#include "model/store/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	unsigned bits;
} dtypes[DTYPE_COUNT] = {
	[DTYPE_BOOL] = {"BOOL", 8},       [DTYPE_F4] = {"F4", 4},
	[DTYPE_F6_E2M3] = {"F6_E2M3", 6}, [DTYPE_F6_E3M2] = {"F6_E3M2", 6},
	[DTYPE_U8] = {"U8", 8},           [DTYPE_I8] = {"I8", 8},
	[DTYPE_F8_E5M2] = {"F8_E5M2", 8}, [DTYPE_F8_E4M3] = {"F8_E4M3", 8},
	[DTYPE_F8_E8M0] = {"F8_E8M0", 8}, [DTYPE_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8},
	[DTYPE_I16] = {"I16", 16},        [DTYPE_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8},
	[DTYPE_U16] = {"U16", 16},        [DTYPE_F16] = {"F16", 16},
	[DTYPE_BF16] = {"BF16", 16},      [DTYPE_I32] = {"I32", 32},
	[DTYPE_U32] = {"U32", 32},        [DTYPE_F32] = {"F32", 32},
	[DTYPE_C64] = {"C64", 64},        [DTYPE_F64] = {"F64", 64},
	[DTYPE_I64] = {"I64", 64},        [DTYPE_U64] = {"U64", 64},
};

const char *safetensors_dtype_name(unsigned dtype)
{
	return dtype < DTYPE_COUNT ? dtypes[dtype].name : "?";
}

const char *safetensors_shape_text(char out[192], const uint64_t *shape, unsigned rank)
{
	size_t n = 0;

	out[n++] = '[';
	for (unsigned i = 0; i < rank && i < SAFETENSORS_RANK_MAX; i++)
		n += (size_t)snprintf(out + n, 192 - n, "%s%" PRIu64, i ? ", " : "", shape[i]);
	memcpy(out + n, "]", 2);
	return out;
}

int safetensors_header_len(const uint8_t prefix[SAFETENSORS_PREFIX], const char *file,
			   uint64_t file_bytes, uint64_t *len, struct err *e)
{
	uint64_t n = 0;

	if (file_bytes < SAFETENSORS_PREFIX)
		return err_exit(e, STATUS_MODEL, -EBADMSG,
				"%s: a file of %" PRIu64
				" bytes is too short for a safetensors file",
				file, file_bytes);
	for (int i = 7; i >= 0; i--)
		n = n << 8 | prefix[i];
	if (n > SAFETENSORS_HEADER_MAX)
		return err_exit(e, STATUS_MODEL, -EBADMSG,
				"%s: header length %" PRIu64
				" is above the limit of %d bytes: damaged, "
				"or not a safetensors file",
				file, n, SAFETENSORS_HEADER_MAX);
	if (n > file_bytes - SAFETENSORS_PREFIX)
		return err_exit(e, STATUS_MODEL, -EBADMSG,
				"%s: header length %" PRIu64 " does not fit a file of %" PRIu64
				" bytes: the file was cut or is damaged",
				file, n, file_bytes);
	*len = n;
	return 0;
}

struct reader {
	const char *file;
	char tensor[204]; /* name for messages */
	struct err *e;
};

static int bad(struct reader *r, const char *what)
{
	return err_exit(r->e, STATUS_MODEL, -EBADMSG, "%s: tensor %s: %s", r->file, r->tensor,
			what);
}

static int read_dtype(struct reader *r, struct safetensor *t, yyjson_val *v)
{
	char given[204];

	if (!yyjson_is_str(v))
		return bad(r, "\"dtype\" is missing or not a string");
	for (unsigned i = 0; i < DTYPE_COUNT; i++) {
		if (!yyjson_equals_str(v, dtypes[i].name))
			continue;
		t->dtype = (uint8_t)i;
		return 0;
	}
	return err_exit(r->e, STATUS_MODEL, -EBADMSG, "%s: tensor %s: unknown dtype \"%s\"",
			r->file, r->tensor, err_name(given, yyjson_get_str(v), yyjson_get_len(v)));
}

static int read_shape(struct reader *r, struct safetensor *t, yyjson_val *v)
{
	size_t index;
	size_t max;
	yyjson_val *dim;

	if (!yyjson_is_arr(v))
		return bad(r, "\"shape\" is missing or not an array");
	if (yyjson_arr_size(v) > SAFETENSORS_RANK_MAX)
		return bad(r, "more than 8 dimensions");
	t->rank = (uint8_t)yyjson_arr_size(v);
	yyjson_arr_foreach(v, index, max, dim)
	{
		if (!store_json_u64(dim, false, &t->shape[index]))
			return bad(r, "a dimension in \"shape\" is not a whole number below 2^53");
	}
	return 0;
}

static int read_offsets(struct reader *r, struct safetensor *t, yyjson_val *v)
{
	uint64_t begin;
	uint64_t end;

	if (!yyjson_is_arr(v) || yyjson_arr_size(v) != 2)
		return bad(r, "\"data_offsets\" is missing or not an array of two");
	if (!store_json_u64(yyjson_arr_get(v, 0), false, &begin) ||
	    !store_json_u64(yyjson_arr_get(v, 1), false, &end))
		return bad(r, "\"data_offsets\" are not whole numbers below 2^53");
	if (end < begin)
		return bad(r, "\"data_offsets\" end before they begin");
	t->off = begin;
	t->bytes = end - begin;
	return 0;
}

static int read_tensor(struct reader *r, struct safetensor *t, yyjson_val *key, yyjson_val *value)
{
	int rc;
	const char *name = yyjson_get_str(key);
	size_t len = yyjson_get_len(key);

	err_name(r->tensor, name, len);
	if (!name || !len || len > SAFETENSORS_NAME_MAX || memchr(name, 0, len))
		return bad(r, "the name is empty, longer than 1024 bytes or holds a NUL");
	if (!yyjson_is_obj(value))
		return bad(r, "its entry is not an object");
	t->name = name;
	t->name_len = (uint32_t)len;
	rc = read_dtype(r, t, yyjson_obj_get(value, "dtype"));
	if (!rc)
		rc = read_shape(r, t, yyjson_obj_get(value, "shape"));
	if (!rc)
		rc = read_offsets(r, t, yyjson_obj_get(value, "data_offsets"));
	return rc;
}

static int check_metadata(struct reader *r, yyjson_val *metadata)
{
	size_t index;
	size_t max;
	yyjson_val *key;
	yyjson_val *value;

	if (!yyjson_is_obj(metadata))
		return err_exit(r->e, STATUS_MODEL, -EBADMSG,
				"%s: \"__metadata__\" is not an object", r->file);
	yyjson_obj_foreach(metadata, index, max, key, value)
	{
		if (!yyjson_is_str(value))
			return err_exit(r->e, STATUS_MODEL, -EBADMSG,
					"%s: \"__metadata__\" holds a value that is not a string",
					r->file);
	}
	return 0;
}

static int compare_offsets(const void *a, const void *b)
{
	const struct safetensor *x = a;
	const struct safetensor *y = b;

	if (x->off != y->off)
		return x->off < y->off ? -1 : 1;
	return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int check_size(struct reader *r, const struct safetensor *t)
{
	uint64_t bits = dtypes[t->dtype].bits;
	char shape[192];

	for (unsigned i = 0; i < t->rank; i++)
		if (__builtin_mul_overflow(bits, t->shape[i], &bits))
			return bad(r, "its shape overflows 64 bits");
	if (bits % 8)
		return bad(r, "its elements do not fill whole bytes");
	if (bits / 8 == t->bytes)
		return 0;
	return err_exit(r->e, STATUS_MODEL, -EBADMSG,
			"%s: tensor %s: %s %s takes %" PRIu64
			" bytes, \"data_offsets\" say %" PRIu64,
			r->file, r->tensor, safetensors_dtype_name(t->dtype),
			safetensors_shape_text(shape, t->shape, t->rank), bits / 8, t->bytes);
}

/*
 * The tensors, sorted by offset, cover the data exactly: no hole, no overlap, nothing behind the
 * last.
 */
static int check_tiling(struct reader *r, struct safetensors *st, uint64_t data_off,
			uint64_t file_bytes)
{
	uint64_t end = 0;

	for (size_t i = 0; i < st->count; i++) {
		struct safetensor *t = &st->tensor[i];
		int rc;

		err_name(r->tensor, t->name, t->name_len);
		if (t->off != end)
			return err_exit(r->e, STATUS_MODEL, -EBADMSG,
					"%s: tensor %s: its data begin at %" PRIu64 ", %s %" PRIu64,
					r->file, r->tensor, t->off,
					t->off > end ? "leaving a hole after"
						     : "inside the tensor that ends at",
					end);
		rc = check_size(r, t);
		if (rc)
			return rc;
		end += t->bytes; /* both below 2^53: checked by store_json_u64 */
		t->off += data_off;
	}
	if (data_off + end != file_bytes)
		return err_exit(r->e, STATUS_MODEL, -EBADMSG,
				"%s: the header describes %" PRIu64 " bytes, the file has %" PRIu64
				": %s",
				r->file, data_off + end, file_bytes,
				data_off + end > file_bytes ? "it was cut or is still being copied"
							    : "something was appended");
	return 0;
}

static int read_tensors(struct reader *r, struct safetensors *st, yyjson_val *root, uint32_t number)
{
	size_t index;
	size_t max;
	yyjson_val *key;
	yyjson_val *value;
	int rc = 0;

	yyjson_obj_foreach(root, index, max, key, value)
	{
		struct safetensor *t = &st->tensor[st->count];

		if (yyjson_equals_str(key, "__metadata__")) {
			rc = check_metadata(r, value);
		} else {
			t->file = number;
			rc = read_tensor(r, t, key, value);
			st->count++;
		}
		if (rc)
			return rc;
	}
	return 0;
}

int safetensors_parse(struct safetensors *st, const char *file, uint32_t number, const char *header,
		      size_t len, uint64_t file_bytes, struct err *e)
{
	struct reader r = {.file = file, .e = e};
	yyjson_doc *doc = NULL;
	yyjson_val *root;
	int rc;

	memset(st, 0, sizeof(*st));
	if (!len || header[0] != '{')
		return err_exit(e, STATUS_MODEL, -EBADMSG,
				"%s: the header does not begin with '{': not a safetensors file",
				file);
	rc = store_json_read(&doc, file, header, len, e);
	if (rc)
		return rc;
	root = yyjson_doc_get_root(doc);
	st->doc = doc;
	st->tensor = calloc(yyjson_obj_size(root) + 1, sizeof(st->tensor[0]));
	if (!st->tensor) {
		rc = err_exit(e, STATUS_MEMORY, -ENOMEM, "%s: no memory for %zu tensors", file,
			      yyjson_obj_size(root));
		goto out;
	}
	rc = read_tensors(&r, st, root, number);
	if (rc)
		goto out;
	for (size_t i = 1; i < st->count; i++) {
		if (compare_offsets(&st->tensor[i - 1], &st->tensor[i]) <= 0)
			continue; /* published headers are in this order already */
		qsort(st->tensor, st->count, sizeof(st->tensor[0]), compare_offsets);
		break;
	}
	rc = check_tiling(&r, st, SAFETENSORS_PREFIX + len, file_bytes);
out:
	if (rc)
		safetensors_free(st);
	return rc;
}

void safetensors_free(struct safetensors *st)
{
	free(st->tensor);
	yyjson_doc_free(st->doc);
	memset(st, 0, sizeof(*st));
}
