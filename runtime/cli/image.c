/*
 * `penstock image STORE|MODEL OUT`: a disk that boots (images/README.md). The node's program, a
 * unified kernel image that `./build.sh image` has made, lies beside `penstock`; here it gets its
 * command line, with the root of the store's hashes in it, and a signature if one is asked for.
 */
#include "runtime/cli/image.h"

#include "images/efi.h"
#include "runtime/cli/cli.h"
#include "runtime/options.h"
#include "runtime/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NODE_FILE "node.efi"
/* The kernel's part: where it prints, and that nothing of it goes on after a fault. */
#define NODE_CONSOLES  "console=tty0 console=ttyS0,115200"
#define NODE_SCREEN    "console=tty0" /* the first serial line is the way out */
#define NODE_ARGUMENTS "loglevel=5 printk.devkmsg=on panic=10 oops=panic"

extern char **environ;

struct image_command {
	const char *node, *key, *cert, *settings, *arguments, *name, *uart;
	bool update, separate;
	struct image m;
	char store_path[PATH_MAX];
};

/* The node's program beside this one, unless named. */
static int node_path(const struct image_command *c, char path[PATH_MAX], struct err *e)
{
	ssize_t n;

	if (c->node) {
		snprintf(path, PATH_MAX, "%s", c->node);
		return 0;
	}
	n = readlink("/proc/self/exe", path, PATH_MAX - sizeof(NODE_FILE));
	if (n < 0)
		return err_set(e, -errno, "cannot find the folder of this program: %s",
			       strerror(errno));
	path[n] = '\0';
	strcpy(strrchr(path, '/') + 1, NODE_FILE);
	return 0;
}

static int read_file(const char *path, void **data, size_t *bytes, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
	struct stat st;

	if (fd < 0 || fstat(fd, &st)) {
		rc = err_set(e, -errno,
			     "%s: %s. `./build.sh image` makes the node's program; --node names it",
			     path, strerror(errno));
		goto out;
	}
	*bytes = (size_t)st.st_size;
	*data = malloc(*bytes + 1);
	for (size_t at = 0; *data && at < *bytes;) {
		ssize_t n = read(fd, (char *)*data + at, *bytes - at);

		if (n <= 0) {
			rc = err_set(e, n ? -errno : -ENODATA, "%s: cannot read it", path);
			goto out;
		}
		at += (size_t)n;
	}
	if (!*data)
		rc = err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for %s", path);
out:
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Runs a program and waits; its messages are its own. */
static int run(const char *const argv[], struct err *e)
{
	int status, rc;
	pid_t pid;

	/* the strings are not changed: POSIX has this type for history's sake */
	rc = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ);
	if (rc)
		return err_exit(e, STATUS_FAILED, -rc, "cannot start %s: %s", argv[0],
				strerror(rc));
	if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status))
		return err_set(e, -EIO, "%s failed", argv[0]);
	return 0;
}

/* sbsign(1) works on files: two beside the output, which are gone afterwards. */
static int sign(struct image_command *c, struct err *e)
{
	char plain[PATH_MAX + 8], done[PATH_MAX + 8];
	const char *argv[] = {"sbsign",   "--key", c->key, "--cert", c->cert,
			      "--output", done,    plain,  NULL};
	int fd, rc = 0;

	snprintf(plain, sizeof(plain), "%s.efi", c->m.out);
	snprintf(done, sizeof(done), "%s.signed", c->m.out);
	fd = open(plain, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, c->m.efi, c->m.efi_bytes) != (ssize_t)c->m.efi_bytes)
		rc = err_set(e, -errno, "%s: cannot write: %s", plain, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (!rc)
		rc = run(argv, e);
	if (!rc) {
		free(c->m.efi);
		rc = read_file(done, &c->m.efi, &c->m.efi_bytes, e);
	}
	unlink(plain);
	unlink(done);
	return rc;
}

static int make_program(struct image_command *c, struct err *e)
{
	char path[PATH_MAX], line[1024], hex[65];
	int rc = node_path(c, path, e);

	if (!rc)
		rc = read_file(path, &c->m.efi, &c->m.efi_bytes, e);
	if (rc)
		return rc;
	sha256_hex(c->m.root, hex);
	snprintf(line, sizeof(line), "%s %s penstock.root=%s%s%s%s%s",
		 c->uart && !strncmp(c->uart, "ttyS0", 5) ? NODE_SCREEN : NODE_CONSOLES,
		 NODE_ARGUMENTS, hex, c->uart ? " penstock.uart=" : "", c->uart ? c->uart : "",
		 c->arguments ? " " : "", c->arguments ? c->arguments : "");
	rc = efi_set_command_line(c->m.efi, c->m.efi_bytes, line, e);
	if (!rc && c->key)
		rc = sign(c, e);
	c->m.slot_bytes =
		(c->m.efi_bytes + IMAGE_SPARE + IMAGE_ROUND - 1) / IMAGE_ROUND * IMAGE_ROUND;
	return rc;
}

/* "context=4096,parallel=2" over what the store has. */
static int take_settings(struct image_command *c, struct err *e)
{
	char text[1024], *rest = text, *item;
	int rc = settings_set(&c->m.settings, "name", c->name, e);

	if (c->settings && strlen(c->settings) >= sizeof(text))
		return err_exit(e, STATUS_USAGE, -E2BIG, "--set: too long");
	snprintf(text, sizeof(text), "%s", c->settings ? c->settings : "");
	while (!rc && (item = strsep(&rest, ","))) {
		char *value = strchr(item, '=');

		if (!*item)
			continue;
		if (!value)
			return err_exit(e, STATUS_USAGE, -EINVAL, "--set: \"%.60s\" has no \"=\"",
					item);
		*value++ = '\0';
		rc = settings_set(&c->m.settings, item, value, e);
	}
	settings_seal(&c->m.settings);
	return rc;
}

static int read_store(struct image_command *c, struct err *e)
{
	static struct store_files files;
	struct pack p;
	int rc = store_files_open(&files, c->store_path, e);

	if (rc)
		return rc;
	rc = pack_open(&p, &files, e);
	if (!rc && p.geometry.parts > 1 && !c->separate)
		rc = err_exit(e, STATUS_USAGE, -EINVAL,
			      "a striped store lies on several drives: --separate makes an image "
			      "without the model");
	if (!rc) {
		memcpy(c->m.root, p.root, sizeof(p.root));
		c->m.store_bytes = pack_part_bytes(&p.geometry, 0);
	}
	pack_close(&p);
	store_files_close(&files);
	if (rc || c->separate)
		return rc;
	c->m.store = open(c->store_path, O_RDONLY | O_CLOEXEC);
	if (c->m.store < 0 || pread(c->m.store, &c->m.settings, sizeof(c->m.settings),
				    PACK_SETTINGS_OFF) != sizeof(c->m.settings))
		return err_exit(e, STATUS_MODEL, -EIO, "%s: cannot read it: %s", c->store_path,
				strerror(errno));
	if (!settings_ok(&c->m.settings))
		memset(&c->m.settings, 0, sizeof(c->m.settings));
	return take_settings(c, e);
}

/* A checkpoint's directory is packed first, into a file that is gone afterwards. */
static int pack_first(struct image_command *c, char *model, struct err *e)
{
	char command[] = "pack";
	char *argv[] = {command, model, c->store_path, NULL};

	snprintf(c->store_path, sizeof(c->store_path), "%s.store", c->m.out);
	return cmd_pack(3, argv, e);
}

static int make(struct image_command *c, char *model, struct err *e)
{
	struct stat st;
	bool directory = !stat(model, &st) && S_ISDIR(st.st_mode);
	int rc = 0;

	snprintf(c->store_path, sizeof(c->store_path), "%s", model);
	if (directory)
		rc = pack_first(c, model, e);
	if (!rc)
		rc = read_store(c, e);
	if (!rc)
		rc = make_program(c, e);
	if (!rc)
		rc = image_write(&c->m, c->update, e);
	if (directory && !rc)
		unlink(c->store_path);
	if (c->m.store >= 0)
		close(c->m.store);
	free(c->m.efi);
	return rc;
}

/* The last part of a path, without what packed stores are called by. */
static const char *name_of(const char *path, char name[NAME_MAX])
{
	size_t end = strlen(path), begin;

	while (end > 1 && path[end - 1] == '/')
		end--;
	for (begin = end; begin && path[begin - 1] != '/';)
		begin--;
	snprintf(name, NAME_MAX, "%.*s", (int)(end - begin), path + begin);
	return name;
}

int cmd_image(int argc, char **argv, struct err *e)
{
	static struct image_command c = {.m.store = -1};
	struct opt table[] = {
		{"set", OPT_STRING, &c.settings, .value = "KEY=VALUE,...",
		 .help = "settings of the node, kept with the model: context, parallel, memory "
			 "..."},
		{"name", OPT_STRING, &c.name, .value = "NAME",
		 .help = "the model's name to clients (the file's or folder's)"},
		{"key", OPT_STRING, &c.key, .value = "FILE",
		 .help = "sign the program for secure boot with this key (needs sbsign)"},
		{"cert", OPT_STRING, &c.cert, .value = "FILE", .help = "and its certificate"},
		{"separate", OPT_FLAG, &c.separate,
		 .help = "without the model, which lies on drives of its own"},
		{"update", OPT_FLAG, &c.update,
		 .help = "nothing but the program, for `penstock node update`"},
		{"uart", OPT_STRING, &c.uart, .value = "LINE[,SPEED]",
		 .help = "clients come over a serial line, ttyS1 say, at 115200 bits per second or "
			 "another speed: the way out of a machine that is no virtual one"},
		{"arguments", OPT_STRING, &c.arguments, .value = "TEXT",
		 .help = "more of the kernel's command line"},
		{"node", OPT_STRING, &c.node, .value = "FILE",
		 .help = "the program (" NODE_FILE " beside penstock)"},
	};
	struct options o = {.usage = "penstock image MODEL OUT",
			    .about = "Makes a disk that boots: OUT is an image to be written to a "
				     "drive. MODEL is a packed store, or a checkpoint's directory, "
				     "which is packed first.",
			    .table = table,
			    .n = sizeof(table) / sizeof(table[0]),
			    .min_operands = 2,
			    .max_operands = 2};
	char name[NAME_MAX];
	int n = options_parse(&o, argc, argv, e);

	if (n < 0)
		return n;
	if (o.help)
		return options_help(&o, stdout);
	if (!c.key != !c.cert)
		return err_exit(e, STATUS_USAGE, -EINVAL, "--key and --cert go together");
	if (!c.name)
		c.name = name_of(argv[1], name);
	c.m.out = argv[2];
	return make(&c, argv[1], e);
}
