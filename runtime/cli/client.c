/* One streamed request over a Unix socket; see client.h. */
#include "runtime/cli/client.h"

#include "runtime/clock.h"

#include <errno.h>
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <yyjson.h>

/* A growing string. */
struct text {
	char *p;
	size_t len, room;
};

static int text_add(struct text *t, const char *p, size_t len)
{
	if (len >= t->room - t->len) {
		size_t room = (t->len + len + 1) * 2;
		char *q = realloc(t->p, room);

		if (!q)
			return -ENOMEM;
		t->p = q;
		t->room = room;
	}
	memcpy(t->p + t->len, p, len);
	t->len += len;
	t->p[t->len] = 0;
	return 0;
}

int turns_add(struct turns *t, const char *role, const char *text, struct err *e)
{
	if (t->count == t->room) {
		size_t room = t->room ? t->room * 2 : 8;
		struct turn *p = realloc(t->turn, room * sizeof(*p));

		if (!p)
			return err_exit(e, STATUS_MEMORY, -ENOMEM,
					"no memory for the conversation");
		t->turn = p;
		t->room = room;
	}
	t->turn[t->count].role = role;
	t->turn[t->count].text = strdup(text);
	if (!t->turn[t->count].text)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the conversation");
	t->count++;
	return 0;
}

void turns_cut(struct turns *t, size_t count)
{
	while (t->count > count)
		free(t->turn[--t->count].text);
}

/* The state of one exchange. */
struct exchange {
	llhttp_t parser;
	struct text line; /* of the event stream, up to a newline; or the body of an error */
	struct text content;
	struct client_reply *reply;
	client_piece *piece;
	void *context;
	uint64_t sent_ns;
	bool complete, done; /* the message has ended; [DONE] was seen */
	struct err *e;
};

int client_connect(const char *path, const char *suffix, struct err *e)
{
	const char *user = getenv("XDG_RUNTIME_DIR");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char usual[sizeof(a.sun_path) - 8];
	int fd;

	if (!path) {
		snprintf(usual, sizeof(usual), "/run/penstock/penstock.sock");
		if (access(usual, F_OK) < 0 && user && *user)
			snprintf(usual, sizeof(usual), "%s/penstock.sock", user);
		path = usual;
	}
	if (snprintf(a.sun_path, sizeof(a.sun_path), "%s%s", path, suffix) >=
	    (int)sizeof(a.sun_path))
		return err_exit(e, STATUS_USAGE, -ENAMETOOLONG,
				"the socket's path is longer than %zu bytes",
				sizeof(a.sun_path) - 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, -errno, "cannot make a socket: %s", strerror(errno));
	if (connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0) {
		int rc = -errno;

		close(fd);
		return err_set(e, rc,
			       "no node answers at %s: %s. Start one with `penstock run MODEL`, or "
			       "name its socket with --socket",
			       path, strerror(-rc));
	}
	return fd;
}

static char *build_body(const struct client_options *o, const struct turns *t)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc), *messages = yyjson_mut_arr(doc),
		       *stream = yyjson_mut_obj(doc);
	char *body;

	yyjson_mut_doc_set_root(doc, root);
	for (size_t i = 0; i < t->count; i++) {
		yyjson_mut_val *m = yyjson_mut_obj(doc);

		yyjson_mut_obj_add_str(doc, m, "role", t->turn[i].role);
		yyjson_mut_obj_add_str(doc, m, "content", t->turn[i].text);
		yyjson_mut_arr_append(messages, m);
	}
	yyjson_mut_obj_add_val(doc, root, "messages", messages);
	yyjson_mut_obj_add_bool(doc, root, "stream", true);
	yyjson_mut_obj_add_bool(doc, stream, "include_usage", true);
	yyjson_mut_obj_add_val(doc, root, "stream_options", stream);
	if (o->temperature >= 0)
		yyjson_mut_obj_add_real(doc, root, "temperature", o->temperature);
	if (o->top_p >= 0)
		yyjson_mut_obj_add_real(doc, root, "top_p", o->top_p);
	if (o->min_p >= 0)
		yyjson_mut_obj_add_real(doc, root, "min_p", o->min_p);
	if (o->top_k >= 0)
		yyjson_mut_obj_add_sint(doc, root, "top_k", o->top_k);
	if (o->max_tokens >= 0)
		yyjson_mut_obj_add_sint(doc, root, "max_tokens", o->max_tokens);
	if (o->have_seed)
		yyjson_mut_obj_add_sint(doc, root, "seed", o->seed);
	if (o->thinking)
		yyjson_mut_obj_add_bool(doc, root, "thinking", true);
	body = yyjson_mut_write(doc, 0, NULL);
	yyjson_mut_doc_free(doc);
	return body;
}

static int send_all(int fd, const char *p, size_t len, struct err *e)
{
	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, -errno, "cannot send the request: %s", strerror(errno));
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A piece of text in a delta, if it is there. */
static void take_piece(struct exchange *x, yyjson_val *delta, const char *key,
		       enum client_text kind)
{
	yyjson_val *v = yyjson_obj_get(delta, key);
	const char *text = yyjson_get_str(v);
	size_t len = yyjson_get_len(v);

	if (!text || len == 0)
		return;
	if (!x->reply->first_ns)
		x->reply->first_ns = clock_now_ns() - x->sent_ns;
	if (kind == TEXT_CONTENT && text_add(&x->content, text, len))
		err_exit(x->e, STATUS_MEMORY, -ENOMEM, "no memory for the reply");
	x->piece(x->context, kind, text, len);
}

/* A token of a plain completion, which may be part of a character only. */
static void take_token(struct exchange *x, yyjson_val *choice)
{
	yyjson_val *v = yyjson_obj_get(choice, "text");

	if (!yyjson_is_str(v) || yyjson_is_str(yyjson_obj_get(choice, "finish_reason")))
		return;
	if (!x->reply->first_ns)
		x->reply->first_ns = clock_now_ns() - x->sent_ns;
	if (text_add(&x->content, yyjson_get_str(v), yyjson_get_len(v)))
		err_exit(x->e, STATUS_MEMORY, -ENOMEM, "no memory for the reply");
	x->piece(x->context, TEXT_CONTENT, yyjson_get_str(v), yyjson_get_len(v));
}

static void take_error(struct exchange *x, yyjson_val *error)
{
	const char *message = yyjson_get_str(yyjson_obj_get(error, "message"));

	err_set(x->e, -EREMOTEIO, "the node says: %s",
		message ? message : "an error without a message");
}

static void take_event(struct exchange *x, const char *text, size_t len)
{
	yyjson_doc *doc;
	yyjson_val *root, *usage, *choice, *finish;

	if (len == 6 && memcmp(text, "[DONE]", 6) == 0) {
		x->done = true;
		return;
	}
	doc = yyjson_read(text, len, 0);
	root = yyjson_doc_get_root(doc);
	if (yyjson_obj_get(root, "error"))
		take_error(x, yyjson_obj_get(root, "error"));
	choice = yyjson_arr_get_first(yyjson_obj_get(root, "choices"));
	take_piece(x, yyjson_obj_get(choice, "delta"), "reasoning_content", TEXT_REASONING);
	take_piece(x, yyjson_obj_get(choice, "delta"), "content", TEXT_CONTENT);
	take_token(x, choice);
	finish = yyjson_obj_get(choice, "finish_reason");
	if (yyjson_is_str(finish))
		snprintf(x->reply->finish, sizeof(x->reply->finish), "%s", yyjson_get_str(finish));
	usage = yyjson_obj_get(root, "usage");
	if (yyjson_is_obj(usage)) {
		x->reply->prompt_tokens = yyjson_get_uint(yyjson_obj_get(usage, "prompt_tokens"));
		x->reply->completion_tokens =
			yyjson_get_uint(yyjson_obj_get(usage, "completion_tokens"));
		x->reply->cached_tokens = yyjson_get_uint(yyjson_obj_get(
			yyjson_obj_get(usage, "prompt_tokens_details"), "cached_tokens"));
	}
	yyjson_doc_free(doc);
}

/* Bytes of the body: lines of an event stream, or an error's JSON. */
static int on_body(llhttp_t *parser, const char *at, size_t len)
{
	struct exchange *x = parser->data;

	if (text_add(&x->line, at, len))
		return -1;
	if (parser->status_code != 200)
		return 0;
	for (char *end; (end = memchr(x->line.p, '\n', x->line.len)) != NULL;) {
		size_t n = (size_t)(end - x->line.p), rest = x->line.len - n - 1;

		if (n >= 6 && memcmp(x->line.p, "data: ", 6) == 0)
			take_event(x, x->line.p + 6, n - 6 - (n > 6 && end[-1] == '\r'));
		else if (n > 2 && memcmp(x->line.p, ": ", 2) == 0)
			x->piece(x->context, TEXT_PROGRESS, x->line.p + 2, n - 2);
		memmove(x->line.p, end + 1, rest);
		x->line.len = rest;
	}
	return 0;
}

static int on_complete(llhttp_t *parser)
{
	struct exchange *x = parser->data;

	x->complete = true;
	return HPE_PAUSED;
}

/* Why a request got another status than 200. */
static void refused(struct exchange *x)
{
	yyjson_doc *doc = yyjson_read(x->line.p ? x->line.p : "", x->line.len, 0);
	yyjson_val *error = yyjson_obj_get(yyjson_doc_get_root(doc), "error");

	if (error)
		take_error(x, error);
	else
		err_set(x->e, -EREMOTEIO, "the node answers with status %u", x->parser.status_code);
	yyjson_doc_free(doc);
}

/* Reads until the reply is complete. 1: interrupted. */
static int receive(struct exchange *x, int fd, const volatile sig_atomic_t *interrupted)
{
	char buf[16384];

	while (!x->complete) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);

		if (*interrupted)
			return 1;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(x->e, -errno, "the node's reply broke off: %s",
				       strerror(errno));
		if (n == 0) {
			if (llhttp_finish(&x->parser) == HPE_OK && x->complete)
				break;
			return err_set(x->e, -EPIPE,
				       "the node closed the connection in the middle of its reply");
		}
		llhttp_errno_t rc = llhttp_execute(&x->parser, buf, (size_t)n);

		if (rc != HPE_OK && rc != HPE_PAUSED)
			return err_set(x->e, -EPROTO, "the node's reply is not HTTP: %s",
				       llhttp_errno_name(rc));
	}
	if (x->parser.status_code != 200)
		refused(x);
	else if (!x->done && !x->e->code)
		err_set(x->e, -EPIPE, "the node ended its reply too early");
	return x->e->code;
}

int client_post(const char *socket, const char *path, const char *body, client_piece *piece,
		void *context, const volatile sig_atomic_t *interrupted, struct client_reply *reply,
		struct err *e)
{
	struct exchange x = {.reply = reply, .piece = piece, .context = context, .e = e};
	llhttp_settings_t settings;
	char head[256];
	int fd, rc, n;

	memset(reply, 0, sizeof(*reply));
	if (text_add(&x.content, "", 0))
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the request");
	fd = client_connect(socket, "", e);
	rc = fd < 0 ? fd : 0;
	if (rc)
		goto out;
	n = snprintf(head, sizeof(head),
		     "POST %s HTTP/1.1\r\nHost: penstock\r\nContent-Type: application/json\r\n"
		     "Content-Length: %zu\r\nConnection: close\r\n\r\n",
		     path, strlen(body));
	llhttp_settings_init(&settings);
	settings.on_body = on_body;
	settings.on_message_complete = on_complete;
	llhttp_init(&x.parser, HTTP_RESPONSE, &settings);
	x.parser.data = &x;
	x.sent_ns = clock_now_ns();
	rc = send_all(fd, head, (size_t)n, e);
	if (!rc)
		rc = send_all(fd, body, strlen(body), e);
	if (!rc)
		rc = receive(&x, fd, interrupted);
	reply->total_ns = clock_now_ns() - x.sent_ns;
	reply->status = x.parser.status_code;
out:
	if (fd >= 0)
		close(fd);
	free(x.line.p);
	if (rc < 0)
		free(x.content.p);
	else
		reply->content = x.content.p;
	return rc;
}

int client_chat(const struct client_options *o, const struct turns *t, client_piece *piece,
		void *context, const volatile sig_atomic_t *interrupted, struct client_reply *reply,
		struct err *e)
{
	char *body = build_body(o, t);
	int rc = body ? client_post(o->socket, "/v1/chat/completions", body, piece, context,
				    interrupted, reply, e)
		      : err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the request");

	free(body);
	return rc;
}
