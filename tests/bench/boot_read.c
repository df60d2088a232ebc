/* no asan: it is PID 1 of an emulated machine */
/*
 * PID 1 of a machine of tests/bench/boot.py, in init's place: loads the same modules, finds the
 * same model, reads the bytes that a start reads, and does nothing with them. All of it is timed:
 * what no start could do without on this machine. Prints lines "boot_read NAME SECONDS BYTES" on
 * the kernel's log, and of the kernel's own start the longest steps; then switches the machine off.
 */
#include "boot/find.h"
#include "boot/modules.h"
#include "boot/text.h"
#include "drivers/cpu/blake3.h"
#include "model/store/load.h"
#include "runtime/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LINES_MAX = 2000,
	STEPS = 8, /* of the kernel's start that are shown */
	FIND_TRIES = 500
};

struct line {
	uint64_t us, step_us; /* when it was printed; how long the next one took to come */
	char text[80];
};

static char buffer[PACK_PIECE] __attribute__((aligned(4096)));

static void say(const char *name, uint64_t from_ns, uint64_t bytes)
{
	fprintf(stderr, "boot_read %s %.4f %llu\n", name,
		(double)(clock_now_ns() - from_ns) / (double)NS_PER_S, (unsigned long long)bytes);
}

/* ---- The kernel's own start ---- */

static int by_step(const void *a, const void *b)
{
	const struct line *x = a, *y = b;

	return (x->step_us < y->step_us) - (x->step_us > y->step_us);
}

static void kernel_steps(void)
{
	static struct line line[LINES_MAX];
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	char record[1024];
	unsigned n = 0;
	ssize_t len;

	while (n < LINES_MAX && (len = read(fd, record, sizeof(record) - 1)) > 0) {
		char *text, *stamp;

		record[len] = '\0';
		text = strchr(record, ';');
		stamp = strchr(record, ',');
		stamp = stamp ? strchr(stamp + 1, ',') : NULL;
		if (!text || !stamp)
			continue;
		text[strcspn(text, "\n")] = '\0';
		line[n].us = strtoull(stamp + 1, NULL, 10);
		snprintf(line[n].text, sizeof(line[n].text), "%.79s", text + 1);
		if (n &&
		    line[n].us > line[n - 1].us) /* two processors' clocks may differ at first */
			line[n - 1].step_us = line[n].us - line[n - 1].us;
		if (strncmp(line[n].text, "boot_read", 9))
			n++;
	}
	close(fd);
	qsort(line, n, sizeof(line[0]), by_step);
	for (unsigned i = 0; i < n && i < STEPS; i++)
		fprintf(stderr, "boot_read kernel %.3f %.3f %s\n", (double)line[i].step_us * 1e-6,
			(double)line[i].us * 1e-6, line[i].text);
}

/* ---- The model ---- */

/* As many bytes of FP8 looked through for numbers that are not finite. */
static void check_numbers(uint64_t bytes)
{
	uint64_t from = clock_now_ns();
	int64_t found = -1;

	memset(buffer, 0, sizeof(buffer));
	for (uint64_t at = 0; at < bytes && found < 0; at += sizeof(buffer))
		found = load_find_nonfinite(
			buffer, bytes - at < sizeof(buffer) ? bytes - at : sizeof(buffer),
			INDEX_FP8);
	say("checking", from, bytes);
}

static void read_model(int fd, const struct pack_geometry *g, uint64_t experts)
{
	static const char *const names[] = {"hashes", "catalog", "resident", "experts"};
	enum cpu_isa isa = cpu_isa_best();
	uint8_t hash[PACK_HASH];

	for (unsigned k = 0; k < PACK_AREAS; k++) {
		const struct index_pack_area *a = &g->area[k];
		uint64_t items = k == PACK_EXPERTS ? experts : 1, from = clock_now_ns(), off, n;
		char name[32];

		for (uint64_t i = 0; i < items * pack_pieces(a); i++) {
			uint64_t item = i / pack_pieces(a), piece = i % pack_pieces(a);

			pack_part(1, g->data_off, a->off + item * a->stride + piece * PACK_PIECE,
				  &off);
			n = pack_piece_bytes(a, piece);
			n = (n + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
			if (pread(fd, buffer, n, (off_t)off) != (ssize_t)n)
				fprintf(stderr, "boot_read: cannot read %s: %s\n", names[k],
					strerror(errno));
		}
		say(names[k], from, items * a->bytes);
		from = clock_now_ns();
		for (uint64_t i = 0; i < items * pack_pieces(a); i++)
			blake3(isa, buffer, pack_piece_bytes(a, i % pack_pieces(a)), hash);
		snprintf(name, sizeof(name), "hashing-%s", names[k]);
		say(name, from, items * a->bytes);
	}
	check_numbers(g->area[PACK_RESIDENT].bytes);
}

/* A number of the kernel's command line, "boot_read.NAME=". */
static const char *argument(const char *line, const char *name)
{
	const char *at = strstr(line, name);

	return at ? at + strlen(name) : "";
}

static void measure(void)
{
	char text[4096], device[1024] = "";
	struct find f = {.names = device, .room = sizeof(device)};
	struct pack_header h;
	uint64_t from = clock_now_ns();
	int fd;

	say("init", 0, 0);
	modules_load(MODULES_FIRST);
	say("modules", from, 0);
	fprintf(stderr, "boot_read finit_module %.4f 0\n",
		(double)modules_kernel_ns() / (double)NS_PER_S);
	text_read("/proc/cmdline", text, sizeof(text));
	for (unsigned i = 0; i < PACK_HASH; i++)
		sscanf(argument(text, "penstock.root=") + (size_t)2 * i, "%2hhx", &f.root[i]);
	from = clock_now_ns();
	for (unsigned tries = 0; !find_model(&f) && tries < FIND_TRIES; tries++)
		usleep(1000);
	say("finding", from, 0);
	from = clock_now_ns();
	fd = open(device, O_RDONLY | O_DIRECT);
	if (fd < 0 || pread(fd, buffer, 12288, 0) != 12288) {
		fprintf(stderr, "boot_read: no model: %s\n", strerror(errno));
		return;
	}
	say("header", from, 12288);
	memcpy(&h, buffer, sizeof(h));
	read_model(fd, &h.geometry, strtoull(argument(text, "boot_read.experts="), NULL, 10));
	kernel_steps();
}

int main(void)
{
	static char line[1024];

	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) ||
	    mount("proc", "/proc", "proc", 0, NULL) || mount("sysfs", "/sys", "sysfs", 0, NULL) ||
	    !freopen("/dev/kmsg", "w", stderr))
		return 1;
	setvbuf(stderr, line, _IOLBF, sizeof(line));
	measure();
	fprintf(stderr, "boot_read end 0 0\n");
	reboot(RB_POWER_OFF);
	return 0;
}
