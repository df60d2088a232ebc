/* Start-up lines; see progress.h. */
#include "boot/progress.h"

#include "runtime/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define GB 1e9

/* 671026419200 -> "671.0 B" */
static void count_text(char out[32], uint64_t n)
{
	static const struct {
		double unit;
		const char *name;
	} units[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "K"}, {1, ""}};
	unsigned i = 0;

	while (i < 4 && (double)n < units[i].unit)
		i++;
	snprintf(out, 32, "%.1f %s", (double)n / units[i].unit, units[i].name);
}

/* Lines that the survey left for the user; copied, for their end is not to be relied on. */
static void print_warnings(const struct index *ix)
{
	char text[sizeof(ix->warnings) + 1];
	char *rest = text, *line;

	memcpy(text, ix->warnings, sizeof(ix->warnings));
	text[sizeof(ix->warnings)] = '\0';
	while ((line = strsep(&rest, "\n"))) {
		if (*line)
			fprintf(stderr, "penstock: warning: %s\n", line);
	}
}

void progress_model(const struct index *ix, const struct plan *p, const struct plan_table *t,
		    const char *name, const char *drive, const char *socket)
{
	char params[32];

	count_text(params, ix->param_count);
	fprintf(stderr,
		"penstock: %s: %sparameters, %s, context %u, %.2f GB resident, %u of %llu experts "
		"in "
		"slots, %s%s%s\n",
		name, params, ix->config.quantised ? "FP8" : "BF16", p->context,
		(double)t->bytes[PART_RESIDENT] / GB, p->experts ? p->slots : 0,
		(unsigned long long)(p->experts ? t->all_slots : 0), drive, *drive ? ", " : "",
		socket);
	print_warnings(ix);
}

void progress_note(const char *format, ...)
{
	va_list ap;

	fputs("penstock: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void progress_plan(const struct plan *p, const struct plan_table *t)
{
	fprintf(stderr, "penstock: memory %.3f GB of %.3f:", (double)t->total / GB,
		(double)p->memory / GB);
	for (unsigned i = 0; i < PLAN_PARTS; i++)
		fprintf(stderr, "%s %s %.3f", i ? "," : "", plan_part_names[i],
			(double)t->bytes[i] / GB);
	fprintf(stderr,
		"\npenstock: %u places, %u of %llu KV pages, chunk %u, %u workers, bodies of %llu "
		"MiB, %llu at once\n",
		p->places, p->pages, (unsigned long long)t->kv_wanted, p->rows[BATCH_PREFILL],
		p->workers, (unsigned long long)p->body_bytes >> 20,
		(unsigned long long)(p->body_pool / (p->body_bytes + BODY_FRAME)));
}

void progress_load(struct progress_line *l, uint64_t done, uint64_t all, uint64_t now_ns)
{
	double seconds, rate;

	if (!l->begin_ns) {
		l->begin_ns = l->last_ns = now_ns;
		l->tty = isatty(2);
	}
	if (now_ns - l->last_ns < (l->tty ? NS_PER_S / 5 : NS_PER_S))
		return;
	l->last_ns = now_ns;
	seconds = (double)(now_ns - l->begin_ns) / (double)NS_PER_S;
	rate = (double)done / seconds;
	fprintf(stderr, "%spenstock: loading %.2f of %.2f GB, %.2f GB/s, %.0f s left%s",
		l->tty ? "\r" : "", (double)done / GB, (double)all / GB, rate / GB,
		rate > 0 ? (double)(all - done) / rate : 0, l->tty ? "  " : "\n");
	l->open = l->tty;
}

void progress_load_end(struct progress_line *l, uint64_t all, uint64_t now_ns)
{
	double seconds = l->begin_ns ? (double)(now_ns - l->begin_ns) / (double)NS_PER_S : 0;

	if (l->open)
		fputc('\n', stderr);
	l->open = false;
	fprintf(stderr, "penstock: loaded %.2f GB in %.1f s\n", (double)all / GB, seconds);
}

void progress_drive(char *out, int fd)
{
	char path[64], link[256];
	struct stat st;
	const char *name;
	ssize_t n;

	out[0] = '\0';
	if (fstat(fd, &st))
		return;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
	n = readlink(path, link, sizeof(link) - 1);
	if (n <= 0)
		return;
	link[n] = '\0';
	name = strrchr(link, '/');
	snprintf(out, 64, "%.60s", name ? name + 1 : link);
}
