/*
 * The header of a safetensors file, validated (specification 2.1): what the reference library
 * enforces and our own limits. Hostile input. Called by the survey and by fuzzing; contents of
 * tensors are not looked at.
 */
#ifndef MODEL_STORE_SAFETENSORS_H
#define MODEL_STORE_SAFETENSORS_H

#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SAFETENSORS_RANK_MAX = 8,
	SAFETENSORS_NAME_MAX = 1024,
	SAFETENSORS_HEADER_MAX = 100000000, /* the reference library's limit */
	SAFETENSORS_PREFIX = 8              /* bytes of the length before the header */
};

enum safetensors_dtype {
	DTYPE_BOOL,
	DTYPE_F4,
	DTYPE_F6_E2M3,
	DTYPE_F6_E3M2,
	DTYPE_U8,
	DTYPE_I8,
	DTYPE_F8_E5M2,
	DTYPE_F8_E4M3,
	DTYPE_F8_E8M0,
	DTYPE_F8_E4M3FNUZ,
	DTYPE_F8_E5M2FNUZ,
	DTYPE_I16,
	DTYPE_U16,
	DTYPE_F16,
	DTYPE_BF16,
	DTYPE_I32,
	DTYPE_U32,
	DTYPE_F32,
	DTYPE_C64,
	DTYPE_F64,
	DTYPE_I64,
	DTYPE_U64,
	DTYPE_COUNT
};

struct safetensor {
	const char *name; /* not NUL-terminated; valid until safetensors_free */
	uint32_t name_len;
	uint32_t file; /* number in store_files */
	uint8_t dtype; /* enum safetensors_dtype */
	uint8_t rank;
	bool indexed; /* set and read by the tensor table: model.safetensors.index.json names it */
	bool used;    /* set and read by the survey */
	uint64_t shape[SAFETENSORS_RANK_MAX];
	uint64_t off; /* from the file's start */
	uint64_t bytes;
};

struct safetensors {
	struct safetensor *tensor; /* by offset */
	size_t count;
	void *doc; /* holds the names */
};

/* The spelling in headers. */
const char *safetensors_dtype_name(unsigned dtype);

/* Length of the header from the first 8 bytes of `file`, which has file_bytes bytes. Status 3. */
MUST_CHECK int safetensors_header_len(const uint8_t prefix[SAFETENSORS_PREFIX], const char *file,
				      uint64_t file_bytes, uint64_t *len, struct err *e);

/*
 * Parses the `len` bytes of header of `file` (number `number`), whose data begin at 8 + len and end
 * at file_bytes exactly. The caller frees by safetensors_free, after success only. Returns 0 or
 * -errno with a text that names file and tensor; status 3.
 */
MUST_CHECK int safetensors_parse(struct safetensors *st, const char *file, uint32_t number,
				 const char *header, size_t len, uint64_t file_bytes,
				 struct err *e);
void safetensors_free(struct safetensors *st);

/* "[3, 4]" into out, for messages; a rank above SAFETENSORS_RANK_MAX cannot occur. Returns out. */
const char *safetensors_shape_text(char out[192], const uint64_t *shape, unsigned rank);

#endif
