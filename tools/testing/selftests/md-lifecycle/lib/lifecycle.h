/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the life of md and dm devices share: making disks and md
 * arrays, and looking at what there is and what is gone. Mapped devices are in
 * dm.h, counts of what the kernel does in trace.h.
 *
 * Unless said otherwise a function returns 0 (or a file descriptor) on success
 * and a negative errno on failure, so that a test can assert which one. Nothing
 * retries or waits for the device under test unless its name says so.
 */
#ifndef LIFECYCLE_H
#define LIFECYCLE_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include <linux/major.h>
#include <linux/types.h>
#include <linux/raid/md_u.h>
#include <linux/raid/md_p.h>

#include "kselftest.h"

/* For waits on what the kernel does in its own time; never a measure. */
#define DEADLINE_MS	15000

/*
 * What is waited for has a deadline of its own. This one ends what nobody expects
 * to hang, so it is longer than several of those in a row on an emulated machine.
 */
#ifdef TEST_TIMEOUT_DEFAULT
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	180
#endif

/*
 * Where a device without a parent is itself. Unlike its link in /sys/block that
 * goes when its uevent "remove" has been sent.
 */
#define VIRTUAL_BLOCK	"/sys/devices/virtual/block/"

/* --- util.c: files, commands, kernel messages, tasks on a CPU --- */

/*
 * Let the task @pid, or this one if that is 0, be on @cpu only, and with @prio
 * not 0 be a SCHED_FIFO one of that priority there.
 */
int stay_on_cpu(pid_t pid, int cpu, int prio);

bool __printf(1, 2) path_exists(const char *fmt, ...);

/* 0, or why the open has failed. */
int open_and_close(const char *path, int flags);

/* Read a file of one value into @buf, without its newline. */
int __printf(3, 4) file_read(char *buf, size_t len, const char *fmt, ...);

/* Write @val to a file, in one write. */
int __printf(2, 3) file_write(const char *val, const char *fmt, ...);

/* Run a shell command, output to the log; its exit status, or -errno. */
int __printf(1, 2) run(const char *fmt, ...);

bool have_command(const char *name);

/*
 * Keep udevd, if there is one, out of a test that is about something else: wait
 * until it has nothing to do and nothing open, or is at least at nothing; and let
 * it begin nothing new. -ETIMEDOUT if it cannot be stopped.
 */
void udev_settle(void);
int udev_pause(void);

/*
 * For tests that measure memory: it goes on to read its events, which would be kept
 * by the kernel. udevd hangs up on its clients now and then, who take that for an
 * answer, and begins things all the same.
 */
void udev_hold_queue(void);
void udev_resume(void);

uint64_t now_ms(void);

/*
 * Bytes of slab objects in use, of one cache or (NULL) of all; -ENOENT if the
 * kernel does not tell.
 */
long long slab_bytes(const char *cache);

/* Does the running kernel have this function? */
bool kernel_has(const char *function);

/* A reader of kernel messages that are logged from now on. */
int kmsg_open(void);

/* Let warnings that are given once in a boot be given once more. */
int kmsg_warn_again(void);

/* How many of the messages since the last call have @text in them. */
int kmsg_count(int fd, const char *text);

/* --- disk.c: disks of our own, made by null_blk --- */

struct disk {
	char name[32];
	char path[64];
	unsigned int major, minor;
};

/* Why there can be none here, or NULL. */
const char *disk_missing(void);

/* Can there be loop devices? */
bool have_loop(void);

/* Make a disk of @mib MiB; with @data one that keeps what is written. */
int disk_create(struct disk *disk, unsigned int mib, bool data);

/*
 * Can one that is under a request-based mapped device keep what is written? To do
 * so it sleeps, and request-based dm takes no account of that: kernels that look
 * for such things would report each request.
 */
bool disk_data_for_requests(void);

/* Pull it out, whoever uses it; and put it in again, maybe with another number. */
int disk_power_off(const struct disk *disk);
int disk_power_on(struct disk *disk);

/* Let all reads and writes fail, and no longer. */
int disk_break(const struct disk *disk);
int disk_mend(const struct disk *disk);

/* Remove it. Does nothing for a disk that was never made. */
void disk_destroy(struct disk *disk);

/* --- md.c --- */

struct md_dev {
	char name[32];		/* as in /sys/block */
	unsigned int major;	/* 0: the usual one, MD_MAJOR */
	unsigned int minor;
	char node[64];		/* made by mknod: devtmpfs and udev leave it */
};

#define MD_PARAM "/sys/module/md_mod/parameters/"

/*
 * Why tests of md that need its module parameter @param cannot run here: no
 * root, no md, no such parameter, no disks; or NULL.
 */
const char *md_missing(const char *param);

/* Pick a number that no array has (mdN, made by opening the node). */
int md_pick(struct md_dev *md);

/* The same, for a name: made by md_new_array() only. */
int md_pick_name(struct md_dev *md);

/* The same, for one with minors for its partitions: made by opening the node. */
int md_pick_partitionable(struct md_dev *md);

/* Create the device by its name; for md_NAME its node is made here. */
int md_new_array(struct md_dev *md);

/* Look up the number of a device that has been created, and make the node. */
int md_make_node(struct md_dev *md);

/* Why opening a node makes no device here, or NULL. */
const char *md_autoload_missing(void);

/* Open the node made by mknod. */
int md_open(const struct md_dev *md, int flags);

int md_ioctl(int fd, unsigned long cmd, void *arg);

/* Why there are no arrays of that level here, or NULL. */
const char *md_level_missing(int level);

struct md_shape {
	int level;		/* LEVEL_LINEAR is -1 */
	bool persistent;	/* superblocks of version 0.90 */
};

/* The steps of the next one, one by one. */
int md_set_info(int fd, const struct md_shape *shape, int nr);
int md_add_disk(int fd, int nr, const struct disk *disk);

/* SET_ARRAY_INFO and ADD_NEW_DISK for a clean array of 1 MiB of each disk. */
int md_configure_as(int fd, const struct md_shape *shape,
		    const struct disk *disks, int nr);

/* The same for a raid1 without superblocks. */
int md_configure(int fd, const struct disk *disks, int nr);

int md_run(int fd);

/* md_configure() and RUN_ARRAY. */
int md_build(int fd, const struct disk *disks, int nr);

/*
 * Open it, build the array, and let it be read for partitions, which the first
 * open after that does. Returns the descriptor.
 */
int md_start(const struct md_dev *md, const struct md_shape *shape,
	     const struct disk *disks, int nr);

int md_stop(int fd);

/* The same, again while somebody else (udev) has the array open: EBUSY. */
int md_stop_when_unused(int fd);

/* Close an array that udev has done with, and forget the descriptor. */
void md_close(int *fd);

/* An ioctl that an array without that member refuses, but that ends a hold. */
int md_touch(int fd);

/* Write to a file in the array's md directory. */
int md_attr_write(const struct md_dev *md, const char *attr, const char *val);

/*
 * What there still is of an array, right now: a list of "node", "sysfs",
 * "number" (in /sys/dev/block) and "mdstat", empty if it is gone. The string is
 * good until the next call.
 */
const char *md_left(const struct md_dev *md);

/* The same, but look again until that is @what or DEADLINE_MS have passed. */
const char *md_left_until(const struct md_dev *md, const char *what);

/* The same, until nothing is left. */
const char *md_left_in_the_end(const struct md_dev *md);

/* A number that no other block device of this boot has or had. */
long long md_diskseq(const struct md_dev *md);

/* End whatever is left of an array, without a word. Removes the node. */
void md_cleanup(struct md_dev *md);

/* Set a module parameter; keep the old value in @old if that is not NULL. */
int md_param_set(const char *param, const char *val, char *old, size_t len);

/* --- uevent.c: what the kernel tells about devices --- */

int uevent_open(void);

/* Wait for an event of @action for the device @name, DEADLINE_MS at most. */
int uevent_wait(int fd, const char *name, const char *action);

/*
 * How many events of @action the device @name had since the last call. All that
 * happened before the call has been seen when it returns: a marker event, made
 * through @disk, is waited for.
 */
int uevent_count(int fd, const struct disk *disk, const char *name,
		 const char *action);

/* The same, of those that have @variable ("NAME=VALUE"). */
int uevent_count_with(int fd, const struct disk *disk, const char *name,
		      const char *action, const char *variable);

/*
 * Tell @seen of each event of a virtual block device since the last call: its
 * action, its name. See uevent_count(). -ENOBUFS if some of them are lost.
 */
int uevent_each(int fd, const struct disk *disk,
		void (*seen)(void *arg, const char *action, const char *name),
		void *arg);

/*
 * How many devices of names like @pattern ("dm-*") were added and removed, since
 * the last call; -ENOBUFS if the kernel had no memory to tell of all.
 */
int uevent_lives(int fd, const struct disk *disk, const char *pattern,
		 unsigned int *adds, unsigned int *removes);

/* --- observer.c: what udev, blkid and mdadm --monitor do to a node --- */

struct observer {
	pid_t pid;
	struct observer_counts {
		unsigned int rounds;	/* opened, asked, closed */
		unsigned int refused;	/* ENODEV or ENXIO from open */
		unsigned int absent;	/* ENOENT from open */
		unsigned int stale;	/* ESTALE from open */
		unsigned int failed;	/* any other error from open: */
		int error;		/* the last of these */
		int end;		/* told to finish */
	} *counts;
};

/* Keep opening @path and asking for the array; in a process of its own. */
int observer_start(struct observer *obs, const char *path);

/* The same, with more flags for open(), and pausing for a moment after each. */
int observer_start_slow(struct observer *obs, const char *path, int flags);

/* Wait until it has opened the path, asked and closed once from now on. */
int observer_wait(struct observer *obs);

/* How many of its opens found a device that is there, and yet is not. */
unsigned int observer_refused(const struct observer *obs);

/* Tell it to finish: -ETIMEDOUT if it is stuck. Its counts stay. */
int observer_finish(struct observer *obs);
void observer_stop(struct observer *obs);

/* --- hog.c: keep the kernel's workers from running --- */

#define HOG_MAX	256

struct hog {
	pid_t pids[HOG_MAX];
	int nr;
	bool started;
	cpu_set_t cpus;
};

/*
 * Take all CPUs with real-time tasks, this one with the caller: what the kernel
 * leaves to a workqueue is not done before hog_stop(), or until the caller
 * sleeps. For the time of a few system calls: after about a second the
 * scheduler's throttling lets others run. -EPERM where there is no real-time
 * scheduling to be had.
 */
int hog_start(struct hog *hog);
void hog_stop(struct hog *hog);

#endif /* LIFECYCLE_H */
