/* A request out of bytes, and the head of a reply; see http.h. */
#include "runtime/gateway/http.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static struct http *self(llhttp_t *p)
{
	return p->data;
}

/* Remembers the first problem; llhttp stops at the -1. */
static int refuse(struct http *h, int status, const char *problem)
{
	if (!h->status) {
		h->status = status;
		h->problem = problem;
	}
	return -1;
}

static int on_begin(llhttp_t *p)
{
	self(p)->started = true;
	return 0;
}

static int on_url(llhttp_t *p, const char *at, size_t len)
{
	struct http *h = self(p);
	size_t room = h->target_len < HTTP_TARGET_KEPT ? HTTP_TARGET_KEPT - h->target_len : 0;

	memcpy(h->target + (HTTP_TARGET_KEPT - room), at, len < room ? len : room);
	h->target_len += (uint32_t)len;
	return 0;
}

static int on_url_complete(llhttp_t *p)
{
	self(p)->url_done = true;
	return 0;
}

static int on_version_complete(llhttp_t *p)
{
	if (p->http_major != 1 || p->http_minor > 1)
		return refuse(self(p), 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
	self(p)->http11 = p->http_minor == 1;
	self(p)->versioned = true;
	return 0;
}

static uint32_t keep(char *to, uint32_t have, uint32_t cap, const char *at, size_t len)
{
	uint32_t room = cap - have;
	uint32_t n = len < room ? (uint32_t)len : room;

	memcpy(to + have, at, n);
	return have + n;
}

static int count_trailer(struct http *h, size_t len)
{
	if (!h->headers_done)
		return 0;
	h->trailer_bytes += (uint32_t)len;
	return h->trailer_bytes > HTTP_HEADER_MAX
		       ? refuse(h, 431, "the trailers are longer than 64 KiB")
		       : 0;
}

static int on_field(llhttp_t *p, const char *at, size_t len)
{
	struct http *h = self(p);

	h->n_name = keep(h->name, h->n_name, sizeof(h->name), at, len);
	return count_trailer(h, len);
}

static int on_value(llhttp_t *p, const char *at, size_t len)
{
	struct http *h = self(p);

	h->value_cut |= len > sizeof(h->value) - h->n_value;
	h->n_value = keep(h->value, h->n_value, sizeof(h->value), at, len);
	return count_trailer(h, len);
}

static bool is_name(const struct http *h, const char *name)
{
	return h->n_name == strlen(name) && strncasecmp(h->name, name, h->n_name) == 0;
}

/* Whether the value, white space and (if asked) parameters aside, is `want`. */
static bool is_value(const struct http *h, const char *want, bool parameters)
{
	size_t n = h->n_value, k = 0;

	while (k < n && (h->value[k] == ' ' || h->value[k] == '\t'))
		k++;
	if (parameters && memchr(h->value, ';', n))
		n = (size_t)((const char *)memchr(h->value, ';', n) - h->value);
	else if (h->value_cut)
		return false;
	while (n > k && (h->value[n - 1] == ' ' || h->value[n - 1] == '\t'))
		n--;
	return n >= k && n - k == strlen(want) && strncasecmp(h->value + k, want, n - k) == 0;
}

static int on_value_complete(llhttp_t *p)
{
	struct http *h = self(p);
	int rc = 0;

	if (++h->lines > HTTP_LINES_MAX)
		return refuse(h, 431, "more than 100 header lines");
	if (!h->headers_done && is_name(h, "transfer-encoding")) {
		if (h->chunked || !is_value(h, "chunked", false))
			rc = refuse(h, 501, "the only transfer coding is exactly \"chunked\"");
		h->chunked = true;
	} else if (!h->headers_done && is_name(h, "content-type")) {
		h->not_json |= !is_value(h, "application/json", true);
	} else if (!h->headers_done && is_name(h, "expect")) {
		h->expect = is_value(h, "100-continue", false);
		h->expect_other |= !h->expect;
	}
	h->n_name = h->n_value = 0;
	h->value_cut = false;
	return rc;
}

static int on_headers_complete(llhttp_t *p)
{
	struct http *h = self(p);

	if (!h->versioned)
		return refuse(h, 400, "the request line names no HTTP version");
	if (h->chunked && !h->http11)
		return refuse(h, 400, "HTTP/1.0 has no transfer codings");
	h->length = h->chunked ? 0 : p->content_length;
	h->has_body = h->chunked || h->length > 0;
	h->expect = h->expect && h->http11 && h->has_body;
	h->headers_done = true;
	/*
	 * An offer to speak another protocol is declined by going on in this one (RFC 9110, 7.8).
	 */
	p->upgrade = p->method == HTTP_CONNECT;
	return 0;
}

/* The size of a chunk, as announced: too much is known before it comes. */
static int on_chunk_header(llhttp_t *p)
{
	struct http *h = self(p);

	return p->content_length > HTTP_BODY_MAX - h->body_bytes
		       ? refuse(h, 413, "the body is larger than 16 MiB")
		       : 0;
}

static int on_body(llhttp_t *p, const char *at, size_t len)
{
	struct http *h = self(p);

	/*
	 * A longer Content-Length or chunk was seen in time: only the first bytes behind such a
	 * length can come here.
	 */
	if (len > HTTP_BODY_MAX - h->body_bytes)
		return refuse(h, 413, "the body is larger than 16 MiB");
	if (h->body)
		memcpy(h->body + h->body_bytes, at, len);
	h->body_bytes += len;
	return 0;
}

static int on_message_complete(llhttp_t *p)
{
	struct http *h = self(p);

	h->whole = true;
	h->keep_alive = llhttp_should_keep_alive(p) && p->method != HTTP_CONNECT;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_message_begin = on_begin,
	.on_url = on_url,
	.on_url_complete = on_url_complete,
	.on_version_complete = on_version_complete,
	.on_header_field = on_field,
	.on_header_value = on_value,
	.on_header_value_complete = on_value_complete,
	.on_headers_complete = on_headers_complete,
	.on_chunk_header = on_chunk_header,
	.on_body = on_body,
	.on_message_complete = on_message_complete,
};

void http_begin(struct http *h, char *body)
{
	/* the buffers need no clearing, and there is one of these per connection */
	memset(h, 0, offsetof(struct http, name));
	h->body = body;
	llhttp_init(&h->parser, HTTP_REQUEST, &settings);
	h->parser.data = h;
}

/* What llhttp found, for the one who sent it. */
static enum http_result bad(struct http *h, llhttp_errno_t code)
{
	const char *reason = llhttp_get_error_reason(&h->parser);
	/* "HTTP/2" and "HTTP/1.2" are versions, "HTTP/x" and "HTTP/1." are none */
	bool version = code == HPE_INVALID_VERSION && !h->versioned &&
		       (h->parser.http_major > 1 || !strcmp(reason, "Invalid HTTP version"));

	if (version || code == HPE_PAUSED_H2_UPGRADE || h->parser.method == HTTP_PRI)
		refuse(h, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
	else if (code == HPE_INVALID_TRANSFER_ENCODING && !(h->parser.flags & F_CONTENT_LENGTH))
		refuse(h, 501, "the only transfer coding is exactly \"chunked\"");
	else
		refuse(h, 400, reason && *reason ? reason : "this is not HTTP");
	return HTTP_BAD;
}

void http_place(const struct http *h, char out[32])
{
	if (!h->versioned)
		snprintf(out, 32, "request line");
	else if (!h->headers_done && !h->lines && !h->n_name) /* its end, or what follows */
		snprintf(out, 32, "first lines");
	else if (h->headers_done)
		snprintf(out, 32, "body, byte %llu", (unsigned long long)h->body_bytes);
	else
		snprintf(out, 32, "header line %u", h->lines + 1);
}

/*
 * llhttp skips line ends before a request, of both kinds; a bare LF is none here. Whether there is
 * none.
 */
static bool strict_blanks(struct http *h, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len && (bytes[i] == '\r' || bytes[i] == '\n'); i++) {
		if (bytes[i] == '\n' && !h->after_cr)
			return refuse(h, 400, "a line ends in a bare LF") == 0;
		h->after_cr = bytes[i] == '\r';
	}
	return true;
}

/*
 * llhttp takes any number of spaces between the words of a request line; the grammar has one. The
 * bytes before the second of two; all if there is none.
 */
static size_t strict_spaces(struct http *h, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len && !h->line_done; i++) {
		bool blank = bytes[i] == '\r' || bytes[i] == '\n';

		if (bytes[i] == ' ' && h->after_space)
			return i;
		h->after_space = bytes[i] == ' ';
		h->line_done = blank && h->line_begun;
		h->line_begun |= !blank;
	}
	return len;
}

enum http_result http_feed(struct http *h, const char *bytes, size_t len)
{
	llhttp_errno_t code;
	const char *end;
	size_t good;

	if (!len)
		return HTTP_MORE;
	if (!h->started && !strict_blanks(h, bytes, len))
		return HTTP_BAD;
	/* what stands before them is judged first: the verdict is that of the first mistake */
	good = strict_spaces(h, bytes, len);
	code = llhttp_execute(&h->parser, bytes, good);
	if (h->whole && (code == HPE_PAUSED || code == HPE_PAUSED_UPGRADE)) {
		end = llhttp_get_error_pos(&h->parser);
		h->fed += (uint64_t)(end - bytes);
		return HTTP_WHOLE;
	}
	if (code != HPE_OK)
		return bad(h, code);
	if (good < len) {
		refuse(h, 400, "two spaces in a row");
		return HTTP_BAD;
	}
	h->fed += len;
	if (!h->headers_done && h->fed >= HTTP_HEADER_MAX) {
		refuse(h, h->url_done ? 431 : 414,
		       h->url_done ? "the headers are longer than 64 KiB"
				   : "the request's target is longer than 64 KiB");
		return HTTP_BAD;
	}
	return HTTP_MORE;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t scheme_len(const char *s, size_t len)
{
	if (len >= 7 && strncasecmp(s, "http://", 7) == 0)
		return 7;
	return len >= 8 && strncasecmp(s, "https://", 8) == 0 ? 8 : 0;
}

int http_path(const struct http *h, char *out, size_t cap)
{
	const char *s = h->target,
		   *end = s + (h->target_len < HTTP_TARGET_KEPT ? h->target_len : HTTP_TARGET_KEPT);
	const char *query = memchr(s, '?', (size_t)(end - s));
	size_t n = 0, scheme;

	if (!query && h->target_len > HTTP_TARGET_KEPT)
		return -1;
	end = query ? query : end;
	scheme = scheme_len(s, (size_t)(end - s));
	if (scheme) { /* absolute: the path is behind the authority */
		s = memchr(s + scheme, '/', (size_t)(end - s) - scheme);
		if (!s) {
			s = "/";
			end = s + 1;
		}
	}
	for (; s < end; s++, n++) {
		int c = (unsigned char)*s;

		if (n == cap)
			return -1;
		if (c == '%') {
			if (end - s < 3 || hex(s[1]) < 0 || hex(s[2]) < 0)
				return -1;
			c = hex(s[1]) * 16 + hex(s[2]);
			s += 2;
			if (!c)
				return -1;
		}
		out[n] = (char)c;
	}
	return (int)n;
}

const char *http_reason(int status)
{
	static const struct {
		int status;
		const char *reason;
	} list[] = {{200, "OK"},
		    {400, "Bad Request"},
		    {404, "Not Found"},
		    {405, "Method Not Allowed"},
		    {408, "Request Timeout"},
		    {413, "Content Too Large"},
		    {414, "URI Too Long"},
		    {415, "Unsupported Media Type"},
		    {417, "Expectation Failed"},
		    {429, "Too Many Requests"},
		    {431, "Request Header Fields Too Large"},
		    {500, "Internal Server Error"},
		    {501, "Not Implemented"},
		    {503, "Service Unavailable"},
		    {505, "HTTP Version Not Supported"}};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		if (list[i].status == status)
			return list[i].reason;
	}
	return "Error";
}

static void write_date(struct out *o, uint64_t seconds)
{
	time_t t = (time_t)seconds;
	char text[64];
	struct tm tm;

	/* musl has one locale for this, and English names in it */
	if (gmtime_r(&t, &tm) && strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm))
		out_format(o, "Date: %s\r\n", text);
}

void http_write_head(struct out *o, const struct http_head *h)
{
	out_format(o, "HTTP/1.1 %d %s\r\n", h->status, http_reason(h->status));
	if (h->date)
		write_date(o, h->date);
	if (h->content_type)
		out_format(o, "Content-Type: %s\r\n", h->content_type);
	if (h->no_cache)
		out_text(o, "Cache-Control: no-cache\r\n");
	if (h->length == HTTP_CHUNKED)
		out_text(o, "Transfer-Encoding: chunked\r\n");
	else if (h->length != HTTP_UNTIL_CLOSE)
		out_format(o, "Content-Length: %llu\r\n", (unsigned long long)h->length);
	if (h->allow)
		out_format(o, "Allow: %s\r\n", h->allow);
	if (h->retry_after)
		out_format(o, "Retry-After: %u\r\n", h->retry_after);
	if (!h->keep_alive)
		out_text(o, "Connection: close\r\n");
	else if (!h->http11)
		out_text(o, "Connection: keep-alive\r\n");
	out_text(o, "\r\n");
}
