/*
 * What a bootable disk is made of: partition tables (drivers/disk/gpt.h), the FAT volume
 * (images/fat.h), the command line in a PE file (images/efi.h), the settings of a node
 * (model/store/settings.h).
 */
#include "drivers/disk/gpt.h"
#include "images/efi.h"
#include "images/fat.h"
#include "model/store/settings.h"
#include "tests/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	DRIVE = 64 << 20
};

static void check_guid(void)
{
	struct gpt_guid g;
	char text[37];

	is_int(gpt_guid_parse(&g, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"), 0, "a GUID is read");
	ok(!memcmp(&g, &gpt_type_esp, sizeof(g)), "with its first groups turned round");
	gpt_guid_text(text, &gpt_type_model);
	ok(!strcmp(text, "50656e73-746f-636b-8d6f-64656c000001"),
	   "the model's type is the one of "
	   "images/README.md: %s",
	   text);
	is_int(gpt_guid_parse(&g, "c12a7328-f81f-11d2-ba4b-00a0c93ec93"), -EINVAL,
	       "one digit less");
	is_int(gpt_guid_parse(&g, "c12a7328-f81f-11d2-ba4b-00a0c93ec93bb"), -EINVAL, "one more");
	is_int(gpt_guid_parse(&g, "c12a7328xf81f-11d2-ba4b-00a0c93ec93b"), -EINVAL, "no dash");
}

/* The image on a drive twice as large. */
static void grows(const uint8_t *head, const uint8_t *tail)
{
	uint8_t header[GPT_SECTOR], copy[GPT_SECTOR], old[GPT_SECTOR];
	struct gpt_table t;
	uint64_t off = 0;

	memcpy(header, head + GPT_SECTOR, sizeof(header));
	memcpy(old, header, sizeof(old));
	ok(!gpt_grow(header, copy, GPT_SECTOR, DRIVE, &off) && !memcmp(header, old, sizeof(old)),
	   "a drive of the image's size stays as it is");
	ok(!gpt_grow(header, copy, GPT_SECTOR, DRIVE / 2, &off), "so does a smaller one");
	ok(!gpt_grow(header, copy, GPT_SECTOR, 4 * GPT_SECTOR, &off), "and one of no size");
	ok(gpt_grow(header, copy, GPT_SECTOR, 2 * DRIVE, &off), "on a larger one the copy moves");
	is_int((long)off, 2 * DRIVE - GPT_TAIL_BYTES, "to its end");
	ok(gpt_header_read(header, GPT_SECTOR, &t) && t.off == 2 * GPT_SECTOR &&
		   gpt_entries_ok(&t, tail),
	   "the first header is one as before");
	ok(gpt_header_read(copy, GPT_SECTOR, &t) && t.off == off && gpt_entries_ok(&t, tail),
	   "the copy finds the entries there");
	ok(!gpt_grow(header, copy, GPT_SECTOR, 2 * DRIVE, &off), "and then there is nothing to do");
}

static void check_table(void)
{
	static unsigned char head[GPT_HEAD_BYTES], tail[GPT_TAIL_BYTES];
	struct gpt_part in[2] = {
		{.type = gpt_type_esp, .off = 1 << 20, .bytes = 8 << 20, .name = "a"},
		{.type = gpt_type_model,
		 .off = 9 << 20,
		 .bytes = DRIVE - (9 << 20) - GPT_TAIL_BYTES,
		 .name = "penstock model"}};
	struct gpt_guid drive = {{1}};
	struct gpt_table t;
	struct gpt_part out;

	in[0].guid.byte[0] = 2;
	in[1].guid.byte[0] = 3;
	is_int((int)gpt_crc32("123456789", 9), (int)0xcbf43926u, "the sum is the usual CRC32");
	gpt_make(head, tail, DRIVE, &drive, in, 2);
	ok(head[510] == 0x55 && head[511] == 0xaa && head[450] == 0xee, "a protective MBR");
	ok(gpt_header_read(head + GPT_SECTOR, GPT_SECTOR, &t), "the first header is one");
	is_int((long)t.off, 2 * GPT_SECTOR, "its entries follow");
	ok(gpt_entries_ok(&t, head + 2 * GPT_SECTOR), "and have its sum");
	ok(gpt_entry(&t, head + 2 * GPT_SECTOR, 1, GPT_SECTOR, &out) && out.off == in[1].off &&
		   out.bytes == in[1].bytes &&
		   !memcmp(&out.type, &gpt_type_model, sizeof(out.type)) &&
		   !strcmp(out.name, in[1].name),
	   "what was written is read");
	ok(!gpt_entry(&t, head + 2 * GPT_SECTOR, 2, GPT_SECTOR, &out), "an empty entry is none");
	ok(!gpt_entry(&t, head + 2 * GPT_SECTOR, GPT_PARTS, GPT_SECTOR, &out),
	   "nor one behind the last");
	ok(gpt_header_read(tail + GPT_TAIL_BYTES - GPT_SECTOR, GPT_SECTOR, &t) &&
		   t.off == DRIVE - GPT_TAIL_BYTES && gpt_entries_ok(&t, tail),
	   "the copy at the end is one too");
	grows(head, tail);
	head[2 * GPT_SECTOR + 40] ^= 1;
	ok(!gpt_entries_ok(&t, head + 2 * GPT_SECTOR), "a flipped bit in the entries is found");
	head[GPT_SECTOR + 72] ^= 1;
	ok(!gpt_header_read(head + GPT_SECTOR, GPT_SECTOR, &t), "and one in the header");
}

/* The clusters of a file by the volume's own numbers; NULL: it is not where it should be. */
static const unsigned char *fat_find(const unsigned char *v, const char name[12], size_t at)
{
	for (; v[at]; at += 32)
		if (!memcmp(v + at, name, 11))
			return v + at;
	return NULL;
}

static void check_fat(void)
{
	static const char text[] = "the program";
	const size_t bytes = 10u << 20;
	unsigned char *v = malloc(bytes), *again = malloc(bytes);
	const struct fat_file f = {"EFI/BOOT/BOOTX64.EFI", text, sizeof(text)};
	const struct fat_file lower = {"efi/boot", text, sizeof(text)};
	const struct fat_file large = {"A", v, bytes};
	const unsigned char *e;
	size_t root, data, cluster;
	struct err err = {0};

	is_int(fat_make(v, bytes, 7, &f, 1, &err), 0, "a volume is made");
	is_int(fat_make(again, bytes, 7, &f, 1, &err), 0, "and another");
	ok(!memcmp(v, again, bytes), "of the same bytes");
	cluster = v[13] * 512u;
	root = (v[14] + v[15] * 256u + 2 * (v[22] + v[23] * 256u)) * 512;
	data = root + (v[17] + v[18] * 256u) * 32;
	e = fat_find(v, "EFI        ", root);
	ok(e && e[11] == 0x10, "it has a folder EFI");
	e = e ? fat_find(v, "BOOT       ", data + (e[26] - 2u) * cluster) : NULL;
	ok(e && e[11] == 0x10, "in it BOOT");
	e = e ? fat_find(v, "BOOTX64 EFI", data + (e[26] - 2u) * cluster) : NULL;
	ok(e && e[28] == sizeof(text) &&
		   !memcmp(v + data + (e[26] - 2u) * cluster, text, sizeof(text)),
	   "in it the file, with its bytes");
	is_int(fat_make(again, bytes, 7, &lower, 1, &err), -EINVAL, "a long name is refused");
	err = (struct err){0};
	is_int(fat_make(again, bytes, 7, &large, 1, &err), -ENOSPC,
	       "so is a file that does not fit");
	err = (struct err){0};
	is_int(fat_make(again, 4 << 20, 7, &f, 1, &err), -EINVAL,
	       "and a volume that would be FAT12");
	free(v);
	free(again);
}

static void check_efi(void)
{
	unsigned char pe[1024] = {0};
	struct err e = {0};

	memcpy(pe + 0x3c, "\x80", 1);
	memcpy(pe + 0x80, "PE\0\0", 4);
	pe[0x80 + 6] = 1; /* one section, no optional header */
	memcpy(pe + 0x80 + 24, ".cmdline", 8);
	pe[0x80 + 24 + 16] = 16; /* bytes */
	pe[0x80 + 24 + 20] = 0;
	pe[0x80 + 24 + 21] = 2; /* at 512 */
	is_int(efi_set_command_line(pe, sizeof(pe), "a=1 b=2", &e), 0, "a command line is written");
	ok(!memcmp(pe + 512, "a=1 b=2\0", 8) && pe[0x80 + 24 + 8] == 7, "with its length");
	is_int(efi_set_command_line(pe, sizeof(pe), "seventeen bytes..", &e), -EINVAL,
	       "one that has no room is refused");
	e = (struct err){0};
	is_int(efi_set_command_line(pe, 520, "a", &e), -EINVAL, "so is a file that was cut");
	e = (struct err){0};
	is_int(efi_set_command_line(pe + 1000, 2, "a", &e), -EINVAL,
	       "and one that is no such file");
}

static void check_settings(void)
{
	struct pack_settings s = {0};
	char text[2 * sizeof(s.text)], *argv[SETTINGS_MAX];
	struct err e = {0};

	ok(settings_ok(&s), "a page without settings is good");
	is_int(settings_set(&s, "context", "4096", &e), 0, "one is set");
	is_int(settings_set(&s, "name", "a b", &e), 0, "and another");
	is_int(settings_set(&s, "context", "8192", &e), 0, "and the first again");
	ok(!settings_ok(&s), "a page without its sum is not good");
	settings_seal(&s);
	ok(settings_ok(&s), "with it, it is");
	is_int(settings_arguments(&s, argv, text, sizeof(text)), 2, "they are two arguments");
	ok(!strcmp(argv[0], "--name=a b") && !strcmp(argv[1], "--context=8192"),
	   "the last value counts");
	is_int(settings_set(&s, "socket", "/x", &e), -EINVAL, "what is no setting is refused");
	e = (struct err){0};
	is_int(settings_set(&s, "name", "a\n--isa=scalar", &e), -EINVAL, "so is a line in a line");
	is_int(settings_set(&s, "name", "", &e), 0, "an empty value takes it away");
	is_int(settings_arguments(&s, argv, text, sizeof(text)), 1, "then there is one");
	s.text[9] ^= 1;
	ok(!settings_ok(&s), "a flipped bit is found");
}

int main(void)
{
	check_guid();
	check_table();
	check_fat();
	check_efi();
	check_settings();
	return tap_done();
}
