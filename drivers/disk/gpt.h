/*
 * Partition tables of drives (GPT, UEFI specification 2.10, chapter 5): made by `penstock image`,
 * read by `init` on a booted node, which finds its model by the partition's type. Sectors of 512
 * bytes are written; drives with sectors of 4096 bytes are read too. No system call is made here.
 */
#ifndef DRIVERS_DISK_GPT_H
#define DRIVERS_DISK_GPT_H

#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	GPT_SECTOR = 512,
	GPT_PARTS = 128,           /* entries of a table that we write */
	GPT_PARTS_MAX = 1024,      /* and of one that we read */
	GPT_HEAD_BYTES = 34 * 512, /* protective MBR, header, entries */
	GPT_TAIL_BYTES = 33 * 512, /* entries and header again, at the end of the drive */
	GPT_NAME_MAX = 36          /* characters */
};

/* As they stand on the drive: the first three groups of digits are little-endian. */
struct gpt_guid {
	uint8_t byte[16];
};

extern const struct gpt_guid gpt_type_esp;   /* C12A7328-F81F-11D2-BA4B-00A0C93EC93B */
extern const struct gpt_guid gpt_type_model; /* 50656E73-746F-636B-8D6F-64656C000001 */

struct gpt_part {
	struct gpt_guid type, guid;
	uint64_t off, bytes;         /* multiples of the sector */
	char name[GPT_NAME_MAX + 1]; /* ASCII */
};

/*
 * Fills `head` (GPT_HEAD_BYTES, for byte 0 of the drive) and `tail` (GPT_TAIL_BYTES, for its last
 * bytes) of a drive of drive_bytes, with n partitions in the order of their numbers. A partition
 * that overlaps a table is asserted against.
 */
void gpt_make(void *head, void *tail, uint64_t drive_bytes, const struct gpt_guid *drive,
	      const struct gpt_part *part, unsigned n);

/* Where the entries of a table stand that a header (one sector) speaks of. */
struct gpt_table {
	uint64_t off; /* bytes from the drive's begin */
	uint32_t entries, entry_bytes;
	uint32_t sum; /* CRC32 of all entries */
};

/* Whether `header` (`sector` bytes, read from byte `sector` or from the last one) is one. */
MUST_CHECK bool gpt_header_read(const void *header, uint32_t sector, struct gpt_table *t);

/* Whether the entries are those whose sum the header has. */
MUST_CHECK bool gpt_entries_ok(const struct gpt_table *t, const void *entries);

/* Entry number i of the table; false: it is empty, or its ends make no sense. */
MUST_CHECK bool gpt_entry(const struct gpt_table *t, const void *entries, uint32_t i,
			  uint32_t sector, struct gpt_part *part);

/*
 * Of a drive that is larger than the image that was written to it: the table's copy belongs to the
 * drive's last sector, and stands where the image ended. Changes `header` (one sector, the table's
 * first one) and fills `copy` (one sector) to what they must be on a drive of drive_bytes; the
 * entries' copy goes to *entries_off. False, and nothing done: the header is none, or the copy
 * stands at the end already, or the drive is smaller than it says.
 */
MUST_CHECK bool gpt_grow(void *header, void *copy, uint32_t sector, uint64_t drive_bytes,
			 uint64_t *entries_off);

uint32_t gpt_crc32(const void *data, size_t len);

/* "50656e73-...": 36 characters and a NUL. */
void gpt_guid_text(char out[37], const struct gpt_guid *g);

/* The reverse, of any case; -EINVAL. */
MUST_CHECK int gpt_guid_parse(struct gpt_guid *g, const char *text);

/*
 * A GUID that follows from 16 bytes of a hash (version 8, RFC 9562): the same for the same image.
 */
struct gpt_guid gpt_guid_of(const uint8_t hash[16]);

#endif
