/*
 * What the role `cuda` needs of this machine besides its descriptors: libcuda, the C library that
 * it was built for, the GPU's device files. Found once by name, by init; put into the root folder
 * of every process of the role, which is else empty (boot/confine.h). Called by start.c.
 */
#ifndef BOOT_GPU_H
#define BOOT_GPU_H

#include "boot/confine.h"
#include "runtime/err.h"

#include <limits.h>

enum {
	GPU_FILES = 48
};

struct gpu_files {
	struct confine_root root;
	struct confine_file file[GPU_FILES];
	char path[GPU_FILES][128];
	char library[128]; /* libcuda, as it is called inside */
	char ordinal[8];   /* the GPU's number */
};

/*
 * Looks for all of it; `library`: libcuda where the user has said so, NULL: the usual places.
 * -ENODEV with a text where there is no driver.
 */
MUST_CHECK int gpu_find(struct gpu_files *g, unsigned ordinal, const char *library, struct err *e);

#endif
