/* no asan: it is PID 1 of an emulated machine */
/*
 * What a machine of boot_ways.t starts in init's place: loads the kernel's vsock with its loopback,
 * leaves a child that asks the node over it, by `penstock relay vsock:1`, and becomes init. So both
 * ends of vsock are ours, and the kernel's between them; the device of a hypervisor is not. The
 * child's answers stand in the kernel's log behind "vsock:".
 */
#include "boot/modules.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCKET "/dev/vsock_relay" /* the root is read-only */

static pid_t start(char *const argv[], int out)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	dup2(out, 1);
	dup2(out, 2);
	execv(argv[0], argv);
	_exit(127);
}

/* Asks, and prints the answer in one line. */
static void ask(FILE *log)
{
	static char program[] = "/penstock", command[] = "ask", option[] = "--socket",
		    path[] = SOCKET, seed[] = "--seed=7", most[] = "--max-tokens=16",
		    question[] = "What is Penstock?";
	char *argv[] = {program, command, option, path, seed, most, question, NULL};
	char text[2000] = "";
	size_t len = 0;
	int pair[2];
	ssize_t n;

	if (pipe(pair))
		return;
	start(argv, pair[1]);
	close(pair[1]);
	while (len < sizeof(text) - 1 &&
	       (n = read(pair[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	close(pair[0]);
	text[len] = '\0';
	for (char *p = text; *p; p++)
		if (*p == '\n')
			*p = ' ';
	fprintf(log, "vsock: %s\n", text);
	fflush(log);
}

static void client(void)
{
	static char program[] = "/penstock", command[] = "relay", port[] = "vsock:1",
		    option[] = "--socket", path[] = SOCKET;
	char *argv[] = {program, command, port, option, path, NULL};
	FILE *log = fopen("/dev/kmsg", "w");

	if (!log)
		_exit(1);
	start(argv, fileno(log));
	while (access(SOCKET, F_OK))
		usleep(10000);
	for (unsigned i = 0; i < 2; i++)
		ask(log); /* a connection waits until the node listens, and is served */
	for (;;)
		pause();
}

int main(void)
{
	static char name[] = "init";
	char *argv[] = {name, NULL};
	FILE *log;

	mkdir("/dev", 0755);
	if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL))
		return 1;
	log = fopen("/dev/kmsg", "w");
	if (log && (modules_load_file("vsock.ko") ||
		    modules_load_file("vmw_vsock_virtio_transport_common.ko") ||
		    modules_load_file("vsock_loopback.ko")))
		fprintf(log, "vsock: the modules cannot be loaded\n");
	if (log)
		fclose(log);
	if (!fork())
		client();
	execv("/init", argv);
	return 1;
}
