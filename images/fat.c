/*
 * FAT16; see fat.h. The volume: a boot sector, two copies of the table, the root folder, clusters
 * from number 2. Files and folders lie in the order of their making, each in one run.
 */
#include "images/fat.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum {
	SECTOR = 512,
	ROOT_ENTRIES = 64,
	ENTRY = 32,
	CLUSTERS_MIN = 4085 + 16, /* fewer would be FAT12; drivers differ near the limit */
	CLUSTERS_MAX = 65524 - 16,
	CLUSTER_END = 0xffff,
	ATTRIBUTE_FOLDER = 0x10,
	ATTRIBUTE_LABEL = 0x08,
	DATE = 1 << 5 | 1 /* 1 January 1980 */
};

struct volume {
	uint8_t *out;
	uint32_t cluster_bytes, clusters, table_sectors;
	uint32_t next;             /* first cluster that is free */
	size_t tables, root, data; /* offsets */
};

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v & 0xffff);
	put16(p + 2, v >> 16);
}

/* ---- Geometry ---- */

/* The largest clusters of which there are enough. */
static bool lay_out(struct volume *v, size_t bytes)
{
	const uint32_t sectors = (uint32_t)(bytes / SECTOR), root = ROOT_ENTRIES * ENTRY / SECTOR;

	for (uint32_t per = 64; per; per /= 2) {
		uint32_t clusters = sectors / per, table, begin;

		table = (clusters + 2) * 2 / SECTOR + 1;
		begin = 1 + 2 * table + root;
		begin = (begin + 7) & ~7u; /* clusters stand at multiples of 4096 */
		if (begin >= sectors)
			continue;
		clusters = (sectors - begin) / per;
		if (clusters < CLUSTERS_MIN || clusters > CLUSTERS_MAX)
			continue;
		v->cluster_bytes = per * SECTOR;
		v->clusters = clusters;
		v->table_sectors = table;
		v->data = (size_t)begin * SECTOR;
		v->root = v->data - (size_t)root * SECTOR;
		v->tables = v->root - 2 * (size_t)table * SECTOR;
		return true;
	}
	return false;
}

static void boot_sector(const struct volume *v, size_t bytes, uint32_t serial)
{
	static const uint8_t jump[3] = {0xeb, 0x3c, 0x90};
	uint32_t sectors = (uint32_t)(bytes / SECTOR);
	uint8_t *b = v->out;

	memcpy(b, jump, 3);
	memcpy(b + 3, "PENSTOCK", 8);
	put16(b + 11, SECTOR);
	b[13] = (uint8_t)(v->cluster_bytes / SECTOR);
	put16(b + 14, (uint32_t)(v->tables / SECTOR)); /* sectors before the tables */
	b[16] = 2;
	put16(b + 17, ROOT_ENTRIES);
	put16(b + 19, sectors < 65536 ? sectors : 0);
	b[21] = 0xf8; /* a drive that stays in its place */
	put16(b + 22, v->table_sectors);
	put16(b + 24, 63); /* of a geometry that nobody uses */
	put16(b + 26, 255);
	put32(b + 32, sectors < 65536 ? 0 : sectors);
	b[36] = 0x80;
	b[38] = 0x29; /* the next three are there */
	put32(b + 39, serial);
	memcpy(b + 43, "PENSTOCK   ", 11);
	memcpy(b + 54, "FAT16   ", 8);
	b[510] = 0x55;
	b[511] = 0xaa;
}

/* ---- Files and folders ---- */

static void link_cluster(const struct volume *v, uint32_t cluster, uint32_t next)
{
	for (unsigned copy = 0; copy < 2; copy++)
		put16(v->out + v->tables + (size_t)copy * v->table_sectors * SECTOR + 2 * cluster,
		      next);
}

static uint8_t *cluster_at(const struct volume *v, uint32_t cluster)
{
	return v->out + v->data + (size_t)(cluster - 2) * v->cluster_bytes;
}

/* A run of clusters for `bytes`; 0: there is no room. */
static uint32_t allocate(struct volume *v, size_t bytes)
{
	size_t n = (bytes + v->cluster_bytes - 1) / v->cluster_bytes;
	uint32_t first = v->next;

	if (!n || n > v->clusters + 2 - v->next)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		link_cluster(v, first + i, i + 1 < n ? first + i + 1 : CLUSTER_END);
	v->next += (uint32_t)n;
	return first;
}

static void set_entry(uint8_t *p, const uint8_t name[11], uint8_t attributes, uint32_t cluster,
		      uint32_t bytes)
{
	memcpy(p, name, 11);
	p[11] = attributes;
	put16(p + 16, DATE);
	put16(p + 18, DATE);
	put16(p + 24, DATE);
	put16(p + 26, cluster);
	put32(p + 28, bytes);
}

/* "BOOTX64.EFI" up to `len` -> "BOOTX64 EFI"; false: not a short name. */
static bool short_name(uint8_t out[11], const char *text, size_t len)
{
	size_t at = 0, end = 8;

	memset(out, ' ', 11);
	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (c == '.' && end == 8 && i) {
			at = 8;
			end = 11;
			continue;
		}
		if (at == end || !((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'))
			return false;
		out[at++] = (uint8_t)c;
	}
	return len > 0;
}

/* The entries of a folder: cluster 0 is the root. */
static uint8_t *entries_of(const struct volume *v, uint32_t folder, uint32_t *n)
{
	*n = folder ? v->cluster_bytes / ENTRY : ROOT_ENTRIES;
	return folder ? cluster_at(v, folder) : v->out + v->root;
}

/* The entry of that name, or a free one; NULL: the folder is full. */
static uint8_t *find(const struct volume *v, uint32_t folder, const uint8_t name[11])
{
	uint32_t n;
	uint8_t *p = entries_of(v, folder, &n);

	for (uint32_t i = 0; i < n; i++, p += ENTRY)
		if (!p[0] || !memcmp(p, name, 11))
			return p;
	return NULL;
}

/* The folder of that name in `parent`, made if it is not there; 0: no room. */
static uint32_t folder_of(struct volume *v, uint32_t parent, const uint8_t name[11])
{
	static const uint8_t self[11] = ".          ", up[11] = "..         ";
	uint8_t *p = find(v, parent, name);
	uint32_t cluster;

	if (!p)
		return 0;
	if (p[0])
		return (uint32_t)(p[26] | p[27] << 8);
	cluster = allocate(v, 1);
	if (!cluster)
		return 0;
	set_entry(p, name, ATTRIBUTE_FOLDER, cluster, 0);
	set_entry(cluster_at(v, cluster), self, ATTRIBUTE_FOLDER, cluster, 0);
	set_entry(cluster_at(v, cluster) + ENTRY, up, ATTRIBUTE_FOLDER, parent, 0);
	return cluster;
}

static int add(struct volume *v, const struct fat_file *f, struct err *e)
{
	const char *part = f->path;
	uint32_t folder = 0, cluster;
	uint8_t name[11], *p;

	for (;;) {
		size_t len = strcspn(part, "/");

		if (!short_name(name, part, len))
			return err_set(e, -EINVAL, "%s: no name for a FAT volume", f->path);
		if (!part[len])
			break;
		folder = folder_of(v, folder, name);
		if (!folder)
			return err_set(e, -ENOSPC, "%s: no room in the EFI partition", f->path);
		part += len + 1;
	}
	p = find(v, folder, name);
	cluster = f->bytes ? allocate(v, f->bytes) : 0;
	if (!p || p[0] || (f->bytes && !cluster))
		return err_set(e, -ENOSPC, "%s: %zu bytes do not fit in the EFI partition", f->path,
			       f->bytes);
	set_entry(p, name, 0, cluster, (uint32_t)f->bytes);
	if (f->bytes)
		memcpy(cluster_at(v, cluster), f->data, f->bytes);
	return 0;
}

int fat_make(void *out, size_t volume_bytes, uint32_t serial, const struct fat_file *file,
	     unsigned n, struct err *e)
{
	static const uint8_t label[11] = "PENSTOCK   ";
	struct volume v = {.out = out, .next = 2};
	int rc = 0;

	if (volume_bytes < FAT_BYTES_MIN || volume_bytes > FAT_BYTES_MAX || volume_bytes % 4096 ||
	    !lay_out(&v, volume_bytes))
		return err_set(e, -EINVAL, "an EFI partition has 8 MiB to 1 GiB");
	memset(out, 0, volume_bytes);
	boot_sector(&v, volume_bytes, serial);
	link_cluster(&v, 0, 0xfff8);
	link_cluster(&v, 1, CLUSTER_END);
	set_entry(v.out + v.root, label, ATTRIBUTE_LABEL, 0, 0);
	for (unsigned i = 0; !rc && i < n; i++)
		rc = add(&v, &file[i], e);
	return rc;
}
