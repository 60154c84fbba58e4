// SPDX-License-Identifier: GPL-2.0
/*
 * Several processes make, load, reload, suspend, rename, open and remove the
 * same few mapped devices, each as if it were alone. Every call ends, with one
 * of the errors that are to be expected; every table that is seen is one that
 * was loaded, and what is read is from one of them; and nothing is left behind.
 *
 * MD_CHURN_STEPS in the environment says how much each of them does; 150 things
 * if it does not.
 */
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"
#include "task.h"

#define SECTORS_PER_MIB	2048
#define WORKERS		4
#define DEVICES		3
#define BLOCK		4096

/* In this time something happens, or everybody waits for a suspended device. */
#define NOTHING_MS	300

/* In all slab caches, for each thing done; sysfs nodes are 136 bytes each. */
#define MAX_GROWTH	100

#define MAX_ERRNOS	4

struct churn {
	struct dm_dev devs[DEVICES];
	struct disk disks[2];
	bool alone;		/* no mapped devices but ours */
	struct {
		unsigned int done, refused;
	} ops[32];
	unsigned int progress;
	char failed[256];	/* the first thing that should not be */
};

struct op {
	const char *name;
	int (*fn)(struct churn *churn, unsigned int *seed);
	int errnos[MAX_ERRNOS];	/* that are to be expected */
};

/* The same things in the same order, whenever it runs. */
static unsigned int pick(unsigned int *seed, unsigned int nr)
{
	*seed = *seed * 1103515245 + 12345;
	return (*seed >> 16) % nr;
}

static const struct dm_dev *pick_dev(struct churn *churn, unsigned int *seed)
{
	return &churn->devs[pick(seed, DEVICES)];
}

static void fail(struct churn *churn, const char *what, const char *seen)
{
	if (!churn->failed[0])
		snprintf(churn->failed, sizeof(churn->failed), "%s: %s", what, seen);
}

static int op_create(struct churn *churn, unsigned int *seed)
{
	return dm_call(pick_dev(churn, seed), DM_DEV_CREATE, 0, NULL, 0, NULL);
}

static int op_load(struct churn *churn, unsigned int *seed)
{
	struct dm_row row = dm_linear(&churn->disks[pick(seed, 2)], SECTORS_PER_MIB);

	return dm_load(pick_dev(churn, seed), &row, 1);
}

static int op_load_bad(struct churn *churn, unsigned int *seed)
{
	static const struct dm_row row = {
		.len = SECTORS_PER_MIB, .type = "linear", .params = "259:1048575 0",
	};

	return dm_load(pick_dev(churn, seed), &row, 1);
}

static int op_resume(struct churn *churn, unsigned int *seed)
{
	return dm_resume(pick_dev(churn, seed));
}

static int op_suspend(struct churn *churn, unsigned int *seed)
{
	return dm_suspend(pick_dev(churn, seed));
}

static int op_clear(struct churn *churn, unsigned int *seed)
{
	return dm_clear(pick_dev(churn, seed));
}

static int op_rename(struct churn *churn, unsigned int *seed)
{
	const char *to = pick_dev(churn, seed)->name;

	return dm_call(pick_dev(churn, seed), DM_DEV_RENAME, 0, to, strlen(to) + 1,
		       NULL);
}

static int op_remove(struct churn *churn, unsigned int *seed)
{
	return dm_remove(pick_dev(churn, seed));
}

static int op_remove_deferred(struct churn *churn, unsigned int *seed)
{
	return dm_remove_deferred(pick_dev(churn, seed));
}

static int op_cancel_deferred(struct churn *churn, unsigned int *seed)
{
	static const char text[] = "@cancel_deferred_remove";
	char data[sizeof(struct dm_target_msg) + sizeof(text)] = {};

	/* A struct dm_target_msg for sector 0. */
	memcpy(data + offsetof(struct dm_target_msg, message), text, sizeof(text));
	return dm_call(pick_dev(churn, seed), DM_TARGET_MSG, 0, data, sizeof(data),
		       NULL);
}

/* Seldom, or there is never anything to remove. */
static int op_remove_all(struct churn *churn, unsigned int *seed)
{
	uint32_t flags = pick(seed, 2) ? DM_DEFERRED_REMOVE : 0;

	if (pick(seed, 8))
		return 0;
	return churn->alone ? dm_call(NULL, DM_REMOVE_ALL, flags, NULL, 0, NULL) : 0;
}

static int op_table(struct churn *churn, unsigned int *seed)
{
	char table[128] = "", want[160];
	int i, ret;

	ret = dm_table(pick_dev(churn, seed), pick(seed, 2), table, sizeof(table));
	if (ret || !table[0])
		return ret;
	for (i = 0; i < 2; i++) {
		snprintf(want, sizeof(want), "linear %s",
			 dm_linear(&churn->disks[i], SECTORS_PER_MIB).params);
		if (!strcmp(want, table))
			return 0;
	}
	fail(churn, "table", table);
	return 0;
}

static void ignore(int sig)
{
}

/* For a moment, if there is no event before. */
static int op_wait(struct churn *churn, unsigned int *seed)
{
	struct itimerval soon = {
		.it_value.tv_usec = 20000, .it_interval.tv_usec = 20000,
	};
	struct itimerval never = {};
	int ret;

	setitimer(ITIMER_REAL, &soon, NULL);
	ret = dm_call(pick_dev(churn, seed), DM_DEV_WAIT, 0, NULL, 0, NULL);
	setitimer(ITIMER_REAL, &never, NULL);
	return ret;
}

/* It may have been removed meanwhile, and be another one: one of ours. */
static int op_read(struct churn *churn, unsigned int *seed)
{
	struct dm_dev dev = *pick_dev(churn, seed);
	unsigned char *block;
	ssize_t i, n;
	int fd, ret;

	ret = dm_find(&dev, "churn");
	if (ret)
		return ret;
	fd = dm_open(&dev, O_RDONLY | O_DIRECT);
	if (fd < 0)
		return fd;
	if (posix_memalign((void **)&block, BLOCK, BLOCK)) {
		close(fd);
		return -ENOMEM;
	}
	n = pread(fd, block, BLOCK, 0);
	ret = n < 0 ? -errno : 0;
	close(fd);
	/* Nothing at all: there was no table. */
	for (i = 1; i < n && block[i] == block[0]; i++)
		;
	if (n > 0 && (i < n || (block[0] != 'A' && block[0] != 'B')))
		fail(churn, "read", "a mixture of data");
	free(block);
	return ret;
}

static const struct op ops[] = {
	{ "create", op_create, { EBUSY } },
	{ "create", op_create, { EBUSY } },
	{ "create", op_create, { EBUSY } },
	{ "create", op_create, { EBUSY } },
	{ "load", op_load, { ENXIO } },
	{ "load", op_load, { ENXIO } },
	{ "load", op_load, { ENXIO } },
	{ "load", op_load, { ENXIO } },
	{ "load, no such disk", op_load_bad, { ENXIO } },
	{ "resume", op_resume, { ENXIO, EINVAL } },
	{ "resume", op_resume, { ENXIO, EINVAL } },
	{ "resume", op_resume, { ENXIO, EINVAL } },
	{ "suspend", op_suspend, { ENXIO, EINVAL } },
	{ "clear", op_clear, { ENXIO } },
	{ "rename", op_rename, { ENXIO, EBUSY } },
	{ "remove", op_remove, { ENXIO, EBUSY } },
	{ "remove at the last close", op_remove_deferred, { ENXIO } },
	{ "cancel that", op_cancel_deferred, { ENXIO, EBUSY } },
	{ "remove_all", op_remove_all, {} },
	{ "table", op_table, { ENXIO } },
	{ "wait", op_wait, { ENXIO, EINTR } },
	{ "read", op_read, { ENXIO, EIO } },
	{ "read", op_read, { ENXIO, EIO } },
};

static void step(struct churn *churn, unsigned int *seed)
{
	unsigned int nr = pick(seed, ARRAY_SIZE(ops));
	const struct op *op = &ops[nr];
	int i, ret = op->fn(churn, seed);

	__atomic_fetch_add(&churn->progress, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(ret ? &churn->ops[nr].refused : &churn->ops[nr].done, 1,
			   __ATOMIC_RELAXED);
	if (!ret)
		return;
	for (i = 0; i < MAX_ERRNOS; i++)
		if (ret == -op->errnos[i])
			return;
	fail(churn, op->name, strerror(-ret));
}

FIXTURE(dm_churn) {
	struct churn *churn;
	struct task workers[WORKERS];
	int kmsg, there;
};

static int count_devices(void)
{
	glob_t found;
	int nr = 0;

	if (!glob("/sys/block/dm-*", 0, NULL, &found)) {
		nr = found.gl_pathc;
		globfree(&found);
	}
	return nr;
}

static int fill(const struct disk *disk, int byte)
{
	char block[BLOCK];
	int fd, ret;

	memset(block, byte, sizeof(block));
	fd = open(disk->path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = pwrite(fd, block, BLOCK, 0) == BLOCK && !fsync(fd) ? 0 : -EIO;
	close(fd);
	return ret;
}

FIXTURE_SETUP(dm_churn)
{
	struct sigaction interrupt = { .sa_handler = ignore };
	const char *missing = dm_missing() ?: task_missing();
	struct churn *churn;
	int i;

	self->kmsg = -1;
	if (missing)
		SKIP(return, "%s", missing);
	udev_hold_queue();
	churn = mmap(NULL, sizeof(*churn), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, churn);
	self->churn = churn;
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, disk_create(&churn->disks[i], 8, true));
		ASSERT_EQ(0, fill(&churn->disks[i], "AB"[i]));
	}
	for (i = 0; i < DEVICES; i++)
		snprintf(churn->devs[i].name, sizeof(churn->devs[i].name),
			 "lc%d_churn%d", getpid(), i);
	self->there = count_devices();
	churn->alone = !self->there;
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
	ASSERT_EQ(0, sigaction(SIGALRM, &interrupt, NULL));
}

/* Nobody waits for a suspended device, and then there is none. */
static int remove_all_of_ours(struct churn *churn)
{
	int i, ret, bad = 0;

	for (i = 0; i < DEVICES; i++) {
		dm_resume(&churn->devs[i]);
		ret = dm_remove_when_unused(&churn->devs[i]);
		if (ret && ret != -ENXIO)
			bad = ret;
	}
	return bad;
}

FIXTURE_TEARDOWN(dm_churn)
{
	int i;

	if (!self->churn)
		return;
	for (i = 0; i < DEVICES; i++)
		dm_resume(&self->churn->devs[i]);
	for (i = 0; i < WORKERS; i++)
		task_end(&self->workers[i]);
	remove_all_of_ours(self->churn);
	if (self->kmsg >= 0)
		close(self->kmsg);
	disk_destroy(&self->churn->disks[0]);
	disk_destroy(&self->churn->disks[1]);
	udev_resume();
}

struct work {
	struct churn *churn;
	unsigned int seed, steps;
};

static long work(struct task *task, void *arg)
{
	struct work *work = arg;
	unsigned int i;

	for (i = 0; i < work->steps && !work->churn->failed[0]; i++)
		step(work->churn, &work->seed);
	return 0;
}

static bool all_done(struct _test_data_dm_churn *self)
{
	int i;

	for (i = 0; i < WORKERS; i++)
		if (!task_done(&self->workers[i]))
			return false;
	return true;
}

/* All of them at once, with these @seed; -ETIMEDOUT if somebody is stuck. */
static int round_of(struct _test_data_dm_churn *self, unsigned int seed,
		    unsigned int steps)
{
	struct churn *churn = self->churn;
	uint64_t since = now_ms(), nudged = now_ms();
	unsigned int progress = 0;
	int i, ret = 0;

	for (i = 0; i < WORKERS; i++) {
		struct work arg = { churn, seed * WORKERS + i, steps };

		ret = task_start(&self->workers[i], "a worker", work, &arg, -1);
		if (ret)
			return ret;
	}
	while (!all_done(self)) {
		usleep(5000);
		if (progress != churn->progress) {
			progress = churn->progress;
			since = now_ms();
			nudged = since;
			continue;
		}
		if (now_ms() - since > DEADLINE_MS) {
			for (i = 0; i < WORKERS; i++)
				if (!task_done(&self->workers[i]))
					task_report(&self->workers[i]);
			return -ETIMEDOUT;
		}
		if (now_ms() - nudged > NOTHING_MS) {
			for (i = 0; i < DEVICES; i++)
				dm_resume(&churn->devs[i]);
			nudged = now_ms();
		}
	}
	for (i = 0; i < WORKERS; i++)
		task_end(&self->workers[i]);
	return remove_all_of_ours(churn);
}

TEST_F_TIMEOUT(dm_churn, B14_old_state_whole_and_nothing_left, 300)
{
	const char *env = getenv("MD_CHURN_STEPS");
	unsigned int i, steps = env ? atoi(env) : 150;
	struct churn *churn = self->churn;
	long long before, after;

	/* The first round is for what is allocated once. */
	EXPECT_EQ(0, round_of(self, 1, steps));
	ASSERT_STREQ("", churn->failed);
	before = slab_bytes(NULL);
	EXPECT_EQ(0, round_of(self, 2, steps));
	after = slab_bytes(NULL);
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		TH_LOG("%-26s %4u done, %4u refused", ops[i].name, churn->ops[i].done,
		       churn->ops[i].refused);
	EXPECT_STREQ("", churn->failed);
	EXPECT_EQ(self->there, count_devices());
	/* Every warning and every oops ends like that. */
	EXPECT_EQ(0, kmsg_count(self->kmsg, "---[ end trace"));

	/* Devices were there and came and went; the rest is up to who comes first. */
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		if (ops[i].fn == op_create || ops[i].fn == op_load ||
		    ops[i].fn == op_resume || ops[i].fn == op_remove)
			EXPECT_LT(0U, churn->ops[i].done);
	if (before == -ENOENT || kernel_has("kasan_report"))
		return;
	TH_LOG("%lld bytes of slab after %u things done", after - before,
	       WORKERS * steps);
	EXPECT_GT(MAX_GROWTH, (after - before) / (long long)(WORKERS * steps));
}

TEST_HARNESS_MAIN
