/*
 * One HTTP/1 request out of a connection's bytes: llhttp in its strict form, and what api.md asks
 * for beyond it (limits, versions, transfer codings). Incremental: bytes are fed as they come, and
 * parsing stops exactly behind the request. Never stored: after a restart the request is fed again
 * from its first byte. Knows nothing of rings or endpoints.
 */
#ifndef GATEWAY_HTTP_H
#define GATEWAY_HTTP_H

#include "runtime/gateway/out.h"

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	HTTP_HEADER_MAX = 64 * 1024, /* bytes of request line and headers */
	HTTP_LINES_MAX = 100,        /* header lines, trailers among them */
	HTTP_BODY_MAX = 16 << 20,    /* bytes of a body without its chunk framing */
	HTTP_TARGET_KEPT =
		1200 /* a path of ours with a name of 255 bytes, each as %XX, is shorter */
};

enum http_result {
	HTTP_MORE,  /* all bytes taken, the request goes on */
	HTTP_WHOLE, /* a request ended; `fed` says where */
	HTTP_BAD    /* `status` and `problem` say why; what follows cannot be read */
};

struct http {
	llhttp_t parser;
	uint64_t fed;        /* raw bytes taken; the request's length once it is whole */
	uint64_t length;     /* Content-Length, 0 if there is none */
	uint64_t body_bytes; /* of the body so far, without framing */
	char *body;          /* where the body goes (HTTP_BODY_MAX bytes), or NULL: only counted */
	const char *problem;
	uint32_t lines, trailer_bytes;
	uint32_t target_len; /* may exceed HTTP_TARGET_KEPT: then only the beginning is here */
	uint32_t n_name, n_value;
	int status;                              /* HTTP_BAD: of the reply */
	bool started;                            /* a byte of the request line has come */
	bool after_cr;                           /* before it: the last byte was a CR */
	bool line_begun, line_done, after_space; /* of the request line: where its spaces are */
	bool value_cut;                          /* `value` is only the beginning */
	bool headers_done;                       /* the fields below are valid */
	bool url_done, versioned;
	bool whole;
	bool http11;
	bool keep_alive; /* the client wants the connection to stay */
	bool chunked;
	bool has_body;            /* the request announces one */
	bool expect;              /* Expect: 100-continue */
	bool expect_other;        /* another Expect: 417 */
	bool not_json;            /* a Content-Type that is not JSON */
	char name[24], value[64]; /* of the header being read, cut */
	char target[HTTP_TARGET_KEPT];
};

/* Begins a request. body may be NULL. */
void http_begin(struct http *h, char *body);

/* Takes bytes up to the request's end. Not to be called again after HTTP_WHOLE or HTTP_BAD. */
enum http_result http_feed(struct http *h, const char *bytes, size_t len);

/* Where a request that was refused stopped being one: "header line 3", for its message. */
void http_place(const struct http *h, char out[32]);

static inline bool http_is_head(const struct http *h)
{
	return h->headers_done && h->parser.method == HTTP_HEAD;
}

/*
 * The path of the request's target: absolute form and query cut off, %XX decoded. Returns its
 * length; -1 if it is longer than cap or holds a bad escape or %00. "*" stays "*".
 */
int http_path(const struct http *h, char *out, size_t cap);

/* The head of a reply. */
struct http_head {
	int status;
	const char *content_type; /* NULL: no body */
	uint64_t length;          /* of the body; HTTP_CHUNKED: chunked; HTTP_UNTIL_CLOSE */
	bool keep_alive, http11;
	bool no_cache;
	unsigned retry_after; /* seconds, 0: none */
	const char *allow;    /* or NULL */
	uint64_t date;        /* seconds since 1970; 0: no clock */
};
#define HTTP_CHUNKED     (UINT64_MAX - 1)
#define HTTP_UNTIL_CLOSE UINT64_MAX

void http_write_head(struct out *o, const struct http_head *h);

const char *http_reason(int status);

#endif
