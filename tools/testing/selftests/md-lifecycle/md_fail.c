// SPDX-License-Identifier: GPL-2.0
/*
 * Everything that can fail does so once: as many lives of an array as an
 * operation has allocations, requests to its members, or opens of these, with
 * another one failing in each. The operation succeeds or says that it has
 * failed; then what was there is still whole, and the operation works when it is
 * repeated, or the array is given up. Nothing is left of any life.
 *
 * What fails is what the operating task itself does. The node of a device is
 * made by kdevtmpfs, and a thread by kthreadd: what these need does not fail.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "fault.h"
#include "task.h"

#define MAX_DISKS	3
#define DISK_MIB	8

enum kind {
	PLAIN,
	NAMED,
	PERSISTENT,	/* with superblocks */
	STORED,		/* with superblocks from before, and a bitmap */
};

struct array_op {
	int level;
	int nr;			/* of disks */
	enum kind kind;
	struct fault_op op;
};

static struct {
	struct disk disks[MAX_DISKS];
	struct md_shape shape;
	int nr;
	enum kind kind;
	struct md_dev md;
	int fd;
	int step;		/* of an assembly */
	struct fault fault;
	struct disk marker;	/* for uevents */
	int uevents;
	unsigned int untold;	/* lives with a uevent less */
	char old_create[8];
} ctx;

static const char *missing_for(const struct array_op *op)
{
	ctx.fd = -1;
	ctx.uevents = -1;
	return md_missing("create_on_open") ?: md_level_missing(op->level);
}

static void set_up(struct __test_metadata *_metadata, const struct array_op *op)
{
	int i;

	ctx.shape.level = op->level;
	ctx.shape.persistent = op->kind >= PERSISTENT;
	ctx.nr = op->nr;
	ctx.kind = op->kind;
	ASSERT_EQ(0, udev_pause());
	for (i = 0; i < ctx.nr; i++)
		ASSERT_EQ(0, disk_create(&ctx.disks[i], DISK_MIB, ctx.shape.persistent));
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", ctx.old_create,
				  sizeof(ctx.old_create)));
	ASSERT_EQ(0, ctx.kind == NAMED ? md_pick_name(&ctx.md) : md_pick(&ctx.md));
	ASSERT_EQ(0, disk_create(&ctx.marker, 8, false));
	ctx.uevents = uevent_open();
	ASSERT_LE(0, ctx.uevents);
}

static void tear_down(void)
{
	int i;

	fault_end(&ctx.fault);
	if (ctx.fd >= 0)
		close(ctx.fd);
	md_cleanup(&ctx.md);
	if (ctx.old_create[0])
		md_param_set("create_on_open", ctx.old_create, NULL, 0);
	if (ctx.uevents >= 0)
		close(ctx.uevents);
	for (i = 0; i < MAX_DISKS; i++)
		disk_destroy(&ctx.disks[i]);
	disk_destroy(&ctx.marker);
	udev_resume();
}

static void shut(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static bool state_is(const char *state)
{
	char seen[32];

	return !file_read(seen, sizeof(seen), "/sys/block/%s/md/array_state",
			  ctx.md.name) && !strcmp(seen, state);
}

static bool claimed(const struct disk *disk)
{
	return open_and_close(disk->path, O_RDONLY | O_EXCL) == -EBUSY;
}

/* --- create --- */

static int open_it(void)
{
	ctx.fd = md_open(&ctx.md, O_RDWR);
	return ctx.fd < 0 ? ctx.fd : 0;
}

static int new_array(void)
{
	return file_write(ctx.md.name, MD_PARAM "new_array");
}

static const char *nothing_left(void)
{
	return *md_left_in_the_end(&ctx.md) ? md_left(&ctx.md) : NULL;
}

/* An open may fail after it has made the device, which then waits for the next. */
static const char *nothing_or_unused(void)
{
	return state_is("clear") ? NULL : nothing_left();
}

static const char *usable(void)
{
	int ret = md_make_node(&ctx.md);

	if (!ret && ctx.fd < 0)
		ret = open_it();
	ret = ret ?: md_configure_as(ctx.fd, &ctx.shape, ctx.disks, ctx.nr);
	ret = ret ?: md_run(ctx.fd);
	return ret ? fault_text("build", ret) : NULL;
}

/* --- assemble --- */

static int prepare(void)
{
	ctx.step = 0;
	return md_new_array(&ctx.md) ?: open_it();
}

static int set_info(void)
{
	mdu_array_info_t stored = { .minor_version = 90 };

	if (ctx.kind == STORED)
		return md_ioctl(ctx.fd, SET_ARRAY_INFO, &stored);
	return md_set_info(ctx.fd, &ctx.shape, ctx.nr);
}

static int assemble_step(void)
{
	if (!ctx.step)
		return set_info();
	if (ctx.step <= ctx.nr)
		return md_add_disk(ctx.fd, ctx.step - 1, &ctx.disks[ctx.step - 1]);
	return md_run(ctx.fd);
}

/* Goes on where it has failed. */
static int assemble(void)
{
	int ret = 0;

	for (; ctx.step < ctx.nr + 2 && !ret; ctx.step += !ret)
		ret = assemble_step();
	return ret;
}

static const char *partly(void)
{
	int i, stored = ctx.kind == STORED;

	for (i = 0; i < ctx.nr; i++)
		if (claimed(&ctx.disks[i]) != (i + 1 < ctx.step))
			return i + 1 < ctx.step ? "a member is free" :
						    "no member, and not free";
	/* Superblocks say what it is, when there is a first one. */
	if (!state_is(ctx.step > stored ? "inactive" : "clear"))
		return "another state";
	return NULL;
}

static const char *runs(void)
{
	char block[4096];
	int fd;
	ssize_t n;

	if (!state_is("clean") && !state_is("active"))
		return "does not run";
	fd = md_open(&ctx.md, O_RDONLY);
	if (fd < 0)
		return fault_text("open", fd);
	n = read(fd, block, sizeof(block));
	close(fd);
	return n == sizeof(block) ? NULL : "read";
}

static int write_block(void)
{
	void *block;
	int fd, ret = 0;

	if (posix_memalign(&block, 4096, 4096))
		return -ENOMEM;
	memset(block, 'w', 4096);
	fd = md_open(&ctx.md, O_WRONLY | O_DIRECT);
	if (fd < 0)
		ret = fd;
	else if (write(fd, block, 4096) != 4096)
		ret = -errno;
	if (fd >= 0)
		close(fd);
	free(block);
	return ret;
}

/* --- stop --- */

static int prepare_running(void)
{
	return prepare() ?: assemble();
}

static int prepare_closed(void)
{
	int ret = prepare_running();

	shut(&ctx.fd);
	return ret;
}

/* The array becomes active, and clean again when it is stopped. */
static int prepare_written(void)
{
	return prepare_running() ?: write_block();
}

static int prepare_written_closed(void)
{
	int ret = prepare_written();

	shut(&ctx.fd);
	return ret;
}

static int stop(void)
{
	return md_stop(ctx.fd);
}

static int clear(void)
{
	return md_attr_write(&ctx.md, "array_state", "clear");
}

static int make_inactive(void)
{
	return md_attr_write(&ctx.md, "array_state", "inactive");
}

static const char *inactive(void)
{
	return state_is("inactive") ? NULL : "another state";
}

/* --- open --- */

static int no_autoload(void)
{
	return md_param_set("create_on_open", "N", NULL, 0);
}

static int open_missing(void)
{
	int ret = open_it();

	shut(&ctx.fd);
	return ret == -ENXIO ? 0 : ret ?: -EEXIST;
}

/* --- */

/* Whatever there is, stop it: nothing may be left, and every disk be free. */
static const char *end(bool hit)
{
	unsigned int adds, removes;
	int i, ret = 0;
	bool there;

	there = path_exists("/sys/block/%s/md", ctx.md.name);
	md_param_set("create_on_open", "Y", NULL, 0);
	/* A thread of the array has ended with it. */
	fault_task(&ctx.fault, getpid());
	if (there && ctx.fd >= 0)
		ret = md_stop_when_unused(ctx.fd);
	else if (there)
		ret = md_attr_write(&ctx.md, "array_state", "clear");
	shut(&ctx.fd);
	if (ret)
		return fault_text("stop", ret);
	if (*md_left_in_the_end(&ctx.md))
		return md_left(&ctx.md);
	for (i = 0; i < ctx.nr; i++)
		if (claimed(&ctx.disks[i]))
			return "a disk is not free";

	/* Events need memory, too, and nobody looks whether they could be sent. */
	ret = uevent_lives(ctx.uevents, &ctx.marker, ctx.md.name, &adds, &removes);
	if (ret && (ret != -ENOBUFS || !hit))
		return fault_text("uevents", ret);
	ctx.untold += ret || adds != removes;
	if (!ret && (adds > removes + hit || removes > adds + hit))
		return "uevents of adding and removing do not match";
	return NULL;
}

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

/* What is at the start of a bitmap, as far as it is not 0 here. */
struct bitmap_super {
	__le32 magic, version;
	__u8 uuid[16];
	__le64 events[2], sync_size;
	__le32 state, chunksize, daemon_sleep;
};

/* A clean bitmap for the array that has a superblock of version 0.90 there. */
static int make_bitmap(const struct disk *disk)
{
	struct bitmap_super bitmap = {
		.magic = htole32(0x6d746962),
		.version = htole32(4),
		.sync_size = htole64(2048),
		.chunksize = htole32(65536),
		.daemon_sleep = htole32(5),
	};
	off_t at = DISK_MIB * 1024 * 1024 - MD_RESERVED_BYTES;
	int fd = open(disk->path, O_RDWR | O_CLOEXEC), ret = -EIO;
	char block[4096] = "";
	mdp_super_t sb;

	if (fd < 0)
		return -errno;
	if (pread(fd, &sb, sizeof(sb), at) == sizeof(sb) && sb.md_magic == MD_SB_MAGIC) {
		memcpy(bitmap.uuid, &sb.set_uuid0, 4);
		memcpy(bitmap.uuid + 4, &sb.set_uuid1, 12);
		memcpy(block, &bitmap, sizeof(bitmap));
		if (pwrite(fd, block, sizeof(block), at + MD_SB_BYTES) == sizeof(block) &&
		    !fsync(fd))
			ret = 0;
	}
	close(fd);
	return ret;
}

/* Make the array whose superblocks and bitmap the next assembly finds. */
static int store(void)
{
	mdu_array_info_t info;
	int i, ret;

	ctx.kind = PERSISTENT;
	ret = prepare_running();
	for (i = 0; i < ctx.nr && !ret; i++)
		ret = make_bitmap(&ctx.disks[i]);
	ret = ret ?: md_ioctl(ctx.fd, GET_ARRAY_INFO, &info);
	if (!ret) {
		info.state |= 1 << MD_SB_BITMAP_PRESENT;
		ret = md_ioctl(ctx.fd, SET_ARRAY_INFO, &info);
	}
	ret = ret ?: md_stop_when_unused(ctx.fd);
	shut(&ctx.fd);
	ctx.kind = STORED;
	return ret;
}

/* Level and number of disks; how it begins, what may fail, how that may end. */
#define ARRAY(level_, nr_, kind_, before_, op_, whole_, done_) \
	{ \
		.it.level = level_, \
		.it.nr = nr_, \
		.it.kind = kind_, \
		.it.op = { before_, op_, whole_, done_, end }, \
	}

/* --- allocations --- */

FIXTURE(md_fail) { int unused; };
FIXTURE_VARIANT(md_fail) { struct array_op it; };

FIXTURE_SETUP(md_fail)
{
	const char *missing = missing_for(&variant->it) ?: fault_missing(FAULT_MEMORY);

	if (missing)
		SKIP(return, "%s", missing);
	set_up(_metadata, &variant->it);
}

FIXTURE_TEARDOWN(md_fail)
{
	tear_down();
}

FIXTURE_VARIANT_ADD(md_fail, create_by_open)
	ARRAY(1, 2, PLAIN, NULL, open_it, nothing_or_unused, usable);
FIXTURE_VARIANT_ADD(md_fail, create_by_number)
	ARRAY(1, 2, PLAIN, NULL, new_array, nothing_left, usable);
FIXTURE_VARIANT_ADD(md_fail, create_by_name)
	ARRAY(1, 2, NAMED, NULL, new_array, nothing_left, usable);

FIXTURE_VARIANT_ADD(md_fail, assemble_linear)
	ARRAY(LEVEL_LINEAR, 2, PLAIN, prepare, assemble, partly, runs);
FIXTURE_VARIANT_ADD(md_fail, assemble_raid0)
	ARRAY(0, 2, PLAIN, prepare, assemble, partly, runs);
FIXTURE_VARIANT_ADD(md_fail, assemble_raid1)
	ARRAY(1, 2, PLAIN, prepare, assemble, partly, runs);
FIXTURE_VARIANT_ADD(md_fail, assemble_raid5)
	ARRAY(5, 3, PLAIN, prepare, assemble, partly, runs);
FIXTURE_VARIANT_ADD(md_fail, assemble_raid10)
	ARRAY(10, 2, PLAIN, prepare, assemble, partly, runs);
FIXTURE_VARIANT_ADD(md_fail, assemble_new)
	ARRAY(1, 2, PERSISTENT, prepare, assemble, partly, runs);
FIXTURE_VARIANT_ADD(md_fail, assemble_stored)
	ARRAY(1, 2, STORED, prepare, assemble, partly, runs);

FIXTURE_VARIANT_ADD(md_fail, stop)
	ARRAY(1, 2, PERSISTENT, prepare_written, stop, runs, nothing_left);
FIXTURE_VARIANT_ADD(md_fail, stop_with_bitmap)
	ARRAY(1, 2, STORED, prepare_written, stop, runs, nothing_left);
FIXTURE_VARIANT_ADD(md_fail, stop_raid5)
	ARRAY(5, 3, PLAIN, prepare_running, stop, runs, nothing_left);
FIXTURE_VARIANT_ADD(md_fail, clear)
	ARRAY(1, 2, PERSISTENT, prepare_written_closed, clear, runs, nothing_left);
FIXTURE_VARIANT_ADD(md_fail, inactive)
	ARRAY(1, 2, PERSISTENT, prepare_written_closed, make_inactive, runs, inactive);

FIXTURE_VARIANT_ADD(md_fail, open)
	ARRAY(1, 2, PLAIN, prepare_closed, open_it, runs, runs);
FIXTURE_VARIANT_ADD(md_fail, open_missing)
	ARRAY(1, 2, PLAIN, no_autoload, open_missing, nothing_left, nothing_left);

TEST_F_TIMEOUT(md_fail, B14_any_allocation_fails, 600)
{
	if (ctx.kind == STORED)
		ASSERT_EQ(0, store());
	ASSERT_EQ(0, fault_start(&ctx.fault, FAULT_MEMORY));
	walk(_metadata, &variant->it.op);
}

/* --- allocations of other tasks --- */

FIXTURE(md_fail_task) { int unused; };
FIXTURE_VARIANT(md_fail_task) { struct array_op it; };

FIXTURE_SETUP(md_fail_task)
{
	const char *missing = missing_for(&variant->it) ?: fault_missing(FAULT_MEMORY);

	if (missing)
		SKIP(return, "%s", missing);
	set_up(_metadata, &variant->it);
}

FIXTURE_TEARDOWN(md_fail_task)
{
	tear_down();
}

/* The thread of the array writes the superblocks before it becomes active. */
static int prepare_thread(void)
{
	return prepare_running() ?:
	       fault_task(&ctx.fault, task_named("%s_raid1", ctx.md.name));
}

/* A worker deletes the device when it is stopped. */
static int prepare_workers(void)
{
	return prepare_running() ?: fault_workers(&ctx.fault);
}

/* Here the last close lets a worker do it. */
static int prepare_idle(void)
{
	int ret = open_it();

	/* Refused, but nothing keeps it any more. */
	if (!ret && md_touch(ctx.fd) != -ENODEV)
		ret = -EINVAL;
	return ret ?: fault_workers(&ctx.fault);
}

static int close_it(void)
{
	int fd = ctx.fd;

	ctx.fd = -1;
	return close(fd) ? -errno : *md_left_in_the_end(&ctx.md) ? -EBUSY : 0;
}

FIXTURE_VARIANT_ADD(md_fail_task, thread)
	ARRAY(1, 2, PERSISTENT, prepare_thread, write_block, runs, runs);
FIXTURE_VARIANT_ADD(md_fail_task, deletion_by_stop)
	ARRAY(1, 2, PLAIN, prepare_workers, stop, runs, nothing_left);
FIXTURE_VARIANT_ADD(md_fail_task, deletion_by_close)
	ARRAY(1, 2, PLAIN, prepare_idle, close_it, nothing_left, nothing_left);

TEST_F_TIMEOUT(md_fail_task, B14_any_allocation_fails, 600)
{
	ASSERT_EQ(0, fault_start(&ctx.fault, FAULT_MEMORY));
	walk(_metadata, &variant->it.op);
}

/* --- requests --- */

FIXTURE(md_fail_io) { int unused; };
FIXTURE_VARIANT(md_fail_io) { struct array_op it; };

FIXTURE_SETUP(md_fail_io)
{
	const char *missing = missing_for(&variant->it) ?: fault_missing(FAULT_REQUEST);
	int i;

	if (missing)
		SKIP(return, "%s", missing);
	set_up(_metadata, &variant->it);
	for (i = 0; i < ctx.nr; i++)
		ASSERT_EQ(0, fault_disk(&ctx.disks[i]));
}

FIXTURE_TEARDOWN(md_fail_io)
{
	tear_down();
}

/* A superblock that could not be written is older than the others: write anew. */
static int prepare_stored(void)
{
	return store() ?: prepare();
}

static int prepare_stored_running(void)
{
	return prepare_stored() ?: assemble();
}

/* It has no member to spare. */
static const char *runs_or_broken(void)
{
	return state_is("broken") ? NULL : runs();
}

FIXTURE_VARIANT_ADD(md_fail_io, assemble_raid0)
	ARRAY(0, 2, PERSISTENT, prepare, assemble, partly, runs_or_broken);
FIXTURE_VARIANT_ADD(md_fail_io, assemble_raid1)
	ARRAY(1, 2, PERSISTENT, prepare, assemble, partly, runs);
FIXTURE_VARIANT_ADD(md_fail_io, assemble_raid5)
	ARRAY(5, 3, PERSISTENT, prepare, assemble, partly, runs);
FIXTURE_VARIANT_ADD(md_fail_io, stop)
	ARRAY(1, 2, PERSISTENT, prepare_written, stop, runs, nothing_left);
FIXTURE_VARIANT_ADD(md_fail_io, stop_with_bitmap)
	ARRAY(1, 2, STORED, prepare_stored_running, stop, runs, nothing_left);
FIXTURE_VARIANT_ADD(md_fail_io, inactive)
	ARRAY(1, 2, PERSISTENT, prepare_written_closed, make_inactive, runs, inactive);
FIXTURE_VARIANT_ADD(md_fail_io, open)
	ARRAY(1, 2, PERSISTENT, prepare_closed, open_it, runs, runs);

TEST_F_TIMEOUT(md_fail_io, B14_any_request_fails, 600)
{
	ASSERT_EQ(0, fault_start(&ctx.fault, FAULT_REQUEST));
	walk(_metadata, &variant->it.op);
}

/* --- members --- */

/* Why a disk cannot be opened to be a member. */
enum bad {
	MISSING,	/* there is none of that number */
	HELD,		/* somebody else has claimed it */
	REMOVED,	/* it was pulled out, and is still open */
};

FIXTURE(md_fail_member) {
	struct disk bad;
	int fd;
};

FIXTURE_VARIANT(md_fail_member) {
	struct array_op it;
	enum bad bad;
	int at, want;
};

FIXTURE_SETUP(md_fail_member)
{
	const char *missing = missing_for(&variant->it);

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	set_up(_metadata, &variant->it);
	ASSERT_EQ(0, disk_create(&self->bad, 8, false));
}

FIXTURE_TEARDOWN(md_fail_member)
{
	if (self->fd >= 0)
		close(self->fd);
	tear_down();
	disk_destroy(&self->bad);
}

#define MEMBER(level_, nr_, kind_, bad_, at_, want_) \
	{ \
		.it.level = level_, \
		.it.nr = nr_, \
		.it.kind = kind_, \
		.bad = bad_, \
		.at = at_, \
		.want = want_, \
	}

FIXTURE_VARIANT_ADD(md_fail_member, missing_first)
	MEMBER(1, 2, PLAIN, MISSING, 0, -ENXIO);
FIXTURE_VARIANT_ADD(md_fail_member, missing_last)
	MEMBER(0, 2, PLAIN, MISSING, 1, -ENXIO);
FIXTURE_VARIANT_ADD(md_fail_member, held_first)
	MEMBER(1, 2, PERSISTENT, HELD, 0, -EBUSY);
FIXTURE_VARIANT_ADD(md_fail_member, held_last)
	MEMBER(5, 3, PLAIN, HELD, 2, -EBUSY);
FIXTURE_VARIANT_ADD(md_fail_member, removed_first)
	MEMBER(0, 2, PLAIN, REMOVED, 0, -ENXIO);
FIXTURE_VARIANT_ADD(md_fail_member, removed_last)
	MEMBER(1, 2, PERSISTENT, REMOVED, 1, -ENXIO);

static void make_bad(struct __test_metadata *_metadata,
		     struct _test_data_md_fail_member *self, enum bad bad)
{
	if (bad == MISSING) {
		/* What stays is its number. */
		disk_destroy(&self->bad);
		return;
	}
	self->fd = open(self->bad.path, O_RDONLY | O_CLOEXEC | (bad == HELD ? O_EXCL : 0));
	ASSERT_LE(0, self->fd);
	if (bad == REMOVED)
		ASSERT_EQ(0, disk_power_off(&self->bad));
}

TEST_F(md_fail_member, B14_cannot_be_opened)
{
	const char *wrong;

	make_bad(_metadata, self, variant->bad);
	ASSERT_EQ(0, prepare());
	for (ctx.step = 0; ctx.step <= variant->at; ctx.step++)
		ASSERT_EQ(0, assemble_step());
	EXPECT_EQ(variant->want, md_add_disk(ctx.fd, variant->at, &self->bad));
	wrong = partly();
	if (!wrong && assemble())
		wrong = "cannot go on";
	wrong = wrong ?: runs() ?: end(false);
	if (wrong)
		TH_LOG("%s", wrong);
	EXPECT_EQ(NULL, wrong);
}

/* Added, and pulled out before the array is run. */
TEST_F(md_fail_member, B12_vanishes_before_the_run)
{
	struct disk *member = &ctx.disks[variant->at];
	const char *wrong;
	int ret;

	ASSERT_EQ(0, prepare());
	ASSERT_EQ(0, md_configure_as(ctx.fd, &ctx.shape, ctx.disks, ctx.nr));
	ASSERT_EQ(0, disk_power_off(member));
	ret = md_run(ctx.fd);
	TH_LOG("%s", ret ? strerror(-ret) : "runs");
	wrong = end(false);
	if (wrong)
		TH_LOG("%s", wrong);
	ASSERT_EQ(NULL, wrong);

	/* Another disk in its place, and the same number. */
	disk_destroy(member);
	ASSERT_EQ(0, disk_create(member, 8, true));
	ASSERT_EQ(0, prepare_running());
	EXPECT_EQ(NULL, runs());
	EXPECT_EQ(NULL, end(false));
}

TEST_HARNESS_MAIN
