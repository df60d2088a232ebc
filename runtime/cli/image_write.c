/*
 * Writes a bootable disk: partition table, two partitions for the program (the second one empty,
 * for updates), the packed store as it is. See image.h. The same input gives the same bytes: GUIDs
 * and the volume's number follow from the root.
 */
#include "drivers/cpu/blake3.h"
#include "drivers/disk/gpt.h"
#include "images/fat.h"
#include "runtime/cli/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t round_up(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

static int failed(const struct image *m, const char *what, struct err *e)
{
	return err_set(e, -errno, "%s: cannot %s: %s", m->out, what, strerror(errno));
}

static int write_all(const struct image *m, int fd, const void *data, size_t len, uint64_t off,
		     struct err *e)
{
	const char *p = data;

	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return failed(m, "write", e);
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* What `name` is called in an image of this root. */
static struct gpt_guid guid_of(const struct image *m, const char *name)
{
	uint8_t text[PACK_HASH + 32] = {0}, hash[BLAKE3_BYTES];

	memcpy(text, m->root, PACK_HASH);
	snprintf((char *)text + PACK_HASH, 32, "%s", name);
	blake3(cpu_isa_best(), text, sizeof(text), hash);
	return gpt_guid_of(hash);
}

/* The contents of a program partition. */
static int write_slot(const struct image *m, int fd, uint64_t off, struct err *e)
{
	const struct fat_file file = {
		.path = "EFI/BOOT/BOOTX64.EFI", .data = m->efi, .bytes = m->efi_bytes};
	struct gpt_guid number = guid_of(m, "volume");
	uint32_t serial;
	void *volume = malloc(m->slot_bytes);
	int rc;

	if (!volume)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the EFI partition");
	memcpy(&serial, number.byte, sizeof(serial));
	rc = fat_make(volume, m->slot_bytes, serial, &file, 1, e);
	if (!rc)
		rc = write_all(m, fd, volume, m->slot_bytes, off, e);
	free(volume);
	return rc;
}

/* The store from its begin; its page of settings is ours. */
static int write_store(const struct image *m, int fd, uint64_t off, struct err *e)
{
	enum {
		BUFFER = 4 << 20
	};
	char *buffer = malloc(BUFFER);
	uint64_t at = 0;
	int rc = 0;

	if (!buffer)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory to copy the model");
	while (!rc && at < m->store_bytes) {
		uint64_t left = m->store_bytes - at;
		ssize_t n = pread(m->store, buffer, left < BUFFER ? left : BUFFER, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			rc = err_exit(e, STATUS_MODEL, n ? -errno : -ENODATA,
				      "cannot read the packed store: %s",
				      n ? strerror(errno) : "it ends too early");
		else
			rc = write_all(m, fd, buffer, (size_t)n, off + at, e);
		at += n > 0 ? (uint64_t)n : 0;
	}
	free(buffer);
	if (!rc)
		rc = write_all(m, fd, &m->settings, sizeof(m->settings), off + PACK_SETTINGS_OFF,
			       e);
	return rc;
}

static struct gpt_part part_of(const struct image *m, const char *name, const struct gpt_guid *type,
			       uint64_t off, uint64_t bytes)
{
	struct gpt_part p = {.type = *type, .guid = guid_of(m, name), .off = off, .bytes = bytes};

	snprintf(p.name, sizeof(p.name), "%s", name);
	return p;
}

static int write_disk(const struct image *m, int fd, struct err *e)
{
	char head[GPT_HEAD_BYTES], tail[GPT_TAIL_BYTES];
	struct gpt_guid drive = guid_of(m, "drive");
	struct gpt_part part[3];
	uint64_t at = IMAGE_UNIT, total;
	unsigned n = 0;
	int rc = 0;

	if (m->efi) {
		part[n++] = part_of(m, "penstock a", &gpt_type_esp, at, m->slot_bytes);
		at += m->slot_bytes;
		part[n++] = part_of(m, "penstock b", &gpt_type_esp, at, m->slot_bytes);
		at = round_up(at + m->slot_bytes, IMAGE_UNIT);
	}
	if (m->store >= 0) {
		part[n++] = part_of(m, "penstock model", &gpt_type_model, at,
				    round_up(m->store_bytes, PACK_ALIGN));
		at = round_up(at + m->store_bytes, PACK_ALIGN);
	}
	total = round_up(at + GPT_TAIL_BYTES, PACK_ALIGN);
	if (ftruncate(fd, (off_t)total))
		return failed(m, "make it as large as it must be", e);
	gpt_make(head, tail, total, &drive, part, n);
	rc = write_all(m, fd, head, sizeof(head), 0, e);
	if (!rc)
		rc = write_all(m, fd, tail, sizeof(tail), total - sizeof(tail), e);
	if (!rc && m->efi)
		rc = write_slot(m, fd, part[0].off, e);
	if (!rc && m->store >= 0)
		rc = write_store(m, fd, part[n - 1].off, e);
	for (unsigned i = 0; !rc && i < n; i++)
		printf("%-15s %12llu bytes at %llu\n", part[i].name,
		       (unsigned long long)part[i].bytes, (unsigned long long)part[i].off);
	return rc;
}

int image_write(const struct image *m, bool update, struct err *e)
{
	int fd = open(m->out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), rc;

	if (fd < 0)
		return failed(m, "create it", e);
	rc = update ? write_slot(m, fd, 0, e) : write_disk(m, fd, e);
	if (!rc && fsync(fd))
		rc = failed(m, "write", e);
	close(fd);
	if (rc)
		unlink(m->out); /* whole or not at all */
	return rc;
}
