/* The error envelope, and the allocator that yyjson gets; see api.h. */
#include "runtime/gateway/api.h"

#include "model/text/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int api_refuse(struct api_error *e, int status, const char *param, const char *code,
	       const char *format, ...)
{
	char text[API_TEXT];
	va_list args;

	memset(e, 0, sizeof(*e));
	e->status = status;
	e->code = code;
	/* names and texts were cut by bytes on their way, and the envelope must be UTF-8 */
	if (param)
		utf8_copy_lossy(e->param, (const uint8_t *)param, strnlen(param, API_PARAM));
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	utf8_copy_lossy(e->message, (const uint8_t *)text, strlen(text));
	return -1;
}

static const char *type_of(int status)
{
	switch (status) {
	case 429:
		return "rate_limit_error";
	case 500:
		return "server_error";
	case 503:
		return "unavailable_error";
	default:
		return "invalid_request_error";
	}
}

void api_write_error(struct out *o, const struct api_error *e)
{
	out_text(o, "{\"error\":{\"message\":");
	out_json(o, e->message, strlen(e->message));
	out_format(o, ",\"type\":\"%s\",\"param\":", type_of(e->status));
	if (e->param[0])
		out_json(o, e->param, strlen(e->param));
	else
		out_text(o, "null");
	out_text(o, ",\"code\":");
	if (e->code)
		out_json(o, e->code, strlen(e->code));
	else if (e->status == 503)
		out_text(o, "503"); /* as llama.cpp says it */
	else
		out_text(o, "null");
	out_text(o, "}}");
}

/* Every block has its size in front, for realloc. */
enum {
	BLOCK_HEAD = 16
};

static void *block_malloc(void *ctx, size_t size)
{
	unsigned char *p = NULL;

	if (size <= SIZE_MAX - BLOCK_HEAD)
		p = arena_alloc(ctx, size + BLOCK_HEAD, BLOCK_HEAD);
	if (!p)
		return NULL;
	memcpy(p, &size, sizeof(size));
	return p + BLOCK_HEAD;
}

/* Whether p, of `size` bytes, is what the arena gave out last. */
static bool is_last(const struct arena *a, const void *p, size_t size)
{
	return (const unsigned char *)p + size == a->base + a->used;
}

static void *block_realloc(void *ctx, void *p, size_t old_size, size_t size)
{
	struct arena *a = ctx;
	void *q;

	(void)old_size; /* yyjson tells what it uses, not what it asked for */
	memcpy(&old_size, (unsigned char *)p - BLOCK_HEAD, sizeof(old_size));
	if (is_last(a, p, old_size) && size >= old_size) {
		if (size - old_size > a->size - a->used)
			return NULL;
		a->used += size - old_size;
		memcpy((unsigned char *)p - BLOCK_HEAD, &size, sizeof(size));
		return p;
	}
	if (size <= old_size)
		return p;
	q = block_malloc(ctx, size);
	if (q)
		memcpy(q, p, old_size);
	return q;
}

static void block_free(void *ctx, void *p)
{
	struct arena *a = ctx;
	size_t size;

	memcpy(&size, (unsigned char *)p - BLOCK_HEAD, sizeof(size));
	if (is_last(a, p, size))
		a->used -= size + BLOCK_HEAD;
}

yyjson_alc api_alc(struct arena *a)
{
	return (yyjson_alc){block_malloc, block_realloc, block_free, a};
}
