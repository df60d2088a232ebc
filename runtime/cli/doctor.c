/*
 * `penstock doctor [MODEL]`: would this machine do? Looks at what a node needs and says of each
 * thing whether it is there, and what it means where it is not. Exit status 0: a node runs here;
 * 4: it does not. Nothing is changed and no weight is read.
 */
#include "boot/confine.h"
#include "boot/cores.h"
#include "boot/memory.h"
#include "boot/plan.h"
#include "drivers/cpu/kernels.h"
#include "ipc/sandbox.h"
#include "runtime/cli/cli.h"
#include "runtime/cli/model.h"
#include "runtime/options.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <liburing.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <yyjson.h>

enum verdict {
	GOOD,
	POOR, /* it runs, slower or less confined */
	BAD   /* it does not */
};

enum {
	FINDINGS_MAX = 64
};

struct doctor {
	struct {
		enum verdict verdict;
		char what[24], text[200];
	} finding[FINDINGS_MAX];
	unsigned n;
	enum verdict worst;
};

static void say(struct doctor *d, enum verdict v, const char *what, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void say(struct doctor *d, enum verdict v, const char *what, const char *format, ...)
{
	va_list args;

	if (d->n == FINDINGS_MAX)
		return;
	d->worst = v > d->worst ? v : d->worst;
	d->finding[d->n].verdict = v;
	snprintf(d->finding[d->n].what, sizeof(d->finding[0].what), "%s", what);
	va_start(args, format);
	vsnprintf(d->finding[d->n].text, sizeof(d->finding[0].text), format, args);
	va_end(args);
	d->n++;
}

/* The first line of folder/name/file; "" if there is none. */
static const char *line_of(char out[128], const char *folder, const char *name, const char *file)
{
	char path[400];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s/%s", folder, name, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, out, 127);
	if (fd >= 0)
		close(fd);
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	for (size_t len = strlen(out); len && out[len - 1] == ' '; len--)
		out[len - 1] = '\0';
	return out;
}

/* ---- Processor and memory ---- */

static void processor(struct doctor *d)
{
	enum cpu_isa best = cpu_isa_best();
	cpu_set_t cpus;
	unsigned cores = 0;

	if (!sched_getaffinity(0, sizeof(cpus), &cpus))
		cores = cores_count(&cpus);
	say(d, best == CPU_SCALAR ? POOR : GOOD, "processor", "%u cores, %s%s", cores,
	    cpu_isa_name(best),
	    best == CPU_SCALAR
		    ? ": a node runs, at a fraction of the speed; x86-64-v3 (AVX2, FMA) is "
		      "what it is made for"
		    : "");
}

static void memory(struct doctor *d)
{
	struct memory_free m;
	char total[32], free_[32], huge[128];

	memory_look(&m, "");
	say(d, memory_budget(&m) < 512u << 20 ? POOR : GOOD, "memory", "%s, a node may have %s",
	    cli_bytes(total, m.total), cli_bytes(free_, memory_budget(&m)));
	line_of(huge, "/sys/kernel/mm", "transparent_hugepage", "shmem_enabled");
	say(d, !*huge || strstr(huge, "[never]") || strstr(huge, "[deny]") ? POOR : GOOD,
	    "huge pages", "%s", *huge ? huge : "the kernel has none");
}

static void limits(struct doctor *d)
{
	struct rlimit locked, files;

	if (getrlimit(RLIMIT_MEMLOCK, &locked) || getrlimit(RLIMIT_NOFILE, &files))
		return;
	if (geteuid() == 0 || locked.rlim_max == RLIM_INFINITY)
		say(d, GOOD, "locked memory", "no limit");
	else
		say(d, POOR, "locked memory",
		    "%" PRIu64 " MiB: slots beyond it need LimitMEMLOCK=infinity, or `ulimit -l`",
		    (uint64_t)locked.rlim_max >> 20);
	say(d, files.rlim_max < 2048 ? POOR : GOOD, "descriptors", "%" PRIu64,
	    (uint64_t)files.rlim_max);
}

/* ---- Kernel ---- */

static void uring(struct doctor *d)
{
	struct io_uring ring;
	int rc = io_uring_queue_init(8, &ring, IORING_SETUP_R_DISABLED);

	if (!rc)
		io_uring_queue_exit(&ring);
	if (rc == -EPERM)
		say(d, BAD, "io_uring",
		    "forbidden here: kernel.io_uring_disabled, or a container's seccomp profile");
	else if (rc)
		say(d, BAD, "io_uring", "%s", strerror(-rc));
	else
		say(d, GOOD, "io_uring", "there");
}

static void kernel(struct doctor *d)
{
	struct utsname u;
	unsigned major = 0, minor = 0, lacks = sandbox_lacks();
	char names[SANDBOX_NAMES];
	struct confine c;

	if (!uname(&u))
		sscanf(u.release, "%u.%u", &major, &minor);
	say(d, major < 5 || (major == 5 && minor < 19) ? BAD : GOOD, "kernel", "%s%s", u.release,
	    major < 6 ? "; 6.1 and later are tested" : "");
	uring(d);
	lacks |= confine_find(&c);
	sandbox_lack_names(lacks, names);
	say(d, lacks ? POOR : GOOD, "confinement", "%s%.100s", lacks ? "lacks " : "complete",
	    lacks ? names : "");
}

/* ---- Drives ---- */

/* What a PCIe link carries, GB/s: "16.0 GT/s PCIe" and "4". */
static double link_rate(const char *speed, const char *width)
{
	return atof(speed) / 8 * atof(width) * 0.85;
}

static void drives(struct doctor *d)
{
	DIR *dir = opendir("/sys/block");
	struct dirent *e;
	unsigned found = 0;

	while (dir && (e = readdir(dir))) {
		char model[128], speed[128], width[128], size[128], bytes[32];
		bool nvme = !strncmp(e->d_name, "nvme", 4);

		if (e->d_name[0] == '.' || !strncmp(e->d_name, "loop", 4) ||
		    !strncmp(e->d_name, "ram", 3))
			continue;
		line_of(size, "/sys/block", e->d_name, "size");
		if (!atoll(size))
			continue;
		line_of(model, "/sys/block", e->d_name, "device/model");
		line_of(speed, "/sys/block", e->d_name, "device/device/current_link_speed");
		line_of(width, "/sys/block", e->d_name, "device/device/current_link_width");
		cli_bytes(bytes, strtoull(size, NULL, 10) * 512);
		found++;
		if (nvme && *speed)
			say(d, link_rate(speed, width) < 3 ? POOR : GOOD, "drive",
			    "%.32s: %.60s, %s, link of %.1f GB/s", e->d_name, model, bytes,
			    link_rate(speed, width));
		else
			say(d, nvme ? GOOD : POOR, "drive", "%.32s: %.60s%s%s%s", e->d_name, model,
			    *model ? ", " : "", bytes,
			    nvme ? "" : "; no NVMe: experts come slowly");
	}
	if (dir)
		closedir(dir);
	if (!found)
		say(d, POOR, "drive", "none is visible here");
}

/* ---- Booting the image ---- */

static void firmware(struct doctor *d)
{
	char path[] = "/sys/firmware/efi/efivars/"
		      "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
	unsigned char value[5] = {0};
	int fd;

	if (access("/sys/firmware/efi", F_OK)) {
		say(d, POOR, "firmware",
		    "no UEFI: a node runs as a program; this machine cannot boot an image");
		return;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, value, sizeof(value)) < 0)
			value[4] = 0;
		close(fd);
	}
	say(d, GOOD, "firmware", "UEFI%s",
	    value[4] ? "; secure boot is on: sign images with a key of your own" : "");
}

/* ---- A model ---- */

static int model(struct doctor *d, const char *path, struct err *e)
{
	const struct boot_options options = {.parallel = PLACES_DEFAULT, .mtp = MTP_DEFAULT};
	struct memory_free have;
	struct plan_input in;
	struct plan_table t;
	struct cli_model m;
	struct plan least;
	cpu_set_t cpus;
	char need[32];
	int rc = cli_model_open(&m, path, e);

	if (rc)
		return rc;
	CPU_ZERO(&cpus);
	rc = sched_getaffinity(0, sizeof(cpus), &cpus);
	in = plan_input_of(m.ix, &options, rc ? 1 : cores_count(&cpus));
	rc = plan_least(&least, &t, &in, e);
	memory_look(&have, "");
	if (!rc)
		say(d, plan_mib(&t) << 20 > memory_budget(&have) ? BAD : GOOD, "model",
		    "needs %s at least; each byte more keeps experts in memory",
		    cli_bytes(need, plan_mib(&t) << 20));
	cli_model_close(&m);
	return rc;
}

/* ---- Report ---- */

static const char *const words[] = {[GOOD] = "good", [POOR] = "poor", [BAD] = "bad"};

static int print_json(const struct doctor *d)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_arr(doc);
	char *text;

	yyjson_mut_doc_set_root(doc, root);
	for (unsigned i = 0; i < d->n; i++) {
		yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, root);

		yyjson_mut_obj_add_str(doc, o, "what", d->finding[i].what);
		yyjson_mut_obj_add_str(doc, o, "verdict", words[d->finding[i].verdict]);
		yyjson_mut_obj_add_str(doc, o, "text", d->finding[i].text);
	}
	text = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY, NULL);
	if (text)
		puts(text);
	free(text);
	yyjson_mut_doc_free(doc);
	return text ? 0 : -ENOMEM;
}

int cmd_doctor(int argc, char **argv, struct err *e)
{
	static struct doctor d;
	bool json = false;
	struct opt table[] = {{"json", OPT_FLAG, &json, .help = "print JSON"}};
	struct options o = {.usage = "penstock doctor [MODEL]",
			    .about = "Whether this machine would do for a node, and for MODEL.",
			    .table = table,
			    .n = 1,
			    .max_operands = 1};
	int n = options_parse(&o, argc, argv, e), rc;

	if (n < 0)
		return n;
	if (o.help)
		return options_help(&o, stdout);
	processor(&d);
	memory(&d);
	limits(&d);
	kernel(&d);
	drives(&d);
	firmware(&d);
	rc = n ? model(&d, argv[1], e) : 0;
	if (rc)
		return rc;
	if (json) {
		rc = print_json(&d);
		if (rc)
			return err_exit(e, STATUS_MEMORY, rc, "no memory for the report");
		return d.worst == BAD ? STATUS_MEMORY : STATUS_OK;
	}
	for (unsigned i = 0; i < d.n; i++)
		printf("%-4s  %-13s  %s\n", words[d.finding[i].verdict], d.finding[i].what,
		       d.finding[i].text);
	printf("%s\n", d.worst == BAD    ? "A node does not run here."
		       : d.worst == POOR ? "A node runs here; what is poor makes it slower or less "
					   "confined."
					 : "A node runs here.");
	return d.worst == BAD ? STATUS_MEMORY : STATUS_OK;
}
