// SPDX-License-Identifier: GPL-2.0
/*
 * Opens that meet a device on its way out, and what they leave behind; and
 * opens that must not make a device at all.
 */
#include <fcntl.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "task.h"

#define CYCLES		20
#define OBSERVERS	4

FIXTURE(md_open) {
	struct disk disks[2];
	struct md_dev md;
	struct observer observers[OBSERVERS];
	struct task creator;
	char old_mode[8], old_create[8];
	int fd, fd2;
};

FIXTURE_VARIANT(md_open) {
	const char *mode;
};

FIXTURE_VARIANT_ADD(md_open, async) { .mode = "Y" };
FIXTURE_VARIANT_ADD(md_open, sync) { .mode = "N" };

FIXTURE_SETUP(md_open)
{
	const char *missing = md_missing("legacy_async_del_gendisk");

	self->fd = -1;
	self->fd2 = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, false));
	ASSERT_EQ(0, md_param_set("legacy_async_del_gendisk", variant->mode,
				  self->old_mode, sizeof(self->old_mode)));
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", self->old_create,
				  sizeof(self->old_create)));
	ASSERT_EQ(0, md_pick(&self->md));
}

FIXTURE_TEARDOWN(md_open)
{
	int i;

	for (i = 0; i < OBSERVERS; i++)
		observer_stop(&self->observers[i]);
	if (self->fd >= 0)
		close(self->fd);
	if (self->fd2 >= 0)
		close(self->fd2);
	task_end(&self->creator);
	md_cleanup(&self->md);
	md_param_set("create_on_open", self->old_create, NULL, 0);
	md_param_set("legacy_async_del_gendisk", self->old_mode, NULL, 0);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
}

/*
 * The stopped instance cannot end, as it is still open: the open of the same
 * number comes while it is dying, and must get a new one.
 */
TEST_F(md_open, C7_open_after_stop_gets_a_new_instance)
{
	long long old;

	if (md_autoload_missing())
		SKIP(return, "%s", md_autoload_missing());
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_build(self->fd, self->disks, 2));
	udev_settle();
	old = md_diskseq(&self->md);
	ASSERT_EQ(0, md_stop(self->fd));

	self->fd2 = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd2);
	EXPECT_LT(old, md_diskseq(&self->md));
}

/* One life: how the creator's open went, and how the rest. */
static int open_build_stop(struct _test_data_md_open *self, int *rest)
{
	int fd;

	*rest = 0;
	fd = md_open(&self->md, O_RDWR);
	if (fd < 0)
		return fd;
	*rest = md_build(fd, self->disks, 2) ?: md_stop_when_unused(fd);
	close(fd);
	return 0;
}

/* All opens race with the creator's stops: his own and the observers'. */
TEST_F(md_open, C7_no_open_refused_over_many_lives)
{
	int i, ret, rest, refused = 0;

	if (md_autoload_missing())
		SKIP(return, "%s", md_autoload_missing());
	for (i = 0; i < OBSERVERS; i++)
		ASSERT_EQ(0, observer_start(&self->observers[i], self->md.node));
	for (i = 0; i < CYCLES; i++) {
		ret = open_build_stop(self, &rest);
		if (ret == -ENODEV || ret == -ENXIO)
			refused++;
		else
			EXPECT_EQ(0, ret);
		EXPECT_EQ(0, rest);
	}
	EXPECT_EQ(0, refused);
	for (i = 0; i < OBSERVERS; i++)
		EXPECT_EQ(0U, observer_refused(&self->observers[i]));
}

/* By a task that everybody who waits for something is before, on this CPU. */
static long open_node(struct task *task, void *arg)
{
	int ret = stay_on_cpu(0, 0, 1);

	return ret ?: md_open(arg, O_RDWR);
}

/*
 * Whoever has it open sees all of it. Before its creator has made its directory
 * it can be opened by who is woken by the "add" of the disk, and is so at once.
 */
TEST_F(md_open, B7_complete_when_opened)
{
	int events;

	if (md_autoload_missing())
		SKIP(return, "%s", md_autoload_missing());
	events = uevent_open();
	ASSERT_LE(0, events);
	if (stay_on_cpu(0, 0, 2))
		SKIP(return, "no real-time scheduling");
	ASSERT_EQ(0, task_start(&self->creator, "create", open_node, &self->md, -1));
	ASSERT_EQ(0, uevent_wait(events, self->md.name, "add"));
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	EXPECT_TRUE(path_exists("/sys/block/%s/md/array_state", self->md.name));
	EXPECT_LE(0, task_result(&self->creator));
	close(events);
}

/* Observers that open the number after the stop make a device: not for long. */
TEST_F(md_open, B2_nothing_left_by_observers)
{
	int i, rest;

	if (md_autoload_missing())
		SKIP(return, "%s", md_autoload_missing());
	for (i = 0; i < OBSERVERS; i++)
		ASSERT_EQ(0, observer_start(&self->observers[i], self->md.node));
	for (i = 0; i < CYCLES; i++) {
		open_build_stop(self, &rest);
		ASSERT_EQ(0, rest);
	}
	for (i = 0; i < OBSERVERS; i++)
		EXPECT_EQ(0, observer_wait(&self->observers[i]));
	/* One that is killed before its ioctl leaves what it has just opened (C3). */
	for (i = 0; i < OBSERVERS; i++)
		EXPECT_EQ(0, observer_finish(&self->observers[i]));
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_F(md_open, B13_no_device_by_open)
{
	ASSERT_EQ(0, md_param_set("create_on_open", "N", NULL, 0));
	EXPECT_EQ(-ENXIO, md_open(&self->md, O_RDWR));
	EXPECT_STREQ("", md_left(&self->md));
}

TEST_F(md_open, B13_life_by_name_only)
{
	int i;

	ASSERT_EQ(0, md_param_set("create_on_open", "N", NULL, 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, md_new_array(&self->md));
		self->fd = md_open(&self->md, O_RDWR);
		ASSERT_LE(0, self->fd);
		ASSERT_EQ(0, md_build(self->fd, self->disks, 2));
		udev_settle();
		ASSERT_EQ(0, md_stop(self->fd));
		md_close(&self->fd);
		ASSERT_STREQ("", md_left_in_the_end(&self->md));
		EXPECT_EQ(-ENXIO, md_open(&self->md, O_RDWR));
	}
}

TEST_HARNESS_MAIN
