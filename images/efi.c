/* The command line of a unified kernel image; see efi.h. Offsets are those of the PE format. */
#include "images/efi.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

enum {
	PE_AT = 0x3c,     /* where the header's offset stands */
	PE_SECTIONS = 6,  /* from there: their number, 16 bits */
	PE_OPTIONAL = 20, /* bytes of the optional header, 16 bits */
	PE_HEADER = 24,   /* the optional header; the sections follow */
	SECTION_BYTES = 40,
	SECTION_USED = 8, /* of a section: bytes in memory, bytes and place in the file */
	SECTION_ROOM = 16,
	SECTION_OFF = 20
};

static uint32_t get32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t get16(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8;
}

/* The section's header, or NULL. */
static uint8_t *find_section(uint8_t *pe, size_t bytes, const char name[8])
{
	size_t at, n;

	if (bytes < PE_AT + 4)
		return NULL;
	at = get32(pe + PE_AT);
	if (at > bytes || bytes - at < PE_HEADER || memcmp(pe + at, "PE\0", 4) != 0)
		return NULL;
	n = get16(pe + at + PE_SECTIONS);
	at += PE_HEADER + get16(pe + at + PE_OPTIONAL);
	for (; n-- && at <= bytes && bytes - at >= SECTION_BYTES; at += SECTION_BYTES)
		if (!memcmp(pe + at, name, 8))
			return pe + at;
	return NULL;
}

int efi_set_command_line(void *pe, size_t bytes, const char *text, struct err *e)
{
	static const char name[8] = {'.', 'c', 'm', 'd', 'l', 'i', 'n', 'e'};
	uint8_t *s = find_section(pe, bytes, name);
	size_t len = strlen(text), room, off;

	if (!s)
		return err_set(e, -EINVAL, "the node's file is no unified kernel image");
	room = get32(s + SECTION_ROOM);
	off = get32(s + SECTION_OFF);
	if (off > bytes || room > bytes - off)
		return err_set(e, -EINVAL, "the node's file is cut");
	if (len > room)
		return err_set(e, -EINVAL, "a command line of %zu bytes; there is room for %zu",
			       len, room);
	memset((char *)pe + off, 0, room);
	memcpy((char *)pe + off, text, len);
	for (unsigned i = 0; i < 4; i++)
		s[SECTION_USED + i] = (uint8_t)(len >> 8 * i);
	return 0;
}
