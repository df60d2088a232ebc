/*
 * Many connections over one byte stream: how a booted node speaks to its host over a virtio-serial
 * port or a serial line. The host's side is `penstock relay`, which makes a Unix socket of it
 * again; the node's is init (boot/port.h). A frame is a header and `length` bytes. Everything is
 * little-endian.
 *
 * Session. The stream has no begin: either side may start anew while old bytes are under way. So
 * the host says FRAME_HELLO with a number it has never used; both sides then forget all channels,
 * and the node answers FRAME_WELCOME with that number; the host drops everything before it. A node
 * that has just started says FRAME_WELCOME with number 0: greet me. Each side counts its frames
 * from its greeting on. Whoever meets a header that is none, bytes of another sum than their header
 * says, or a frame that is not the next one, looks for the next greeting: a serial line may lose
 * and change bytes, and then its clients' connections end.
 *
 * Channel: one client's connection, numbered by the host.
 *   1. host: OPEN. The node gives it a connection when it has one.
 *   2. DATA in both directions, never beyond the count of the last WINDOW: the receiver has room.
 *   3. END: its sender sends no more (a half-close).
 *   4. CLOSE: its sender is done with it altogether. Each side says it once; what comes for a
 *      closed channel is dropped; when both have said it the number may be used again.
 */
#ifndef IPC_FRAME_H
#define IPC_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FRAME_MAGIC 0x4b545350u /* "PSTK" */
#define FRAME_PORT  "penstock"  /* the virtio-serial port's name */

enum {
	FRAME_VERSION = 2,
	FRAME_VSOCK_PORT =
		4000, /* where a node listens on vsock: a connection per client, no frames */
	FRAME_CHANNELS = 256,
	FRAME_DATA_MAX = 16 * 1024
};

enum frame_kind {
	FRAME_HELLO = 1, /* value: session */
	FRAME_WELCOME,   /* value: session */
	FRAME_OPEN,
	FRAME_DATA,
	FRAME_WINDOW, /* value: bytes of this channel that may have been sent since its OPEN */
	FRAME_END,
	FRAME_CLOSE,
	FRAME_PING, /* host: are you there? value comes back */
	FRAME_PONG,
	FRAME_ASK,    /* host: value is an enum frame_ask; data with it */
	FRAME_ANSWER, /* node: data is text; value 0: more follows, else 1 + status */
	FRAME_KINDS
};

/* What the host may want of the machine. */
enum frame_ask {
	ASK_OFF = 1, /* as the power button */
	ASK_RESTART,
	ASK_LIST,   /* what the image holds, what runs, what it has open */
	ASK_UPDATE, /* a program partition's contents begin; 8 bytes of data: their length */
	ASK_PIECE,  /* the next bytes of them */
	ASK_KILL,   /* data is a server's name: `penstock chaos` for a machine */
	ASKS
};

struct frame {
	uint32_t magic;
	uint16_t channel;
	uint8_t kind;    /* enum frame_kind */
	uint8_t version; /* FRAME_VERSION */
	uint32_t length; /* bytes that follow */
	uint32_t check;  /* of the other fields */
	uint64_t value;
	uint32_t sum; /* of the bytes that follow */
	uint32_t
		number; /* of its sender's since the greeting, which is 0; a request of `node`: 0 */
};
_Static_assert(sizeof(struct frame) == 32, "no holes");

static inline uint32_t frame_sum(const void *data, size_t len)
{
	const char *p = data;
	uint64_t h = len, word;

	for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		h = (h ^ word) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 29;
	}
	for (; len; p++, len--)
		h = (h ^ (uint8_t)*p) * 0xff51afd7ed558ccdull;
	return (uint32_t)(h >> 32);
}

static inline uint32_t frame_check(const struct frame *f)
{
	uint64_t a = f->magic | (uint64_t)f->length << 32;
	uint64_t c = f->number, b = f->channel | (uint64_t)f->kind << 16 |
				    (uint64_t)f->version << 24 | (uint64_t)f->sum << 32;

	a = (a ^ f->value * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
	a = (a ^ a >> 32 ^ b) * 0xff51afd7ed558ccdull;
	a = (a ^ a >> 32 ^ c) * 0xff51afd7ed558ccdull;
	return (uint32_t)(a >> 32);
}

static inline struct frame frame_make(enum frame_kind kind, unsigned channel, uint64_t value,
				      const void *data, uint32_t length, uint32_t number)
{
	struct frame f = {.magic = FRAME_MAGIC,
			  .channel = (uint16_t)channel,
			  .kind = (uint8_t)kind,
			  .version = FRAME_VERSION,
			  .length = length,
			  .value = value,
			  .sum = frame_sum(data, length),
			  .number = number};

	f.check = frame_check(&f);
	return f;
}

/* Whether sizeof(*f) bytes at p, which need not be aligned, are a header; copies it. */
static inline bool frame_read(struct frame *f, const void *p)
{
	memcpy(f, p, sizeof(*f));
	return f->magic == FRAME_MAGIC && f->version == FRAME_VERSION && f->kind &&
	       f->kind < FRAME_KINDS && f->channel < FRAME_CHANNELS &&
	       f->length <= FRAME_DATA_MAX && f->check == frame_check(f);
}

/* Whether the bytes behind a header are those that were sent. */
static inline bool frame_whole(const struct frame *f, const void *data)
{
	return f->sum == frame_sum(data, f->length);
}

#endif
