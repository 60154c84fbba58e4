// SPDX-License-Identifier: GPL-2.0
/*
 * How often md waits for a grace period, or makes a percpu reference atomic,
 * which takes one: not once per member, neither when an array is assembled nor
 * when it is stopped. And that its start runs no program and waits for that.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "trace.h"

#define FEW		2
#define MANY		24
#define LEVEL_LINEAR	(-1)
#define RUN_PROGRAM	"call_usermodehelper_exec"

static const char * const waits[] = {
	GRACE_PERIOD_WAITS, RUN_PROGRAM,
};

enum phase { ASSEMBLE, STOP, PHASES };

static const char * const phases[PHASES] = { "assemble", "stop" };

/* What one life cost, by function, in each phase. */
struct cost {
	int nr[STACKS_MAX], total;
};

FIXTURE(md_grace) {
	struct disk disks[MANY];
	struct stacks stacks;
	struct md_dev md;
	int fd;
};

FIXTURE_VARIANT(md_grace) {
	struct md_shape shape;
};

FIXTURE_VARIANT_ADD(md_grace, raid1) { .shape = { .level = 1 } };
FIXTURE_VARIANT_ADD(md_grace, raid5) { .shape = { .level = 5 } };
FIXTURE_VARIANT_ADD(md_grace, raid10) { .shape = { .level = 10 } };
FIXTURE_VARIANT_ADD(md_grace, linear) { .shape = { .level = LEVEL_LINEAR } };
FIXTURE_VARIANT_ADD(md_grace, raid0) { .shape = { .level = 0 } };

FIXTURE_SETUP(md_grace)
{
	const char *missing = md_missing("new_array");
	int i;

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	/* What udev does to disks and arrays is no cost of md's. */
	ASSERT_EQ(0, udev_pause());
	if (stacks_start(&self->stacks, waits, ARRAY_SIZE(waits))) {
		udev_resume();
		SKIP(return, "no kprobes that tell callers");
	}
	for (i = 0; i < MANY; i++)
		ASSERT_EQ(0, disk_create(&self->disks[i], 4, false));
	ASSERT_EQ(0, md_pick(&self->md));
}

FIXTURE_TEARDOWN(md_grace)
{
	int i;

	if (self->fd >= 0)
		close(self->fd);
	stacks_stop(&self->stacks);
	md_cleanup(&self->md);
	for (i = 0; i < MANY; i++)
		disk_destroy(&self->disks[i]);
	udev_resume();
}

static void add_call(void *arg, unsigned int function, pid_t pid, const char *stack)
{
	struct cost *cost = arg;

	/*
	 * It is md's if md called for it, in whatever task. Lockdep's waits for a
	 * queue that goes with its last user are not.
	 */
	if (!called_by(stack, "md_") && !called_by(stack, "mddev_"))
		return;
	/* The slab of bios goes with its last user, whoever that is. */
	if (called_by(stack, "bioset_exit"))
		return;
	/* Called by another of the functions, which has been counted. */
	if (function < STACKS_MAX && strchr(stack, '\n') &&
	    called_by(strchr(stack, '\n') + 1, "synchronize_"))
		return;
	cost->nr[function]++;
	cost->total++;
}

/* The calls since the last time. */
static struct cost read_cost(struct __test_metadata *_metadata,
			     struct _test_data_md_grace *self)
{
	struct cost cost = {};

	ASSERT_LE(0, stacks_read(&self->stacks, add_call, &cost));
	return cost;
}

static void assemble(struct __test_metadata *_metadata,
		     struct _test_data_md_grace *self,
		     const struct md_shape *shape, int nr)
{
	ASSERT_EQ(0, md_new_array(&self->md));
	self->fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_configure_as(self->fd, shape, self->disks, nr));
	ASSERT_EQ(0, md_run(self->fd));
}

/* A life from nothing to nothing of an array of @nr members. */
static void live(struct __test_metadata *_metadata, struct _test_data_md_grace *self,
		 const struct md_shape *shape, int nr, struct cost cost[PHASES])
{
	read_cost(_metadata, self);
	assemble(_metadata, self, shape, nr);
	cost[ASSEMBLE] = read_cost(_metadata, self);

	ASSERT_EQ(0, md_stop(self->fd));
	close(self->fd);
	self->fd = -1;
	ASSERT_STREQ("", md_left_in_the_end(&self->md));
	cost[STOP] = read_cost(_metadata, self);
}

static int calls_of(const struct stacks *stacks, const struct cost *cost,
		    const char *function)
{
	unsigned int i;

	for (i = 0; i < stacks->nr; i++)
		if (!strcmp(stacks->functions[i], function))
			return cost->nr[i];
	return -ENOENT;
}

static void same_for_few_and_many(struct __test_metadata *_metadata,
				  const struct stacks *stacks, enum phase phase,
				  const struct cost *few, const struct cost *many)
{
	unsigned int i;

	ksft_print_msg("%-34s %2d members %2d members\n", phases[phase], FEW, MANY);
	for (i = 0; i < stacks->nr; i++)
		if (few->nr[i] || many->nr[i])
			ksft_print_msg("  %-34s %8d %10d\n", stacks->functions[i],
				       few->nr[i], many->nr[i]);
	ksft_print_msg("  %-34s %8d %10d\n", "all", few->total, many->total);
	EXPECT_EQ(few->total, many->total);
}

TEST_F(md_grace, B16_members_cost_nothing)
{
	struct cost few[PHASES], many[PHASES];
	enum phase phase;

	/* What the first life of its kind costs is none of ours. */
	live(_metadata, self, &variant->shape, FEW, few);
	live(_metadata, self, &variant->shape, FEW, few);
	live(_metadata, self, &variant->shape, MANY, many);

	for (phase = 0; phase < PHASES; phase++)
		same_for_few_and_many(_metadata, &self->stacks, phase,
				      &few[phase], &many[phase]);
	/* modprobe, for a level that there has been before. */
	EXPECT_EQ(0, calls_of(&self->stacks, &few[ASSEMBLE], RUN_PROGRAM));
	/* A disk does not go without any, or nothing is counted here. */
	EXPECT_LT(0, few[STOP].total);
}

/* I/O is suspended meanwhile, and not for a program to run. */
TEST_F(md_grace, B16_level_that_is_there)
{
	char level[16];
	struct cost cost;

	assemble(_metadata, self, &variant->shape, FEW);
	ASSERT_EQ(0, file_read(level, sizeof(level), "/sys/block/%s/md/level",
			       self->md.name));
	read_cost(_metadata, self);
	EXPECT_EQ(0, md_attr_write(&self->md, "level", level));
	cost = read_cost(_metadata, self);
	EXPECT_EQ(0, calls_of(&self->stacks, &cost, RUN_PROGRAM));
}

TEST_HARNESS_MAIN
