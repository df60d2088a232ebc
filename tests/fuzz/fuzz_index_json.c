/*
 * model.safetensors.index.json against arbitrary bytes (model/store/table.h).
 */
#include "model/store/table.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int check_entry(void *context, const char *tensor, size_t tensor_len, const char *file,
		       size_t file_len)
{
	(void)context;
	if (!tensor || !file_len || file_len > 255 || memchr(file, '/', file_len) ||
	    tensor[tensor_len])
		abort(); /* not a plain name */
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	void *index = NULL;
	struct err e = {0};
	int rc = shard_index_parse(&index, (const char *)data, size, &e);

	if (!rc)
		rc = shard_index_each(index, check_entry, NULL, &e);
	if (rc && (!e.code || !e.text[0] || !e.status))
		abort(); /* a refusal without a text */
	shard_index_free(index);
	return 0;
}
