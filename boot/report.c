/* The inventory of a booted node; see report.h. */
#include "boot/report.h"

#include "boot/text.h"

#include "runtime/clock.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct out {
	char *text;
	size_t room, len;
};

static void print(struct out *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void print(struct out *o, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(o->text + o->len, o->room - o->len, format, args);
	va_end(args);
	o->len += n > 0 ? (size_t)n : 0;
	if (o->len >= o->room)
		o->len = o->room - 1;
}

static void files(struct out *o)
{
	print(o, "files of the image: bytes, SHA-256, name\n");
	o->len += text_read("/contents", o->text + o->len, o->room - o->len);
}

/* What the kernel was told; the signature of the program covers it. */
static void line(struct out *o)
{
	print(o, "\nthe kernel's command line\n");
	o->len += text_read("/proc/cmdline", o->text + o->len, o->room - o->len);
}

static void moments(struct out *o, const struct machine *m)
{
	static const char *const names[AT_MOMENTS] = {"init is started by the kernel",
						      "modules are loaded",
						      "the model is found",
						      "its index is read",
						      "weights are loaded",
						      "the known answer has come"};

	print(o, "\nseconds since the kernel's start\n");
	for (unsigned i = 0; i < AT_MOMENTS; i++)
		if (m->at[i])
			print(o, "%8.3f %s\n", (double)m->at[i] / (double)NS_PER_S, names[i]);
}

/* The figure of a line "Name:   123 kB" of smaps_rollup. */
static unsigned long figure(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoul(at + strlen(name), NULL, 10) : 0;
}

static void descriptors(struct out *o, const char *pid)
{
	char path[300], link[200];
	DIR *dir;
	struct dirent *d;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		ssize_t n;

		if (d->d_name[0] == '.')
			continue;
		n = readlinkat(dirfd(dir), d->d_name, link, sizeof(link) - 1);
		if (n > 0)
			print(o, "    %s %.*s\n", d->d_name, (int)n, link);
	}
	if (dir)
		closedir(dir);
}

static void processes(struct out *o)
{
	DIR *dir = opendir("/proc");
	struct dirent *d;
	unsigned long all = 0;

	print(o, "\nprocesses: id, name, resident kB, private kB, capabilities, system calls "
		 "filtered; "
		 "descriptors\n");
	while (dir && (d = readdir(dir))) {
		char path[300], text[4096], status[4096], name[64];
		const char *capabilities, *seccomp;
		unsigned long private;

		if (!isdigit((unsigned char)d->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/smaps_rollup", d->d_name);
		if (!text_read(path, text, sizeof(text)))
			continue; /* the kernel's own */
		private = figure(text, "Private_Clean:") + figure(text, "Private_Dirty:");
		snprintf(path, sizeof(path), "/proc/%.20s/comm", d->d_name);
		text_read(path, name, sizeof(name));
		name[strcspn(name, "\n")] = '\0';
		snprintf(path, sizeof(path), "/proc/%.20s/status", d->d_name);
		text_read(path, status, sizeof(status));
		capabilities = strstr(status, "CapEff:\t");
		seccomp = strstr(status, "Seccomp:\t");
		print(o, "%s %s %lu %lu %.16s %s\n", d->d_name, name, figure(text, "Rss:"), private,
		      capabilities ? capabilities + 8 : "-",
		      seccomp && seccomp[9] == '2' ? "yes" : "no");
		descriptors(o, d->d_name);
		all += private;
	}
	if (dir)
		closedir(dir);
	print(o, "private memory of all processes: %lu kB\n", all);
}

size_t report_make(const struct machine *m, char *text, size_t room)
{
	struct out o = {.text = text, .room = room};

	text[0] = '\0';
	files(&o);
	line(&o);
	moments(&o, m);
	processes(&o);
	return o.len;
}
