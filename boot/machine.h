/*
 * What `init` does as PID 1 of a booted node, and only then: the few file systems, kernel modules,
 * the model's partition, the port to the host, the power button, the end of the machine. Between
 * that the node is the same as on a host. Called by main.c and loop.c.
 */
#ifndef BOOT_MACHINE_H
#define BOOT_MACHINE_H

#include "boot/port.h"
#include "boot/update.h"
#include "model/store/settings.h"
#include "runtime/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	MACHINE_BUTTONS = 8,
	MACHINE_ARGUMENTS = SETTINGS_MAX + 8
};

/* Moments of the start, CLOCK_MONOTONIC: the kernel's own start is 0. */
enum machine_moment {
	AT_INIT,    /* the kernel has started us */
	AT_MODULES, /* they are loaded */
	AT_MODEL,   /* its partition is there */
	AT_INDEX,   /* the survey is done, the node planned */
	AT_LOADED,  /* resident weights are there */
	AT_ANSWER,  /* the known answer has come */
	AT_MOMENTS
};

/* What the console's last line said. */
struct console {
	uint64_t ns, tokens, hits, misses, bytes;
};

struct machine {
	bool here; /* this process is PID 1 */
	char root[65];
	char model[1024]; /* "/dev/nvme0n1p3", several with commas */
	struct pack_settings settings;
	char text[2 * sizeof(struct pack_settings)];
	char *argv[MACHINE_ARGUMENTS];
	int argc;
	int button[MACHINE_BUTTONS]; /* -1: none */
	uint64_t at[AT_MOMENTS];
	uint64_t port_look_ns; /* until when to look for the port; 0: no more */
	struct port port;
	int vsock;         /* listens for clients; -1: the machine has no such device */
	int proof;         /* our own client's end of a connection; -1: it does not ask */
	uint64_t proof_ns; /* when it may ask again */
	bool judged;       /* it was looked whether this program is on trial */
	struct update update;
	struct console console;
	uint64_t watchdog_look_ns; /* when to look for one; 0: no more */
	int watchdog;              /* -1: none */
	uint64_t watchdog_ns;      /* when it wants to hear of us again */
};

/* Whether this process is a machine's first. */
bool machine_is(void);

/*
 * Mounts, loads modules, finds the model; leaves the command line of a node in argv. Takes seconds
 * at most: 60 until all parts of the model are there.
 */
MUST_CHECK int machine_start(struct machine *m, struct err *e);

/* Power button and port; after the pump is there. epoll tags: button, port. */
void machine_watch(struct machine *m, struct pump *pump, int epoll, uint64_t button_tag,
		   uint64_t port_tag, port_ask *ask, void *context);

/* Looks for the port, which comes late; pets the watchdog. In how many ms again; -1: never. */
int machine_tick(struct machine *m, int epoll, uint64_t port_tag);

/* It works: loads what is not needed for that, watchdog and sensors, in a thread of its own. */
void machine_complete(struct machine *m);

/* The hottest sensor of the processors and drives, degrees Celsius; 0: none can be read. */
int machine_degrees(void);

/* Whether the power button was pressed. */
bool machine_pressed(struct machine *m);

/*
 * The end: off after status 0; restart after STATUS_CTRL_C at once, after anything else in ten
 * seconds, so that what stands on the screen can be read. Does not return.
 */
_Noreturn void machine_end(int status);

#endif
