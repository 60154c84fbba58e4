// SPDX-License-Identifier: GPL-2.0
/* Lives that leave something in memory: the leak is the assertion. */
#include <fcntl.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"

#define WARM_UP		20
#define CYCLES		100

/* The smallest thing to lose is a sysfs node of 136 bytes. */
#define MAX_SYSFS	130

/* In all caches 7.3 loses 2000; what else goes on is worth 300 at times. */
#define MAX_ALL		1000

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
	char errors[64];
	uint64_t end;
	int fd, ret;

	snprintf(errors, sizeof(errors), "dev-%s/errors", self->disks[0].name);
	while (nr--) {
		/* Who else has the last one open, or opens it, is no matter here. */
		end = now_ms() + DEADLINE_MS;
		do {
			ret = md_new_array(&self->md);
			if (ret && ret != -EEXIST)
				return ret;
			fd = md_open(&self->md, O_RDWR);
		} while ((fd == -ENODEV || fd == -ENXIO) && now_ms() < end);
		if (fd < 0)
			return fd;
		ret = md_build(fd, self->disks, 2) ?:
		      md_attr_write(&self->md, errors, "0") ?:
		      md_stop_when_unused(fd);
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

/* Bytes of slab that a life leaves in use, in one cache or in all. */
static long long growth(struct __test_metadata *_metadata,
			struct _test_data_md_leak *self, const char *cache)
{
	long long before, after;

	ASSERT_EQ(0, lives(self, WARM_UP));
	before = slab_bytes(cache);
	ASSERT_LT(0, before);
	ASSERT_EQ(0, lives(self, CYCLES));
	after = slab_bytes(cache);
	ASSERT_LT(0, after);
	TH_LOG("%lld bytes after %d lives", after - before, CYCLES);
	return (after - before) / CYCLES;
}

/* sysfs nodes, which a forgotten reference keeps for ever: some 900 bytes in 7.3. */
TEST_F_TIMEOUT(md_leak, B6_no_sysfs_node_left_by_a_life, 200)
{
	if (slab_bytes("kernfs_node_cache") == -ENOENT)
		SKIP(return, "no slab statistics for kernfs_node_cache");
	EXPECT_GT(MAX_SYSFS, growth(_metadata, self, "kernfs_node_cache"));
}

TEST_F_TIMEOUT(md_leak, B6_no_growth_over_lives, 200)
{
	if (kernel_has("kasan_report"))
		SKIP(return, "KASAN keeps freed objects");
	if (slab_bytes(NULL) == -ENOENT)
		SKIP(return, "no slab statistics");
	EXPECT_GT(MAX_ALL, growth(_metadata, self, NULL));
}

TEST_HARNESS_MAIN
