// SPDX-License-Identifier: GPL-2.0
/*
 * One makes an array, runs it and stops it, over and over, while eight others
 * open whatever is there, through the node of devtmpfs or through one that
 * stays, and ask it for its array. Nobody is refused by a device that is there
 * and yet is not, nobody waits twice for one instance, nobody is left waiting,
 * and nothing is left behind.
 *
 * MD_CHURN_SECONDS in the environment says how long; 5 if it does not.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "trace.h"

#define OBSERVERS	8
#define WAITS_MAX	1048576

/* Who has waited for which instance, as far as it was deleted. */
struct waits {
	struct wait {
		pid_t tid;
		long long diskseq;
	} *seen;
	unsigned int all, gone, twice;
};

FIXTURE(md_churn) {
	struct disk disks[2];
	struct md_dev md;
	struct observer observers[OBSERVERS];
	struct events retries;
	struct waits waits;
	char old_create[8];
	int fd;
};

FIXTURE_VARIANT(md_churn) {
	bool by_name;
};

FIXTURE_VARIANT_ADD(md_churn, open) {};
FIXTURE_VARIANT_ADD(md_churn, new_array) { .by_name = true };

FIXTURE_SETUP(md_churn)
{
	const char *missing = md_missing("create_on_open");

	self->fd = -1;
	self->retries.pipe = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", self->old_create,
				  sizeof(self->old_create)));
	self->waits.seen = calloc(WAITS_MAX, sizeof(*self->waits.seen));
	ASSERT_NE(NULL, self->waits.seen);
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, false));
	ASSERT_EQ(0, md_pick(&self->md));

	/* Not there on kernels whose opens do not wait. */
	events_start(&self->retries, "block/block_open_retry");
}

FIXTURE_TEARDOWN(md_churn)
{
	int i;

	for (i = 0; i < OBSERVERS; i++)
		observer_stop(&self->observers[i]);
	if (self->fd >= 0)
		close(self->fd);
	md_cleanup(&self->md);
	events_stop(&self->retries);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
	md_param_set("create_on_open", self->old_create, NULL, 0);
	free(self->waits.seen);
}

static void note_wait(void *arg, pid_t tid, const char *fields)
{
	long long diskseq = event_field(fields, "diskseq");
	struct waits *waits = arg;
	unsigned int i;

	waits->all++;
	if (event_field(fields, "gone") != 1)
		return;
	if (++waits->gone > WAITS_MAX / 2)
		return;
	for (i = (diskseq * 2654435761U + tid) % WAITS_MAX; waits->seen[i].tid;
	     i = (i + 1) % WAITS_MAX) {
		if (waits->seen[i].tid == tid &&
		    waits->seen[i].diskseq == diskseq) {
			waits->twice++;
			return;
		}
	}
	waits->seen[i].tid = tid;
	waits->seen[i].diskseq = diskseq;
}

/*
 * One life. The device may be there already, as an observer has opened the node
 * that stays.
 */
static int live_and_die(struct _test_data_md_churn *self, bool by_name)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	int ret;

	if (by_name) {
		ret = file_write(self->md.name, MD_PARAM "new_array");
		if (ret && ret != -EEXIST)
			return ret;
	}
	self->fd = md_open(&self->md, O_RDWR);
	if (self->fd < 0)
		return self->fd;
	ret = md_build(self->fd, self->disks, 2);
	while (!ret) {
		ret = md_stop(self->fd);
		if (ret != -EBUSY || now_ms() > end)
			break;
		/* Open elsewhere at that moment. */
		usleep(500);
		ret = 0;
	}
	close(self->fd);
	self->fd = -1;
	return ret;
}

TEST_F_TIMEOUT(md_churn, C7_nobody_refused_and_nothing_left, 600)
{
	const char *seconds = getenv("MD_CHURN_SECONDS");
	unsigned int lives = 0, refused = 0, failed = 0;
	struct observer_counts sum = {};
	char devtmpfs[64];
	uint64_t end;
	int i, ret;

	/* Half of them through each node, and of these every second hurriedly. */
	snprintf(devtmpfs, sizeof(devtmpfs), "/dev/%s", self->md.name);
	for (i = 0; i < OBSERVERS; i++)
		ASSERT_EQ(0, observer_start_slow(&self->observers[i],
						 i & 1 ? devtmpfs : self->md.node,
						 i & 2 ? O_NONBLOCK : 0));

	end = now_ms() + (seconds ? atoi(seconds) : 5) * 1000ULL;
	while (now_ms() < end && refused + failed < 100) {
		ret = live_and_die(self, variant->by_name);
		lives++;
		if (ret == -ENODEV || ret == -ENXIO) {
			refused++;
		} else if (ret) {
			TH_LOG("life %u: %s", lives, strerror(-ret));
			failed++;
		}
		EXPECT_LE(0, events_read(&self->retries, note_wait, &self->waits));
	}
	for (i = 0; i < OBSERVERS; i++) {
		struct observer *obs = &self->observers[i];

		EXPECT_EQ(0, observer_finish(obs)) {
			TH_LOG("observer %d is stuck", i);
		}
		/*
		 * Who waits is never told ENODEV or ENXIO: that an instance goes
		 * is what he waits for, and then there is a node that makes a
		 * fresh one, or none and so ENOENT. Who does not wait is told.
		 */
		if (!(i & 2))
			EXPECT_EQ(0U, obs->counts->refused);
		/*
		 * The node of devtmpfs can be removed between the look at it and
		 * the open. The path is then walked once more, not for ever: to
		 * be overtaken twice is to be told ESTALE. That cannot be where
		 * the node stays, nor for the creator, which uses that one.
		 */
		if (!(i & 1))
			EXPECT_EQ(0U, obs->counts->stale);
		EXPECT_EQ(0U, obs->counts->failed) {
			TH_LOG("observer %d: %s", i, strerror(obs->counts->error));
		}
		sum.rounds += obs->counts->rounds;
		sum.refused += obs->counts->refused;
		sum.absent += obs->counts->absent;
		sum.stale += obs->counts->stale;
	}
	EXPECT_LE(0, events_read(&self->retries, note_wait, &self->waits));

	TH_LOG("%u lives, %u refused; %u waits, %u for a deletion", lives, refused,
	       self->waits.all, self->waits.gone);
	TH_LOG("%u opens by observers, %u refused, %u found no node, %u stale ones",
	       sum.rounds, sum.refused, sum.absent, sum.stale);
	EXPECT_LT(0U, lives);
	EXPECT_EQ(0U, refused);
	EXPECT_EQ(0U, failed);
	EXPECT_EQ(0U, self->waits.twice);
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_HARNESS_MAIN
