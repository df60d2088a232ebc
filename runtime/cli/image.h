/*
 * `penstock image`, in two files: image.c reads the command line and the store, image_write.c
 * writes the disk. Private to them.
 */
#ifndef RUNTIME_CLI_IMAGE_H
#define RUNTIME_CLI_IMAGE_H

#include "model/store/pack.h"
#include "model/store/settings.h"
#include "runtime/err.h"

#include <stdbool.h>

enum {
	IMAGE_UNIT = 1 << 20,    /* partitions begin at its multiples */
	IMAGE_ROUND = 512 << 10, /* sizes of program partitions are multiples of it */
	IMAGE_SPARE = 256 << 10  /* of a program partition, for the next version */
};

struct image {
	const char *out;
	void *efi; /* the signed program, efi_bytes; NULL: a drive with a model only */
	size_t efi_bytes;
	uint64_t slot_bytes; /* of a program partition */
	uint8_t root[PACK_HASH];
	int store;            /* the packed store, or -1: a drive without a model */
	uint64_t store_bytes; /* as far as it is used */
	struct pack_settings settings;
};

/* Writes the disk, or with `update` nothing but one program partition's contents. */
MUST_CHECK int image_write(const struct image *m, bool update, struct err *e);

#endif
