/*
 * Trace files (ipc/trace.h) in and out of memory; see replay.h. A file may come from anywhere:
 * every number is checked before it is used.
 */
#include "runtime/replay/replay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LAYERS_MAX = 4096,
	EXPERTS_MAX = 65536,
	TOP_K_MAX = 256
};

static int check_head(const struct trace_file *f, const char *path, struct err *e)
{
	if (f->magic != TRACE_MAGIC)
		return err_exit(e, STATUS_USAGE, -EBADMSG, "%s is not a trace of routes", path);
	if (f->version != TRACE_VERSION)
		return err_exit(e, STATUS_USAGE, -EBADMSG,
				"%s: a trace of version %u; this program reads version %u: record "
				"it again",
				path, f->version, TRACE_VERSION);
	if (!f->moe_layers || f->moe_layers > LAYERS_MAX || !f->top_k || f->top_k > TOP_K_MAX ||
	    !f->experts || f->experts > EXPERTS_MAX || f->top_k > f->experts ||
	    f->layers > LAYERS_MAX || f->first_moe_layer > f->layers ||
	    f->moe_layers > f->layers - f->first_moe_layer ||
	    f->record_bytes != trace_record_bytes(f->moe_layers, f->top_k))
		return err_exit(e, STATUS_USAGE, -EBADMSG, "%s: a damaged head of a trace", path);
	return 0;
}

/* Takes one record as the trace's next row. */
static int add_row(struct replay_trace *t, const char *record, const char *path, struct err *e)
{
	size_t width = (size_t)t->moe_layers * t->top_k;
	uint16_t *route = t->route + t->n_rows * width;
	struct trace_row row;

	memcpy(&row, record, sizeof(row));
	memcpy(route, record + sizeof(row), width * sizeof(*route));
	for (size_t i = 0; i < width; i++) {
		if (route[i] >= t->experts || (i % t->top_k && route[i] <= route[i - 1]))
			return err_exit(e, STATUS_USAGE, -EBADMSG,
					"%s: row %llu: expert %u is no part of a route", path,
					(unsigned long long)t->n_rows, route[i]);
	}
	if (!t->n_rows || row.flags & TRACE_FIRST)
		t->pass[t->n_passes++] = (struct replay_pass){.first = t->n_rows,
							      .prefill = row.flags & TRACE_PREFILL};
	t->pass[t->n_passes - 1].rows++;
	t->n_rows++;
	return 0;
}

static int read_rows(struct replay_trace *t, FILE *f, uint32_t record_bytes, const char *path,
		     struct err *e)
{
	char *record = malloc(record_bytes);
	uint64_t room = 0;
	int rc = 0;

	while (record && !rc && fread(record, record_bytes, 1, f) == 1) {
		if (t->n_rows == room) {
			void *pass, *route;

			room = room ? 2 * room : 1024;
			pass = realloc(t->pass, room * sizeof(*t->pass));
			t->pass = pass ? pass : t->pass;
			route = realloc(t->route,
					room * t->moe_layers * t->top_k * sizeof(*t->route));
			t->route = route ? route : t->route;
			if (!pass || !route) {
				rc = -ENOMEM;
				break;
			}
		}
		rc = add_row(t, record, path, e);
	}
	if (!record || rc == -ENOMEM)
		rc = err_exit(e, STATUS_MEMORY, -ENOMEM, "%s: no memory for the trace", path);
	else if (!rc && ferror(f))
		rc = err_set(e, -EIO, "%s: cannot be read", path);
	else if (!rc && !t->n_rows)
		rc = err_exit(e, STATUS_USAGE, -EBADMSG, "%s: a trace without a row", path);
	free(record);
	return rc;
}

int replay_read(struct replay_trace *t, const char *path, struct err *e)
{
	struct trace_file head;
	FILE *f = fopen(path, "rbe");
	int rc;

	*t = (struct replay_trace){0};
	if (!f)
		return err_exit(e, STATUS_USAGE, -errno, "%s: cannot open: %s", path,
				strerror(errno));
	if (fread(&head, sizeof(head), 1, f) != 1)
		rc = err_exit(e, STATUS_USAGE, -EBADMSG, "%s is not a trace of routes", path);
	else
		rc = check_head(&head, path, e);
	if (!rc) {
		t->layers = head.layers;
		t->first_moe = head.first_moe_layer;
		t->moe_layers = head.moe_layers;
		t->experts = head.experts;
		t->top_k = head.top_k;
		t->chunk = head.chunk;
		rc = read_rows(t, f, head.record_bytes, path, e);
	}
	fclose(f);
	if (rc)
		replay_free(t);
	return rc;
}

/* One record; its weights are there already. */
static void fill_record(char *record, const struct replay_trace *t, const struct replay_pass *pass,
			uint32_t row)
{
	size_t width = (size_t)t->moe_layers * t->top_k;
	struct trace_row head = {.position = row,
				 .flags = (pass->prefill ? TRACE_PREFILL : 0u) |
					  (row == 0 ? TRACE_FIRST : 0u)};

	memcpy(record, &head, sizeof(head));
	memcpy(record + sizeof(head), t->route + (pass->first + row) * width,
	       width * sizeof(*t->route));
}

int replay_write(const struct replay_trace *t, const char *path, struct err *e)
{
	size_t pairs = (size_t)t->moe_layers * t->top_k, ids = (pairs * 2 + 3) & ~(size_t)3;
	uint32_t bytes = trace_record_bytes(t->moe_layers, t->top_k);
	struct trace_file head = {.magic = TRACE_MAGIC,
				  .version = TRACE_VERSION,
				  .record_bytes = bytes,
				  .moe_layers = t->moe_layers,
				  .top_k = t->top_k,
				  .experts = t->experts,
				  .first_moe_layer = t->first_moe,
				  .layers = t->layers,
				  .chunk = t->chunk};
	char *record = calloc(1, bytes);
	FILE *f = fopen(path, "wbe");
	bool good = f && record && fwrite(&head, sizeof(head), 1, f) == 1;

	for (size_t i = 0; record && i < pairs; i++) {
		const float weight = 1.0f / (float)t->top_k;

		memcpy(record + sizeof(struct trace_row) + ids + i * sizeof(weight), &weight,
		       sizeof(weight));
	}
	for (uint32_t p = 0; good && p < t->n_passes; p++) {
		for (uint32_t r = 0; good && r < t->pass[p].rows; r++) {
			fill_record(record, t, &t->pass[p], r);
			good = fwrite(record, bytes, 1, f) == 1;
		}
	}
	free(record);
	if (f && fclose(f))
		good = false;
	return good ? 0 : err_set(e, -EIO, "%s: cannot be written", path);
}

void replay_free(struct replay_trace *t)
{
	free(t->pass);
	free(t->route);
	*t = (struct replay_trace){0};
}
