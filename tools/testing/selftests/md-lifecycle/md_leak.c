// SPDX-License-Identifier: GPL-2.0
/* Lives that leave something in memory: the leak is the assertion. */
#include <fcntl.h>
#include <unistd.h>

#include "harness.h"

#define WARM_UP		20
#define CYCLES		200

/* 7.3 leaks 2000 where each life is an instance of its own. */
#define MAX_BYTES	500

FIXTURE(md_leak) {
	struct disk disks[2];
	struct md_dev md;
	char old_mode[8];
};

FIXTURE_VARIANT(md_leak) {
	const char *mode;
};

FIXTURE_VARIANT_ADD(md_leak, async) { .mode = "Y" };
FIXTURE_VARIANT_ADD(md_leak, sync) { .mode = "N" };

FIXTURE_SETUP(md_leak)
{
	const char *missing = md_missing("legacy_async_del_gendisk");

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, false));
	ASSERT_EQ(0, md_param_set("legacy_async_del_gendisk", variant->mode,
				  self->old_mode, sizeof(self->old_mode)));
	ASSERT_EQ(0, md_pick(&self->md));
}

FIXTURE_TEARDOWN(md_leak)
{
	md_cleanup(&self->md);
	md_param_set("legacy_async_del_gendisk", self->old_mode, NULL, 0);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
}

static int lives(struct _test_data_md_leak *self, int nr)
{
	uint64_t end;
	int fd, ret;

	while (nr--) {
		/* Who else has the last one open, or opens it, is no matter here. */
		end = now_ms() + DEADLINE_MS;
		do {
			fd = md_open(&self->md, O_RDWR);
		} while ((fd == -ENODEV || fd == -ENXIO) && now_ms() < end);
		if (fd < 0)
			return fd;
		ret = md_build(fd, self->disks, 2) ?: md_stop_when_unused(fd);
		close(fd);
		if (ret)
			return ret;
	}
	/* An observer may have brought the last one back: it is no leak. */
	udev_settle();
	if (*md_left_in_the_end(&self->md))
		md_attr_write(&self->md, "array_state", "clear");
	return *md_left_in_the_end(&self->md) ? -EBUSY : 0;
}

/* sysfs nodes, which a forgotten reference keeps for ever: five a life in 7.3. */
TEST_F_TIMEOUT(md_leak, B6_no_sysfs_node_left_by_a_life, 120)
{
	long long before, left;

	ASSERT_EQ(0, lives(self, WARM_UP));
	before = slab_objects("kernfs_node_cache");
	if (before == -ENOENT)
		SKIP(return, "no slab statistics for kernfs_node_cache");
	ASSERT_LT(0, before);
	ASSERT_EQ(0, lives(self, 2 * WARM_UP));
	left = slab_objects("kernfs_node_cache") - before;
	TH_LOG("%lld nodes more after %d lives", left, 2 * WARM_UP);
	EXPECT_GT(2 * WARM_UP, left);
}

TEST_F_TIMEOUT(md_leak, B6_no_growth_over_lives, 280)
{
	long long before, grown;

	if (kernel_has("kasan_report"))
		SKIP(return, "KASAN keeps freed objects");
	ASSERT_EQ(0, lives(self, WARM_UP));
	before = slab_bytes();
	ASSERT_LT(0, before);
	ASSERT_EQ(0, lives(self, CYCLES));
	grown = slab_bytes();
	ASSERT_LT(0, grown);
	grown = (grown - before) / CYCLES;
	TH_LOG("%lld bytes of slab a life", grown);
	EXPECT_GT(MAX_BYTES, grown);
}

TEST_HARNESS_MAIN
