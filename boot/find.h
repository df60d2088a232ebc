/*
 * Finds the model on a booted node's drives: partitions of our type (drivers/disk/gpt.h), or whole
 * drives, that begin with the header of a packed store with the wanted root. What they really hold
 * is for the survey to check; here is only chosen.
 */
#ifndef BOOT_FIND_H
#define BOOT_FIND_H

#include "drivers/disk/gpt.h"
#include "model/store/pack_format.h"
#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>

/* A partition of a drive: `device` is "nvme0n1p3", `number` 3. True ends the walk. */
typedef bool find_part(void *context, const char *device, uint32_t number, uint32_t sector,
		       const struct gpt_part *part);

/* Every partition of every drive with a table. Returns whether one ended it. */
bool find_partitions(find_part *each, void *context);

/*
 * Where an image was written to a larger drive, its table's copy is moved to the drive's end, as
 * the specification has it and tools ask for. Drives with partitions of ours only. Returns how many
 * were changed.
 */
unsigned find_mend_tables(void);

/* What was found so far. */
struct find {
	uint8_t root[PACK_HASH]; /* the wanted one */
	uint32_t parts, have;    /* of the store; 0: none of it found */
	uint8_t seen[PACK_PARTS_MAX];
	unsigned others; /* stores of another root */
	char other[65];  /* the last one's */
	char empty[64];  /* a partition for a model that begins with none; else "" */
	char *names;     /* out: devices with commas between them */
	size_t room, len;
	struct pack_settings settings; /* of part 0 */
};

/* Looks at every drive once. Returns 1: all parts are there, 0: not yet. */
int find_model(struct find *f);

#endif
