// SPDX-License-Identifier: GPL-2.0
/* What userspace is told about the life of a mapped device, and what it waits for. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "stall.h"

#define SECTORS_PER_MIB	2048

/*
 * libdm's: flags for udev's rules in the upper half, here not to touch the
 * device, and the key of a semaphore in the lower.
 */
#define COOKIE		0x000f1234U
#define COOKIE_VARIABLE	"DM_COOKIE=987700"

FIXTURE(dm_uevent) {
	struct disk disk;
	struct dm_dev dm;
	struct dev_stall dev;
	struct leg leg;		/* of the origin of a snapshot */
	struct dm_dev origin;
	struct task loader, remover, reader, resumer;
	char name[16];
	int all, ours;		/* listeners */
	int fd;
};

FIXTURE_SETUP(dm_uevent)
{
	const char *missing = dm_missing();

	self->all = -1;
	self->ours = -1;
	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, disk_create(&self->disk, 8, false));
	self->all = uevent_open();
	self->ours = uevent_open();
	ASSERT_LE(0, self->all);
	ASSERT_LE(0, self->ours);
	ASSERT_EQ(0, dm_create(&self->dm, "uevent"));
	snprintf(self->name, sizeof(self->name), "dm-%u", self->dm.minor);
}

FIXTURE_TEARDOWN(dm_uevent)
{
	dev_stall_end(&self->dev);
	leg_release(&self->leg);
	task_end(&self->loader);
	task_end(&self->remover);
	task_end(&self->reader);
	task_end(&self->resumer);
	if (self->fd >= 0)
		close(self->fd);
	if (self->dm.name[0])
		dm_remove_when_unused(&self->dm);
	if (self->origin.name[0])
		dm_remove_when_unused(&self->origin);
	leg_destroy(&self->leg);
	disk_destroy(&self->disk);
	if (self->all >= 0)
		close(self->all);
	if (self->ours >= 0)
		close(self->ours);
}

static int load(struct _test_data_dm_uevent *self)
{
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = "linear" };

	snprintf(row.params, sizeof(row.params), "%u:%u 0", self->disk.major,
		 self->disk.minor);
	return dm_load(&self->dm, &row, 1);
}

/* Events of an action since the last call, or those that have our cookie. */
static int events(struct _test_data_dm_uevent *self, const char *action)
{
	return uevent_count(self->all, &self->disk, self->name, action);
}

static int events_with_cookie(struct _test_data_dm_uevent *self, const char *action)
{
	return uevent_count_with(self->ours, &self->disk, self->name, action,
				 COOKIE_VARIABLE);
}

static int remove_when_unused(struct _test_data_dm_uevent *self, bool *sent)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	int ret;

	do {
		ret = dm_remove_cookie(&self->dm, COOKIE, sent);
	} while (ret == -EBUSY && now_ms() < end);
	return ret;
}

TEST_F(dm_uevent, B8_one_remove_and_it_has_the_cookie)
{
	bool sent;

	ASSERT_EQ(0, load(self));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(1, events(self, "add"));
	ASSERT_EQ(0, remove_when_unused(self, &sent));
	EXPECT_TRUE(sent);
	EXPECT_EQ(1, events_with_cookie(self, "remove"));
	EXPECT_EQ(1, events(self, "remove"));
}

TEST_F(dm_uevent, B8_one_remove_of_a_deferred_one)
{
	int fd;

	ASSERT_EQ(0, load(self));
	ASSERT_EQ(0, dm_resume(&self->dm));
	fd = dm_open(&self->dm, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, dm_remove_deferred(&self->dm));
	close(fd);
	ASSERT_STREQ("", dm_left_in_the_end(&self->dm));
	EXPECT_EQ(1, events(self, "remove"));
}

/* Nothing to see of a device that never had a table. */
TEST_F(dm_uevent, B8_none_without_a_disk)
{
	bool sent;

	ASSERT_EQ(0, dm_remove_cookie(&self->dm, COOKIE, &sent));
	EXPECT_FALSE(sent);
	EXPECT_EQ(0, events(self, "remove"));
}

static long load_in_task(struct task *task, void *arg)
{
	return load(arg);
}

static long remove_in_task(struct task *task, void *arg)
{
	struct _test_data_dm_uevent *self = arg;
	bool sent;
	int ret;

	ret = dm_remove_cookie(&self->dm, COOKIE, &sent);
	task->shared->out = sent;
	return ret;
}

/* The first load, up to where the disk gets its node. */
static void load_up_to_the_node(struct __test_metadata *_metadata,
				struct _test_data_dm_uevent *self)
{
	const char *missing = task_missing();

	if (missing)
		SKIP(return, "%s", missing);
	udev_settle();
	ASSERT_EQ(0, dev_stall_start(&self->dev));
	ASSERT_EQ(0, task_start(&self->loader, "TABLE_LOAD", load_in_task, self, -1));
	ASSERT_EQ(0, task_blocked_in(&self->loader, "device_add"));
}

/* While the disk is being added nobody is told anything, so nobody may wait. */
TEST_F(dm_uevent, B8_renamed_while_the_disk_is_added)
{
	bool sent;

	load_up_to_the_node(_metadata, self);
	ASSERT_EQ(0, dm_rename_cookie(&self->dm, "renamed", COOKIE, &sent));
	EXPECT_EQ(0, events_with_cookie(self, "change"));
	EXPECT_FALSE(sent);

	dev_stall_release(&self->dev);
	EXPECT_EQ(0, task_result(&self->loader));
	EXPECT_EQ(1, events(self, "add"));
	EXPECT_EQ(0, dm_rename_cookie(&self->dm, "again", COOKIE, &sent));
	EXPECT_TRUE(sent);
	EXPECT_EQ(1, events_with_cookie(self, "change"));
}

TEST_F(dm_uevent, B8_removed_while_the_disk_is_added)
{
	uint64_t end = now_ms() + DEADLINE_MS;

	load_up_to_the_node(_metadata, self);
	ASSERT_EQ(0, task_start(&self->remover, "DEV_REMOVE", remove_in_task, self, -1));
	/* It waits for the load, having told userspace if it could. */
	while (!task_is_in(&self->remover, "dm_destroy"))
		ASSERT_GT(end, now_ms());

	dev_stall_release(&self->dev);
	EXPECT_EQ(-ENXIO, task_result(&self->loader));
	ASSERT_EQ(0, task_result(&self->remover));
	EXPECT_EQ(self->remover.shared->out,
		  (unsigned int)events_with_cookie(self, "remove"));
	EXPECT_EQ(1, events(self, "remove"));
	EXPECT_STREQ("", dm_left(&self->dm));
}

/* --- resumed while it is removed --- */

static long resume_in_task(struct task *task, void *arg)
{
	struct _test_data_dm_uevent *self = arg;
	bool sent;
	int ret;

	ret = dm_resume_cookie(&self->dm, COOKIE, &sent);
	task->shared->out = sent;
	return ret;
}

/* To resume, a snapshot suspends its origin: that waits for a read. */
static void resume_up_to_the_origin(struct __test_metadata *_metadata,
				    struct _test_data_dm_uevent *self)
{
	struct dm_row origin = { .len = SECTORS_PER_MIB, .type = "snapshot-origin" };
	struct dm_row snapshot = { .len = SECTORS_PER_MIB, .type = "snapshot" };

	ASSERT_EQ(0, leg_create(&self->leg, "leg", 8));
	snprintf(origin.params, sizeof(origin.params), "%u:%u",
		 self->leg.disk.major, self->leg.disk.minor);
	snprintf(snapshot.params, sizeof(snapshot.params), "%u:%u %u:%u N 16",
		 self->leg.disk.major, self->leg.disk.minor, self->disk.major,
		 self->disk.minor);
	ASSERT_EQ(0, dm_create(&self->origin, "origin"));
	ASSERT_EQ(0, dm_load(&self->origin, &origin, 1));
	ASSERT_EQ(0, dm_resume(&self->origin));
	ASSERT_EQ(0, dm_load(&self->dm, &snapshot, 1));
	udev_settle();
	self->fd = dm_open(&self->origin, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(0, task_start(&self->reader, "a read", task_read, &self->fd,
				self->fd));
	ASSERT_EQ(0, task_blocked(&self->reader));
	ASSERT_EQ(0, task_start(&self->resumer, "a resume", resume_in_task, self, -1));
	ASSERT_EQ(0, task_blocked_in(&self->resumer, "snapshot_resume"));
}

/* Nothing is sent after "remove", so nobody may wait for it. */
TEST_F(dm_uevent, B8_removed_while_it_is_resumed)
{
	const char *missing = task_missing();
	uint64_t end;

	if (!missing && !dm_has_target("snapshot"))
		missing = "no snapshot target";
	if (missing)
		SKIP(return, "%s", missing);
	resume_up_to_the_origin(_metadata, self);
	ASSERT_EQ(0, task_start(&self->remover, "DEV_REMOVE", remove_in_task, self, -1));
	end = now_ms() + DEADLINE_MS;
	/* It waits for the resume, having told userspace. */
	while (!task_is_in(&self->remover, "dm_destroy"))
		ASSERT_GT(end, now_ms());
	ASSERT_FALSE(task_done(&self->resumer));

	leg_release(&self->leg);
	EXPECT_EQ(0, task_result(&self->resumer));
	ASSERT_EQ(0, task_result(&self->remover));
	EXPECT_EQ(self->resumer.shared->out,
		  (unsigned int)events_with_cookie(self, "change"));
	EXPECT_EQ(1U, self->remover.shared->out);
	EXPECT_EQ(1, events(self, "remove"));
	EXPECT_STREQ("", dm_left(&self->dm));
}

/* --- with libdm and its udev rules --- */

static const char *udev_missing(void)
{
	if (!have_command("dmsetup"))
		return "no dmsetup";
	if (!path_exists("/run/udev/control"))
		return "no udevd";
	return run("cat /lib/udev/rules.d/*dm-notify.rules >/dev/null 2>&1") ?
	       "no udev rules of libdm" : NULL;
}

/* It returns when udev has seen the event, and leaves no cookie behind. */
TEST_F(dm_uevent, B8_dmsetup_remove_waits_for_udev)
{
	const char *missing = udev_missing(), *name = self->dm.name;

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, load(self));
	ASSERT_EQ(0, run("timeout 15 dmsetup resume %s", name));
	EXPECT_TRUE(path_exists("/dev/mapper/%s", name));
	udev_settle();
	EXPECT_EQ(0, run("timeout 15 dmsetup remove --retry %s", name));
	EXPECT_FALSE(path_exists("/dev/mapper/%s", name));
	EXPECT_EQ(1, events(self, "remove"));
	EXPECT_EQ(1, run("dmsetup udevcookies | grep -q ^0x"));
}

TEST_HARNESS_MAIN
