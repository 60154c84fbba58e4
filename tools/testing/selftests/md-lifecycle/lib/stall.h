/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Things that hold up a device for as long as a test wants, so that it can look
 * at what happens meanwhile. Each can be ended at any time, and twice. See
 * lifecycle.h.
 */
#ifndef LIFECYCLE_STALL_H
#define LIFECYCLE_STALL_H

#include "dm.h"
#include "task.h"

/* A disk that can be made to keep all I/O: null_blk under a linear mapping. */
struct leg {
	struct disk below;
	struct dm_dev dm;
	struct disk disk;	/* as a member of an array; name and path unset */
	bool stalled;
};

int leg_create(struct leg *leg, const char *suffix, unsigned int mib);
int leg_stall(struct leg *leg);
void leg_release(struct leg *leg);
void leg_destroy(struct leg *leg);

/*
 * No node comes or goes in /dev: a task lists it into memory that is mapped
 * from a stalled leg, and holds the directory's lock meanwhile. So a device can
 * be deleted up to the removal of its node, and none can be added.
 */
struct dev_stall {
	struct leg leg;
	struct task reader;
};

int dev_stall_start(struct dev_stall *stall);

/* Let nodes go, but be ready for another dev_stall_start(). */
void dev_stall_release(struct dev_stall *stall);
void dev_stall_end(struct dev_stall *stall);

/*
 * Workers of unbound workqueues do not run, nor do those of one CPU: a real
 * time task has that CPU, and only it. Unlike a hog (lifecycle.h) this can last,
 * and the test can sleep. -ENODEV with less than two CPUs, -EPERM or the like
 * where the scheduler lets nobody have a CPU for long.
 */
struct worker_stall {
	pid_t pid;
	int cpu;
	cpu_set_t cpus;
	bool started;
	char wq_mask[64], rt_runtime[32], fair_runtime[32];
};

int worker_stall_start(struct worker_stall *stall);

/* Why that cannot be done here, or NULL. */
const char *worker_stall_missing(void);

/*
 * In a task: go on that CPU nevertheless. What it leaves to the workers of its
 * CPU is left undone.
 */
int worker_stall_join(const struct worker_stall *stall);
void worker_stall_end(struct worker_stall *stall);

#endif /* LIFECYCLE_STALL_H */
