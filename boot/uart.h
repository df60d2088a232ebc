/*
 * A serial line as a booted node's way out: of a machine that is no virtual one, and has nothing
 * else. Frames (ipc/frame.h) go over it as over a virtio-serial port; what it loses or changes is
 * found by their sums. Called by machine.c, and by `penstock relay` for the other end of the line.
 */
#ifndef BOOT_UART_H
#define BOOT_UART_H

#include "runtime/err.h"

#include <stdint.h>

enum {
	UART_SPEED = 115200
};

/* Makes a terminal a line of bytes at that speed, eight bits, no parity. -errno: it is none. */
MUST_CHECK int uart_set(int fd, uint64_t speed);

/*
 * Opens the line that the kernel's command line names for us, "penstock.uart=ttyS1" or
 * "penstock.uart=ttyS1,921600". The descriptor; -ENOENT: it names none; else -errno with a text.
 */
MUST_CHECK int uart_open(const char *command_line, struct err *e);

#endif
