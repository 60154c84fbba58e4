// SPDX-License-Identifier: GPL-2.0
/*
 * Tables that are replaced, cleared, swapped and removed: what the kernel waits
 * for meanwhile, and what of it while I/O is held up.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"
#include "stall.h"
#include "task.h"
#include "trace.h"

#define SECTORS_PER_MIB	2048
#define LEG_MIB		8
#define SWAPS		10

/* The steps of a swap come first: see note_call(). */
enum { SUSPEND, SWAP, RESUME, STEPS };

/*
 * Ends in a wait for RCU in kernels that have it, whenever something that has a
 * key for its locks is freed: a workqueue, say. That is the last thing it does,
 * so it may not be on the stack any more by then.
 */
#define LOCKDEP	"lockdep_unregister_key"

static const char * const calls[] = {
	"dm_suspend",
	"dm_swap_table",
	"dm_resume",
	LOCKDEP,
	"synchronize_rcu",
	"synchronize_rcu_expedited",
	"synchronize_srcu",
	"synchronize_srcu_expedited",
	"rcu_barrier",
	"kmem_cache_destroy",
};

#define CALLS ARRAY_SIZE(calls)

/* What one ioctl of ours has called, and what of it with I/O held up. */
struct cost {
	const struct stacks *stacks;
	bool suspended;
	bool in_lockdep;
	int nr[CALLS], held_up[CALLS];
	int other_rcu;		/* waits for RCU that are not the block layer's */
};

FIXTURE(dm_swap) {
	struct disk disk;
	struct dm_dev dm;
	struct stacks stacks;
	struct {
		pid_t pid;
		struct reads {
			uint64_t longest_us;
			unsigned int nr;
			int error;
			int forget;
		} *seen;
	} reader;
};

static bool probed(const struct stacks *stacks, const char *function)
{
	unsigned int i;

	for (i = 0; i < stacks->nr; i++)
		if (!strcmp(stacks->functions[i], function))
			return true;
	return false;
}

FIXTURE_SETUP(dm_swap)
{
	const char *missing = dm_missing();
	unsigned int i;

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	if (stacks_start(&self->stacks, calls, CALLS)) {
		udev_resume();
		SKIP(return, "no kprobes that tell callers");
	}
	if (path_exists("/proc/lockdep") && !probed(&self->stacks, LOCKDEP)) {
		stacks_stop(&self->stacks);
		udev_resume();
		SKIP(return, "lockdep's waits for RCU cannot be told from others");
	}
	for (i = 0; i < STEPS; i++)
		ASSERT_STREQ(calls[i], self->stacks.functions[i]);
	ASSERT_EQ(0, disk_create(&self->disk, 8, false));
	ASSERT_EQ(0, dm_create(&self->dm, "swap"));
}

FIXTURE_TEARDOWN(dm_swap)
{
	dm_resume(&self->dm);
	if (self->reader.pid > 0) {
		kill(self->reader.pid, SIGKILL);
		waitpid(self->reader.pid, NULL, 0);
	}
	stacks_stop(&self->stacks);
	dm_remove_when_unused(&self->dm);
	disk_destroy(&self->disk);
	udev_resume();
}

static int load(struct _test_data_dm_swap *self, const char *type)
{
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = type };

	snprintf(row.params, sizeof(row.params), "%u:%u 0%s", self->disk.major,
		 self->disk.minor, strcmp(type, "flakey") ? "" : " 3600 0");
	return dm_load(&self->dm, &row, 1);
}

static bool on_stack(const char *stack, const char *function)
{
	size_t len = strlen(function);
	const char *at = stack;

	while ((at = strstr(at, function))) {
		if ((at == stack || at[-1] == '\n') && strchr("\n .+", at[len]))
			return true;
		at += len;
	}
	return false;
}

static void note_call(void *arg, unsigned int function, pid_t pid, const char *stack)
{
	struct cost *cost = arg;
	const char *name = cost->stacks->functions[function];
	const char *caller = strchr(stack, '\n') ?: "";
	unsigned int i;

	if (pid != getpid())
		return;

	/* synchronize_srcu() may go on in synchronize_srcu_expedited(). */
	if (on_stack(caller, "synchronize_srcu") || on_stack(caller, "synchronize_rcu"))
		return;
	if (function == SUSPEND || function == SWAP)
		cost->suspended = true;
	if (function == RESUME)
		cost->suspended = false;
	for (i = 0; strcmp(calls[i], name); i++)
		;
	cost->nr[i]++;
	if (cost->suspended)
		cost->held_up[i]++;
	if (!strcmp(name, LOCKDEP))
		cost->in_lockdep = true;
	if (strncmp(name, "synchronize_rcu", 15))
		return;
	if (!cost->in_lockdep && !on_stack(stack, "bdi_unregister") &&
	    !on_stack(stack, "del_gendisk") && !on_stack(stack, "kmem_cache_destroy")) {
		cost->other_rcu++;
		ksft_print_msg("a wait for RCU, by %.*s\n",
			       (int)strcspn(caller + !!*caller, "\n"),
			       caller + !!*caller);
	}
	cost->in_lockdep = false;
}

static int calls_of(const struct cost *cost, const char *name)
{
	unsigned int i;

	for (i = 0; strcmp(calls[i], name); i++)
		;
	return cost->nr[i];
}

/* What has been called since the last time; @what, if not NULL, is printed. */
static struct cost read_cost(struct __test_metadata *_metadata,
			     struct _test_data_dm_swap *self, const char *what)
{
	struct cost cost = { .stacks = &self->stacks };
	unsigned int i;

	ASSERT_LE(0, stacks_read(&self->stacks, note_call, &cost));
	if (!what)
		return cost;
	ksft_print_msg("%s:%s\n", what, cost.other_rcu ? " waits for RCU" : "");
	for (i = STEPS; i < CALLS; i++)
		if (cost.nr[i])
			ksft_print_msg("  %-28s %3d, %d while suspended\n", calls[i],
				       cost.nr[i], cost.held_up[i]);
	return cost;
}

static void start(struct __test_metadata *_metadata, struct _test_data_dm_swap *self,
		  const char *type)
{
	ASSERT_EQ(0, load(self, type));
	ASSERT_EQ(0, dm_resume(&self->dm));
	read_cost(_metadata, self, NULL);
}

/*
 * All users of a table are under SRCU, so it takes one grace period of that, and
 * none of RCU, which would need every CPU.
 */
TEST_F(dm_swap, B22_replacing_an_inactive_table_waits_for_its_users_only)
{
	struct cost cost;

	start(_metadata, self, "linear");
	ASSERT_EQ(0, load(self, "linear"));
	cost = read_cost(_metadata, self, "load");
	EXPECT_EQ(0, calls_of(&cost, "synchronize_srcu"));
	EXPECT_EQ(0, cost.other_rcu);

	ASSERT_EQ(0, load(self, "linear"));
	cost = read_cost(_metadata, self, "load over an inactive table");
	EXPECT_EQ(1, calls_of(&cost, "synchronize_srcu"));
	EXPECT_EQ(0, cost.other_rcu);
}

TEST_F(dm_swap, B22_clear_waits_for_users_only)
{
	struct cost cost;

	start(_metadata, self, "linear");
	ASSERT_EQ(0, load(self, "linear"));
	read_cost(_metadata, self, NULL);
	ASSERT_EQ(0, dm_clear(&self->dm));
	cost = read_cost(_metadata, self, "clear");
	EXPECT_EQ(1, calls_of(&cost, "synchronize_srcu"));
	EXPECT_EQ(0, cost.other_rcu);
}

TEST_F(dm_swap, B22_swap_waits_for_users_only)
{
	struct cost cost;

	start(_metadata, self, "linear");
	ASSERT_EQ(0, load(self, "linear"));
	read_cost(_metadata, self, NULL);
	ASSERT_EQ(0, dm_resume(&self->dm));
	cost = read_cost(_metadata, self, "swap");

	/* Two for the suspend, and one for the old table. */
	EXPECT_EQ(3, calls_of(&cost, "synchronize_srcu"));
	EXPECT_EQ(0, cost.other_rcu);
}

TEST_F(dm_swap, B22_remove_waits_for_users_only)
{
	struct cost cost;

	start(_metadata, self, "linear");
	ASSERT_EQ(0, load(self, "linear"));
	read_cost(_metadata, self, NULL);
	ASSERT_EQ(0, dm_remove_when_unused(&self->dm));
	cost = read_cost(_metadata, self, "remove, with both tables");

	/* One for each of the tables. */
	EXPECT_LE(2, calls_of(&cost, "synchronize_srcu"));
	EXPECT_EQ(0, cost.other_rcu);
}

/* Memory pools that go may take a slab cache with them, and that RCU barriers. */
TEST_F(dm_swap, B22_no_pool_is_freed_while_io_is_held_up)
{
	static const char * const types[] = { "flakey", "linear", "flakey" };
	int destroyed = 0, held_up = 0;
	struct cost cost;
	unsigned int i;

	if (!dm_has_target("flakey"))
		SKIP(return, "no flakey target");
	start(_metadata, self, "linear");
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		ASSERT_EQ(0, load(self, types[i]));
		read_cost(_metadata, self, NULL);
		ASSERT_EQ(0, dm_resume(&self->dm));
		cost = read_cost(_metadata, self, types[i]);
		ASSERT_EQ(1, cost.nr[SWAP]);
		ASSERT_EQ(1, cost.nr[RESUME]);
		destroyed += calls_of(&cost, "kmem_cache_destroy");
		held_up += cost.held_up[CALLS - 1] + cost.held_up[CALLS - 2];
	}
	/* Other mapped devices may need the same cache: then none is destroyed. */
	if (!destroyed)
		SKIP(return, "the caches are used elsewhere");
	EXPECT_EQ(0, held_up);
}

/* --- how long I/O is held up --- */

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000;
}

static void read_on(const struct dm_dev *dm, struct reads *seen)
{
	int fd = dm_open(dm, O_RDONLY | O_DIRECT);
	uint64_t begin, took;
	void *block;

	if (fd < 0 || posix_memalign(&block, 4096, 4096)) {
		seen->error = EBADF;
		return;
	}
	for (;;) {
		begin = now_us();
		if (pread(fd, block, 4096, 0) != 4096) {
			seen->error = errno ?: EIO;
			return;
		}
		took = now_us() - begin;
		if (__atomic_exchange_n(&seen->forget, 0, __ATOMIC_ACQ_REL))
			seen->longest_us = 0;
		else if (took > seen->longest_us)
			seen->longest_us = took;
		__atomic_fetch_add(&seen->nr, 1, __ATOMIC_RELEASE);
	}
}

static void start_reader(struct __test_metadata *_metadata,
			 struct _test_data_dm_swap *self)
{
	self->reader.seen = mmap(NULL, sizeof(*self->reader.seen), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->reader.seen);
	self->reader.pid = fork();
	ASSERT_LE(0, self->reader.pid);
	if (!self->reader.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		read_on(&self->dm, self->reader.seen);
		_exit(1);
	}
}

/* Wait until it has read a few times from now on. */
static void let_it_read(struct __test_metadata *_metadata,
			struct _test_data_dm_swap *self)
{
	struct reads *seen = self->reader.seen;
	unsigned int from = __atomic_load_n(&seen->nr, __ATOMIC_ACQUIRE);
	uint64_t end = now_ms() + DEADLINE_MS;

	while (__atomic_load_n(&seen->nr, __ATOMIC_ACQUIRE) - from < 3) {
		ASSERT_EQ(0, seen->error);
		ASSERT_GT(end, now_ms());
		usleep(1000);
	}
}

/* Milliseconds of a read are printed, not asserted: they are the machine's too. */
TEST_F(dm_swap, B22_reads_while_tables_are_swapped)
{
	static const char * const pairs[][2] = {
		{ "linear", "linear" }, { "flakey", "linear" },
	};
	uint64_t us[SWAPS];
	unsigned int i, j, k;

	if (!dm_has_target("flakey"))
		SKIP(return, "no flakey target");
	start(_metadata, self, "linear");
	stacks_stop(&self->stacks);	/* they cost time */
	start_reader(_metadata, self);
	for (i = 0; i < ARRAY_SIZE(pairs); i++) {
		for (j = 0; j < SWAPS; j++) {
			ASSERT_EQ(0, load(self, pairs[i][j & 1]));
			__atomic_store_n(&self->reader.seen->forget, 1, __ATOMIC_RELEASE);
			let_it_read(_metadata, self);
			ASSERT_EQ(0, dm_resume(&self->dm));
			let_it_read(_metadata, self);
			us[j] = self->reader.seen->longest_us;
			for (k = j; k && us[k - 1] > us[k]; k--) {
				uint64_t t = us[k];

				us[k] = us[k - 1];
				us[k - 1] = t;
			}
		}
		ksft_print_msg("%s <-> %s: longest read, median %llu us, most %llu us\n",
			       pairs[i][0], pairs[i][1],
			       (unsigned long long)us[SWAPS / 2],
			       (unsigned long long)us[SWAPS - 1]);
	}
	EXPECT_EQ(0, self->reader.seen->error);
}

/* --- swaps of a snapshot, which has a say in them, and may take long --- */

FIXTURE(dm_swap_snapshot) {
	struct leg leg;		/* the origin's device */
	struct disk cow;
	struct dm_dev origin, dm;
	struct task reader, resumer, swapper, rival;
	int fd;
};

FIXTURE_SETUP(dm_swap_snapshot)
{
	const char *missing = dm_missing() ?: task_missing();

	self->fd = -1;
	if (!missing && !dm_has_target("snapshot"))
		missing = "no snapshot target";
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, leg_create(&self->leg, "leg", LEG_MIB));
	/* Of zeros: a persistent snapshot begins there. */
	ASSERT_EQ(0, disk_create(&self->cow, LEG_MIB, true));
	ASSERT_EQ(0, dm_create(&self->origin, "origin"));
	ASSERT_EQ(0, dm_create(&self->dm, "snapshot"));
}

FIXTURE_TEARDOWN(dm_swap_snapshot)
{
	leg_release(&self->leg);
	if (self->dm.name[0])
		dm_resume(&self->dm);
	task_end(&self->reader);
	task_end(&self->resumer);
	task_end(&self->swapper);
	task_end(&self->rival);
	if (self->fd >= 0)
		close(self->fd);
	if (self->dm.name[0])
		dm_remove_when_unused(&self->dm);
	if (self->origin.name[0])
		dm_remove_when_unused(&self->origin);
	leg_destroy(&self->leg);
	disk_destroy(&self->cow);
	udev_resume();
}

static int load_snapshot(struct _test_data_dm_swap_snapshot *self, uint64_t sectors)
{
	struct dm_row row = { .len = sectors, .type = "snapshot" };

	snprintf(row.params, sizeof(row.params), "%u:%u %u:%u P 16",
		 self->leg.disk.major, self->leg.disk.minor, self->cow.major,
		 self->cow.minor);
	return dm_load(&self->dm, &row, 1);
}

static void expect_live(struct __test_metadata *_metadata,
			struct _test_data_dm_swap_snapshot *self, const char *type)
{
	char table[160];
	uint32_t flags;

	ASSERT_EQ(0, dm_table(&self->dm, false, table, sizeof(table)));
	EXPECT_EQ(0, strncmp(table, type, strlen(type))) {
		TH_LOG("live is: %s", table);
	}
	ASSERT_EQ(0, dm_info(&self->dm, &flags, NULL));
	EXPECT_EQ(0U, flags & DM_SUSPEND_FLAG);
}

/*
 * A snapshot does not resume while another one is loaded that would take over
 * its exceptions: not before that table is gone.
 */
TEST_F(dm_swap_snapshot, B14_failed_swap_of_a_snapshot)
{
	const uint64_t size = LEG_MIB * SECTORS_PER_MIB;

	ASSERT_EQ(0, load_snapshot(self, size));
	ASSERT_EQ(0, dm_resume(&self->dm));
	self->fd = dm_open(&self->dm, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, self->fd);
	/* Longer than its origin: the swap sees that, the load does not. */
	ASSERT_EQ(0, load_snapshot(self, size + 8));
	EXPECT_EQ(-EINVAL, dm_resume(&self->dm));
	expect_live(_metadata, self, "snapshot ");
	ASSERT_EQ(0, task_start(&self->reader, "a read", task_read, &self->fd,
				self->fd));
	EXPECT_EQ(0, task_result(&self->reader));

	/* And the next one takes over. */
	ASSERT_EQ(0, load_snapshot(self, size));
	EXPECT_EQ(0, dm_resume(&self->dm));
	expect_live(_metadata, self, "snapshot ");
}

static long resume(struct task *task, void *arg)
{
	struct _test_data_dm_swap_snapshot *self = arg;

	return dm_resume(&self->dm);
}

/* The same, going on as soon as it can, before others on this CPU. */
static long resume_first(struct task *task, void *arg)
{
	int ret = stay_on_cpu(0, sched_getcpu(), 1);

	return ret ?: resume(task, arg);
}

/* To resume, the snapshot suspends its origin: that waits for a read. */
static void resume_up_to_the_origin(struct __test_metadata *_metadata,
				    struct _test_data_dm_swap_snapshot *self)
{
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = "snapshot-origin" };

	snprintf(row.params, sizeof(row.params), "%u:%u", self->leg.disk.major,
		 self->leg.disk.minor);
	ASSERT_EQ(0, dm_load(&self->origin, &row, 1));
	ASSERT_EQ(0, dm_resume(&self->origin));
	self->fd = dm_open(&self->origin, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(0, task_start(&self->reader, "a read", task_read, &self->fd,
				self->fd));
	ASSERT_EQ(0, task_blocked(&self->reader));
	ASSERT_EQ(0, task_start(&self->resumer, "a resume", resume, self, -1));
	ASSERT_EQ(0, task_blocked_in(&self->resumer, "snapshot_resume"));
}

/*
 * The device is suspended when the swap begins. Then one resume of others is
 * done before the swap has got at it; and another one waits behind the swap, to
 * come between the swap's suspend and the rest of it: so both are on one CPU.
 */
TEST_F(dm_swap_snapshot, B14_swap_of_a_device_that_others_resume)
{
	struct dm_row next = { .len = SECTORS_PER_MIB, .type = "linear" };
	cpu_set_t cpus;

	ASSERT_EQ(0, load_snapshot(self, SECTORS_PER_MIB));
	ASSERT_EQ(0, dm_resume(&self->dm));
	ASSERT_EQ(0, dm_suspend(&self->dm));
	resume_up_to_the_origin(_metadata, self);

	snprintf(next.params, sizeof(next.params), "%u:%u 0", self->cow.major,
		 self->cow.minor);
	ASSERT_EQ(0, dm_load(&self->dm, &next, 1));
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(cpus), &cpus));
	ASSERT_EQ(0, stay_on_cpu(0, sched_getcpu(), 0));
	ASSERT_EQ(0, task_start(&self->swapper, "the swap", resume, self, -1));
	ASSERT_EQ(0, task_blocked(&self->swapper));
	ASSERT_EQ(0, task_start(&self->rival, "a resume after it", resume_first, self,
				-1));
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(cpus), &cpus));
	ASSERT_EQ(0, task_blocked(&self->rival));

	leg_release(&self->leg);
	EXPECT_EQ(0, task_result(&self->resumer));
	EXPECT_EQ(0, task_result(&self->swapper));
	EXPECT_EQ(0, task_result(&self->rival));
	expect_live(_metadata, self, "linear ");
}

TEST_HARNESS_MAIN
