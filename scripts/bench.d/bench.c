// SPDX-License-Identifier: GPL-2.0
/*
 * bench WORKLOAD N [ROUNDS]: one workload of `make bench`, in the VM. Prints lines
 * "workload,N,metric,value"; what is done several times gives its median. Built
 * with the helpers of the selftests, by scripts/bench.
 *
 * A metric's name ends in its unit: _us, _ms, _per_s; _insns are ticks of the TSC,
 * which are instructions under QEMU's -icount shift=0 only; _waits are grace periods
 * that were waited for, counted by kprobes in a round that is not timed. "inf" is
 * what had not ended after DEADLINE_MS.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include <linux/blkpg.h>
#include <linux/loop.h>

#include "dm.h"
#include "lifecycle.h"
#include "stall.h"
#include "trace.h"

#define SECTORS_PER_MIB	2048
#define ROUNDS_MAX	512
#define BLOCK		4096

static const char *workload;
static int n, rounds;

#define must(call) do {								\
	long must_ret = (call);							\
	if (must_ret < 0) {							\
		fprintf(stderr, "bench: %s %d: line %d: %s: %s\n", workload, n,	\
			__LINE__, #call, strerror(-must_ret));			\
		exit(1);							\
	}									\
} while (0)

static void report(const char *metric, double value)
{
	printf("%s,%d,%s,%.10g\n", workload, n, metric, value);
	fflush(stdout);
}

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, int nr)
{
	qsort(values, nr, sizeof(*values), compare);
	return nr & 1 ? values[nr / 2] : (values[nr / 2 - 1] + values[nr / 2]) / 2;
}

/* Do @fn(0) to @fn(@nr - 1), each in a process of its own, all at once. */
static void at_once(int nr, void (*fn)(int i))
{
	int i, go[2], status;
	char c;

	must(pipe(go) ? -errno : 0);
	fflush(NULL);
	for (i = 0; i < nr; i++) {
		pid_t pid = fork();

		must(pid < 0 ? -errno : 0);
		if (pid)
			continue;
		close(go[1]);
		/* The end of the file is the word to go. */
		if (read(go[0], &c, 1))
			exit(1);
		fn(i);
		exit(0);
	}
	close(go[0]);
	close(go[1]);
	while (wait(&status) > 0)
		must(status ? -ECHILD : 0);
}

/* --- grace periods --- */

static const char * const waits[] = { GRACE_PERIOD_WAITS };

/* Those by this process, or called for by md or dm. */
static void add_wait(void *arg, unsigned int function, pid_t pid, const char *stack)
{
	const char *callers = strchr(stack, '\n');

	if (pid != getpid() && !called_by(stack, "md_") &&
	    !called_by(stack, "mddev_") && !called_by(stack, "dm_"))
		return;
	/* The slab of bios goes with its last user, whoever that is. */
	if (called_by(stack, "bioset_exit"))
		return;
	/* Called by another of the functions, which has been counted. */
	if (callers && called_by(callers + 1, "synchronize_"))
		return;
	if (getenv("BENCH_STACKS"))
		fprintf(stderr, "# %d %s, called by\n%s", pid, waits[function], stack);
	++*(int *)arg;
}

static struct stacks stacks;

/* How many there were since the last time. */
static int count_waits(void)
{
	int count = 0;

	must(stacks_read(&stacks, add_wait, &count));
	return count;
}

/* --- md --- */

struct array {
	struct md_dev md;
	struct disk disks[2];
	int fd;
};

static void array_number(struct array *array, int nr)
{
	array->md.minor = nr;
	snprintf(array->md.name, sizeof(array->md.name), "md%d", nr);
}

/* Without /proc/mdstat, which is as long as there are arrays. */
static bool array_left(const struct md_dev *md)
{
	return path_exists("/dev/%s", md->name) ||
	       path_exists(VIRTUAL_BLOCK "%s", md->name) ||
	       path_exists("/sys/dev/block/%u:%u", MD_MAJOR, md->minor);
}

static void array_wait_gone(const struct md_dev *md)
{
	uint64_t end = now_ms() + DEADLINE_MS;

	while (array_left(md)) {
		must(now_ms() > end ? -ETIMEDOUT : 0);
		usleep(100);
	}
}

static void array_make(struct array *array, int members)
{
	must(md_new_array(&array->md));
	array->fd = md_open(&array->md, O_RDWR);
	must(array->fd);
	must(md_build(array->fd, array->disks, members));
}

static void array_stop(struct array *array)
{
	must(md_stop(array->fd));
	close(array->fd);
	array_wait_gone(&array->md);
}

/*
 * Base leaves it to a work item to delete the device, the last steps of which nobody
 * sees: the number is free when there can be a device of that number again.
 */
static void array_stop_until_free(struct array *array)
{
	must(md_stop(array->fd));
	close(array->fd);
	array_wait_gone(&array->md);
	must(md_new_array(&array->md));
}

/*
 * Another array that runs. The last one takes slabs of the block layer along, and who
 * makes the next one waits for that, in any kernel: only "alone" is about that.
 */
static struct array bystander;

static void bystander_start(void)
{
	must(disk_create(&bystander.disks[0], 4, false));
	array_number(&bystander, 600);
	array_make(&bystander, 1);
}

static void bystander_stop(void)
{
	array_stop(&bystander);
	disk_destroy(&bystander.disks[0]);
}

/*
 * members N: assemble a raid1 of N members that have superblocks of version 1.2,
 * by ioctls as mdadm does it, and stop it.
 */
static void members_assemble(struct array *array, const struct disk *disks)
{
	mdu_array_info_t version = { .major_version = 1, .minor_version = 2 };
	int i;

	array->fd = md_open(&array->md, O_RDWR);
	must(array->fd);
	must(md_ioctl(array->fd, SET_ARRAY_INFO, &version));
	for (i = 0; i < n; i++)
		must(md_add_disk(array->fd, i, &disks[i]));
	must(md_run(array->fd));
}

static void members(void)
{
	struct disk *disks = calloc(n, sizeof(*disks));
	double assemble[ROUNDS_MAX], stop[ROUNDS_MAX];
	char *cmd = malloc(512 + n * sizeof(disks->path));
	struct array array = {};
	size_t len;
	int i;

	array_number(&array, 200);
	len = sprintf(cmd, "mdadm --create /dev/%s --run --assume-clean --level=1"
		      " --bitmap=none --metadata=1.2 --raid-devices=%d", array.md.name, n);
	for (i = 0; i < n; i++) {
		must(disk_create(&disks[i], 16, true));
		len += sprintf(cmd + len, " %s", disks[i].path);
	}
	sprintf(cmd + len, " >/dev/null 2>&1 && mdadm --stop /dev/%s >/dev/null 2>&1",
		array.md.name);
	must(system(cmd) ? -EIO : 0);
	array_wait_gone(&array.md);

	/* What the first one of its kind costs is none of ours. */
	must(md_new_array(&array.md));
	members_assemble(&array, disks);
	array_stop_until_free(&array);
	for (i = 0; i < rounds; i++) {
		double start = now_us(), middle;

		members_assemble(&array, disks);
		middle = now_us();
		array_stop_until_free(&array);
		assemble[i] = middle - start;
		stop[i] = now_us() - middle;
	}
	report("assemble_us", median(assemble, rounds));
	report("stop_us", median(stop, rounds));

	must(stacks_start(&stacks, waits, ARRAY_SIZE(waits)));
	count_waits();
	members_assemble(&array, disks);
	report("assemble_waits", count_waits());
	array_stop_until_free(&array);
	report("stop_waits", count_waits());
	stacks_stop(&stacks);
	md_cleanup(&array.md);
	for (i = 0; i < n; i++)
		disk_destroy(&disks[i]);
}

/*
 * serial N, parallel N: make N arrays of one member each, one after the other or
 * by 8 processes, so that all are there at the same time; and stop them likewise,
 * until there can be one again.
 */
#define PROCESSES	8

static struct array *arrays;

static void make_some(int first)
{
	int i;

	for (i = first; i < n; i += PROCESSES) {
		array_make(&arrays[i], 1);
		close(arrays[i].fd);
	}
}

static void stop_some(int first)
{
	int i;

	for (i = first; i < n; i += PROCESSES) {
		arrays[i].fd = md_open(&arrays[i].md, O_RDWR);
		must(arrays[i].fd);
		array_stop(&arrays[i]);
	}
}

static void all(void (*fn)(int first), bool parallel)
{
	int i;

	if (parallel)
		at_once(PROCESSES, fn);
	else
		for (i = 0; i < PROCESSES; i++)
			fn(i);
}

static void many(bool parallel)
{
	double make[ROUNDS_MAX], stop[ROUNDS_MAX], both[ROUNDS_MAX];
	int i;

	/* Shared: who makes one and who stops it are not the same. */
	arrays = mmap(NULL, n * sizeof(*arrays), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(arrays == MAP_FAILED ? -errno : 0);
	for (i = 0; i < n; i++) {
		array_number(&arrays[i], i);
		must(disk_create(&arrays[i].disks[0], 4, false));
	}
	all(make_some, parallel);
	all(stop_some, parallel);
	for (i = 0; i < rounds; i++) {
		double start = now_us(), middle;

		all(make_some, parallel);
		middle = now_us();
		all(stop_some, parallel);
		must(md_new_array(&arrays[0].md));
		make[i] = n * 1e6 / (middle - start);
		stop[i] = n * 1e6 / (now_us() - middle);
		both[i] = n * 1e6 / (now_us() - start);
		md_cleanup(&arrays[0].md);
		array_number(&arrays[0], 0);
	}
	report("made_per_s", median(make, rounds));
	report("stopped_per_s", median(stop, rounds));
	report("lives_per_s", median(both, rounds));
	for (i = 0; i < n; i++)
		disk_destroy(&arrays[i].disks[0]);
}

static void serial(void)
{
	many(false);
}

static void parallel(void)
{
	many(true);
}

/*
 * stop 2, alone 2: when STOP_ARRAY returns, when all is gone, and when it has been made
 * again.
 */
static void stop(void)
{
	double ret[ROUNDS_MAX], gone[ROUNDS_MAX], again[ROUNDS_MAX];
	struct array array = {};
	int i;

	array_number(&array, 200);
	for (i = 0; i < n; i++)
		must(disk_create(&array.disks[i], 4, false));
	for (i = -1; i < rounds; i++) {
		int at = i < 0 ? 0 : i;
		double start;

		array_make(&array, n);
		start = now_us();
		must(md_stop(array.fd));
		ret[at] = now_us() - start;
		close(array.fd);
		array_wait_gone(&array.md);
		gone[at] = now_us() - start;
		must(md_new_array(&array.md));
		again[at] = now_us() - start;
		array.fd = md_open(&array.md, O_RDWR);
		must(array.fd);
		must(md_build(array.fd, array.disks, n));
		array_stop(&array);
	}
	report("stop_returns_us", median(ret, rounds));
	report("gone_us", median(gone, rounds));
	report("made_again_us", median(again, rounds));
	for (i = 0; i < n; i++)
		disk_destroy(&array.disks[i]);
}

/*
 * stuck N: what another array's open, which makes it, and life take, while the work
 * of one array waits for I/O that does not end (N = 1), and while all is well (0).
 */
struct sick {
	struct leg leg;
	struct disk disk;
	struct md_dev md;
	struct task writer;
	int fd;
};

/* A failed member cannot be taken out while a write to the other one is stuck. */
static void fall_ill(struct sick *sick)
{
	struct disk both[2];

	must(disk_create(&sick->disk, 8, false));
	must(leg_create(&sick->leg, "leg", 8));
	both[0] = sick->disk;
	both[1] = sick->leg.disk;
	must(md_pick(&sick->md));
	sick->fd = md_start(&sick->md, &(struct md_shape) { .level = 1 }, both, 2);
	must(sick->fd);
	if (!n)
		return;
	must(leg_stall(&sick->leg));
	must(task_start(&sick->writer, "a writer", task_write_node, sick->md.node, -1));
	must(task_blocked(&sick->writer));
	must(md_ioctl(sick->fd, SET_DISK_FAULTY,
		      (void *)makedev(sick->disk.major, sick->disk.minor)));
	must(task_find("md_start_sync") ? 0 : -ETIMEDOUT);
}

static void recover(struct sick *sick)
{
	leg_release(&sick->leg);
	if (sick->writer.shared)
		task_result(&sick->writer);
	task_end(&sick->writer);
	close(sick->fd);
	md_cleanup(&sick->md);
	leg_destroy(&sick->leg);
	disk_destroy(&sick->disk);
}

static long open_other(struct task *task, void *arg)
{
	struct array *array = arg;
	double start = now_us();

	array->fd = md_open(&array->md, O_RDWR);
	if (array->fd < 0)
		return array->fd;
	task->shared->out = now_us() - start;
	must(md_build(array->fd, array->disks, 2));
	array_stop(array);
	return now_us() - start;
}

static void stuck(void)
{
	double open[ROUNDS_MAX], life[ROUNDS_MAX];
	struct array array = {};
	struct sick sick = {};
	long ret = 0;
	int i;

	must(disk_create(&array.disks[0], 4, false));
	must(disk_create(&array.disks[1], 4, false));
	must(md_pick(&array.md));
	fall_ill(&sick);
	for (i = 0; i < rounds && ret >= 0; i++) {
		struct task task = {};

		must(task_start(&task, "a life", open_other, &array, -1));
		ret = task_result(&task);
		must(ret == -ETIMEDOUT ? 0 : ret);
		open[i] = ret < 0 && !task.shared->out ? INFINITY : task.shared->out;
		life[i] = ret < 0 ? INFINITY : ret;
		/* It goes on, or ends, when there is nothing that is stuck. */
		if (ret < 0) {
			recover(&sick);
			ret = task_result(&task);
			must(ret);
			ret = -ETIMEDOUT;
		}
		task_end(&task);
	}
	report("open_us", median(open, i));
	report("life_us", median(life, i));
	if (ret >= 0)
		recover(&sick);
	disk_destroy(&array.disks[0]);
	disk_destroy(&array.disks[1]);
}

/*
 * churn N: make, run and stop an array for ROUNDS seconds, while N others open it
 * and ask, through the node of devtmpfs or one that stays: cycles that succeed as
 * a whole, and opens that find a device that is there and yet is not.
 */
static bool cycle(struct array *array, unsigned int *refused)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	int ret;

	array->fd = md_open(&array->md, O_RDWR);
	if (array->fd < 0) {
		++*refused;
		return false;
	}
	ret = md_build(array->fd, array->disks, 2);
	if (!ret)
		do {
			/* Open elsewhere at that moment. */
			ret = md_stop(array->fd);
		} while (ret == -EBUSY && now_ms() < end && !usleep(500));
	close(array->fd);
	return !ret;
}

static void churn(void)
{
	struct observer *observers = calloc(n, sizeof(*observers));
	unsigned int lives = 0, useful = 0, refused = 0, opens = 0, failed = 0;
	struct array array = {};
	double start, end;
	char devtmpfs[64];
	int i;

	must(disk_create(&array.disks[0], 4, false));
	must(disk_create(&array.disks[1], 4, false));
	must(md_pick(&array.md));
	snprintf(devtmpfs, sizeof(devtmpfs), "/dev/%s", array.md.name);
	for (i = 0; i < n; i++)
		must(observer_start_slow(&observers[i],
					 i & 1 ? devtmpfs : array.md.node, 0));
	start = now_us();
	end = start + rounds * 1e6;
	for (; now_us() < end; lives++)
		useful += cycle(&array, &refused);
	end = now_us();
	for (i = 0; i < n; i++) {
		struct observer *obs = &observers[i];

		must(observer_finish(obs));
		opens += obs->counts->rounds + obs->counts->refused;
		failed += obs->counts->refused;
		observer_stop(obs);
	}
	report("useful_per_s", useful * 1e6 / (end - start));
	report("tried_per_s", lives * 1e6 / (end - start));
	report("own_opens_failed_percent", 100.0 * refused / lives);
	report("observers_opens_failed_percent", opens ? 100.0 * failed / opens : 0);
	md_cleanup(&array.md);
	disk_destroy(&array.disks[0]);
	disk_destroy(&array.disks[1]);
}

/* floor 1: a bare disk, added and removed; and whole lives, of md and dm. */
static struct disk floor_disk;
static struct array floor_array;

static void null_blk_life(void)
{
	must(disk_power_on(&floor_disk));
	must(disk_power_off(&floor_disk));
}

static void loop_life(void)
{
	int fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	must(fd < 0 ? -errno : 0);
	must(ioctl(fd, LOOP_CTL_ADD, 99) < 0 ? -errno : 0);
	must(ioctl(fd, LOOP_CTL_REMOVE, 99) < 0 ? -errno : 0);
	close(fd);
}

static void md_life(void)
{
	array_make(&floor_array, 2);
	array_stop(&floor_array);
}

static void dm_life(void)
{
	struct dm_row row = dm_linear(&floor_array.disks[0], SECTORS_PER_MIB);
	struct dm_dev dm;

	must(dm_create(&dm, "floor"));
	must(dm_load(&dm, &row, 1));
	must(dm_resume(&dm));
	must(dm_remove(&dm));
}

static void lives(void)
{
	static const struct {
		const char *name;
		void (*live)(void);
	} kinds[] = {
		{ "null_blk", null_blk_life }, { "loop", loop_life },
		{ "md", md_life }, { "dm", dm_life },
	};
	double us[ROUNDS_MAX];
	char metric[32];
	unsigned int k;
	int i;

	must(disk_create(&floor_disk, 4, false));
	must(disk_power_off(&floor_disk));
	must(disk_create(&floor_array.disks[0], 4, false));
	must(disk_create(&floor_array.disks[1], 4, false));
	array_number(&floor_array, 200);
	for (k = 0; k < ARRAY_SIZE(kinds); k++) {
		kinds[k].live();
		for (i = 0; i < rounds; i++) {
			double start = now_us();

			kinds[k].live();
			us[i] = now_us() - start;
		}
		snprintf(metric, sizeof(metric), "%s_us", kinds[k].name);
		report(metric, median(us, rounds));
		must(stacks_start(&stacks, waits, ARRAY_SIZE(waits)));
		count_waits();
		kinds[k].live();
		snprintf(metric, sizeof(metric), "%s_waits", kinds[k].name);
		report(metric, count_waits());
		stacks_stop(&stacks);
	}
	disk_destroy(&floor_disk);
	disk_destroy(&floor_array.disks[0]);
	disk_destroy(&floor_array.disks[1]);
}

/* --- dm --- */

/* A load of any number of rows: those of dm.h have to fit into 4 KiB. */
static struct dm_ioctl *big_load(const struct dm_dev *dm, const struct disk *on, bool one)
{
	const size_t room = sizeof(struct dm_target_spec) + 32;
	size_t size = sizeof(struct dm_ioctl) + n * room;
	struct dm_ioctl *io = calloc(1, size);
	int i;

	must(io ? 0 : -ENOMEM);
	io->version[0] = DM_VERSION_MAJOR;
	io->data_size = size;
	io->data_start = sizeof(*io);
	io->target_count = n;
	snprintf(io->name, sizeof(io->name), "%s", dm->name);
	for (i = 0; i < n; i++) {
		struct dm_target_spec *spec = (void *)((char *)(io + 1) + i * room);

		spec->sector_start = i * 8ULL;
		spec->length = 8;
		spec->next = room;
		strcpy(spec->target_type, "linear");
		snprintf((char *)(spec + 1), 32, "%u:%u 0",
			 on[one ? 0 : i].major, on[one ? 0 : i].minor);
	}
	return io;
}

static void load(const struct dm_ioctl *request)
{
	struct dm_ioctl *io = malloc(request->data_size);
	int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);

	must(fd < 0 ? -errno : 0);
	memcpy(io, request, request->data_size);
	must(ioctl(fd, DM_TABLE_LOAD, io) < 0 ? -errno : 0);
	close(fd);
	free(io);
}

static void table(const struct disk *on, bool one)
{
	double first[ROUNDS_MAX], again[ROUNDS_MAX], swap[ROUNDS_MAX], gone[ROUNDS_MAX];
	int i;

	for (i = -1; i < rounds; i++) {
		int at = i < 0 ? 0 : i;
		struct dm_ioctl *io;
		struct dm_dev dm;
		double start;

		must(dm_create(&dm, "table"));
		io = big_load(&dm, on, one);
		start = now_us();
		load(io);
		first[at] = now_us() - start;
		must(dm_resume(&dm));
		start = now_us();
		load(io);
		again[at] = now_us() - start;
		start = now_us();
		must(dm_suspend(&dm));
		must(dm_resume(&dm));
		swap[at] = now_us() - start;
		start = now_us();
		must(dm_remove(&dm));
		gone[at] = now_us() - start;
		free(io);
	}
	report("load_us", median(first, rounds));
	report("reload_us", median(again, rounds));
	report("swap_us", median(swap, rounds));
	report("remove_us", median(gone, rounds));
}

/* table_n: tables of 16 to N rows, four times as many each time, on as many devices. */
#define PARTITIONS	255

static void add_partition(const struct disk *disk, int fd, int nr, struct disk *part)
{
	struct blkpg_partition blkpg = {
		.pno = nr + 1, .start = (nr + 1) * 4096LL, .length = 4096,
	};
	struct blkpg_ioctl_arg arg = {
		.op = BLKPG_ADD_PARTITION, .datalen = sizeof(blkpg), .data = &blkpg,
	};
	char buf[32];

	must(ioctl(fd, BLKPG, &arg) < 0 ? -errno : 0);
	must(file_read(buf, sizeof(buf), "/sys/block/%s/%sp%d/dev", disk->name,
		       disk->name, nr + 1));
	must(sscanf(buf, "%u:%u", &part->major, &part->minor) == 2 ? 0 : -EINVAL);
}

static void table_n(void)
{
	int i, most = n, fd = -1, disks = (n + PARTITIONS - 1) / PARTITIONS;
	struct disk *disk = calloc(disks, sizeof(*disk));
	struct disk *parts = calloc(n, sizeof(*parts));

	for (i = 0; i < most; i++) {
		struct disk *on = &disk[i / PARTITIONS];

		if (i % PARTITIONS == 0) {
			close(fd);
			must(disk_create(on, 4, false));
			fd = open(on->path, O_RDWR | O_CLOEXEC);
			must(fd < 0 ? -errno : 0);
		}
		add_partition(on, fd, i % PARTITIONS, &parts[i]);
	}
	close(fd);
	for (n = 16; n <= most; n *= 4)
		table(parts, false);
	if (n != 4 * most) {
		n = most;
		table(parts, false);
	}
	for (i = 0; i < disks; i++)
		disk_destroy(&disk[i]);
}

/* table_1: the same, of as many rows on one device. */
static void table_1(void)
{
	struct disk disk = {};
	int most = n;

	must(disk_create(&disk, 128, false));
	for (n = 16; n <= most; n *= 4)
		table(&disk, true);
	disk_destroy(&disk);
}

/* remove_all N: N devices by one ioctl. */
static void remove_all(void)
{
	struct dm_dev *dms = calloc(n, sizeof(*dms));
	double ms[ROUNDS_MAX];
	struct disk disk = {};
	struct dm_row row;
	char suffix[16];
	int i, at;

	must(disk_create(&disk, 8, false));
	row = dm_linear(&disk, SECTORS_PER_MIB);
	for (at = 0; at < rounds; at++) {
		double start;

		for (i = 0; i < n; i++) {
			snprintf(suffix, sizeof(suffix), "all%d", i);
			must(dm_create(&dms[i], suffix));
			must(dm_load(&dms[i], &row, 1));
			must(dm_resume(&dms[i]));
		}
		start = now_us();
		must(dm_remove_all());
		ms[at] = (now_us() - start) / 1000;
		for (i = 0; i < n; i++)
			must(*dm_left(&dms[i]) ? -EBUSY : 0);
	}
	report("remove_all_ms", median(ms, rounds));
	disk_destroy(&disk);
}

/* suspend 1: a suspend and a resume; and with a new table between them. */
static void suspend(void)
{
	double us[ROUNDS_MAX], swap[ROUNDS_MAX];
	struct disk disk = {};
	struct dm_row row;
	struct dm_dev dm;
	int i;

	must(disk_create(&disk, 8, false));
	row = dm_linear(&disk, SECTORS_PER_MIB);
	must(dm_create(&dm, "suspend"));
	must(dm_load(&dm, &row, 1));
	must(dm_resume(&dm));
	for (i = 0; i < rounds; i++) {
		double start = now_us(), middle;

		must(dm_suspend(&dm));
		must(dm_resume(&dm));
		middle = now_us();
		must(dm_load(&dm, &row, 1));
		must(dm_suspend(&dm));
		must(dm_resume(&dm));
		us[i] = middle - start;
		swap[i] = now_us() - middle;
	}
	report("suspend_resume_us", median(us, rounds));
	report("load_suspend_resume_us", median(swap, rounds));
	must(dm_remove(&dm));
	disk_destroy(&disk);
}

/*
 * holder 1: from when the last holder, a load that hung in its constructor, has
 * left until the removal that has waited for it returns.
 */
struct held {
	struct disk origin;
	struct leg leg;
	struct dm_dev dm;
};

static long load_snapshot(struct task *task, void *arg)
{
	struct held *held = arg;
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = "snapshot" };
	int ret;

	snprintf(row.params, sizeof(row.params), "%u:%u %u:%u P 8", held->origin.major,
		 held->origin.minor, held->leg.dm.major, held->leg.dm.minor);
	ret = dm_load(&held->dm, &row, 1);
	task->shared->out = now_us();
	return ret;
}

static long remove_task(struct task *task, void *arg)
{
	int ret = dm_remove(&((struct held *)arg)->dm);

	task->shared->out = now_us();
	return ret;
}

static void holder(void)
{
	struct held held = {};
	double us[ROUNDS_MAX];
	int i;

	must(disk_create(&held.origin, 8, false));
	must(leg_create(&held.leg, "leg", 8));
	for (i = 0; i < rounds; i++) {
		struct task loader = {}, remover = {};

		must(dm_create(&held.dm, "held"));
		must(leg_stall(&held.leg));
		must(task_start(&loader, "a load", load_snapshot, &held, -1));
		must(task_blocked(&loader));
		must(task_start(&remover, "DEV_REMOVE", remove_task, &held, -1));
		/* It sleeps again and again where it polls: see that it is hidden. */
		while (!dm_info(&held.dm, NULL, NULL))
			usleep(1000);
		leg_release(&held.leg);
		must(task_result(&remover));
		must(task_result(&loader) == -ENXIO ? 0 : -EINVAL);
		us[i] = (double)remover.shared->out - (double)loader.shared->out;
		task_end(&remover);
		task_end(&loader);
	}
	report("removed_us", median(us, rounds));
	leg_destroy(&held.leg);
	disk_destroy(&held.origin);
}

/* --- I/O --- */

/*
 * io N: instructions of one direct read and write of N bytes, on null_blk and what
 * can be made of it. The median of what ROUNDS times 50 of them cost.
 */
#define IOS	50

static void io_on(const char *name, int fd)
{
	double reads[ROUNDS_MAX], writes[ROUNDS_MAX];
	void *block = NULL;
	char metric[48];
	int i, j;

	must(fd);
	must(-posix_memalign(&block, BLOCK, n));
	memset(block, 0, n);
	for (i = -4; i < rounds; i++) {
		int at = i < 0 ? 0 : i;
		uint64_t start = __rdtsc(), middle;

		for (j = 0; j < IOS; j++)
			must(pread(fd, block, n, 0) == n ? 0 : -EIO);
		middle = __rdtsc();
		for (j = 0; j < IOS; j++)
			must(pwrite(fd, block, n, 0) == n ? 0 : -EIO);
		reads[at] = (double)(middle - start) / IOS;
		writes[at] = (double)(__rdtsc() - middle) / IOS;
	}
	snprintf(metric, sizeof(metric), "%s_read_insns", name);
	report(metric, median(reads, rounds));
	snprintf(metric, sizeof(metric), "%s_write_insns", name);
	report(metric, median(writes, rounds));
	free(block);
	close(fd);
}

static void io_md(int level)
{
	struct md_shape shape = { .level = level };
	struct array array = {};
	char name[16];

	must(disk_create(&array.disks[0], 4, false));
	must(disk_create(&array.disks[1], 4, false));
	must(md_pick(&array.md));
	array.fd = md_start(&array.md, &shape, array.disks, 2);
	must(array.fd);
	snprintf(name, sizeof(name), "raid%d", level);
	io_on(name, md_open(&array.md, O_RDWR | O_DIRECT));
	array_stop(&array);
	disk_destroy(&array.disks[0]);
	disk_destroy(&array.disks[1]);
}

static void io_dm(const char *name, struct dm_row (*row_on)(const struct disk *, uint64_t))
{
	struct disk disk = {};
	struct dm_row row;
	struct dm_dev dm;

	must(disk_create(&disk, 4, false));
	row = row_on(&disk, SECTORS_PER_MIB);
	must(dm_create(&dm, name));
	must(dm_load(&dm, &row, 1));
	must(dm_resume(&dm));
	io_on(name, dm_open(&dm, O_RDWR | O_DIRECT));
	must(dm_remove(&dm));
	disk_destroy(&disk);
}

static void io(void)
{
	struct disk disk = {};

	must(disk_create(&disk, 4, false));
	io_on("null_blk", open(disk.path, O_RDWR | O_DIRECT | O_CLOEXEC));
	disk_destroy(&disk);
	io_md(0);
	io_md(1);
	io_md(10);
	io_dm("linear", dm_linear);
	io_dm("multipath", dm_multipath);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
		int rounds;
		bool bystander;
	} workloads[] = {
		{ "members", members, 5, true }, { "serial", serial, 1, true },
		{ "parallel", parallel, 1, true }, { "stop", stop, 15, true },
		{ "alone", stop, 15, false }, { "stuck", stuck, 10, true },
		{ "churn", churn, 5, true }, { "lives", lives, 15, true },
		{ "table_n", table_n, 1, false }, { "table_1", table_1, 1, false },
		{ "remove_all", remove_all, 1, false }, { "suspend", suspend, 50, false },
		{ "holder", holder, 7, false }, { "io", io, 20, false },
	};
	const char *missing = md_missing("new_array") ?: dm_missing();
	unsigned int i;

	if (argc < 3 || atoi(argv[2]) < 0) {
		fprintf(stderr, "bench WORKLOAD N [ROUNDS]\n");
		return 1;
	}
	if (missing) {
		fprintf(stderr, "bench: %s\n", missing);
		return 1;
	}
	workload = argv[1];
	n = atoi(argv[2]);
	for (i = 0; i < ARRAY_SIZE(workloads); i++) {
		if (strcmp(workload, workloads[i].name))
			continue;
		rounds = argc > 3 ? atoi(argv[3]) : workloads[i].rounds;
		if (rounds < 1 || rounds > ROUNDS_MAX) {
			fprintf(stderr, "bench: 1 to %d rounds\n", ROUNDS_MAX);
			return 1;
		}
		if (workloads[i].bystander)
			bystander_start();
		workloads[i].run();
		if (workloads[i].bystander)
			bystander_stop();
		return 0;
	}
	fprintf(stderr, "bench: no workload %s\n", workload);
	return 1;
}
