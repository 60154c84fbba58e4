// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lifecycle.h"

int hog_start(struct hog *hog)
{
	int cpu, ret, mine;
	atomic_int *running;
	uint64_t end;

	hog->nr = 0;
	if (sysconf(_SC_NPROCESSORS_ONLN) > HOG_MAX)
		return -E2BIG;
	running = mmap(NULL, sizeof(*running), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (running == MAP_FAILED)
		return -errno;
	sched_getaffinity(0, sizeof(hog->cpus), &hog->cpus);
	mine = sched_getcpu();

	hog->started = true;

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (cpu == mine || !CPU_ISSET(cpu, &hog->cpus))
			continue;
		hog->pids[hog->nr] = fork();
		if (hog->pids[hog->nr] < 0) {
			ret = -errno;
			goto out;
		}
		if (!hog->pids[hog->nr]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (stay_on_cpu(0, cpu, 1))
				_exit(1);
			atomic_fetch_add(running, 1);
			for (;;)
				;
		}
		hog->nr++;
	}

	/* From here on nothing else runs on this CPU unless we sleep. */
	ret = stay_on_cpu(0, mine, 2);
	for (end = now_ms() + DEADLINE_MS; !ret && atomic_load(running) < hog->nr;)
		if (now_ms() > end)
			ret = -ETIMEDOUT;
out:
	munmap(running, sizeof(*running));
	if (ret)
		hog_stop(hog);
	return ret;
}

void hog_stop(struct hog *hog)
{
	struct sched_param param = {};

	if (!hog->started)
		return;
	hog->started = false;
	while (hog->nr > 0) {
		hog->nr--;
		kill(hog->pids[hog->nr], SIGKILL);
		waitpid(hog->pids[hog->nr], NULL, 0);
	}
	sched_setscheduler(0, SCHED_OTHER, &param);
	sched_setaffinity(0, sizeof(hog->cpus), &hog->cpus);
}
