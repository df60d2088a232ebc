/*
 * Opens a checkpoint directory's files and reads from them; see files.h. Nothing here looks at
 * contents: sizes, kinds and names only.
 */
#include "model/store/files.h"

#include "model/index.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const known_names[] = {
	"chat_template.jinja",          "config.json",    "generation_config.json",
	"model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
};

/*
 * Like the shell's *.safetensors: a name that begins with a dot is a temporary file or a file
 * manager's note.
 */
static bool is_shard(const char *name)
{
	static const char suffix[] = ".safetensors";
	size_t len = strlen(name);

	return name[0] != '.' && len >= sizeof(suffix) &&
	       !strcmp(name + len - (sizeof(suffix) - 1), suffix);
}

static bool is_ours(const char *name)
{
	for (size_t i = 0; i < sizeof(known_names) / sizeof(known_names[0]); i++)
		if (!strcmp(name, known_names[i]))
			return true;
	return is_shard(name);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct store_file *)a)->name, ((const struct store_file *)b)->name);
}

static int list_names(struct store_files *f, DIR *dir, const char *path, struct err *e)
{
	for (;;) {
		struct dirent *d;
		size_t len;

		errno = 0;
		d = readdir(dir);
		if (!d)
			break;
		len = strlen(d->d_name);
		if (!is_ours(d->d_name) || len >= sizeof(f->file[0].name))
			continue;
		if (f->count == STORE_FILES_MAX)
			return err_exit(e, STATUS_MODEL, -E2BIG,
					"%s: more than %d files of a model", path, STORE_FILES_MAX);
		memcpy(f->file[f->count++].name, d->d_name, len + 1);
	}
	if (errno)
		return err_exit(e, STATUS_MODEL, -errno, "%s: cannot list the directory: %s", path,
				strerror(errno));
	qsort(f->file, f->count, sizeof(f->file[0]), compare_names);
	return 0;
}

/*
 * Looks before it opens, because opening a device or a FIFO can have effects, and again at what it
 * has opened.
 */
static int open_one(struct store_file *file, int dirfd, const char *path, struct err *e)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
	struct stat st;

	if (fstatat(dirfd, file->name, &st, 0) < 0)
		return err_exit(e, STATUS_MODEL, -errno, "%s/%s: cannot open: %s", path, file->name,
				strerror(errno));
	if (!S_ISREG(st.st_mode))
		goto not_regular;
	if (is_shard(file->name)) {
		file->fd = openat(dirfd, file->name, flags | O_DIRECT);
		file->direct = file->fd >= 0;
	}
	if (file->fd < 0)
		file->fd = openat(dirfd, file->name, flags);
	if (file->fd < 0 || fstat(file->fd, &st) < 0)
		return err_exit(e, STATUS_MODEL, -errno, "%s/%s: cannot open: %s", path, file->name,
				strerror(errno));
	if (!S_ISREG(st.st_mode))
		goto not_regular;
	file->bytes = (uint64_t)st.st_size;
	return 0;
not_regular:
	return err_exit(e, STATUS_MODEL, -EINVAL,
			"%s/%s: not a regular file. Only regular files (or links to them) are read",
			path, file->name);
}

/* A part of a packed store: a regular file or a block device. */
static int open_part(struct store_files *f, const char *path, size_t len, struct err *e)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
	struct store_file *file = &f->file[f->count];
	char name[PATH_MAX];
	const char *slash;
	struct stat st;
	off_t end;

	if (!len || len >= sizeof(name))
		return err_exit(e, STATUS_MODEL, -EINVAL, "%.100s: the name of a part is %s", path,
				len ? "too long" : "empty");
	if (f->count == STORE_FILES_MAX)
		return err_exit(e, STATUS_MODEL, -E2BIG, "more than %d parts", STORE_FILES_MAX);
	memcpy(name, path, len);
	name[len] = 0;
	if (stat(name, &st) < 0)
		return err_exit(e, STATUS_MODEL, -errno, "%s: cannot open the model: %s", name,
				strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_exit(
			e, STATUS_MODEL, -EINVAL,
			"%s: a model is a checkpoint's directory, or a packed store: a file or "
			"a block device",
			name);
	f->count++; /* from here on closed by the caller */
	file->fd = open(name, flags | O_DIRECT);
	file->direct = file->fd >= 0;
	if (file->fd < 0)
		file->fd = open(name, flags);
	end = file->fd < 0 ? -1 : lseek(file->fd, 0, SEEK_END);
	if (end < 0)
		return err_exit(e, STATUS_MODEL, -errno, "%s: cannot open: %s", name,
				strerror(errno));
	slash = strrchr(name, '/');
	snprintf(file->name, sizeof(file->name), "%.255s", slash ? slash + 1 : name);
	file->bytes = (uint64_t)end;
	return 0;
}

static int open_parts(struct store_files *f, const char *path, struct err *e)
{
	struct stat st;
	int rc = 0;

	f->packed = 1;
	/* a name that has a comma in itself */
	if (!stat(path, &st) || !strchr(path, ','))
		return open_part(f, path, strlen(path), e);
	while (!rc) {
		size_t len = strcspn(path, ",");

		rc = open_part(f, path, len, e);
		path += len;
		if (!*path++)
			break;
	}
	return rc;
}

int store_files_open(struct store_files *f, const char *path, struct err *e)
{
	DIR *dir;
	int rc = 0;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	memset(f, 0, sizeof(*f));
	for (size_t i = 0; i < STORE_FILES_MAX; i++)
		f->file[i].fd = -1;
	if (fd < 0 && (errno == ENOTDIR || strchr(path, ','))) {
		rc = open_parts(f, path, e);
		if (rc)
			store_files_close(f);
		return rc;
	}
	if (fd < 0)
		return err_exit(
			e, STATUS_MODEL, -errno,
			"%s: cannot open the model: %s. It is a checkpoint's directory or a "
			"packed store",
			path, strerror(errno));
	dir = fdopendir(fd);
	if (!dir) {
		rc = err_exit(e, STATUS_MODEL, -errno, "%s: cannot list the directory: %s", path,
			      strerror(errno));
		close(fd);
		return rc;
	}
	rc = list_names(f, dir, path, e);
	for (uint32_t i = 0; !rc && i < f->count; i++)
		rc = open_one(&f->file[i], dirfd(dir), path, e);
	if (!rc && store_files_find(f, "config.json", strlen("config.json")) < 0)
		rc = err_exit(e, STATUS_MODEL, -ENOENT,
			      "%s: there is no config.json. MODEL is a checkpoint directory as "
			      "published on Hugging Face",
			      path);
	closedir(dir);
	if (rc)
		store_files_close(f);
	return rc;
}

void store_files_close(struct store_files *f)
{
	for (uint32_t i = 0; i < f->count; i++)
		if (f->file[i].fd >= 0)
			close(f->file[i].fd);
	f->count = 0;
}

int store_files_find(const struct store_files *f, const char *name, size_t len)
{
	uint32_t lo = 0;
	uint32_t hi = f->count;

	if (len >= sizeof(f->file[0].name) || memchr(name, 0, len))
		return -1;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int order = strncmp(name, f->file[mid].name, len);

		if (!order && f->file[mid].name[len])
			order = -1;
		if (!order)
			return (int)mid;
		if (order < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return -1;
}

static ssize_t pread_retry(int fd, void *buf, size_t len, uint64_t off)
{
	for (;;) {
		ssize_t n = pread(fd, buf, len, (off_t)off);

		if (n >= 0 || (errno != EINTR && errno != EAGAIN))
			return n;
	}
}

/*
 * One system call's worth: reads at most `len` bytes at off and returns how many arrived in buf, 0
 * at the end of the file, or -errno.
 */
static ssize_t read_piece(const struct store_file *file, uint64_t off, char *buf, size_t len,
			  char *bounce, size_t bounce_bytes)
{
	const uint64_t mask = DRIVE_ALIGN - 1;
	size_t skip = off & mask;
	size_t want;
	ssize_t n;

	if (!file->direct) {
		n = pread_retry(file->fd, buf, len, off);
		return n < 0 ? -errno : n;
	}
	if (!skip && !((uintptr_t)buf & mask) && len >= DRIVE_ALIGN) {
		n = pread_retry(file->fd, buf, len & ~mask, off);
		return n < 0 ? -errno : n;
	}
	want = len < bounce_bytes - skip ? (skip + len + mask) & ~mask : bounce_bytes;
	n = pread_retry(file->fd, bounce, want, off - skip);
	if (n < 0)
		return -errno;
	if ((size_t)n <= skip)
		return 0;
	n -= (ssize_t)skip;
	if ((size_t)n > len)
		n = (ssize_t)len;
	memcpy(buf, bounce + skip, (size_t)n);
	return n;
}

int store_read(const struct store_files *f, uint32_t file, uint64_t off, void *buf, uint64_t len,
	       void *bounce, size_t bounce_bytes, struct err *e)
{
	const size_t piece_max = (size_t)1
				 << 30; /* Linux reads at most 2 GiB less a page at once */
	const struct store_file *from = &f->file[file];
	char *out = buf;

	while (len) {
		size_t want = len < piece_max ? (size_t)len : piece_max;
		ssize_t n = read_piece(from, off, out, want, bounce, bounce_bytes);

		if (n < 0)
			return err_exit(e, STATUS_MODEL, (int)n,
					"%s: cannot read %" PRIu64 " bytes at byte %" PRIu64 ": %s",
					from->name, len, off, strerror((int)-n));
		if (!n)
			return err_exit(e, STATUS_MODEL, -ENODATA,
					"%s: the file ends before byte %" PRIu64
					": it was cut or is still being copied",
					from->name, off + len);
		out += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}
