// SPDX-License-Identifier: GPL-2.0
/*
 * Stopping an array, by ioctl and through sysfs: it is gone when the call
 * returns, whatever its name, and name and number can be used again at once.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "trace.h"

FIXTURE(md_stop) {
	struct disk disks[2];
	struct md_dev md;
	struct hog hog;
	char old_mode[8];
	int fd, fd2, uevents;
};

FIXTURE_VARIANT(md_stop) {
	const char *mode;
	bool named;
};

FIXTURE_VARIANT_ADD(md_stop, number_async) { .mode = "Y" };
FIXTURE_VARIANT_ADD(md_stop, number_sync) { .mode = "N" };
FIXTURE_VARIANT_ADD(md_stop, name_async) { .mode = "Y", .named = true };
FIXTURE_VARIANT_ADD(md_stop, name_sync) { .mode = "N", .named = true };

FIXTURE_SETUP(md_stop)
{
	const char *missing = md_missing("legacy_async_del_gendisk");

	self->fd = -1;
	self->fd2 = -1;
	self->uevents = -1;
	if (missing)
		SKIP(return, "%s", missing);
	if (hog_start(&self->hog))
		SKIP(return, "no real-time scheduling");
	hog_stop(&self->hog);
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, false));
	ASSERT_EQ(0, md_param_set("legacy_async_del_gendisk", variant->mode,
				  self->old_mode, sizeof(self->old_mode)));
	ASSERT_EQ(0, variant->named ? md_pick_name(&self->md) : md_pick(&self->md));
}

FIXTURE_TEARDOWN(md_stop)
{
	hog_stop(&self->hog);
	if (self->fd >= 0)
		close(self->fd);
	if (self->fd2 >= 0)
		close(self->fd2);
	if (self->uevents >= 0)
		close(self->uevents);
	md_cleanup(&self->md);
	md_param_set("legacy_async_del_gendisk", self->old_mode, NULL, 0);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
}

/* Leaves the array running, and open at self->fd and nowhere else. */
static void start(struct __test_metadata *_metadata, struct _test_data_md_stop *self)
{
	ASSERT_EQ(0, md_new_array(&self->md));
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_build(self->fd, self->disks, 2));
	udev_settle();
	ASSERT_STREQ("node sysfs number mdstat ", md_left(&self->md));
}

/* Look at what is left before any worker of the kernel can clear it away. */
static void close_and_expect_gone(struct __test_metadata *_metadata,
				  struct _test_data_md_stop *self)
{
	udev_settle();
	ASSERT_EQ(0, hog_start(&self->hog));
	close(self->fd);
	self->fd = -1;
	EXPECT_STREQ("", md_left(&self->md));
	hog_stop(&self->hog);
}

TEST_F(md_stop, B1_gone_when_stop_returns)
{
	start(_metadata, self);
	ASSERT_EQ(0, md_stop(self->fd));
	EXPECT_STREQ("", md_left(&self->md));
}

/* What mdadm --stop does, and what its caller sees. */
TEST_F(md_stop, B1_gone_when_stopper_has_closed)
{
	start(_metadata, self);
	ASSERT_EQ(0, md_stop(self->fd));
	close_and_expect_gone(_metadata, self);
}

TEST_F(md_stop, B1_gone_when_clear_returns)
{
	start(_metadata, self);
	md_close(&self->fd);
	udev_settle();
	ASSERT_EQ(0, hog_start(&self->hog));
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", "clear"));
	EXPECT_STREQ("", md_left(&self->md));
	hog_stop(&self->hog);
}

TEST_F(md_stop, B4_goes_after_stop)
{
	start(_metadata, self);
	ASSERT_EQ(0, md_stop(self->fd));
	md_close(&self->fd);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_F(md_stop, B9_busy_and_whole_while_open_elsewhere)
{
	start(_metadata, self);
	self->fd2 = md_open(&self->md, O_RDONLY);
	ASSERT_LE(0, self->fd2);
	EXPECT_EQ(-EBUSY, md_stop(self->fd));
	EXPECT_STREQ("node sysfs number mdstat ", md_left(&self->md));
	md_close(&self->fd2);
	EXPECT_EQ(0, md_stop(self->fd));
}

TEST_F(md_stop, C5_clear_of_a_running_array)
{
	start(_metadata, self);
	md_close(&self->fd);
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", "clear"));
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_F(md_stop, C5_clear_of_one_that_never_ran)
{
	ASSERT_EQ(0, md_new_array(&self->md));
	udev_settle();
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", "clear"));
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_F(md_stop, C5_clear_of_an_inactive_array)
{
	ASSERT_EQ(0, md_new_array(&self->md));
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_configure(self->fd, self->disks, 2));
	md_close(&self->fd);
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", "clear"));
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

/*
 * The last instance is there when the next one is asked for, as no worker has
 * had a chance to delete it: the kernel waits for it, nobody else has to.
 */
TEST_F(md_stop, C6_made_again_at_once)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "the order is not forced on one CPU");
	start(_metadata, self);
	ASSERT_EQ(0, md_stop(self->fd));
	udev_settle();
	ASSERT_EQ(0, hog_start(&self->hog));
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(0, md_new_array(&self->md));
	hog_stop(&self->hog);
}

TEST_F(md_stop, B3_forgotten_fd_does_not_keep_the_name)
{
	long long old;

	start(_metadata, self);
	old = md_diskseq(&self->md);
	self->fd2 = self->fd;
	self->fd = -1;
	ASSERT_EQ(0, md_stop(self->fd2));

	/* The stopped instance is still open. */
	start(_metadata, self);
	EXPECT_LT(old, md_diskseq(&self->md));
	md_close(&self->fd2);
	EXPECT_STREQ("node sysfs number mdstat ", md_left(&self->md));
	EXPECT_EQ(0, md_stop(self->fd));
}

TEST_F(md_stop, B8_one_add_and_one_remove)
{
	char name[sizeof(self->md.name)];

	self->uevents = uevent_open();
	ASSERT_LE(0, self->uevents);
	snprintf(name, sizeof(name), "%s", self->md.name);
	start(_metadata, self);
	EXPECT_EQ(1, uevent_count(self->uevents, &self->disks[0], name, "add"));
	ASSERT_EQ(0, md_stop(self->fd));
	md_close(&self->fd);
	ASSERT_EQ(0, uevent_wait(self->uevents, name, "remove"));
	ASSERT_STREQ("", md_left_in_the_end(&self->md));
	EXPECT_EQ(0, uevent_count(self->uevents, &self->disks[0], name, "remove"));
	EXPECT_EQ(0, uevent_count(self->uevents, &self->disks[0], name, "add"));
}

/* udev would open it again for a change of a disk that is about to go. */
TEST_F(md_stop, B8_no_change_when_a_read_only_one_is_stopped)
{
	char name[sizeof(self->md.name)];

	self->uevents = uevent_open();
	ASSERT_LE(0, self->uevents);
	snprintf(name, sizeof(name), "%s", self->md.name);
	start(_metadata, self);
	ASSERT_EQ(0, md_ioctl(self->fd, STOP_ARRAY_RO, NULL));
	EXPECT_EQ(1, uevent_count_with(self->uevents, &self->disks[0], name,
				       "change", "DISK_RO=1"));
	ASSERT_EQ(0, md_stop_when_unused(self->fd));
	md_close(&self->fd);
	ASSERT_STREQ("", md_left_in_the_end(&self->md));
	EXPECT_EQ(0, uevent_count_with(self->uevents, &self->disks[0], name,
				       "change", "DISK_RO=0"));
}

/* --- trace events --- */

struct seen {
	char dev[24];
	char text[256];
};

/* What comes behind number and name, which are those of one device. */
static void note_event(void *arg, pid_t tid, const char *fields)
{
	struct seen *seen = arg;
	size_t len = strlen(seen->text);
	const char *what = strstr(fields, "old=");

	if (what && !strncmp(fields, seen->dev, strlen(seen->dev)))
		snprintf(seen->text + len, sizeof(seen->text) - len, "%s;", what);
}

TEST_F(md_stop, B18_life_is_traced)
{
	static const char states[] =
		"old=none new=nascent reason=new_array;old=nascent new=live reason=ready;"
		"old=live new=dying reason=stop;old=dying new=gone reason=deleted;"
		"old=gone new=none reason=freed;";
	static const char holds[] =
		"old=none new=until_stop reason=new_array;"
		"old=until_stop new=none reason=stop;";
	uint64_t end = now_ms() + DEADLINE_MS;
	struct events life, hold;
	struct seen seen = {};

	if (events_start(&life, "md/md_life") || events_start(&hold, "md/md_hold"))
		SKIP(return, "no trace events");
	start(_metadata, self);
	ASSERT_EQ(0, file_read(seen.dev, sizeof(seen.dev) - 1, "/sys/block/%s/dev",
			       self->md.name));
	*strchrnul(seen.dev, ':') = ',';
	strcat(seen.dev, " ");
	ASSERT_EQ(0, md_stop_when_unused(self->fd));
	md_close(&self->fd);

	/* Who has the memory a little longer is nobody's concern. */
	do {
		EXPECT_LE(0, events_read(&life, note_event, &seen));
	} while (!strstr(seen.text, "freed") && now_ms() < end);
	EXPECT_STREQ(states, seen.text);
	memset(seen.text, 0, sizeof(seen.text));
	EXPECT_LE(0, events_read(&hold, note_event, &seen));
	EXPECT_STREQ(holds, seen.text);
	events_stop(&life);
	events_stop(&hold);
}

TEST_HARNESS_MAIN
