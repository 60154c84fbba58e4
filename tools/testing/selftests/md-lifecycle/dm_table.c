// SPDX-License-Identifier: GPL-2.0
/*
 * Tables of a mapped device: what a load opens, and what a load that fails
 * leaves behind.
 */
#include <fcntl.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"
#include "trace.h"

#define SECTORS_PER_MIB	2048

FIXTURE(dm_table) {
	struct disk disks[2];
	struct dm_dev dm;
	struct probe probe;
	int fd;
};

FIXTURE_SETUP(dm_table)
{
	const char *missing = dm_missing();

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, false));
	ASSERT_EQ(0, dm_create(&self->dm, "table"));
}

FIXTURE_TEARDOWN(dm_table)
{
	if (self->fd >= 0)
		close(self->fd);
	probe_stop(&self->probe);
	dm_remove_when_unused(&self->dm);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
}

static const struct dm_row no_such_disk = {
	.len = SECTORS_PER_MIB, .type = "linear", .params = "259:1048575 0",
};

static int load(struct _test_data_dm_table *self, struct dm_row row)
{
	return dm_load(&self->dm, &row, 1);
}

TEST_F(dm_table, C12_reload_opens_nothing)
{
	struct dm_row row = dm_linear(&self->disks[0], SECTORS_PER_MIB);
	int ret;

	ret = probe_start(&self->probe, "bdev_open");
	if (ret == -ENOENT)
		SKIP(return, "no kprobe on bdev_open");
	ASSERT_EQ(0, ret);

	/* The first load opens the disk: the probe does see opens. */
	ASSERT_EQ(0, load(self, row));
	ASSERT_LE(1, probe_hits(&self->probe));
	ASSERT_EQ(0, dm_resume(&self->dm));
	ASSERT_LE(0, probe_hits(&self->probe));

	ASSERT_EQ(0, load(self, row));
	EXPECT_EQ(0, probe_hits(&self->probe));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(0, probe_hits(&self->probe));

	/* Nor does one that replaces an inactive table, or is thrown away. */
	ASSERT_EQ(0, load(self, row));
	ASSERT_EQ(0, load(self, row));
	ASSERT_EQ(0, dm_clear(&self->dm));
	EXPECT_EQ(0, probe_hits(&self->probe));
}

TEST_F(dm_table, B14_good_load_after_a_failed_first_one)
{
	struct dm_row row = dm_linear(&self->disks[0], SECTORS_PER_MIB);
	char table[128], want[160], block[512];

	EXPECT_EQ(-ENXIO, load(self, no_such_disk));
	EXPECT_EQ(-EINVAL, load(self, dm_linear(&self->disks[0],
						1024 * SECTORS_PER_MIB)));
	ASSERT_EQ(0, dm_table(&self->dm, true, table, sizeof(table)));
	EXPECT_STREQ("", table);

	ASSERT_EQ(0, load(self, row));
	ASSERT_EQ(0, dm_resume(&self->dm));
	ASSERT_EQ(0, dm_table(&self->dm, false, table, sizeof(table)));
	snprintf(want, sizeof(want), "linear %s", row.params);
	EXPECT_STREQ(want, table);
	self->fd = dm_open(&self->dm, O_RDONLY);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ((ssize_t)sizeof(block), read(self->fd, block, sizeof(block)));
}

/*
 * A request-based table that fails after the request queue has been set up must
 * not leave that queue to a bio-based one: the first I/O would be the end of the
 * machine. So look at the queue, and send no I/O.
 */
TEST_F(dm_table, B19_failed_first_load_leaves_no_request_queue)
{
	int ret;

	ret = load(self, dm_multipath(&self->disks[0], 1024 * SECTORS_PER_MIB));
	ASSERT_GT(0, ret);
	ASSERT_EQ(0, load(self, dm_linear(&self->disks[0], SECTORS_PER_MIB)));
	EXPECT_FALSE(path_exists("/sys/block/dm-%u/mq", self->dm.minor));
}

TEST_F(dm_table, B14_failed_reload_keeps_both_tables)
{
	struct dm_row live = dm_linear(&self->disks[0], SECTORS_PER_MIB);
	struct dm_row next = dm_linear(&self->disks[1], SECTORS_PER_MIB);
	char table[128], want[160];

	ASSERT_EQ(0, load(self, live));
	ASSERT_EQ(0, dm_resume(&self->dm));
	ASSERT_EQ(0, load(self, next));
	EXPECT_EQ(-ENXIO, load(self, no_such_disk));

	ASSERT_EQ(0, dm_table(&self->dm, false, table, sizeof(table)));
	snprintf(want, sizeof(want), "linear %s", live.params);
	EXPECT_STREQ(want, table);
	ASSERT_EQ(0, dm_table(&self->dm, true, table, sizeof(table)));
	snprintf(want, sizeof(want), "linear %s", next.params);
	EXPECT_STREQ(want, table);
}

/* A table that turns out to be longer than its disk when it is to be used. */
TEST_F(dm_table, B14_failed_swap_keeps_the_live_table)
{
	struct dm_row live = dm_linear(&self->disks[0], SECTORS_PER_MIB);
	char table[128], want[160];
	uint32_t flags;

	ASSERT_EQ(0, load(self, live));
	ASSERT_EQ(0, dm_resume(&self->dm));
	ASSERT_EQ(0, load(self, dm_linear(&self->disks[1], 1024 * SECTORS_PER_MIB)));
	EXPECT_EQ(-EINVAL, dm_resume(&self->dm));

	ASSERT_EQ(0, dm_table(&self->dm, false, table, sizeof(table)));
	snprintf(want, sizeof(want), "linear %s", live.params);
	EXPECT_STREQ(want, table);

	/* It was not suspended before. */
	ASSERT_EQ(0, dm_info(&self->dm, &flags, NULL));
	EXPECT_EQ(0U, flags & DM_SUSPEND_FLAG);
	dm_resume(&self->dm);
}

TEST_HARNESS_MAIN
