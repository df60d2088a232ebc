/* Free memory; see memory.h. */
#include "boot/memory.h"

#include "boot/text.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reads root + path + name as text, at most size - 1 bytes. Returns whether it could. */
static int read_text(char *out, size_t size, const char *root, const char *path, const char *name)
{
	char full[1024];

	if (snprintf(full, sizeof(full), "%s%s%s", root, path, name) >= (int)sizeof(full))
		return 0;
	return text_read(full, out, size) > 0;
}

/* The number behind `key` at the start of a line; UINT64_MAX if there is none ("max" too). */
static uint64_t number_of(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, len))
			continue;
		line += len + strspn(line + len, " :\t");
		return *line >= '0' && *line <= '9' ? strtoull(line, NULL, 10) : UINT64_MAX;
	}
	return UINT64_MAX;
}

struct cgroup_files {
	const char *mount, *limit, *usage,
		*cache; /* cache: the key of memory.stat that can be given back */
};

static const struct cgroup_files v2 = {"/sys/fs/cgroup", "/memory.max", "/memory.current", "file"};
static const struct cgroup_files v1 = {"/sys/fs/cgroup/memory", "/memory.limit_in_bytes",
				       "/memory.usage_in_bytes", "total_cache"};

/* One folder of a hierarchy: takes its limit into account. */
static void look_at(struct memory_free *m, const char *root, const struct cgroup_files *f,
		    const char *folder)
{
	char text[4096], path[600];
	uint64_t limit, usage, cache, left;

	if (snprintf(path, sizeof(path), "%s%s", f->mount, folder) >= (int)sizeof(path) ||
	    !read_text(text, sizeof(text), root, path, f->limit))
		return;
	limit = number_of(text, "");
	if (limit >= m->total) /* "max", or v1's way to say so */
		return;
	m->total = limit;
	usage = read_text(text, sizeof(text), root, path, f->usage) ? number_of(text, "") : 0;
	cache = read_text(text, sizeof(text), root, path, "/memory.stat")
			? number_of(text, f->cache)
			: 0;
	if (cache > usage)
		cache = 0;
	usage -= cache;
	left = usage < limit ? limit - usage : 0;
	if (left < m->available)
		m->available = left;
}

/* The folder of this process and all above it: each may set a limit. */
static void look_up(struct memory_free *m, const char *root, const struct cgroup_files *f,
		    const char *folder, size_t len)
{
	char path[512];

	if (len >= sizeof(path))
		return;
	memcpy(path, folder, len);
	for (;;) {
		path[len] = '\0';
		look_at(m, root, f, path);
		if (!len)
			return;
		while (len && path[--len] != '/')
			;
	}
}

void memory_look(struct memory_free *m, const char *root)
{
	char text[4096];

	*m = (struct memory_free){.total = UINT64_MAX >> 1, .available = UINT64_MAX >> 1};
	if (read_text(text, sizeof(text), root, "/proc/", "meminfo")) {
		uint64_t total = number_of(text, "MemTotal"),
			 free = number_of(text, "MemAvailable");

		if (total < UINT64_MAX >> 11)
			m->total = total * 1024;
		if (free < UINT64_MAX >> 11)
			m->available = free * 1024;
	}
	if (!read_text(text, sizeof(text), root, "/proc/", "self/cgroup"))
		return;
	for (char *line = text; line && *line; line = strchr(line, '\n')) {
		const char *folder;

		line += *line == '\n';
		folder = strchr(line, '/');
		if (!folder)
			continue;
		if (!strncmp(line, "0::", 3))
			look_up(m, root, &v2, folder, strcspn(folder, "\n"));
		else if (strstr(line, ":memory:") && strstr(line, ":memory:") < folder)
			look_up(m, root, &v1, folder, strcspn(folder, "\n"));
	}
}

uint64_t memory_budget(const struct memory_free *m)
{
	uint64_t reserve = m->total / 16;

	if (reserve < 256u << 20)
		reserve = 256u << 20;
	if (reserve > m->available / 2)
		reserve = m->available / 2;
	return m->available - reserve;
}
