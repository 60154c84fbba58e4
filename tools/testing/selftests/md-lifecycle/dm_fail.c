// SPDX-License-Identifier: GPL-2.0
/*
 * Everything that can fail does so once: as many lives of a mapped device as an
 * operation has allocations, with another one failing in each. The operation
 * succeeds or says that it has failed; then what was there is still whole, and
 * the operation works when it is repeated, or the device is removed. Nothing is
 * left of any life. First loads are in dm_load.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"
#include "fault.h"

#define SECTORS_PER_MIB	2048
#define BLOCK		4096
#define DISKS		3
#define DEVICES		3

static struct {
	struct disk disks[DISKS];
	struct dm_dev dm[DEVICES];	/* most operations are on the first */
	int nr;				/* of devices in this life */
	bool multipath;
	bool lost;			/* the inactive table, by a failed swap */
	int fd;
	struct fault fault;
	int uevents;
	unsigned int untold;		/* lives with a uevent less */
} ctx;

FIXTURE(dm_fail) { int unused; };

FIXTURE_VARIANT(dm_fail) {
	bool multipath;
	struct fault_op op;
};

/* The first block of a disk says which one it is. */
static int mark(const struct disk *disk, int nr)
{
	char block[BLOCK] = { 'a' + nr };
	int fd, ret = 0;

	fd = open(disk->path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, block, BLOCK) != BLOCK || fsync(fd))
		ret = -EIO;
	close(fd);
	return ret;
}

FIXTURE_SETUP(dm_fail)
{
	const char *missing = dm_missing();
	int i;

	ctx.uevents = -1;
	ctx.fd = -1;
	ctx.multipath = variant->multipath;
	if (!missing && ctx.multipath && !dm_has_target("multipath"))
		missing = "no multipath target";
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	for (i = 0; i < DISKS; i++) {
		ASSERT_EQ(0, disk_create(&ctx.disks[i], 8,
					 !ctx.multipath || disk_data_for_requests()));
		ASSERT_EQ(0, mark(&ctx.disks[i], i));
	}
	ctx.uevents = uevent_open();
	ASSERT_LE(0, ctx.uevents);
}

FIXTURE_TEARDOWN(dm_fail)
{
	int i;

	fault_end(&ctx.fault);
	if (ctx.fd >= 0)
		close(ctx.fd);
	for (i = 0; i < DEVICES; i++)
		if (ctx.dm[i].name[0])
			dm_remove_when_unused(&ctx.dm[i]);
	if (ctx.uevents >= 0)
		close(ctx.uevents);
	for (i = 0; i < DISKS; i++)
		disk_destroy(&ctx.disks[i]);
	udev_resume();
}

/* A table on the disk @at, then one target on each of the others. */
static int load(int dev, int at)
{
	struct dm_row rows[DISKS];
	int i;

	for (i = 0; i < DISKS; i++) {
		const struct disk *disk = &ctx.disks[(at + i) % DISKS];

		rows[i] = ctx.multipath ? dm_multipath(disk, SECTORS_PER_MIB) :
					    dm_linear(disk, SECTORS_PER_MIB);
		rows[i].start = i * SECTORS_PER_MIB;
	}
	/* Request-based devices have one target. */
	return dm_load(&ctx.dm[dev], rows, ctx.multipath ? 1 : DISKS);
}

/* What is wrong if it is to work with a table on the disk @at? */
static const char *not_on(int dev, int at)
{
	char block[BLOCK] = "";
	uint32_t flags;
	ssize_t n;
	int fd, ret;

	ret = dm_info(&ctx.dm[dev], &flags, NULL);
	if (ret)
		return fault_text("status", ret);
	if (flags & DM_SUSPEND_FLAG)
		return "suspended";
	if (!(flags & DM_ACTIVE_PRESENT_FLAG))
		return "no table";
	fd = dm_open(&ctx.dm[dev], O_RDONLY);
	if (fd < 0)
		return fault_text("open", fd);
	n = read(fd, block, BLOCK);
	close(fd);
	if (n != BLOCK)
		return "cannot be read";
	if (ctx.multipath && !disk_data_for_requests())
		return NULL;
	return block[0] == 'a' + at ? NULL : "has another table";
}

static bool has(uint32_t flag)
{
	uint32_t flags;

	return !dm_info(&ctx.dm[0], &flags, NULL) && flags & flag;
}

/* --- create --- */

static int create(void)
{
	int ret = dm_create(&ctx.dm[0], "fail0");

	ctx.nr = ret ? 0 : 1;
	return ret;
}

static const char *not_created(void)
{
	struct dm_dev dm = {};
	int ret;

	snprintf(dm.name, sizeof(dm.name), "lc%d_fail0", getpid());
	ret = dm_info(&dm, NULL, NULL);
	return ret == -ENXIO ? NULL : fault_text("not there, but", ret);
}

static const char *usable(void)
{
	int ret = load(0, 0) ?: dm_resume(&ctx.dm[0]);

	return ret ? fault_text("load and resume", ret) : not_on(0, 0);
}

/* --- load another table --- */

static int prepare(void)
{
	ctx.lost = false;
	return create() ?: load(0, 0) ?: dm_resume(&ctx.dm[0]);
}

static int prepare_reloaded(void)
{
	return prepare() ?: load(0, 1);
}

static int load_second(void)
{
	return load(0, 1);
}

static int load_third(void)
{
	return load(0, 2);
}

static int clear(void)
{
	return dm_clear(&ctx.dm[0]);
}

static const char *on_first_only(void)
{
	return has(DM_INACTIVE_PRESENT_FLAG) ? "has an inactive table" :
						     not_on(0, 0);
}

/* Each of both tables works, the next one first, or the device could not go back. */
static const char *on_first_then_second(void)
{
	const char *wrong = not_on(0, 0);
	char table[160];
	struct dm_row want = ctx.multipath ?
		dm_multipath(&ctx.disks[1], SECTORS_PER_MIB) :
		dm_linear(&ctx.disks[1], SECTORS_PER_MIB);

	if (wrong)
		return wrong;
	if (dm_table(&ctx.dm[0], true, table, sizeof(table)) || !table[0])
		return "has lost its inactive table";
	return ctx.multipath || strstr(table, want.params) ? NULL :
							      "has another inactive table";
}

static const char *resumes_on_second(void)
{
	int ret = dm_resume(&ctx.dm[0]);

	return ret ? fault_text("resume", ret) : not_on(0, 1);
}

static const char *resumes_on_third(void)
{
	int ret = dm_resume(&ctx.dm[0]);

	return ret ? fault_text("resume", ret) : not_on(0, 2);
}

/* --- resume, suspend --- */

static int prepare_first(void)
{
	ctx.lost = false;
	return create() ?: load(0, 1);
}

static int prepare_suspended(void)
{
	return prepare() ?: dm_suspend(&ctx.dm[0]);
}

/* A table that could not be swapped in has been destroyed. */
static int resume(void)
{
	int ret = ctx.lost ? load(0, 1) : 0;

	ctx.lost = false;
	return ret ?: dm_resume(&ctx.dm[0]);
}

static int suspend(void)
{
	return dm_suspend(&ctx.dm[0]);
}

static const char *without_table(void)
{
	ctx.lost = !has(DM_INACTIVE_PRESENT_FLAG);
	return has(DM_ACTIVE_PRESENT_FLAG) ? "has a table" : NULL;
}

static const char *on_first(void)
{
	ctx.lost = !has(DM_INACTIVE_PRESENT_FLAG);
	return not_on(0, 0);
}

static const char *on_second(void)
{
	return not_on(0, 1);
}

static const char *is_suspended(void)
{
	return has(DM_SUSPEND_FLAG) ? NULL : "not suspended";
}

static const char *suspended_then_resumed(void)
{
	const char *wrong = is_suspended();
	int ret = dm_resume(&ctx.dm[0]);

	if (!wrong && ret)
		wrong = fault_text("resume", ret);
	return wrong ?: not_on(0, 0);
}

/* --- rename, remove --- */

static int rename_it(void)
{
	bool sent;

	return dm_rename_cookie(&ctx.dm[0], "fail_renamed", 0, &sent);
}

static const char *renamed(void)
{
	/* By the name it should have now; the other one is free. */
	return not_on(0, 0) ?: not_created();
}

static int remove_it(void)
{
	return dm_remove(&ctx.dm[0]);
}

static const char *all_gone(void)
{
	int i;

	for (i = 0; i < ctx.nr; i++) {
		if (*dm_left(&ctx.dm[i]))
			return dm_left(&ctx.dm[i]);
		if (dm_info(&ctx.dm[i], NULL, NULL) != -ENXIO)
			return "still has its name";
	}
	return NULL;
}

static int prepare_many(void)
{
	char suffix[16];
	int ret = prepare();

	for (; !ret && ctx.nr < DEVICES; ctx.nr += !ret) {
		snprintf(suffix, sizeof(suffix), "fail%d", ctx.nr);
		ret = dm_create(&ctx.dm[ctx.nr], suffix) ?:
		      load(ctx.nr, ctx.nr) ?:
		      dm_resume(&ctx.dm[ctx.nr]);
	}
	return ret;
}

static int remove_all(void)
{
	return dm_remove_all();
}

/* A worker removes it at the last close: this is about that worker. */
static int prepare_deferred(void)
{
	int ret = prepare();

	if (ret)
		return ret;
	ctx.fd = dm_open(&ctx.dm[0], O_RDONLY);
	if (ctx.fd < 0)
		return ctx.fd;
	return dm_remove_deferred(&ctx.dm[0]) ?: fault_workers(&ctx.fault);
}

static int close_it(void)
{
	close(ctx.fd);
	ctx.fd = -1;
	return *dm_left_in_the_end(&ctx.dm[0]) ? -EBUSY : 0;
}

/* Each is still there, or has gone. */
static const char *each_whole_or_gone(void)
{
	const char *wrong = NULL;
	int i;

	for (i = 0; i < ctx.nr && !wrong; i++)
		if (*dm_left(&ctx.dm[i]))
			wrong = not_on(i, i);
		else if (dm_info(&ctx.dm[i], NULL, NULL) != -ENXIO)
			wrong = "gone, but still has its name";
	return wrong;
}

/* --- */

/* Whatever there is, remove it: nothing may be left, and every disk be free. */
static const char *end(bool hit)
{
	unsigned int adds, removes;
	int i, ret;

	fault_task(&ctx.fault, getpid());
	for (i = 0; i < ctx.nr; i++) {
		ret = dm_remove_when_unused(&ctx.dm[i]);
		if (ret && ret != -ENXIO)
			return fault_text("remove", ret);
		if (*dm_left(&ctx.dm[i]))
			return dm_left(&ctx.dm[i]);
		ctx.dm[i].name[0] = '\0';
	}
	for (i = 0; i < DISKS; i++) {
		ret = open_and_close(ctx.disks[i].path, O_RDONLY | O_EXCL);
		if (ret)
			return fault_text("open of a disk that is to be free", ret);
	}
	/* Events need memory, too, and nobody looks whether they could be sent. */
	ret = uevent_lives(ctx.uevents, &ctx.disks[0], "dm-*", &adds, &removes);
	if (ret && (ret != -ENOBUFS || !hit))
		return fault_text("uevents", ret);
	ctx.untold += ret || adds != removes;
	if (!ret && (adds > removes + hit || removes > adds + hit))
		return "uevents of adding and removing do not match";
	return NULL;
}

#define OP(mp, before_, op_, whole_, done_) \
	{ \
		.multipath = mp, \
		.op = { before_, op_, whole_, done_, end }, \
	}

FIXTURE_VARIANT_ADD(dm_fail, create)
	OP(false, NULL, create, not_created, usable);
FIXTURE_VARIANT_ADD(dm_fail, reload)
	OP(false, prepare, load_second, on_first_only, resumes_on_second);
FIXTURE_VARIANT_ADD(dm_fail, reload_request_based)
	OP(true, prepare, load_second, on_first_only, resumes_on_second);
FIXTURE_VARIANT_ADD(dm_fail, reload_again)
	OP(false, prepare_reloaded, load_third, on_first_then_second, resumes_on_third);
FIXTURE_VARIANT_ADD(dm_fail, clear)
	OP(false, prepare_reloaded, clear, on_first_then_second, on_first_only);
FIXTURE_VARIANT_ADD(dm_fail, resume_first)
	OP(false, prepare_first, resume, without_table, on_second);
FIXTURE_VARIANT_ADD(dm_fail, resume_first_request_based)
	OP(true, prepare_first, resume, without_table, on_second);
FIXTURE_VARIANT_ADD(dm_fail, resume_swap)
	OP(false, prepare_reloaded, resume, on_first, on_second);
FIXTURE_VARIANT_ADD(dm_fail, resume_swap_request_based)
	OP(true, prepare_reloaded, resume, on_first, on_second);
FIXTURE_VARIANT_ADD(dm_fail, resume_suspended)
	OP(false, prepare_suspended, resume, is_suspended, on_first);
FIXTURE_VARIANT_ADD(dm_fail, suspend)
	OP(false, prepare, suspend, on_first, suspended_then_resumed);
FIXTURE_VARIANT_ADD(dm_fail, suspend_request_based)
	OP(true, prepare, suspend, on_first, suspended_then_resumed);
FIXTURE_VARIANT_ADD(dm_fail, rename)
	OP(false, prepare, rename_it, on_first, renamed);
FIXTURE_VARIANT_ADD(dm_fail, remove)
	OP(false, prepare_reloaded, remove_it, on_first_then_second, all_gone);
FIXTURE_VARIANT_ADD(dm_fail, remove_deferred)
	OP(false, prepare_deferred, close_it, all_gone, all_gone);
FIXTURE_VARIANT_ADD(dm_fail, remove_all)
	OP(false, prepare_many, remove_all, each_whole_or_gone, all_gone);

static void walk(struct __test_metadata *_metadata, const struct fault_op *op)
{
	struct fault_walk walk;
	const char *wrong;

	wrong = fault_lives(&ctx.fault, op, &walk);
	TH_LOG("%u points, %u of them hit: %u failed, %u tolerated; %u lost a uevent",
	       walk.points, walk.hit, walk.hit - walk.tolerated, walk.tolerated, ctx.untold);
	if (wrong)
		TH_LOG("%s", wrong);
	ASSERT_EQ(NULL, wrong);
	EXPECT_LT(0U, walk.hit);
}

TEST_F_TIMEOUT(dm_fail, B14_any_allocation_fails, 600)
{
	const char *missing = fault_missing(FAULT_MEMORY);

	if (missing)
		SKIP(return, "%s", missing);
	if (variant->op.op == remove_all && path_exists("/sys/block/dm-0"))
		SKIP(return, "there are other mapped devices");
	ASSERT_EQ(0, fault_start(&ctx.fault, FAULT_MEMORY));
	walk(_metadata, &variant->op);
}

/* --- the third of five devices cannot be opened --- */

#define PATHS	5
#define THIRD	2

/* Why it cannot. */
enum bad {
	MISSING,	/* there is none of that number */
	HELD,		/* somebody else has claimed it */
	REMOVED,	/* it was pulled out, and is still open */
};

FIXTURE(dm_fail_path) {
	struct disk disks[PATHS], live;
	struct dm_dev dm;
	int fd;
};

FIXTURE_VARIANT(dm_fail_path) {
	bool multipath;
	enum bad bad;
	int want;
};

FIXTURE_VARIANT_ADD(dm_fail_path, linear_missing) {
	.bad = MISSING, .want = -ENXIO,
};

FIXTURE_VARIANT_ADD(dm_fail_path, linear_held) {
	.bad = HELD, .want = -EBUSY,
};

FIXTURE_VARIANT_ADD(dm_fail_path, linear_removed) {
	.bad = REMOVED, .want = -ENXIO,
};

FIXTURE_VARIANT_ADD(dm_fail_path, multipath_missing) {
	.multipath = true, .bad = MISSING, .want = -ENXIO,
};

FIXTURE_VARIANT_ADD(dm_fail_path, multipath_held) {
	.multipath = true, .bad = HELD, .want = -EBUSY,
};

FIXTURE_VARIANT_ADD(dm_fail_path, multipath_removed) {
	.multipath = true, .bad = REMOVED, .want = -ENXIO,
};

FIXTURE_SETUP(dm_fail_path)
{
	const char *missing = dm_missing();
	int i;

	self->fd = -1;
	if (!missing && variant->multipath && !dm_has_target("multipath"))
		missing = "no multipath target";
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	for (i = 0; i < PATHS; i++)
		ASSERT_EQ(0, disk_create(&self->disks[i], 8, false));
	ASSERT_EQ(0, disk_create(&self->live, 8, false));
	ASSERT_EQ(0, dm_create(&self->dm, "path"));
}

FIXTURE_TEARDOWN(dm_fail_path)
{
	int i;

	if (self->dm.name[0])
		dm_remove_when_unused(&self->dm);
	if (self->fd >= 0)
		close(self->fd);
	for (i = 0; i < PATHS; i++)
		disk_destroy(&self->disks[i]);
	disk_destroy(&self->live);
	udev_resume();
}

static void make_bad(struct __test_metadata *_metadata,
		     struct _test_data_dm_fail_path *self, enum bad bad)
{
	struct disk *disk = &self->disks[THIRD];

	if (bad == MISSING) {
		/* What stays is its number. */
		disk_destroy(disk);
		return;
	}
	self->fd = open(disk->path, O_RDONLY | O_CLOEXEC | (bad == HELD ? O_EXCL : 0));
	ASSERT_LE(0, self->fd);
	if (bad == REMOVED)
		ASSERT_EQ(0, disk_power_off(disk));
}

static void make_good(struct __test_metadata *_metadata,
		      struct _test_data_dm_fail_path *self)
{
	struct disk *disk = &self->disks[THIRD];

	if (self->fd >= 0)
		close(self->fd);
	self->fd = -1;
	disk_destroy(disk);
	ASSERT_EQ(0, disk_create(disk, 8, false));
}

static int load_five(struct _test_data_dm_fail_path *self, bool multipath)
{
	struct dm_row rows[PATHS];
	size_t len;
	int i;

	for (i = 0; i < PATHS; i++) {
		rows[i] = dm_linear(&self->disks[i], SECTORS_PER_MIB);
		rows[i].start = i * SECTORS_PER_MIB;
	}
	if (!multipath)
		return dm_load(&self->dm, rows, PATHS);

	rows[0] = dm_multipath(&self->disks[0], SECTORS_PER_MIB);
	len = snprintf(rows[0].params, sizeof(rows[0].params),
		       "0 0 1 1 round-robin 0 %d 1", PATHS);
	for (i = 0; i < PATHS; i++)
		len += snprintf(rows[0].params + len, sizeof(rows[0].params) - len,
				" %u:%u 1", self->disks[i].major, self->disks[i].minor);
	return dm_load(&self->dm, rows, 1);
}

static int load_live(struct _test_data_dm_fail_path *self, bool multipath)
{
	struct dm_row row = multipath ? dm_multipath(&self->live, SECTORS_PER_MIB) :
					dm_linear(&self->live, SECTORS_PER_MIB);

	return dm_load(&self->dm, &row, 1);
}

/* Nobody has opened the others, or all of them are claimed. */
static void expect_claimed(struct __test_metadata *_metadata,
			   struct _test_data_dm_fail_path *self, bool claimed)
{
	int i;

	for (i = 0; i < PATHS; i++)
		if (claimed || i != THIRD)
			EXPECT_EQ(claimed ? -EBUSY : 0,
				  open_and_close(self->disks[i].path, O_RDONLY | O_EXCL));
}

TEST_F(dm_fail_path, B14_first_load)
{
	make_bad(_metadata, self, variant->bad);
	EXPECT_EQ(variant->want, load_five(self, variant->multipath));
	expect_claimed(_metadata, self, false);
	EXPECT_STREQ("", dm_left(&self->dm));

	make_good(_metadata, self);
	ASSERT_EQ(0, load_five(self, variant->multipath));
	ASSERT_EQ(0, dm_resume(&self->dm));
	expect_claimed(_metadata, self, true);
}

TEST_F(dm_fail_path, B14_reload)
{
	char table[160], live[160];

	ASSERT_EQ(0, load_live(self, variant->multipath));
	ASSERT_EQ(0, dm_resume(&self->dm));
	ASSERT_EQ(0, dm_table(&self->dm, false, live, sizeof(live)));

	make_bad(_metadata, self, variant->bad);
	EXPECT_EQ(variant->want, load_five(self, variant->multipath));
	expect_claimed(_metadata, self, false);
	ASSERT_EQ(0, dm_table(&self->dm, false, table, sizeof(table)));
	EXPECT_STREQ(live, table);
	ASSERT_EQ(0, dm_table(&self->dm, true, table, sizeof(table)));
	EXPECT_STREQ("", table);
	EXPECT_EQ(-EBUSY, open_and_close(self->live.path, O_RDONLY | O_EXCL));

	make_good(_metadata, self);
	ASSERT_EQ(0, load_five(self, variant->multipath));
	ASSERT_EQ(0, dm_resume(&self->dm));
	expect_claimed(_metadata, self, true);
	EXPECT_EQ(0, open_and_close(self->live.path, O_RDONLY | O_EXCL));
}

TEST_HARNESS_MAIN
