/*
 * `penstock run`: checks the command line, then becomes init. The process that was started is init:
 * nothing stands above or beside it, so LISTEN_PID, systemd and Ctrl-C mean the right process.
 */
#include "boot/options.h"
#include "runtime/cli/cli.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cmd_run(int argc, char **argv, struct err *e)
{
	char path[PATH_MAX];
	char **copy = calloc((size_t)argc + 1, sizeof(*copy));
	struct boot_options options;
	ssize_t n;
	int rc;

	if (!copy)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory");
	/* the parser moves operands: init gets the arguments as they were */
	memcpy(copy, argv, (size_t)argc * sizeof(*copy));
	rc = boot_options_parse(&options, argc, argv, e);
	if (rc)
		goto out;
	n = readlink("/proc/self/exe", path, sizeof(path) - sizeof("init"));
	if (n < 0) {
		rc = err_set(e, -errno, "cannot find the folder of this program: %s",
			     strerror(errno));
		goto out;
	}
	path[n] = '\0';
	strcpy(strrchr(path, '/') + 1, "init");
	copy[0] = path;
	execv(path, copy);
	rc = err_set(e, -errno, "cannot start %s: %s. All programs lie in one folder", path,
		     strerror(errno));
out:
	free(copy);
	return rc > 0 ? STATUS_OK : rc; /* 1: help was printed */
}
