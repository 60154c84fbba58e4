// SPDX-License-Identifier: GPL-2.0
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lifecycle.h"
#include "task.h"

/* How long a task has to sleep in one place to be called waiting. */
#define STILL_MS	200

const char *task_missing(void)
{
	return path_exists("/proc/self/stack") ? NULL : "no /proc/PID/stack";
}

static void close_from(unsigned int first, unsigned int last)
{
	if (first <= last)
		syscall(__NR_close_range, first, last, 0);
}

int task_start(struct task *task, const char *what,
	       long (*fn)(struct task *task, void *arg), void *arg, int keep)
{
	int ret;

	task->what = what;
	task->shared = mmap(NULL, sizeof(*task->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (task->shared == MAP_FAILED) {
		task->shared = NULL;
		return -errno;
	}
	fflush(NULL);
	task->pid = fork();
	if (task->pid < 0) {
		ret = -errno;
		munmap(task->shared, sizeof(*task->shared));
		task->shared = NULL;
		task->pid = 0;
		return ret;
	}
	if (!task->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (keep < 3) {
			close_from(3, ~0U);
		} else {
			close_from(3, keep - 1);
			close_from(keep + 1, ~0U);
		}
		task->shared->ret = fn(task, arg);
		__atomic_store_n(&task->shared->done, 1, __ATOMIC_RELEASE);
		for (;;)
			pause();
	}
	return 0;
}

bool task_done(const struct task *task)
{
	return __atomic_load_n(&task->shared->done, __ATOMIC_ACQUIRE);
}

/* Its switches of context so far; -1 while it runs or wants to. */
static long long sleeping_since(pid_t pid)
{
	long long switches = 0, n;
	char path[64], line[256], state = 'R';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "State:\t", 7))
			state = line[7];
		if (sscanf(line, "voluntary_ctxt_switches: %lld", &n) == 1 ||
		    sscanf(line, "nonvoluntary_ctxt_switches: %lld", &n) == 1)
			switches += n;
	}
	fclose(f);
	return state == 'D' || state == 'S' ? switches : -1;
}

static FILE *stack_open(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/stack", pid);
	return fopen(path, "re");
}

static bool stack_has(pid_t pid, const char *function)
{
	size_t len = strlen(function);
	bool found = false;
	char line[256], *at;
	FILE *f;

	f = stack_open(pid);
	if (!f)
		return false;
	/* Lines are "[<0>] function+0x1/0x2", or "function.part.0+...". */
	while (!found && fgets(line, sizeof(line), f)) {
		at = strchr(line, ' ');
		if (!at)
			continue;
		at += 1 + strspn(at + 1, "_");
		found = !strncmp(at, function, len) &&
			(at[len] == '+' || at[len] == '.');
	}
	fclose(f);
	return found;
}

static int wait_asleep(pid_t pid, const struct task *task, const char *function)
{
	uint64_t end = now_ms() + DEADLINE_MS, since = now_ms();
	long long last = -1, now;

	for (;;) {
		if (task && task_done(task))
			return -EALREADY;
		now = sleeping_since(pid);
		if (now < 0 || now != last)
			since = now_ms();
		else if (now_ms() - since >= STILL_MS &&
			 (!function || (stack_has(pid, function) &&
					sleeping_since(pid) == now)))
			return 0;
		last = now;
		if (now_ms() > end)
			return -ETIMEDOUT;
		usleep(10000);
	}
}

long task_read(struct task *task, void *arg)
{
	void *direct;

	if (posix_memalign(&direct, 4096, 4096))
		return -ENOMEM;
	return pread(*(int *)arg, direct, 4096, 0) < 0 ? -errno : 0;
}

long task_write_node(struct task *task, void *arg)
{
	int fd = open(arg, O_RDWR | O_DIRECT | O_CLOEXEC);
	void *direct;

	if (fd < 0)
		return -errno;
	if (posix_memalign(&direct, 4096, 4096))
		return -ENOMEM;
	return pwrite(fd, direct, 4096, 0) < 0 ? -errno : 0;
}

int task_blocked(struct task *task)
{
	return task_blocked_in(task, NULL);
}

int task_blocked_in(struct task *task, const char *function)
{
	int ret = wait_asleep(task->pid, task, function);

	if (ret == -EALREADY)
		printf("# %s has ended: %ld\n", task->what, task->shared->ret);
	else if (ret)
		task_report(task);
	fflush(stdout);
	return ret;
}

int thread_asleep(pid_t pid)
{
	return wait_asleep(pid, NULL, NULL);
}

bool task_is_in(const struct task *task, const char *function)
{
	return stack_has(task->pid, function);
}

void task_report(const struct task *task)
{
	char line[256];
	FILE *f;

	if (file_read(line, sizeof(line), "/proc/%d/wchan", task->pid))
		snprintf(line, sizeof(line), "?");
	printf("# %s (pid %d) is in %s:\n", task->what, task->pid, line);
	f = stack_open(task->pid);
	if (!f)
		return;
	while (fgets(line, sizeof(line), f))
		printf("#   %s", line);
	fclose(f);
	fflush(stdout);
}

long task_result(struct task *task)
{
	uint64_t end = now_ms() + DEADLINE_MS;

	while (!task_done(task)) {
		if (now_ms() > end) {
			task_report(task);
			return -ETIMEDOUT;
		}
		usleep(1000);
	}
	return task->shared->ret;
}

static int task_reap(struct task *task)
{
	uint64_t end = now_ms() + DEADLINE_MS;

	kill(task->pid, SIGKILL);
	while (waitpid(task->pid, NULL, WNOHANG) == 0) {
		if (now_ms() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	task->pid = 0;
	return 0;
}

int task_kill(struct task *task)
{
	int ret = task_reap(task);

	if (ret)
		task_report(task);
	return ret;
}

void task_end(struct task *task)
{
	if (!task->shared)
		return;
	if (task->pid > 0 && task_reap(task))
		fprintf(stderr, "# %s (pid %d) cannot be killed\n", task->what,
			task->pid);
	munmap(task->shared, sizeof(*task->shared));
	task->shared = NULL;
	task->pid = 0;
}

pid_t task_find(const char *function)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	struct dirent *d;
	pid_t found;
	DIR *dir;

	do {
		found = 0;
		dir = opendir("/proc");
		while (dir && !found && (d = readdir(dir)))
			if (isdigit(d->d_name[0]) &&
			    stack_has(atoi(d->d_name), function))
				found = atoi(d->d_name);
		if (dir)
			closedir(dir);
	} while (!found && now_ms() < end);
	return found;
}

pid_t task_named(const char *fmt, ...)
{
	char name[32], want[32];
	struct dirent *d;
	pid_t found = 0;
	va_list ap;
	DIR *dir;

	va_start(ap, fmt);
	vsnprintf(want, sizeof(want), fmt, ap);
	va_end(ap);
	dir = opendir("/proc");
	while (dir && !found && (d = readdir(dir)))
		if (isdigit(d->d_name[0]) &&
		    !file_read(name, sizeof(name), "/proc/%s/comm", d->d_name) &&
		    !strcmp(name, want))
			found = atoi(d->d_name);
	if (dir)
		closedir(dir);
	return found;
}
