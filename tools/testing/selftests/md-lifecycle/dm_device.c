// SPDX-License-Identifier: GPL-2.0
/*
 * The devices that tables use: who opens and closes them, and how often; what
 * goes on while one of them cannot be opened or closed; what becomes of one that
 * dies, and whose number another one gets.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <linux/fs.h>
#include <linux/loop.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "stall.h"
#include "trace.h"

#define SECTORS_PER_MIB	2048
#define BLOCK		4096
#define TASKS		8

static struct dm_row linear(const struct disk *disk)
{
	return dm_linear(disk, SECTORS_PER_MIB);
}

static int load(const struct dm_dev *dm, const struct disk *disk)
{
	struct dm_row row = linear(disk);

	return dm_load(dm, &row, 1);
}

static int load_readonly(const struct dm_dev *dm, const struct disk *disk)
{
	struct dm_row row = linear(disk);

	return dm_load_readonly(dm, &row, 1);
}

/* Read the first block, from the disk itself. */
static int read_block(const struct dm_dev *dm, char *to)
{
	int fd, ret = 0;
	void *direct;

	if (posix_memalign(&direct, BLOCK, BLOCK))
		return -ENOMEM;
	fd = dm_open(dm, O_RDONLY | O_DIRECT);
	if (fd < 0) {
		free(direct);
		return fd;
	}
	if (pread(fd, direct, BLOCK, 0) != BLOCK)
		ret = -errno;
	else if (to)
		memcpy(to, direct, BLOCK);
	close(fd);
	free(direct);
	return ret;
}

static bool is_slave(const struct dm_dev *dm, const struct disk *disk)
{
	return path_exists("/sys/block/dm-%u/slaves/%s", dm->minor, disk->name);
}

static bool is_holder(const struct dm_dev *dm, const struct disk *disk)
{
	return path_exists("/sys/block/%s/holders/dm-%u", disk->name, dm->minor);
}

/* Has anybody claimed it? */
static int claim(const struct disk *disk)
{
	int fd = open(disk->path, O_RDONLY | O_EXCL | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* --- what is opened and closed --- */

FIXTURE(dm_device) {
	struct disk disks[2];
	struct dm_dev dm;
	struct probe opens, closes;
};

/* Why it cannot be seen what is opened below, or NULL. */
static const char *missing_here(void)
{
	struct probe probe = { };
	int ret = probe_start(&probe, "bdev_open");

	probe_stop(&probe);
	return dm_missing() ?: ret == -ENOENT ? "no kprobe on bdev_open" : NULL;
}

FIXTURE_SETUP(dm_device)
{
	const char *missing = missing_here();

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, false));
	ASSERT_EQ(0, dm_create(&self->dm, "device"));
	ASSERT_EQ(0, probe_start(&self->opens, "bdev_open"));
	ASSERT_EQ(0, probe_start(&self->closes, "bdev_release"));
}

FIXTURE_TEARDOWN(dm_device)
{
	probe_stop(&self->opens);
	probe_stop(&self->closes);
	dm_remove_when_unused(&self->dm);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
	udev_resume();
}

#define EXPECT_OPENED_CLOSED(nr_opened, nr_closed) do {		\
	EXPECT_EQ(nr_opened, probe_hits(&self->opens));		\
	EXPECT_EQ(nr_closed, probe_hits(&self->closes));	\
} while (0)

TEST_F(dm_device, C12_shared_by_active_and_inactive)
{
	ASSERT_EQ(0, load(&self->dm, &self->disks[0]));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_OPENED_CLOSED(1, 0);

	/* The old table has put it, and the new one has it. */
	ASSERT_EQ(0, load(&self->dm, &self->disks[0]));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_OPENED_CLOSED(0, 0);
	EXPECT_EQ(-EBUSY, claim(&self->disks[0]));
	probe_hits(&self->opens);
	probe_hits(&self->closes);

	ASSERT_EQ(0, load(&self->dm, &self->disks[1]));
	EXPECT_OPENED_CLOSED(1, 0);
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_OPENED_CLOSED(0, 1);
	EXPECT_EQ(0, claim(&self->disks[0]));
	probe_hits(&self->opens);
	probe_hits(&self->closes);

	ASSERT_EQ(0, dm_remove(&self->dm));
	EXPECT_OPENED_CLOSED(0, 1);
	EXPECT_EQ(0, claim(&self->disks[1]));
}

TEST_F(dm_device, C12_opened_once_for_each_mode)
{
	ASSERT_EQ(0, load_readonly(&self->dm, &self->disks[0]));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_OPENED_CLOSED(1, 0);

	/* Not the active table's, opened for more: it has none to give away. */
	ASSERT_EQ(0, load(&self->dm, &self->disks[0]));
	EXPECT_OPENED_CLOSED(1, 0);
	ASSERT_EQ(0, dm_clear(&self->dm));
	EXPECT_OPENED_CLOSED(0, 1);

	/* And that one is still what it was. */
	ASSERT_EQ(0, load_readonly(&self->dm, &self->disks[0]));
	EXPECT_OPENED_CLOSED(0, 0);
	ASSERT_EQ(0, dm_clear(&self->dm));
	ASSERT_EQ(0, dm_remove(&self->dm));
	EXPECT_OPENED_CLOSED(0, 1);
}

TEST_F(dm_device, C12_opened_once_for_several_targets)
{
	struct dm_row rows[4];
	int i;

	for (i = 0; i < 4; i++) {
		rows[i] = linear(&self->disks[i % 2]);
		rows[i].start = i * SECTORS_PER_MIB;
	}
	ASSERT_EQ(0, dm_load(&self->dm, rows, 4));
	EXPECT_OPENED_CLOSED(2, 0);
	ASSERT_EQ(0, dm_clear(&self->dm));
	EXPECT_OPENED_CLOSED(0, 2);
}

/* A load that fails half way. */
TEST_F(dm_device, B14_failed_load_closes_what_it_has_opened)
{
	struct dm_row rows[2] = { linear(&self->disks[1]), linear(&self->disks[1]) };

	snprintf(rows[1].params, sizeof(rows[1].params), "259:1048575 0");
	rows[1].start = SECTORS_PER_MIB;
	ASSERT_EQ(0, load(&self->dm, &self->disks[0]));
	ASSERT_EQ(0, dm_resume(&self->dm));
	probe_hits(&self->opens);

	EXPECT_EQ(-ENXIO, dm_load(&self->dm, rows, 2));
	EXPECT_OPENED_CLOSED(1, 1);
	EXPECT_EQ(0, claim(&self->disks[1]));
	EXPECT_FALSE(is_slave(&self->dm, &self->disks[1]));
	EXPECT_TRUE(is_slave(&self->dm, &self->disks[0]));
}

TEST_F(dm_device, C12_seen_in_sysfs)
{
	struct dm_dev *dm = &self->dm;
	struct disk *old = &self->disks[0], *new = &self->disks[1];

	/* From the first load on, with which the device appears. */
	ASSERT_EQ(0, load_readonly(dm, old));
	EXPECT_TRUE(is_slave(dm, old) && is_holder(dm, old));
	ASSERT_EQ(0, dm_resume(dm));

	ASSERT_EQ(0, load(dm, new));
	EXPECT_TRUE(is_slave(dm, old) && is_holder(dm, old));
	EXPECT_TRUE(is_slave(dm, new) && is_holder(dm, new));
	ASSERT_EQ(0, dm_clear(dm));
	EXPECT_FALSE(is_slave(dm, new) || is_holder(dm, new));

	/* As long as it is used in one of two modes. */
	ASSERT_EQ(0, load(dm, old));
	ASSERT_EQ(0, dm_resume(dm));
	EXPECT_TRUE(is_slave(dm, old) && is_holder(dm, old));

	ASSERT_EQ(0, load(dm, new));
	ASSERT_EQ(0, dm_resume(dm));
	EXPECT_FALSE(is_slave(dm, old) || is_holder(dm, old));
	EXPECT_TRUE(is_slave(dm, new) && is_holder(dm, new));
	ASSERT_EQ(0, dm_remove(dm));
	EXPECT_FALSE(is_holder(dm, new));
}

struct seen {
	char dev[32], fields[128];
	int nr;
};

static void see(void *arg, pid_t tid, const char *fields)
{
	struct seen *seen = arg;

	if (strncmp(fields, seen->dev, strlen(seen->dev)))
		return;
	seen->nr++;
	snprintf(seen->fields, sizeof(seen->fields), "%s",
		 fields + strlen(seen->dev));
}

TEST_F(dm_device, B18_opens_shares_and_closes_are_traced)
{
	static const char * const what[] = { "open", "share", "close" };
	static const int counts[] = { 1, 2, 0 };
	struct events events[3];
	struct seen seen = {};
	char name[64], want[64];
	int i, ret = 0;

	for (i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "dm/dm_table_device_%s", what[i]);
		ret = ret ?: events_start(&events[i], name);
	}
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, load(&self->dm, &self->disks[0]));
	ASSERT_EQ(0, dm_resume(&self->dm));
	ASSERT_EQ(0, load(&self->dm, &self->disks[0]));
	ASSERT_EQ(0, dm_clear(&self->dm));
	ASSERT_EQ(0, dm_remove(&self->dm));

	snprintf(seen.dev, sizeof(seen.dev), "%u,%u ", self->dm.major,
		 self->dm.minor);
	for (i = 0; i < 3; i++) {
		seen.nr = 0;
		EXPECT_LE(0, events_read(&events[i], see, &seen));
		EXPECT_EQ(1, seen.nr) {
			TH_LOG("%s", what[i]);
		}
		snprintf(want, sizeof(want), "lower=%u,%u mode=rw count=%d",
			 self->disks[0].major, self->disks[0].minor, counts[i]);
		EXPECT_STREQ(want, seen.fields);
		events_stop(&events[i]);
	}
}

/* --- many devices --- */

#define MANY	64

FIXTURE(dm_device_many) {
	struct disk disk;
	struct dm_dev dm, slices[MANY];
	struct probe opens, closes;
};

FIXTURE_SETUP(dm_device_many)
{
	const char *missing = missing_here();
	struct dm_row row;
	char suffix[16];
	int i;

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disk, MANY, false));
	for (i = 0; i < MANY; i++) {
		row = linear(&self->disk);
		snprintf(suffix, sizeof(suffix), "slice%d", i);
		ASSERT_EQ(0, dm_create(&self->slices[i], suffix));
		ASSERT_EQ(0, dm_load(&self->slices[i], &row, 1));
		ASSERT_EQ(0, dm_resume(&self->slices[i]));
	}
	ASSERT_EQ(0, dm_create(&self->dm, "many"));
	ASSERT_EQ(0, probe_start(&self->opens, "bdev_open"));
	ASSERT_EQ(0, probe_start(&self->closes, "bdev_release"));
}

FIXTURE_TEARDOWN(dm_device_many)
{
	int i;

	probe_stop(&self->opens);
	probe_stop(&self->closes);
	dm_remove_when_unused(&self->dm);
	for (i = 0; i < MANY; i++)
		if (self->slices[i].name[0])
			dm_remove_when_unused(&self->slices[i]);
	disk_destroy(&self->disk);
	udev_resume();
}

/* What a search costs nothing tells but time, which is no measure for a test. */
TEST_F(dm_device_many, B17_each_is_opened_and_closed_once)
{
	struct dm_row rows[MANY];
	int i;

	for (i = 0; i < MANY; i++) {
		rows[i] = (struct dm_row){ .start = i * 8, .len = 8, .type = "linear" };
		snprintf(rows[i].params, sizeof(rows[i].params), "%u:%u 0",
			 self->slices[i].major, self->slices[i].minor);
	}
	ASSERT_EQ(0, dm_load(&self->dm, rows, MANY));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_OPENED_CLOSED(MANY, 0);
	ASSERT_EQ(0, dm_load(&self->dm, rows, MANY));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_OPENED_CLOSED(0, 0);

	/* Half of them, in another order. */
	for (i = 0; i < MANY / 2; i++)
		memcpy(rows[i].params, rows[MANY - 1 - i].params,
		       sizeof(rows[i].params));
	ASSERT_EQ(0, dm_load(&self->dm, rows, MANY / 2));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_OPENED_CLOSED(0, MANY / 2);
	ASSERT_EQ(0, dm_remove(&self->dm));
	EXPECT_OPENED_CLOSED(0, MANY / 2);
}

/* --- a device that cannot be opened, or closed, for as long as the test wants --- */

/*
 * Nobody can open the loop device while its partition table is being read, and
 * what that is read from is stalled. Nor can a stalled leg be closed for good
 * when it has data to write; the loop device would keep it open.
 */
struct slow {
	struct leg leg;
	struct disk loop;
	struct task scanner;
};

static int loop_ctl(unsigned long cmd, long nr)
{
	int fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	ret = ioctl(fd, cmd, nr);
	if (ret < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static int slow_create_loop(struct slow *slow)
{
	struct loop_config config = {
		.info.lo_flags = LO_FLAGS_PARTSCAN | LO_FLAGS_DIRECT_IO,
	};
	int fd, nr, ret;

	nr = loop_ctl(LOOP_CTL_GET_FREE, 0);
	if (nr < 0)
		return nr;
	slow->loop.major = LOOP_MAJOR;
	slow->loop.minor = nr;
	snprintf(slow->loop.name, sizeof(slow->loop.name), "loop%d", nr);
	snprintf(slow->loop.path, sizeof(slow->loop.path), "/dev/loop%d", nr);
	ret = dm_open(&slow->leg.dm, O_RDWR);
	if (ret < 0)
		return ret;
	config.fd = ret;
	fd = open(slow->loop.path, O_RDWR | O_CLOEXEC);
	ret = fd < 0 || ioctl(fd, LOOP_CONFIGURE, &config) ? -errno : 0;
	close(config.fd);
	if (fd >= 0)
		close(fd);
	return ret;
}

static long scan(struct task *task, void *arg)
{
	struct slow *slow = arg;
	int fd = open(slow->loop.path, O_RDONLY | O_CLOEXEC);

	return fd < 0 || ioctl(fd, BLKRRPART) ? -errno : 0;
}

/* From now on an open of the loop device waits. */
static int slow_hold_opens(struct slow *slow)
{
	int ret;

	ret = leg_stall(&slow->leg);
	if (!ret)
		ret = task_start(&slow->scanner, "BLKRRPART", scan, slow, -1);
	return ret ?: task_blocked(&slow->scanner);
}

/* From now on the last close of the leg waits. Somebody else must have it open. */
static int slow_hold_closes(struct slow *slow)
{
	static const char block[BLOCK];
	int fd, ret;

	fd = dm_open(&slow->leg.dm, O_WRONLY);
	if (fd < 0)
		return fd;
	ret = leg_stall(&slow->leg);
	if (!ret && write(fd, block, BLOCK) != BLOCK)
		ret = -errno;
	close(fd);
	return ret;
}

static void slow_release(struct slow *slow)
{
	leg_release(&slow->leg);
	task_end(&slow->scanner);
}

static void slow_destroy(struct slow *slow)
{
	int fd;

	slow_release(slow);
	if (slow->loop.name[0]) {
		fd = open(slow->loop.path, O_RDWR | O_CLOEXEC);
		if (fd >= 0) {
			ioctl(fd, LOOP_CLR_FD);
			close(fd);
		}
		if (loop_ctl(LOOP_CTL_REMOVE, slow->loop.minor) < 0)
			fprintf(stderr, "# cannot remove %s\n", slow->loop.name);
	}
	leg_destroy(&slow->leg);
}

/*
 * A mapped device with a live table on one disk. A table with the slow device is
 * being loaded, or destroyed, and so waits. "next" is another table's disk.
 */
FIXTURE(dm_device_slow) {
	struct slow slow;
	struct disk live, next, path;
	struct dm_dev dm, other;
	struct task stuck, tasks[TASKS];
	int nr;
};

FIXTURE_VARIANT(dm_device_slow) {
	bool close;
};

FIXTURE_VARIANT_ADD(dm_device_slow, open) { .close = false };
FIXTURE_VARIANT_ADD(dm_device_slow, close) { .close = true };

static long load_path(struct task *task, void *arg)
{
	struct _test_data_dm_device_slow *self = arg;

	return load(&self->dm, &self->path);
}

static long load_next(struct task *task, void *arg)
{
	struct _test_data_dm_device_slow *self = arg;

	return load(&self->dm, &self->next);
}

static long clear(struct task *task, void *arg)
{
	struct _test_data_dm_device_slow *self = arg;

	return dm_clear(&self->dm);
}

static long resume(struct task *task, void *arg)
{
	struct _test_data_dm_device_slow *self = arg;

	return dm_resume(&self->dm);
}

FIXTURE_SETUP(dm_device_slow)
{
	const char *missing = dm_missing() ?: task_missing();

	if (!missing && !have_loop())
		missing = "no loop driver";
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->live, 8, false));
	ASSERT_EQ(0, disk_create(&self->next, 8, false));
	ASSERT_EQ(0, leg_create(&self->slow.leg, "slow", 8));
	ASSERT_EQ(0, dm_create(&self->other, "other"));
	ASSERT_EQ(0, dm_create(&self->dm, "device"));
	ASSERT_EQ(0, load(&self->dm, &self->live));
	ASSERT_EQ(0, dm_resume(&self->dm));

	if (variant->close) {
		self->path = self->slow.leg.disk;
		snprintf(self->path.name, sizeof(self->path.name), "dm-%u",
			 self->path.minor);
		ASSERT_EQ(0, load(&self->dm, &self->path));
		ASSERT_EQ(0, slow_hold_closes(&self->slow));
		ASSERT_EQ(0, task_start(&self->stuck, "TABLE_CLEAR that closes",
					clear, self, -1));
		ASSERT_EQ(0, task_blocked_in(&self->stuck, "bdev_release"));
	} else {
		ASSERT_EQ(0, slow_create_loop(&self->slow));
		self->path = self->slow.loop;
		ASSERT_EQ(0, load(&self->dm, &self->next));
		ASSERT_EQ(0, slow_hold_opens(&self->slow));
		ASSERT_EQ(0, task_start(&self->stuck, "TABLE_LOAD that opens",
					load_path, self, -1));
		ASSERT_EQ(0, task_blocked_in(&self->stuck, "table_load"));
	}
}

FIXTURE_TEARDOWN(dm_device_slow)
{
	int i;

	slow_release(&self->slow);
	task_end(&self->stuck);
	for (i = 0; i < self->nr; i++)
		task_end(&self->tasks[i]);
	dm_remove_when_unused(&self->dm);
	dm_remove_when_unused(&self->other);
	slow_destroy(&self->slow);
	disk_destroy(&self->live);
	disk_destroy(&self->next);
	udev_resume();
}

/* What @fn returns while the slow device is waited for; it must not wait too. */
static long meanwhile(struct _test_data_dm_device_slow *self, const char *what,
		      long (*fn)(struct task *task, void *arg))
{
	struct task *task = &self->tasks[self->nr++];
	long ret;

	ret = task_start(task, what, fn, self, -1) ?: task_result(task);
	if (task_done(&self->stuck))
		return -ESRCH;
	return ret;
}

/* One load at a time: with the slow open there is an inactive table before. */
static long inactive(struct _test_data_dm_device_slow *self, bool close)
{
	return close ? meanwhile(self, "TABLE_LOAD", load_next) : 0;
}

TEST_F(dm_device_slow, B15_clear_of_another_table)
{
	ASSERT_EQ(0, inactive(self, variant->close));
	EXPECT_EQ(0, meanwhile(self, "TABLE_CLEAR", clear));
	EXPECT_FALSE(is_slave(&self->dm, &self->next));
	EXPECT_EQ(0, claim(&self->next));

	slow_release(&self->slow);
	EXPECT_EQ(0, task_result(&self->stuck));
	EXPECT_EQ(!variant->close, is_slave(&self->dm, &self->path));
}

/* The old table is destroyed by whoever has put the new one in its place. */
TEST_F(dm_device_slow, B15_switch_to_another_table)
{
	char table[128], want[160];

	ASSERT_EQ(0, inactive(self, variant->close));
	EXPECT_EQ(0, meanwhile(self, "DM_DEV_SUSPEND to resume", resume));
	ASSERT_EQ(0, dm_table(&self->dm, false, table, sizeof(table)));
	snprintf(want, sizeof(want), "linear %u:%u 0", self->next.major,
		 self->next.minor);
	EXPECT_STREQ(want, table);
	EXPECT_EQ(0, claim(&self->live));
}

static long look(struct task *task, void *arg)
{
	struct _test_data_dm_device_slow *self = arg;
	char table[128];

	return dm_info(&self->dm, NULL, NULL) ?:
	       dm_table(&self->dm, false, table, sizeof(table)) ?:
	       dm_table(&self->dm, true, table, sizeof(table)) ?:
	       read_block(&self->dm, NULL);
}

TEST_F(dm_device_slow, B15_status_and_io)
{
	EXPECT_EQ(0, meanwhile(self, "status and a read", look));
}

static long life_of_other(struct task *task, void *arg)
{
	struct _test_data_dm_device_slow *self = arg;

	return load(&self->other, &self->next) ?:
	       dm_resume(&self->other) ?:
	       read_block(&self->other, NULL) ?:
	       load(&self->other, &self->live) ?:
	       dm_clear(&self->other) ?:
	       dm_remove(&self->other);
}

TEST_F(dm_device_slow, B11_life_of_another_device)
{
	EXPECT_EQ(0, meanwhile(self, "life of another device", life_of_other));
}

/* Opened for the next table before it is closed for good for the last one. */
TEST_F(dm_device_slow, B15_load_of_what_is_being_closed)
{
	if (!variant->close)
		SKIP(return, "loads wait for each other");
	ASSERT_EQ(0, meanwhile(self, "TABLE_LOAD", load_path));
	slow_release(&self->slow);
	ASSERT_EQ(0, task_result(&self->stuck));
	EXPECT_TRUE(is_slave(&self->dm, &self->path));
	EXPECT_TRUE(is_holder(&self->dm, &self->path));
	EXPECT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(0, read_block(&self->dm, NULL));
	ASSERT_EQ(0, dm_remove(&self->dm));
	EXPECT_FALSE(is_holder(&self->dm, &self->path));
}

/* --- a load that has failed, and is not done with what it has opened --- */

/*
 * The first table that is loaded, while there is no disk yet, cannot be made
 * what it was meant to be: its last row names a device that is not there. One
 * slow device keeps it being made, the other keeps it being destroyed.
 */
FIXTURE(dm_device_failed) {
	struct slow opens, closes;
	struct disk shared, first;
	struct dm_dev dm;
	struct task failing, next;
};

FIXTURE_SETUP(dm_device_failed)
{
	const char *missing = dm_missing() ?: task_missing();

	if (!missing && !have_loop())
		missing = "no loop driver";
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->shared, 8, false));
	ASSERT_EQ(0, disk_create(&self->first, 8, false));
	ASSERT_EQ(0, leg_create(&self->opens.leg, "opens", 8));
	ASSERT_EQ(0, leg_create(&self->closes.leg, "closes", 8));
	ASSERT_EQ(0, slow_create_loop(&self->opens));
	ASSERT_EQ(0, dm_create(&self->dm, "device"));
}

FIXTURE_TEARDOWN(dm_device_failed)
{
	slow_release(&self->opens);
	slow_release(&self->closes);
	task_end(&self->failing);
	task_end(&self->next);
	dm_remove_when_unused(&self->dm);
	slow_destroy(&self->opens);
	slow_destroy(&self->closes);
	disk_destroy(&self->shared);
	disk_destroy(&self->first);
	udev_resume();
}

/* Targets are destroyed in this order: what is slow to close comes first. */
static long load_failing(struct task *task, void *arg)
{
	struct _test_data_dm_device_failed *self = arg;
	struct dm_row rows[4] = {
		linear(&self->closes.leg.disk), linear(&self->shared),
		linear(&self->opens.loop), linear(&self->shared),
	};
	int i;

	for (i = 0; i < 4; i++)
		rows[i].start = i * SECTORS_PER_MIB;
	/* Refused at once: what is not there would be asked for, by modprobe. */
	snprintf(rows[3].params, sizeof(rows[3].params), "%u:%u x",
		 self->shared.major, self->shared.minor);
	return dm_load(&self->dm, rows, 4);
}

/* The disk is added for a table that does not use what is shared then. */
static long load_first_and_shared(struct task *task, void *arg)
{
	struct _test_data_dm_device_failed *self = arg;

	return load(&self->dm, &self->first) ?:
	       load(&self->dm, &self->shared) ?:
	       dm_resume(&self->dm);
}

TEST_F(dm_device_failed, C12_seen_in_sysfs_if_opened_by_a_load_that_failed)
{
	struct dm_dev *dm = &self->dm;
	struct disk *shared = &self->shared;
	int fd;

	/* Let it open both, then let the close of the first one wait. */
	ASSERT_EQ(0, slow_hold_opens(&self->opens));
	ASSERT_EQ(0, task_start(&self->failing, "TABLE_LOAD that fails",
				load_failing, self, -1));
	ASSERT_EQ(0, task_blocked_in(&self->failing, "bdev_open"));
	ASSERT_EQ(-EBUSY, claim(shared));
	ASSERT_EQ(0, slow_hold_closes(&self->closes));
	slow_release(&self->opens);
	ASSERT_EQ(0, task_blocked_in(&self->failing, "bdev_release"));
	ASSERT_EQ(-EBUSY, claim(shared));
	ASSERT_FALSE(path_exists("/sys/block/dm-%u", dm->minor));

	ASSERT_EQ(0, task_start(&self->next, "loads of the next tables",
				load_first_and_shared, self, -1));
	ASSERT_EQ(0, task_result(&self->next));
	EXPECT_TRUE(is_slave(dm, shared));
	EXPECT_TRUE(is_holder(dm, shared));
	EXPECT_FALSE(is_slave(dm, &self->first) || is_holder(dm, &self->first));
	ASSERT_FALSE(task_done(&self->failing));

	/* The failed table gives up its share, and only that. */
	slow_release(&self->closes);
	EXPECT_EQ(-EINVAL, task_result(&self->failing));
	EXPECT_TRUE(is_slave(dm, shared));
	EXPECT_TRUE(is_holder(dm, shared));
	EXPECT_EQ(0, claim(&self->opens.loop));
	fd = dm_open(&self->closes.leg.dm, O_RDONLY | O_EXCL);
	EXPECT_LE(0, fd);
	if (fd >= 0)
		close(fd);

	ASSERT_EQ(0, dm_remove(dm));
	EXPECT_FALSE(is_holder(dm, shared));
	EXPECT_EQ(0, claim(shared));
	EXPECT_STREQ("", dm_left(dm));
}

/* --- many at once --- */

#define ROUNDS	100

struct loader {
	struct dm_dev dm;
	struct disk *disks;
	struct task load, clear;
};

FIXTURE(dm_device_race) {
	struct disk disks[2];
	struct loader loaders[2];
};

FIXTURE_SETUP(dm_device_race)
{
	const char *missing = dm_missing() ?: task_missing();
	int i;

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, false));
	for (i = 0; i < 2; i++) {
		self->loaders[i].disks = self->disks;
		ASSERT_EQ(0, dm_create(&self->loaders[i].dm, i ? "second" : "first"));
	}
}

FIXTURE_TEARDOWN(dm_device_race)
{
	int i;

	for (i = 0; i < 2; i++) {
		task_end(&self->loaders[i].load);
		task_end(&self->loaders[i].clear);
		dm_remove_when_unused(&self->loaders[i].dm);
	}
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
	udev_resume();
}

static long keep_loading(struct task *task, void *arg)
{
	struct loader *loader = arg;
	struct dm_row row = linear(&loader->disks[0]);
	long ret = 0;
	int i;

	for (i = 0; !ret && i < ROUNDS; i++) {
		row = linear(&loader->disks[i & 1]);
		ret = i & 2 ? dm_load(&loader->dm, &row, 1) :
			      dm_load_readonly(&loader->dm, &row, 1);
	}
	return ret;
}

static long keep_clearing(struct task *task, void *arg)
{
	struct loader *loader = arg;
	long ret = 0;
	int i;

	for (i = 0; !ret && i < ROUNDS; i++)
		ret = dm_clear(&loader->dm);
	return ret;
}

/* Each opens, shares and closes the same disks: in the end nothing is left. */
TEST_F(dm_device_race, C12_loads_and_clears_at_once)
{
	struct loader *loader;
	int i;

	for (i = 0; i < 2; i++) {
		loader = &self->loaders[i];
		ASSERT_EQ(0, task_start(&loader->load, "loads", keep_loading,
					loader, -1));
		ASSERT_EQ(0, task_start(&loader->clear, "clears", keep_clearing,
					loader, -1));
	}
	for (i = 0; i < 2; i++) {
		loader = &self->loaders[i];
		while (task_result(&loader->load) == -ETIMEDOUT)
			;
		while (task_result(&loader->clear) == -ETIMEDOUT)
			;
		EXPECT_EQ(0, loader->load.shared->ret);
		EXPECT_EQ(0, loader->clear.shared->ret);
		EXPECT_EQ(0, dm_clear(&loader->dm));
	}
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, claim(&self->disks[i]));
		EXPECT_FALSE(is_holder(&self->loaders[0].dm, &self->disks[i]));
		EXPECT_FALSE(is_holder(&self->loaders[1].dm, &self->disks[i]));
	}
}

/* --- devices that die --- */

FIXTURE(dm_device_dead) {
	struct disk disks[2];
	struct dm_dev dm;
	struct probe opens;
	int fd;
};

/* Let a disk that has been pulled out come back, with the same number. */
static int come_back(const struct disk *disk)
{
	char dev[32], want[32];
	int ret;

	ret = file_write("1", "/sys/kernel/config/nullb/%s/power", disk->name) ?:
	      file_read(dev, sizeof(dev), "/sys/block/%s/dev", disk->name);
	snprintf(want, sizeof(want), "%u:%u", disk->major, disk->minor);
	return ret ?: strcmp(dev, want) ? -ENOTUNIQ : 0;
}

/* Fill the first block of a disk. */
static int fill(const struct disk *disk, char c)
{
	int fd = open(disk->path, O_WRONLY | O_CLOEXEC), ret = 0;
	char block[BLOCK];

	if (fd < 0)
		return -errno;
	memset(block, c, sizeof(block));
	if (pwrite(fd, block, BLOCK, 0) != BLOCK || fsync(fd))
		ret = -errno;
	close(fd);
	return ret;
}

/* Two paths in a group, and what to do with I/O if there is none. */
static struct dm_row multipath(const struct disk *disks)
{
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = "multipath" };

	snprintf(row.params, sizeof(row.params),
		 "0 0 1 1 round-robin 0 2 1 %u:%u 1 %u:%u 1", disks[0].major,
		 disks[0].minor, disks[1].major, disks[1].minor);
	return row;
}

FIXTURE_SETUP(dm_device_dead)
{
	const char *missing = missing_here();

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, true));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, true));
	ASSERT_EQ(0, dm_create(&self->dm, "device"));
	ASSERT_EQ(0, probe_start(&self->opens, "bdev_open"));
}

FIXTURE_TEARDOWN(dm_device_dead)
{
	if (self->fd >= 0)
		close(self->fd);
	probe_stop(&self->opens);
	dm_remove_when_unused(&self->dm);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
	udev_resume();
}

TEST_F(dm_device_dead, B23_number_used_again)
{
	struct disk *disk = &self->disks[0];
	struct dm_dev *dm = &self->dm;
	char got[BLOCK] = "";

	ASSERT_EQ(0, load(dm, disk));
	ASSERT_EQ(0, dm_resume(dm));
	ASSERT_EQ(0, read_block(dm, NULL));
	ASSERT_EQ(0, disk_power_off(disk));
	ASSERT_EQ(0, come_back(disk));
	ASSERT_EQ(0, fill(disk, 'n'));
	ASSERT_EQ(-EIO, read_block(dm, NULL));
	probe_hits(&self->opens);

	/* It is another disk: open it, once, and use it. */
	ASSERT_EQ(0, load(dm, disk));
	EXPECT_EQ(1, probe_hits(&self->opens));
	EXPECT_TRUE(is_slave(dm, disk));
	EXPECT_TRUE(is_holder(dm, disk));
	ASSERT_EQ(0, load(dm, disk));
	EXPECT_EQ(0, probe_hits(&self->opens));
	ASSERT_EQ(0, dm_resume(dm));
	EXPECT_EQ(0, read_block(dm, got));
	EXPECT_EQ('n', got[0]);

	/* The dead one has left nothing behind. */
	ASSERT_EQ(0, dm_remove(dm));
	EXPECT_FALSE(is_holder(dm, disk));
	EXPECT_EQ(0, claim(disk));
}

/*
 * The tables have the dead disk open in two modes, and sysfs still knows it by
 * the name that the new one has.
 */
TEST_F(dm_device_dead, B23_number_used_again_in_two_modes)
{
	struct disk *disk = &self->disks[0];
	struct dm_dev *dm = &self->dm;

	ASSERT_EQ(0, load_readonly(dm, disk));
	ASSERT_EQ(0, dm_resume(dm));
	ASSERT_EQ(0, load(dm, disk));
	ASSERT_EQ(0, disk_power_off(disk));
	ASSERT_EQ(0, come_back(disk));
	ASSERT_EQ(0, load(dm, disk));
	EXPECT_TRUE(is_slave(dm, disk));
	EXPECT_TRUE(is_holder(dm, disk));
	ASSERT_EQ(0, dm_resume(dm));
	EXPECT_EQ(0, read_block(dm, NULL));

	/* No open but the one of the new table is left. */
	ASSERT_EQ(0, load_readonly(dm, disk));
	ASSERT_EQ(0, dm_resume(dm));
	EXPECT_EQ(0, read_block(dm, NULL));
	ASSERT_EQ(0, dm_remove(dm));
	EXPECT_FALSE(is_holder(dm, disk));
	EXPECT_EQ(0, claim(disk));
}

/* As long as the new table is not used, the old one keeps what it has. */
TEST_F(dm_device_dead, B23_new_table_thrown_away)
{
	struct disk *disk = &self->disks[0];
	struct dm_dev *dm = &self->dm;

	ASSERT_EQ(0, load(dm, disk));
	ASSERT_EQ(0, dm_resume(dm));
	ASSERT_EQ(0, disk_power_off(disk));
	ASSERT_EQ(0, come_back(disk));
	ASSERT_EQ(0, load(dm, disk));
	ASSERT_EQ(0, dm_clear(dm));
	EXPECT_FALSE(is_holder(dm, disk));
	EXPECT_EQ(0, claim(disk));
	EXPECT_EQ(-EIO, read_block(dm, NULL));

	/* And the next one finds the live disk again. */
	ASSERT_EQ(0, load(dm, disk));
	EXPECT_TRUE(is_holder(dm, disk));
	ASSERT_EQ(0, dm_resume(dm));
	EXPECT_EQ(0, read_block(dm, NULL));
}

/* Somebody else's now: say so instead of a table that cannot do any I/O. */
TEST_F(dm_device_dead, B23_number_used_again_and_busy)
{
	struct disk *disk = &self->disks[0];
	char table[128];

	ASSERT_EQ(0, load(&self->dm, disk));
	ASSERT_EQ(0, dm_resume(&self->dm));
	ASSERT_EQ(0, disk_power_off(disk));
	ASSERT_EQ(0, come_back(disk));
	self->fd = open(disk->path, O_RDWR | O_EXCL | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ(-EBUSY, load(&self->dm, disk));
	ASSERT_EQ(0, dm_table(&self->dm, true, table, sizeof(table)));
	EXPECT_STREQ("", table);
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(0, load(&self->dm, disk));
}

/* Paths that have failed are shared: a table with nothing else can be loaded. */
TEST_F(dm_device_dead, C13_reload_with_dead_paths)
{
	struct dm_row row = multipath(self->disks);
	char got[BLOCK] = "";
	int i;

	if (!disk_data_for_requests())
		SKIP(return, "request-based dm on disks that sleep is reported here");
	if (dm_load(&self->dm, &row, 1))
		SKIP(return, "no multipath target");
	ASSERT_EQ(0, dm_resume(&self->dm));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, disk_power_off(&self->disks[i]));
	ASSERT_EQ(0, dm_load(&self->dm, &row, 1));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(-EIO, read_block(&self->dm, NULL));

	/* One comes back, under its number. */
	ASSERT_EQ(0, come_back(&self->disks[0]));
	ASSERT_EQ(0, fill(&self->disks[0], 'p'));
	ASSERT_EQ(0, dm_load(&self->dm, &row, 1));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(0, read_block(&self->dm, got));
	EXPECT_EQ('p', got[0]);
}

/* --- bios that need more clones than there is memory for --- */

#define FAILSLAB "/sys/kernel/debug/failslab/"
#define RESERVE "/sys/module/dm_mod/parameters/reserved_bio_based_ios"

/*
 * A discard of three stripes needs three clones. Where there is no memory two of
 * them come from a reserve of three. So of a device with two such targets the
 * first one's does not end, and the other one's waits for the reserve.
 */
static const char * const fault_files[] = {
	"task-filter", "ignore-gfp-wait", "verbose", "interval", "times",
	/* The last one, and the first to be set back: others' do not fail. */
	"probability",
};

static const char * const fault_values[] = { "Y", "N", "0", "1", "-1", "100" };

#define FAULT_FILES	6

FIXTURE(dm_device_reserve) {
	char old_fault[FAULT_FILES][32], old_reserve[32];
	struct disk next;
	struct leg leg;
	struct dm_dev dm;
	struct task discard, loader;
	int fd;
};

/* As leg_create(), on a disk that can be told to discard. */
static int leg_create_discarding(struct leg *leg, unsigned int mib)
{
	const struct disk *disk = &leg->below;
	struct dm_row row;
	int ret;

	ret = disk_create(&leg->below, mib, true) ?:
	      disk_power_off(disk) ?:
	      file_write("1", "/sys/kernel/config/nullb/%s/discard", disk->name) ?:
	      come_back(disk) ?:
	      dm_create(&leg->dm, "leg");
	if (ret)
		return ret;
	row = dm_linear(disk, mib * SECTORS_PER_MIB);
	leg->disk.major = leg->dm.major;
	leg->disk.minor = leg->dm.minor;
	return dm_load(&leg->dm, &row, 1) ?: dm_resume(&leg->dm);
}

FIXTURE_SETUP(dm_device_reserve)
{
	const char *missing = dm_missing() ?: task_missing();
	struct dm_row rows[2] = {};
	int i;

	self->fd = -1;
	if (!missing && !path_exists(FAILSLAB "task-filter"))
		missing = "no CONFIG_FAILSLAB in debugfs";
	if (!missing && !dm_has_target("striped"))
		missing = "no striped target";
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->next, 8, false));
	ASSERT_EQ(0, leg_create_discarding(&self->leg, 8));
	ASSERT_EQ(0, file_read(self->old_reserve, sizeof(self->old_reserve), RESERVE));
	ASSERT_EQ(0, file_write("1", RESERVE));
	ASSERT_EQ(0, dm_create(&self->dm, "device"));
	for (i = 0; i < 2; i++) {
		rows[i].start = i * 3 * SECTORS_PER_MIB;
		rows[i].len = 3 * SECTORS_PER_MIB;
		rows[i].type = "striped";
		snprintf(rows[i].params, sizeof(rows[i].params),
			 "3 128 %u:%u 0 %u:%u 2048 %u:%u 4096",
			 self->leg.disk.major, self->leg.disk.minor,
			 self->leg.disk.major, self->leg.disk.minor,
			 self->leg.disk.major, self->leg.disk.minor);
	}
	ASSERT_EQ(0, dm_load(&self->dm, rows, 2));
	ASSERT_EQ(0, dm_resume(&self->dm));
	self->fd = dm_open(&self->dm, O_RDWR);
	ASSERT_LE(0, self->fd);
	for (i = 0; i < FAULT_FILES; i++) {
		ASSERT_EQ(0, file_read(self->old_fault[i], sizeof(self->old_fault[i]),
				       FAILSLAB "%s", fault_files[i]));
		ASSERT_EQ(0, file_write(fault_values[i], FAILSLAB "%s", fault_files[i]));
	}
}

FIXTURE_TEARDOWN(dm_device_reserve)
{
	int i;

	leg_release(&self->leg);
	task_end(&self->loader);
	task_end(&self->discard);
	for (i = FAULT_FILES - 1; i >= 0; i--)
		if (self->old_fault[i][0])
			file_write(self->old_fault[i], FAILSLAB "%s", fault_files[i]);
	if (self->old_reserve[0])
		file_write(self->old_reserve, RESERVE);
	if (self->fd >= 0)
		close(self->fd);
	dm_remove_when_unused(&self->dm);
	leg_destroy(&self->leg);
	disk_destroy(&self->next);
	udev_resume();
}

static long discard_without_memory(struct task *task, void *arg)
{
	struct _test_data_dm_device_reserve *self = arg;
	uint64_t range[2] = { 0, 6ULL * 1024 * 1024 };
	int ret = file_write("1", "/proc/self/make-it-fail");

	/* This task does nothing else any more. */
	return ret ?: ioctl(self->fd, BLKDISCARD, range) ? -errno : 0;
}

static long load_meanwhile(struct task *task, void *arg)
{
	struct _test_data_dm_device_reserve *self = arg;

	return load(&self->dm, &self->next);
}

/* What waits for memory and what opens a table's devices have to do nothing. */
TEST_F(dm_device_reserve, B15_load_while_io_waits_for_the_reserve)
{
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(0, task_start(&self->discard, "a discard", discard_without_memory,
				self, self->fd));
	ASSERT_EQ(0, task_blocked_in(&self->discard, "bio_alloc_bioset"));
	ASSERT_EQ(0, task_start(&self->loader, "TABLE_LOAD", load_meanwhile, self,
				-1));
	EXPECT_EQ(0, task_result(&self->loader));
	leg_release(&self->leg);
	EXPECT_EQ(0, task_result(&self->discard));
}

TEST_HARNESS_MAIN
