// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"

#define DEBUG "/sys/kernel/debug/"

/* What is to be set of what the kernel has. */
static const struct setting {
	const char *file;
	const char *val[2];	/* for each enum fault_what */
} settings[FAULT_SETTINGS] = {
	{ "failslab/verbose", { "0", "0" } },
	{ "failslab/ignore-gfp-wait", { "N", "Y" } },
	/* No cache is marked to fail. */
	{ "failslab/cache-filter", { "N", "Y" } },
	{ "fail_page_alloc/verbose", { "0", "0" } },
	{ "fail_page_alloc/ignore-gfp-wait", { "N", "Y" } },
	{ "fail_page_alloc/ignore-gfp-highmem", { "N", "Y" } },
	/* No allocation is of that order. */
	{ "fail_page_alloc/min-order", { "0", "64" } },
	{ "fail_make_request/verbose", { "0", "0" } },
};

const char *fault_missing(enum fault_what what)
{
	if (!path_exists("/proc/self/fail-nth"))
		return "no CONFIG_FAULT_INJECTION";
	if (what == FAULT_MEMORY && !path_exists(DEBUG "failslab"))
		return "no CONFIG_FAILSLAB in debugfs";
	if (what == FAULT_REQUEST && !path_exists(DEBUG "fail_make_request"))
		return "no CONFIG_FAIL_MAKE_REQUEST in debugfs";
	return NULL;
}

static void forget_tasks(struct fault *fault)
{
	while (fault->nr)
		close(fault->nth[--fault->nr]);
	free(fault->nth);
	fault->nth = NULL;
}

static int add_task(struct fault *fault, const char *dir)
{
	char path[64];
	int fd, *nth;

	snprintf(path, sizeof(path), "%s/fail-nth", dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	nth = realloc(fault->nth, (fault->nr + 1) * sizeof(*nth));
	if (!nth) {
		close(fd);
		return -ENOMEM;
	}
	fault->nth = nth;
	fault->nth[fault->nr++] = fd;
	return 0;
}

int fault_task(struct fault *fault, pid_t pid)
{
	char dir[32];

	forget_tasks(fault);
	fault->workers = false;
	snprintf(dir, sizeof(dir), "/proc/%d", pid);
	return add_task(fault, dir);
}

int fault_workers(struct fault *fault)
{
	char comm[64];
	glob_t tasks;
	int ret = 0;
	size_t i;

	forget_tasks(fault);
	fault->workers = true;
	if (glob("/proc/[0-9]*", 0, NULL, &tasks))
		return -errno;
	/* After a burst of work there are many, and an idle one of them has the next. */
	for (i = 0; i < tasks.gl_pathc && !ret; i++) {
		if (file_read(comm, sizeof(comm), "%s/comm", tasks.gl_pathv[i]) ||
		    strncmp(comm, "kworker/u", strlen("kworker/u")))
			continue;
		ret = add_task(fault, tasks.gl_pathv[i]);
		/* One that has ended meanwhile is no matter. */
		if (ret == -ENOENT || ret == -ESRCH)
			ret = 0;
	}
	globfree(&tasks);
	return fault->nr ? ret : -ESRCH;
}

int fault_start(struct fault *fault, enum fault_what what)
{
	int i, ret;

	memset(fault, 0, sizeof(*fault));
	fault->started = true;
	ret = fault_task(fault, getpid());
	for (i = 0; i < FAULT_SETTINGS && !ret; i++) {
		if (!path_exists(DEBUG "%s", settings[i].file))
			continue;
		ret = file_read(fault->old[i], sizeof(fault->old[i]), DEBUG "%s",
				settings[i].file);
		if (!ret)
			ret = file_write(settings[i].val[what], DEBUG "%s",
					 settings[i].file);
	}
	return ret;
}

void fault_end(struct fault *fault)
{
	int i;

	if (!fault->started)
		return;
	fault_disarm(fault);
	forget_tasks(fault);
	for (i = 0; i < FAULT_SETTINGS; i++)
		if (fault->old[i][0])
			file_write(fault->old[i], DEBUG "%s", settings[i].file);
	fault->started = false;
}

int fault_disk(const struct disk *disk)
{
	return file_write("1", "/sys/block/%s/make-it-fail", disk->name);
}

int fault_arm(struct fault *fault, unsigned int nr)
{
	char buf[16];
	int i, len = snprintf(buf, sizeof(buf), "%u", nr), ret = 0;

	fault->armed = nr;
	for (i = 0; i < fault->nr; i++)
		if (pwrite(fault->nth[i], buf, len, 0) != len)
			ret = -errno;
	/* A worker may have ended. */
	return fault->workers ? 0 : ret;
}

/* To open the files anew would be something that can fail. */
int fault_disarm(struct fault *fault)
{
	unsigned int seen;
	char left[16];
	ssize_t n;
	int i;

	fault->seen = 0;
	for (i = 0; i < fault->nr; i++) {
		n = pread(fault->nth[i], left, sizeof(left) - 1, 0);
		if (n <= 0)
			continue;	/* it has ended */
		left[n] = '\0';
		seen = fault->armed - strtoul(left, NULL, 10);
		if (seen > fault->seen)
			fault->seen = seen;
	}
	n = fault->armed && fault->seen == fault->armed;
	return fault_arm(fault, 0) ?: n;
}

const char *fault_text(const char *what, int ret)
{
	static char text[160];

	snprintf(text, sizeof(text), "%s: %s", what, strerror(-ret));
	return text;
}

/* 1 if the @nr-th thing has failed, 0 if there are less; and is that well? */
static int fault_life(struct fault *fault, const struct fault_op *op, unsigned int nr,
		      bool again, struct fault_walk *walk, const char **wrong)
{
	int ret, hit;

	ret = op->before ? op->before() : 0;
	ret = ret ?: fault_arm(fault, nr);
	if (ret) {
		*wrong = fault_text("cannot begin", ret);
		return ret;
	}
	ret = op->op();
	walk->by_workers = fault->workers;
	hit = fault_disarm(fault);
	if (hit < 0) {
		*wrong = fault_text("fault injection", hit);
		return hit;
	}
	walk->points = fault->seen;
	walk->hit += hit;
	walk->tolerated += hit && !ret;
	if (ret && !hit)
		*wrong = fault_text("fails, and nothing has failed in it", ret);
	else if (ret)
		*wrong = op->whole();
	if (ret && !*wrong && again) {
		ret = op->op();
		if (ret)
			*wrong = fault_text("fails again", ret);
	}
	if (!ret)
		*wrong = op->done();
	if (!*wrong)
		*wrong = op->end(hit);
	return hit;
}

#define DENSE	64
#define STRIDE	7
#define MISSES	4

const char *fault_lives(struct fault *fault, const struct fault_op *op,
			struct fault_walk *walk)
{
	const char *every = getenv("MD_FAIL_EVERY"), *wrong = NULL;
	unsigned int step = every && !strcmp(every, "1") ? 1 : STRIDE, nr = 1, misses = 0;
	static char text[256];
	bool again = true;
	int hit;

	memset(walk, 0, sizeof(*walk));
	do {
		hit = fault_life(fault, op, nr, again, walk, &wrong);
		misses = hit ? 0 : misses + 1;
		if (hit == 1 && !wrong) {
			again = !again;
			nr += nr < DENSE ? 1 : step;
		}
	} while (!wrong && misses < (walk->by_workers ? MISSES : 1));
	if (!wrong)
		return NULL;
	snprintf(text, sizeof(text), "when number %u fails: %s", nr, wrong);
	return text;
}
