/* Kernel modules; see modules.h. */
#include "boot/modules.h"

#include "boot/text.h"
#include "runtime/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	ORDER_MAX = 64 * 1024,
	DRIVERS_MAX = 64,
	ROUNDS = 4 /* a bus's driver makes devices, whose drivers make devices */
};

struct driver {
	char *patterns, *files;
	enum modules_part part;
	bool loaded;
};

static struct { /* of the start: static because it is large */
	char order[ORDER_MAX];
	struct driver driver[DRIVERS_MAX];
	unsigned drivers;
	int loaded;
	uint64_t kernel_ns;
} state;

int modules_load_file(const char *name)
{
	char path[300];
	uint64_t from;
	int fd, rc;

	snprintf(path, sizeof(path), "/modules/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	from = clock_now_ns();
	rc = syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
	state.kernel_ns += clock_now_ns() - from;
	close(fd);
	return rc == -EEXIST ? 0 : rc;
}

uint64_t modules_kernel_ns(void)
{
	return state.kernel_ns;
}

static void load(struct driver *d)
{
	char files[1024], *rest = files, *name;

	d->loaded = true;
	snprintf(files, sizeof(files), "%s", d->files);
	while ((name = strsep(&rest, " ")))
		state.loaded += *name && !modules_load_file(name);
}

/* Loads the drivers of a device. */
static void serve(enum modules_part part, const char *alias)
{
	for (unsigned i = 0; i < state.drivers; i++) {
		struct driver *d = &state.driver[i];
		char *p = d->patterns, *end;

		for (; !d->loaded && d->part == part && *p; p = end + (*end == ' ')) {
			char pattern[256];

			end = p + strcspn(p, " ");
			snprintf(pattern, sizeof(pattern), "%.*s", (int)(end - p), p);
			if (!fnmatch(pattern, alias, 0))
				load(d);
		}
	}
}

/* The devices of one bus. */
static void serve_bus(enum modules_part part, const char *bus)
{
	char path[600], alias[512];
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/%.100s/devices", bus);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/bus/%.100s/devices/%.255s/modalias", bus,
			 d->d_name);
		text_read(path, alias, sizeof(alias));
		alias[strcspn(alias, "\n")] = '\0';
		if (*alias)
			serve(part, alias);
	}
	if (dir)
		closedir(dir);
}

static void read_order(void)
{
	enum modules_part part = MODULES_FIRST;
	char *rest = state.order, *line;

	text_read("/modules/order", state.order, sizeof(state.order));
	while ((line = strsep(&rest, "\n")) && state.drivers < DRIVERS_MAX) {
		char *files = strchr(line, '\t');

		if (!*line)
			part = MODULES_REST;
		if (!files)
			continue;
		*files++ = '\0';
		state.driver[state.drivers++] = (struct driver){line, files, part, false};
	}
}

void modules_load(enum modules_part part)
{
	static const char *const buses[] = {"pci", "acpi", "virtio", "platform"};
	char alias[4096];
	int before;

	if (!state.drivers)
		read_order();
	text_read("/sys/devices/system/cpu/modalias", alias, sizeof(alias));
	alias[strcspn(alias, "\n")] = '\0';
	serve(part, alias);
	for (unsigned round = 0; round < ROUNDS; round++) {
		before = state.loaded;
		for (unsigned i = 0; i < sizeof(buses) / sizeof(buses[0]); i++)
			serve_bus(part, buses[i]);
		if (state.loaded == before)
			break;
	}
}
