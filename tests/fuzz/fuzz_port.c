/*
 * boot/port.h against a host that sends what it likes, in any order: the input is cut into records
 * of 8 bytes, each a frame with a right check (or, one kind in sixteen, its own bytes as they
 * are), with a gateway that echoes. Whatever comes, no more than its window is taken, and when the
 * stream ends every connection is given back.
 */
#include "boot/port.h"

#include "ipc/record.h"
#include "tests/echo.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
	RECORD = 8,
	RECORDS_MAX = 64
};

static struct layout layout;
static struct pump pump;
static struct port port;
static char *conns, *client;

static void no_ask(void *context, uint64_t ask, const void *data, size_t len)
{
	(void)context;
	(void)ask;
	(void)data;
	(void)len;
	port_answer(&port, "answer", 6, 0);
}

static void *shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static void open_pump(void)
{
	static struct bells bells;
	struct plan plan = {.places = 1, .context = 256};
	struct err e = {0};

	signal(SIGPIPE, SIG_IGN); /* as init does */
	if (layout_make(&layout, &plan, &e))
		abort();
	conns = shared(layout.bytes[OBJ_CONNS]);
	client = shared(layout.bytes[OBJ_CLIENT]);
	pump_init(&pump, &layout, conns, client, &bells.bell[ROLE_CLIENT][0],
		  shared(sizeof(struct log_object)), epoll_create1(0));
}

static void settle(void)
{
	for (unsigned i = 0; i < 6; i++) {
		if (pump_scan(&pump, false) < 0)
			abort();
		echo_all(&layout, client, conns);
		port_tick(&port);
	}
}

/* The frame of a record into out; its length. */
static size_t make_frame(const uint8_t *r, uint32_t *number, char *out)
{
	static const uint64_t values[] = {0, 1, 1024, 65536, 1ull << 40, UINT64_MAX};
	size_t length = r[0] % FRAME_KINDS == FRAME_DATA
				? (size_t)(r[2] | r[3] << 8) % (FRAME_DATA_MAX + 1)
			: r[0] % FRAME_KINDS == FRAME_ASK ? r[2] % 64
			: r[2] > 250                      ? 5
							  : 0;
	char *bytes = memset(out + sizeof(struct frame), r[6], length);
	struct frame f = frame_make((enum frame_kind)(r[0] % FRAME_KINDS), r[1] % 8,
				    r[4] < 200 ? values[r[4] % 6] : r[5], bytes, (uint32_t)length,
				    r[3] == 78 ? 5 : *number);

	if (r[0] >> 4 == 15) {
		memcpy(out, r, RECORD);
		return RECORD;
	}
	memcpy(out, &f, sizeof(f));
	*number = f.kind == FRAME_HELLO ? 1 : *number + 1;
	if (length && r[3] == 77)
		bytes[length / 2] ^= 1; /* its sum is another */
	return sizeof(f) + length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static char frame[sizeof(struct frame) + FRAME_DATA_MAX], drain[1 << 16];
	const struct frame hello = frame_make(FRAME_HELLO, 0, 7, NULL, 0, 0);
	uint32_t number = 1;
	int pair[2];

	if (!conns)
		open_pump();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair))
		abort();
	port_init(&port, &pump, pair[0], no_ask, NULL);
	if (write(pair[1], &hello, sizeof(hello)) != sizeof(hello))
		abort();
	for (size_t i = 0; i + RECORD <= len && i < RECORDS_MAX * RECORD; i += RECORD) {
		size_t n = make_frame(data + i, &number, frame);

		if (write(pair[1], frame, n) < 0)
			break;
		port_event(&port);
		settle();
		while (data[i + 7] & 1 && read(pair[1], drain, sizeof(drain)) > 0)
			;
	}
	close(pair[1]);
	port_event(&port);
	settle();
	for (unsigned i = 0; i < CONNS; i++)
		if (pump.conn[i].link)
			abort();
	if (port.session)
		abort();
	close(pair[0]);
	return 0;
}
