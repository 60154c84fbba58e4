// SPDX-License-Identifier: GPL-2.0
/*
 * Mapped devices on mapped devices: removed in either order, and with the disk
 * at the bottom gone.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"
#include "task.h"

#define SECTORS		2048
#define ALL		"node sysfs number "

FIXTURE(dm_stack) {
	struct disk disk, other;
	struct dm_dev lower, upper;
	int fd;
};

static int make(struct dm_dev *dm, const char *suffix, unsigned int major, unsigned int minor)
{
	struct dm_row row = { .len = SECTORS, .type = "linear" };

	snprintf(row.params, sizeof(row.params), "%u:%u 0", major, minor);
	return dm_create(dm, suffix) ?: dm_load(dm, &row, 1) ?: dm_resume(dm);
}

FIXTURE_SETUP(dm_stack)
{
	const char *missing = dm_missing();

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disk, 8, false));
	ASSERT_EQ(0, make(&self->lower, "lower", self->disk.major, self->disk.minor));
	ASSERT_EQ(0, make(&self->upper, "upper", self->lower.major, self->lower.minor));
	ASSERT_STREQ(ALL, dm_left(&self->lower));
	ASSERT_STREQ(ALL, dm_left(&self->upper));
}

FIXTURE_TEARDOWN(dm_stack)
{
	if (self->fd >= 0)
		close(self->fd);
	if (self->upper.name[0])
		dm_remove_when_unused(&self->upper);
	if (self->lower.name[0])
		dm_remove_when_unused(&self->lower);
	disk_destroy(&self->other);
	disk_destroy(&self->disk);
	udev_resume();
}

static int read_upper(struct _test_data_dm_stack *self)
{
	char buf[8192];
	int fd, ret;

	fd = dm_open(&self->upper, O_RDONLY | O_DIRECT);
	if (fd < 0)
		return fd;
	ret = pread(fd, (void *)(((uintptr_t)buf + 4095) & ~4095UL), 4096, 0);
	ret = ret < 0 ? -errno : ret == 4096 ? 0 : -EPROTO;
	close(fd);
	return ret;
}

TEST_F(dm_stack, B1_from_the_top)
{
	EXPECT_EQ(0, dm_remove(&self->upper));
	EXPECT_STREQ("", dm_left(&self->upper));
	EXPECT_FALSE(path_exists("/sys/block/dm-%u/holders/dm-%u", self->lower.minor,
				 self->upper.minor));
	EXPECT_EQ(0, dm_remove(&self->lower));
	EXPECT_STREQ("", dm_left(&self->lower));
}

/* What is below is open, as any user has it open. */
TEST_F(dm_stack, B9_from_the_bottom)
{
	int opens;

	EXPECT_EQ(-EBUSY, dm_remove(&self->lower));
	EXPECT_EQ(0, read_upper(self));
	EXPECT_STREQ(ALL, dm_left(&self->lower));
	ASSERT_EQ(0, dm_info(&self->lower, NULL, &opens));
	EXPECT_EQ(1, opens);
	EXPECT_EQ(0, dm_remove(&self->upper));
	EXPECT_EQ(0, dm_remove(&self->lower));
	EXPECT_STREQ("", dm_left(&self->lower));
}

TEST_F(dm_stack, C10_deferred_from_the_bottom)
{
	ASSERT_EQ(0, dm_remove_deferred(&self->lower));
	ASSERT_EQ(0, dm_remove_deferred(&self->lower));
	EXPECT_EQ(0, read_upper(self));
	EXPECT_STREQ(ALL, dm_left(&self->lower));
	ASSERT_EQ(0, dm_remove(&self->upper));
	EXPECT_STREQ("", dm_left(&self->upper));
	EXPECT_STREQ("", dm_left_in_the_end(&self->lower));
}

/* A new table without the lower device lets it go, the upper one stays. */
TEST_F(dm_stack, C12_reload_lets_go)
{
	struct dm_row row = { .len = SECTORS, .type = "linear" };
	int opens;

	snprintf(row.params, sizeof(row.params), "%u:%u 0", self->disk.major,
		 self->disk.minor);
	/* The disk is claimed by the device mapper, which may share it. */
	ASSERT_EQ(0, dm_load(&self->upper, &row, 1));
	EXPECT_EQ(-EBUSY, dm_remove(&self->lower));
	ASSERT_EQ(0, dm_resume(&self->upper));
	ASSERT_EQ(0, dm_info(&self->lower, NULL, &opens));
	EXPECT_EQ(0, opens);
	EXPECT_EQ(0, dm_remove(&self->lower));
	EXPECT_STREQ("", dm_left(&self->lower));
	EXPECT_EQ(0, read_upper(self));
}

TEST_F(dm_stack, B12_disk_pulled_out)
{
	ASSERT_EQ(0, read_upper(self));
	ASSERT_EQ(0, disk_power_off(&self->disk));
	EXPECT_EQ(-EIO, read_upper(self));
	EXPECT_EQ(0, dm_remove(&self->upper));
	EXPECT_STREQ("", dm_left(&self->upper));
	EXPECT_EQ(0, dm_remove(&self->lower));
	EXPECT_STREQ("", dm_left(&self->lower));
}

/* Somebody has it open, and has written what can no longer be written back. */
TEST_F(dm_stack, B12_disk_pulled_out_in_use)
{
	char buf[4096] = "dirty";

	self->fd = dm_open(&self->upper, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ((ssize_t)sizeof(buf), pwrite(self->fd, buf, sizeof(buf), 0));
	ASSERT_EQ(0, disk_power_off(&self->disk));
	EXPECT_EQ(-1, fsync(self->fd));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(-EBUSY, dm_remove(&self->upper));
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(0, dm_remove(&self->upper));
	EXPECT_STREQ("", dm_left(&self->upper));
	EXPECT_EQ(0, dm_remove(&self->lower));
	EXPECT_STREQ("", dm_left(&self->lower));
}

/* The table cannot be used any more, another one can. */
TEST_F(dm_stack, B14_disk_pulled_out_and_replaced)
{
	struct dm_row row = { .len = SECTORS, .type = "linear" };

	ASSERT_EQ(0, disk_power_off(&self->disk));
	ASSERT_EQ(-EIO, read_upper(self));
	ASSERT_EQ(0, disk_create(&self->other, 8, false));
	snprintf(row.params, sizeof(row.params), "%u:%u 0", self->other.major,
		 self->other.minor);
	EXPECT_EQ(0, dm_load(&self->upper, &row, 1));
	EXPECT_EQ(0, dm_resume(&self->upper));
	EXPECT_EQ(0, read_upper(self));
	EXPECT_EQ(0, dm_remove(&self->lower));
	EXPECT_EQ(0, dm_remove(&self->upper));
}

TEST_HARNESS_MAIN
