/*
 * The files of a model: a checkpoint directory's regular files opened by name, or the parts of a
 * packed store, unparsed. `init`
 * opens them for a node (and hands the descriptors to the loader and, registered with io_uring, to
 * experts); the one-shot commands open them for themselves. A descriptor's place in the list is its
 * number everywhere (index_file, io_uring's fixed files).
 */
#ifndef MODEL_STORE_FILES_H
#define MODEL_STORE_FILES_H

#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	STORE_FILES_MAX = 1024
};

struct store_file {
	char name[256];  /* plain name: no slash, NUL-terminated */
	uint64_t bytes;  /* by fstat */
	int32_t fd;      /* O_RDONLY; shards O_DIRECT where the file system allows it */
	uint32_t direct; /* 1: O_DIRECT */
};

/* Plain data apart from the descriptors, so that init can publish it in its own object. */
struct store_files {
	uint32_t count;
	uint32_t packed; /* 1: parts of a packed store, which pack_open puts in order */
	struct store_file file[STORE_FILES_MAX];
};

/*
 * Opens config.json, generation_config.json, tokenizer.json, tokenizer_config.json,
 * chat_template.jinja, model.safetensors.index.json and every *.safetensors of the directory
 * `path`, sorted by name. Symlinks are followed; anything that is not a regular file is an error
 * that names it. Missing files are no error here except the directory itself and config.json.
 * Where `path` is no directory it is a packed store: a file or block device, or several with commas
 * between them, for the parts of a striped set and their copies in any order. Status 3.
 */
MUST_CHECK int store_files_open(struct store_files *f, const char *path, struct err *e);
void store_files_close(struct store_files *f);

/* Number of the file called `name`, or -1. */
int store_files_find(const struct store_files *f, const char *name, size_t len);

/*
 * Reads [off, off + len) into buf: exact, or an error naming the file (truncated, EIO). Any
 * alignment of all three: O_DIRECT reads go through `bounce` (DRIVE_ALIGN-aligned, bounce_bytes a
 * multiple of DRIVE_ALIGN). Short reads are continued, EINTR and EAGAIN retried.
 */
MUST_CHECK int store_read(const struct store_files *f, uint32_t file, uint64_t off, void *buf,
			  uint64_t len, void *bounce, size_t bounce_bytes, struct err *e);

#endif
