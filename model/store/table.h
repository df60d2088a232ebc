/*
 * All tensors of a checkpoint by name: reads every shard's header, and model.safetensors.index.json
 * where there is one, and makes sure that the two say the same (specification 2.1, 2.2). Called by
 * the survey and by `verify`.
 */
#ifndef MODEL_STORE_TABLE_H
#define MODEL_STORE_TABLE_H

#include "model/store/files.h"
#include "model/store/safetensors.h"

enum {
	SHARD_INDEX_BYTES_MAX = 64 << 20
};

struct tensor_table {
	struct safetensor *tensor; /* by file, then by offset */
	size_t count;
	uint32_t *slot; /* open hash: number of a tensor + 1, or 0 */
	uint64_t seed;  /* of the hash */
	size_t slots;   /* a power of two */
	void **docs;    /* hold the names */
	size_t n_docs;
	bool shard[STORE_FILES_MAX]; /* the file is a shard of this model */
};

/*
 * Reads headers through `bounce` (see store_read). Refuses shards that the index does not name,
 * tensors in two files, tensors that the index puts elsewhere or does not know. Returns 0 or
 * -errno, status 3; the caller frees in both cases.
 */
MUST_CHECK int tensor_table_read(struct tensor_table *t, const struct store_files *f, void *bounce,
				 size_t bounce_bytes, struct err *e);
void tensor_table_free(struct tensor_table *t);

/*
 * Makes the tensors of a table, all else of it zero, findable; two of one name are refused (a
 * packed store's catalog is such a table). Status 3.
 */
MUST_CHECK int tensor_table_hash(struct tensor_table *t, const struct store_files *f,
				 struct err *e);

/* The tensor of that name, or NULL. */
struct safetensor *tensor_find(const struct tensor_table *t, const char *name, size_t len);

/*
 * Parses model.safetensors.index.json: hostile input, status 3. The caller gives *index back by
 * shard_index_free, which takes NULL too.
 */
MUST_CHECK int shard_index_parse(void **index, const char *json, size_t len, struct err *e);
void shard_index_free(void *index);

/*
 * Calls entry(context, tensor, file) for each pair of the weight map; one that returns non-zero
 * ends it. Names of files are plain (no slash, not "." or ".."), which is all that is checked of
 * them.
 */
typedef int shard_entry(void *context, const char *tensor, size_t tensor_len, const char *file,
			size_t file_len);
MUST_CHECK int shard_index_each(void *index, shard_entry *entry, void *context, struct err *e);

#endif
