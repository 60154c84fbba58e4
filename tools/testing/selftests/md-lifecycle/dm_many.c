// SPDX-License-Identifier: GPL-2.0
/*
 * Removing many mapped devices, one that cannot go among them, and removing a
 * device while something else is done to it. REMOVE_ALL removes every mapped
 * device of the system that is not open, so nobody else's may be there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"
#include "stall.h"
#include "trace.h"

#define SECTORS_PER_MIB	2048

/* Enough for the first to be followed by some that must not wait for it. */
#define NR_DEVS		6

/* The number of devices for which the time is told. */
#define NR_TIMED	64

/* --- ioctls --- */

struct many_ioctl {
	struct dm_ioctl io;
	char data[512];
};

static int many_do(struct many_ioctl *buf, unsigned long cmd)
{
	int fd, ret;

	buf->io.version[0] = DM_VERSION_MAJOR;
	buf->io.data_size = sizeof(*buf);
	buf->io.data_start = offsetof(struct many_ioctl, data);
	fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = ioctl(fd, cmd, buf) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static int remove_all(uint32_t flags)
{
	struct many_ioctl buf = { .io.flags = flags };

	return many_do(&buf, DM_REMOVE_ALL);
}

static int message(const struct dm_dev *dev, const char *text)
{
	struct dm_target_msg *msg;
	struct many_ioctl buf = {};

	snprintf(buf.io.name, sizeof(buf.io.name), "%s", dev->name);
	msg = (void *)buf.data;
	snprintf(msg->message, sizeof(buf.data) - sizeof(*msg), "%s", text);
	return many_do(&buf, DM_TARGET_MSG);
}

static int rename_to(const char *name, const char *new_name)
{
	struct many_ioctl buf = {};

	snprintf(buf.io.name, sizeof(buf.io.name), "%s", name);
	snprintf(buf.data, sizeof(buf.data), "%s", new_name);
	return many_do(&buf, DM_DEV_RENAME);
}

/* --- devices --- */

static bool is_there(const struct dm_dev *dev)
{
	return !dm_info(dev, NULL, NULL);
}

/* Wait until nobody can look it up by name any more. */
static int name_gone(const struct dm_dev *dev)
{
	uint64_t end = now_ms() + DEADLINE_MS;

	while (is_there(dev)) {
		if (now_ms() > end)
			return -ETIMEDOUT;
		usleep(2000);
	}
	return 0;
}

static struct dm_row linear_on(unsigned int major, unsigned int minor)
{
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = "linear" };

	snprintf(row.params, sizeof(row.params), "%u:%u 0", major, minor);
	return row;
}

static int create_on(struct dm_dev *dev, const char *suffix, unsigned int major,
		     unsigned int minor)
{
	struct dm_row row = linear_on(major, minor);
	int ret;

	ret = dm_create(dev, suffix);
	return ret ?: dm_load(dev, &row, 1) ?: dm_resume(dev);
}

/* Open, with its table, and all of it there: 0. */
static int whole(const struct dm_dev *dev)
{
	char table[160], block[512];
	int fd, ret;

	ret = dm_table(dev, false, table, sizeof(table));
	if (ret)
		return ret;
	if (strncmp(table, "linear ", 7))
		return -ENODATA;
	if (strcmp(dm_left(dev), "node sysfs number "))
		return -ENODEV;
	fd = dm_open(dev, O_RDONLY);
	if (fd < 0)
		return fd;
	ret = read(fd, block, sizeof(block)) == sizeof(block) ? 0 : -EIO;
	close(fd);
	return ret;
}

/* Mapped devices that are none of ours: a test may not remove them. */
static const char *foreign_devices(void)
{
	const char *found = NULL;
	struct dirent *d;
	DIR *dir;

	dir = opendir("/sys/block");
	while (dir && (d = readdir(dir)))
		if (!strncmp(d->d_name, "dm-", 3))
			found = "there are mapped devices";
	if (dir)
		closedir(dir);
	return found;
}

/* A load that hangs: the constructor reads from a leg that keeps all I/O. */
struct hung_load {
	const struct disk *origin;
	struct leg leg;
	struct task loader;
	struct dm_dev *dm;
};

static const char page[4096];

static long load_snapshot(struct task *task, void *arg)
{
	struct hung_load *hung = arg;
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = "snapshot" };

	snprintf(row.params, sizeof(row.params), "%u:%u %u:%u P 8",
		 hung->origin->major, hung->origin->minor,
		 hung->leg.dm.major, hung->leg.dm.minor);
	return dm_load(hung->dm, &row, 1);
}

static void hung_load_start(struct __test_metadata *_metadata,
			    struct hung_load *hung, struct dm_dev *dm,
			    const struct disk *origin)
{
	hung->dm = dm;
	hung->origin = origin;
	ASSERT_EQ(0, leg_create(&hung->leg, "leg", 8));
	ASSERT_EQ(0, leg_stall(&hung->leg));
	ASSERT_EQ(0, task_start(&hung->loader, "a load", load_snapshot, hung, -1));
	ASSERT_EQ(0, task_blocked_in(&hung->loader, "table_load"));
}

static void hung_load_end(struct hung_load *hung)
{
	leg_release(&hung->leg);
	if (hung->loader.shared)
		task_result(&hung->loader);
	task_end(&hung->loader);
}

FIXTURE(dm_many) {
	struct disk disk, other;
	struct dm_dev devs[NR_DEVS], extra;
	struct dm_dev *timed;
	struct hung_load hung;
	struct stacks stacks;
	struct task task, writer;
	int fds[NR_DEVS];
};

/* How many of devs[@from] to devs[NR_DEVS - 1] are not gone, in the end. */
static int left_of(struct _test_data_dm_many *self, int from)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	int i, left;

	do {
		left = 0;
		for (i = from; i < NR_DEVS; i++)
			left += !!*dm_left(&self->devs[i]);
		usleep(2000);
	} while (left && now_ms() < end);
	return left;
}

FIXTURE_SETUP(dm_many)
{
	const char *missing = dm_missing() ?: task_missing() ?: foreign_devices();
	char suffix[16];
	int i;

	for (i = 0; i < NR_DEVS; i++)
		self->fds[i] = -1;
	if (!missing && !dm_has_target("snapshot"))
		missing = "no snapshot target";
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disk, 8, false));
	ASSERT_EQ(0, disk_create(&self->other, 8, false));
	/* All is done in the order of names: the first one is the one to hang. */
	for (i = 0; i < NR_DEVS; i++) {
		snprintf(suffix, sizeof(suffix), "dev%d", i);
		ASSERT_EQ(0, create_on(&self->devs[i], suffix, self->disk.major,
				       self->disk.minor));
	}
}

FIXTURE_TEARDOWN(dm_many)
{
	int i;

	stacks_stop(&self->stacks);
	hung_load_end(&self->hung);
	task_end(&self->writer);
	for (i = 0; i < NR_DEVS; i++)
		if (self->fds[i] >= 0)
			close(self->fds[i]);
	if (self->task.shared)
		task_result(&self->task);
	task_end(&self->task);
	/* Twice: what is closed above may go in its own time. */
	for (i = 0; i < NR_DEVS; i++)
		if (is_there(&self->devs[i]))
			dm_remove_when_unused(&self->devs[i]);
	remove_all(0);
	left_of(self, 0);
	self->hung.leg.dm.name[0] = '\0';
	leg_destroy(&self->hung.leg);
	disk_destroy(&self->disk);
	disk_destroy(&self->other);
	udev_resume();
}

/* --- REMOVE_ALL --- */

TEST_F(dm_many, B1_all_are_gone_when_remove_all_returns)
{
	int i;

	ASSERT_EQ(0, remove_all(0));
	for (i = 0; i < NR_DEVS; i++) {
		EXPECT_FALSE(is_there(&self->devs[i]));
		EXPECT_STREQ("", dm_left(&self->devs[i]));
	}
	/* And everything can be made again. */
	EXPECT_EQ(0, create_on(&self->devs[0], "dev0", self->disk.major,
			       self->disk.minor));
}

TEST_F(dm_many, B14_what_is_open_stays)
{
	uint32_t flags;
	int i, log;

	log = kmsg_open();
	ASSERT_LE(0, log);
	self->fds[1] = dm_open(&self->devs[1], O_RDONLY);
	self->fds[4] = dm_open(&self->devs[4], O_RDONLY);
	ASSERT_LE(0, self->fds[1]);
	ASSERT_LE(0, self->fds[4]);
	ASSERT_EQ(0, remove_all(0));
	EXPECT_EQ(1, kmsg_count(log, "remove_all left 2 open device(s)"));
	close(log);

	for (i = 0; i < NR_DEVS; i++) {
		if (i == 1 || i == 4) {
			EXPECT_EQ(0, whole(&self->devs[i]));
			ASSERT_EQ(0, dm_info(&self->devs[i], &flags, NULL));
			EXPECT_EQ(0U, flags & DM_DEFERRED_REMOVE);
		} else {
			EXPECT_STREQ("", dm_left(&self->devs[i]));
		}
	}
	/* Not marked, so not gone when they are closed, but at the next call. */
	close(self->fds[1]);
	close(self->fds[4]);
	self->fds[1] = -1;
	self->fds[4] = -1;
	EXPECT_EQ(0, whole(&self->devs[1]));
	ASSERT_EQ(0, remove_all(0));
	EXPECT_EQ(0, left_of(self, 0));
}

/* A stack of all devices, the lowest of them first or last by name. */
static void build_stack(struct __test_metadata *_metadata,
			struct _test_data_dm_many *self, bool lowest_first)
{
	int i, at, below = -1;
	struct dm_row row;

	for (i = 0; i < NR_DEVS; i++) {
		at = lowest_first ? i : NR_DEVS - 1 - i;
		if (below >= 0) {
			row = linear_on(self->devs[below].major,
					self->devs[below].minor);
			ASSERT_EQ(0, dm_load(&self->devs[at], &row, 1));
			ASSERT_EQ(0, dm_resume(&self->devs[at]));
		}
		below = at;
	}
}

TEST_F(dm_many, C10_stack_in_the_order_of_names)
{
	int i;

	build_stack(_metadata, self, false);
	ASSERT_EQ(0, remove_all(0));
	for (i = 0; i < NR_DEVS; i++)
		EXPECT_STREQ("", dm_left(&self->devs[i]));
}

TEST_F(dm_many, C10_stack_against_the_order_of_names)
{
	int i;

	build_stack(_metadata, self, true);
	ASSERT_EQ(0, remove_all(0));
	for (i = 0; i < NR_DEVS; i++)
		EXPECT_STREQ("", dm_left(&self->devs[i]));
}

/* A stack whose top is open stays as it is, and goes from there when told to. */
TEST_F(dm_many, C10_stack_marked_for_deferred_removal)
{
	uint32_t flags;
	int i;

	build_stack(_metadata, self, true);
	self->fds[0] = dm_open(&self->devs[NR_DEVS - 1], O_RDONLY);
	ASSERT_LE(0, self->fds[0]);
	ASSERT_EQ(0, remove_all(DM_DEFERRED_REMOVE));
	for (i = 0; i < NR_DEVS; i++) {
		ASSERT_EQ(0, dm_info(&self->devs[i], &flags, NULL));
		EXPECT_EQ((uint32_t)DM_DEFERRED_REMOVE, flags & DM_DEFERRED_REMOVE);
	}
	EXPECT_EQ(0, whole(&self->devs[0]));
	close(self->fds[0]);
	self->fds[0] = -1;
	EXPECT_EQ(0, left_of(self, 0));
}

/* --- one that has to wait --- */

static long remove_all_task(struct task *task, void *arg)
{
	return remove_all(0);
}

/* REMOVE_ALL, with the first device waiting for a load that hangs. */
static void remove_all_hangs(struct __test_metadata *_metadata,
			     struct _test_data_dm_many *self)
{
	hung_load_start(_metadata, &self->hung, &self->devs[0], &self->other);
	ASSERT_EQ(0, task_start(&self->task, "REMOVE_ALL", remove_all_task, NULL, -1));
	ASSERT_EQ(0, name_gone(&self->devs[0]));
}

TEST_F(dm_many, B11_remove_all_with_one_that_waits)
{
	remove_all_hangs(_metadata, self);
	EXPECT_EQ(0, left_of(self, 1));

	/* It does wait: the device is in use. */
	EXPECT_FALSE(task_done(&self->task));
	EXPECT_STREQ("node sysfs number ", dm_left(&self->devs[0]));

	leg_release(&self->hung.leg);
	EXPECT_EQ(0, task_result(&self->task));
	EXPECT_EQ(-ENXIO, task_result(&self->hung.loader));
	EXPECT_STREQ("", dm_left(&self->devs[0]));
}

/* Others can be made, used and removed, those with the old names too. */
TEST_F(dm_many, B3_same_name_while_the_old_one_waits)
{
	struct dm_dev again;

	remove_all_hangs(_metadata, self);
	ASSERT_EQ(0, create_on(&again, "dev0", self->disk.major, self->disk.minor));
	EXPECT_NE(self->devs[0].minor, again.minor);
	EXPECT_EQ(0, whole(&again));
	EXPECT_EQ(0, dm_remove(&again));
	EXPECT_STREQ("", dm_left(&again));
}

TEST_F(dm_many, C10_device_made_during_remove_all_goes_too)
{
	remove_all_hangs(_metadata, self);
	ASSERT_EQ(0, create_on(&self->extra, "extra", self->disk.major,
			       self->disk.minor));
	EXPECT_EQ(0, whole(&self->extra));
	leg_release(&self->hung.leg);
	EXPECT_EQ(0, task_result(&self->task));
	EXPECT_STREQ("", dm_left(&self->extra));
}

static void caught(int sig)
{
}

static long remove_all_signalled(struct task *task, void *arg)
{
	signal(SIGUSR1, caught);
	return remove_all(0);
}

TEST_F(dm_many, C10_remove_all_goes_on_after_a_signal_it_survives)
{
	hung_load_start(_metadata, &self->hung, &self->devs[0], &self->other);
	ASSERT_EQ(0, task_start(&self->task, "REMOVE_ALL", remove_all_signalled,
				NULL, -1));
	ASSERT_EQ(0, name_gone(&self->devs[0]));
	ASSERT_EQ(0, kill(self->task.pid, SIGUSR1));
	leg_release(&self->hung.leg);
	EXPECT_EQ(0, task_result(&self->task));
	EXPECT_EQ(0, left_of(self, 0));
}

/* Devices are removed whole or not at all; and no more of them are looked for. */
static void signal_during_remove_all(struct __test_metadata *_metadata,
				     struct _test_data_dm_many *self, int sig)
{
	struct dm_row row = linear_on(self->devs[1].major, self->devs[1].minor);
	int i, gone = 0;

	/* The second one is used by the last, and so not for the first round. */
	ASSERT_EQ(0, dm_load(&self->devs[NR_DEVS - 1], &row, 1));
	ASSERT_EQ(0, dm_resume(&self->devs[NR_DEVS - 1]));
	remove_all_hangs(_metadata, self);
	ASSERT_EQ(0, kill(self->task.pid, sig));
	leg_release(&self->hung.leg);
	EXPECT_EQ(0, task_kill(&self->task));

	EXPECT_STREQ("", dm_left_in_the_end(&self->devs[0]));
	EXPECT_EQ(0, whole(&self->devs[1]));
	for (i = 0; i < NR_DEVS; i++) {
		if (is_there(&self->devs[i])) {
			EXPECT_EQ(0, whole(&self->devs[i]));
		} else {
			EXPECT_STREQ("", dm_left_in_the_end(&self->devs[i]));
			gone++;
		}
	}
	TH_LOG("%d of %d gone", gone, NR_DEVS);
	task_end(&self->task);
	ASSERT_EQ(0, remove_all(0));
	EXPECT_EQ(0, left_of(self, 0));
}

TEST_F(dm_many, B14_remove_all_and_SIGTERM)
{
	signal_during_remove_all(_metadata, self, SIGTERM);
}

TEST_F(dm_many, B14_remove_all_and_SIGKILL)
{
	signal_during_remove_all(_metadata, self, SIGKILL);
}

struct drains {
	int mark, wait;		/* which of the probes; -1: not there */
	int marked, marked_first, waited;
};

static void seen_drain(void *arg, unsigned int function, pid_t pid,
		       const char *stack)
{
	struct drains *drains = arg;

	/* By who removes them all: workers may or may not be as fast. */
	if ((int)function == drains->mark) {
		drains->marked += pid == getpid();
	} else if (strstr(stack, "del_gendisk")) {
		if (!drains->waited++)
			drains->marked_first = drains->marked;
	}
}

/* The drains of all of them share a grace period: they begin before a wait. */
TEST_F(dm_many, B16_all_drains_begin_before_the_first_is_waited_for)
{
	static const char *const functions[] = {
		"blk_mark_disk_dead", "blk_mq_freeze_queue_wait",
	};
	struct drains drains = { .mark = 0 };

	if (stacks_start(&self->stacks, functions, 2) || self->stacks.nr != 2)
		SKIP(return, "no kprobes on %s and %s that tell callers",
		     functions[0], functions[1]);
	ASSERT_EQ(0, remove_all(0));
	ASSERT_LT(0, stacks_read(&self->stacks, seen_drain, &drains));
	ASSERT_EQ(NR_DEVS, drains.marked);
	ASSERT_LT(0, drains.waited);
	EXPECT_EQ(NR_DEVS, drains.marked_first);
}

/* Told, not judged. */
TEST_F(dm_many, B1_time_of_many)
{
	struct dm_dev *devs = calloc(NR_TIMED, sizeof(*devs));
	char suffix[16];
	uint64_t start;
	int i;

	ASSERT_NE(NULL, devs);
	for (i = 0; i < NR_TIMED; i++) {
		snprintf(suffix, sizeof(suffix), "timed%d", i);
		ASSERT_EQ(0, create_on(&devs[i], suffix, self->disk.major,
				       self->disk.minor));
	}
	/* What is left keeps the slabs, which cost much more to destroy. */
	self->fds[0] = dm_open(&self->devs[0], O_RDONLY);
	ASSERT_LE(0, self->fds[0]);
	start = now_ms();
	ASSERT_EQ(0, remove_all(0));
	TH_LOG("%llu us a device, for %d devices",
	       (unsigned long long)(now_ms() - start) * 1000 / (NR_TIMED + NR_DEVS - 1),
	       NR_TIMED + NR_DEVS - 1);
	for (i = 0; i < NR_TIMED; i++)
		EXPECT_STREQ("", dm_left(&devs[i]));
	free(devs);
}

/* --- deferred removal --- */

static void open_and_defer(struct __test_metadata *_metadata,
			   struct _test_data_dm_many *self, int i)
{
	self->fds[i] = dm_open(&self->devs[i], O_RDONLY);
	ASSERT_LE(0, self->fds[i]);
	ASSERT_EQ(0, dm_remove_deferred(&self->devs[i]));
}

static void close_dev(struct _test_data_dm_many *self, int i)
{
	close(self->fds[i]);
	self->fds[i] = -1;
}

TEST_F(dm_many, C10_deferred_many)
{
	int i;

	for (i = 0; i < NR_DEVS; i++)
		open_and_defer(_metadata, self, i);
	for (i = 0; i < NR_DEVS; i++)
		close_dev(self, i);
	EXPECT_EQ(0, left_of(self, 0));
}

TEST_F(dm_many, C10_deferred_and_opened_again)
{
	int fd, i;

	for (i = 0; i < NR_DEVS; i++)
		open_and_defer(_metadata, self, i);
	fd = dm_open(&self->devs[0], O_RDONLY);
	ASSERT_LE(0, fd);
	for (i = 0; i < NR_DEVS; i++)
		close_dev(self, i);
	EXPECT_EQ(0, left_of(self, 1));
	EXPECT_EQ(0, whole(&self->devs[0]));
	close(fd);
	EXPECT_STREQ("", dm_left_in_the_end(&self->devs[0]));
}

TEST_F(dm_many, C10_deferred_and_cancelled)
{
	uint32_t flags;
	int i;

	for (i = 0; i < NR_DEVS; i++)
		open_and_defer(_metadata, self, i);
	EXPECT_EQ(-EINVAL, message(&self->devs[0], "@cancel_deferred_remove now"));
	ASSERT_EQ(0, message(&self->devs[0], "@cancel_deferred_remove"));
	ASSERT_EQ(0, dm_info(&self->devs[0], &flags, NULL));
	EXPECT_EQ(0U, flags & DM_DEFERRED_REMOVE);
	for (i = 0; i < NR_DEVS; i++)
		close_dev(self, i);
	EXPECT_EQ(0, left_of(self, 1));
	EXPECT_EQ(0, whole(&self->devs[0]));

	/* One that is not marked has nothing to cancel, one that is gone nobody. */
	EXPECT_EQ(0, message(&self->devs[0], "@cancel_deferred_remove"));
	EXPECT_EQ(-ENXIO, message(&self->devs[1], "@cancel_deferred_remove"));
	EXPECT_EQ(0, dm_remove(&self->devs[0]));
}

/* Marked or not, it goes at once if nobody has it open. */
TEST_F(dm_many, C10_remove_all_takes_the_deferred_too)
{
	open_and_defer(_metadata, self, 0);
	ASSERT_EQ(0, remove_all(0));
	EXPECT_EQ(0, left_of(self, 1));
	EXPECT_EQ(0, whole(&self->devs[0]));
	close_dev(self, 0);
	EXPECT_EQ(0, left_of(self, 0));
}

TEST_F(dm_many, B11_deferred_with_one_that_waits)
{
	int i;

	for (i = 0; i < NR_DEVS; i++)
		open_and_defer(_metadata, self, i);
	hung_load_start(_metadata, &self->hung, &self->devs[0], &self->other);
	close_dev(self, 0);
	ASSERT_EQ(0, name_gone(&self->devs[0]));

	for (i = 1; i < NR_DEVS; i++)
		close_dev(self, i);
	EXPECT_EQ(0, left_of(self, 1));
	EXPECT_STREQ("node sysfs number ", dm_left(&self->devs[0]));

	leg_release(&self->hung.leg);
	EXPECT_EQ(-ENXIO, task_result(&self->hung.loader));
	EXPECT_STREQ("", dm_left_in_the_end(&self->devs[0]));
}

/* Write a page that stays in memory: somebody else has the device open. */
static int dirty_page(const struct dm_dev *dev)
{
	int fd = dm_open(dev, O_RDWR), ret = 0;

	if (fd < 0)
		return fd;
	if (pwrite(fd, page, sizeof(page), 0) != sizeof(page))
		ret = -errno;
	close(fd);
	return ret;
}

/*
 * To close the device below takes as long as that needs to write what is dirty.
 * This holds up neither the removal of another device nor the close of what
 * that was on.
 */
TEST_F(dm_many, B11_deferred_with_one_that_cannot_close)
{
	struct leg *leg = &self->hung.leg;
	struct dm_row row;
	char node[80];
	int fd;

	ASSERT_EQ(0, leg_create(leg, "leg", 8));
	row = linear_on(leg->dm.major, leg->dm.minor);
	ASSERT_EQ(0, dm_load(&self->devs[0], &row, 1));
	ASSERT_EQ(0, dm_resume(&self->devs[0]));
	row = linear_on(self->other.major, self->other.minor);
	ASSERT_EQ(0, dm_load(&self->devs[1], &row, 1));
	ASSERT_EQ(0, dm_resume(&self->devs[1]));
	open_and_defer(_metadata, self, 0);
	open_and_defer(_metadata, self, 1);
	ASSERT_EQ(0, leg_stall(leg));
	ASSERT_EQ(0, dirty_page(&leg->dm));
	close_dev(self, 0);
	ASSERT_EQ(0, name_gone(&self->devs[0]));
	ASSERT_NE(0, task_find("bdev_release"));

	close_dev(self, 1);
	EXPECT_STREQ("", dm_left_in_the_end(&self->devs[1]));
	/* Table devices are claimed, so this says whether it is closed. */
	snprintf(node, sizeof(node), "/dev/%s", self->other.name);
	fd = open(node, O_RDONLY | O_EXCL | O_CLOEXEC);
	EXPECT_LE(0, fd);
	if (fd >= 0)
		close(fd);

	leg_release(leg);
	EXPECT_STREQ("", dm_left_in_the_end(&self->devs[0]));
}

/* --- removal against something else --- */

static long remove_task(struct task *task, void *arg)
{
	return dm_remove(arg);
}

/* A table is being loaded: removal waits for that, and then nothing is left. */
TEST_F(dm_many, C10_remove_waits_for_a_load)
{
	struct dm_row row = linear_on(self->disk.major, self->disk.minor);
	struct dm_dev *dev = &self->devs[0];

	hung_load_start(_metadata, &self->hung, dev, &self->other);
	ASSERT_EQ(0, task_start(&self->task, "DEV_REMOVE", remove_task, dev, -1));
	ASSERT_EQ(0, name_gone(dev));
	EXPECT_FALSE(task_done(&self->task));

	/* For everybody else there is no such device. */
	EXPECT_EQ(-ENXIO, dm_open(dev, O_RDONLY));
	EXPECT_EQ(-ENXIO, dm_load(dev, &row, 1));
	EXPECT_EQ(-ENXIO, dm_clear(dev));
	EXPECT_EQ(-ENXIO, dm_suspend(dev));
	EXPECT_EQ(-ENXIO, dm_resume(dev));
	EXPECT_EQ(-ENXIO, dm_remove(dev));
	EXPECT_EQ(-ENXIO, dm_remove_deferred(dev));
	EXPECT_EQ(-ENXIO, rename_to(dev->name, "lc_other_name"));
	EXPECT_EQ(-ENXIO, message(dev, "@cancel_deferred_remove"));
	EXPECT_FALSE(task_done(&self->task));
	EXPECT_STREQ("node sysfs number ", dm_left(dev));

	leg_release(&self->hung.leg);
	EXPECT_EQ(0, task_result(&self->task));
	EXPECT_EQ(-ENXIO, task_result(&self->hung.loader));
	EXPECT_STREQ("", dm_left(dev));
}

static long write_direct(struct task *task, void *arg)
{
	struct dm_dev *dev = arg;
	int fd = dm_open(dev, O_RDWR | O_DIRECT);
	void *direct;

	if (fd < 0)
		return fd;
	if (posix_memalign(&direct, 4096, 4096))
		return -ENOMEM;
	return pwrite(fd, direct, 4096, 0) < 0 ? -errno : 0;
}

static long suspend_task(struct task *task, void *arg)
{
	return dm_suspend(arg);
}

/* A suspend waits for I/O, so the device is open. */
TEST_F(dm_many, C10_remove_during_a_suspend)
{
	struct leg *leg = &self->hung.leg;
	struct dm_dev *dev = &self->devs[0];
	struct dm_row row;
	uint32_t flags;

	ASSERT_EQ(0, leg_create(leg, "leg", 8));
	row = linear_on(leg->dm.major, leg->dm.minor);
	ASSERT_EQ(0, dm_load(dev, &row, 1));
	ASSERT_EQ(0, dm_resume(dev));
	ASSERT_EQ(0, leg_stall(leg));
	ASSERT_EQ(0, task_start(&self->writer, "a writer", write_direct, dev, -1));
	ASSERT_EQ(0, task_blocked(&self->writer));
	ASSERT_EQ(0, task_start(&self->task, "a suspend", suspend_task, dev, -1));
	ASSERT_EQ(0, task_blocked(&self->task));

	EXPECT_EQ(-EBUSY, dm_remove(dev));
	EXPECT_EQ(0, dm_remove_deferred(dev));
	EXPECT_FALSE(task_done(&self->task));
	leg_release(leg);
	EXPECT_EQ(0, task_result(&self->task));
	EXPECT_EQ(0, task_result(&self->writer));
	ASSERT_EQ(0, dm_info(dev, &flags, NULL));
	EXPECT_EQ((uint32_t)(DM_SUSPEND_FLAG | DM_DEFERRED_REMOVE),
		  flags & (DM_SUSPEND_FLAG | DM_DEFERRED_REMOVE));

	/* Suspended, it goes with the last close. */
	task_end(&self->writer);
	EXPECT_STREQ("", dm_left_in_the_end(dev));
}

#define OPENED_LIVES	20

/*
 * Removal, without trying again, against somebody who opens and closes all the
 * time: either it says so and the device is whole, or the device is gone.
 */
TEST_F(dm_many, C10_remove_against_an_opener)
{
	struct dm_dev *dev = &self->devs[0];
	int busy = 0, gone = 0, ret;
	struct observer obs = {};
	char node[80];

	snprintf(node, sizeof(node), "/dev/.many%d", getpid());
	ASSERT_EQ(0, mknod(node, S_IFBLK | 0600, makedev(dev->major, dev->minor)));
	ASSERT_EQ(0, observer_start(&obs, node));
	ret = observer_wait(&obs);
	while (!ret && gone < OPENED_LIVES) {
		ret = dm_remove(dev);
		if (ret == -EBUSY) {
			busy++;
			ret = whole(dev);
			continue;
		}
		if (ret || *dm_left(dev))
			break;
		gone++;
		ret = create_on(dev, "dev0", self->disk.major, self->disk.minor);
	}
	unlink(node);
	EXPECT_EQ(0, observer_finish(&obs));
	TH_LOG("gone %d times, busy %d times; %u rounds, %u refused", gone, busy,
	       obs.counts->rounds, observer_refused(&obs));
	observer_stop(&obs);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(OPENED_LIVES, gone);
}

#define CHURNS		60

/* Everything that an ioctl can do to a device; what it returns is another test. */
static long churn(struct task *task, void *arg)
{
	struct _test_data_dm_many *self = arg;
	struct dm_row row = linear_on(self->other.major, self->other.minor);
	struct dm_dev dev = self->devs[0];
	char table[160];
	int i, fd;

	for (i = 0; i < CHURNS; i++) {
		dm_load(&dev, &row, 1);
		dm_suspend(&dev);
		dm_resume(&dev);
		dm_table(&dev, i & 1, table, sizeof(table));
		if (!rename_to(dev.name, "lc_other_name"))
			rename_to("lc_other_name", dev.name);
		fd = dm_open(&dev, O_RDONLY);
		if (fd >= 0)
			close(fd);
		dm_clear(&dev);
	}
	return 0;
}

/* Lives of a device under somebody else's ioctls: no state but gone or whole. */
TEST_F_TIMEOUT(dm_many, B14_lives_under_other_ioctls, 300)
{
	struct dm_dev *dev = &self->devs[0];
	int lives = 0, ret = 0;

	ASSERT_EQ(0, task_start(&self->task, "a churn", churn, self, -1));
	while (!task_done(&self->task)) {
		struct dm_dev old = *dev;

		ret = dm_remove(dev);
		if (ret == -EBUSY || ret == -ENXIO)	/* open, or renamed */
			continue;
		ASSERT_EQ(0, ret);
		ASSERT_STREQ("", dm_left(&old));
		/* The other one may take its name or its table half way. */
		create_on(dev, "dev0", self->disk.major, self->disk.minor);
		snprintf(dev->name, sizeof(dev->name), "%s", old.name);
		lives++;
	}
	EXPECT_EQ(0, task_result(&self->task));
	TH_LOG("%d lives", lives);
	EXPECT_LT(0, lives);
	ASSERT_EQ(0, remove_all(0));
	EXPECT_STREQ("", dm_left(dev));
}

/* --- lives that leave something in memory --- */

#define WARM_UP		20
#define LIVES		200

/* What else goes on is worth some hundred bytes a life. */
#define MAX_GROWTH	1000

FIXTURE(dm_leak) {
	struct disk disk;
	struct dm_dev dm;
};

FIXTURE_VARIANT(dm_leak) {
	const char *type, *params;
};

FIXTURE_VARIANT_ADD(dm_leak, bio) { .type = "linear", .params = "%u:%u 0" };
FIXTURE_VARIANT_ADD(dm_leak, request) {
	.type = "multipath", .params = "0 0 1 1 round-robin 0 1 1 %u:%u 1",
};

FIXTURE_SETUP(dm_leak)
{
	const char *missing = dm_missing() ?: foreign_devices();

	if (missing)
		SKIP(return, "%s", missing);
	udev_hold_queue();
	ASSERT_EQ(0, disk_create(&self->disk, 8, false));
}

FIXTURE_TEARDOWN(dm_leak)
{
	dm_remove_when_unused(&self->dm);
	disk_destroy(&self->disk);
	udev_resume();
}

static int lives(struct _test_data_dm_leak *self,
		 const struct _fixture_variant_dm_leak *variant, int nr)
{
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = variant->type };
	int ret = 0;

	snprintf(row.params, sizeof(row.params), variant->params, self->disk.major,
		 self->disk.minor);
	while (nr-- && !ret) {
		ret = dm_create(&self->dm, "leak") ?: dm_load(&self->dm, &row, 1) ?:
		      dm_resume(&self->dm) ?: dm_load(&self->dm, &row, 1) ?:
		      nr & 1 ? dm_remove(&self->dm) : remove_all(0);
		if (!ret && *dm_left(&self->dm))
			ret = -EBUSY;
	}
	return ret;
}

TEST_F_TIMEOUT(dm_leak, B6_no_growth_over_lives, 200)
{
	long long before, after;

	if (kernel_has("kasan_report"))
		SKIP(return, "KASAN keeps freed objects");
	if (slab_bytes(NULL) == -ENOENT)
		SKIP(return, "no slab statistics");
	ASSERT_EQ(0, lives(self, variant, WARM_UP));
	before = slab_bytes(NULL);
	ASSERT_LT(0, before);
	ASSERT_EQ(0, lives(self, variant, LIVES));
	after = slab_bytes(NULL);
	TH_LOG("%lld bytes after %d lives", after - before, LIVES);
	EXPECT_GT(MAX_GROWTH, (after - before) / LIVES);
}

TEST_HARNESS_MAIN
