/* A GPU's driver in the file system; see gpu.h. */
#include "boot/gpu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where distributions, containers and the node's own image keep libraries. */
static const char *const folders[] = {"/usr/lib/x86_64-linux-gnu",
				      "/lib/x86_64-linux-gnu",
				      "/usr/lib64",
				      "/lib64",
				      "/usr/lib",
				      "/usr/lib/wsl/lib",
				      "/usr/local/nvidia/lib64",
				      "/run/opengl-driver/lib"};

/* Of the C library; since glibc 2.34 the last three are empty, and older drivers ask for them. */
static const char *const c_library[] = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0",
					"librt.so.1"};

static const char *const devices[] = {"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools",
				      "/dev/nvidia0",   "/dev/nvidia1",    "/dev/nvidia2",
				      "/dev/nvidia3",   "/dev/nvidia4",    "/dev/nvidia5",
				      "/dev/nvidia6",   "/dev/nvidia7"};

static bool add(struct gpu_files *g, const char *path)
{
	unsigned n = g->root.n;

	if (n == GPU_FILES || strlen(path) >= sizeof(g->path[n]) || access(path, F_OK))
		return false;
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(g->path[i], path))
			return true;
	snprintf(g->path[n], sizeof(g->path[n]), "%s", path);
	g->file[n].path = g->path[n];
	g->root.n++;
	return true;
}

/* The first folder that has it. */
static bool add_library(struct gpu_files *g, const char *name)
{
	char path[128];

	for (unsigned i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", folders[i], name);
		if (add(g, path))
			return true;
	}
	return false;
}

int gpu_find(struct gpu_files *g, unsigned ordinal, const char *library, struct err *e)
{
	memset(g, 0, sizeof(*g));
	g->root.file = g->file;
	snprintf(g->ordinal, sizeof(g->ordinal), "%u", ordinal);
	if (!(library ? add(g, library) : add_library(g, "libcuda.so.1")))
		return err_set(e, -ENODEV, "no driver for a GPU: %.100s is not there%s",
			       library ? library : "libcuda.so.1",
			       library ? "" : " (--libcuda says where it is)");
	snprintf(g->library, sizeof(g->library), "%s", g->path[0]);
	for (unsigned i = 0; i < sizeof(c_library) / sizeof(c_library[0]); i++)
		add_library(g, c_library[i]);
	add(g, "/lib64/ld-linux-x86-64.so.2");
	for (unsigned i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		add(g, devices[i]);
	return 0;
}
