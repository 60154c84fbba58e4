// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stall.h"

#define WQ_CPUMASK	"/sys/devices/virtual/workqueue/cpumask"
#define RT_RUNTIME	"/proc/sys/kernel/sched_rt_runtime_us"
#define FAIR_RUNTIME	"/sys/kernel/debug/sched/fair_server/cpu%d/runtime"

/* --- a leg --- */

int leg_create(struct leg *leg, const char *suffix, unsigned int mib)
{
	struct dm_row row;
	int ret;

	ret = disk_create(&leg->below, mib, false);
	if (ret)
		return ret;
	ret = dm_create(&leg->dm, suffix);
	if (ret)
		return ret;
	row = dm_linear(&leg->below, mib * 2048ULL);
	ret = dm_load(&leg->dm, &row, 1);
	if (!ret)
		ret = dm_resume(&leg->dm);
	leg->disk.major = leg->dm.major;
	leg->disk.minor = leg->dm.minor;
	return ret;
}

int leg_stall(struct leg *leg)
{
	int ret = dm_suspend(&leg->dm);

	leg->stalled = !ret;
	return ret;
}

void leg_release(struct leg *leg)
{
	if (leg->stalled)
		dm_resume(&leg->dm);
	leg->stalled = false;
}

void leg_destroy(struct leg *leg)
{
	leg_release(leg);
	if (leg->dm.name[0] && dm_remove_when_unused(&leg->dm))
		fprintf(stderr, "# cannot remove %s\n", leg->dm.name);
	leg->dm.name[0] = '\0';
	disk_destroy(&leg->below);
}

/* --- /dev --- */

static long list_dev(struct task *task, void *page)
{
	int dir = open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return -errno;
	return syscall(__NR_getdents64, dir, page, 4096) < 0 ? -errno : 0;
}

int dev_stall_start(struct dev_stall *stall)
{
	void *page;
	int fd, ret;

	if (!stall->leg.dm.name[0]) {
		ret = leg_create(&stall->leg, "dev", 8);
		if (ret)
			return ret;
	}
	fd = dm_open(&stall->leg.dm, O_RDONLY);
	if (fd < 0)
		return fd;
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	if (page == MAP_FAILED)
		return -errno;
	madvise(page, 4096, MADV_RANDOM);
	ret = leg_stall(&stall->leg);
	if (!ret)
		ret = task_start(&stall->reader, "a reader of /dev", list_dev,
				 page, -1);
	munmap(page, 4096);
	if (!ret)
		ret = task_blocked_in(&stall->reader, "iterate_dir");
	return ret;
}

void dev_stall_release(struct dev_stall *stall)
{
	leg_release(&stall->leg);
	task_end(&stall->reader);
}

void dev_stall_end(struct dev_stall *stall)
{
	dev_stall_release(stall);
	leg_destroy(&stall->leg);
}

/* --- workers --- */

/* Save a setting, the first time only, and change it. */
static int change(const char *path, const char *val, char *old, size_t len)
{
	int ret = file_read(old, len, "%s", path);

	return ret ?: file_write(val, "%s", path);
}

static void mask_of(int cpu, char *buf, size_t len)
{
	int word;

	snprintf(buf, len, "%x", 1U << cpu % 32);
	for (word = cpu / 32; word > 0; word--)
		strncat(buf, ",00000000", len - strlen(buf) - 1);
}

static int take_cpu(struct worker_stall *stall)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	atomic_int *running;
	int ret = 0;

	running = mmap(NULL, sizeof(*running), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (running == MAP_FAILED)
		return -errno;
	stall->pid = fork();
	if (!stall->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		syscall(__NR_close_range, 3, ~0U, 0);	/* hold nothing open */
		ret = stay_on_cpu(0, stall->cpu, 1);
		atomic_store(running, ret ?: 1);
		if (ret)
			_exit(1);
		for (;;)
			;
	}
	if (stall->pid < 0) {
		ret = -errno;
		stall->pid = 0;
	}
	while (!ret && !atomic_load(running)) {
		if (now_ms() > end)
			ret = -ETIMEDOUT;
		usleep(1000);
	}
	if (!ret && atomic_load(running) < 0)
		ret = atomic_load(running);
	munmap(running, sizeof(*running));
	return ret;
}

int worker_stall_start(struct worker_stall *stall)
{
	char path[96], mask[64];
	cpu_set_t others;
	int cpu, ret;

	memset(stall, 0, sizeof(*stall));
	if (sched_getaffinity(0, sizeof(stall->cpus), &stall->cpus))
		return -errno;
	if (CPU_COUNT(&stall->cpus) < 2)
		return -ENODEV;
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &stall->cpus))
			stall->cpu = cpu;
	others = stall->cpus;
	CPU_CLR(stall->cpu, &others);
	stall->started = true;
	if (sched_setaffinity(0, sizeof(others), &others)) {
		ret = -errno;
		goto out;
	}

	ret = change(RT_RUNTIME, "-1", stall->rt_runtime,
		     sizeof(stall->rt_runtime));
	if (ret)
		goto out;
	snprintf(path, sizeof(path), FAIR_RUNTIME, stall->cpu);
	if (path_exists("%s", path)) {	/* since 6.12 */
		ret = change(path, "0", stall->fair_runtime,
			     sizeof(stall->fair_runtime));
		if (ret)
			goto out;
	}
	mask_of(stall->cpu, mask, sizeof(mask));
	ret = change(WQ_CPUMASK, mask, stall->wq_mask, sizeof(stall->wq_mask));
	if (!ret)
		ret = take_cpu(stall);
out:
	if (ret)
		worker_stall_end(stall);
	return ret;
}

int worker_stall_join(const struct worker_stall *stall)
{
	return stay_on_cpu(0, stall->cpu, 2);
}

const char *worker_stall_missing(void)
{
	struct worker_stall stall;
	int ret = worker_stall_start(&stall);

	worker_stall_end(&stall);
	return ret ? "workers cannot be kept from running" : NULL;
}

void worker_stall_end(struct worker_stall *stall)
{
	if (!stall->started)
		return;
	stall->started = false;
	if (stall->pid > 0) {
		kill(stall->pid, SIGKILL);
		waitpid(stall->pid, NULL, 0);
		stall->pid = 0;
	}
	if (stall->wq_mask[0])
		file_write(stall->wq_mask, WQ_CPUMASK);
	if (stall->fair_runtime[0])
		file_write(stall->fair_runtime, FAIR_RUNTIME, stall->cpu);
	if (stall->rt_runtime[0])
		file_write(stall->rt_runtime, RT_RUNTIME);
	sched_setaffinity(0, sizeof(stall->cpus), &stall->cpus);
}
