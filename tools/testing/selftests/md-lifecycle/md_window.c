// SPDX-License-Identifier: GPL-2.0
/*
 * Every way to open an array, in every window of its end: while a stop writes
 * back what is dirty and may still fail, when the instance is dying but can be
 * looked up, when it cannot but its node is there, when its node is gone. An
 * open that meets an instance that may be going waits for the outcome, and then
 * starts over, once; so it gets the instance that stays, a fresh one, or what an
 * open gets where there is nothing. It never gets the one that has gone.
 *
 * Each window is held open as long as the test wants it: see lib/stall.h.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/blkpg.h>
#include <linux/fs.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "stall.h"
#include "trace.h"

/* What waiting opens do; nothing else does it. */
#define RETRY_EVENT	"block/block_open_retry"
#define RETRY_FUNCTION	"disk_wait_closing"

/* Through what an open comes. */
enum way {
	NODE,		/* a node made by mknod, which stays */
	PATH,		/* the node of devtmpfs */
	NUMBER,		/* in the kernel: as the device of a dm table */
	MEMBER,		/* in the kernel, with locks of md: of another array */
	PARTITION,	/* a node of a partition, made by mknod */
	PARTITION_PATH,	/* the same, of devtmpfs */
};

/* All that the tests of this file share: an array, and one more. */
struct window {
	struct leg leg;
	struct disk disks[2], spare;
	struct dm_dev dm;
	struct md_dev md, host;
	char part_node[80];
	char old_create[8], old_mode[8];
	struct worker_stall workers;
	struct dev_stall dev;
	struct task stopper, opener, holder, adder;
	struct events retries;
	struct probe probe;
	long long old;		/* diskseq */
	ino_t old_ino;		/* of the directory in sysfs */
	int fd, host_fd;
	bool paused;
};

struct opener {
	enum way way;
	int flags;
};

static const struct md_shape mirror = { .level = 1 };
static const struct md_shape persistent = { .level = 1, .persistent = true };

static const char *window_missing(void)
{
	return md_missing("create_on_open") ?: dm_missing() ?: task_missing() ?:
	       worker_stall_missing();
}

static void window_init(struct window *w)
{
	w->fd = -1;
	w->host_fd = -1;
	w->retries.pipe = -1;
}

static int map_first_sectors(const struct dm_dev *dm, unsigned int major,
			     unsigned int minor)
{
	struct dm_row row = { .len = 8, .type = "linear" };

	snprintf(row.params, sizeof(row.params), "%u:%u 0", major, minor);
	return dm_load(dm, &row, 1);
}

static void window_setup(struct __test_metadata *_metadata, struct window *w)
{
	w->paused = true;
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", w->old_create,
				  sizeof(w->old_create)));
	ASSERT_EQ(0, disk_create(&w->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&w->disks[1], 8, false));
	ASSERT_EQ(0, disk_create(&w->spare, 8, false));
	ASSERT_EQ(0, leg_create(&w->leg, "leg", 8));
	ASSERT_EQ(0, leg_create(&w->dev.leg, "dev", 8));
	ASSERT_EQ(0, dm_create(&w->dm, "number"));
	/* The first table makes the disk, and its node: not in a window. */
	ASSERT_EQ(0, map_first_sectors(&w->dm, w->spare.major, w->spare.minor));
	ASSERT_EQ(0, dm_clear(&w->dm));
	ASSERT_EQ(0, md_pick(&w->md));
}

/* What an open with O_CREAT makes where it does not find the node. */
static void remove_file(const struct md_dev *md)
{
	struct stat st;
	char path[96];

	snprintf(path, sizeof(path), "/dev/%s", md->name);
	if (md->name[0] && !lstat(path, &st) && S_ISREG(st.st_mode))
		unlink(path);
}

static void window_teardown(struct window *w)
{
	leg_release(&w->leg);
	dev_stall_release(&w->dev);
	worker_stall_end(&w->workers);
	task_end(&w->holder);
	task_end(&w->adder);
	task_end(&w->stopper);
	task_end(&w->opener);
	if (w->dm.name[0]) {
		dm_clear(&w->dm);
		dm_remove_when_unused(&w->dm);
	}
	if (w->host_fd >= 0) {
		md_stop(w->host_fd);
		close(w->host_fd);
	}
	if (w->fd >= 0)
		close(w->fd);
	md_cleanup(&w->host);
	if (w->part_node[0])
		unlink(w->part_node);
	remove_file(&w->md);
	md_cleanup(&w->md);
	events_stop(&w->retries);
	probe_stop(&w->probe);
	dev_stall_end(&w->dev);
	leg_destroy(&w->leg);
	disk_destroy(&w->disks[0]);
	disk_destroy(&w->disks[1]);
	disk_destroy(&w->spare);
	if (w->old_mode[0])
		md_param_set("legacy_async_del_gendisk", w->old_mode, NULL, 0);
	if (w->old_create[0])
		md_param_set("create_on_open", w->old_create, NULL, 0);
	if (w->paused)
		udev_resume();
}

/* Unlike the diskseq this stays when an array loses its size. */
static ino_t md_ino(const struct md_dev *md)
{
	struct stat st;
	char path[96];

	snprintf(path, sizeof(path), "/sys/block/%s/", md->name);
	return stat(path, &st) ? 0 : st.st_ino;
}

static int partition(int fd, int op, int nr)
{
	struct blkpg_partition part = {
		.start = nr * 131072,
		.length = 65536,
		.pno = nr,
	};
	struct blkpg_ioctl_arg arg = {
		.op = op,
		.datalen = sizeof(part),
		.data = &part,
	};

	return ioctl(fd, BLKPG, &arg) < 0 ? -errno : 0;
}

/* Run the array, with a partition; and another that is not run yet, its host. */
static void start(struct __test_metadata *_metadata, struct window *w,
		  const struct md_shape *shape, const struct disk *second)
{
	struct disk members[2] = { w->disks[0], *second };
	mdu_array_info_t host = {
		.minor_version = 90, .level = 1, .raid_disks = 2, .nr_disks = 2,
		.not_persistent = 1, .state = 1 << MD_SB_CLEAN, .size = 64,
	};
	unsigned int major, minor;
	char buf[32];
	int nr;

	w->fd = md_start(&w->md, shape, members, 2);
	ASSERT_LE(0, w->fd);
	w->old = md_diskseq(&w->md);
	ASSERT_LT(0, w->old);
	w->old_ino = md_ino(&w->md);

	ASSERT_EQ(0, partition(w->fd, BLKPG_ADD_PARTITION, 1));
	ASSERT_EQ(0, file_read(buf, sizeof(buf), "/sys/class/block/%sp1/dev",
			       w->md.name));
	nr = sscanf(buf, "%u:%u", &major, &minor);
	ASSERT_EQ(2, nr);
	snprintf(w->part_node, sizeof(w->part_node), "%sp1", w->md.node);
	unlink(w->part_node);
	ASSERT_EQ(0, mknod(w->part_node, S_IFBLK | 0600, makedev(major, minor)));

	ASSERT_EQ(0, md_pick(&w->host));
	w->host_fd = md_open(&w->host, O_RDWR);
	ASSERT_LE(0, w->host_fd);
	ASSERT_EQ(0, md_ioctl(w->host_fd, SET_ARRAY_INFO, &host));

	/* Not there on kernels whose opens do not wait. */
	if (!w->retries.name[0])
		events_start(&w->retries, RETRY_EVENT);
}

/* --- openers --- */

struct opener_arg {
	struct window *w;
	struct opener how;
};

/* ADD_NEW_DISK to the host, which has its reconfig_mutex meanwhile. */
static int add_to_host(const struct window *w, unsigned int major,
		       unsigned int minor)
{
	mdu_disk_info_t info = {
		.number = 1, .raid_disk = 1, .major = major, .minor = minor,
		.state = 1 << MD_DISK_SYNC | 1 << MD_DISK_ACTIVE,
	};

	return md_ioctl(w->host_fd, ADD_NEW_DISK, &info);
}

static long open_it(struct task *task, void *p)
{
	struct opener_arg *arg = p;
	struct window *w = arg->w;
	char path[96];
	int fd;

	switch (arg->how.way) {
	case NUMBER:
		return map_first_sectors(&w->dm, MD_MAJOR, w->md.minor);
	case MEMBER:
		return add_to_host(w, MD_MAJOR, w->md.minor);
	case NODE:
		snprintf(path, sizeof(path), "%s", w->md.node);
		break;
	case PATH:
		snprintf(path, sizeof(path), "/dev/%s", w->md.name);
		break;
	case PARTITION:
		snprintf(path, sizeof(path), "%s", w->part_node);
		break;
	case PARTITION_PATH:
		snprintf(path, sizeof(path), "/dev/%sp1", w->md.name);
		break;
	}
	fd = open(path, arg->how.flags | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ioctl(fd, BLKGETDISKSEQ, &task->shared->out);
	return 0;
}

static int opener_start(struct window *w, struct opener how)
{
	struct opener_arg arg = { w, how };

	return task_start(&w->opener, "an opener", open_it, &arg, w->host_fd);
}

struct retries {
	pid_t opener;
	long long old;
	int all, gone;
};

static void count_retry(void *arg, pid_t tid, const char *fields)
{
	struct retries *retries = arg;

	if (tid != retries->opener)
		return;
	retries->all++;
	if (event_field(fields, "diskseq") == retries->old &&
	    event_field(fields, "gone") == 1)
		retries->gone++;
}

/* How often the opener has waited; -1 if that is not known. */
static struct retries retries_of(struct window *w)
{
	struct retries retries = { .opener = w->opener.pid, .old = w->old };

	if (events_read(&w->retries, count_retry, &retries) < 0) {
		retries.all = -1;
		retries.gone = -1;
	}
	return retries;
}

/* --- the stop, and what holds it up --- */

static long stop(struct task *task, void *arg)
{
	struct window *w = arg;

	return md_stop(w->fd);
}

static long stop_and_close(struct task *task, void *arg)
{
	struct window *w = arg;
	int ret = md_stop(w->fd);

	close(w->fd);
	return ret;
}

static long stop_beside_workers(struct task *task, void *arg)
{
	struct window *w = arg;

	return worker_stall_join(&w->workers) ?: stop_and_close(task, arg);
}

static long set_readonly(struct task *task, void *arg)
{
	struct window *w = arg;

	return md_ioctl(w->fd, STOP_ARRAY_RO, NULL);
}

static long set_inactive(struct task *task, void *arg)
{
	struct window *w = arg;

	return md_attr_write(&w->md, "array_state", "inactive");
}

/* Before the death: a stop that has to write what can not be written yet. */
static void stall_writeback(struct __test_metadata *_metadata, struct window *w,
			    long (*fn)(struct task *task, void *arg))
{
	static char block[4096];

	start(_metadata, w, &mirror, &w->leg.disk);
	ASSERT_EQ(0, leg_stall(&w->leg));
	ASSERT_EQ(4096, pwrite(w->fd, block, sizeof(block), 0));
	ASSERT_EQ(0, task_start(&w->stopper, "the stop", fn, w, w->fd));
	ASSERT_EQ(0, task_blocked_in(&w->stopper, "md_ioctl"));
}

static long add_by_sysfs(struct task *task, void *arg)
{
	struct window *w = arg;
	char dev[32];

	snprintf(dev, sizeof(dev), "%u:%u", w->leg.disk.major, w->leg.disk.minor);
	return md_attr_write(&w->md, "new_dev", dev);
}

/*
 * Before the death: somebody has the array's lock, as he reads the superblock of
 * a disk that does not answer. So the stop can fail, by a signal.
 */
static void stall_lock(struct __test_metadata *_metadata, struct window *w,
		       long (*fn)(struct task *task, void *arg), bool close_it)
{
	start(_metadata, w, &persistent, &w->disks[1]);
	ASSERT_EQ(0, leg_stall(&w->leg));
	ASSERT_EQ(0, task_start(&w->holder, "new_dev", add_by_sysfs, w, -1));
	ASSERT_EQ(0, task_blocked_in(&w->holder, "md_import_device"));
	if (close_it) {
		close(w->fd);
		w->fd = -1;
	}
	ASSERT_EQ(0, task_start(&w->stopper, "the stop", fn, w, w->fd));
	ASSERT_EQ(0, task_blocked(&w->stopper));
}

/* The stop is the task's: nobody else has the array open. */
static void leave_it_to(struct __test_metadata *_metadata, struct window *w,
			long (*fn)(struct task *task, void *arg))
{
	ASSERT_EQ(0, task_start(&w->stopper, "the stop", fn, w, w->fd));
	close(w->fd);
	w->fd = -1;
}

/* Dying, but whoever looks for the number still finds it: workers do not run. */
static void stall_deletion(struct __test_metadata *_metadata, struct window *w)
{
	static const char dying[] = "node sysfs number ";
	int ret;

	start(_metadata, w, &mirror, &w->leg.disk);
	ASSERT_EQ(0, worker_stall_start(&w->workers));
	leave_it_to(_metadata, w, stop_beside_workers);
	ret = task_blocked(&w->stopper);
	ASSERT_EQ(0, ret == -EALREADY ? task_result(&w->stopper) : ret);
	/* It may have been waiting for something on the way there. */
	ASSERT_STREQ(dying, md_left_until(&w->md, dying));
}

/* Whoever looks for the number finds nothing; the node is there for now. */
static void stall_node(struct __test_metadata *_metadata, struct window *w)
{
	start(_metadata, w, &mirror, &w->leg.disk);
	ASSERT_EQ(0, dev_stall_start(&w->dev));
	leave_it_to(_metadata, w, stop_and_close);
	ASSERT_NE(0, task_find("del_gendisk"));
	ASSERT_NE(0, task_find("device_del"));
	ASSERT_TRUE(path_exists("/dev/%s", w->md.name));
}

static long add_partition(struct task *task, void *arg)
{
	struct window *w = arg;

	return partition(w->fd, BLKPG_ADD_PARTITION, 2);
}

/*
 * Dying, and the deletion waits for the disk's lock, which somebody has until
 * /dev can be changed. Openers that have found the disk come after it.
 */
static void stall_disk_lock(struct __test_metadata *_metadata, struct window *w)
{
	/* Where there is a choice: delete in the stop. */
	md_param_set("legacy_async_del_gendisk", "N", w->old_mode,
		     sizeof(w->old_mode));
	start(_metadata, w, &mirror, &w->leg.disk);
	ASSERT_EQ(0, dev_stall_start(&w->dev));
	ASSERT_EQ(0, task_start(&w->adder, "BLKPG", add_partition, w, w->fd));
	ASSERT_EQ(0, task_blocked_in(&w->adder, "bdev_add_partition"));
	leave_it_to(_metadata, w, stop_and_close);
	ASSERT_NE(0, task_find("del_gendisk"));
}

/* --- all openers, in all windows --- */

FIXTURE(md_window) {
	struct window w;
};

/*
 * What an opener gets in the end, where the instance stays and where it goes (0
 * is then a fresh one); and whether it waits to know that.
 */
FIXTURE_VARIANT(md_window) {
	struct opener how;
	int stays, goes;
	bool waits;
};

FIXTURE_VARIANT_ADD(md_window, node) {
	.how = { NODE, O_RDWR }, .waits = true,
};

FIXTURE_VARIANT_ADD(md_window, path) {
	.how = { PATH, O_RDWR }, .goes = -ENOENT, .waits = true,
};

/* No regular file in the place of the node, which the repeated walk would make. */
FIXTURE_VARIANT_ADD(md_window, create) {
	.how = { PATH, O_WRONLY | O_CREAT }, .goes = -ENXIO, .waits = true,
};

/* dm asks for no more sectors than there are, but where there are none. */
FIXTURE_VARIANT_ADD(md_window, number) {
	.how = { NUMBER }, .waits = true,
};

/* Who has locks of md must not wait for md, nor make anything. */
FIXTURE_VARIANT_ADD(md_window, member) {
	.how = { MEMBER }, .stays = -EBUSY, .goes = -EBUSY,
};

FIXTURE_VARIANT_ADD(md_window, exclusive) {
	.how = { NODE, O_RDONLY | O_EXCL }, .waits = true,
};

FIXTURE_VARIANT_ADD(md_window, partition) {
	.how = { PARTITION, O_RDONLY }, .goes = -ENXIO, .waits = true,
};

FIXTURE_VARIANT_ADD(md_window, partition_path) {
	.how = { PARTITION_PATH, O_RDONLY }, .goes = -ENOENT, .waits = true,
};

/* Observers fail at once, and leave nothing. */
FIXTURE_VARIANT_ADD(md_window, nonblock) {
	.how = { NODE, O_RDONLY | O_NONBLOCK }, .stays = -ENXIO, .goes = -ENXIO,
};

FIXTURE_VARIANT_ADD(md_window, nonblock_path) {
	.how = { PATH, O_RDONLY | O_NONBLOCK }, .stays = -ENXIO, .goes = -ENXIO,
};

FIXTURE_VARIANT_ADD(md_window, o_path) {
	.how = { PATH, O_PATH },
};

FIXTURE_SETUP(md_window)
{
	const char *missing = window_missing();

	window_init(&self->w);
	if (missing)
		SKIP(return, "%s", missing);
	window_setup(_metadata, &self->w);
}

FIXTURE_TEARDOWN(md_window)
{
	window_teardown(&self->w);
}

/* Open it in the window; an opener that waits does so in the block layer. */
static void open_in_window(struct __test_metadata *_metadata,
			   struct _test_data_md_window *self,
			   const struct _fixture_variant_md_window *variant,
			   int at_once)
{
	struct window *w = &self->w;

	ASSERT_EQ(0, opener_start(w, variant->how));
	if (!variant->waits) {
		EXPECT_EQ(at_once, task_result(&w->opener));
		return;
	}
	EXPECT_EQ(0, task_blocked(&w->opener));
	EXPECT_FALSE(task_is_in(&w->opener, "md_probe"));
	EXPECT_FALSE(task_is_in(&w->opener, "md_alloc"));
	if (task_done(&w->opener))
		TH_LOG("the opener is back at once: %ld", task_result(&w->opener));
}

static void expect_same_instance(struct __test_metadata *_metadata,
				 struct _test_data_md_window *self,
				 const struct _fixture_variant_md_window *variant)
{
	struct window *w = &self->w;
	struct retries retries;

	EXPECT_EQ(variant->stays, task_result(&w->opener));
	EXPECT_EQ(w->old_ino, md_ino(&w->md));
	if (w->opener.shared->out)
		EXPECT_EQ(md_diskseq(&w->md), (long long)w->opener.shared->out);
	retries = retries_of(w);
	EXPECT_EQ(0, retries.gone);
	if (!variant->waits)
		EXPECT_EQ(0, retries.all);
	if (variant->how.way == MEMBER)
		EXPECT_EQ(0, add_to_host(w, w->spare.major, w->spare.minor));
}

static void expect_gone(struct __test_metadata *_metadata,
			struct _test_data_md_window *self,
			const struct _fixture_variant_md_window *variant)
{
	struct window *w = &self->w;
	struct retries retries;

	EXPECT_EQ(variant->goes, task_result(&w->opener));
	EXPECT_EQ(0, task_result(&w->stopper));
	if (w->opener.shared->out)
		EXPECT_LT(w->old, (long long)w->opener.shared->out);
	if (variant->how.way == NUMBER)
		EXPECT_LT(w->old, md_diskseq(&w->md));
	if (variant->how.way != NUMBER && (variant->goes || !variant->waits))
		EXPECT_STREQ("", md_left_in_the_end(&w->md));
	retries = retries_of(w);
	EXPECT_EQ(variant->waits ? 1 : 0, retries.gone);
	if (variant->how.way == MEMBER) {
		/* There is nothing now; and nothing has come over the host. */
		EXPECT_EQ(-ENXIO, add_to_host(w, MD_MAJOR, w->md.minor));
		EXPECT_STREQ("", md_left(&w->md));
		EXPECT_EQ(0, add_to_host(w, w->spare.major, w->spare.minor));
	}
}

TEST_F(md_window, C7_stop_in_progress)
{
	stall_writeback(_metadata, &self->w, stop_and_close);
	close(self->w.fd);
	self->w.fd = -1;
	open_in_window(_metadata, self, variant, variant->goes);
	leg_release(&self->w.leg);
	expect_gone(_metadata, self, variant);
}

TEST_F(md_window, C7_stop_for_read_only)
{
	stall_writeback(_metadata, &self->w, set_readonly);
	open_in_window(_metadata, self, variant, variant->stays);
	leg_release(&self->w.leg);
	EXPECT_EQ(0, task_result(&self->w.stopper));
	expect_same_instance(_metadata, self, variant);
}

TEST_F(md_window, C7_stop_that_is_killed)
{
	stall_lock(_metadata, &self->w, stop, false);
	open_in_window(_metadata, self, variant, variant->stays);
	EXPECT_EQ(0, task_kill(&self->w.stopper));
	expect_same_instance(_metadata, self, variant);
}

TEST_F(md_window, C7_stop_for_inactive)
{
	stall_lock(_metadata, &self->w, set_inactive, true);
	open_in_window(_metadata, self, variant, variant->stays);
	leg_release(&self->w.leg);
	EXPECT_EQ(0, task_result(&self->w.stopper));

	/* There are no partitions without a personality, and no size. */
	if (variant->how.way == NODE || variant->how.way == PATH)
		expect_same_instance(_metadata, self, variant);
	else
		EXPECT_NE(-ETIMEDOUT, task_result(&self->w.opener));
}

TEST_F(md_window, C7_dying)
{
	stall_deletion(_metadata, &self->w);
	open_in_window(_metadata, self, variant, variant->goes);
	worker_stall_end(&self->w.workers);
	expect_gone(_metadata, self, variant);
}

TEST_F(md_window, C7_behind_the_deletion)
{
	stall_disk_lock(_metadata, &self->w);
	ASSERT_EQ(0, opener_start(&self->w, variant->how));
	EXPECT_EQ(variant->how.flags & O_PATH ? -EALREADY : 0,
		  task_blocked(&self->w.opener));
	dev_stall_release(&self->w.dev);
	task_end(&self->w.adder);
	expect_gone(_metadata, self, variant);
}

TEST_F(md_window, C7_node_not_removed_yet)
{
	struct _fixture_variant_md_window wanted = *variant;

	/*
	 * The partition has gone before its node, and for good: a fresh array
	 * has no partitions. There is nothing to wait for.
	 */
	if (wanted.how.way == PARTITION || wanted.how.way == PARTITION_PATH) {
		wanted.goes = -ENXIO;
		wanted.waits = false;
	}
	stall_node(_metadata, &self->w);
	open_in_window(_metadata, self, &wanted, wanted.goes);
	dev_stall_release(&self->w.dev);
	expect_gone(_metadata, self, &wanted);
}

/* --- killing a waiting opener --- */

FIXTURE(md_window_kill) {
	struct window w;
};

FIXTURE_VARIANT(md_window_kill) {
	struct opener how;
};

FIXTURE_VARIANT_ADD(md_window_kill, node) { .how = { NODE, O_RDWR } };
FIXTURE_VARIANT_ADD(md_window_kill, number) { .how = { NUMBER } };

FIXTURE_SETUP(md_window_kill)
{
	const char *missing = window_missing();

	window_init(&self->w);
	if (missing)
		SKIP(return, "%s", missing);
	window_setup(_metadata, &self->w);
}

FIXTURE_TEARDOWN(md_window_kill)
{
	window_teardown(&self->w);
}

static void kill_opener(struct __test_metadata *_metadata, struct window *w,
			struct opener how)
{
	ASSERT_EQ(0, opener_start(w, how));
	ASSERT_EQ(0, task_blocked(&w->opener));
	EXPECT_EQ(0, task_kill(&w->opener));
}

TEST_F(md_window_kill, C7_stop_in_progress)
{
	stall_writeback(_metadata, &self->w, stop);
	kill_opener(_metadata, &self->w, variant->how);
	leg_release(&self->w.leg);
	EXPECT_EQ(0, task_result(&self->w.stopper));
}

TEST_F(md_window_kill, C7_dying)
{
	stall_deletion(_metadata, &self->w);
	kill_opener(_metadata, &self->w, variant->how);
	worker_stall_end(&self->w.workers);
	EXPECT_STREQ("", md_left_in_the_end(&self->w.md));
}

TEST_F(md_window_kill, C7_node_not_removed_yet)
{
	stall_node(_metadata, &self->w);
	kill_opener(_metadata, &self->w, variant->how);
	dev_stall_release(&self->w.dev);
	EXPECT_STREQ("", md_left_in_the_end(&self->w.md));
}

/* --- after the node has gone, and other single cases --- */

FIXTURE(md_window_end) {
	struct window w;
	int path_fd, fd;
};

FIXTURE_SETUP(md_window_end)
{
	const char *missing = window_missing();

	self->path_fd = -1;
	self->fd = -1;
	window_init(&self->w);
	if (missing)
		SKIP(return, "%s", missing);
	window_setup(_metadata, &self->w);
}

FIXTURE_TEARDOWN(md_window_end)
{
	if (self->path_fd >= 0)
		close(self->path_fd);
	if (self->fd >= 0)
		close(self->fd);
	window_teardown(&self->w);
}

static int open_again(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void stop_now(struct __test_metadata *_metadata, struct window *w)
{
	ASSERT_EQ(0, md_stop(w->fd));
	close(w->fd);
	w->fd = -1;
	ASSERT_STREQ("", md_left_in_the_end(&w->md));
}

/* A path that was walked before the end leads to nothing, and makes nothing. */
TEST_F(md_window_end, B2_stale_path)
{
	struct window *w = &self->w;
	char path[64];

	start(_metadata, w, &mirror, &w->leg.disk);
	snprintf(path, sizeof(path), "/dev/%s", w->md.name);
	self->path_fd = open(path, O_PATH | O_CLOEXEC);
	ASSERT_LE(0, self->path_fd);
	self->fd = open_again(self->path_fd, O_RDONLY);
	ASSERT_LE(0, self->fd);
	close(self->fd);
	stop_now(_metadata, w);

	self->fd = open_again(self->path_fd, O_RDONLY);
	EXPECT_EQ(-ESTALE, self->fd);
	self->fd = open(path, O_RDONLY | O_CLOEXEC);
	EXPECT_EQ(-1, self->fd);
	EXPECT_EQ(ENOENT, errno);
	EXPECT_STREQ("", md_left(&w->md));
}

/* Nor when it is walked again and there is a new instance: that is its own. */
TEST_F(md_window_end, B2_stale_path_to_a_new_instance)
{
	struct window *w = &self->w;
	char path[64];

	start(_metadata, w, &mirror, &w->leg.disk);
	snprintf(path, sizeof(path), "/dev/%s", w->md.name);
	self->path_fd = open(path, O_PATH | O_CLOEXEC);
	ASSERT_LE(0, self->path_fd);
	stop_now(_metadata, w);

	self->fd = md_open(&w->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_LT(w->old, md_diskseq(&w->md));
	EXPECT_EQ(0, md_stop(self->fd));
}

/* A node that was made by mknod and stays makes a fresh instance. */
TEST_F(md_window_end, C7_kept_path)
{
	struct window *w = &self->w;

	start(_metadata, w, &mirror, &w->leg.disk);
	self->path_fd = md_open(&w->md, O_PATH);
	ASSERT_LE(0, self->path_fd);
	stop_now(_metadata, w);

	self->fd = open_again(self->path_fd, O_RDONLY);
	ASSERT_LE(0, self->fd);
	EXPECT_LT(w->old, md_diskseq(&w->md));
}

/* Where opens make no devices, there is nothing to open when it has gone. */
TEST_F(md_window_end, B13_stop_in_progress)
{
	struct opener how = { NODE, O_RDWR };
	struct window *w = &self->w;

	stall_writeback(_metadata, w, stop);
	ASSERT_EQ(0, md_param_set("create_on_open", "N", NULL, 0));
	ASSERT_EQ(0, opener_start(w, how));
	EXPECT_EQ(0, task_blocked(&w->opener));
	leg_release(&w->leg);
	EXPECT_EQ(0, task_result(&w->stopper));
	EXPECT_EQ(-ENXIO, task_result(&w->opener));
	EXPECT_EQ(1, retries_of(w).gone);
	EXPECT_STREQ("", md_left(&w->md));
}

/* Somebody who waits for one array is no reason for others to wait. */
TEST_F(md_window_end, B11_open_of_another_number)
{
	struct opener how = { NODE, O_RDWR };
	struct window *w = &self->w;
	struct md_dev md = w->md;

	stall_deletion(_metadata, w);
	ASSERT_EQ(0, opener_start(w, how));
	EXPECT_EQ(0, task_blocked(&w->opener));

	/* The array under test is now another one. */
	ASSERT_EQ(0, md_pick(&w->md));
	ASSERT_EQ(0, task_start(&w->holder, "open of another number", open_it,
				&(struct opener_arg){ w, how }, -1));
	EXPECT_EQ(0, task_result(&w->holder));
	worker_stall_end(&w->workers);
	EXPECT_EQ(0, task_result(&w->opener));
	task_end(&w->holder);
	task_end(&w->opener);
	md_cleanup(&w->md);
	w->md = md;
}

static void count_all(void *arg, pid_t tid, const char *fields)
{
	int *count = arg;

	++*count;
}

/* Opens of other drivers' disks come and go as before. */
TEST_F(md_window_end, C7_only_md_opens_wait)
{
	struct window *w = &self->w;
	struct disk disk = {};
	int i, fd, count = 0;

	if (events_start(&w->retries, RETRY_EVENT) ||
	    probe_start(&w->probe, RETRY_FUNCTION))
		SKIP(return, "opens do not wait, or not in " RETRY_FUNCTION);
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, disk_create(&disk, 8, false));
		fd = open(disk.path, O_RDONLY | O_CLOEXEC);
		EXPECT_LE(0, fd);
		EXPECT_EQ(0, disk_power_off(&disk));
		/* Its node has gone; the disk is as dead as md's. */
		self->fd = open_again(fd, O_RDONLY);
		EXPECT_EQ(-ENXIO, self->fd);
		close(fd);
		disk_destroy(&disk);
		fd = dm_open(&w->leg.dm, O_RDONLY);
		EXPECT_LE(0, fd);
		close(fd);
		fd = open("/dev/loop0", O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			close(fd);
	}
	EXPECT_EQ(0, events_read(&w->retries, count_all, &count));
	EXPECT_EQ(0, count);
	EXPECT_EQ(0, probe_hits(&w->probe));

	/* The same, of an array: both can be counted. */
	stall_writeback(_metadata, w, stop);
	fd = md_open(&w->md, O_RDONLY | O_NONBLOCK);
	EXPECT_EQ(-ENXIO, fd);
	EXPECT_EQ(1, probe_hits(&w->probe));
	leg_release(&w->leg);
	EXPECT_EQ(0, task_result(&w->stopper));
}

TEST_HARNESS_MAIN
