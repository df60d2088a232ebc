/*
 * Reads the prompts of a score run; see score.h. The file is the user's, so every refusal says
 * where and what.
 */
#include "runtime/score/score.h"

#include "model/text/tokenizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yyjson.h>

enum {
	PROMPTS_MAX = 1 << 30
};

static char *read_all(size_t *len, struct err *e)
{
	struct stat st;
	char *text;
	size_t got = 0;

	if (fstat(FD_PROMPTS, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > PROMPTS_MAX) {
		err_exit(e, STATUS_USAGE, -EFBIG, "prompts: not a regular file of at most 1 GiB");
		return NULL;
	}
	text = malloc((size_t)st.st_size + 1);
	while (text && got < (size_t)st.st_size) {
		ssize_t n = pread(FD_PROMPTS, text + got, (size_t)st.st_size - got, (off_t)got);

		if (n <= 0) {
			free(text);
			err_set(e, n < 0 ? -errno : -EIO, "prompts: cannot read the file: %s",
				n < 0 ? strerror(errno) : "it became shorter");
			return NULL;
		}
		got += (size_t)n;
	}
	if (!text)
		err_exit(e, STATUS_MEMORY, -ENOMEM, "prompts: no memory for %lld bytes",
			 (long long)st.st_size);
	*len = got;
	return text;
}

static int read_ids(struct prompts *p, yyjson_val *list, uint32_t vocab, struct err *e)
{
	uint64_t total = 0;
	size_t i, n, j, m;
	yyjson_val *one, *id;

	yyjson_arr_foreach(list, i, n, one)
	{
		if (!yyjson_is_arr(one) || yyjson_arr_size(one) == 0)
			return err_exit(
				e, STATUS_USAGE, -EINVAL,
				"prompts: prompt %zu is not a list of ids with at least one", i);
		total += yyjson_arr_size(one);
	}
	p->count = (uint32_t)yyjson_arr_size(list);
	p->ids = malloc((total + 1) * sizeof(*p->ids));
	p->begin = malloc((p->count + 1ull) * sizeof(*p->begin));
	if (!p->ids || !p->begin)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "prompts: no memory for %llu ids",
				(unsigned long long)total);
	total = 0;
	yyjson_arr_foreach(list, i, n, one)
	{
		p->begin[i] = total;
		yyjson_arr_foreach(one, j, m, id)
		{
			if (!yyjson_is_uint(id) || yyjson_get_uint(id) >= vocab)
				return err_exit(e, STATUS_USAGE, -EINVAL,
						"prompts: prompt %zu, id %zu is not an id below %u",
						i, j, vocab);
			p->ids[total++] = (uint32_t)yyjson_get_uint(id);
		}
	}
	p->begin[p->count] = total;
	return 0;
}

/* Plain text: one prompt, BOS in front unless the text brings it. */
static int read_text(struct prompts *p, const struct index *ix, const char *text, size_t len,
		     struct err *e)
{
	size_t need = tokenizer_scratch_bytes(len);
	uint32_t bos = ix->config.bos_token_id;
	struct tokenizer t;
	void *scratch;
	ssize_t n;
	int rc;

	if (ix->tokenizer.count == 0)
		return err_exit(
			e, STATUS_USAGE, -EINVAL,
			"prompts: plain text needs a tokenizer, and this model has none: %s",
			ix->tokenizer_problem);
	scratch = aligned_alloc(64, (need + 63) & ~(size_t)63);
	p->ids = malloc((len + 1) * sizeof(*p->ids));
	p->begin = calloc(2, sizeof(*p->begin));
	if (!scratch || !p->ids || !p->begin) {
		free(scratch);
		return err_exit(e, STATUS_MEMORY, -ENOMEM,
				"prompts: no memory for %zu bytes of text", len);
	}
	rc = tokenizer_open(&t, (const char *)ix + ix->tokenizer.off, ix->tokenizer.count, scratch,
			    need, e);
	if (rc) {
		free(scratch);
		return rc;
	}
	n = tokenizer_encode(&t, text, len, ENCODE_MARKERS, p->ids + 1, len, e);
	free(scratch);
	if (n < 0)
		return err_exit(e, STATUS_USAGE, (int)n, "prompts: the text is not valid UTF-8");
	p->count = 1;
	p->ids[0] = bos;
	if (bos == UINT32_MAX || (n > 0 && p->ids[1] == bos))
		memmove(p->ids, p->ids + 1, (size_t)n * sizeof(*p->ids));
	else
		n++;
	p->begin[1] = (uint64_t)n;
	return n ? 0 : err_exit(e, STATUS_USAGE, -EINVAL, "prompts: the text is empty");
}

/* Whether the text means to be {"prompts": ...}: damaged JSON must not be scored as plain text. */
static bool is_object(const char *text, size_t len)
{
	static const char key[] = "\"prompts\"";
	const char *white = " \t\r\n";
	size_t i = 0;

	while (i < len && text[i] && strchr(white, text[i]))
		i++;
	if (i == len || text[i++] != '{')
		return false;
	while (i < len && text[i] && strchr(white, text[i]))
		i++;
	return len - i >= sizeof(key) - 1 && !memcmp(text + i, key, sizeof(key) - 1);
}

static unsigned count_key(yyjson_val *object, const char *name)
{
	unsigned n = 0;
	size_t index, max;
	yyjson_val *key, *value;

	yyjson_obj_foreach(object, index, max, key, value) n += yyjson_equals_str(key, name);
	return n;
}

int prompts_read(struct prompts *p, const struct index *ix, struct err *e)
{
	size_t len;
	char *text = read_all(&len, e);
	yyjson_doc *doc;
	yyjson_read_err why = {0};
	yyjson_val *list;
	int rc;

	if (!text)
		return e->code;
	doc = yyjson_read_opts(text, len, YYJSON_READ_NOFLAG, NULL, &why);
	list = yyjson_obj_get(yyjson_doc_get_root(doc), "prompts");
	if (count_key(yyjson_doc_get_root(doc), "prompts") > 1)
		rc = err_exit(e, STATUS_USAGE, -EINVAL,
			      "prompts: the key \"prompts\" occurs twice");
	else if (yyjson_is_arr(list))
		rc = read_ids(p, list, ix->config.vocab_size, e);
	else if (is_object(text, len))
		rc = err_exit(e, STATUS_USAGE, -EINVAL, "prompts: %s at byte %zu",
			      doc ? "\"prompts\" is not a list" : why.msg, doc ? 0 : why.pos);
	else
		rc = read_text(p, ix, text, len, e);
	yyjson_doc_free(doc);
	free(text);
	return rc;
}
