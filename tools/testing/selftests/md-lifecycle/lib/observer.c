// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lifecycle.h"

static void count(unsigned int *counter)
{
	__atomic_add_fetch(counter, 1, __ATOMIC_RELEASE);
}

static void observe(const char *path, int flags, unsigned int pause_us,
		    struct observer_counts *counts)
{
	mdu_array_info_t info;
	int fd;

	while (!__atomic_load_n(&counts->end, __ATOMIC_ACQUIRE)) {
		fd = open(path, flags | O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			ioctl(fd, GET_ARRAY_INFO, &info);
			close(fd);
			count(&counts->rounds);
		} else if (errno == ENODEV || errno == ENXIO) {
			count(&counts->refused);
		} else if (errno == ENOENT) {
			count(&counts->absent);
		} else if (errno == ESTALE) {
			count(&counts->stale);
		} else {
			counts->error = errno;
			count(&counts->failed);
		}
		if (pause_us)
			usleep(pause_us);
	}
	_exit(0);
}

static int observer_fork(struct observer *obs, const char *path, int flags,
			 unsigned int pause_us)
{
	obs->counts = mmap(NULL, sizeof(*obs->counts), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (obs->counts == MAP_FAILED) {
		obs->counts = NULL;
		return -errno;
	}
	obs->pid = fork();
	if (obs->pid < 0) {
		munmap(obs->counts, sizeof(*obs->counts));
		obs->counts = NULL;
		obs->pid = 0;
		return -errno;
	}
	if (!obs->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		observe(path, flags, pause_us, obs->counts);
	}
	return 0;
}

int observer_start(struct observer *obs, const char *path)
{
	return observer_fork(obs, path, 0, 0);
}

int observer_start_slow(struct observer *obs, const char *path, int flags)
{
	return observer_fork(obs, path, flags, 1000);
}

int observer_wait(struct observer *obs)
{
	unsigned int start = __atomic_load_n(&obs->counts->rounds, __ATOMIC_ACQUIRE);
	uint64_t end = now_ms() + DEADLINE_MS;

	/* The round that is under way may have opened the path before. */
	while (__atomic_load_n(&obs->counts->rounds, __ATOMIC_ACQUIRE) - start < 2) {
		if (now_ms() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

unsigned int observer_refused(const struct observer *obs)
{
	return __atomic_load_n(&obs->counts->refused, __ATOMIC_ACQUIRE);
}

int observer_finish(struct observer *obs)
{
	uint64_t end = now_ms() + DEADLINE_MS;

	__atomic_store_n(&obs->counts->end, 1, __ATOMIC_RELEASE);
	while (waitpid(obs->pid, NULL, WNOHANG) == 0) {
		if (now_ms() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	obs->pid = 0;
	return 0;
}

void observer_stop(struct observer *obs)
{
	if (!obs->counts)
		return;
	if (obs->pid > 0) {
		kill(obs->pid, SIGKILL);
		waitpid(obs->pid, NULL, 0);
	}
	munmap(obs->counts, sizeof(*obs->counts));
	obs->pid = 0;
	obs->counts = NULL;
}
