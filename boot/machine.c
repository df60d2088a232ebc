/* PID 1; see machine.h. */
#include "boot/machine.h"

#include "boot/find.h"
#include "boot/modules.h"
#include "boot/text.h"
#include "boot/uart.h"
#include "runtime/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/input.h>
#include <linux/seccomp.h>
#include <linux/vm_sockets.h>
#include <linux/watchdog.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	MODEL_WAIT_S = 60, /* drives that are slow to come */
	PORT_WAIT_S = 30,
	LOOK_MS = 20,
	WATCHDOG_S = 60,
	WATCHDOG_LOOK_S = 5, /* its driver is loaded last */
	READ_S = 10,         /* what a person has to read the last message */
	BACKLOG = 512,
	LINE_MAX = 4096
};

/* The system's own call: C libraries differ in the type of the request. */
static long control(int fd, unsigned long request, void *data)
{
	return syscall(SYS_ioctl, fd, request, data);
}

bool machine_is(void)
{
	return getpid() == 1;
}

/* ---- The start ---- */

/* Shared memory may have huge pages where its owner asks for them: slots and weights do. */
static void allow_huge_pages(void)
{
	int fd = open("/sys/kernel/mm/transparent_hugepage/shmem_enabled", O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : write(fd, "advise", 6);

	(void)n; /* a kernel without them */
	if (fd >= 0)
		close(fd);
}

/* Nothing of the image can be changed from here on: what is mounted below it still can. */
static void close_root(void)
{
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL))
		fprintf(stderr, "penstock: warning: the image cannot be made read-only: %s\n",
			strerror(errno));
}

static int mount_all(struct err *e)
{
	static const struct {
		const char *type, *at;
		unsigned long flags;
	} mounts[] = {{"devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC},
		      {"proc", "/proc", MS_NOSUID | MS_NOEXEC | MS_NODEV},
		      {"sysfs", "/sys", MS_NOSUID | MS_NOEXEC | MS_NODEV}};

	for (unsigned i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].at, 0755);
		if (mount(mounts[i].type, mounts[i].at, mounts[i].type, mounts[i].flags, NULL) &&
		    errno != EBUSY)
			return err_set(e, -errno, "init: cannot mount %s: %s", mounts[i].at,
				       strerror(errno));
	}
	return 0;
}

/*
 * Messages go to the kernel's log, which shows them on every console, screen and serial line, with
 * the time since the start. A console alone would be one of them.
 */
static void open_console(void)
{
	static char line[1024];
	int in = open("/dev/null", O_RDWR), out = open("/dev/kmsg", O_WRONLY);

	if (out < 0)
		out = open("/dev/console", O_WRONLY | O_NOCTTY);
	dup2(in, 0);
	dup2(in, 1);
	dup2(out, 2);
	if (in > 2)
		close(in);
	if (out > 2)
		close(out);
	setvbuf(stderr, line, _IOLBF, sizeof(line)); /* a write is a line there */
}

/*
 * No process of this machine can open a socket but Unix ones: the filter is inherited, and nothing
 * takes it away.
 */
static int forbid_networks(struct err *e)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog f = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &f)
		       ? err_set(e, -errno, "init: seccomp: %s", strerror(errno))
		       : 0;
}

/* A machine's own sockets to its host; while sockets can still be opened. */
static int listen_vsock(void)
{
	const struct sockaddr_vm a = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = FRAME_VSOCK_PORT};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && !bind(fd, (const struct sockaddr *)&a, sizeof(a)) && !listen(fd, BACKLOG))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* penstock.root=HEX of the kernel's command line, which the image's signature covers. */
static int read_root(struct machine *m, uint8_t root[PACK_HASH], struct err *e)
{
	static const char key[] = "penstock.root=";
	char line[LINE_MAX];
	const char *at;

	text_read("/proc/cmdline", line, sizeof(line));
	at = strstr(line, key);
	if (!at || strspn(at + sizeof(key) - 1, "0123456789abcdef") != 2 * PACK_HASH)
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"the kernel's command line has no penstock.root=: this is not an "
				"image that `penstock image` has made");
	snprintf(m->root, sizeof(m->root), "%.64s", at + sizeof(key) - 1);
	for (unsigned i = 0; i < PACK_HASH; i++) {
		char digits[3] = {m->root[2 * i], m->root[2 * i + 1], 0};

		root[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return 0;
}

/* What was found instead. */
static int no_model(const struct machine *m, const struct find *f, struct err *e)
{
	char other[100] = "", empty[160] = "";

	if (f->others)
		snprintf(other, sizeof(other), "; there is one of root %.16s...", f->other);
	if (f->empty[0])
		snprintf(empty, sizeof(empty),
			 "; the partition %s begins with no header of one: damaged, or never "
			 "written",
			 f->empty);
	return err_exit(e, STATUS_MODEL, -ENOENT,
			"no drive has the model that this image is for, root %.16s...%s%s", m->root,
			other, empty);
}

static int wait_for_model(struct machine *m, struct err *e)
{
	struct find f = {.names = m->model, .room = sizeof(m->model)};
	uint64_t now = clock_now_ns(), more = now + NS_PER_S, until = now + MODEL_WAIT_S * NS_PER_S;
	int rc = read_root(m, f.root, e);

	if (rc)
		return rc;
	while (!find_model(&f)) {
		if (clock_now_ns() < until) {
			if (clock_now_ns() > more)
				modules_load(MODULES_REST); /* other drives */
			usleep(LOOK_MS * 1000);
			continue;
		}
		if (f.have)
			return err_exit(e, STATUS_MODEL, -ENOENT,
					"of the model's %u parts %u are here: %s", f.parts, f.have,
					m->model);
		return no_model(m, &f, e);
	}
	m->settings = f.settings;
	return 0;
}

/* The node's command line: what the image is for, then the settings. */
static void make_arguments(struct machine *m)
{
	static char name[] = "init", root_option[] = "--root";
	unsigned n = 0;

	m->argv[n++] = name;
	m->argv[n++] = m->model;
	m->argv[n++] = root_option;
	m->argv[n++] = m->root;
	if (settings_ok(&m->settings))
		n += settings_arguments(&m->settings, m->argv + n, m->text, sizeof(m->text));
	else
		fprintf(stderr, "penstock: the settings on the model's partition are damaged and "
				"left out; `penstock settings` writes new ones\n");
	m->argc = (int)n;
}

int machine_start(struct machine *m, struct err *e)
{
	int rc;

	m->here = true;
	m->proof = m->update.fd = m->watchdog = -1;
	m->at[AT_INIT] = clock_now_ns();
	rc = mount_all(e);
	if (rc)
		return rc;
	open_console();
	close_root();
	allow_huge_pages();
	reboot(RB_DISABLE_CAD); /* Ctrl-Alt-Del is a signal, and a clean end */
	modules_load(MODULES_FIRST);
	m->at[AT_MODULES] = clock_now_ns();
	m->vsock = listen_vsock();
	rc = forbid_networks(e);
	if (!rc)
		rc = wait_for_model(m, e);
	m->at[AT_MODEL] = clock_now_ns();
	if (!rc)
		make_arguments(m);
	return rc;
}

/* ---- Power button ---- */

static bool has_power_key(int fd)
{
	unsigned char keys[KEY_MAX / 8 + 1] = {0};

	return control(fd, EVIOCGBIT(EV_KEY, sizeof(keys)), keys) >= 0 &&
	       keys[KEY_POWER / 8] >> (KEY_POWER % 8) & 1;
}

static void open_buttons(struct machine *m, int epoll, uint64_t tag)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = tag};
	unsigned n = 0;

	for (unsigned i = 0; i < 32 && n < MACHINE_BUTTONS; i++) {
		char path[64];
		int fd;

		snprintf(path, sizeof(path), "/dev/input/event%u", i);
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			continue;
		if (!has_power_key(fd) || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev)) {
			close(fd);
			continue;
		}
		m->button[n++] = fd;
	}
	while (n < MACHINE_BUTTONS)
		m->button[n++] = -1;
}

bool machine_pressed(struct machine *m)
{
	struct input_event ev;
	bool pressed = false;

	for (unsigned i = 0; i < MACHINE_BUTTONS && m->button[i] >= 0; i++)
		while (read(m->button[i], &ev, sizeof(ev)) == sizeof(ev))
			pressed |= ev.type == EV_KEY && ev.code == KEY_POWER && ev.value == 1;
	return pressed;
}

/* ---- Watchdog and sensors ---- */

static void *load_rest(void *context)
{
	(void)context;
	find_mend_tables();
	modules_load(MODULES_REST);
	return NULL;
}

void machine_complete(struct machine *m)
{
	pthread_t thread;

	/* drivers look for their devices as long as they like */
	if (!pthread_create(&thread, NULL, load_rest, NULL))
		pthread_detach(thread);
	m->watchdog_look_ns = clock_now_ns() + WATCHDOG_LOOK_S * NS_PER_S;
}

/* The machine restarts when nothing is heard of us any more. */
static void open_watchdog(struct machine *m)
{
	int seconds = WATCHDOG_S;

	m->watchdog = open("/dev/watchdog", O_WRONLY | O_CLOEXEC);
	if (m->watchdog < 0 && !modules_load_file("softdog.ko"))
		m->watchdog = open("/dev/watchdog", O_WRONLY | O_CLOEXEC);
	if (m->watchdog >= 0)
		control(m->watchdog, WDIOC_SETTIMEOUT, &seconds);
	m->watchdog_ns = 0;
}

static int watchdog_tick(struct machine *m)
{
	uint64_t now = clock_now_ns();

	if (m->watchdog_look_ns && now >= m->watchdog_look_ns) {
		m->watchdog_look_ns = 0;
		open_watchdog(m);
	}
	if (m->watchdog < 0)
		return m->watchdog_look_ns ? (int)((m->watchdog_look_ns - now) / NS_PER_MS) + 1
					   : -1;
	if (now >= m->watchdog_ns) {
		control(m->watchdog, WDIOC_KEEPALIVE, NULL);
		m->watchdog_ns = now + WATCHDOG_S / 4 * NS_PER_S;
	}
	return (int)((m->watchdog_ns - now) / NS_PER_MS) + 1;
}

int machine_degrees(void)
{
	int hottest = 0;

	for (unsigned chip = 0; chip < 16; chip++) {
		char path[80], text[16];

		snprintf(path, sizeof(path), "/sys/class/hwmon/hwmon%u/temp1_input", chip);
		if (text_read(path, text, sizeof(text)) && atoi(text) / 1000 > hottest)
			hottest = atoi(text) / 1000;
	}
	return hottest;
}

/* ---- The port to the host ---- */

/* The device of the port of our name, or -1. */
static int open_port(void)
{
	static const char folder[] = "/sys/class/virtio-ports";
	DIR *dir = opendir(folder);
	struct dirent *d;
	int fd = -1;

	while (dir && fd < 0 && (d = readdir(dir))) {
		char path[400], name[64];

		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s/name", folder, d->d_name);
		if (text_read(path, name, sizeof(name)) && !strcmp(name, FRAME_PORT "\n")) {
			snprintf(path, sizeof(path), "/dev/%s", d->d_name);
			fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		}
	}
	if (dir)
		closedir(dir);
	return fd;
}

static void take_port(struct machine *m, int fd, int epoll, uint64_t tag)
{
	/* edges: a port without a host would be ready for ever */
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u64 = tag};

	m->port.fd = fd;
	if (fd >= 0)
		epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev);
}

/* The serial line, where the command line names one; else a port is looked for. */
static void begin_port(struct machine *m, int epoll, uint64_t tag)
{
	char line[LINE_MAX];
	struct err e = {0};

	text_read("/proc/cmdline", line, sizeof(line));
	take_port(m, uart_open(line, &e), epoll, tag);
	m->port.lossy = m->port.fd >= 0;
	if (!m->port.lossy)
		m->port_look_ns = clock_now_ns() + PORT_WAIT_S * NS_PER_S;
	if (e.code)
		fprintf(stderr, "penstock: warning: %s\n", e.text);
}

int machine_tick(struct machine *m, int epoll, uint64_t port_tag)
{
	int ms = watchdog_tick(m);

	if (m->port.fd < 0 && m->port_look_ns) {
		take_port(m, open_port(), epoll, port_tag);
		if (m->port.fd >= 0 || clock_now_ns() > m->port_look_ns)
			m->port_look_ns = 0;
	}
	port_tick(&m->port);
	return m->port_look_ns || port_timed(&m->port) ? LOOK_MS : ms;
}

void machine_watch(struct machine *m, struct pump *pump, int epoll, uint64_t button_tag,
		   uint64_t port_tag, port_ask *ask, void *context)
{
	open_buttons(m, epoll, button_tag);
	port_init(&m->port, pump, -1, ask, context);
	begin_port(m, epoll, port_tag);
	machine_tick(m, epoll, port_tag);
}

/* ---- The end ---- */

_Noreturn void machine_end(int status)
{
	bool off = status == STATUS_OK;

	if (!off && status != STATUS_CTRL_C) {
		fprintf(stderr, "penstock: status %d; the machine restarts in %d s\n", status,
			READ_S);
		sleep(READ_S);
	}
	fprintf(stderr, "penstock: %s\n", off ? "off" : "restart");
	kill(-1, SIGKILL);
	sync();
	reboot(off ? RB_POWER_OFF : RB_AUTOBOOT);
	for (;;)
		pause();
}
