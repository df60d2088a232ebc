/*
 * Loads a model's tokenizer into this process, which is short-lived: memory is malloc's and
 * goes with it.
 */
#include "runtime/cli/text_model.h"

#include "model/store/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	CONFIG_MAX = 1 << 20,
	PIECE_START = 1 << 20
};

struct file {
	char *data; /* NULL: there is no such file */
	size_t len;
};

/* Where a model's texts come from: a folder, or a packed store. */
struct source {
	int dir;
	bool packed;
	struct pack pack;
};

static int read_all(int fd, const char *name, struct file *f, struct err *e)
{
	size_t have = 0;

	while (have < f->len) {
		ssize_t n = read(fd, f->data + have, f->len - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_exit(e, STATUS_MODEL, -EIO, "%s: %s", name,
					n < 0 ? strerror(errno)
					      : "became shorter while it was read");
		have += (size_t)n;
	}
	return 0;
}

static int read_packed(const struct pack *p, const char *name, size_t max, struct file *f,
		       struct err *e)
{
	const char *text = pack_text(p, name, &f->len);

	if (!text)
		return 0;
	if (f->len > max)
		return err_exit(e, STATUS_MODEL, -EFBIG,
				"%s: %zu bytes are more than the limit of %zu", name, f->len, max);
	f->data = malloc(f->len + 1);
	if (!f->data)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "%s: no memory to read it", name);
	memcpy(f->data, text, f->len);
	return 0;
}

/* Reads a regular file of at most `max` bytes. A missing one is no error. */
static int read_file(const struct source *s, const char *name, size_t max, struct file *f,
		     struct err *e)
{
	/* O_NONBLOCK: a pipe of that name must not hang us before fstat tells what it is. */
	int fd, rc = 0;
	struct stat st;

	*f = (struct file){0};
	if (s->packed)
		return read_packed(&s->pack, name, max, f, e);
	fd = openat(s->dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT
			       ? 0
			       : err_exit(e, STATUS_MODEL, -errno, "%s: %s", name, strerror(errno));
	if (fstat(fd, &st) != 0)
		rc = err_exit(e, STATUS_MODEL, -errno, "%s: %s", name, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		rc = err_exit(e, STATUS_MODEL, -EINVAL, "%s: not a regular file", name);
	else if ((uint64_t)st.st_size > max)
		rc = err_exit(e, STATUS_MODEL, -EFBIG,
			      "%s: %llu bytes are more than the limit of %zu", name,
			      (unsigned long long)st.st_size, max);
	if (rc)
		goto out;
	f->len = (size_t)st.st_size;
	f->data = malloc(f->len + 1);
	rc = f->data ? read_all(fd, name, f, e)
		     : err_exit(e, STATUS_MEMORY, -ENOMEM, "%s: no memory to read it", name);
out:
	close(fd);
	if (rc) {
		free(f->data);
		f->data = NULL;
	}
	return rc;
}

/* config.json's vocab_size; without a config.json any id is allowed. */
static int read_vocab_size(const struct source *s, uint32_t *vocab_size, struct err *e)
{
	struct err why = {0};
	struct file f;
	yyjson_doc *doc;
	yyjson_val *v;
	double size;
	int rc = read_file(s, "config.json", CONFIG_MAX, &f, e);

	*vocab_size = TOKENIZER_IDS_MAX;
	if (rc || !f.data)
		return rc;
	rc = json_read(&doc, f.data, f.len, JSON_PLAIN, NULL, &why);
	free(f.data);
	if (rc)
		return err_exit(e, STATUS_MODEL, rc, "config.json: %s", why.text);
	v = json_get(yyjson_doc_get_root(doc), "vocab_size");
	/* like config.json's own reader: 129280.0 is a whole number too */
	size = yyjson_is_num(v) ? yyjson_get_num(v) : 0;
	if (!(size >= 1 && size <= TOKENIZER_IDS_MAX) || size != (double)(uint32_t)size)
		rc = err_exit(e, STATUS_MODEL, -EINVAL,
			      "config.json: vocab_size must be an integer from 1 to %d",
			      TOKENIZER_IDS_MAX);
	else
		*vocab_size = (uint32_t)size;
	yyjson_doc_free(doc);
	return rc;
}

static int read_tokenizer(struct text_model *m, const struct source *s, struct err *e)
{
	struct file f;
	size_t used;
	int rc = read_vocab_size(s, &m->vocab_size, e);

	if (rc || (rc = read_file(s, "tokenizer.json", TOKENIZER_JSON_MAX, &f, e)))
		return rc;
	if (!f.data)
		return err_exit(e, STATUS_MODEL, -ENOENT,
				"tokenizer.json: there is none in the model's folder");
	rc = tokenizer_compile(f.data, f.len, m->vocab_size, NULL, 0, &used, e);
	if (rc == -ENOSPC) {
		m->blob = aligned_alloc(64, (used + 63) & ~(size_t)63);
		rc = m->blob ? tokenizer_compile(f.data, f.len, m->vocab_size, m->blob, used, &used,
						 e)
			     : err_exit(e, STATUS_MEMORY, -ENOMEM,
					"tokenizer.json: no memory to compile it");
	}
	free(f.data);
	if (rc)
		return rc;
	m->blob_bytes = used;
	m->scratch = malloc(tokenizer_scratch_bytes(PIECE_START));
	if (!m->scratch)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "tokenizer: no memory to open it");
	return tokenizer_open(&m->tokenizer, m->blob, used, m->scratch,
			      tokenizer_scratch_bytes(PIECE_START), e);
}

/* An unknown template is no error here: --template may name one. */
static int read_template(struct text_model *m, const struct source *s, struct err *e)
{
	struct file config = {0}, jinja = {0};
	struct err why = {0};
	int rc = read_file(s, "chat_template.jinja", CONFIG_MAX, &jinja, e);

	if (!rc)
		rc = read_file(s, "tokenizer_config.json", CONFIG_MAX, &config, e);
	if (!rc && template_of_checkpoint(config.data, config.len, jinja.data, jinja.len,
					  &m->template_id, &why))
		snprintf(m->template_problem, sizeof(m->template_problem), "%.159s", why.text);
	free(config.data);
	free(jinja.data);
	return rc;
}

static int open_all(struct text_model *m, const struct source *s, bool want_template, struct err *e)
{
	int rc = read_tokenizer(m, s, e);

	return rc || !want_template ? rc : read_template(m, s, e);
}

static int open_packed(struct text_model *m, const char *path, bool want_template, struct err *e)
{
	struct source s = {.packed = true};
	struct store_files *files = malloc(sizeof(*files));
	int rc;

	if (!files)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory to open a model");
	rc = store_files_open(files, path, e);
	if (!rc) {
		rc = pack_open(&s.pack, files, e);
		if (!rc)
			rc = open_all(m, &s, want_template, e);
		pack_close(&s.pack);
		store_files_close(files);
	}
	free(files);
	return rc;
}

int text_model_open(struct text_model *m, const char *path, bool want_template, struct err *e)
{
	struct source s = {.dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	int rc;

	*m = (struct text_model){0};
	if (s.dir < 0)
		return open_packed(m, path, want_template, e);
	rc = open_all(m, &s, want_template, e);
	close(s.dir);
	return rc;
}

void text_model_close(struct text_model *m)
{
	free(m->blob);
	free(m->scratch);
	*m = (struct text_model){0};
}

int text_model_reserve(struct text_model *m, size_t len, struct err *e)
{
	size_t bytes = tokenizer_scratch_bytes(len);
	void *scratch;

	if (len <= m->tokenizer.piece_max)
		return 0;
	scratch = malloc(bytes);
	if (!scratch)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory to encode %zu bytes", len);
	free(m->scratch);
	m->scratch = scratch;
	return tokenizer_open(&m->tokenizer, m->blob, m->blob_bytes, scratch, bytes, e);
}

int lines_run(enum json_flags flags, int (*each)(void *context, yyjson_val *line, struct err *e),
	      void *context, struct err *e)
{
	char *line = NULL;
	size_t cap = 0, number = 0;
	ssize_t n;
	int rc = 0;

	while (!rc && (n = getline(&line, &cap, stdin)) >= 0) {
		struct err why = {0};
		yyjson_doc *doc = NULL;

		number++;
		rc = json_read(&doc, line, (size_t)n - (n > 0 && line[n - 1] == '\n'), flags, NULL,
			       &why);
		if (!rc)
			rc = each(context, yyjson_doc_get_root(doc), &why);
		if (rc)
			err_exit(e, why.status ? (enum err_status)why.status : STATUS_FAILED, rc,
				 "line %zu: %s", number, why.text);
		yyjson_doc_free(doc);
	}
	free(line);
	if (!rc && ferror(stdin))
		rc = err_set(e, -EIO, "cannot read standard input: %s", strerror(errno));
	if (fflush(stdout) != 0 || ferror(stdout))
		rc = err_set(e, -EIO, "cannot write standard output: %s", strerror(errno));
	return rc;
}

void print_ids(FILE *out, const uint32_t *ids, size_t n)
{
	fputc('[', out);
	for (size_t i = 0; i < n; i++)
		fprintf(out, i ? ",%u" : "%u", ids[i]);
	fputc(']', out);
}

int print_string(FILE *out, const char *s, size_t len, struct err *e)
{
	char *quoted = malloc(JSON_QUOTED_MAX(len));

	if (!quoted)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory to print %zu bytes", len);
	fwrite(quoted, 1, json_quote(quoted, s, len, false), out);
	free(quoted);
	return 0;
}
