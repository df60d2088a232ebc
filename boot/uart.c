/* Serial lines; see uart.h. */
#include "boot/uart.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const struct {
	uint64_t speed;
	speed_t code;
} speeds[] = {{9600, B9600},       {19200, B19200},     {38400, B38400},    {57600, B57600},
	      {115200, B115200},   {230400, B230400},   {460800, B460800},  {921600, B921600},
	      {1500000, B1500000}, {3000000, B3000000}, {4000000, B4000000}};

int uart_set(int fd, uint64_t speed)
{
	struct termios t;

	if (tcgetattr(fd, &t))
		return -errno;
	for (unsigned i = 0; i < sizeof(speeds) / sizeof(speeds[0]); i++) {
		if (speeds[i].speed != speed)
			continue;
		cfmakeraw(&t);
		t.c_cflag |=
			CLOCAL | CREAD; /* whatever the modem's wires say: often there are none */
		cfsetspeed(&t, speeds[i].code);
		return tcsetattr(fd, TCSAFLUSH, &t) ? -errno : 0;
	}
	return -EINVAL;
}

int uart_open(const char *command_line, struct err *e)
{
	static const char key[] = "penstock.uart=";
	const char *at = strstr(command_line, key);
	uint64_t speed = UART_SPEED;
	char path[64];
	size_t len;
	int fd, rc;

	if (!at)
		return -ENOENT;
	at += sizeof(key) - 1;
	len = strcspn(at, " ,\n");
	if (at[len] == ',')
		speed = strtoull(at + len + 1, NULL, 10);
	snprintf(path, sizeof(path), "/dev/%.*s", len < 40 ? (int)len : 40, at);
	fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	rc = fd < 0 ? -errno : uart_set(fd, speed);
	if (!rc)
		return fd;
	if (fd >= 0)
		close(fd);
	return err_set(e, rc, "the serial line %s, %llu bits per second: %s", path,
		       (unsigned long long)speed, strerror(-rc));
}
