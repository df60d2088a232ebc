/*
 * Reads model.safetensors.index.json (specification 2.2); see table.h.
 */
#include "model/store/json.h"
#include "model/store/table.h"

#include <errno.h>
#include <string.h>

static const char file_name[] = "model.safetensors.index.json";

static bool plain_name(const char *name, size_t len)
{
	if (!len || len > 255 || memchr(name, '/', len) || memchr(name, 0, len))
		return false;
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

int shard_index_each(void *index, shard_entry *entry, void *context, struct err *e)
{
	yyjson_val *map = yyjson_obj_get(yyjson_doc_get_root(index), "weight_map");
	size_t i;
	size_t max;
	yyjson_val *key;
	yyjson_val *value;
	char tensor[204];
	char file[204];
	int rc;

	yyjson_obj_foreach(map, i, max, key, value)
	{
		const char *name = yyjson_get_str(key);
		size_t len = yyjson_get_len(key);

		if (!yyjson_is_str(value))
			return err_exit(e, STATUS_MODEL, -EBADMSG,
					"%s: tensor %s: its file name is not a string", file_name,
					err_name(tensor, name, len));
		if (!plain_name(yyjson_get_str(value), yyjson_get_len(value)))
			return err_exit(
				e, STATUS_MODEL, -EBADMSG,
				"%s: tensor %s: \"%s\" is not the plain name of a file here",
				file_name, err_name(tensor, name, len),
				err_name(file, yyjson_get_str(value), yyjson_get_len(value)));
		rc = entry(context, name, len, yyjson_get_str(value), yyjson_get_len(value));
		if (rc)
			return rc;
	}
	return 0;
}

int shard_index_parse(void **index, const char *json, size_t len, struct err *e)
{
	yyjson_doc *doc = NULL;
	yyjson_val *map;
	yyjson_val *metadata;
	int rc;

	*index = NULL;
	if (len > SHARD_INDEX_BYTES_MAX)
		return err_exit(e, STATUS_MODEL, -EFBIG, "%s: larger than 64 MiB", file_name);
	rc = store_json_read(&doc, file_name, json, len, e);
	if (rc)
		return rc;
	map = yyjson_obj_get(yyjson_doc_get_root(doc), "weight_map");
	metadata = yyjson_obj_get(yyjson_doc_get_root(doc), "metadata");
	if (!yyjson_is_obj(map) || !yyjson_obj_size(map))
		rc = err_exit(e, STATUS_MODEL, -EBADMSG,
			      "%s: \"weight_map\" is missing, empty or not an object", file_name);
	else if (metadata && !yyjson_is_null(metadata) && !yyjson_is_obj(metadata))
		rc = err_exit(e, STATUS_MODEL, -EBADMSG, "%s: \"metadata\" is not an object",
			      file_name);
	if (rc)
		yyjson_doc_free(doc);
	else
		*index = doc;
	return rc;
}

void shard_index_free(void *index)
{
	yyjson_doc_free(index);
}
