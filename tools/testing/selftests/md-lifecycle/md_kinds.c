// SPDX-License-Identifier: GPL-2.0
/*
 * One way to go for every kind of array: whatever it is and whatever has
 * happened to it, it is gone when the call that stops it returns, its number
 * can be used again, and who still has the old one open does nothing to the new
 * one. And an array that somebody uses does not go at all.
 */
#include <endian.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "task.h"

#define MEMBERS		4
#define DISK_MIB	8
#define LEVEL_LINEAR	(-1)

/* --- Every kind of array, stopped and cleared. --- */

FIXTURE(md_kinds) {
	struct disk disks[MEMBERS];
	struct md_dev md;
	struct hog hog;
	int fd, held, fd2;
};

FIXTURE_VARIANT(md_kinds) {
	/* Leaves the array open at self->fd and, if that can be, self->held. */
	void (*make)(struct __test_metadata *_metadata,
		     struct _test_data_md_kinds *self,
		     const struct _fixture_variant_md_kinds *variant);
	struct md_shape shape;
	bool partitionable, dead;
};

#define MAKE(name) \
	static void name(struct __test_metadata *_metadata, \
			 struct _test_data_md_kinds *self, \
			 const struct _fixture_variant_md_kinds *variant)

/* The device without an array. */
static int create(struct md_dev *md)
{
	if (!md->major) {
		int ret = md_new_array(md);

		if (ret)
			return ret;
	}
	return md_open(md, O_RDWR);
}

static int member_write(struct _test_data_md_kinds *self, int i, const char *attr,
			const char *val)
{
	char path[64];

	snprintf(path, sizeof(path), "dev-%s/%s", self->disks[i].name, attr);
	return md_attr_write(&self->md, path, val);
}

MAKE(configured)
{
	self->fd = create(&self->md);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_configure_as(self->fd, &variant->shape, self->disks, MEMBERS));
}

MAKE(running)
{
	configured(_metadata, self, variant);
	ASSERT_EQ(0, md_run(self->fd));
}

/* Never run; and who has begun to assemble it does not let go of it. */
MAKE(assembled_elsewhere)
{
	configured(_metadata, self, variant);
	self->held = self->fd;
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
}

/* Stopped, and its members kept. */
MAKE(inactive)
{
	running(_metadata, self, variant);
	close(self->fd);
	self->fd = -1;
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", "inactive"));
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
}

MAKE(readonly)
{
	configured(_metadata, self, variant);
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", "readonly"));
}

MAKE(read_auto)
{
	configured(_metadata, self, variant);
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", "read-auto"));
}

static void give_member(struct __test_metadata *_metadata,
			struct _test_data_md_kinds *self, int i)
{
	char dev[32];

	snprintf(dev, sizeof(dev), "%u:%u", self->disks[i].major, self->disks[i].minor);
	ASSERT_EQ(0, md_attr_write(&self->md, "new_dev", dev));
}

/* A set of disks with metadata that only mdmon knows, which has it open. */
MAKE(container)
{
	int i;

	self->fd = create(&self->md);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_attr_write(&self->md, "metadata_version", "external:test"));
	for (i = 0; i < MEMBERS; i++)
		give_member(_metadata, self, i);
	self->held = md_open(&self->md, O_RDONLY);
	ASSERT_LE(0, self->held);
}

/* The same, before it has got a disk. */
MAKE(container_empty)
{
	self->fd = create(&self->md);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_attr_write(&self->md, "metadata_version", "external:test"));
}

/* An array in such a set: mdadm makes it without an ioctl. */
MAKE(external)
{
	char slot[8];
	int i;

	self->fd = create(&self->md);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_attr_write(&self->md, "metadata_version", "external:/md0/0"));
	ASSERT_EQ(0, md_attr_write(&self->md, "level", "raid1"));
	ASSERT_EQ(0, md_attr_write(&self->md, "raid_disks", "4"));
	ASSERT_EQ(0, md_attr_write(&self->md, "component_size", "1024"));
	ASSERT_EQ(0, md_attr_write(&self->md, "resync_start", "none"));
	for (i = 0; i < MEMBERS; i++) {
		give_member(_metadata, self, i);
		snprintf(slot, sizeof(slot), "%d", i);
		ASSERT_EQ(0, member_write(self, i, "offset", "0"));
		ASSERT_EQ(0, member_write(self, i, "size", "1024"));
		ASSERT_EQ(0, member_write(self, i, "slot", slot));
	}
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", "active"));
}

MAKE(write_mostly)
{
	running(_metadata, self, variant);
	ASSERT_EQ(0, member_write(self, 1, "state", "writemostly"));
}

MAKE(member_failed)
{
	running(_metadata, self, variant);
	ASSERT_EQ(0, member_write(self, 1, "state", "faulty"));
}

MAKE(member_removed)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	int ret;

	member_failed(_metadata, self, variant);
	/* EBUSY until the array's thread has taken it out of its slot. */
	do {
		ret = member_write(self, 1, "state", "remove");
	} while (ret == -EBUSY && now_ms() < end);
	ASSERT_EQ(0, ret);
}

/* There is something to write, and nowhere to write it. */
static void make_dirty(struct __test_metadata *_metadata,
		       struct _test_data_md_kinds *self)
{
	char buf[4096] = "dirty";

	ASSERT_EQ((ssize_t)sizeof(buf), pwrite(self->fd, buf, sizeof(buf), 65536));
}

MAKE(members_pulled)
{
	int i;

	running(_metadata, self, variant);
	for (i = 0; i < MEMBERS; i++)
		ASSERT_EQ(0, disk_power_off(&self->disks[i]));
	make_dirty(_metadata, self);
}

MAKE(members_broken)
{
	int i;

	running(_metadata, self, variant);
	make_dirty(_metadata, self);
	for (i = 0; i < MEMBERS; i++)
		ASSERT_EQ(0, disk_break(&self->disks[i]));
}

/* Writes to all of it would wait; there are none. */
MAKE(suspended)
{
	running(_metadata, self, variant);
	ASSERT_EQ(0, md_attr_write(&self->md, "suspend_hi", "2048"));
}

/* The superblock of a bitmap, where the array's own in @disk ends. */
static int write_bitmap_sb(const struct disk *disk, const uint8_t uuid[16])
{
	const off_t at = (DISK_MIB * 2048 - MD_RESERVED_SECTORS) * 512 + MD_SB_BYTES;
	uint32_t sb[64] = {
		[0] = htole32(0x6d746962),	/* "bitm" */
		[1] = htole32(4),		/* version */
		[13] = htole32(65536),		/* chunk size */
		[14] = htole32(5),		/* seconds between its updates */
	};
	int fd, ret = 0;

	memcpy(sb + 2, uuid, 16);
	fd = open(disk->path, O_WRONLY | O_SYNC | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (pwrite(fd, sb, sizeof(sb), at) != sizeof(sb))
		ret = -errno;
	close(fd);
	return ret;
}

MAKE(bitmap)
{
	mdu_array_info_t info;
	uint8_t uuid[16];
	char buf[64], hex[3] = "", *at = buf;
	int i;

	configured(_metadata, self, variant);
	ASSERT_EQ(0, file_read(buf, sizeof(buf), "/sys/block/%s/md/uuid",
			       self->md.name));
	for (i = 0; i < 16; i++) {
		at += *at == '-';
		memcpy(hex, at, 2);
		uuid[i] = strtoul(hex, NULL, 16);
		at += 2;
	}
	for (i = 0; i < MEMBERS; i++)
		ASSERT_EQ(0, write_bitmap_sb(&self->disks[i], uuid));
	ASSERT_EQ(0, md_run(self->fd));
	ASSERT_EQ(0, md_ioctl(self->fd, GET_ARRAY_INFO, &info));
	info.state |= 1 << MD_SB_BITMAP_PRESENT;
	ASSERT_EQ(0, md_ioctl(self->fd, SET_ARRAY_INFO, &info));
}

/* A partition table with one partition, from the second MiB to the end. */
static int write_table(int fd, bool partition)
{
	unsigned char sector[512] = {};

	if (partition) {
		sector[446 + 4] = 0x83;
		sector[446 + 8] = 64;		/* starts at */
		sector[446 + 12] = 64;		/* length */
		sector[510] = 0x55;
		sector[511] = 0xaa;
	}
	if (pwrite(fd, sector, sizeof(sector), 0) != sizeof(sector))
		return -errno;
	return fsync(fd) ? -errno : 0;
}

static int rescan(int fd)
{
	return md_ioctl(fd, BLKRRPART, NULL);
}

static bool has_partition(const struct md_dev *md)
{
	return path_exists("/sys/class/block/%sp1", md->name);
}

MAKE(partitions)
{
	running(_metadata, self, variant);
	ASSERT_EQ(0, write_table(self->fd, true));
	ASSERT_EQ(0, rescan(self->fd));
	ASSERT_TRUE(has_partition(&self->md));
	ASSERT_TRUE(path_exists("/dev/%sp1", self->md.name));
}

FIXTURE_VARIANT_ADD(md_kinds, linear) { .make = running, .shape = { .level = LEVEL_LINEAR } };
FIXTURE_VARIANT_ADD(md_kinds, raid0) { .make = running, .shape = { .level = 0 } };
FIXTURE_VARIANT_ADD(md_kinds, raid5) { .make = running, .shape = { .level = 5 } };
FIXTURE_VARIANT_ADD(md_kinds, raid10) { .make = running, .shape = { .level = 10 } };

FIXTURE_VARIANT_ADD(md_kinds, superblocks) {
	.make = running,
	.shape = { .level = 1, .persistent = true },
};

FIXTURE_VARIANT_ADD(md_kinds, bitmap) {
	.make = bitmap,
	.shape = { .level = 1, .persistent = true },
};

FIXTURE_VARIANT_ADD(md_kinds, partitions) { .make = partitions, .shape = { .level = 1 } };

FIXTURE_VARIANT_ADD(md_kinds, md_d) {
	.make = partitions,
	.shape = { .level = 1 },
	.partitionable = true,
};

FIXTURE_VARIANT_ADD(md_kinds, assembled_elsewhere) {
	.make = assembled_elsewhere,
	.shape = { .level = 1 },
};

FIXTURE_VARIANT_ADD(md_kinds, inactive) { .make = inactive, .shape = { .level = 1 } };
FIXTURE_VARIANT_ADD(md_kinds, readonly) { .make = readonly, .shape = { .level = 1 } };
FIXTURE_VARIANT_ADD(md_kinds, read_auto) { .make = read_auto, .shape = { .level = 1 } };
FIXTURE_VARIANT_ADD(md_kinds, container) { .make = container };
FIXTURE_VARIANT_ADD(md_kinds, container_empty) { .make = container_empty };
FIXTURE_VARIANT_ADD(md_kinds, external) { .make = external };
FIXTURE_VARIANT_ADD(md_kinds, write_mostly) { .make = write_mostly, .shape = { .level = 1 } };
FIXTURE_VARIANT_ADD(md_kinds, member_failed) { .make = member_failed, .shape = { .level = 5 } };
FIXTURE_VARIANT_ADD(md_kinds, member_removed) { .make = member_removed, .shape = { .level = 5 } };

FIXTURE_VARIANT_ADD(md_kinds, members_pulled) {
	.make = members_pulled,
	.dead = true,
	.shape = { .level = 1, .persistent = true },
};

FIXTURE_VARIANT_ADD(md_kinds, members_broken) {
	.make = members_broken,
	.dead = true,
	.shape = { .level = 1, .persistent = true },
};

FIXTURE_VARIANT_ADD(md_kinds, raid0_members_pulled) {
	.make = members_pulled,
	.dead = true,
	.shape = { .level = 0 },
};

FIXTURE_VARIANT_ADD(md_kinds, raid5_members_broken) {
	.make = members_broken,
	.dead = true,
	.shape = { .level = 5 },
};

FIXTURE_VARIANT_ADD(md_kinds, suspended) { .make = suspended, .shape = { .level = 1 } };

FIXTURE_SETUP(md_kinds)
{
	const char *missing = md_missing("new_array");
	int i;

	self->fd = -1;
	self->held = -1;
	self->fd2 = -1;
	if (missing)
		SKIP(return, "%s", missing);
	if (hog_start(&self->hog))
		SKIP(return, "no real-time scheduling");
	hog_stop(&self->hog);
	if (variant->partitionable && md_autoload_missing())
		SKIP(return, "%s", md_autoload_missing());
	ASSERT_EQ(0, udev_pause());
	for (i = 0; i < MEMBERS; i++)
		ASSERT_EQ(0, disk_create(&self->disks[i], DISK_MIB, true));
	ASSERT_EQ(0, variant->partitionable ? md_pick_partitionable(&self->md) :
					      md_pick(&self->md));
}

FIXTURE_TEARDOWN(md_kinds)
{
	int i;

	hog_stop(&self->hog);
	if (self->fd >= 0)
		close(self->fd);
	if (self->held >= 0)
		close(self->held);
	if (self->fd2 >= 0)
		close(self->fd2);
	md_cleanup(&self->md);
	for (i = 0; i < MEMBERS; i++)
		disk_destroy(&self->disks[i]);
	udev_resume();
}

static const char *left(struct _test_data_md_kinds *self)
{
	static char buf[96];

	snprintf(buf, sizeof(buf), "%s%s%s", md_left(&self->md),
		 has_partition(&self->md) ? "partition " : "",
		 path_exists("/dev/%sp1", self->md.name) ? "partition's node " : "");
	return buf;
}

/*
 * Nothing that the call leaves to a worker is done until hog_stop(). Not so
 * where members have died: workers have to deal with that first, and what a
 * kernel leaves to others is seen to be there just the same, if not for certain.
 */
static int no_workers(struct _test_data_md_kinds *self,
		      const struct _fixture_variant_md_kinds *variant)
{
	return variant->dead ? 0 : hog_start(&self->hog);
}

/* Whoever else still has it open. */
TEST_F(md_kinds, B1_gone_when_stop_returns)
{
	variant->make(_metadata, self, variant);
	ASSERT_EQ(0, no_workers(self, variant));
	EXPECT_EQ(0, md_stop(self->fd));
	EXPECT_STREQ("", left(self));
	hog_stop(&self->hog);
}

TEST_F(md_kinds, C5_gone_when_clear_returns)
{
	variant->make(_metadata, self, variant);
	close(self->fd);
	self->fd = -1;
	ASSERT_EQ(0, no_workers(self, variant));
	EXPECT_EQ(0, md_attr_write(&self->md, "array_state", "clear"));
	EXPECT_STREQ("", left(self));
	hog_stop(&self->hog);
}

/* The number is free, and so are the members, if there are any. */
TEST_F(md_kinds, B3_made_again_at_once)
{
	const struct md_shape linear = { .level = LEVEL_LINEAR };
	long long old;

	variant->make(_metadata, self, variant);
	old = md_diskseq(&self->md);
	ASSERT_EQ(0, md_stop(self->fd));
	self->fd2 = create(&self->md);
	ASSERT_LE(0, self->fd2);
	EXPECT_LT(old, md_diskseq(&self->md));
	if (!variant->dead) {
		ASSERT_EQ(0, md_configure_as(self->fd2, &linear, self->disks, MEMBERS));
		ASSERT_EQ(0, md_run(self->fd2));
		EXPECT_STREQ("node sysfs number mdstat ", md_left(&self->md));
	}
	EXPECT_EQ(0, md_stop(self->fd2));
}

/* --- Who has a stopped array open and does something to the disk. --- */

FIXTURE(md_stale) {
	struct disk disks[2];
	struct md_dev md;
	long long instance;
	int old, new;
};

FIXTURE_SETUP(md_stale)
{
	const char *missing = md_missing("new_array");

	self->old = -1;
	self->new = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, true));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, true));
	ASSERT_EQ(0, md_pick(&self->md));
}

FIXTURE_TEARDOWN(md_stale)
{
	if (self->old >= 0)
		close(self->old);
	if (self->new >= 0)
		close(self->new);
	md_cleanup(&self->md);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
	udev_resume();
}

/* The old array is stopped and open, the new one has a partition. */
static void replace(struct __test_metadata *_metadata, struct _test_data_md_stale *self)
{
	self->old = create(&self->md);
	ASSERT_LE(0, self->old);
	ASSERT_EQ(0, md_build(self->old, self->disks, 2));
	ASSERT_EQ(0, md_stop(self->old));
	self->new = create(&self->md);
	ASSERT_LE(0, self->new);
	ASSERT_EQ(0, md_build(self->new, self->disks, 2));
	ASSERT_EQ(0, write_table(self->new, true));
	ASSERT_EQ(0, rescan(self->new));
	ASSERT_TRUE(has_partition(&self->md));
	self->instance = md_diskseq(&self->md);
}

static void expect_whole(struct __test_metadata *_metadata,
			 struct _test_data_md_stale *self)
{
	mdu_array_info_t info;

	EXPECT_STREQ("node sysfs number mdstat ", md_left(&self->md));
	EXPECT_EQ(self->instance, md_diskseq(&self->md));
	EXPECT_EQ(0, md_ioctl(self->new, GET_ARRAY_INFO, &info));
	EXPECT_TRUE(has_partition(&self->md));
}

TEST_F(md_stale, B3_rescan_of_the_old_is_not_of_the_new)
{
	replace(_metadata, self);
	/* Whoever reads the table now finds no partition. */
	ASSERT_EQ(0, write_table(self->new, false));
	EXPECT_EQ(-ENXIO, rescan(self->old));
	expect_whole(_metadata, self);
	EXPECT_EQ(0, rescan(self->new));
	EXPECT_FALSE(has_partition(&self->md));
}

TEST_F(md_stale, B3_block_size_of_the_old_is_not_of_the_new)
{
	int before, other, after;

	replace(_metadata, self);
	ASSERT_EQ(0, md_ioctl(self->new, BLKBSZGET, &before));
	other = before == 1024 ? 2048 : 1024;
	EXPECT_EQ(-ENXIO, md_ioctl(self->old, BLKBSZSET, &other));
	ASSERT_EQ(0, md_ioctl(self->new, BLKBSZGET, &after));
	EXPECT_EQ(before, after);
	expect_whole(_metadata, self);
}

TEST_F(md_stale, B3_stop_of_the_old_is_not_of_the_new)
{
	replace(_metadata, self);
	EXPECT_EQ(-ENODEV, md_stop(self->old));
	expect_whole(_metadata, self);
	close(self->old);
	self->old = -1;
	expect_whole(_metadata, self);
}

/* --- An array that cannot be written is in use like any other: D13. --- */

FIXTURE(md_busy) {
	struct disk disks[2];
	struct md_dev md;
	char mnt[32];
	int fd;
};

FIXTURE_VARIANT(md_busy) {
	const char *state;
	bool mounted;
};

FIXTURE_VARIANT_ADD(md_busy, readonly_open) { .state = "readonly" };
FIXTURE_VARIANT_ADD(md_busy, readonly_mounted) {
	.state = "readonly", .mounted = true,
};

FIXTURE_VARIANT_ADD(md_busy, read_auto_open) { .state = "read-auto" };
FIXTURE_VARIANT_ADD(md_busy, read_auto_mounted) {
	.state = "read-auto", .mounted = true,
};

FIXTURE_SETUP(md_busy)
{
	const char *missing = md_missing("new_array");

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	if (variant->mounted && !have_command("mkfs.ext4"))
		SKIP(return, "no mkfs.ext4");
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, true));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, true));
	ASSERT_EQ(0, md_pick(&self->md));
}

FIXTURE_TEARDOWN(md_busy)
{
	if (self->fd >= 0)
		close(self->fd);
	if (self->mnt[0]) {
		run("umount -q %s", self->mnt);
		rmdir(self->mnt);
	}
	md_cleanup(&self->md);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
	udev_resume();
}

/* An array that nothing is written to, open or mounted. */
static void start(struct __test_metadata *_metadata, struct _test_data_md_busy *self,
		  const struct _fixture_variant_md_busy *variant)
{
	char dir[] = "/tmp/md_busy.XXXXXX";
	int fd;

	fd = create(&self->md);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, md_build(fd, self->disks, 2));
	if (variant->mounted)
		ASSERT_EQ(0, run("mkfs.ext4 -q -F %s >/dev/null 2>&1", self->md.node));
	close(fd);
	ASSERT_EQ(0, md_attr_write(&self->md, "array_state", variant->state));
	if (!variant->mounted) {
		self->fd = md_open(&self->md, O_RDONLY);
		ASSERT_LE(0, self->fd);
		return;
	}
	ASSERT_NE(NULL, mkdtemp(dir));
	snprintf(self->mnt, sizeof(self->mnt), "%s", dir);
	ASSERT_EQ(0, run("mount -t ext4 -o ro %s %s", self->md.node, self->mnt));
}

static void expect_refused_and_whole(struct __test_metadata *_metadata,
				     struct _test_data_md_busy *self,
				     const struct _fixture_variant_md_busy *variant,
				     const char *word)
{
	char state[32] = "", buf[512];
	int fd;

	EXPECT_EQ(-EBUSY, md_attr_write(&self->md, "array_state", word));
	EXPECT_STREQ("node sysfs number mdstat ", md_left(&self->md));
	EXPECT_EQ(0, file_read(state, sizeof(state), "/sys/block/%s/md/array_state",
			       self->md.name));
	EXPECT_STREQ(variant->state, state);
	if (self->mnt[0])
		EXPECT_TRUE(path_exists("%s/lost+found", self->mnt));

	/* It can still be opened and read. */
	fd = md_open(&self->md, O_RDONLY);
	EXPECT_LE(0, fd);
	EXPECT_EQ((ssize_t)sizeof(buf), pread(fd, buf, sizeof(buf), 512 * 1024));
	close(fd);

	/* And goes when nobody uses it any more. */
	if (self->fd >= 0) {
		close(self->fd);
		self->fd = -1;
	} else {
		EXPECT_EQ(0, run("umount %s", self->mnt));
		rmdir(self->mnt);
		self->mnt[0] = '\0';
	}
	EXPECT_EQ(0, md_attr_write(&self->md, "array_state", "clear"));
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_F(md_busy, B9_no_clear_while_in_use)
{
	start(_metadata, self, variant);
	expect_refused_and_whole(_metadata, self, variant, "clear");
}

TEST_F(md_busy, B9_not_made_inactive_while_in_use)
{
	start(_metadata, self, variant);
	expect_refused_and_whole(_metadata, self, variant, "inactive");
}

/* --- A degraded raid5 with a block that no member has. --- */

FIXTURE(md_unreadable) {
	struct disk disks[3];
	struct md_dev md;
	struct task reader;
	int fd;
};

FIXTURE_SETUP(md_unreadable)
{
	const struct md_shape raid5 = { .level = 5 };
	const char *missing = md_missing("new_array") ?: task_missing();
	int i;

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, disk_create(&self->disks[i], 8, false));
	ASSERT_EQ(0, md_pick(&self->md));
	self->fd = create(&self->md);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_configure_as(self->fd, &raid5, self->disks, 3));
	ASSERT_EQ(0, md_run(self->fd));
	ASSERT_EQ(0, md_attr_write(&self->md, "rd0/state", "faulty"));
}

/* Whoever still reads can do so, and ends. */
FIXTURE_TEARDOWN(md_unreadable)
{
	int i;

	for (i = 0; i < 3; i++)
		if (self->disks[i].name[0])
			disk_mend(&self->disks[i]);
	task_end(&self->reader);
	if (self->fd >= 0)
		close(self->fd);
	md_cleanup(&self->md);
	for (i = 0; i < 3; i++)
		disk_destroy(&self->disks[i]);
	udev_resume();
}

static long open_and_read(struct task *task, void *arg)
{
	const struct md_dev *md = arg;
	int fd = md_open(md, O_RDONLY | O_DIRECT);

	return fd < 0 ? fd : task_read(task, &fd);
}

/* The open reads, too, for partitions. */
TEST_F(md_unreadable, B12_read_fails_and_array_stops)
{
	ASSERT_EQ(0, disk_break(&self->disks[1]));
	ASSERT_EQ(0, disk_break(&self->disks[2]));
	ASSERT_EQ(0, task_start(&self->reader, "a read", open_and_read, &self->md, -1));
	ASSERT_EQ(-EIO, task_result(&self->reader));
	task_end(&self->reader);
	EXPECT_EQ(0, md_stop(self->fd));
	EXPECT_STREQ("", md_left(&self->md));
}

static long make_readonly(struct task *task, void *arg)
{
	return md_ioctl(*(int *)arg, STOP_ARRAY_RO, NULL);
}

/* What a read-only array has to record waits until it is read-write again. */
TEST_F(md_unreadable, B12_breaks_when_read_only)
{
	pid_t thread = task_named("%s_raid5", self->md.name);
	long ret;

	ASSERT_NE(0, thread);
	ASSERT_EQ(0, md_ioctl(self->fd, STOP_ARRAY_RO, NULL));
	/* It has seen to what the first failure has left. */
	ASSERT_EQ(0, thread_asleep(thread));
	/* It is done, and says that the array is broken. */
	ASSERT_EQ(-EBUSY, md_attr_write(&self->md, "rd1/state", "faulty"));
	ASSERT_EQ(0, task_start(&self->reader, "a stop for read-only", make_readonly,
				&self->fd, self->fd));
	ret = task_result(&self->reader);
	/* It is read-only already, or its thread removes the members just now. */
	EXPECT_TRUE(ret == -ENXIO || ret == -EBUSY)
		TH_LOG("%ld", ret);
	/* That ends what is waited for. */
	if (ret == -ETIMEDOUT)
		md_attr_write(&self->md, "array_state", "active");
	task_end(&self->reader);
	EXPECT_EQ(0, md_stop_when_unused(self->fd));
	EXPECT_STREQ("", md_left(&self->md));
}

TEST_HARNESS_MAIN
