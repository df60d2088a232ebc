/* The firmware's variables; see efivar.h. A file holds 4 bytes of attributes, then the value. */
#include "boot/efivar.h"

#include "boot/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER     "/sys/firmware/efi/efivars"
#define GLOBAL     "8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define LOADER     "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f" /* systemd's */
#define ENTRY_FILE u"\\EFI\\BOOT\\BOOTX64.EFI"

enum {
	ATTRIBUTES = 4,
	KEPT = 7, /* in non-volatile memory, for the firmware and the running system */
	VALUE_MAX = 1024,
	ENTRY_ACTIVE = 1,
	PATH_MEDIA = 4, /* type of both nodes of a path */
	PATH_DRIVE = 1,
	PATH_FILE = 4,
	DRIVE_BYTES = 42
};

int efivar_open(struct err *e)
{
	if (access("/sys/firmware/efi", F_OK))
		return err_set(e, -ENODEV, "this machine was not started by UEFI firmware");
	modules_load_file("efivarfs.ko");
	if (mount("efivarfs", FOLDER, "efivarfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL) &&
	    errno != EBUSY)
		return err_set(e, -errno, "the firmware's variables cannot be mounted: %s",
			       strerror(errno));
	return 0;
}

void efivar_close(void)
{
	umount2(FOLDER, MNT_DETACH);
}

/* The value; its length, or -errno. */
static ssize_t get(const char *name, const char *vendor, void *value, size_t room)
{
	unsigned char text[ATTRIBUTES + VALUE_MAX];
	char path[200];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), FOLDER "/%s-%s", name, vendor);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text));
	close(fd);
	if (n < ATTRIBUTES)
		return -EIO;
	n -= ATTRIBUTES;
	n = (size_t)n < room ? n : (ssize_t)room;
	memcpy(value, text + ATTRIBUTES, (size_t)n);
	return n;
}

static int set(const char *name, const void *value, size_t len, struct err *e)
{
	unsigned char text[ATTRIBUTES + VALUE_MAX] = {KEPT};
	char path[200];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), FOLDER "/%s-" GLOBAL, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	memcpy(text + ATTRIBUTES, value, len);
	if (fd >= 0)
		n = write(fd, text, ATTRIBUTES + len); /* one write is one change */
	if (n < 0)
		err_set(e, -errno, "the firmware refuses %s: %s", name, strerror(errno));
	if (fd >= 0)
		close(fd);
	return n < 0 ? -EIO : 0;
}

int efivar_own_partition(struct gpt_guid *g, struct err *e)
{
	uint16_t wide[40];
	char text[40];
	ssize_t n = get("LoaderDevicePartUUID", LOADER, wide, sizeof(wide));

	for (ssize_t i = 0; i < n / 2; i++)
		text[i] = (char)wide[i];
	text[n > 0 ? n / 2 < 36 ? n / 2 : 36 : 0] = '\0';
	if (gpt_guid_parse(g, text))
		return err_set(e, -ENOENT,
			       "the firmware did not say which partition this program is from");
	return 0;
}

unsigned efivar_order(uint16_t order[EFIVAR_ORDER_MAX])
{
	ssize_t n = get("BootOrder", GLOBAL, order, EFIVAR_ORDER_MAX * sizeof(*order));

	return n < 0 ? 0 : (unsigned)n / 2;
}

int efivar_set_order(const uint16_t *order, unsigned n, struct err *e)
{
	return set("BootOrder", order, n * sizeof(*order), e);
}

int efivar_set_next(uint16_t entry, struct err *e)
{
	return set("BootNext", &entry, sizeof(entry), e);
}

/* ---- Boot entries ---- */

static size_t put(unsigned char *out, size_t at, const void *data, size_t len)
{
	memcpy(out + at, data, len);
	return at + len;
}

/* EFI_LOAD_OPTION: attributes, bytes of the path, name, path of a drive's partition and a file. */
static size_t make_entry(unsigned char *out, const struct gpt_part *part, uint32_t number,
			 uint32_t sector)
{
	static const uint16_t file[] = ENTRY_FILE;
	const uint32_t active = ENTRY_ACTIVE;
	const uint16_t path_bytes = DRIVE_BYTES + 4 + sizeof(file) + 4,
		       file_bytes = 4 + sizeof(file);
	const unsigned char drive[] = {PATH_MEDIA, PATH_DRIVE, DRIVE_BYTES, 0};
	const unsigned char file_head[] = {PATH_MEDIA, PATH_FILE};
	const unsigned char kind[] = {2, 2}; /* a GPT, and a GUID names it */
	const unsigned char end[] = {0x7f, 0xff, 4, 0};
	const uint64_t first = part->off / sector, count = part->bytes / sector;
	size_t at = put(out, 0, &active, 4);

	at = put(out, at, &path_bytes, 2);
	for (const char *p = part->name;; p++) {
		const uint16_t c = (uint8_t)*p;

		at = put(out, at, &c, 2);
		if (!c)
			break;
	}
	at = put(out, at, drive, sizeof(drive));
	at = put(out, at, &number, 4);
	at = put(out, at, &first, 8);
	at = put(out, at, &count, 8);
	at = put(out, at, part->guid.byte, 16);
	at = put(out, at, kind, 2);
	at = put(out, at, file_head, 2);
	at = put(out, at, &file_bytes, 2);
	at = put(out, at, file, sizeof(file));
	return put(out, at, end, sizeof(end));
}

int efivar_set_entry(uint16_t entry, const struct gpt_part *part, uint32_t number, uint32_t sector,
		     struct err *e)
{
	unsigned char want[VALUE_MAX], have[VALUE_MAX];
	char name[16];
	size_t len = make_entry(want, part, number, sector);

	snprintf(name, sizeof(name), "Boot%04X", entry);
	if (get(name, GLOBAL, have, sizeof(have)) == (ssize_t)len && !memcmp(have, want, len))
		return 0;
	return set(name, want, len, e);
}
