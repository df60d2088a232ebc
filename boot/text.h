/*
 * Small text files of /proc, /sys and the image, read whole. Used by boot/ only, before a node
 * serves and where a person asks.
 */
#ifndef BOOT_TEXT_H
#define BOOT_TEXT_H

#include <stddef.h>

/*
 * The file's first room - 1 bytes and a NUL into text; their number, 0 also where there is no such
 * file.
 */
size_t text_read(const char *path, char *text, size_t room);

#endif
