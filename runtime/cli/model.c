/*
 * Opening a model for a one-shot command, and how sizes and progress are printed; see model.h.
 */
#include "runtime/cli/model.h"
#include "model/store/survey.h"
#include "runtime/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Room for any index: only what is written becomes memory. V3's has 9 MB. */
static const size_t index_room = (size_t)1 << 30;

int cli_model_open(struct cli_model *m, const char *path, struct err *e)
{
	size_t used;
	int rc;

	memset(m, 0, sizeof(*m));
	m->files = malloc(sizeof(*m->files));
	m->map = mmap(NULL, index_room, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	m->map_bytes = index_room;
	if (!m->files || m->map == MAP_FAILED) {
		free(m->files);
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for a model's index");
	}
	rc = store_files_open(m->files, path, e);
	if (!rc)
		rc = survey(m->files, m->map, m->map_bytes, &used, e);
	if (!rc)
		rc = index_open(&m->ix, m->map, used, e);
	if (rc)
		cli_model_close(m);
	return rc;
}

void cli_model_close(struct cli_model *m)
{
	store_files_close(m->files);
	free(m->files);
	munmap(m->map, m->map_bytes);
	memset(m, 0, sizeof(*m));
}

const char *cli_bytes(char out[32], uint64_t bytes)
{
	static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	double x = (double)bytes;
	int i = 0;

	for (; x >= 1024 && i < 4; i++)
		x /= 1024;
	snprintf(out, 32, i ? "%.2f %s" : "%.0f %s", x, unit[i]);
	return out;
}

void progress_begin(struct cli_progress *p, const char *what, uint64_t total)
{
	*p = (struct cli_progress){.what = what, .total = total, .terminal = isatty(STDERR_FILENO)};
	p->begin_ns = p->shown_ns = clock_now_ns();
}

static void draw(struct cli_progress *p, uint64_t done, uint64_t now)
{
	double seconds = (double)(now - p->begin_ns) * 1e-9;
	double rate = seconds > 0 ? (double)done / seconds : 0;
	double left = rate > 0 ? (double)(p->total - done) / rate : 0;

	fprintf(stderr, "%s%s: %.2f of %.2f GB, %.2f GB/s, %.0f s left%s", p->terminal ? "\r" : "",
		p->what, (double)done * 1e-9, (double)p->total * 1e-9, rate * 1e-9, left,
		p->terminal ? "   " : "\n");
	p->shown_ns = now;
	p->drawn = true;
}

void progress_show(struct cli_progress *p, uint64_t done)
{
	const uint64_t interval = p->terminal ? 500000000 : 10000000000;
	uint64_t now = clock_now_ns();

	if (now - p->shown_ns >= interval)
		draw(p, done, now);
}

double progress_end(struct cli_progress *p, uint64_t done)
{
	uint64_t now = clock_now_ns();

	if (p->terminal && p->drawn) {
		draw(p, done, now);
		fputc('\n', stderr);
	}
	return (double)(now - p->begin_ns) * 1e-9;
}
