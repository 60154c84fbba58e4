// SPDX-License-Identifier: GPL-2.0
/* Removing a mapped device: gone when the call returns, or not at all. */
#include <fcntl.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"

#define SECTORS_PER_MIB	2048

FIXTURE(dm_remove) {
	struct disk disk;
	struct dm_dev dm;
	int fd, uevents;
};

FIXTURE_SETUP(dm_remove)
{
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = "linear" };
	const char *missing = dm_missing();

	self->fd = -1;
	self->uevents = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, disk_create(&self->disk, 8, false));
	self->uevents = uevent_open();
	ASSERT_LE(0, self->uevents);
	ASSERT_EQ(0, dm_create(&self->dm, "remove"));
	snprintf(row.params, sizeof(row.params), "%u:%u 0", self->disk.major,
		 self->disk.minor);
	ASSERT_EQ(0, dm_load(&self->dm, &row, 1));
	ASSERT_EQ(0, dm_resume(&self->dm));
}

FIXTURE_TEARDOWN(dm_remove)
{
	if (self->fd >= 0)
		close(self->fd);
	if (self->uevents >= 0)
		close(self->uevents);
	dm_remove_when_unused(&self->dm);
	disk_destroy(&self->disk);
}

TEST_F(dm_remove, B1_gone_when_remove_returns)
{
	ASSERT_STREQ("node sysfs number ", dm_left(&self->dm));
	ASSERT_EQ(0, dm_remove_when_unused(&self->dm));
	EXPECT_STREQ("", dm_left(&self->dm));
}

TEST_F(dm_remove, B3_made_again_at_once)
{
	ASSERT_EQ(0, dm_remove_when_unused(&self->dm));
	EXPECT_EQ(0, dm_create(&self->dm, "remove"));
}

TEST_F(dm_remove, B9_busy_while_open)
{
	self->fd = dm_open(&self->dm, O_RDONLY);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ(-EBUSY, dm_remove(&self->dm));
	EXPECT_STREQ("node sysfs number ", dm_left(&self->dm));
}

TEST_F(dm_remove, C10_deferred_goes_at_the_last_close)
{
	uint32_t flags;
	int fd;

	self->fd = dm_open(&self->dm, O_RDONLY);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dm_remove_deferred(&self->dm));
	ASSERT_EQ(0, dm_info(&self->dm, &flags, NULL));
	EXPECT_EQ((uint32_t)DM_DEFERRED_REMOVE, flags & DM_DEFERRED_REMOVE);

	/* It can be opened until then, and goes with the last of them. */
	fd = dm_open(&self->dm, O_RDONLY);
	ASSERT_LE(0, fd);
	close(self->fd);
	self->fd = fd;
	EXPECT_EQ(0, dm_info(&self->dm, NULL, NULL));
	close(self->fd);
	self->fd = -1;
	EXPECT_STREQ("", dm_left_in_the_end(&self->dm));
}

TEST_F(dm_remove, B8_one_add_and_one_remove)
{
	char name[16];

	snprintf(name, sizeof(name), "dm-%u", self->dm.minor);
	EXPECT_EQ(1, uevent_count(self->uevents, &self->disk, name, "add"));
	ASSERT_EQ(0, dm_remove_when_unused(&self->dm));
	EXPECT_EQ(1, uevent_count(self->uevents, &self->disk, name, "remove"));
}

TEST_HARNESS_MAIN
