/*
 * What happens once, in order: programs, files, socket, the first objects and the survey; then,
 * when the index is there, plan, objects, io_urings and servers. Called by main.c and by stage.c.
 */
#include "boot/ask.h"
#include "boot/stage.h"
#include "boot/supervise.h"

#include "boot/cores.h"
#include "boot/memory.h"
#include "ipc/sandbox.h"
#include "ipc/watch.h"
#include "model/text/utf8.h"
#include "runtime/clock.h"
#include "runtime/sha256.h"
#include "runtime/version.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Before the survey ---- */

int start_programs(struct init *in, struct err *e)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 64);
	struct stat st;
	char *slash;

	if (n < 0)
		return err_set(e, -errno, "init: /proc is not mounted: %s", strerror(errno));
	path[n] = '\0';
	slash = strrchr(path, '/') + 1;
	for (unsigned role = ROLE_INIT + 1; role < ROLE_COUNT; role++) {
		const char *name = role == ROLE_CLIENT && in->options.client ? in->options.client
				   : role == ROLE_CUDA && in->options.gpu == GPU_CPU
					   ? "cuda-cpu"
					   : graph_roles[role].program;

		if (role == ROLE_CUDA && in->options.gpu == GPU_OFF)
			continue;
		snprintf(slash, (size_t)(path + sizeof(path) - slash), "%.60s", name);
		in->server[role].program = open(path, O_PATH | O_CLOEXEC);
		if (in->server[role].program < 0 || fstat(in->server[role].program, &st))
			return err_set(e, -errno,
				       "init: cannot open %s: %s. All programs lie in one folder",
				       path, strerror(errno));
		if (in->spawn.confine.users && !(st.st_mode & S_IXOTH))
			return err_set(
				e, -EACCES,
				"init: %s runs as a user of its own, who may not execute it: "
				"chmod 755 %s",
				name, path);
	}
	return 0;
}

/* The soft limits of descriptors and locked memory, as far as they may be raised. */
static void raise_limits(void)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r)) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
	if (!getrlimit(RLIMIT_MEMLOCK, &r)) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_MEMLOCK, &r);
	}
}

/*
 * What init holds with every connection taken, and what a child needs while it moves its
 * descriptors.
 */
static int check_descriptors(const struct init *in, struct err *e)
{
	uint64_t files = in->files.count, own = files + 2 * OBJ_COUNT + CONNS + 64;
	uint64_t child = FD_FILE + 2 * files + 2 * OBJ_COUNT + 64;
	uint64_t need = own > child ? own : child;
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur >= need)
		return 0;
	return err_exit(e, STATUS_MEMORY, -EMFILE,
			"a node of %" PRIu64 " files needs %" PRIu64
			" descriptors, the limit is %" PRIu64
			". Raise it (`ulimit -n`, LimitNOFILE=)",
			files, need, (uint64_t)r.rlim_cur);
}

/* Signals become readable; a SIGHUP that was ignored (nohup) stays so. */
static int take_signals(struct init *in, struct err *e)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN}, hup;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (!sigaction(SIGHUP, NULL, &hup) && hup.sa_handler != SIG_IGN)
		sigaddset(&set, SIGHUP);
	sigaction(SIGPIPE, &ignore, NULL);
	sigprocmask(SIG_BLOCK, &set, NULL);
	in->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	in->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	in->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (in->signals < 0 || in->bell < 0 || in->epoll < 0)
		return err_set(e, -errno, "init: signalfd, eventfd, epoll: %s", strerror(errno));
	return 0;
}

static int watch(struct init *in, int fd, uint64_t tag, struct err *e)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = tag};

	return epoll_ctl(in->epoll, EPOLL_CTL_ADD, fd, &ev)
		       ? err_set(e, -errno, "init: epoll: %s", strerror(errno))
		       : 0;
}

/* Objects whose size the model does not change: the layout of an empty plan has them. */
static int make_first_objects(struct init *in, struct err *e)
{
	static const enum object first[] = {OBJ_NODE, OBJ_BELLS, OBJ_LOG_INIT, OBJ_INDEX};
	const struct plan none = {0};
	int rc = layout_make(&in->layout, &none, e);

	objects_init(&in->objects);
	in->layout.bytes[OBJ_INDEX] = OBJECT_INDEX_BYTES;
	for (unsigned i = 0; !rc && i < sizeof(first) / sizeof(first[0]); i++) {
		rc = object_make(&in->objects, first[i], in->layout.bytes[first[i]], e);
		if (!rc && first[i] != OBJ_INDEX)
			rc = object_map(&in->objects, first[i], true, e);
	}
	if (rc)
		return rc;
	in->node = in->objects.map[OBJ_NODE];
	in->bells = (void *)((char *)in->objects.map[OBJ_BELLS] + sizeof(struct object_header));
	in->log = (void *)((char *)in->objects.map[OBJ_LOG_INIT] + sizeof(struct object_header));
	return 0;
}

/*
 * The model's name to clients: --name, or the folder's, as text (it is printed in JSON, and a
 * folder's name may be any bytes).
 */
static void name_model(struct init *in)
{
	const size_t room = sizeof(in->node->model_name) - 1;
	char real[PATH_MAX];
	char text[3 * (NAME_MAX + 1)];
	const char *name = in->options.name;
	size_t n;

	if (!name) {
		name = realpath(in->options.model, real) ? real : in->options.model;
		name = strrchr(name, '/') && strrchr(name, '/')[1] ? strrchr(name, '/') + 1 : name;
	}
	n = utf8_copy_lossy(text, (const uint8_t *)name, strnlen(name, NAME_MAX));
	n = n < room ? n : room;
	n -= utf8_incomplete_tail((const uint8_t *)text, n);
	memcpy(in->node->model_name, text, n);
	in->node->model_name[n] = 0;
}

/* Files of one file system share a drive's queue: the drive is called by the first of them. */
static uint32_t drive_of(const struct store_files *files, uint32_t file)
{
	struct stat st, other;

	if (fstat(files->file[file].fd, &st))
		return file;
	for (uint32_t i = 0; i < file; i++) {
		if (!fstat(files->file[i].fd, &other) && other.st_dev == st.st_dev)
			return i;
	}
	return file;
}

static int fill_node(struct init *in, struct err *e)
{
	struct node *node = in->node;
	struct timespec now;

	if (getrandom(node->random, sizeof(node->random), 0) != sizeof(node->random))
		return err_set(e, -errno, "init: no random numbers: %s", strerror(errno));
	clock_gettime(CLOCK_REALTIME, &now);
	node->started_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
	name_model(in);
	node->sandbox_lacks = in->sandbox_lacks;
	if (in->sandbox_lacks)
		log_write(in->log, 1, LOG_UNCONFINED,
			  (const uint64_t[5]){in->sandbox_lacks, 0, 0, 0, 0});
	if (in->options.template_name)
		snprintf(node->template_name, sizeof(node->template_name), "%.31s",
			 in->options.template_name);
	snprintf(node->build, sizeof(node->build), "penstock-%s", PENSTOCK_VERSION);
	node->file_count = in->files.count;
	node->file_packed = in->files.packed;
	for (uint32_t i = 0; i < in->files.count; i++) {
		const struct store_file *f = &in->files.file[i];

		node->file[i].bytes = f->bytes;
		node->file[i].direct = f->direct;
		node->file[i].drive = drive_of(&in->files, i);
		memcpy(node->file[i].name, f->name, sizeof(f->name));
	}
	return 0;
}

/*
 * Trace and recorder are scribe's to write; their names are the user's, so init opens them, once
 * nothing else can be in the way.
 */
static int open_output(int *fd, const char *option, const char *path, struct err *e)
{
	if (!path)
		return 0;
	*fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (*fd < 0)
		return err_exit(e, STATUS_USAGE, -errno, "--%s: cannot create %s: %s", option, path,
				strerror(errno));
	return 0;
}

/* A node whose servers could do more than their job is not started unawares. */
static int check_sandbox(struct init *in, struct err *e)
{
	char names[SANDBOX_NAMES];

	in->sandbox_lacks = sandbox_lacks() | confine_find(&in->spawn.confine);
	if (!in->sandbox_lacks || in->options.sandbox)
		return 0;
	sandbox_lack_names(in->sandbox_lacks, names);
	return err_exit(e, STATUS_MEMORY, -ENOSYS,
			"here the servers cannot have %s, so they could do more than their job. "
			"--sandbox=best-effort starts the node without",
			names);
}

/* Without a driver the node says so and runs on the CPU. */
static void find_gpu(struct init *in)
{
	struct err e = {0};

	if (in->options.gpu != GPU_CUDA ||
	    !gpu_find(&in->gpu, in->options.gpu_ordinal, in->options.libcuda, &e))
		return;
	in->options.gpu = GPU_OFF;
	progress_note("%s. The node runs on the CPU", e.text);
}

int start_node(struct init *in, struct err *e)
{
	int rc;

	raise_limits();
	in->exit_status = -1;
	in->listen.fd = in->counters.fd = -1;
	if (sched_getaffinity(0, sizeof(in->cpus), &in->cpus))
		return err_set(e, -errno, "init: cannot read the CPU mask: %s", strerror(errno));
	notify_open(&in->notify);
	in->trace_fd = in->recorder_fd = -1;
	in->spawn.self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (in->spawn.self < 0)
		return err_set(e, -errno, "init: pidfd_open: %s", strerror(errno));
	find_gpu(in);
	rc = check_sandbox(in, e);
	if (!rc)
		rc = start_programs(in, e);
	if (!rc)
		rc = store_files_open(&in->files, in->options.model, e);
	if (!rc)
		rc = check_descriptors(in, e);
	if (!rc && !in->options.client && !in->machine.here)
		rc = listen_open(&in->listen, in->options.socket, e);
	if (!rc && !in->options.client && !in->machine.here)
		rc = listen_beside(&in->counters, &in->listen, WATCH_SUFFIX, e);
	if (!rc)
		rc = open_output(&in->trace_fd, "trace-routes", in->options.trace_routes, e);
	if (!rc)
		rc = open_output(&in->recorder_fd, "recorder", in->options.recorder, e);
	if (!rc)
		rc = take_signals(in, e);
	if (!rc)
		rc = make_first_objects(in, e);
	if (!rc)
		rc = fill_node(in, e);
	if (!rc)
		rc = watch(in, in->signals, TAG_SIGNAL, e);
	if (!rc)
		rc = watch(in, in->bell, TAG_BELL, e);
	if (rc)
		return rc;
	stage_set(in, STAGE_SURVEY);
	supervise_want(in, ROLE_SURVEY);
	return 0;
}

/* ---- After the survey ---- */

/* The survey has been reaped: nobody may ever write the index again. */
static int take_index(struct init *in, struct err *e)
{
	int rc = object_seal(&in->objects, OBJ_INDEX, F_SEAL_WRITE, e);

	if (!rc)
		rc = object_map(&in->objects, OBJ_INDEX, false, e);
	if (rc)
		return rc;
	return index_open(&in->index,
			  (char *)in->objects.map[OBJ_INDEX] + sizeof(struct object_header),
			  OBJECT_INDEX_BYTES - sizeof(struct object_header), e);
}

/* Whoever started us has said what model it must be. */
static int check_root(const struct init *in, struct err *e)
{
	char root[65];

	sha256_hex(in->index->model_hash, root);
	if (!in->options.root || (in->files.packed && !strcmp(root, in->options.root)))
		return 0;
	return err_exit(e, STATUS_VERIFY, -EBADMSG, "%s: its root is %s, and must be %s",
			in->options.model, in->files.packed ? root : "none: it is not packed",
			in->options.root);
}

/* `score` works on ids; clients send text. */
static int need_tokenizer(const struct init *in, struct err *e)
{
	if (in->options.client || in->index->tokenizer.count)
		return 0;
	return err_exit(e, STATUS_MODEL, -EINVAL, "%.239s", in->index->tokenizer_problem);
}

static int make_plan(struct init *in, struct err *e)
{
	const struct index *ix = in->index;
	struct memory_free memory;
	struct plan_input input = plan_input_of(ix, &in->options, cores_count(&in->cpus));
	int rc;

	if (!input.budget) {
		memory_look(&memory, "");
		input.budget = memory_budget(&memory);
	}
	memcpy(in->node->model_hash, ix->model_hash, sizeof(ix->model_hash));
	rc = plan_make(&in->node->plan, &in->table, &input, e);
	if (!rc)
		rc = rings_may_lock(in->table.bytes[PART_SLOTS], e);
	return rc ? rc : layout_make(&in->layout, &in->node->plan, e);
}

/* Makes the other objects, and maps what init looks at. */
static int make_objects(struct init *in, struct err *e)
{
	static const struct {
		enum object object;
		bool writable;
	} maps[] = {{OBJ_CONNS, true},       {OBJ_SLOTS, true},     {OBJ_CLIENT, false},
		    {OBJ_ROUTER, false},     {OBJ_MLA, false},      {OBJ_EXPERTS, false},
		    {OBJ_CUDA, false},       {OBJ_RESIDENT, false}, {OBJ_LOG_CLIENT, false},
		    {OBJ_LOG_ROUTER, false}, {OBJ_LOG_MLA, false},  {OBJ_LOG_EXPERTS, false},
		    {OBJ_RECORDER, true}};
	int rc = objects_make(&in->objects, &in->layout, e);

	for (unsigned i = 0; !rc && i < sizeof(maps) / sizeof(maps[0]); i++)
		rc = object_map(&in->objects, maps[i].object, maps[i].writable, e);
	/* no map but ours can ever be writable: only the drive fills the slots */
	return rc ? rc : object_seal(&in->objects, OBJ_SLOTS, F_SEAL_FUTURE_WRITE, e);
}

static int make_rings(struct init *in, struct err *e)
{
	int fd[STORE_FILES_MAX], rc;

	for (uint32_t i = 0; i < in->files.count; i++)
		fd[i] = in->files.file[i].fd;
	rc = rings_start(&in->rings, &in->node->plan, in->objects.map[OBJ_SLOTS], fd,
			 in->files.count, &in->node->slot_pieces, e);
	return rc ? rc : watch(in, in->rings.ready, TAG_RINGS, e);
}

/*
 * init and gateway share the last CPU: a token reaches its client in 15 us instead of 50
 * (kernel-facts 2).
 */
static void share_cpu(struct init *in)
{
	in->client_cpu = in->cpus;
	for (unsigned cpu = CPU_SETSIZE; cpu-- > 0;) {
		if (!CPU_ISSET(cpu, &in->cpus))
			continue;
		CPU_ZERO(&in->client_cpu);
		CPU_SET(cpu, &in->client_cpu);
		break;
	}
	sched_setaffinity(0, sizeof(in->client_cpu), &in->client_cpu);
}

static int start_pump(struct init *in, struct err *e)
{
	pump_init(&in->pump, &in->layout, in->objects.map[OBJ_CONNS], in->objects.map[OBJ_CLIENT],
		  &in->bells->bell[ROLE_CLIENT][0], in->log, in->epoll);
	in->pump.rings_fd = in->objects.own[OBJ_CONNS];
	in->pump.listener_tag = TAG_LISTEN;
	in->pump.conn_tag = TAG_CONN;
	if (in->options.client)
		return 0;
	if (in->machine.here) {
		machine_watch(&in->machine, &in->pump, in->epoll, TAG_BUTTON, TAG_PORT, ask_take,
			      in);
		return in->machine.vsock < 0 ? 0 : pump_listen(&in->pump, in->machine.vsock, e);
	}
	if (in->counters.fd >= 0 && watch(in, in->counters.fd, TAG_COUNTERS, e))
		return e->code;
	return pump_listen(&in->pump, in->listen.fd, e);
}

static void describe(const struct init *in)
{
	const struct plan *p = &in->node->plan;
	char drive[64] = "";

	if (in->files.count)
		progress_drive(drive, in->files.file[in->files.count - 1].fd);
	progress_model(in->index, p, &in->table, in->node->model_name, drive,
		       in->options.client   ? "no socket"
		       : in->machine.here   ? "a port to the host"
		       : in->listen.path[0] ? in->listen.path
					    : "passed socket");
	progress_plan(p, &in->table);
}

/* Shards that are read through the page cache: slower, and not what --memory counts. */
static void log_buffered(struct init *in)
{
	static const char suffix[] = ".safetensors";

	for (uint32_t i = 0; i < in->files.count; i++) {
		const struct store_file *f = &in->files.file[i];
		size_t len = strlen(f->name), tail = sizeof(suffix) - 1;

		if (!f->direct && len >= tail && !strcmp(f->name + len - tail, suffix))
			log_write(in->log, 1, LOG_NOT_DIRECT, (const uint64_t[5]){i, 0, 0, 0, 0});
	}
}

int start_servers(struct init *in, struct err *e)
{
	static const enum role roles[] = {ROLE_SCRIBE, ROLE_LOADER, ROLE_CLIENT,
					  ROLE_ROUTER, ROLE_MLA,    ROLE_EXPERTS};
	int rc = take_index(in, e);

	if (!rc)
		rc = check_root(in, e);
	if (!rc)
		rc = need_tokenizer(in, e);
	if (!rc)
		rc = make_plan(in, e);
	if (!rc)
		rc = make_objects(in, e);
	if (!rc)
		rc = make_rings(in, e);
	if (!rc)
		rc = start_pump(in, e);
	if (rc)
		return rc;
	describe(in);
	share_cpu(in);
	log_buffered(in);
	stage_set(in, STAGE_LOADING);
	for (unsigned i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		supervise_want(in, roles[i]);
	if (in->node->plan.gpu != GPU_OFF)
		supervise_want(in, ROLE_CUDA);
	return 0;
}
