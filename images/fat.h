/*
 * Writes one FAT16 volume, the EFI system partition of an image: a handful of files with short
 * names, the same bytes for the same input. Called by `penstock image`. UEFI firmware reads FAT16
 * as well as FAT32 (UEFI specification 2.10, 13.3), which would need 33 MB at least.
 */
#ifndef IMAGES_FAT_H
#define IMAGES_FAT_H

#include "runtime/err.h"

#include <stddef.h>
#include <stdint.h>

enum {
	FAT_BYTES_MIN = 8 << 20, /* smaller volumes would be FAT12 */
	FAT_BYTES_MAX = 1 << 30,
	FAT_DEPTH_MAX = 4
};

struct fat_file {
	const char *path; /* "EFI/BOOT/BOOTX64.EFI": each part in capitals, 8.3 */
	const void *data;
	size_t bytes;
};

/*
 * Fills `out` (volume_bytes, a multiple of 4096, FAT_BYTES_MIN to FAT_BYTES_MAX) with a volume that
 * holds the files; folders are made as their names come. -ENOSPC with a text if they do not fit;
 * -EINVAL for a name that is none.
 */
MUST_CHECK int fat_make(void *out, size_t volume_bytes, uint32_t serial,
			const struct fat_file *file, unsigned n, struct err *e);

#endif
