/*
 * `penstock node REQUEST`: what a host may want of a booted node besides answers: its end, a new
 * program, what is in it. Speaks to the relay's second socket, in the frames of the port.
 */
#include "ipc/frame.h"
#include "runtime/cli/cli.h"
#include "runtime/cli/client.h"
#include "runtime/cli/relay.h"
#include "runtime/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int send_all(int fd, const void *data, size_t len, struct err *e)
{
	const char *p = data;

	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, -errno, "the relay has gone: %s", strerror(errno));
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int ask(int fd, enum frame_ask what, const void *data, size_t len, struct err *e)
{
	struct frame f = frame_make(FRAME_ASK, 0, what, data, (uint32_t)len, 0);
	int rc = send_all(fd, &f, sizeof(f), e);

	return rc ? rc : send_all(fd, data, len, e);
}

static int receive_all(int fd, void *data, size_t len, struct err *e)
{
	size_t at = 0;

	while (at < len) {
		ssize_t n = recv(fd, (char *)data + at, len - at, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, -EPIPE, "the node has gone before it answered");
		at += (size_t)n;
	}
	return 0;
}

/* Prints the answer; returns its status. */
static int print_answer(int fd, struct err *e)
{
	char text[FRAME_DATA_MAX + 1];
	struct frame f;
	char raw[sizeof(f)];

	for (;;) {
		int rc = receive_all(fd, raw, sizeof(raw), e);

		if (rc)
			return rc;
		if (!frame_read(&f, raw) || f.kind != FRAME_ANSWER)
			return err_set(e, -EBADMSG, "the relay's answer makes no sense");
		rc = receive_all(fd, text, f.length, e);
		if (rc)
			return rc;
		if (!frame_whole(&f, text))
			return err_set(e, -EBADMSG, "the relay's answer makes no sense");
		text[f.length] = '\0';
		if (f.value > 1)
			return err_exit(e, (enum err_status)(f.value - 1), -EIO, "the node: %s",
					text[0] ? text : "it refuses");
		fputs(text, stdout);
		if (f.value)
			return STATUS_OK;
	}
}

static int update(int fd, const char *path, struct err *e)
{
	int file = open(path, O_RDONLY | O_CLOEXEC), rc;
	char piece[FRAME_DATA_MAX];
	struct stat st;
	uint64_t bytes;
	ssize_t n = 0;

	if (file < 0 || fstat(file, &st)) {
		rc = err_set(e, -errno, "%s: %s", path, strerror(errno));
		goto out;
	}
	bytes = (uint64_t)st.st_size;
	rc = ask(fd, ASK_UPDATE, &bytes, sizeof(bytes), e);
	while (!rc && (n = read(file, piece, sizeof(piece))) > 0)
		rc = ask(fd, ASK_PIECE, piece, (size_t)n, e);
	if (!rc && n < 0)
		rc = err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (!rc)
		rc = print_answer(fd, e);
	if (!rc)
		fprintf(stderr, "penstock: written. `penstock node restart` starts it; it stays if "
				"it gives the known answer\n");
out:
	if (file >= 0)
		close(file);
	return rc;
}

static int run(int fd, const char *what, const char *operand, struct err *e)
{
	static const struct {
		const char *name;
		enum frame_ask ask;
	} asks[] = {
		{"off", ASK_OFF}, {"restart", ASK_RESTART}, {"list", ASK_LIST}, {"kill", ASK_KILL}};
	size_t len = operand ? strlen(operand) : 0;

	if (!strcmp(what, "update") && operand)
		return update(fd, operand, e);
	for (unsigned i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
		int rc;

		if (strcmp(what, asks[i].name) != 0 || (asks[i].ask == ASK_KILL) != (len > 0) ||
		    len > 31)
			continue;
		rc = ask(fd, asks[i].ask, operand, len, e);
		return rc ? rc : print_answer(fd, e);
	}
	return err_exit(e, STATUS_USAGE, -EINVAL,
			"a node is asked for one of: list, off, restart, update FILE, kill SERVER");
}

int cmd_node(int argc, char **argv, struct err *e)
{
	const char *path = NULL;
	struct opt table[] = {{"socket", OPT_STRING, &path, .value = "PATH",
			       .help = "the relay's (/run/penstock/penstock.sock, else "
				       "$XDG_RUNTIME_DIR)"}};
	struct options o = {
		.usage = "penstock node list|off|restart|update FILE|kill SERVER",
		.about = "Asks a booted node, through its relay: what it holds and runs; "
			 "its end; a new program, made by `penstock image --update`.",
		.table = table,
		.n = 1,
		.min_operands = 1,
		.max_operands = 2};
	int n = options_parse(&o, argc, argv, e), fd, rc;

	if (n < 0)
		return n;
	if (o.help)
		return options_help(&o, stdout);
	fd = client_connect(path, RELAY_CONTROL, e);
	if (fd < 0)
		return fd;
	rc = run(fd, argv[1], n > 1 ? argv[2] : NULL, e);
	close(fd);
	return rc;
}
