// SPDX-License-Identifier: GPL-2.0
/* The same with the mdadm that is installed, whatever its version. */
#include <unistd.h>

#include "harness.h"

FIXTURE(md_mdadm) {
	struct disk disks[2];
	struct md_dev md;
	char old_mode[8];
};

FIXTURE_VARIANT(md_mdadm) {
	const char *mode;
};

FIXTURE_VARIANT_ADD(md_mdadm, async) { .mode = "Y" };
FIXTURE_VARIANT_ADD(md_mdadm, sync) { .mode = "N" };

FIXTURE_SETUP(md_mdadm)
{
	const char *missing = md_missing("legacy_async_del_gendisk");

	if (missing)
		SKIP(return, "%s", missing);
	if (!have_command("mdadm"))
		SKIP(return, "no mdadm");
	ASSERT_EQ(0, disk_create(&self->disks[0], 32, true));
	ASSERT_EQ(0, disk_create(&self->disks[1], 32, true));
	ASSERT_EQ(0, md_param_set("legacy_async_del_gendisk", variant->mode,
				  self->old_mode, sizeof(self->old_mode)));
	ASSERT_EQ(0, md_pick(&self->md));
}

FIXTURE_TEARDOWN(md_mdadm)
{
	run("mdadm --stop --quiet /dev/%s 2>/dev/null", self->md.name);
	md_cleanup(&self->md);
	md_param_set("legacy_async_del_gendisk", self->old_mode, NULL, 0);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
}

static int mdadm_create(struct _test_data_md_mdadm *self)
{
	return run("mdadm -C /dev/%s -q -R -e 1.2 -l 1 -n 2 --assume-clean %s %s",
		   self->md.name, self->disks[0].path, self->disks[1].path);
}

static int mdadm_assemble(struct _test_data_md_mdadm *self)
{
	return run("mdadm --assemble /dev/%s --quiet --run %s %s",
		   self->md.name, self->disks[0].path, self->disks[1].path);
}

static int mdadm_stop(struct _test_data_md_mdadm *self)
{
	int ret;

	/* What a stop leaves to be found by udev is not the matter here. */
	udev_pause();
	ret = run("mdadm --stop --quiet /dev/%s", self->md.name);
	udev_resume();
	return ret;
}

/* mdadm itself chooses the mode from 4.5 on; set it again after each call. */
static void set_mode(const struct _fixture_variant_md_mdadm *variant)
{
	md_param_set("legacy_async_del_gendisk", variant->mode, NULL, 0);
}

TEST_F_TIMEOUT(md_mdadm, B10_create_stop_assemble_stop, 120)
{
	int i;

	ASSERT_EQ(0, mdadm_create(self));
	for (i = 0; i < 3; i++) {
		set_mode(variant);
		ASSERT_EQ(0, mdadm_stop(self));
		ASSERT_STREQ("", md_left_in_the_end(&self->md));
		set_mode(variant);
		ASSERT_EQ(0, mdadm_assemble(self));
		ASSERT_STREQ("node sysfs number mdstat ", md_left(&self->md));
	}
	set_mode(variant);
	ASSERT_EQ(0, mdadm_stop(self));
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_HARNESS_MAIN
