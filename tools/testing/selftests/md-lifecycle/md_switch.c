// SPDX-License-Identifier: GPL-2.0
/*
 * Released mdadm, whichever it is: up to 4.4 it stops the device that it has
 * just created and goes on with it; since 4.5 it writes legacy_async_del_gendisk
 * while others are being torn down. Neither must matter.
 */
#include <fcntl.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"

FIXTURE(md_switch) {
	struct disk disks[2];
	struct md_dev md;
	char old_mode[8];
	int fd, fd2, kmsg;
};

FIXTURE_VARIANT(md_switch) {
	const char *mode, *other;
	bool named;
};

FIXTURE_VARIANT_ADD(md_switch, number_async) { .mode = "Y", .other = "N" };
FIXTURE_VARIANT_ADD(md_switch, number_sync) { .mode = "N", .other = "Y" };
FIXTURE_VARIANT_ADD(md_switch, name_async) {
	.mode = "Y", .other = "N", .named = true,
};

FIXTURE_VARIANT_ADD(md_switch, name_sync) {
	.mode = "N", .other = "Y", .named = true,
};

FIXTURE_SETUP(md_switch)
{
	const char *missing = md_missing("legacy_async_del_gendisk");

	self->fd = -1;
	self->fd2 = -1;
	self->kmsg = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, false));
	ASSERT_EQ(0, md_param_set("legacy_async_del_gendisk", variant->mode,
				  self->old_mode, sizeof(self->old_mode)));
	ASSERT_EQ(0, variant->named ? md_pick_name(&self->md) : md_pick(&self->md));
	kmsg_warn_again();
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
}

FIXTURE_TEARDOWN(md_switch)
{
	if (self->fd >= 0)
		close(self->fd);
	if (self->fd2 >= 0)
		close(self->fd2);
	if (self->kmsg >= 0)
		close(self->kmsg);
	md_cleanup(&self->md);
	md_param_set("legacy_async_del_gendisk", self->old_mode, NULL, 0);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
}

static void create(struct __test_metadata *_metadata,
		   struct _test_data_md_switch *self)
{
	ASSERT_EQ(0, md_new_array(&self->md));
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
}

static void build(struct __test_metadata *_metadata,
		  struct _test_data_md_switch *self)
{
	ASSERT_EQ(0, md_build(self->fd, self->disks, 2));
	udev_settle();
}

static void flip(struct __test_metadata *_metadata,
		 const struct _fixture_variant_md_switch *variant)
{
	ASSERT_EQ(0, md_param_set("legacy_async_del_gendisk", variant->other,
				  NULL, 0));
}

/* T1, T2: deleted never, or twice. */
TEST_F(md_switch, B10_flip_between_stop_and_close)
{
	create(_metadata, self);
	build(_metadata, self);
	ASSERT_EQ(0, md_stop(self->fd));
	flip(_metadata, variant);
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));

	/* Name and number are free again. */
	create(_metadata, self);
	ASSERT_EQ(0, md_stop(self->fd));
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
	EXPECT_EQ(0, kmsg_count(self->kmsg, "at __del_gendisk"));
}

TEST_F(md_switch, B10_flip_between_use_and_stop)
{
	create(_metadata, self);
	build(_metadata, self);
	flip(_metadata, variant);
	ASSERT_EQ(0, md_stop(self->fd));
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
	EXPECT_EQ(0, kmsg_count(self->kmsg, "at __del_gendisk"));
}

/* A device that is merely open: the mode at its last close is not its concern. */
TEST_F(md_switch, B10_flip_before_the_last_close)
{
	ASSERT_EQ(0, md_new_array(&self->md));
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", "clear"));
	flip(_metadata, variant);
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
	EXPECT_EQ(0, kmsg_count(self->kmsg, "at __del_gendisk"));
}

/* What is assembled on a device that was stopped before lives like any other. */
static void assemble_use_stop(struct __test_metadata *_metadata,
			      struct _test_data_md_switch *self)
{
	build(_metadata, self);
	self->fd2 = md_open(&self->md, O_RDONLY);
	EXPECT_LE(0, self->fd2);
	md_close(&self->fd2);
	EXPECT_EQ(0, md_stop(self->fd));
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

/* mdadm up to 4.4, "just in case it was started but has no content". */
TEST_F(md_switch, B10_stop_first_then_assemble)
{
	create(_metadata, self);
	ASSERT_EQ(0, md_stop(self->fd));
	ASSERT_EQ(0, md_attr_write(&self->md, "metadata_version", "0.90"));
	assemble_use_stop(_metadata, self);
}

/* An array that runs but cannot be opened, and so not be stopped: D9. */
TEST_F(md_switch, B10_stop_twice_then_assemble)
{
	create(_metadata, self);
	ASSERT_EQ(0, md_stop(self->fd));
	ASSERT_EQ(0, md_stop(self->fd));
	assemble_use_stop(_metadata, self);
}

/*
 * A stopped array that is still open takes no other array: it could be neither
 * opened nor stopped.
 */
TEST_F(md_switch, B14_no_array_on_a_stopped_one)
{
	mdu_bitmap_file_t file;

	create(_metadata, self);
	build(_metadata, self);
	ASSERT_EQ(0, md_stop(self->fd));
	EXPECT_EQ(-ENODEV, md_build(self->fd, self->disks, 2));
	/* Nor is it asked about what it has not got any more. */
	EXPECT_EQ(-ENODEV, md_ioctl(self->fd, GET_BITMAP_FILE, &file));
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_HARNESS_MAIN
