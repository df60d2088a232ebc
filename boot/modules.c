/* Kernel modules; see modules.h. */
#include "boot/modules.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	ORDER_MAX = 8192
};

static int load(const char *name)
{
	char path[300];
	int fd, rc;

	snprintf(path, sizeof(path), "/modules/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	rc = (int)syscall(SYS_finit_module, fd, "", 0);
	close(fd);
	return rc == 0;
}

int modules_load(void)
{
	char order[ORDER_MAX], *rest = order, *line;
	int fd = open("/modules/order", O_RDONLY | O_CLOEXEC), loaded = 0;
	ssize_t n = fd < 0 ? 0 : read(fd, order, sizeof(order) - 1);

	if (fd >= 0)
		close(fd);
	order[n > 0 ? n : 0] = '\0';
	while ((line = strsep(&rest, "\n")))
		loaded += *line && load(line);
	return loaded;
}
