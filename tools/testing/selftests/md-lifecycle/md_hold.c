// SPDX-License-Identifier: GPL-2.0
/*
 * What keeps an md device that has no array, and what ends that: a hold, which
 * differs by how the device was made, and an open file descriptor. Each test
 * runs with both values of legacy_async_del_gendisk.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"

FIXTURE(md_hold) {
	struct md_dev md;
	char old_mode[8];
	int fd, kmsg;
};

FIXTURE_VARIANT(md_hold) {
	const char *mode;
};

FIXTURE_VARIANT_ADD(md_hold, async) { .mode = "Y" };
FIXTURE_VARIANT_ADD(md_hold, sync) { .mode = "N" };

FIXTURE_SETUP(md_hold)
{
	const char *missing = md_missing("legacy_async_del_gendisk");

	self->fd = -1;
	self->kmsg = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, md_param_set("legacy_async_del_gendisk", variant->mode,
				  self->old_mode, sizeof(self->old_mode)));
}

FIXTURE_TEARDOWN(md_hold)
{
	if (self->fd >= 0)
		close(self->fd);
	if (self->kmsg >= 0)
		close(self->kmsg);
	md_cleanup(&self->md);
	md_param_set("legacy_async_del_gendisk", self->old_mode, NULL, 0);
}

TEST_F(md_hold, C1_goes_when_nothing_holds_it)
{
	if (md_autoload_missing())
		SKIP(return, "%s", md_autoload_missing());
	ASSERT_EQ(0, md_pick(&self->md));
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(-ENODEV, md_touch(self->fd));
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

/* Whether that ends its hold or not: what is left can be opened and stopped. */
TEST_F(md_hold, C1_no_corpse_when_set_inactive)
{
	ASSERT_EQ(0, md_pick(&self->md));
	ASSERT_EQ(0, md_new_array(&self->md));
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", "inactive"));
	if (*md_left_in_the_end(&self->md)) {
		self->fd = md_open(&self->md, O_RDWR);
		ASSERT_LE(0, self->fd);
		EXPECT_EQ(0, md_stop(self->fd));
		md_close(&self->fd);
	}
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_F(md_hold, C2_survives_the_open_that_made_it)
{
	if (md_autoload_missing())
		SKIP(return, "%s", md_autoload_missing());
	ASSERT_EQ(0, md_pick(&self->md));
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	EXPECT_STREQ("node sysfs number ", md_left(&self->md));
	EXPECT_EQ(0, md_attr_write(&self->md, "layout", "0"));
}

/* Or the open of udev that answers ADD would start an endless loop. */
TEST_F(md_hold, C3_stays_after_a_mere_open)
{
	long long instance;

	if (md_autoload_missing())
		SKIP(return, "%s", md_autoload_missing());
	ASSERT_EQ(0, md_pick(&self->md));
	self->fd = md_open(&self->md, O_RDONLY);
	ASSERT_LE(0, self->fd);
	instance = md_diskseq(&self->md);
	md_close(&self->fd);

	/* It is easily removed. */
	self->fd = md_open(&self->md, O_RDONLY);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ(instance, md_diskseq(&self->md));
	EXPECT_EQ(0, md_stop(self->fd));
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_F(md_hold, C3_a_query_ends_the_hold)
{
	mdu_array_info_t info;

	if (md_autoload_missing())
		SKIP(return, "%s", md_autoload_missing());
	ASSERT_EQ(0, md_pick(&self->md));
	self->fd = md_open(&self->md, O_RDONLY);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(-ENODEV, md_ioctl(self->fd, GET_ARRAY_INFO, &info));
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_F(md_hold, B5_a_refused_ioctl_ends_the_hold)
{
	mdu_param_t param = {};

	if (md_autoload_missing())
		SKIP(return, "%s", md_autoload_missing());
	ASSERT_EQ(0, md_pick(&self->md));
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(-EINVAL, md_ioctl(self->fd, RUN_ARRAY, &param));
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_F(md_hold, B5_a_sysfs_write_ends_the_hold)
{
	if (md_autoload_missing())
		SKIP(return, "%s", md_autoload_missing());
	ASSERT_EQ(0, md_pick(&self->md));
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_attr_write(&self->md, "layout", "0"));
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

/* Through sysfs an array is configured with one write after the other. */
TEST_F(md_hold, C3_a_configuration_through_sysfs_keeps_it)
{
	long long instance;

	if (md_autoload_missing())
		SKIP(return, "%s", md_autoload_missing());
	ASSERT_EQ(0, md_pick(&self->md));
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	instance = md_diskseq(&self->md);
	md_close(&self->fd);
	ASSERT_EQ(0, md_attr_write(&self->md, "level", "raid1"));
	ASSERT_EQ(0, md_attr_write(&self->md, "layout", "0"));
	ASSERT_EQ(0, md_attr_write(&self->md, "raid_disks", "2"));
	EXPECT_EQ(instance, md_diskseq(&self->md));
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", "clear"));
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

static void stays_until_stopped(struct __test_metadata *_metadata,
				struct _test_data_md_hold *self)
{
	long long instance;

	ASSERT_EQ(0, md_new_array(&self->md));
	instance = md_diskseq(&self->md);
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(-ENODEV, md_touch(self->fd));
	md_close(&self->fd);

	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(instance, md_diskseq(&self->md));
	ASSERT_EQ(0, md_stop(self->fd));
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_F(md_hold, C4_name_stays_until_stopped)
{
	ASSERT_EQ(0, md_pick_name(&self->md));
	stays_until_stopped(_metadata, self);
}

TEST_F(md_hold, C4_number_stays_until_stopped)
{
	ASSERT_EQ(0, md_pick(&self->md));
	stays_until_stopped(_metadata, self);
}

/* It is md that refuses it; sysfs would make a scene. */
TEST_F(md_hold, B9_name_in_use_is_refused_quietly)
{
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
	ASSERT_EQ(0, md_pick_name(&self->md));
	ASSERT_EQ(0, md_new_array(&self->md));
	EXPECT_EQ(-EEXIST, md_param_set("new_array", self->md.name, NULL, 0));
	EXPECT_EQ(0, kmsg_count(self->kmsg, "duplicate filename"));
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", "clear"));
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_HARNESS_MAIN
