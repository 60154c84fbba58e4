// SPDX-License-Identifier: GPL-2.0
/*
 * md as a module: whatever its devices are doing, it can be unloaded or is in
 * use, and when it has been unloaded nothing is left of it. See lib/module.h for
 * what "nothing" is.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "module.h"
#include "stall.h"

#define WARM_UP		3

static const struct md_shape mirror = { .level = 1 };

/* --- a device in each state, when its module goes --- */

FIXTURE(module_md) {
	struct leg leg;
	struct disk disks[2];
	struct md_dev md;
	struct dev_stall dev;
	struct task user, rmmod, opener;
	struct observer observers[2];
	struct inventory before;
	int fd;
};

static const char *module_md_missing(void)
{
	return module_missing("md_mod") ?: disk_missing() ?: dm_missing() ?:
	       task_missing();
}

FIXTURE_SETUP(module_md)
{
	const char *missing = module_md_missing();

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	udev_hold_queue();
	if (module_unload_md()) {
		udev_resume();
		SKIP(return, "md is in use");
	}
	ASSERT_EQ(0, module_load("md_mod"));
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, false));
	ASSERT_EQ(0, md_pick(&self->md));
}

FIXTURE_TEARDOWN(module_md)
{
	int i;

	leg_release(&self->leg);
	dev_stall_release(&self->dev);
	for (i = 0; i < 2; i++)
		observer_stop(&self->observers[i]);
	task_end(&self->rmmod);
	task_end(&self->user);
	task_end(&self->opener);
	if (self->fd >= 0)
		close(self->fd);
	md_cleanup(&self->md);
	dev_stall_end(&self->dev);
	leg_destroy(&self->leg);
	for (i = 0; i < 2; i++)
		disk_destroy(&self->disks[i]);
	inventory_drop(&self->before);
	udev_resume();
}

static int open_disk_exclusively(const struct disk *disk)
{
	return open_and_close(disk->path, O_RDWR | O_EXCL);
}

/* Nothing is left, the members are free, and the node makes a new device. */
static void expect_gone(struct __test_metadata *_metadata,
			struct _test_data_module_md *self)
{
	EXPECT_FALSE(module_loaded("md_mod"));
	EXPECT_FALSE(path_exists("/proc/mdstat"));
	EXPECT_STREQ("", md_left(&self->md));
	EXPECT_EQ(0, open_disk_exclusively(&self->disks[0]));
	EXPECT_EQ(0, open_disk_exclusively(&self->disks[1]));

	ASSERT_EQ(0, module_load("md_mod"));
	EXPECT_STREQ("", md_left(&self->md));
	self->fd = md_start(&self->md, &mirror, self->disks, 2);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ(0, md_stop(self->fd));
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(0, module_unload_md());
}

static int make_by_name(struct _test_data_module_md *self)
{
	return md_new_array(&self->md);
}

static int make_by_open(struct _test_data_module_md *self)
{
	int fd = md_open(&self->md, O_RDONLY);

	if (fd < 0)
		return fd;
	close(fd);
	return path_exists("/sys/block/%s", self->md.name) ? 0 : -ENOENT;
}

static int make_configured(struct _test_data_module_md *self)
{
	int fd = md_open(&self->md, O_RDWR), ret;

	if (fd < 0)
		return fd;
	ret = md_configure(fd, self->disks, 2);
	close(fd);
	return ret;
}

/* An array that does not run, with a member. */
static int make_inactive(struct _test_data_module_md *self)
{
	char dev[32];

	snprintf(dev, sizeof(dev), "%u:%u", self->disks[0].major, self->disks[0].minor);
	return md_new_array(&self->md) ?:
	       md_attr_write(&self->md, "metadata_version", "external:test") ?:
	       md_attr_write(&self->md, "new_dev", dev);
}

/* Stopped a moment ago: by a task that did not wait until it was gone. */
static int make_and_stop(struct _test_data_module_md *self)
{
	int fd = md_start(&self->md, &mirror, self->disks, 2), ret;

	if (fd < 0)
		return fd;
	ret = md_stop(fd);
	close(fd);
	return ret;
}

static int make_and_clear(struct _test_data_module_md *self)
{
	int fd = md_start(&self->md, &mirror, self->disks, 2);

	if (fd < 0)
		return fd;
	close(fd);
	return md_attr_write(&self->md, "array_state", "clear");
}

/* Deleted by its last close, after an ioctl. */
static int make_and_leave(struct _test_data_module_md *self)
{
	int fd = md_open(&self->md, O_RDONLY);

	if (fd < 0)
		return fd;
	md_touch(fd);
	close(fd);
	return 0;
}

static const struct way {
	const char *name;
	int (*make)(struct _test_data_module_md *self);
} ways[] = {
	{ "by name", make_by_name },
	{ "by open", make_by_open },
	{ "configured", make_configured },
	{ "inactive", make_inactive },
	{ "stopped", make_and_stop },
	{ "cleared", make_and_clear },
	{ "left", make_and_leave },
};

TEST_F(module_md, C8_unload_with_a_device)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		ASSERT_EQ(0, module_load("md_mod"));
		ASSERT_EQ(0, ways[i].make(self)) {
			TH_LOG("%s", ways[i].name);
		}
		/* The personality first, it uses md. */
		if (module_loaded("raid1"))
			EXPECT_EQ(0, module_unload("raid1"));
		EXPECT_EQ(0, module_unload("md_mod")) {
			TH_LOG("%s", ways[i].name);
		}
		expect_gone(_metadata, self);
	}
}

/* The node of an array that has been stopped keeps it, until it is closed. */
TEST_F(module_md, C8_array_and_node_keep_it)
{
	self->fd = md_start(&self->md, &mirror, self->disks, 2);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ(-EWOULDBLOCK, module_unload("raid1"));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("md_mod"));
	ASSERT_EQ(0, md_stop(self->fd));
	EXPECT_EQ(0, module_unload("raid1"));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("md_mod"));
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(0, module_unload("md_mod"));
	expect_gone(_metadata, self);
}

/* Files that do not belong to the module, though it is the module that answers. */
TEST_F(module_md, C8_open_files_do_not_keep_it)
{
	static const struct {
		const char *path;
		int flags;
		int dead;	/* what a read or write then gets */
	} files[] = {
		{ "/proc/mdstat", O_RDONLY, -EIO },
		{ "/proc/sys/dev/raid/speed_limit_max", O_RDWR, -ENOENT },
		{ MD_PARAM "create_on_open", O_RDWR, -ENODEV },
		{ MD_PARAM "new_array", O_WRONLY, -ENODEV },
		{ "/sys/block/%s/md/array_state", O_RDWR, -ENODEV },
		{ "/sys/block/%s/md/new_dev", O_WRONLY, -ENODEV },
		{ "/sys/block/%s/md/metadata_version", O_RDONLY, -ENODEV },
		{ "/sys/block/%s/size", O_RDONLY, -ENODEV },
	};
	int fds[ARRAY_SIZE(files)], node, round, ret;
	char path[96], buf[256];
	unsigned int i;

	ASSERT_EQ(0, md_new_array(&self->md));
	node = md_open(&self->md, O_PATH);
	ASSERT_LE(0, node);
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), files[i].path, self->md.name);
		fds[i] = open(path, files[i].flags | O_CLOEXEC);
		ASSERT_LE(0, fds[i]) {
			TH_LOG("%s: %m", path);
		}
		if (files[i].flags != O_WRONLY)
			ASSERT_LT(0, pread(fds[i], buf, sizeof(buf), 0));
	}
	EXPECT_EQ(0, module_unload("md_mod"));

	/* Nor are they about the next one. */
	for (round = 0; round < 2; round++) {
		for (i = 0; i < ARRAY_SIZE(files); i++) {
			errno = 0;
			if (files[i].flags == O_WRONLY)
				ret = pwrite(fds[i], "md_no", 5, 0);
			else
				ret = pread(fds[i], buf, sizeof(buf), 0);
			EXPECT_GT(0, ret);
			EXPECT_EQ(files[i].dead, -errno) {
				TH_LOG("%s", files[i].path);
			}
		}
		if (!round) {
			ASSERT_EQ(0, module_load("md_mod"));
			ASSERT_EQ(0, md_new_array(&self->md));
		}
	}
	EXPECT_EQ(0, module_unload("md_mod"));
	for (i = 0; i < ARRAY_SIZE(files); i++)
		close(fds[i]);
	close(node);
	expect_gone(_metadata, self);
}

static long unload(struct task *task, void *name)
{
	return module_unload(name);
}

static void start_unload(struct __test_metadata *_metadata,
			 struct _test_data_module_md *self)
{
	ASSERT_EQ(0, task_start(&self->rmmod, "rmmod", unload, "md_mod", -1));
	ASSERT_EQ(0, task_blocked(&self->rmmod));
}

static long open_node(struct task *task, void *arg)
{
	return open_and_close(arg, O_RDONLY);
}

/* Wait until there is no module that is being unloaded. */
static void expect_unloaded(struct __test_metadata *_metadata,
			    struct _test_data_module_md *self)
{
	EXPECT_EQ(0, task_result(&self->rmmod));
	task_end(&self->rmmod);
}

/*
 * The last close of a device that nobody needs leaves it to the workers, and so
 * does a stop that is killed while it waits for them. The open of another task
 * waits for the outcome, too, and then makes a device, or not.
 */
TEST_F(module_md, C8_unload_waits_for_a_deletion)
{
	int ret;

	ret = md_open(&self->md, O_RDONLY);
	ASSERT_LE(0, ret);
	self->fd = ret;
	md_touch(self->fd);
	ASSERT_EQ(0, dev_stall_start(&self->dev));
	close(self->fd);
	self->fd = -1;
	ASSERT_NE(0, task_find("del_gendisk"));
	ASSERT_EQ(0, task_start(&self->opener, "an opener", open_node, self->md.node, -1));
	ret = task_blocked(&self->opener);
	EXPECT_TRUE(ret == 0 || ret == -EALREADY);
	/* An opener of the dying device has not got as far as to the module. */
	start_unload(_metadata, self);
	EXPECT_FALSE(task_done(&self->rmmod));

	dev_stall_release(&self->dev);
	expect_unloaded(_metadata, self);
	ret = task_result(&self->opener);
	EXPECT_TRUE(ret == 0 || ret == -ENXIO) {
		TH_LOG("the opener: %d", ret);
	}
	EXPECT_EQ(0, module_unload_md());
	expect_gone(_metadata, self);
}

static long stop_and_exit(struct task *task, void *arg)
{
	return md_stop(*(int *)arg);
}

TEST_F(module_md, C8_unload_waits_for_a_stop_that_was_killed)
{
	self->fd = md_start(&self->md, &mirror, self->disks, 2);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dev_stall_start(&self->dev));
	ASSERT_EQ(0, task_start(&self->user, "the stop", stop_and_exit, &self->fd, self->fd));
	close(self->fd);
	self->fd = -1;
	ASSERT_EQ(0, task_blocked(&self->user));
	ASSERT_NE(0, task_find("del_gendisk"));
	ASSERT_EQ(0, task_kill(&self->user));
	ASSERT_EQ(0, module_unload("raid1"));
	start_unload(_metadata, self);

	dev_stall_release(&self->dev);
	expect_unloaded(_metadata, self);
	expect_gone(_metadata, self);
}

static long add_member(struct task *task, void *arg)
{
	struct _test_data_module_md *self = arg;
	char dev[32];

	snprintf(dev, sizeof(dev), "%u:%u", self->leg.disk.major, self->leg.disk.minor);
	return md_attr_write(&self->md, "new_dev", dev);
}

/* A write to an attribute that has the array's lock, waiting for a disk. */
TEST_F(module_md, C8_unload_waits_for_a_write_to_an_attribute)
{
	ASSERT_EQ(0, leg_create(&self->leg, "leg", 8));
	ASSERT_EQ(0, md_new_array(&self->md));
	ASSERT_EQ(0, md_attr_write(&self->md, "metadata_version", "0.90"));
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(0, task_start(&self->user, "new_dev", add_member, self, -1));
	ASSERT_EQ(0, task_blocked_in(&self->user, "md_import_device"));
	start_unload(_metadata, self);

	leg_release(&self->leg);
	EXPECT_NE(-ETIMEDOUT, task_result(&self->user));
	expect_unloaded(_metadata, self);
	expect_gone(_metadata, self);
}

/* --- who waits for events in /proc/mdstat, as mdadm --monitor does --- */

static long select_mdstat(struct task *task, void *arg)
{
	int fd = open("/proc/mdstat", O_RDONLY | O_CLOEXEC);
	char buf[256];
	fd_set fds;

	if (fd < 0)
		return -errno;
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	FD_ZERO(&fds);
	FD_SET(fd, &fds);
	return select(fd + 1, NULL, NULL, &fds, NULL) < 0 ? -errno : 0;
}

TEST_F(module_md, C8_unload_while_mdstat_is_polled)
{
	ASSERT_EQ(0, task_start(&self->user, "select", select_mdstat, NULL, -1));
	ASSERT_EQ(0, task_blocked(&self->user));
	ASSERT_EQ(0, task_start(&self->rmmod, "rmmod", unload, "md_mod", -1));
	expect_unloaded(_metadata, self);
	EXPECT_EQ(0, task_result(&self->user));
	expect_gone(_metadata, self);
}

/* An epoll is told, but stays until somebody closes it: nobody waits for that. */
TEST_F(module_md, C8_unload_while_mdstat_is_in_an_epoll)
{
	struct epoll_event event = { .events = EPOLLPRI };
	int epoll, mdstat;
	char buf[256];

	mdstat = open("/proc/mdstat", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, mdstat);
	while (read(mdstat, buf, sizeof(buf)) > 0)
		;
	epoll = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_LE(0, epoll);
	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, mdstat, &event));
	EXPECT_EQ(0, epoll_wait(epoll, &event, 1, 0));
	ASSERT_EQ(0, task_start(&self->rmmod, "rmmod", unload, "md_mod", -1));
	EXPECT_EQ(0, task_result(&self->rmmod));

	/* What it was told is gone, and so is what it would look at. */
	epoll_wait(epoll, &event, 1, 0);
	close(epoll);
	close(mdstat);
	expect_unloaded(_metadata, self);
	expect_gone(_metadata, self);
}

/* --- rounds --- */

static long read_files(struct task *task, void *arg)
{
	static const char * const paths[] = {
		"/proc/mdstat", "/proc/partitions", "/proc/diskstats",
		MD_PARAM "create_on_open", MD_PARAM "start_ro",
		"/proc/sys/dev/raid/speed_limit_max",
	};
	unsigned int i;
	char buf[4096];

	while (!task_done(task)) {
		for (i = 0; i < ARRAY_SIZE(paths); i++)
			if (!file_read(buf, sizeof(buf), "%s", paths[i]))
				task->shared->out++;
		usleep(500);
	}
	return 0;
}

/* Make arrays by name, look at them, and take some of them away. */
static long make_arrays(struct task *task, void *arg)
{
	static const char * const attrs[] = {
		"array_state", "level", "metadata_version", "sync_action",
	};
	char name[32], buf[256];
	unsigned int i, j;

	for (i = 0; !task_done(task); i++) {
		snprintf(name, sizeof(name), "md_module%u", i % 4);
		if (!file_write(name, MD_PARAM "new_array"))
			task->shared->out++;
		for (j = 0; j < ARRAY_SIZE(attrs); j++)
			file_read(buf, sizeof(buf), "/sys/block/%s/md/%s", name,
				  attrs[j]);
		if (i % 3)
			file_write("clear", "/sys/block/%s/md/array_state", name);
		usleep(500);
	}
	return 0;
}

/* One array of each kind that this kernel has. */
static void use(struct __test_metadata *_metadata, struct _test_data_module_md *self)
{
	static const int levels[] = { LEVEL_LINEAR, 0, 1, 10, 5 };
	unsigned int i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(levels); i++) {
		struct md_shape shape = { .level = levels[i], .persistent = i & 1 };

		fd = md_start(&self->md, &shape, self->disks, 2);
		if (fd == -EINVAL)
			continue;	/* not built */
		ASSERT_LE(0, fd) {
			TH_LOG("level %d", levels[i]);
		}
		ASSERT_EQ(0, md_stop_when_unused(fd));
		close(fd);
	}
}

static void life(struct __test_metadata *_metadata, struct _test_data_module_md *self,
		 int round)
{
	/* By name, or by whoever opens its node. */
	if (round & 1)
		ASSERT_EQ(0, module_load("md_mod"));
	use(_metadata, self);
	ASSERT_EQ(0, ways[round % ARRAY_SIZE(ways)].make(self));
	ASSERT_EQ(0, module_unload_md());
}

TEST_F_TIMEOUT(module_md, C8_nothing_left_after_rounds, 7200)
{
	int i, rounds = module_rounds();
	struct memory before;

	for (i = 0; i < WARM_UP; i++)
		life(_metadata, self, i);
	ASSERT_EQ(0, inventory_take(&self->before));
	before = memory_used();
	for (i = 0; i < rounds; i++) {
		life(_metadata, self, i);
		ASSERT_EQ(0, inventory_compare(&self->before)) {
			TH_LOG("after round %d", i);
		}
		if (i % 10 == 9)
			ksft_print_msg("%d rounds\n", i + 1);
	}
	if (!kernel_has("kasan_report"))	/* it keeps freed objects */
		EXPECT_FALSE(memory_grown(&before, rounds));
}

/*
 * Two who open nodes, and so load md and make devices; one who reads what can be
 * read; one who writes names. Meanwhile arrays are made, run, stopped, and md is
 * unloaded as soon as nobody has it.
 * The last one: udevd is busy for long with what it sees here.
 */
TEST_F_TIMEOUT(module_md, B24_unload_under_observers, 7200)
{
	struct md_dev other = {};
	int i, fd, rounds = module_rounds(), used = 0;
	uint64_t end;

	ASSERT_EQ(0, md_pick(&other));
	/* All that is loaded once and stays. */
	ASSERT_EQ(0, make_and_stop(self));
	ASSERT_EQ(0, module_unload_md());
	ASSERT_EQ(0, inventory_take(&self->before));

	ASSERT_EQ(0, observer_start_slow(&self->observers[0], self->md.node, 0));
	ASSERT_EQ(0, observer_start_slow(&self->observers[1], other.node, O_NONBLOCK));
	ASSERT_EQ(0, task_start(&self->user, "a reader", read_files, NULL, -1));
	ASSERT_EQ(0, task_start(&self->opener, "new_array", make_arrays, NULL, -1));
	for (i = 0; i < rounds; i++) {
		fd = md_start(&self->md, &mirror, self->disks, 2);
		if (fd >= 0) {
			used++;
			EXPECT_EQ(0, md_stop_when_unused(fd));
			close(fd);
		}
		end = now_ms() + 6 * DEADLINE_MS;
		while (module_unload("raid1"), module_unload("md_mod")) {
			ASSERT_GT(end, now_ms()) {
				TH_LOG("round %d: md is always in use", i);
			}
		}
		if (i % 10 == 9)
			ksft_print_msg("%d rounds\n", i + 1);
	}
	EXPECT_LT(0, used);
	ksft_print_msg("%d arrays in %d rounds; opened: %u %u, read: %llu, written: %llu\n",
		       used, rounds, self->observers[0].counts->rounds,
		       self->observers[1].counts->rounds, self->user.shared->out,
		       self->opener.shared->out);
	EXPECT_LT(0U, self->observers[0].counts->rounds);
	EXPECT_LT(0U, self->observers[1].counts->rounds);
	EXPECT_LT(0ULL, self->user.shared->out);
	EXPECT_LT(0ULL, self->opener.shared->out);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, observer_finish(&self->observers[i]));
		observer_stop(&self->observers[i]);
	}
	EXPECT_EQ(0, task_kill(&self->user));
	EXPECT_EQ(0, task_kill(&self->opener));
	unlink(other.node);

	EXPECT_EQ(0, module_unload_md());
	EXPECT_EQ(0, inventory_compare(&self->before));
}

TEST_HARNESS_MAIN
