/*
 * The node's program for the firmware (a unified kernel image: kernel, initramfs and command line
 * in one PE file, made by build.sh) gets its command line. Called by `penstock image`.
 */
#ifndef IMAGES_EFI_H
#define IMAGES_EFI_H

#include "runtime/err.h"

#include <stddef.h>

/*
 * Writes `text` into the section .cmdline of the PE file `pe`, over what is there. Returns 0, or
 * -EINVAL with a text: no such file, or not so much room. A signature must come afterwards.
 */
MUST_CHECK int efi_set_command_line(void *pe, size_t bytes, const char *text, struct err *e);

#endif
