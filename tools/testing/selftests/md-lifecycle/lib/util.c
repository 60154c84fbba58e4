// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lifecycle.h"
#include "task.h"

bool path_exists(const char *fmt, ...)
{
	char path[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	return access(path, F_OK) == 0;
}

int open_and_close(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

int file_read(char *buf, size_t len, const char *fmt, ...)
{
	char path[256];
	va_list ap;
	ssize_t n;
	int fd;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, len - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n < 0)
		return n;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return 0;
}

int file_write(const char *val, const char *fmt, ...)
{
	char path[256];
	int fd, ret = 0;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, val, strlen(val)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

int run(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;
	int status;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	fflush(NULL);
	status = system(cmd);
	if (status < 0)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool have_command(const char *name)
{
	return run("command -v %s >/dev/null", name) == 0;
}

static bool udev_paused;

static pid_t udevd_pid(void)
{
	if (!path_exists("/run/udev/control"))
		return 0;
	return task_named("systemd-udevd") ?: task_named("udevd");
}

static void udev_control(const char *option)
{
	int tries = 5;

	while (run("udevadm control --timeout=5 %s", option) && --tries)
		;
}

void udev_resume(void)
{
	pid_t pid = udevd_pid();

	if (!pid)
		return;
	kill(pid, SIGCONT);
	udev_control("--start-exec-queue");
	udev_paused = false;
}

void udev_settle(void)
{
	pid_t pid = udevd_pid();

	if (udev_paused || !pid)
		return;
	/* A test that was killed may have left it stopped. */
	kill(pid, SIGCONT);
	run("udevadm settle --timeout=%d", DEADLINE_MS / 1000);
}

/* Of a process; 'Z' if there is none any more. */
static char state_of(pid_t pid)
{
	char buf[128], *state;

	if (file_read(buf, sizeof(buf), "/proc/%d/stat", pid))
		return 'Z';
	state = strrchr(buf, ')');
	return state && state[1] ? state[2] : 'Z';
}

void udev_hold_queue(void)
{
	if (!udevd_pid())
		return;
	udev_settle();
	udev_control("--stop-exec-queue");
}

/* Until its workers have done what they are at: they get nothing more. */
static void udev_wait_for_workers(void)
{
	char name[32];
	glob_t comms;
	size_t i;
	pid_t pid;

	if (glob("/proc/[0-9]*/comm", 0, NULL, &comms))
		return;
	for (i = 0; i < comms.gl_pathc; i++) {
		pid = atoi(comms.gl_pathv[i] + strlen("/proc/"));
		if (!file_read(name, sizeof(name), "%s", comms.gl_pathv[i]) &&
		    !strcmp(name, "(udev-worker)") && state_of(pid) != 'Z')
			thread_asleep(pid);
	}
	globfree(&comms);
}

int udev_pause(void)
{
	pid_t pid = udevd_pid();
	uint64_t end;

	if (!pid)
		return 0;
	udev_settle();
	kill(pid, SIGSTOP);
	end = now_ms() + DEADLINE_MS;
	while (!strchr("TZ", state_of(pid))) {
		if (now_ms() > end) {
			udev_resume();
			return -ETIMEDOUT;
		}
		usleep(1000);
	}
	udev_paused = true;
	/* It may have had too much to do, or something has come since. */
	if (path_exists("/run/udev/queue"))
		udev_wait_for_workers();
	return 0;
}

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

/* Objects count as used that wait to be freed, or are in the caches of CPUs. */
static void slab_shrink(void)
{
	glob_t caches;
	size_t i;

	/* Kernels before 6.8 have no such parameter. */
	file_write("1", "/sys/module/rcutree/parameters/do_rcu_barrier");
	if (glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches))
		return;
	for (i = 0; i < caches.gl_pathc; i++)
		file_write("1", "%s", caches.gl_pathv[i]);
	globfree(&caches);
}

long long slab_bytes(const char *cache)
{
	long long objects, size, bytes = -ENOENT;
	char line[256], name[64];
	FILE *f;

	slab_shrink();
	f = fopen("/proc/slabinfo", "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %lld %*d %lld", name, &objects, &size) != 3)
			continue;
		/* What kmemleak keeps of each object is not the object's. */
		if (cache ? strcmp(cache, name) : !strncmp(name, "kmemleak_", 9))
			continue;
		if (bytes < 0)
			bytes = 0;
		bytes += objects * size;
	}
	fclose(f);
	return bytes;
}

bool kernel_has(const char *function)
{
	return run("grep -qw %s /proc/kallsyms", function) == 0;
}

int kmsg_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	lseek(fd, 0, SEEK_END);
	return fd;
}

int kmsg_warn_again(void)
{
	return file_write("1", "/sys/kernel/debug/clear_warn_once");
}

int kmsg_count(int fd, const char *text)
{
	char record[8192];
	int count = 0;
	ssize_t n;

	for (;;) {
		n = read(fd, record, sizeof(record) - 1);
		if (n < 0 && errno == EPIPE)
			continue;	/* overwritten; the next one is read */
		if (n <= 0)
			return n < 0 && errno != EAGAIN ? -errno : count;
		record[n] = '\0';
		if (strstr(record, text))
			count++;
	}
}

int stay_on_cpu(pid_t pid, int cpu, int prio)
{
	struct sched_param param = { .sched_priority = prio };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	/* In this order: there may be no time for others on that CPU. */
	if ((prio && sched_setscheduler(pid, SCHED_FIFO, &param)) ||
	    sched_setaffinity(pid, sizeof(set), &set))
		return -errno;
	return 0;
}
