/* Drives and partitions; see find.h. What stands on a drive is hostile until its hash is right. */
#include "boot/find.h"

#include "runtime/sha256.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool read_at(int fd, void *to, size_t len, uint64_t off)
{
	return pread(fd, to, len, (off_t)off) == (ssize_t)len;
}

/* A part of the wanted store: its name is added. */
static void take(struct find *f, const char *device, const struct pack_header *h, int fd)
{
	size_t len = strlen(device) + 6;

	if (f->have && h->geometry.parts != f->parts)
		return;
	if (h->part >= h->geometry.parts || h->part >= PACK_PARTS_MAX || f->seen[h->part] ||
	    f->room - f->len <= len)
		return;
	f->parts = h->geometry.parts;
	f->seen[h->part] = 1;
	f->have++;
	f->len += (size_t)snprintf(f->names + f->len, f->room - f->len, "%s/dev/%s",
				   f->len ? "," : "", device);
	if (h->part == 0 && !read_at(fd, &f->settings, sizeof(f->settings), PACK_SETTINGS_OFF))
		memset(&f->settings, 0, sizeof(f->settings));
}

/* A device that may hold a store. False: it has the header of none. */
static bool look_at(struct find *f, const char *device)
{
	struct pack_header h;
	char path[300];
	bool store;
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", device);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	store = read_at(fd, &h, sizeof(h), 0) && h.magic == PACK_MAGIC;
	if (store) {
		if (!memcmp(h.root, f->root, sizeof(h.root))) {
			take(f, device, &h, fd);
		} else {
			f->others++;
			sha256_hex(h.root, f->other);
		}
	}
	close(fd);
	return store;
}

/* The name of a drive's partition: "sda3", "nvme0n1p3". */
static void part_name(char out[256], const char *drive, uint32_t number)
{
	size_t len = strlen(drive);
	bool digit = drive[len - 1] >= '0' && drive[len - 1] <= '9';

	snprintf(out, 256, "%.200s%s%u", drive, digit ? "p" : "", number);
}

/*
 * The table whose header stands at byte `off` of the drive: its entries, for the caller to free.
 * NULL: there is none, or it is damaged.
 */
static char *read_table(int fd, uint32_t sector, uint64_t off, struct gpt_table *t)
{
	char header[4096], *entries;
	size_t bytes;

	if (!read_at(fd, header, sector, off) || !gpt_header_read(header, sector, t))
		return NULL;
	bytes = (size_t)t->entries * t->entry_bytes;
	entries = malloc(bytes);
	if (entries && read_at(fd, entries, bytes, t->off) && gpt_entries_ok(t, entries))
		return entries;
	free(entries);
	return NULL;
}

/* The partitions of a drive: by the table at its begin, else by the one at its end. */
static bool walk(const char *drive, int fd, uint32_t sector, find_part *each, void *context)
{
	off_t end = lseek(fd, 0, SEEK_END);
	struct gpt_table t;
	struct gpt_part part;
	char *entries = read_table(fd, sector, sector, &t), name[256];
	bool ended = false;

	if (!entries && end > (off_t)sector)
		entries = read_table(fd, sector, (uint64_t)end - sector, &t);
	for (uint32_t i = 0; entries && !ended && i < t.entries; i++) {
		if (!gpt_entry(&t, entries, i, sector, &part))
			continue;
		part_name(name, drive, i + 1);
		ended = each(context, name, i + 1, sector, &part);
	}
	free(entries);
	return ended;
}

/* Calls drive() for each name of /sys/block that is a drive. */
static bool each_drive(bool (*drive)(void *, const char *), void *context)
{
	DIR *dir = opendir("/sys/block");
	bool ended = false;
	struct dirent *d;

	while (dir && !ended && (d = readdir(dir)))
		if (d->d_name[0] != '.' && strncmp(d->d_name, "ram", 3) != 0 &&
		    strncmp(d->d_name, "loop", 4) != 0)
			ended = drive(context, d->d_name);
	if (dir)
		closedir(dir);
	return ended;
}

struct walking {
	find_part *each;
	void *context;
};

static bool walk_drive(void *context, const char *drive)
{
	const struct walking *w = context;
	char path[300];
	int fd, sector = 0;
	bool ended = false;

	snprintf(path, sizeof(path), "/dev/%.255s", drive);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (!ioctl(fd, BLKSSZGET, &sector) && (sector == 512 || sector == 4096))
		ended = walk(drive, fd, (uint32_t)sector, w->each, w->context);
	close(fd);
	return ended;
}

bool find_partitions(find_part *each, void *context)
{
	struct walking w = {each, context};

	return each_drive(walk_drive, &w);
}

/* ---- Tables whose copy is not at the drive's end ---- */

/* Whether it is one that `penstock image` has made. */
static bool is_ours(const struct gpt_table *t, const char *entries, uint32_t sector)
{
	struct gpt_part part;

	for (uint32_t i = 0; i < t->entries; i++)
		if (gpt_entry(t, entries, i, sector, &part) && !strncmp(part.name, "penstock ", 9))
			return true;
	return false;
}

static bool write_at(int fd, const void *from, size_t len, uint64_t off)
{
	return pwrite(fd, from, len, (off_t)off) == (ssize_t)len;
}

/* The copy first: whenever this ends, a whole table is there. */
static bool mend(int fd, uint32_t sector, uint64_t bytes)
{
	char header[4096], copy[4096], *entries;
	struct gpt_table t;
	uint64_t off;
	bool done = false;

	entries = read_table(fd, sector, sector, &t);
	if (entries && is_ours(&t, entries, sector) && read_at(fd, header, sector, sector) &&
	    gpt_grow(header, copy, sector, bytes, &off))
		done = write_at(fd, entries, (size_t)t.entries * t.entry_bytes, off) &&
		       write_at(fd, copy, sector, bytes / sector * sector - sector) && !fsync(fd) &&
		       write_at(fd, header, sector, sector) && !fsync(fd);
	free(entries);
	return done;
}

static bool mend_drive(void *context, const char *drive)
{
	unsigned *mended = context;
	char path[300];
	int fd, sector = 0;
	off_t end;

	snprintf(path, sizeof(path), "/dev/%.255s", drive);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	end = lseek(fd, 0, SEEK_END);
	if (!ioctl(fd, BLKSSZGET, &sector) && (sector == 512 || sector == 4096) &&
	    end > 4 * sector && mend(fd, (uint32_t)sector, (uint64_t)end)) {
		fprintf(stderr,
			"penstock: %s is larger than the image: the partition table's "
			"copy is now at its end\n",
			drive);
		++*mended;
	}
	close(fd);
	return false;
}

unsigned find_mend_tables(void)
{
	unsigned mended = 0;

	each_drive(mend_drive, &mended);
	return mended;
}

/* ---- The model ---- */

static bool look_at_part(void *context, const char *device, uint32_t number, uint32_t sector,
			 const struct gpt_part *part)
{
	struct find *f = context;

	(void)number;
	(void)sector;
	if (!memcmp(&part->type, &gpt_type_model, sizeof(part->type)) && !look_at(f, device))
		snprintf(f->empty, sizeof(f->empty), "%.60s", device);
	return false;
}

/* A store on the whole drive. */
static bool look_at_drive(void *context, const char *drive)
{
	look_at(context, drive);
	return false;
}

int find_model(struct find *f)
{
	f->parts = f->have = f->others = 0;
	f->len = 0;
	f->empty[0] = '\0';
	memset(f->seen, 0, sizeof(f->seen));
	find_partitions(look_at_part, f);
	each_drive(look_at_drive, f);
	return f->have && f->have == f->parts;
}
