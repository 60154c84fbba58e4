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

static void observe(const char *path, struct observer_counts *counts)
{
	mdu_array_info_t info;
	int fd;

	for (;;) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			ioctl(fd, GET_ARRAY_INFO, &info);
			close(fd);
			__atomic_add_fetch(&counts->rounds, 1, __ATOMIC_RELEASE);
		} else if (errno == ENODEV || errno == ENXIO) {
			__atomic_add_fetch(&counts->refused, 1, __ATOMIC_RELEASE);
		}
	}
}

int observer_start(struct observer *obs, const char *path)
{
	obs->counts = mmap(NULL, sizeof(*obs->counts), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (obs->counts == MAP_FAILED)
		return -errno;
	obs->pid = fork();
	if (obs->pid < 0) {
		munmap(obs->counts, sizeof(*obs->counts));
		return -errno;
	}
	if (!obs->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		observe(path, obs->counts);
	}
	return 0;
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

void observer_stop(struct observer *obs)
{
	if (obs->pid <= 0)
		return;
	kill(obs->pid, SIGKILL);
	waitpid(obs->pid, NULL, 0);
	munmap(obs->counts, sizeof(*obs->counts));
	obs->pid = 0;
}
