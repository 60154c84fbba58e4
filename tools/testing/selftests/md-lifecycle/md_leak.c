// SPDX-License-Identifier: GPL-2.0
/* Lives that leave something in memory: the leak is the assertion. */
#include <fcntl.h>
#include <unistd.h>

#include "harness.h"

#define WARM_UP		20
#define CYCLES		200

/* 7.3 leaks 2000; counting slabs of a page or more is some hundreds off. */
#define MAX_BYTES	1000

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
	return 0;
}

TEST_F_TIMEOUT(md_leak, B6_no_growth_over_lives, 280)
{
	long long before, grown;

	ASSERT_EQ(0, lives(self, WARM_UP));
	before = slab_bytes();
	ASSERT_LT(0, before);
	ASSERT_EQ(0, lives(self, CYCLES));
	grown = (slab_bytes() - before) / CYCLES;
	TH_LOG("%lld bytes of slab a life", grown);
	EXPECT_GT(MAX_BYTES, grown);
}

TEST_HARNESS_MAIN
