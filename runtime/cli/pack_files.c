/*
 * The files of a store that is being packed: made, taken up again, written, finished; see pack.h.
 */
#include "drivers/cpu/blake3.h"
#include "runtime/cli/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What stands at a part's place already. */
enum found {
	FOUND_NOTHING, /* a new or empty file */
	FOUND_OTHER,   /* something that is not ours to write over */
	FOUND_BEGUN,   /* this very pack, interrupted */
	FOUND_COMPLETE
};

static int cannot(const struct pack_out *o, uint32_t part, int code, const char *what,
		  struct err *e)
{
	return err_set(e, -code, "%s: cannot %s: %s%s", o->path[part], what, strerror(code),
		       code == ENOSPC || code == EFBIG || code == EDQUOT
			       ? ". Make room, then start again as before: it goes on"
			       : "");
}

static int write_all(const struct pack_out *o, uint32_t part, const char *data, uint64_t len,
		     uint64_t off, struct err *e)
{
	while (len) {
		ssize_t n = pwrite(o->fd[part], data, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return cannot(o, part, n < 0 ? errno : EIO, "write", e);
		if ((uint64_t)n < len) /* O_DIRECT goes on at a block's border */
			n &= ~(ssize_t)(PACK_ALIGN - 1);
		data += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
		if (!n)
			return cannot(o, part, ENOSPC, "write", e);
	}
	return 0;
}

int pack_out_write(const struct pack_out *o, uint64_t address, const char *data, uint64_t len,
		   struct err *e)
{
	const struct pack_geometry *g = &o->p->g;
	int rc = 0;

	while (!rc && len) {
		uint64_t off, n = PACK_PIECE - address % PACK_PIECE;
		uint32_t part = pack_part(g->parts, g->data_off, address, &off);

		if (n > len || g->parts == 1)
			n = len;
		rc = write_all(o, part, data, n, off, e);
		address += n;
		data += n;
		len -= n;
	}
	return rc;
}

int pack_out_sync(const struct pack_out *o, struct err *e)
{
	for (uint32_t i = 0; i < o->p->g.parts; i++)
		if (fdatasync(o->fd[i]) < 0)
			return cannot(o, i, errno, "sync", e);
	return 0;
}

static int write_header(const struct pack_out *o, uint32_t part, bool complete,
			const uint8_t root[PACK_HASH], struct err *e)
{
	struct pack_header h = {.magic = PACK_MAGIC,
				.version = PACK_VERSION,
				.complete = complete,
				.geometry = o->p->g,
				.part = part};
	char page[2 * PACK_HEADER_BYTES];
	char *at = page + (PACK_ALIGN - (uintptr_t)page % PACK_ALIGN) % PACK_ALIGN;

	if (complete)
		memcpy(h.root, root, sizeof(h.root));
	else
		memcpy(h.journal, o->p->journal, sizeof(h.journal));
	memset(at, 0, PACK_HEADER_BYTES);
	memcpy(at, &h, sizeof(h));
	blake3(o->p->isa, at, PACK_HEADER_BYTES, h.sum);
	memcpy(at + offsetof(struct pack_header, sum), h.sum, sizeof(h.sum));
	return write_all(o, part, at, PACK_HEADER_BYTES, 0, e);
}

/* ---- Opening ---- */

static int open_out(struct pack_out *o, uint32_t part, struct err *e)
{
	const char *path = o->path[part];
	struct stat st;

	if (!stat(path, &st)) {
		o->device[part] = S_ISBLK(st.st_mode);
		if (!S_ISREG(st.st_mode) && !o->device[part])
			return err_exit(e, STATUS_USAGE, -EINVAL,
					"%s: neither a file nor a block device", path);
	} else {
		o->made[part] = true;
	}
	o->fd[part] = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_DIRECT, 0644);
	if (o->fd[part] < 0 && errno == EINVAL)
		o->fd[part] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	return o->fd[part] < 0 ? cannot(o, part, errno, "open", e) : 0;
}

/*
 * Whether the file begins with nothing but zeros: a new device, or a file of ours from before its
 * header was written. Every file system we know has something in as much (btrfs at 64 KiB).
 */
static bool is_blank(const struct pack_out *o, uint32_t part)
{
	static char begin[128 << 10] __attribute__((aligned(PACK_ALIGN)));
	ssize_t n = pread(o->fd[part], begin, sizeof(begin), 0);

	for (ssize_t i = 0; i < n; i++)
		if (begin[i])
			return false;
	return n >= 0;
}

static int find(const struct pack_out *o, uint32_t part, enum found *found, struct err *e)
{
	static char page[PACK_HEADER_BYTES] __attribute__((aligned(PACK_ALIGN)));
	struct store_files f = {.count = 1, .packed = 1};
	struct pack_header h;
	struct err why = {0};
	off_t bytes = lseek(o->fd[part], 0, SEEK_END);

	if (bytes < 0)
		return cannot(o, part, errno, "read", e);
	f.file[0] = (struct store_file){.bytes = (uint64_t)bytes, .fd = o->fd[part], .direct = 1};
	*found = is_blank(o, part) ? FOUND_NOTHING : FOUND_OTHER;
	if (*found == FOUND_NOTHING || pack_header_read(&f, 0, page, &h, &why))
		return 0;
	if (memcmp(&h.geometry, &o->p->g, sizeof(h.geometry)) || h.part != part)
		return 0;
	if (h.complete)
		*found = FOUND_COMPLETE;
	else if (!memcmp(h.journal, o->p->journal, sizeof(h.journal)))
		*found = FOUND_BEGUN;
	return 0;
}

static int reserve(struct pack_out *o, uint32_t part, struct err *e)
{
	const uint64_t need = pack_part_bytes(&o->p->g, part);
	off_t bytes = lseek(o->fd[part], 0, SEEK_END);

	if (o->device[part])
		return (uint64_t)bytes >= need
			       ? 0
			       : err_exit(e, STATUS_MEMORY, -ENOSPC,
					  "%s: the device has %.2f GB, the store needs %.2f GB",
					  o->path[part], (double)bytes * 1e-9, (double)need * 1e-9);
	if (ftruncate(o->fd[part], 0) < 0 || ftruncate(o->fd[part], (off_t)need) < 0 ||
	    (fallocate(o->fd[part], 0, 0, (off_t)need) < 0 && errno != EOPNOTSUPP))
		return err_exit(e, STATUS_MEMORY, -errno, "%s: there is no room for %.2f GB: %s",
				o->path[part], (double)need * 1e-9, strerror(errno));
	return 0;
}

/*
 * A fresh start. Nothing may look like a journal before it is one: the table of hashes is zero on
 * the drive, then come the headers, the first part's last.
 */
static int begin(struct pack_out *o, struct err *e)
{
	const struct index_pack_area *a = &o->p->g.area[PACK_HASHES];
	static const char nothing[PACK_HEADER_BYTES] __attribute__((aligned(PACK_ALIGN)));
	int rc = 0;

	for (uint32_t i = 0; !rc && i < o->p->g.parts; i++) {
		rc = write_all(o, i, nothing, o->device[i] ? sizeof(nothing) : 0, 0, e);
		if (!rc)
			rc = reserve(o, i, e);
	}
	memset(o->hashes, 0, a->stride);
	memset(o->written, 0, a->stride);
	if (!rc)
		rc = pack_out_write(o, a->off, (char *)o->written, a->stride, e);
	if (!rc)
		rc = pack_out_sync(o, e);
	for (uint32_t i = o->p->g.parts; !rc && i-- > 0;) {
		/* settings and tops */
		for (uint64_t at = PACK_SETTINGS_OFF; !rc && at < o->p->g.data_off;
		     at += PACK_ALIGN)
			rc = write_all(o, i, nothing, PACK_ALIGN, at, e);
		if (!rc)
			rc = write_header(o, i, false, NULL, e);
		if (!rc)
			rc = pack_out_sync(o, e);
	}
	return rc;
}

static int read_journal(struct pack_out *o, struct err *e)
{
	const struct pack_geometry *g = &o->p->g;
	const struct index_pack_area *a = &g->area[PACK_HASHES];

	for (uint64_t at = 0; at < a->stride; at += PACK_PIECE) {
		uint64_t off;
		uint32_t part = pack_part(g->parts, g->data_off, a->off + at, &off);

		if (pread(o->fd[part], o->hashes + at, PACK_PIECE, (off_t)off) != PACK_PIECE)
			return cannot(o, part, errno ? errno : EIO, "read", e);
	}
	memcpy(o->written, o->hashes, a->stride);
	return 0;
}

static int take_up(struct pack_out *o, bool force, struct err *e)
{
	uint32_t complete = 0;
	enum found first = FOUND_NOTHING;
	bool others = false;

	for (uint32_t i = 0; i < o->p->g.parts; i++) {
		enum found found;
		int rc = find(o, i, &found, e);

		if (rc)
			return rc;
		if (found == FOUND_OTHER && !force)
			return err_exit(
				e, STATUS_USAGE, -EEXIST,
				"%s: there is something else already, or the pack of another "
				"model or other options. Remove it, or write over it with "
				"--force",
				o->path[i]);
		complete += found == FOUND_COMPLETE;
		others |= found == FOUND_OTHER || found == FOUND_NOTHING;
		if (!i)
			first = found;
	}
	o->complete = complete == o->p->g.parts && !force;
	if (o->complete)
		return 0;
	/* the first part's header is the last to be written at the begin and at the end */
	return first == FOUND_BEGUN && !others && !force ? read_journal(o, e) : begin(o, e);
}

int pack_out_open(struct pack_out *o, const struct pack_plan *p, const char *const *path,
		  bool force, struct err *e)
{
	const uint64_t table = p->g.area[PACK_HASHES].stride;
	int rc = 0;

	*o = (struct pack_out){.p = p,
			       .path = path,
			       .hashes = aligned_alloc(PACK_ALIGN, table),
			       .written = aligned_alloc(PACK_ALIGN, table)};
	for (uint32_t i = 0; i < PACK_PARTS_MAX; i++)
		o->fd[i] = -1;
	if (!o->hashes || !o->written)
		rc = err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the table of hashes");
	for (uint32_t i = 0; !rc && i < p->g.parts; i++)
		rc = open_out(o, i, e);
	if (!rc)
		rc = take_up(o, force, e);
	if (!rc)
		return 0;
	/* what this run has made holds nothing yet */
	for (uint32_t i = 0; i < p->g.parts; i++)
		if (o->made[i] && o->fd[i] >= 0)
			unlink(o->path[i]);
	return rc;
}

void pack_out_close(struct pack_out *o)
{
	for (uint32_t i = 0; i < PACK_PARTS_MAX; i++)
		if (o->fd[i] >= 0)
			close(o->fd[i]);
	free(o->hashes);
	free(o->written);
}

int pack_out_note(struct pack_out *o, uint64_t leaf, uint64_t n, struct err *e)
{
	const struct index_pack_area *a = &o->p->g.area[PACK_HASHES];
	const uint64_t begin = leaf * PACK_HASH, end = (leaf + n) * PACK_HASH;
	const uint64_t page = begin & ~(uint64_t)(PACK_ALIGN - 1);
	const uint64_t stop = (end + PACK_ALIGN - 1) & ~(uint64_t)(PACK_ALIGN - 1);

	return pack_out_write(o, a->off + page, (char *)o->written + page, stop - page, e);
}

int pack_out_finish(struct pack_out *o, uint8_t root[PACK_HASH], struct err *e)
{
	const struct pack_geometry *g = &o->p->g;
	const struct index_pack_area *a = &g->area[PACK_HASHES];
	const uint64_t bytes = g->data_off - PACK_TOPS_OFF;
	uint8_t *tops = aligned_alloc(PACK_ALIGN, bytes);
	int rc = 0;

	if (!tops)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the hashes");
	memset(tops, 0, bytes);
	for (uint64_t i = 0; i < pack_pieces(a); i++)
		blake3(o->p->isa, o->hashes + i * PACK_PIECE, pack_piece_bytes(a, i),
		       tops + i * PACK_HASH);
	pack_root(o->p->isa, g, tops, root);
	for (uint32_t i = 0; !rc && i < g->parts; i++)
		rc = write_all(o, i, (char *)tops, bytes, PACK_TOPS_OFF, e);
	free(tops);
	for (uint32_t i = g->parts; !rc && i-- > 0;) {
		rc = pack_out_sync(o, e);
		if (!rc)
			rc = write_header(o, i, true, root, e);
	}
	return rc ? rc : pack_out_sync(o, e);
}
