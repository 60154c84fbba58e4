// SPDX-License-Identifier: GPL-2.0
/*
 * Autodetection of arrays, by RAID_AUTORUN: sets of members that cannot get their
 * number are let go, and are in nobody's way.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"

#define SETS		3
#define TYPE_LINUX	0x83
#define TYPE_RAID	0xfd

/* An array of one member, a partition, which knows the array's number. */
struct set {
	struct disk disk, part;
	struct md_dev md;
	int fd;
};

FIXTURE(md_autorun) {
	struct set sets[SETS];
};

FIXTURE_SETUP(md_autorun)
{
	const char *missing = md_missing("new_array") ?: md_autoload_missing();
	int i;

	for (i = 0; i < SETS; i++)
		self->sets[i].fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	udev_pause();
	for (i = 0; i < SETS; i++)
		ASSERT_EQ(0, disk_create(&self->sets[i].disk, 8, true));
}

FIXTURE_TEARDOWN(md_autorun)
{
	int i;

	for (i = 0; i < SETS; i++) {
		if (self->sets[i].fd >= 0)
			close(self->sets[i].fd);
		md_cleanup(&self->sets[i].md);
		disk_destroy(&self->sets[i].disk);
	}
	udev_resume();
}

/* One partition from sector 64 on. */
static int write_table(const struct disk *disk, unsigned char type)
{
	unsigned char sector[512] = {
		[446 + 4] = type,
		[446 + 8] = 64,
		[446 + 13] = 8192 >> 8,
		[510] = 0x55, 0xaa,
	};
	int fd = open(disk->path, O_RDWR | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (pwrite(fd, sector, sizeof(sector), 0) != sizeof(sector) || fsync(fd) ||
	    ioctl(fd, BLKRRPART))
		ret = -errno;
	close(fd);
	return ret;
}

static int find_partition(struct set *set)
{
	char dev[32];
	int ret;

	snprintf(set->part.path, sizeof(set->part.path), "/dev/%sp1", set->disk.name);
	ret = file_read(dev, sizeof(dev), "/sys/class/block/%sp1/dev", set->disk.name);
	if (!ret && sscanf(dev, "%u:%u", &set->part.major, &set->part.minor) != 2)
		ret = -EIO;
	return ret;
}

/* Whichever is looked at first or last: it cannot have its number. */
TEST_F(md_autorun, B14_goes_on_behind_a_number_in_use)
{
	const struct md_shape persistent = { .level = 1, .persistent = true };
	struct set *sets = self->sets;
	int i;

	for (i = 0; i < SETS; i++) {
		if (write_table(&sets[i].disk, TYPE_LINUX) || find_partition(&sets[i]))
			SKIP(return, "no partitions here");
		ASSERT_EQ(0, md_pick(&sets[i].md));
		sets[i].fd = md_start(&sets[i].md, &persistent, &sets[i].part, 1);
		ASSERT_LE(0, sets[i].fd);
	}
	for (i = 0; i < SETS; i++) {
		ASSERT_EQ(0, md_stop(sets[i].fd));
		md_close(&sets[i].fd);
		ASSERT_EQ(0, write_table(&sets[i].disk, TYPE_RAID));
	}
	ASSERT_EQ(0, md_new_array(&sets[0].md));
	ASSERT_EQ(0, md_new_array(&sets[2].md));
	sets[0].fd = md_open(&sets[0].md, O_RDWR);
	ASSERT_LE(0, sets[0].fd);

	ASSERT_EQ(0, md_ioctl(sets[0].fd, RAID_AUTORUN, NULL));
	EXPECT_STREQ("node sysfs number mdstat ", md_left(&sets[1].md));
	EXPECT_EQ(-EBUSY, open_and_close(sets[1].part.path, O_RDONLY | O_EXCL));
	EXPECT_EQ(0, open_and_close(sets[0].part.path, O_RDONLY | O_EXCL));
	EXPECT_EQ(0, open_and_close(sets[2].part.path, O_RDONLY | O_EXCL));

	/* The one that was started is stopped like any other. */
	sets[1].fd = md_open(&sets[1].md, O_RDWR);
	ASSERT_LE(0, sets[1].fd);
	EXPECT_EQ(0, md_stop(sets[1].fd));
	EXPECT_STREQ("", md_left(&sets[1].md));
}

TEST_HARNESS_MAIN
