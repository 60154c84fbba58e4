// SPDX-License-Identifier: GPL-2.0
/*
 * /proc/mdstat against arrays that come to nothing. The reader holds a reference
 * to an array while it sleeps on a mutex of that array; a creation that fails at
 * that moment must not free what the reader is going to walk on from. And events
 * that come while it is read, or too early.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "task.h"

#define READERS		2
#define ATTEMPTS	2000

FIXTURE(md_mdstat) {
	struct disk disks[2];
	struct md_dev md;
	pid_t readers[READERS];
	int kmsg;
};

FIXTURE_SETUP(md_mdstat)
{
	const char *missing = md_missing("new_array");

	self->kmsg = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, md_pick_name(&self->md));
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
}

FIXTURE_TEARDOWN(md_mdstat)
{
	int i;

	for (i = 0; i < READERS; i++) {
		if (self->readers[i] <= 0)
			continue;
		kill(self->readers[i], SIGKILL);
		waitpid(self->readers[i], NULL, 0);
	}
	close(self->kmsg);
	md_cleanup(&self->md);
	for (i = 0; i < 2; i++)
		disk_destroy(&self->disks[i]);
	udev_resume();
}

static void read_for_ever(void)
{
	char buf[4096];
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		fd = open("/proc/mdstat", O_RDONLY);
		while (read(fd, buf, sizeof(buf)) > 0)
			;
		close(fd);
	}
}

TEST_F(md_mdstat, B24_reader_against_a_name_that_exists)
{
	uint64_t end = now_ms() + 4 * DEADLINE_MS;
	int i, refused = 0;

	ASSERT_EQ(0, md_new_array(&self->md));
	for (i = 0; i < READERS; i++) {
		self->readers[i] = fork();
		ASSERT_LE(0, self->readers[i]);
		if (!self->readers[i])
			read_for_ever();
	}
	/* As often as that, or for a minute where all of them take longer. */
	for (i = 0; i < ATTEMPTS && now_ms() < end; i++)
		refused += file_write(self->md.name, MD_PARAM "new_array") == -EEXIST;
	EXPECT_LT(0, i);
	EXPECT_EQ(i, refused);

	/* A reader that has died in the kernel does not read any more. */
	for (i = 0; i < READERS; i++)
		EXPECT_EQ(0, waitpid(self->readers[i], NULL, WNOHANG));
	EXPECT_EQ(0, kmsg_count(self->kmsg, "general protection"));
	EXPECT_EQ(0, kmsg_count(self->kmsg, "BUG:"));
}

static void read_to_the_end(int fd)
{
	char buf[4096];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
}

/* What is found by the read that returns nothing was not shown by those before. */
TEST_F(md_mdstat, B2_event_before_the_last_read)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	struct pollfd mdstat = { .events = POLLPRI };
	char buf[4096];
	int md;

	ASSERT_EQ(0, md_new_array(&self->md));
	md = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, md);
	mdstat.fd = open("/proc/mdstat", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, mdstat.fd);

	/* There may be other arrays, and events of these. */
	do {
		ASSERT_EQ(0, lseek(mdstat.fd, 0, SEEK_SET));
		read_to_the_end(mdstat.fd);
		ASSERT_GT(end, now_ms());
	} while (poll(&mdstat, 1, 0));

	ASSERT_EQ(0, lseek(mdstat.fd, 0, SEEK_SET));
	ASSERT_LT(0, read(mdstat.fd, buf, sizeof(buf)));
	EXPECT_EQ(0, md_stop(md));
	read_to_the_end(mdstat.fd);
	EXPECT_EQ(1, poll(&mdstat, 1, 0));
	close(mdstat.fd);
	close(md);
}

#define STATE_LEN	32

/* As mdadm --monitor does: at each event look what there is. */
static void watch(const struct md_dev *md, char *state)
{
	struct pollfd mdstat = { .events = POLLPRI };
	char seen[STATE_LEN];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	mdstat.fd = open("/proc/mdstat", O_RDONLY | O_CLOEXEC);
	if (mdstat.fd < 0 || stay_on_cpu(0, 0, 1))
		_exit(1);
	for (;;) {
		lseek(mdstat.fd, 0, SEEK_SET);
		read_to_the_end(mdstat.fd);
		if (!file_read(seen, sizeof(seen), "/sys/block/%s/md/array_state", md->name))
			memcpy(state, seen, sizeof(seen));
		poll(&mdstat, 1, -1);
	}
}

/* Who is woken by the start of an array, and is at once, finds that it runs. */
TEST_F(md_mdstat, B7_event_when_it_runs)
{
	char *state = mmap(NULL, STATE_LEN, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int md, i;

	ASSERT_NE(MAP_FAILED, state);
	if (task_missing())
		SKIP(return, "%s", task_missing());
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, disk_create(&self->disks[i], 8, false));
	ASSERT_EQ(0, md_new_array(&self->md));
	md = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, md);
	ASSERT_EQ(0, md_configure(md, self->disks, 2));
	ASSERT_EQ(0, stay_on_cpu(0, 0, 0));
	self->readers[0] = fork();
	ASSERT_LE(0, self->readers[0]);
	if (!self->readers[0])
		watch(&self->md, state);
	ASSERT_EQ(0, thread_asleep(self->readers[0]));
	EXPECT_STREQ("inactive", state);

	ASSERT_EQ(0, md_run(md));
	ASSERT_EQ(0, thread_asleep(self->readers[0]));
	EXPECT_TRUE(!strcmp(state, "clean") || !strcmp(state, "active"))
		TH_LOG("%s", state);
	EXPECT_EQ(0, md_stop(md));
	close(md);
}

TEST_HARNESS_MAIN
