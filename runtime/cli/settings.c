/*
 * `penstock settings STORE [KEY=VALUE...]`: shows and changes the settings of a node that stand in
 * its packed store, a file or the partition of a disk that boots.
 */
#include "model/store/settings.h"
#include "runtime/cli/cli.h"
#include "runtime/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int change(struct pack_settings *s, char **pair, int n, struct err *e)
{
	for (int i = 0; i < n; i++) {
		char *value = strchr(pair[i], '=');
		int rc;

		if (!value)
			return err_exit(e, STATUS_USAGE, -EINVAL, "\"%.60s\" has no \"=\"",
					pair[i]);
		*value++ = '\0';
		rc = settings_set(s, pair[i], value, e);
		if (rc)
			return rc;
	}
	settings_seal(s);
	return 0;
}

static int run(int fd, const char *path, char **pair, int n, struct err *e)
{
	struct pack_header h;
	struct pack_settings s;
	int rc;

	if (pread(fd, &h, sizeof(h), 0) != sizeof(h) ||
	    pread(fd, &s, sizeof(s), PACK_SETTINGS_OFF) != sizeof(s))
		return err_exit(e, STATUS_MODEL, -EIO, "%s: cannot read it: %s", path,
				errno ? strerror(errno) : "it is too short");
	if (h.magic != PACK_MAGIC || h.part)
		return err_exit(e, STATUS_MODEL, -EINVAL,
				"%s: no packed store, or not its first part", path);
	if (!settings_ok(&s)) {
		fprintf(stderr, "penstock: warning: %s: its settings are damaged; there are none\n",
			path);
		memset(&s, 0, sizeof(s));
	}
	rc = change(&s, pair, n, e);
	if (!rc && n && (pwrite(fd, &s, sizeof(s), PACK_SETTINGS_OFF) != sizeof(s) || fsync(fd)))
		rc = err_set(e, errno ? -errno : -EIO, "%s: cannot write: %s", path,
			     strerror(errno));
	if (!rc)
		fputs(s.text, stdout);
	return rc;
}

int cmd_settings(int argc, char **argv, struct err *e)
{
	struct options o = {.usage = "penstock settings STORE [KEY=VALUE...]",
			    .about = "Shows and changes what a booted node gets from its packed "
				     "store: chunk, context, memory, mtp, name, parallel, slots, "
				     "template, threads. An empty value takes a setting away.",
			    .min_operands = 1,
			    .max_operands = 1 + SETTINGS_MAX};
	int n = options_parse(&o, argc, argv, e), fd, rc;

	if (n < 0)
		return n;
	if (o.help)
		return options_help(&o, stdout);
	fd = open(argv[1], (n > 1 ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return err_exit(e, STATUS_MODEL, -errno, "%s: %s", argv[1], strerror(errno));
	rc = run(fd, argv[1], argv + 2, n - 1, e);
	close(fd);
	return rc;
}
