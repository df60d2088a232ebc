/* Partition tables; see gpt.h. Everything on the drive is little-endian, as this machine is. */
#include "drivers/disk/gpt.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

const struct gpt_guid gpt_type_esp = {{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b,
				       0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}};
/* "Penstock model" and a version, with the bits that a GUID must have */
const struct gpt_guid gpt_type_model = {{0x73, 0x6e, 0x65, 0x50, 0x6f, 0x74, 0x6b, 0x63, 0x8d, 0x6f,
					 0x64, 0x65, 0x6c, 0x00, 0x00, 0x01}};

#define GPT_MAGIC 0x5452415020494645ull /* "EFI PART" */

struct gpt_header {
	uint64_t magic;
	uint32_t revision, header_bytes, sum, zero;
	uint64_t own, other, first, last; /* sectors */
	struct gpt_guid drive;
	uint64_t entries_at;
	uint32_t entries, entry_bytes, entries_sum, pad;
};
_Static_assert(sizeof(struct gpt_header) == 96, "a header of 92 bytes and what aligns it");

enum {
	HEADER_BYTES = 92,
	ENTRY_BYTES = 128,
	ENTRY_BYTES_MAX = 4096
};

struct gpt_entry {
	struct gpt_guid type, guid;
	uint64_t first, last; /* sectors, both inclusive */
	uint64_t flags;
	uint16_t name[GPT_NAME_MAX];
};
_Static_assert(sizeof(struct gpt_entry) == ENTRY_BYTES, "an entry");

uint32_t gpt_crc32(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint32_t crc = 0xffffffff;

	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

/* ---- Writing ---- */

/* One partition of all there is, so that a tool that knows no GPT keeps its hands off. */
static void make_mbr(uint8_t *mbr, uint64_t sectors)
{
	uint32_t size = sectors - 1 > 0xffffffff ? 0xffffffff : (uint32_t)(sectors - 1);
	uint32_t first = 1;

	mbr[447] = 0x00; /* its begin as cylinder, head, sector: 0, 0, 2 */
	mbr[448] = 0x02;
	mbr[450] = 0xee;
	memset(mbr + 451, 0xff, 3);
	memcpy(mbr + 454, &first, 4);
	memcpy(mbr + 458, &size, 4);
	mbr[510] = 0x55;
	mbr[511] = 0xaa;
}

static void make_header(void *out, const struct gpt_guid *drive, uint64_t sectors, bool backup,
			uint32_t entries_sum)
{
	struct gpt_header h = {
		.magic = GPT_MAGIC,
		.revision = 0x10000,
		.header_bytes = HEADER_BYTES,
		.own = backup ? sectors - 1 : 1,
		.other = backup ? 1 : sectors - 1,
		.first = GPT_HEAD_BYTES / GPT_SECTOR,
		.last = sectors - GPT_TAIL_BYTES / GPT_SECTOR - 1,
		.drive = *drive,
		.entries_at = backup ? sectors - GPT_TAIL_BYTES / GPT_SECTOR : 2,
		.entries = GPT_PARTS,
		.entry_bytes = ENTRY_BYTES,
		.entries_sum = entries_sum,
	};

	h.sum = gpt_crc32(&h, HEADER_BYTES);
	memcpy(out, &h, HEADER_BYTES);
}

void gpt_make(void *head, void *tail, uint64_t drive_bytes, const struct gpt_guid *drive,
	      const struct gpt_part *part, unsigned n)
{
	uint64_t sectors = drive_bytes / GPT_SECTOR;
	uint8_t *h = head, *t = tail;
	uint32_t sum;

	assert(n <= GPT_PARTS);
	memset(h, 0, GPT_HEAD_BYTES);
	memset(t, 0, GPT_TAIL_BYTES);
	for (unsigned i = 0; i < n; i++) {
		struct gpt_entry e = {.type = part[i].type, .guid = part[i].guid};

		assert(part[i].off >= GPT_HEAD_BYTES && !(part[i].off % GPT_SECTOR) &&
		       part[i].bytes && !(part[i].bytes % GPT_SECTOR) &&
		       part[i].off + part[i].bytes <= drive_bytes - GPT_TAIL_BYTES);
		e.first = part[i].off / GPT_SECTOR;
		e.last = e.first + part[i].bytes / GPT_SECTOR - 1;
		for (unsigned k = 0; k < GPT_NAME_MAX && part[i].name[k]; k++)
			e.name[k] = (uint8_t)part[i].name[k];
		memcpy(t + i * sizeof(e), &e, sizeof(e));
	}
	memcpy(h + 2 * GPT_SECTOR, t, GPT_PARTS * ENTRY_BYTES);
	sum = gpt_crc32(t, GPT_PARTS * ENTRY_BYTES);
	make_mbr(h, sectors);
	make_header(h + GPT_SECTOR, drive, sectors, false, sum);
	make_header(t + GPT_TAIL_BYTES - GPT_SECTOR, drive, sectors, true, sum);
}

/* ---- Reading ---- */

bool gpt_header_read(const void *header, uint32_t sector, struct gpt_table *t)
{
	struct gpt_header h;
	uint32_t sum;

	memcpy(&h, header, HEADER_BYTES);
	sum = h.sum;
	h.sum = 0;
	if (h.magic != GPT_MAGIC || h.header_bytes != HEADER_BYTES ||
	    sum != gpt_crc32(&h, HEADER_BYTES))
		return false;
	if (h.entries > GPT_PARTS_MAX || h.entry_bytes < ENTRY_BYTES ||
	    h.entry_bytes > ENTRY_BYTES_MAX || h.entry_bytes % 8 ||
	    __builtin_mul_overflow(h.entries_at, (uint64_t)sector, &t->off))
		return false;
	t->entries = h.entries;
	t->entry_bytes = h.entry_bytes;
	t->sum = h.entries_sum;
	return true;
}

bool gpt_grow(void *header, void *copy, uint32_t sector, uint64_t drive_bytes,
	      uint64_t *entries_off)
{
	uint64_t last = drive_bytes / sector - 1, entries;
	struct gpt_header h;
	struct gpt_table t;

	if (!gpt_header_read(header, sector, &t))
		return false;
	memcpy(&h, header, HEADER_BYTES);
	entries = ((uint64_t)t.entries * t.entry_bytes + sector - 1) / sector;
	if (h.own != 1 || last <= entries || h.other >= last || h.last >= last - entries)
		return false;
	h.other = last;
	h.last = last - entries - 1;
	h.sum = 0;
	h.sum = gpt_crc32(&h, HEADER_BYTES);
	memcpy(header, &h, HEADER_BYTES);
	*entries_off = (last - entries) * sector;
	h.own = last;
	h.other = 1;
	h.entries_at = last - entries;
	h.sum = 0;
	h.sum = gpt_crc32(&h, HEADER_BYTES);
	memset(copy, 0, sector);
	memcpy(copy, &h, HEADER_BYTES);
	return true;
}

bool gpt_entries_ok(const struct gpt_table *t, const void *entries)
{
	return gpt_crc32(entries, (size_t)t->entries * t->entry_bytes) == t->sum;
}

bool gpt_entry(const struct gpt_table *t, const void *entries, uint32_t i, uint32_t sector,
	       struct gpt_part *part)
{
	static const struct gpt_guid none;
	struct gpt_entry e;

	if (i >= t->entries)
		return false;
	memcpy(&e, (const char *)entries + (size_t)i * t->entry_bytes, sizeof(e));
	memset(part, 0, sizeof(*part));
	part->type = e.type;
	part->guid = e.guid;
	if (!memcmp(&e.type, &none, sizeof(none)) || e.last < e.first || e.last == UINT64_MAX ||
	    __builtin_mul_overflow(e.first, (uint64_t)sector, &part->off) ||
	    __builtin_mul_overflow(e.last - e.first + 1, (uint64_t)sector, &part->bytes))
		return false;
	for (unsigned k = 0; k < GPT_NAME_MAX && e.name[k]; k++)
		part->name[k] = e.name[k] >= ' ' && e.name[k] <= '~' ? (char)e.name[k] : '?';
	return true;
}

/* ---- Names ---- */

/* Where the bytes of a GUID stand in its text. */
static const uint8_t text_order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

static bool dash_before(unsigned i)
{
	return i == 4 || i == 6 || i == 8 || i == 10;
}

void gpt_guid_text(char out[37], const struct gpt_guid *g)
{
	char *p = out;

	for (unsigned i = 0; i < 16; i++)
		p += snprintf(p, 4, dash_before(i) ? "-%02x" : "%02x", g->byte[text_order[i]]);
}

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

int gpt_guid_parse(struct gpt_guid *g, const char *text)
{
	for (unsigned i = 0; i < 16; i++) {
		int high, low;

		if (dash_before(i) && *text++ != '-')
			return -EINVAL;
		high = hex(text[0]);
		low = high < 0 ? -1 : hex(text[1]);
		if (low < 0)
			return -EINVAL;
		g->byte[text_order[i]] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	return *text ? -EINVAL : 0;
}

struct gpt_guid gpt_guid_of(const uint8_t hash[16])
{
	struct gpt_guid g;

	memcpy(g.byte, hash, 16);
	g.byte[7] = (uint8_t)((g.byte[7] & 0x0f) | 0x80);
	g.byte[8] = (uint8_t)((g.byte[8] & 0x3f) | 0x80);
	return g;
}
