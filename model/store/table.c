/*
 * The tensors of all shards in one hash table; see table.h.
 */
#include "model/store/table.h"

#include "model/store/name_hash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char index_name[] = "model.safetensors.index.json";
static const char single_name[] = "model.safetensors";

struct reader {
	struct tensor_table *t;
	const struct store_files *f;
	void *bounce;
	size_t bounce_bytes;
	struct err *e;
};

static bool same_name(const struct safetensor *t, const char *name, size_t len)
{
	return t->name_len == len && !memcmp(t->name, name, len);
}

struct safetensor *tensor_find(const struct tensor_table *t, const char *name, size_t len)
{
	if (!t->slots)
		return NULL;
	for (size_t i = name_hash(t->seed, name, len);; i++) {
		uint32_t n = t->slot[i & (t->slots - 1)];

		if (!n)
			return NULL;
		if (same_name(&t->tensor[n - 1], name, len))
			return &t->tensor[n - 1];
	}
}

int tensor_table_hash(struct tensor_table *t, const struct store_files *f, struct err *e)
{
	t->seed = name_hash_seed();
	for (t->slots = 16; t->slots < 2 * t->count; t->slots *= 2)
		;
	t->slot = calloc(t->slots, sizeof(t->slot[0]));
	if (!t->slot || t->count >= UINT32_MAX)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for %zu tensors", t->count);
	for (size_t n = 0; n < t->count; n++) {
		const struct safetensor *x = &t->tensor[n];
		size_t i = name_hash(t->seed, x->name, x->name_len);
		char name[204];

		for (; t->slot[i & (t->slots - 1)]; i++) {
			const struct safetensor *y = &t->tensor[t->slot[i & (t->slots - 1)] - 1];

			if (same_name(y, x->name, x->name_len))
				return err_exit(
					e, STATUS_MODEL, -EBADMSG,
					"%s: tensor %s lies in %s too: a tensor in two files",
					f->file[x->file].name, err_name(name, x->name, x->name_len),
					f->file[y->file].name);
		}
		t->slot[i & (t->slots - 1)] = (uint32_t)n + 1;
	}
	return 0;
}

static int read_header(struct reader *r, uint32_t file, struct safetensors *st)
{
	const struct store_file *f = &r->f->file[file];
	uint8_t prefix[SAFETENSORS_PREFIX] = {0};
	uint64_t len = 0;
	char *header;
	int rc = 0;

	if (f->bytes >= SAFETENSORS_PREFIX)
		rc = store_read(r->f, file, 0, prefix, sizeof(prefix), r->bounce, r->bounce_bytes,
				r->e);
	if (!rc)
		rc = safetensors_header_len(prefix, f->name, f->bytes, &len, r->e);
	if (rc)
		return rc;
	header = malloc(len + 1);
	if (!header)
		return err_exit(r->e, STATUS_MEMORY, -ENOMEM,
				"%s: no memory for a header of %" PRIu64 " bytes", f->name, len);
	rc = store_read(r->f, file, SAFETENSORS_PREFIX, header, len, r->bounce, r->bounce_bytes,
			r->e);
	if (!rc)
		rc = safetensors_parse(st, f->name, file, header, len, f->bytes, r->e);
	free(header);
	return rc;
}

/* Appends one shard's tensors; their names stay in the shard's document. */
static int add_shard(struct reader *r, uint32_t file)
{
	struct tensor_table *t = r->t;
	struct safetensors st;
	struct safetensor *grown;
	int rc = read_header(r, file, &st);

	if (rc)
		return rc;
	grown = realloc(t->tensor, (t->count + st.count + 1) * sizeof(grown[0]));
	if (!grown) {
		safetensors_free(&st);
		return err_exit(r->e, STATUS_MEMORY, -ENOMEM, "no memory for %zu tensors",
				t->count + st.count);
	}
	t->tensor = grown;
	memcpy(t->tensor + t->count, st.tensor, st.count * sizeof(grown[0]));
	t->count += st.count;
	t->docs[t->n_docs++] = st.doc;
	st.doc = NULL;
	safetensors_free(&st);
	return 0;
}

static int note_shard(void *context, const char *tensor, size_t tensor_len, const char *file,
		      size_t file_len)
{
	struct reader *r = context;
	int number = store_files_find(r->f, file, file_len);
	char name[204];
	char missing[204];

	if (number < 0)
		return err_exit(
			r->e, STATUS_MODEL, -ENOENT,
			"%s: tensor %s is said to lie in %s, and there is no such *.safetensors "
			"file. Copy it again",
			index_name, err_name(name, tensor, tensor_len),
			err_name(missing, file, file_len));
	r->t->shard[number] = true;
	return 0;
}

static int check_entry(void *context, const char *tensor, size_t tensor_len, const char *file,
		       size_t file_len)
{
	struct reader *r = context;
	int number = store_files_find(r->f, file, file_len);
	struct safetensor *t = tensor_find(r->t, tensor, tensor_len);
	char name[204];

	if (!t || (int)t->file != number)
		return err_exit(r->e, STATUS_MODEL, -EBADMSG,
				"%s: tensor %s is said to lie in %s, which does not have it%s%s",
				index_name, err_name(name, tensor, tensor_len),
				r->f->file[number].name, t ? "; it lies in " : "",
				t ? r->f->file[t->file].name : "");
	t->indexed = true;
	return 0;
}

static int read_shards(struct reader *r)
{
	struct tensor_table *t = r->t;
	int rc = 0;

	for (uint32_t i = 0; i < r->f->count; i++) {
		const char *name = r->f->file[i].name;
		size_t len = strlen(name);

		if (t->shard[i])
			continue;
		if (len > 12 && !strcmp(name + len - 12, ".safetensors"))
			return err_exit(
				r->e, STATUS_MODEL, -EBADMSG,
				"%s: %s does not name this shard. Remove it, or complete the "
				"index",
				name, index_name);
	}
	t->docs = calloc(STORE_FILES_MAX, sizeof(t->docs[0]));
	if (!t->docs)
		return err_exit(r->e, STATUS_MEMORY, -ENOMEM, "no memory for the shards' headers");
	for (uint32_t i = 0; !rc && i < r->f->count; i++)
		if (t->shard[i])
			rc = add_shard(r, i);
	return rc ? rc : tensor_table_hash(t, r->f, r->e);
}

static int read_indexed(struct reader *r, uint32_t file)
{
	const struct store_file *f = &r->f->file[file];
	void *index = NULL;
	char *json;
	int rc;

	if (f->bytes > SHARD_INDEX_BYTES_MAX)
		return err_exit(r->e, STATUS_MODEL, -EFBIG, "%s: larger than 64 MiB", f->name);
	json = malloc(f->bytes + 1);
	if (!json)
		return err_exit(r->e, STATUS_MEMORY, -ENOMEM, "%s: no memory for %" PRIu64 " bytes",
				f->name, f->bytes);
	rc = store_read(r->f, file, 0, json, f->bytes, r->bounce, r->bounce_bytes, r->e);
	if (!rc)
		rc = shard_index_parse(&index, json, f->bytes, r->e);
	free(json);
	if (!rc)
		rc = shard_index_each(index, note_shard, r, r->e);
	if (!rc)
		rc = read_shards(r);
	if (!rc)
		rc = shard_index_each(index, check_entry, r, r->e);
	shard_index_free(index);
	for (size_t i = 0; !rc && i < r->t->count; i++) {
		const struct safetensor *t = &r->t->tensor[i];
		char name[204];

		if (!t->indexed)
			rc = err_exit(r->e, STATUS_MODEL, -EBADMSG,
				      "%s: tensor %s is not named by %s", r->f->file[t->file].name,
				      err_name(name, t->name, t->name_len), index_name);
	}
	return rc;
}

int tensor_table_read(struct tensor_table *t, const struct store_files *f, void *bounce,
		      size_t bounce_bytes, struct err *e)
{
	struct reader r = {t, f, bounce, bounce_bytes, e};
	int index = store_files_find(f, index_name, strlen(index_name));
	int single = store_files_find(f, single_name, strlen(single_name));

	memset(t, 0, sizeof(*t));
	if (index >= 0)
		return read_indexed(&r, (uint32_t)index);
	if (single < 0)
		return err_exit(e, STATUS_MODEL, -ENOENT, "there is neither %s nor %s", index_name,
				single_name);
	t->shard[single] = true;
	return read_shards(&r);
}

void tensor_table_free(struct tensor_table *t)
{
	for (size_t i = 0; i < t->n_docs; i++) {
		struct safetensors st = {.doc = t->docs[i]};

		safetensors_free(&st);
	}
	free(t->docs);
	free(t->slot);
	free(t->tensor);
	memset(t, 0, sizeof(*t));
}
