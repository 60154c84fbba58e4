// SPDX-License-Identifier: GPL-2.0
/*
 * What a load or a swap leaves behind that fails somewhere on its way: as many
 * loads as there are allocations in one, with another of them failing in each.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "fault.h"
#include "stall.h"
#include "trace.h"

#define SECTORS_PER_MIB	2048
#define DISK_MIB	8
#define TOO_LONG	(1024 * SECTORS_PER_MIB)
#define BLOCK		4096
#define ANY		(-1)

/* Something to find on a disk, another thing in each of its blocks. */
static void fill(char *block, unsigned int nr)
{
	memset(block, 'a' + nr % 26, BLOCK);
	snprintf(block, BLOCK, "block %u", nr);
}

static int disk_fill(const struct disk *disk)
{
	unsigned int nr, end = DISK_MIB * 1024 * 1024 / BLOCK;
	int fd = open(disk->path, O_WRONLY | O_CLOEXEC), ret = 0;
	char block[BLOCK];

	if (fd < 0)
		return -errno;
	for (nr = 0; nr < end && !ret; nr++) {
		fill(block, nr);
		if (write(fd, block, BLOCK) != BLOCK)
			ret = -EIO;
	}
	if (!ret && fsync(fd))
		ret = -errno;
	close(fd);
	return ret;
}

/* Does the device read as block @nr, or ANY, of its disk at @at? */
static int read_block(const struct dm_dev *dm, unsigned int at, int nr)
{
	char block[BLOCK], want[BLOCK];
	int fd = dm_open(dm, O_RDONLY), ret = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	n = pread(fd, block, BLOCK, (off_t)at * BLOCK);
	if (n < 0)
		ret = -errno;
	else if (n != BLOCK)
		ret = -ENODATA;
	close(fd);
	fill(want, nr);
	if (!ret && nr != ANY && memcmp(block, want, BLOCK))
		ret = -EILSEQ;
	return ret;
}

/* --- first loads --- */

FIXTURE(dm_load) {
	struct disk disk;
	bool data;
	struct dm_dev dm;
	struct probe add_disk;
	struct fault fault;
};

FIXTURE_VARIANT(dm_load) {
	bool rq;
};

FIXTURE_VARIANT_ADD(dm_load, bio_based) { .rq = false };
FIXTURE_VARIANT_ADD(dm_load, request_based) { .rq = true };

FIXTURE_SETUP(dm_load)
{
	const char *missing = dm_missing();

	if (!missing && !dm_has_target("multipath"))
		missing = "no multipath target";
	if (missing)
		SKIP(return, "%s", missing);
	udev_hold_queue();
	self->data = disk_data_for_requests();
	ASSERT_EQ(0, disk_create(&self->disk, DISK_MIB, self->data));
	ASSERT_EQ(0, disk_fill(&self->disk));
}

FIXTURE_TEARDOWN(dm_load)
{
	fault_end(&self->fault);
	probe_stop(&self->add_disk);
	if (self->dm.name[0])
		dm_remove_when_unused(&self->dm);
	disk_destroy(&self->disk);
	udev_resume();
}

static int load_kind(struct _test_data_dm_load *self, bool rq)
{
	struct dm_row row = rq ? dm_multipath(&self->disk, SECTORS_PER_MIB) :
				 dm_linear(&self->disk, SECTORS_PER_MIB);

	return dm_load(&self->dm, &row, 1);
}

static int load_too_long(struct _test_data_dm_load *self, bool rq)
{
	struct dm_row row = rq ? dm_multipath(&self->disk, TOO_LONG) :
				 dm_linear(&self->disk, TOO_LONG);

	return dm_load(&self->dm, &row, 1);
}

/* What is wrong with a device whose table, of this kind, has been loaded? */
static const char *wrong_with(struct _test_data_dm_load *self, bool rq)
{
	static char text[64];
	int ret;

	/* With I/O a bio-based table on such a queue is the end of the machine. */
	if (path_exists("/sys/block/dm-%u/mq", self->dm.minor) != rq)
		return rq ? "no request queue" : "a request queue";
	if (!path_exists("/sys/block/dm-%u/dm/name", self->dm.minor))
		return "no directory dm";
	if (!path_exists("/sys/block/dm-%u/slaves/%s", self->dm.minor, self->disk.name))
		return "no link in slaves";
	if (!path_exists("/sys/block/%s/holders/dm-%u", self->disk.name, self->dm.minor))
		return "no link in holders";
	ret = dm_resume(&self->dm);
	if (!ret)
		ret = read_block(&self->dm, 3, self->data ? 3 : ANY);
	if (!ret)
		return NULL;
	snprintf(text, sizeof(text), "resume or read: %s", strerror(-ret));
	return text;
}

/* A refused table leaves no trace, and the next one may be of the other kind. */
TEST_F(dm_load, B19_other_kind_after_a_refused_table)
{
	ASSERT_EQ(0, dm_create(&self->dm, "load"));
	ASSERT_EQ(-EINVAL, load_too_long(self, variant->rq));
	EXPECT_FALSE(path_exists("/sys/block/dm-%u", self->dm.minor));
	ASSERT_EQ(0, load_kind(self, !variant->rq));
	ASSERT_EQ(NULL, wrong_with(self, !variant->rq));
}

/* Memory that nobody uses, in KiB; the page cache may have what it likes. */
static long long free_kib(void)
{
	long long sum = 0, val;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "MemFree: %lld", &val) == 1 ||
		    sscanf(line, "Buffers: %lld", &val) == 1 ||
		    sscanf(line, "Cached: %lld", &val) == 1)
			sum += val;
	fclose(f);
	return sum;
}

#define FAILING_LOADS	100
/* 7.3 loses 800 in each, until the device is removed and after. */
#define MAX_KIB		80

TEST_F_TIMEOUT(dm_load, B19_failing_loads_keep_no_memory, 300)
{
	long long before;
	int i;

	ASSERT_EQ(0, dm_create(&self->dm, "load"));
	for (i = 0; i < 10; i++)
		ASSERT_EQ(-EINVAL, load_too_long(self, variant->rq));
	before = free_kib();
	ASSERT_LT(0, before);
	for (i = 0; i < FAILING_LOADS; i++)
		ASSERT_EQ(-EINVAL, load_too_long(self, variant->rq));
	before -= free_kib();
	TH_LOG("%lld KiB after %d loads", before, FAILING_LOADS);
	EXPECT_GT(MAX_KIB * FAILING_LOADS, before);
}

static void fault_begin(struct __test_metadata *_metadata,
			struct _test_data_dm_load *self)
{
	ASSERT_EQ(0, probe_start(&self->add_disk, "device_add_disk"));
	ASSERT_EQ(0, fault_start(&self->fault, FAULT_MEMORY));
}

/* A first load in which allocation @nr fails. @hit: there was such a one. */
static int load_failing(struct _test_data_dm_load *self, bool rq,
			unsigned int nr, bool *hit)
{
	struct dm_row row = rq ? dm_multipath(&self->disk, SECTORS_PER_MIB) :
				 dm_linear(&self->disk, SECTORS_PER_MIB);
	int ret, failed;

	ret = fault_arm(&self->fault, nr);
	if (ret)
		return ret;
	ret = dm_load(&self->dm, &row, 1);
	failed = fault_disarm(&self->fault);
	*hit = failed == 1;
	return failed < 0 ? failed : ret;
}

struct walk {
	unsigned int points;	/* allocations that failed */
	unsigned int tolerated;	/* and the load did not */
	unsigned int new;	/* and the device was as new */
	unsigned int visible;	/* and the device was there, without a table */
	unsigned int lost;	/* and the device could only be removed */
};

/*
 * One life, with a failing first load and another one: of the other kind if
 * @other and the disk was not yet to be added. NULL, or what is wrong. Whatever
 * could be the end of the machine is looked for first.
 */
static const char *failing_life(struct _test_data_dm_load *self, bool rq,
				bool other, unsigned int nr, struct walk *walk)
{
	const char *wrong = NULL;
	bool hit, added, again, visible, sent, next = rq;
	int ret;

	if (dm_create(&self->dm, "load"))
		return "cannot create it";
	ret = load_failing(self, rq, nr, &hit);
	if (hit)
		walk->points++;
	added = probe_hits(&self->add_disk) > 0;
	visible = path_exists("/sys/block/dm-%u", self->dm.minor);
	if (!ret) {
		walk->tolerated += hit;
		wrong = wrong_with(self, rq);
		goto remove;
	}
	if (!hit)
		return "fails with no allocation failing";

	if (other && !added)
		next = !rq;
	ret = load_kind(self, next);
	again = probe_hits(&self->add_disk) > 0;
	if (added && again)
		return "the disk is added twice";
	if (ret && ret != -ENOTRECOVERABLE)
		return "next load fails";
	if (ret) {
		walk->lost++;
		if (visible)
			wrong = "lost, and yet there";
		else if (load_kind(self, !next) != -ENOTRECOVERABLE)
			wrong = "lost, and yet takes another table";
	} else {
		walk->visible += visible;
		walk->new += !visible;
		wrong = wrong_with(self, next);
	}
remove:
	if (wrong)
		return wrong;
	if (dm_remove_cookie(&self->dm, 1, &sent))
		return "cannot remove it";
	/* libdm waits for what was sent, but udev does not know this device. */
	if (ret == -ENOTRECOVERABLE && sent)
		return "a uevent of a disk that never was there";
	if (*dm_left(&self->dm))
		return dm_left(&self->dm);
	self->dm.name[0] = '\0';
	return NULL;
}

static void walk_all(struct __test_metadata *_metadata,
		     struct _test_data_dm_load *self, bool rq, bool other)
{
	struct walk walk = { };
	const char *wrong;
	unsigned int nr;

	fault_begin(_metadata, self);
	for (nr = 1; walk.points == nr - 1; nr++) {
		wrong = failing_life(self, rq, other, nr, &walk);
		if (wrong)
			TH_LOG("allocation %u: %s", nr, wrong);
		ASSERT_EQ(NULL, wrong);
	}
	TH_LOG("%u allocations, %u tolerated; then new %u, visible %u, lost %u",
	       walk.points, walk.tolerated, walk.new, walk.visible, walk.lost);
	EXPECT_LT(50U, walk.points);
	/* Some allocations are those of add_disk(), some are later. */
	EXPECT_LT(0U, walk.new);
	EXPECT_LT(0U, walk.visible);
	EXPECT_LT(0U, walk.lost);
}

TEST_F_TIMEOUT(dm_load, B19_any_allocation_fails_then_the_other_kind, 900)
{
	const char *missing = fault_missing(FAULT_MEMORY);

	if (missing)
		SKIP(return, "%s", missing);
	walk_all(_metadata, self, variant->rq, true);
}

TEST_F_TIMEOUT(dm_load, B19_any_allocation_fails_then_the_same_kind, 900)
{
	const char *missing = fault_missing(FAULT_MEMORY);

	if (missing)
		SKIP(return, "%s", missing);
	/* Where this fails, another request-based load would be a crash. */
	ASSERT_EQ(0, dm_create(&self->dm, "load"));
	ASSERT_EQ(-EINVAL, load_too_long(self, true));
	ASSERT_EQ(0, load_kind(self, false));
	ASSERT_FALSE(path_exists("/sys/block/dm-%u/mq", self->dm.minor));
	ASSERT_EQ(0, dm_remove_when_unused(&self->dm));
	self->dm.name[0] = '\0';
	walk_all(_metadata, self, variant->rq, false);
}

#define WARM_UP		10
#define LOST_AMONG	20
#define LIVES		50
/* What else goes on is worth some hundred bytes a life at times. */
#define MAX_BYTES	1000

TEST_F_TIMEOUT(dm_load, B19_lost_devices_keep_no_memory, 900)
{
	const char *missing = fault_missing(FAULT_MEMORY), *wrong;
	struct walk walk = { };
	unsigned int nr = 1, i;
	long long before, kib;

	if (!missing && kernel_has("kasan_report"))
		missing = "KASAN keeps freed objects";
	if (!missing && slab_bytes(NULL) == -ENOENT)
		missing = "no slab statistics";
	if (missing)
		SKIP(return, "%s", missing);
	fault_begin(_metadata, self);
	/* Well among those that add_disk() makes: lives differ by a few allocations. */
	while (walk.lost < LOST_AMONG) {
		wrong = failing_life(self, variant->rq, true, nr++, &walk);
		if (wrong)
			TH_LOG("allocation %u: %s", nr - 1, wrong);
		ASSERT_EQ(NULL, wrong);
		ASSERT_EQ(nr - 1, walk.points);
	}
	for (i = 0; i < WARM_UP; i++)
		ASSERT_EQ(NULL, failing_life(self, variant->rq, true, nr - 1, &walk));
	walk.lost = 0;
	before = slab_bytes(NULL);
	kib = free_kib();
	for (i = 0; i < LIVES; i++)
		ASSERT_EQ(NULL, failing_life(self, variant->rq, true, nr - 1, &walk));
	EXPECT_LE((unsigned int)LIVES / 2, walk.lost);
	kib -= free_kib();
	before = slab_bytes(NULL) - before;
	TH_LOG("%lld bytes of slab, %lld KiB after %d lives", before, kib, LIVES);
	EXPECT_GT(MAX_BYTES * LIVES, before);
	EXPECT_GT(MAX_KIB * LIVES, kib);
}

/* --- swaps --- */

FIXTURE(dm_swap) {
	struct leg leg;
	struct disk disk;
	struct dm_dev dm;
	struct task reader, resumer;
	struct dm_row live, next, bad;
	int fd;
};

FIXTURE_SETUP(dm_swap)
{
	const char *missing = dm_missing() ?: task_missing();

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, leg_create(&self->leg, "leg", DISK_MIB));
	ASSERT_EQ(0, disk_create(&self->disk, DISK_MIB, false));
	self->live = dm_linear(&self->leg.disk, SECTORS_PER_MIB);
	self->next = dm_linear(&self->disk, SECTORS_PER_MIB);
	self->bad = dm_linear(&self->disk, TOO_LONG);
	ASSERT_EQ(0, dm_create(&self->dm, "swap"));
}

FIXTURE_TEARDOWN(dm_swap)
{
	leg_release(&self->leg);
	if (self->dm.name[0])
		dm_resume(&self->dm);
	task_end(&self->reader);
	task_end(&self->resumer);
	if (self->fd >= 0)
		close(self->fd);
	if (self->dm.name[0])
		dm_remove_when_unused(&self->dm);
	leg_destroy(&self->leg);
	disk_destroy(&self->disk);
	udev_resume();
}

static void make_live(struct __test_metadata *_metadata,
		      struct _test_data_dm_swap *self)
{
	ASSERT_EQ(0, dm_load(&self->dm, &self->live, 1));
	ASSERT_EQ(0, dm_resume(&self->dm));
	self->fd = dm_open(&self->dm, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, self->fd);
}

static bool suspended(struct __test_metadata *_metadata,
		      struct _test_data_dm_swap *self)
{
	uint32_t flags;

	ASSERT_EQ(0, dm_info(&self->dm, &flags, NULL));
	return flags & DM_SUSPEND_FLAG;
}

static void expect_table(struct __test_metadata *_metadata,
			 struct _test_data_dm_swap *self, bool inactive,
			 const struct dm_row *row)
{
	char table[160], want[160] = "";

	ASSERT_EQ(0, dm_table(&self->dm, inactive, table, sizeof(table)));
	if (row)
		snprintf(want, sizeof(want), "%s %s", row->type, row->params);
	EXPECT_STREQ(want, table);
}

static long resume(struct task *task, void *arg)
{
	struct _test_data_dm_swap *self = arg;

	return dm_resume(&self->dm);
}

TEST_F(dm_swap, B14_io_goes_on_after_a_failed_swap)
{
	make_live(_metadata, self);
	ASSERT_EQ(0, dm_load(&self->dm, &self->bad, 1));
	EXPECT_EQ(-EINVAL, dm_resume(&self->dm));
	ASSERT_EQ(0, task_start(&self->reader, "a read", task_read, &self->fd,
				self->fd));
	EXPECT_EQ(0, task_result(&self->reader));
	expect_table(_metadata, self, false, &self->live);
	EXPECT_FALSE(suspended(_metadata, self));

	/* And the next table can be had. */
	ASSERT_EQ(0, dm_load(&self->dm, &self->next, 1));
	ASSERT_EQ(0, dm_resume(&self->dm));
	expect_table(_metadata, self, false, &self->next);
}

/* What userspace has suspended it wants to stay so. */
TEST_F(dm_swap, B14_failed_swap_of_a_suspended_device)
{
	make_live(_metadata, self);
	ASSERT_EQ(0, dm_load(&self->dm, &self->bad, 1));
	ASSERT_EQ(0, dm_suspend(&self->dm));
	EXPECT_EQ(-EINVAL, dm_resume(&self->dm));
	EXPECT_TRUE(suspended(_metadata, self));
	EXPECT_EQ(0, dm_resume(&self->dm));
	EXPECT_FALSE(suspended(_metadata, self));
	expect_table(_metadata, self, false, &self->live);
}

/* The first load looks at the size, the next ones leave that to the swap. */
TEST_F(dm_swap, B14_failed_swap_without_a_live_table)
{
	ASSERT_EQ(0, dm_load(&self->dm, &self->live, 1));
	ASSERT_EQ(0, dm_load(&self->dm, &self->bad, 1));
	EXPECT_EQ(-EINVAL, dm_resume(&self->dm));
	EXPECT_FALSE(suspended(_metadata, self));
	expect_table(_metadata, self, false, NULL);
	expect_table(_metadata, self, true, NULL);

	ASSERT_EQ(0, dm_load(&self->dm, &self->next, 1));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_FALSE(suspended(_metadata, self));
	expect_table(_metadata, self, false, &self->next);
}

/* It waits for I/O that does not end, and is killed. */
TEST_F(dm_swap, B14_interrupted_suspend_keeps_both_tables)
{
	make_live(_metadata, self);
	ASSERT_EQ(0, dm_load(&self->dm, &self->next, 1));
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(0, task_start(&self->reader, "a read", task_read, &self->fd,
				self->fd));
	ASSERT_EQ(0, task_blocked(&self->reader));
	ASSERT_EQ(0, task_start(&self->resumer, "the swap", resume, self, -1));
	ASSERT_EQ(0, task_blocked(&self->resumer));
	ASSERT_EQ(0, task_kill(&self->resumer));
	EXPECT_FALSE(suspended(_metadata, self));
	expect_table(_metadata, self, false, &self->live);
	expect_table(_metadata, self, true, &self->next);

	leg_release(&self->leg);
	EXPECT_EQ(0, task_result(&self->reader));
	EXPECT_EQ(0, dm_resume(&self->dm));
	expect_table(_metadata, self, false, &self->next);
}

/* --- one device, asked for again with more access --- */

FIXTURE(dm_mode) {
	struct disk disks[2];
	struct dm_dev dm;
	int lost, missing;	/* readers of kernel messages */
};

FIXTURE_SETUP(dm_mode)
{
	const char *missing = dm_missing();

	self->lost = -1;
	self->missing = -1;
	if (!missing && !dm_has_target("snapshot"))
		missing = "no snapshot target";
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disks[0], DISK_MIB, true));
	ASSERT_EQ(0, disk_fill(&self->disks[0]));
	ASSERT_EQ(0, disk_create(&self->disks[1], DISK_MIB, true));
	self->lost = kmsg_open();
	self->missing = kmsg_open();
	ASSERT_LE(0, self->lost);
	ASSERT_LE(0, self->missing);
	ASSERT_EQ(0, dm_create(&self->dm, "mode"));
}

FIXTURE_TEARDOWN(dm_mode)
{
	if (self->dm.name[0])
		dm_remove_when_unused(&self->dm);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
	if (self->lost >= 0)
		close(self->lost);
	if (self->missing >= 0)
		close(self->missing);
	udev_resume();
}

/* Nobody has put a device that was not there any more, or has not put one. */
static void expect_no_device_lost(struct __test_metadata *_metadata,
				  struct _test_data_dm_mode *self)
{
	ASSERT_EQ(0, kmsg_count(self->lost, "not in table devices list"));
	ASSERT_EQ(0, kmsg_count(self->missing, "dm_put_device call missing"));
}

static void set_snapshot(struct dm_row *row, const struct disk *origin,
			 const struct disk *cow)
{
	row->len = SECTORS_PER_MIB;
	row->type = "snapshot";
	snprintf(row->params, sizeof(row->params), "%u:%u %u:%u N 16",
		 origin->major, origin->minor, cow->major, cow->minor);
}

/* Read only as the origin, and for writing, too, as the exception store. */
TEST_F(dm_mode, B20_device_opened_twice_by_one_target)
{
	struct dm_row row = { };

	set_snapshot(&row, &self->disks[0], &self->disks[0]);
	EXPECT_EQ(-EINVAL, dm_load(&self->dm, &row, 1));
	expect_no_device_lost(_metadata, self);
}

TEST_F(dm_mode, B20_later_target_wants_more_access)
{
	struct dm_row rows[3] = { };

	set_snapshot(&rows[0], &self->disks[0], &self->disks[1]);
	rows[1] = dm_linear(&self->disks[0], SECTORS_PER_MIB);
	rows[1].start = SECTORS_PER_MIB;
	rows[2] = rows[1];
	rows[2].start = 2 * SECTORS_PER_MIB;

	/* Unused, so that nothing goes by a pointer that is not good. */
	ASSERT_EQ(0, dm_load(&self->dm, rows, 3));
	EXPECT_EQ(2, dm_inactive_deps(&self->dm));
	ASSERT_EQ(0, dm_clear(&self->dm));
	expect_no_device_lost(_metadata, self);

	ASSERT_EQ(0, dm_load(&self->dm, rows, 3));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(0, read_block(&self->dm, 0, 0));
	EXPECT_EQ(0, read_block(&self->dm, 256 + 7, 7));
	EXPECT_EQ(0, read_block(&self->dm, 512 + 9, 9));

	/* The next table shares what is open with the one that is live. */
	rows[1].start = 0;
	ASSERT_EQ(0, dm_load(&self->dm, rows + 1, 1));
	EXPECT_EQ(0, read_block(&self->dm, 1, 1));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(0, read_block(&self->dm, 1, 1));
	ASSERT_EQ(0, dm_remove_when_unused(&self->dm));
	self->dm.name[0] = '\0';
	expect_no_device_lost(_metadata, self);
}

TEST_HARNESS_MAIN
