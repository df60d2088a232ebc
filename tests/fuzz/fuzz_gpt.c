/*
 * drivers/disk/gpt.h: any sector and any entries from a drive; entries that pass lie in the buffer.
 */
#include "drivers/disk/gpt.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const uint32_t sector = 512;
	struct gpt_table t;
	struct gpt_part p;
	uint8_t header[512], copy[512];
	uint64_t off;

	if (len < sizeof(header))
		return 0;
	memcpy(header, data, sizeof(header));
	/* a sum that is right lets the rest be reached */
	memset(header + 16, 0, 4);
	memcpy(header + 16, &(uint32_t){gpt_crc32(header, 92)}, 4);
	if (!gpt_header_read(header, sector, &t) ||
	    len - sizeof(header) < (size_t)t.entries * t.entry_bytes)
		return 0;
	for (uint32_t i = 0; i <= t.entries; i++) {
		if (!gpt_entry(&t, data + sizeof(header), i, sector, &p))
			continue;
		if (memchr(p.name, 0, sizeof(p.name)) == NULL || p.bytes == 0)
			abort();
	}
	if (gpt_grow(header, copy, sector, (uint64_t)len << (len % 40), &off) &&
	    (!gpt_header_read(header, sector, &t) || !gpt_header_read(copy, sector, &t) ||
	     off + (uint64_t)t.entries * t.entry_bytes > (uint64_t)len << (len % 40)))
		abort();
	if (gpt_entries_ok(&t, data + sizeof(header)) && !t.entries && t.sum)
		abort();
	return 0;
}
