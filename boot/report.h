/*
 * What is in a booted node, as text for the host: the files of the image with their sizes and
 * hashes, the moments of its start, every process with its memory and its open descriptors. Called
 * by boot/ask.c.
 */
#ifndef BOOT_REPORT_H
#define BOOT_REPORT_H

#include "boot/machine.h"

#include <stddef.h>

/* Fills `text`, cut where it does not fit. Returns its length. */
size_t report_make(const struct machine *m, char *text, size_t room);

#endif
