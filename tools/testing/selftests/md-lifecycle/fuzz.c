// SPDX-License-Identifier: GPL-2.0
/*
 * A fuzzer that knows the states. Several processes do, at once and by chance,
 * all that can be done to md arrays and mapped devices, legal or not. Some of
 * the devices are everybody's; of its own ones each worker knows whether they
 * have to be there. After every round, of some hundred operations, all workers
 * are parked, and what sysfs, /dev, /proc/mdstat and device mapper show has to
 * be one and the same, and what it has to be; then the workers end, everything
 * can be removed, is gone, and each device has told of its coming and going.
 *
 * What a worker does is up to the seed only. A round that fails is run again
 * with operations left out, as long as it still fails, and the shortest one is
 * printed, as a command that does it again.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/fs.h>

#include "lifecycle.h"
#include "dm.h"
#include "stall.h"
#include "task.h"

#define MAX_WORKERS	16
#define SHARED_DISKS	4
#define OWN_DISKS	2
#define DISKS		(SHARED_DISKS + OWN_DISKS * MAX_WORKERS)
#define LEGS		2
#define SHARED		3		/* numbers of md, and as many mapped devices */
#define NAMED		SHARED		/* the md device that has a name */
#define MDS		(NAMED + 1 + MAX_WORKERS)
#define DMS		(SHARED + MAX_WORKERS)
#define FILES		6		/* that a worker has open */
#define CHILDREN	3
#define MAX_ERRNOS	12
#define SECTORS		2048

/* In this time something happens, or everybody waits for a suspended device. */
#define NOTHING_MS	200

/* And in this, or somebody is stuck: also with all the debugging there is. */
#define STUCK_MS	60000

/* How often a list of operations may succeed before it counts as good. */
#define TRIES		3

/* Of slab: what else goes on, and for each operation. */
#define SLACK		(512 << 10)
#define MAX_GROWTH	20

/* What is wrong with a round. */
enum class { GOOD, ERRNO, MODEL, STUCK, DIFFER, LEFT, UEVENTS, REPORT, CLASSES };

static const char *const class_names[] = {
	[ERRNO] = "every operation ends with an errno it may",
	[MODEL] = "a device is there if and only if it has to be",
	[STUCK] = "nobody is stuck",
	[DIFFER] = "sysfs, /dev, mdstat and device mapper show the same",
	[LEFT] = "everything can be removed, and is gone",
	[UEVENTS] = "one add, one remove, and so on",
	[REPORT] = "no warnings",
};

enum tri { NO, MAYBE, YES };

/* What the one that is alone with a device knows of it. */
struct md_model {
	enum tri array, by_open, by_name;	/* that it has or is held by */
	enum tri open;
	unsigned int life;
	bool used;			/* there was a device in this round */
};

struct step {
	uint8_t worker, op;
	uint32_t arg;
};

struct list {
	struct step *steps;
	size_t nr;
};

/* Of personalities and targets: used by what the operations make. */
static const char *const modules[] = { "raid0", "raid10", "dm_zero" };

/* Seen by all processes. */
static struct fuzz {
	struct disk disks[DISKS];
	struct disk marker;		/* of uevents, and of nothing else */
	struct leg legs[LEGS];
	struct md_dev mds[MDS];
	struct dm_dev dms[DMS];
	bool alone;			/* no mapped devices but ours */
	bool unloadable[ARRAY_SIZE(modules)];
	struct counts {
		unsigned int done, refused, skipped;
	} ops[64];

	/* Of this round. */
	unsigned int progress, remove_alls;
	bool node_made[MDS];		/* in the place of devtmpfs's */
	struct md_model md_models[MAX_WORKERS];
	enum tri dm_models[MAX_WORKERS];
	int at[MAX_WORKERS];		/* the operation */
	enum class failed;
	char why[256];
} *fuzz;

static struct options {
	unsigned long long seed;
	unsigned long ops;
	unsigned int workers, quiet_every, shrink_seconds;
	const char *plant;
	bool udev;
} options = {
	.seed = 1,
	.ops = 10000, .workers = 4, .quiet_every = 500, .shrink_seconds = 200,
};

static int uevents = -1, kmsg = -1, kmsg_of_slub = -1, leg_files[LEGS];

/* Something cannot be ended or removed: no use to go on. */
static bool broken;

static void __printf(2, 3) fail(enum class class, const char *fmt, ...)
{
	va_list ap;

	/* The first one is what the others may come from. */
	if (!__sync_bool_compare_and_swap(&fuzz->failed, GOOD, class))
		return;
	va_start(ap, fmt);
	vsnprintf(fuzz->why, sizeof(fuzz->why), fmt, ap);
	va_end(ap);
}

/* --- what a worker has --- */

struct file {
	int fd;				/* -1: none */
	bool is_md;
	unsigned int dev;
	unsigned int life;		/* of the worker's own device */
};

static struct worker {
	unsigned int nr;
	struct file files[FILES];
	pid_t children[CHILDREN];
} worker;

#define SKIPPED	1			/* instead of an errno */

static unsigned int pick(uint32_t *arg, unsigned int nr)
{
	*arg = *arg * 1103515245 + 12345;
	return (*arg >> 16) % nr;
}

static unsigned int own_md(void)
{
	return NAMED + 1 + worker.nr;
}

static unsigned int own_dm(void)
{
	return SHARED + worker.nr;
}

static unsigned int pick_md(uint32_t *arg)
{
	return pick(arg, 3) ? pick(arg, NAMED + 1) : own_md();
}

static unsigned int pick_dm(uint32_t *arg)
{
	return pick(arg, 3) ? pick(arg, SHARED) : own_dm();
}

/* One of those that can be members of arrays and be below mapped devices. */
static const struct disk *pick_disk(uint32_t *arg)
{
	unsigned int nr = pick(arg, SHARED_DISKS + LEGS);

	return nr < SHARED_DISKS ? &fuzz->disks[nr] :
				   &fuzz->legs[nr - SHARED_DISKS].disk;
}

/* For a member of md device @nr: nobody else takes the disks of a worker. */
static const struct disk *pick_member(unsigned int nr, unsigned int slot,
				      uint32_t *arg)
{
	if (nr != own_md() || slot >= OWN_DISKS)
		return pick_disk(arg);
	return &fuzz->disks[SHARED_DISKS + OWN_DISKS * worker.nr + slot];
}

/* The worker's own model, if @nr is its own device. */
static struct md_model *md_model(unsigned int nr)
{
	return nr == own_md() ? &fuzz->md_models[worker.nr] : NULL;
}

static enum tri *dm_model(unsigned int nr)
{
	return nr == own_dm() ? &fuzz->dm_models[worker.nr] : NULL;
}

/* The model of the device behind @file, if that is not another one by now. */
static struct md_model *file_model(const struct file *file)
{
	struct md_model *model = file->is_md ? md_model(file->dev) : NULL;

	return model && model->life == file->life ? model : NULL;
}

static bool has_children(void)
{
	int i;

	for (i = 0; i < CHILDREN; i++)
		if (worker.children[i])
			return true;
	return false;
}

/* Is the device open, as far as this worker can have opened it? */
static enum tri is_open(bool is_md, unsigned int nr)
{
	int i;

	for (i = 0; i < FILES; i++) {
		struct file *file = &worker.files[i];

		if (file->fd >= 0 && file->is_md == is_md && file->dev == nr &&
		    (!is_md || file_model(file)))
			return YES;
	}
	return has_children() ? MAYBE : NO;
}

static void md_update_open(unsigned int nr)
{
	struct md_model *model = md_model(nr);

	if (model)
		model->open = is_open(true, nr);
}

static void close_file(struct file *file)
{
	close(file->fd);
	file->fd = -1;
	if (file->is_md)
		md_update_open(file->dev);
}

/* One that is not open: if there is none, then after a close. */
static struct file *free_file(uint32_t *arg)
{
	struct file *file;
	int i;

	for (i = 0; i < FILES; i++)
		if (worker.files[i].fd < 0)
			return &worker.files[i];
	file = &worker.files[pick(arg, FILES)];
	close_file(file);
	return file;
}

/* One that is open, of md only if @md_only. */
static struct file *pick_file(uint32_t *arg, bool md_only)
{
	unsigned int i, first = pick(arg, FILES);
	struct file *file;

	for (i = 0; i < FILES; i++) {
		file = &worker.files[(first + i) % FILES];
		if (file->fd >= 0 && (file->is_md || !md_only))
			return file;
	}
	return NULL;
}

/* One of md device @nr, and of no earlier one of that number, if it is known. */
static struct file *md_file(unsigned int nr)
{
	int i;

	for (i = 0; i < FILES; i++) {
		struct file *file = &worker.files[i];

		if (file->fd >= 0 && file->is_md && file->dev == nr &&
		    (!md_model(nr) || file_model(file)))
			return file;
	}
	return NULL;
}

static int keep_file(struct file *file, int fd, bool is_md, unsigned int dev)
{
	struct md_model *model = is_md ? md_model(dev) : NULL;

	file->fd = fd;
	file->is_md = is_md;
	file->dev = dev;
	if (!model)
		return 0;
	/*
	 * A new device is held; one that nobody needs any longer may be going,
	 * or be opened as it is. And udevd may have ended the hold by now.
	 */
	if (model->array == NO && model->by_name == NO && model->by_open == NO &&
	    model->open != YES)
		model->by_open = model->used || options.udev ? MAYBE : YES;
	model->used = true;
	file->life = model->life;
	md_update_open(dev);
	return 0;
}

/* --- operations: on a file that is open, if the operation needs one --- */

/* NULL, and errno says why, if that fails. */
static struct file *open_md(unsigned int nr, int flags, bool by_name, uint32_t *arg)
{
	const struct md_dev *md = &fuzz->mds[nr];
	struct file *file = free_file(arg);
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", md->name);
	fd = open(by_name || !md->node[0] ? path : md->node, flags | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	keep_file(file, fd, true, nr);
	return file;
}

static int op_open(struct file *none, uint32_t arg)
{
	static const int flags[] = {
		O_RDONLY, O_RDWR, O_RDWR, O_RDONLY | O_NONBLOCK,
		O_RDWR | O_EXCL, O_RDWR | O_EXCL | O_NONBLOCK,
	};
	unsigned int nr = pick_md(&arg);
	int how = flags[pick(&arg, ARRAY_SIZE(flags))];

	return open_md(nr, how, !pick(&arg, 3), &arg) ? 0 : -errno;
}

/* By the file that O_PATH has got a moment ago. */
static int op_reopen(struct file *none, uint32_t arg)
{
	unsigned int nr = pick_md(&arg);
	struct file *file = free_file(&arg);
	char path[64];
	int fd, ret;

	snprintf(path, sizeof(path), "/dev/%s", fuzz->mds[nr].name);
	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = open(path, O_RDONLY | O_CLOEXEC);
	if (ret < 0)
		ret = -errno;
	close(fd);
	return ret < 0 ? ret : keep_file(file, ret, true, nr);
}

static int op_close(struct file *file, uint32_t arg)
{
	close_file(file);
	return 0;
}

static int op_dup(struct file *file, uint32_t arg)
{
	struct file *copy = free_file(&arg);
	int fd;

	if (file->fd < 0)		/* it was closed to have a free one */
		return SKIPPED;
	fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	*copy = *file;
	copy->fd = fd;
	return 0;
}

/* A child that only has the files open. */
static int op_fork(struct file *none, uint32_t arg)
{
	pid_t parent = getpid();
	int i;

	for (i = 0; i < CHILDREN && worker.children[i]; i++)
		;
	if (i == CHILDREN)
		return SKIPPED;
	worker.children[i] = fork();
	if (worker.children[i] < 0) {
		worker.children[i] = 0;
		return -errno;
	}
	if (!worker.children[i]) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == parent)
			pause();
		_exit(0);
	}
	return 0;
}

static int op_child_end(struct file *none, uint32_t arg)
{
	pid_t *child = &worker.children[pick(&arg, CHILDREN)];

	if (!*child)
		return SKIPPED;
	kill(*child, SIGKILL);
	waitpid(*child, NULL, 0);
	*child = 0;
	md_update_open(own_md());
	return 0;
}

static int op_read(struct file *file, uint32_t arg)
{
	char block[512];

	return pread(file->fd, block, sizeof(block), 0) < 0 ? -errno : 0;
}

static int op_write(struct file *file, uint32_t arg)
{
	char block[512] = "";

	return pwrite(file->fd, block, sizeof(block), 4096) < 0 ? -errno : 0;
}

static int op_fsync(struct file *file, uint32_t arg)
{
	return fsync(file->fd) ? -errno : 0;
}

/* Those that the block layer knows. */
static int op_block_ioctl(struct file *file, uint32_t arg)
{
	static const unsigned long cmds[] = { BLKRRPART, BLKFLSBUF, BLKROSET };
	int read_only = pick(&arg, 2);

	return md_ioctl(file->fd, cmds[pick(&arg, ARRAY_SIZE(cmds))], &read_only);
}

/* Any md ioctl is a sign that the device is used. */
static int md_call(const struct file *file, unsigned long cmd, void *arg)
{
	struct md_model *model = file_model(file);
	int ret = md_ioctl(file->fd, cmd, arg);

	if (model)
		model->by_open = NO;
	return ret;
}

static void md_has_stopped(struct md_model *model, unsigned int nr)
{
	if (!model)
		return;
	if (model->array == YES)
		model->life++;
	model->array = NO;
	model->by_open = NO;
	model->by_name = NO;
	md_update_open(nr);
}

/* An ioctl that makes it an array, if it succeeds. */
static int md_configured(const struct file *file, int ret)
{
	struct md_model *model = file_model(file);

	if (model) {
		model->by_open = NO;
		if (!ret)
			model->array = YES;
	}
	return ret;
}

static int set_info(const struct file *file, uint32_t *arg, unsigned int *disks)
{
	static const int levels[] = { 1, 1, 1, 1, 0, -1, 10, 5 };
	struct md_shape shape = { .level = levels[pick(arg, ARRAY_SIZE(levels))] };

	/* On what has a superblock udevd would go on by itself. */
	shape.persistent = !pick(arg, 4) && !options.udev;
	*disks = shape.level == 5 ? 3 : 1 + pick(arg, 2);
	return md_configured(file, md_set_info(file->fd, &shape, *disks));
}

static int add_disk(const struct file *file, unsigned int slot, uint32_t *arg)
{
	const struct disk *disk = pick_member(file->dev, slot, arg);

	return md_configured(file, md_add_disk(file->fd, slot, disk));
}

static int op_set_info(struct file *file, uint32_t arg)
{
	unsigned int disks;

	return set_info(file, &arg, &disks);
}

static int op_add_disk(struct file *file, uint32_t arg)
{
	return add_disk(file, pick(&arg, 4), &arg);
}

static int op_run(struct file *file, uint32_t arg)
{
	mdu_param_t param = {};

	return md_call(file, RUN_ARRAY, &param);
}

static int stop(const struct file *file)
{
	struct md_model *model = file_model(file);
	int ret = md_call(file, STOP_ARRAY, NULL);

	if (!ret)
		md_has_stopped(model, file->dev);
	return ret;
}

static int op_stop(struct file *file, uint32_t arg)
{
	int ret = stop(file);

	if (!ret && pick(&arg, 2))
		close_file(file);
	return ret;
}

/* All of it, or there is hardly ever one that runs. */
static int op_assemble(struct file *none, uint32_t arg)
{
	unsigned int nr = pick(&arg, 2) ? own_md() : pick_md(&arg), i, disks;
	struct file *file = md_file(nr);
	int ret;

	/* What there is has to go first, most of the time. */
	if (file && pick(&arg, 4)) {
		stop(file);
		close_file(file);
		file = NULL;
	}
	if (!file)
		file = open_md(nr, O_RDWR, false, &arg);
	if (!file)
		return -errno;
	ret = set_info(file, &arg, &disks);
	for (i = 0; !ret && i < disks; i++)
		ret = add_disk(file, i, &arg);
	if (ret || !pick(&arg, 6))
		return ret;
	return op_run(file, arg);
}

static int op_stop_ro(struct file *file, uint32_t arg)
{
	return md_call(file, STOP_ARRAY_RO, NULL);
}

static int op_restart_rw(struct file *file, uint32_t arg)
{
	return md_call(file, RESTART_ARRAY_RW, NULL);
}

static int op_get(struct file *file, uint32_t arg)
{
	static const unsigned long cmds[] = {
		RAID_VERSION, GET_ARRAY_INFO, GET_DISK_INFO,
	};
	char info[256] = "";

	return md_call(file, cmds[pick(&arg, ARRAY_SIZE(cmds))], info);
}

/* Of a member, by its number; or of any disk, if there is no such member. */
static int member_call(struct file *file, uint32_t arg, unsigned long cmd)
{
	mdu_disk_info_t info = { .number = pick(&arg, 3) };
	const struct disk *disk = pick_disk(&arg);
	unsigned int major, minor;

	if (md_call(file, GET_DISK_INFO, &info) || !info.major) {
		info.major = disk->major;
		info.minor = disk->minor;
	}
	major = info.major;
	minor = info.minor;
	return md_call(file, cmd, (void *)(unsigned long)
		       (major << 8 | (minor & 0xff) | (minor & ~0xff) << 12));
}

static int op_member_fail(struct file *file, uint32_t arg)
{
	return member_call(file, arg, SET_DISK_FAULTY);
}

static int op_member_remove(struct file *file, uint32_t arg)
{
	return member_call(file, arg, HOT_REMOVE_DISK);
}

static int op_member_add(struct file *file, uint32_t arg)
{
	return member_call(file, arg, HOT_ADD_DISK);
}

/* The same file by two threads, maybe while a third one closes it. */
struct call {
	pthread_t thread;
	int fd;
	unsigned long cmd;
	mdu_param_t param;
	int ret;
};

static void *do_call(void *arg)
{
	struct call *call = arg;

	call->ret = md_ioctl(call->fd, call->cmd, &call->param);
	return NULL;
}

/* Who has stopped it is not known afterwards: of everybody's devices only. */
static int op_threads(struct file *file, uint32_t arg)
{
	static const unsigned long cmds[] = {
		STOP_ARRAY, STOP_ARRAY_RO, RESTART_ARRAY_RW, RUN_ARRAY, BLKRRPART,
	};
	struct call calls[2] = {};
	int i;

	if (md_model(file->dev))
		return SKIPPED;
	for (i = 0; i < 2; i++) {
		calls[i].fd = file->fd;
		calls[i].cmd = cmds[pick(&arg, ARRAY_SIZE(cmds))];
		if (pthread_create(&calls[i].thread, NULL, do_call, &calls[i]))
			return -EAGAIN;
	}
	if (pick(&arg, 2))
		close_file(file);
	for (i = 0; i < 2; i++)
		pthread_join(calls[i].thread, NULL);
	return calls[0].ret ?: calls[1].ret;
}

/* Reads and writes fail, or no longer; or it is pulled out and put in again. */
static int op_disk(struct file *none, uint32_t arg)
{
	struct disk *disk = &fuzz->disks[pick(&arg, SHARED_DISKS)];
	int ret;

	switch (pick(&arg, 6)) {
	case 0:
		return disk_break(disk);
	case 1:
		ret = disk_power_off(disk);
		return ret ?: disk_power_on(disk);
	default:
		return disk_mend(disk);
	}
}

static int op_leg(struct file *none, uint32_t arg)
{
	const struct dm_dev *dm = &fuzz->legs[pick(&arg, LEGS)].dm;

	return pick(&arg, 3) ? dm_resume(dm) : dm_suspend(dm);
}

static int op_array_state(struct file *none, uint32_t arg)
{
	static const char *const states[] = {
		"clear", "clear", "inactive", "readonly", "read-auto", "clean",
		"active", "active", "suspended", "nonsense",
	};
	const char *state = states[pick(&arg, ARRAY_SIZE(states))];
	unsigned int nr = pick_md(&arg);
	struct md_model *model = md_model(nr);
	int ret;

	ret = md_attr_write(&fuzz->mds[nr], "array_state", state);
	if (!model || ret == -ENOENT)
		return ret;
	model->by_open = NO;
	if (!ret && !strcmp(state, "clear"))
		md_has_stopped(model, nr);
	else if (!ret && model->by_name == YES)
		model->by_name = MAYBE;
	return ret;
}

/* What they leave behind nobody knows: of everybody's devices only. */
static int op_attr(struct file *none, uint32_t arg)
{
	static const char *const attrs[][2] = {
		{ "level", "raid1" }, { "level", "raid0" }, { "level", "?" },
		{ "raid_disks", "2" }, { "raid_disks", "3" },
		{ "metadata_version", "external:fuzz" }, { "metadata_version", "none" },
		{ "new_dev", "9:511" }, { "new_dev", "" }, { "new_dev", "" },
		{ "safe_mode_delay", "0.01" }, { "array_size", "512" },
		{ "array_size", "default" }, { "component_size", "512" },
		{ "rd0/state", "faulty" }, { "rd1/state", "faulty" },
		{ "rd0/state", "remove" }, { "rd1/state", "remove" },
		{ "rd0/state", "want_replacement" }, { "rd1/slot", "none" },
		{ "rd0/errors", "0" }, { "rd1/size", "512" },
	};
	unsigned int nr = pick(&arg, NAMED + 1), what = pick(&arg, ARRAY_SIZE(attrs));
	const struct disk *disk = pick_disk(&arg);
	char val[32];

	snprintf(val, sizeof(val), "%s", attrs[what][1]);
	if (!val[0])
		snprintf(val, sizeof(val), "%u:%u", disk->major, disk->minor);
	return md_attr_write(&fuzz->mds[nr], attrs[what][0], val);
}

static int op_sync_action(struct file *none, uint32_t arg)
{
	static const char *const actions[] = {
		"check", "repair", "resync", "recover", "idle", "frozen", "?",
	};
	unsigned int nr = pick_md(&arg);
	struct md_model *model = md_model(nr);
	int ret;

	ret = md_attr_write(&fuzz->mds[nr], "sync_action",
			    actions[pick(&arg, ARRAY_SIZE(actions))]);
	if (model && ret != -ENOENT)
		model->by_open = NO;
	return ret;
}

static int op_new_array(struct file *none, uint32_t arg)
{
	static const char *const bad[] = { "md", "mdx", "sda", "md1048576", "" };
	unsigned int what = pick(&arg, 8), nr = pick_md(&arg);
	struct md_model *model = md_model(nr);
	int ret;

	if (!what)
		return file_write(bad[pick(&arg, ARRAY_SIZE(bad))],
				  MD_PARAM "new_array");
	ret = file_write(fuzz->mds[nr].name, MD_PARAM "new_array");
	if (!model || ret)
		return ret;
	if (model->array == YES || model->by_name == YES ||
	    model->by_open == YES || model->open == YES)
		fail(MODEL, "new_array=%s: one more, array %d, held %d %d, open %d",
		     fuzz->mds[nr].name, model->array, model->by_name,
		     model->by_open, model->open);
	model->by_name = YES;
	model->by_open = NO;
	model->array = NO;
	model->used = true;
	model->life++;
	md_update_open(nr);
	return 0;
}

static int mknod_md(const char *path, const struct md_dev *md)
{
	return mknod(path, S_IFBLK | 0600, makedev(MD_MAJOR, md->minor)) ? -errno : 0;
}

static int op_unlink(struct file *none, uint32_t arg)
{
	return unlink(fuzz->mds[pick(&arg, SHARED)].node) ? -errno : 0;
}

static int op_mknod(struct file *none, uint32_t arg)
{
	const struct md_dev *md = &fuzz->mds[pick(&arg, SHARED)];

	return mknod_md(md->node, md);
}

/* In the place where devtmpfs has, or will have, its own one. */
static int op_node(struct file *none, uint32_t arg)
{
	unsigned int nr = pick(&arg, SHARED);
	const struct md_dev *md = &fuzz->mds[nr];
	char path[64];

	fuzz->node_made[nr] = true;
	snprintf(path, sizeof(path), "/dev/%s", md->name);
	if (pick(&arg, 2))
		return unlink(path) ? -errno : 0;
	return mknod_md(path, md);
}

static int op_module(struct file *none, uint32_t arg)
{
	unsigned int nr = pick(&arg, ARRAY_SIZE(modules));

	if (!fuzz->unloadable[nr])
		return SKIPPED;
	if (pick(&arg, 2))
		return run("modprobe -q %s", modules[nr]) ? -EAGAIN : 0;
	return syscall(__NR_delete_module, modules[nr], O_NONBLOCK) ? -errno : 0;
}

/* The number may be that of somebody's own device by now: look twice. */
static int op_dm_open(struct file *none, uint32_t arg)
{
	unsigned int nr = pick_dm(&arg);
	struct dm_dev dev = fuzz->dms[nr];
	struct file *file = free_file(&arg);
	struct dm_ioctl io;
	int fd, ret;

	ret = dm_find(&dev, "fuzz");
	if (ret)
		return ret;
	fd = dm_open(&dev, pick(&arg, 2) ? O_RDWR : O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return fd;
	ret = dm_call(&fuzz->dms[nr], DM_DEV_STATUS, 0, NULL, 0, &io);
	if (ret || io.dev != makedev(dev.major, dev.minor)) {
		close(fd);
		return -ENXIO;
	}
	return keep_file(file, fd, false, nr);
}

static int op_dm_create(struct file *none, uint32_t arg)
{
	unsigned int nr = pick_dm(&arg);
	enum tri *model = dm_model(nr);
	int ret;

	ret = dm_call(&fuzz->dms[nr], DM_DEV_CREATE, 0, NULL, 0, NULL);
	if (!model)
		return ret;
	if (!ret && *model == YES && !fuzz->remove_alls)
		fail(MODEL, "%s: created twice", fuzz->dms[nr].name);
	if (ret == -EBUSY && *model == NO)
		fail(MODEL, "%s: its name is taken", fuzz->dms[nr].name);
	if (!ret)
		*model = YES;
	return ret;
}

/* Below: a disk, a leg, or an array, which is made by that if it is not there. */
static int op_dm_load(struct file *none, uint32_t arg)
{
	static const char *const types[] = { "linear", "linear", "zero", "error" };
	struct dm_row row = {
		.len = SECTORS, .type = types[pick(&arg, ARRAY_SIZE(types))],
	};
	unsigned int nr = pick_dm(&arg);
	struct disk md = {
		.major = MD_MAJOR, .minor = fuzz->mds[pick(&arg, SHARED)].minor,
	};

	if (!strcmp(row.type, "linear"))
		row = dm_linear(pick(&arg, 2) ? pick_disk(&arg) : &md, SECTORS);
	return pick(&arg, 3) ? dm_load(&fuzz->dms[nr], &row, 1) :
			       dm_load_readonly(&fuzz->dms[nr], &row, 1);
}

static int op_dm_load_bad(struct file *none, uint32_t arg)
{
	static const struct dm_row rows[] = {
		{ .len = SECTORS, .type = "linear", .params = "259:1048575 0" },
		{ .len = SECTORS, .type = "linear", .params = "/dev/fuzz-none 0" },
		{ .len = SECTORS, .type = "linear", .params = "/dev/null 0" },
		{ .len = SECTORS, .type = "linear", .params = "" },
		{ .len = SECTORS, .type = "nonsense", .params = "" },
		{ .len = 0, .type = "zero", .params = "" },
		{ .start = 8, .len = SECTORS, .type = "zero", .params = "" },
	};
	unsigned int what = pick(&arg, ARRAY_SIZE(rows) + 1);

	if (what == ARRAY_SIZE(rows))
		return dm_load(&fuzz->dms[pick_dm(&arg)], rows, 0);
	return dm_load(&fuzz->dms[pick_dm(&arg)], &rows[what], 1);
}

static int op_dm_resume(struct file *none, uint32_t arg)
{
	return dm_resume(&fuzz->dms[pick_dm(&arg)]);
}

static int op_dm_suspend(struct file *none, uint32_t arg)
{
	const struct dm_dev *dm = &fuzz->dms[pick_dm(&arg)];
	uint32_t flags = DM_SUSPEND_FLAG;

	if (pick(&arg, 2))
		flags |= DM_SKIP_LOCKFS_FLAG;
	if (!pick(&arg, 3))
		flags |= DM_NOFLUSH_FLAG;
	return dm_call(dm, DM_DEV_SUSPEND, flags, NULL, 0, NULL);
}

static int op_dm_clear(struct file *none, uint32_t arg)
{
	return dm_clear(&fuzz->dms[pick_dm(&arg)]);
}

static int op_dm_remove(struct file *none, uint32_t arg)
{
	unsigned int nr = pick_dm(&arg);
	enum tri *model = dm_model(nr);
	int ret;

	ret = dm_remove(&fuzz->dms[nr]);
	if (!model)
		return ret;
	if (ret == -ENXIO && *model == YES && !fuzz->remove_alls)
		fail(MODEL, "%s: not there, and it was not removed",
		     fuzz->dms[nr].name);
	if (!ret && *model == NO)
		fail(MODEL, "%s: removed twice", fuzz->dms[nr].name);
	if (!ret || ret == -ENXIO)
		*model = NO;
	return ret;
}

static int op_dm_remove_deferred(struct file *none, uint32_t arg)
{
	unsigned int nr = pick_dm(&arg);
	enum tri *model = dm_model(nr);
	int ret;

	ret = dm_remove_deferred(&fuzz->dms[nr]);
	if (!model || ret)
		return ret;
	*model = is_open(false, nr) == NO && !fuzz->remove_alls && !options.udev ?
		 NO : MAYBE;
	return ret;
}

static int dm_message(const struct dm_dev *dm, const char *text)
{
	char data[sizeof(struct dm_target_msg) + 64] = {};

	/* A struct dm_target_msg for sector 0. */
	snprintf(data + offsetof(struct dm_target_msg, message), 64, "%s", text);
	return dm_call(dm, DM_TARGET_MSG, 0, data, sizeof(data), NULL);
}

static int op_dm_message(struct file *none, uint32_t arg)
{
	static const char *const texts[] = {
		"@cancel_deferred_remove", "@cancel_deferred_remove",
		"@stats_list", "@stats_create - /1", "@none", "hello",
	};
	const char *text = texts[pick(&arg, ARRAY_SIZE(texts))];

	return dm_message(&fuzz->dms[pick_dm(&arg)], text);
}

/* To the name of another one that everybody has, or with a uuid of its own. */
static int op_dm_rename(struct file *none, uint32_t arg)
{
	const struct dm_dev *dm = &fuzz->dms[pick(&arg, SHARED)];
	char to[DM_NAME_LEN];
	uint32_t flags = 0;

	switch (pick(&arg, 6)) {
	case 0:
		snprintf(to, sizeof(to), "FUZZ-%s", dm->name);
		flags = DM_UUID_FLAG;
		break;
	case 1:
		snprintf(to, sizeof(to), "a/b");
		break;
	default:
		snprintf(to, sizeof(to), "%s", fuzz->dms[pick(&arg, SHARED)].name);
		break;
	}
	return dm_call(dm, DM_DEV_RENAME, flags, to, strlen(to) + 1, NULL);
}

static void ignore(int sig)
{
}

/* For a moment, if there is no event before. */
static int op_dm_wait(struct file *none, uint32_t arg)
{
	struct itimerval soon = {
		.it_value.tv_usec = 5000, .it_interval.tv_usec = 5000,
	};
	struct itimerval never = {};
	int ret;

	setitimer(ITIMER_REAL, &soon, NULL);
	ret = dm_call(&fuzz->dms[pick_dm(&arg)], DM_DEV_WAIT, 0, NULL, 0, NULL);
	setitimer(ITIMER_REAL, &never, NULL);
	return ret;
}

static int op_dm_ask(struct file *none, uint32_t arg)
{
	static const unsigned long cmds[] = {
		DM_DEV_STATUS, DM_TABLE_STATUS, DM_TABLE_DEPS, DM_LIST_DEVICES,
		DM_LIST_VERSIONS, DM_DEV_ARM_POLL,
	};
	const struct dm_dev *dm = &fuzz->dms[pick_dm(&arg)];
	unsigned long cmd = cmds[pick(&arg, ARRAY_SIZE(cmds))];
	uint32_t flags = 0;

	if (pick(&arg, 2))
		flags |= DM_STATUS_TABLE_FLAG;
	if (pick(&arg, 2))
		flags |= DM_QUERY_INACTIVE_TABLE_FLAG;
	if (cmd == DM_LIST_DEVICES || cmd == DM_LIST_VERSIONS || cmd == DM_DEV_ARM_POLL)
		dm = NULL;
	return dm_call(dm, cmd, flags, NULL, 0, NULL);
}

static int op_dm_geometry(struct file *none, uint32_t arg)
{
	static const char *const geometries[] = { "4 16 63 0", "4 16 63 99999", "x" };
	const struct dm_dev *dm = &fuzz->dms[pick_dm(&arg)];
	const char *text = geometries[pick(&arg, ARRAY_SIZE(geometries))];

	return dm_call(dm, DM_DEV_SET_GEOMETRY, 0, text, strlen(text) + 1, NULL);
}

/* Nobody knows of his own devices after that. */
static int op_dm_remove_all(struct file *none, uint32_t arg)
{
	if (!fuzz->alone)
		return SKIPPED;
	__atomic_add_fetch(&fuzz->remove_alls, 1, __ATOMIC_ACQ_REL);
	return dm_call(NULL, DM_REMOVE_ALL, pick(&arg, 2) ? DM_DEFERRED_REMOVE : 0,
		       NULL, 0, NULL);
}

enum needs { NOTHING, ANY_FILE, MD_FILE };

static const struct op {
	const char *name;
	int (*fn)(struct file *file, uint32_t arg);
	enum needs needs;
	unsigned int weight;
	int errnos[MAX_ERRNOS];		/* that are to be expected */
} ops[] = {
	{ "open", op_open, NOTHING, 50, { ENOENT, ENXIO, EBUSY, ESTALE } },
	{ "reopen", op_reopen, NOTHING, 6, { ENOENT, ENXIO, ESTALE } },
	{ "close", op_close, ANY_FILE, 40, {} },
	{ "dup", op_dup, ANY_FILE, 8, {} },
	{ "fork", op_fork, NOTHING, 4, {} },
	{ "child-end", op_child_end, NOTHING, 15, {} },
	{ "read", op_read, ANY_FILE, 10, { EIO, ENXIO, ENODEV } },
	{ "write", op_write, ANY_FILE, 15, { EIO, ENXIO, EBADF, EPERM, ENOSPC, ENODEV } },
	{ "fsync", op_fsync, ANY_FILE, 5, { EIO, ENXIO, EBADF, ENODEV } },
	{ "block-ioctl", op_block_ioctl, ANY_FILE, 8,
	  { EBUSY, EINVAL, EIO, ENXIO, ENODEV, EROFS, EACCES, ENOTTY } },
	{ "SET_ARRAY_INFO", op_set_info, MD_FILE, 10, { EBUSY, EINVAL, ENODEV } },
	{ "ADD_NEW_DISK", op_add_disk, MD_FILE, 12,
	  { EBUSY, EINVAL, ENODEV, EROFS, ENOSPC, EEXIST, EIO, ENXIO } },
	{ "RUN_ARRAY", op_run, MD_FILE, 10,
	  { EBUSY, EINVAL, ENODEV, EROFS, EIO, ENXIO } },
	{ "assemble", op_assemble, NOTHING, 60,
	  { EBUSY, EINVAL, ENODEV, EROFS, ENOSPC, EEXIST, EIO, ENXIO, ENOENT, ESTALE } },
	{ "STOP_ARRAY", op_stop, MD_FILE, 40, { EBUSY, ENODEV } },
	{ "STOP_ARRAY_RO", op_stop_ro, MD_FILE, 8, { EBUSY, ENODEV, ENXIO } },
	{ "RESTART_ARRAY_RW", op_restart_rw, MD_FILE, 8,
	  { EBUSY, EINVAL, ENODEV, ENXIO, EROFS } },
	{ "GET_INFO", op_get, MD_FILE, 15, { ENODEV } },
	{ "SET_DISK_FAULTY", op_member_fail, MD_FILE, 20, { ENODEV, EBUSY } },
	{ "HOT_REMOVE_DISK", op_member_remove, MD_FILE, 15, { ENODEV, ENXIO, EBUSY, EROFS } },
	{ "HOT_ADD_DISK", op_member_add, MD_FILE, 10,
	  { EBUSY, EINVAL, ENODEV, EROFS, ENOSPC, EEXIST, EIO, ENXIO } },
	{ "threads", op_threads, MD_FILE, 12,
	  { EBUSY, EINVAL, ENODEV, EROFS, EIO, ENXIO, EBADF } },
	{ "disk", op_disk, NOTHING, 8, {} },
	{ "leg", op_leg, NOTHING, 10, { EINVAL } },
	{ "array_state", op_array_state, NOTHING, 30,
	  { ENOENT, ENODEV, EBUSY, EINVAL, ENXIO, EROFS, EIO } },
	{ "attr", op_attr, NOTHING, 25,
	  { ENOENT, ENODEV, EBUSY, EINVAL, ENXIO, EROFS, ENOSPC, EEXIST, EIO, E2BIG } },
	{ "sync_action", op_sync_action, NOTHING, 12, { ENOENT, ENODEV, EBUSY, EINVAL } },
	{ "new_array", op_new_array, NOTHING, 20, { EEXIST, EINVAL } },
	{ "unlink", op_unlink, NOTHING, 4, { ENOENT } },
	{ "mknod", op_mknod, NOTHING, 8, { EEXIST } },
	{ "node", op_node, NOTHING, 4, { EEXIST, ENOENT } },
	{ "module", op_module, NOTHING, 4, { ENOENT, EBUSY, EAGAIN } },
	{ "dm-open", op_dm_open, NOTHING, 20, { ENXIO } },
	{ "dm-create", op_dm_create, NOTHING, 50, { EBUSY } },
	{ "dm-load", op_dm_load, NOTHING, 50, { ENXIO, ENODEV, EBUSY, EINVAL, EACCES } },
	{ "dm-load-bad", op_dm_load_bad, NOTHING, 12, { ENXIO, EINVAL, ENOENT, ENOTBLK } },
	{ "dm-resume", op_dm_resume, NOTHING, 50, { ENXIO, EINVAL } },
	{ "dm-suspend", op_dm_suspend, NOTHING, 15, { ENXIO, EINVAL } },
	{ "dm-clear", op_dm_clear, NOTHING, 10, { ENXIO } },
	{ "dm-remove", op_dm_remove, NOTHING, 20, { ENXIO, EBUSY } },
	{ "dm-remove-deferred", op_dm_remove_deferred, NOTHING, 10, { ENXIO } },
	{ "dm-message", op_dm_message, NOTHING, 10, { ENXIO, EINVAL, EBUSY } },
	{ "dm-rename", op_dm_rename, NOTHING, 10, { ENXIO, EBUSY, EINVAL } },
	{ "dm-wait", op_dm_wait, NOTHING, 8, { ENXIO, EINTR } },
	{ "dm-ask", op_dm_ask, NOTHING, 15, { ENXIO } },
	{ "dm-geometry", op_dm_geometry, NOTHING, 5, { ENXIO, EINVAL } },
	{ "dm-remove-all", op_dm_remove_all, NOTHING, 1, {} },
};

/* --- a round --- */

static void do_step(const struct step *step)
{
	const struct op *op = &ops[step->op];
	struct counts *counts = &fuzz->ops[step->op];
	uint32_t arg = step->arg;
	struct file *file = NULL;
	int i, ret = SKIPPED;

	fuzz->at[worker.nr] = step->op;
	if (op->needs != NOTHING)
		file = pick_file(&arg, op->needs == MD_FILE);
	if (op->needs == NOTHING || file)
		ret = op->fn(file, arg);
	__atomic_add_fetch(ret > 0 ? &counts->skipped :
			   ret ? &counts->refused : &counts->done, 1,
			   __ATOMIC_RELAXED);
	__atomic_add_fetch(&fuzz->progress, 1, __ATOMIC_RELEASE);
	if (!ret && options.plant && !strcmp(options.plant, op->name))
		fail(ERRNO, "%s: planted", op->name);
	if (ret >= 0)
		return;
	for (i = 0; i < MAX_ERRNOS; i++)
		if (ret == -op->errnos[i])
			return;
	fail(ERRNO, "%s %08x: %s", op->name, step->arg, strerror(-ret));
}

struct work {
	const struct list *list;
	unsigned int worker;
};

static long work(struct task *task, void *arg)
{
	struct sigaction interrupt = { .sa_handler = ignore };
	const struct work *work = arg;
	const struct list *list = work->list;
	size_t i;

	worker.nr = work->worker;
	for (i = 0; i < FILES; i++)
		worker.files[i].fd = -1;
	sigaction(SIGALRM, &interrupt, NULL);
	for (i = 0; i < list->nr; i++)
		if (list->steps[i].worker == worker.nr)
			do_step(&list->steps[i]);
	return 0;
}

static unsigned int md_count(void)
{
	return NAMED + 1 + options.workers;
}

static unsigned int disk_count(void)
{
	return SHARED_DISKS + OWN_DISKS * options.workers;
}

static unsigned int dm_count(void)
{
	return SHARED + options.workers;
}

static void resume_legs(void)
{
	unsigned int i;

	for (i = 0; i < LEGS; i++)
		dm_resume(&fuzz->legs[i].dm);
}

static long resume_all(struct task *task, void *arg)
{
	unsigned int i;

	resume_legs();
	for (i = 0; i < dm_count(); i++)
		dm_resume(&fuzz->dms[i]);
	return 0;
}

/* What all wait for, if nothing happens any longer; as long as it is not ended. */
static long resume_stalled(struct task *task, void *arg)
{
	unsigned int progress = 0, now;

	do {
		now = __atomic_load_n(&fuzz->progress, __ATOMIC_ACQUIRE);
		if (now == progress)
			resume_all(task, NULL);
		progress = now;
	} while (!usleep(NOTHING_MS * 1000));
	return 0;
}

static void end_task(struct task *task)
{
	if (task->shared && task->pid && task_kill(task)) {
		fail(STUCK, "%s cannot be killed", task->what);
		broken = true;
	}
	task_end(task);
}

/* In a task of its own, as this one has to live. */
static void do_aside(const char *what, long (*fn)(struct task *task, void *arg))
{
	uint64_t end = now_ms() + STUCK_MS;
	struct task task = {};

	if (task_start(&task, what, fn, NULL, -1)) {
		fail(STUCK, "no task: %m");
		broken = true;
		return;
	}
	while (!task_done(&task)) {
		if (now_ms() > end) {
			fail(STUCK, "%s", what);
			task_report(&task);
			break;
		}
		usleep(500);
	}
	end_task(&task);
}

/* Until all workers are parked, with what they have open. */
static void wait_for(struct task *workers)
{
	unsigned int i, parked, progress = 0, now;
	uint64_t since = now_ms();

	do {
		parked = 0;
		for (i = 0; i < options.workers; i++)
			parked += task_done(&workers[i]);
		if (parked == options.workers)
			return;
		usleep(1000);
		now = __atomic_load_n(&fuzz->progress, __ATOMIC_ACQUIRE);
		if (now != progress)
			since = now_ms();
		progress = now;
		/* The one who resumes all may wait for a leg himself. */
		if (now_ms() - since > NOTHING_MS)
			resume_legs();
	} while (now_ms() - since < STUCK_MS);
	for (i = 0; i < options.workers; i++) {
		if (task_done(&workers[i]))
			continue;
		fail(STUCK, "%s", ops[fuzz->at[i]].name);
		printf("# worker %u does %s\n", i, ops[fuzz->at[i]].name);
		task_report(&workers[i]);
	}
}

/* What workers have forked ends with them, and then is ours. */
static void reap_orphans(void)
{
	uint64_t end = now_ms() + STUCK_MS;
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0) {
		if (!pid && now_ms() > end) {
			fail(STUCK, "a child of a worker");
			broken = true;
			return;
		}
		if (!pid)
			usleep(500);
	}
}

/* --- what there is --- */

struct seen {
	struct dm_dev dms[64];
	unsigned int nr;
};

static void see_dm(void *arg, const struct dm_dev *dev)
{
	struct seen *seen = arg;

	if (seen->nr < ARRAY_SIZE(seen->dms))
		seen->dms[seen->nr++] = *dev;
}

static bool is_listed(const struct seen *seen, const char *name)
{
	unsigned int i;

	for (i = 0; i < seen->nr; i++)
		if (!strcmp(seen->dms[i].name, name))
			return true;
	return false;
}

static bool is_our_dm(const char *name)
{
	unsigned int i;

	for (i = 0; i < LEGS; i++)
		if (!strcmp(fuzz->legs[i].dm.name, name))
			return true;
	for (i = 0; i < dm_count(); i++)
		if (!strcmp(fuzz->dms[i].name, name))
			return true;
	return false;
}

static bool is_our_md(const char *name)
{
	unsigned int i;

	for (i = 0; i < md_count(); i++)
		if (!strcmp(fuzz->mds[i].name, name))
			return true;
	return false;
}

static char wrong[256];

static void __printf(1, 2) say_wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(wrong, sizeof(wrong), fmt, ap);
	va_end(ap);
}

/* Devices that are there, and should not be, in one of the places for them. */
static void look_for_strangers(const char *pattern, const struct seen *seen)
{
	glob_t found;
	size_t i;
	unsigned int nr, minor;

	if (glob(pattern, 0, NULL, &found))
		return;
	for (i = 0; i < found.gl_pathc; i++) {
		const char *name = strrchr(found.gl_pathv[i], '/') + 1;

		if (!strncmp(name, "md", 2) && !is_our_md(name))
			say_wrong("%s is none of ours", found.gl_pathv[i]);
		if (sscanf(name, "dm-%u", &minor) != 1)
			continue;
		for (nr = 0; nr < seen->nr && seen->dms[nr].minor != minor; nr++)
			;
		if (nr == seen->nr)
			say_wrong("%s is not listed", found.gl_pathv[i]);
		if (!path_exists("/sys/block/%s", name) !=
		    !path_exists("/dev/%s", name))
			say_wrong("%s: node or sysfs, not both", name);
	}
	globfree(&found);
}

static void look_at_md(unsigned int nr)
{
	const struct md_dev *md = &fuzz->mds[nr];
	const char *left = md_left(md);
	bool sysfs = strstr(left, "sysfs"), mdstat = strstr(left, "mdstat");
	char state[32] = "none";

	if (!fuzz->node_made[nr] && sysfs != !!strstr(left, "node"))
		say_wrong("%s: has %s", md->name, left);
	if (md->minor && sysfs != !!strstr(left, "number"))
		say_wrong("%s: has %s", md->name, left);
	if (sysfs)
		file_read(state, sizeof(state), "/sys/block/%s/md/array_state", md->name);
	if (mdstat && (!strcmp(state, "clear") || !strcmp(state, "none")))
		say_wrong("%s: is %s, and in mdstat", md->name, state);
	if (sysfs && !mdstat && strcmp(state, "clear") && strcmp(state, "inactive"))
		say_wrong("%s: is %s, and not in mdstat", md->name, state);
}

/* Do all places tell the same? */
static void look_at_all(const struct seen *seen)
{
	unsigned int i;

	for (i = 0; i < md_count(); i++)
		look_at_md(i);
	look_for_strangers("/sys/block/md*", seen);
	look_for_strangers("/dev/md[0-9_]*", seen);
	look_for_strangers("/sys/block/dm-*", seen);
	look_for_strangers("/dev/dm-*", seen);
	for (i = 0; fuzz->alone && i < seen->nr; i++)
		if (!is_our_dm(seen->dms[i].name))
			say_wrong("%s is none of ours", seen->dms[i].name);
}

/* Is there what has to be, of the workers' own devices? */
static void look_at_models(const struct seen *seen, bool parked)
{
	unsigned int i;

	for (i = 0; i < options.workers; i++) {
		const struct md_model *md = &fuzz->md_models[i];
		const char *name = fuzz->mds[NAMED + 1 + i].name;
		bool there = path_exists("/sys/block/%s", name);
		enum tri open = parked ? md->open : NO;

		if (there && md->array == NO && md->by_name == NO &&
		    md->by_open == NO && open == NO)
			say_wrong("%s is there", name);
		if (!there && (md->array == YES || md->by_name == YES ||
			       md->by_open == YES || open == YES))
			say_wrong("%s is not there: array %d, held %d %d, open %d", name,
				  md->array, md->by_name, md->by_open, open);

		name = fuzz->dms[SHARED + i].name;
		there = is_listed(seen, name);
		if (there && fuzz->dm_models[i] == NO)
			say_wrong("%s is there", name);
		if (!there && fuzz->dm_models[i] == YES && !fuzz->remove_alls)
			say_wrong("%s is not there", name);
	}
}

static void look_for_rest(const struct seen *seen)
{
	unsigned int i;
	int open_count, ret;

	for (i = 0; i < md_count(); i++)
		if (*md_left(&fuzz->mds[i]))
			say_wrong("%s: %s", fuzz->mds[i].name, md_left(&fuzz->mds[i]));
	for (i = 0; i < dm_count(); i++)
		if (is_listed(seen, fuzz->dms[i].name))
			say_wrong("%s", fuzz->dms[i].name);
	/* And nobody has the lower devices: of the legs one open is ours. */
	for (i = 0; i < LEGS; i++) {
		open_count = 0;
		dm_info(&fuzz->legs[i].dm, NULL, &open_count);
		if (open_count != 1)
			say_wrong("%s is open %d times", fuzz->legs[i].dm.name,
				  open_count - 1);
	}
	for (i = 0; i < disk_count(); i++) {
		ret = open_and_close(fuzz->disks[i].path, O_RDONLY | O_EXCL);
		if (ret)
			say_wrong("%s: %s", fuzz->disks[i].path, strerror(-ret));
	}
}

enum when { PARKED, ENDED, REMOVED };

/*
 * Look, and again until nothing is wrong: a device that nobody needs goes by
 * itself, and not at once.
 */
static void look(enum class class, enum when when)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	static const char *const whens[] = { "parked", "ended", "removed" };
	struct seen seen;
	int ret;

	for (;;) {
		wrong[0] = '\0';
		seen.nr = 0;
		ret = dm_list(see_dm, &seen);
		if (ret)
			say_wrong("DM_LIST_DEVICES: %s", strerror(-ret));
		else if (class == DIFFER)
			look_at_all(&seen);
		else if (class == MODEL)
			look_at_models(&seen, when == PARKED);
		else
			look_for_rest(&seen);
		if (!wrong[0])
			return;
		if (now_ms() > end)
			break;
		usleep(1000);
	}
	fail(class, "%s: %s", whens[when], wrong);
}

static long remove_everything(struct task *task, void *arg)
{
	uint64_t end = now_ms() + STUCK_MS / 2;
	unsigned int i;
	char path[64];
	int ret;

	for (i = 0; i < dm_count(); i++) {
		ret = dm_remove_when_unused(&fuzz->dms[i]);
		if (ret && ret != -ENXIO)
			fail(LEFT, "%s: %s", fuzz->dms[i].name, strerror(-ret));
	}
	for (i = 0; i < md_count(); i++) {
		const struct md_dev *md = &fuzz->mds[i];

		do {
			ret = md_attr_write(md, "array_state", "clear");
		} while (ret == -EBUSY && now_ms() < end);
		if (ret && ret != -ENOENT && ret != -ENODEV)
			fail(LEFT, "%s: %s", md->name, strerror(-ret));
		if (fuzz->node_made[i]) {
			snprintf(path, sizeof(path), "/dev/%s", md->name);
			unlink(path);
		}
		/* As it was at first. */
		if (md->node[0])
			mknod_md(md->node, md);
	}
	for (i = 0; i < SHARED_DISKS; i++) {
		disk_mend(&fuzz->disks[i]);
		if (!path_exists("/sys/block/%s", fuzz->disks[i].name))
			disk_power_on(&fuzz->disks[i]);
	}
	/* A deferred DM_REMOVE_ALL has them removed when we close them. */
	for (i = 0; i < LEGS; i++)
		dm_message(&fuzz->legs[i].dm, "@cancel_deferred_remove");
	return 0;
}

/* --- uevents --- */

struct told {
	struct {
		char name[32];
		bool up;
	} devs[256];
	unsigned int nr;
};

static void hear(void *arg, const char *action, const char *name)
{
	struct told *told = arg;
	bool add = !strcmp(action, "add");
	unsigned int i;

	if (!add && strcmp(action, "remove"))
		return;
	if (strncmp(name, "md", 2) && strncmp(name, "dm-", 3))
		return;
	for (i = 0; i < told->nr && strcmp(told->devs[i].name, name); i++)
		;
	if (i == ARRAY_SIZE(told->devs))
		return;
	if (i == told->nr) {
		snprintf(told->devs[i].name, sizeof(told->devs[i].name), "%s", name);
		told->devs[i].up = false;
		told->nr++;
	}
	if (told->devs[i].up == add)
		fail(UEVENTS, "%s: two times %s", name, action);
	told->devs[i].up = add;
}

static const char *up(const struct told *told)
{
	unsigned int i;

	for (i = 0; i < told->nr; i++)
		if (told->devs[i].up)
			return told->devs[i].name;
	return NULL;
}

static void check_uevents(void)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	static struct told told;
	int ret;

	told.nr = 0;
	/* Of what goes by itself the last thing to be seen is its "remove". */
	do {
		ret = uevent_each(uevents, &fuzz->marker, hear, &told);
	} while (!ret && up(&told) && now_ms() < end);
	if (ret)
		fail(UEVENTS, "cannot be read: %s", strerror(-ret));
	if (up(&told))
		fail(UEVENTS, "%s: no remove", up(&told));
}

static void forget(void *arg, const char *action, const char *name)
{
}

/* All of @list, from nothing to nothing: what is wrong, and why in fuzz->why. */
static enum class do_round(const struct list *list)
{
	struct task workers[MAX_WORKERS] = {}, resumer = {};
	unsigned int i;

	fuzz->progress = 0;
	fuzz->remove_alls = 0;
	memset(fuzz->node_made, 0, sizeof(fuzz->node_made));
	memset(fuzz->md_models, 0, sizeof(fuzz->md_models));
	memset(fuzz->dm_models, 0, sizeof(fuzz->dm_models));
	fuzz->failed = GOOD;
	fuzz->why[0] = '\0';

	for (i = 0; i < options.workers; i++) {
		struct work arg = { list, i };

		if (task_start(&workers[i], "a worker", work, &arg, -1)) {
			fail(STUCK, "no worker: %m");
			broken = true;
			goto out;
		}
	}
	task_start(&resumer, "resume", resume_stalled, NULL, -1);
	wait_for(workers);
	end_task(&resumer);
	do_aside("resume", resume_all);
	if (options.udev)
		udev_settle();
	if (!fuzz->failed) {
		look(DIFFER, PARKED);
		look(MODEL, PARKED);
	}
out:
	for (i = 0; i < options.workers; i++)
		end_task(&workers[i]);
	reap_orphans();
	if (broken)
		return fuzz->failed;
	if (options.udev)
		udev_settle();
	if (!fuzz->failed) {
		look(DIFFER, ENDED);
		look(MODEL, ENDED);
	}
	do_aside("removal", remove_everything);
	look(LEFT, REMOVED);
	if (fuzz->failed == LEFT || fuzz->failed == STUCK) {
		/* Is it good enough to go on? */
		enum class was = fuzz->failed;

		fuzz->failed = GOOD;
		look(LEFT, REMOVED);
		broken |= fuzz->failed != GOOD;
		fuzz->failed = was;
	}
	if (fuzz->failed)
		uevent_each(uevents, &fuzz->marker, forget, NULL);
	else
		check_uevents();
	/*
	 * What WARN(), KASAN, lockdep and the others have in common. SLUB has it,
	 * too, when a cache is made while one that is like it is destroyed.
	 */
	if (kmsg_count(kmsg, "Call Trace:") > kmsg_count(kmsg_of_slub, "sysfs_slab_add+")) {
		fail(REPORT, "see the kernel's log");
		kmsg_warn_again();
	}
	return fuzz->failed;
}

/* --- lists of operations --- */

static uint64_t splitmix(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static void generate(struct list *list, uint64_t *states)
{
	unsigned int op, weights = 0, weight;
	uint64_t random;
	size_t i;

	for (op = 0; op < ARRAY_SIZE(ops); op++)
		weights += ops[op].weight;
	for (i = 0; i < list->nr; i++) {
		struct step *step = &list->steps[i];

		step->worker = i % options.workers;
		random = splitmix(&states[step->worker]);
		weight = (random >> 32) % weights;
		for (op = 0; weight >= ops[op].weight; op++)
			weight -= ops[op].weight;
		step->op = op;
		step->arg = random;
	}
}

/* As --replay takes it. */
static void print_list(const struct list *list)
{
	size_t i;

	printf("# %s --workers %u --replay '", program_invocation_name, options.workers);
	for (i = 0; i < list->nr; i++)
		printf("%s%u:%s:%x", i ? " " : "", list->steps[i].worker,
		       ops[list->steps[i].op].name, list->steps[i].arg);
	printf("'\n");
	fflush(stdout);
}

static void read_list(struct list *list, char *text)
{
	unsigned int nr, op, arg;
	char name[64], *word;

	list->steps = calloc(strlen(text) / 4 + 1, sizeof(*list->steps));
	for (word = strtok(text, " "); list->steps && word; word = strtok(NULL, " ")) {
		if (sscanf(word, "%u:%63[^:]:%x", &nr, name, &arg) != 3)
			ksft_exit_fail_msg("%s: not WORKER:OPERATION:NUMBER\n", word);
		for (op = 0; op < ARRAY_SIZE(ops) && strcmp(ops[op].name, name); op++)
			;
		if (op == ARRAY_SIZE(ops) || nr >= options.workers)
			ksft_exit_fail_msg("%s: no such operation or worker\n", word);
		list->steps[list->nr++] = (struct step){ nr, op, arg };
	}
}

static bool fails_again(const struct list *list, enum class class, uint64_t end)
{
	unsigned int try;

	for (try = 0; try < TRIES && now_ms() < end && !broken; try++)
		if (do_round(list) == class)
			return true;
	return false;
}

/* All but one of @nr parts. */
static void leave_out(struct list *to, const struct list *from, size_t part, size_t nr)
{
	size_t first = from->nr * part / nr, next = from->nr * (part + 1) / nr;

	memcpy(to->steps, from->steps, first * sizeof(*to->steps));
	memcpy(to->steps + first, from->steps + next,
	       (from->nr - next) * sizeof(*to->steps));
	to->nr = from->nr - (next - first);
}

/* Delta debugging: leave out ever smaller parts, as long as it fails like that. */
static bool shrink(struct list *list, enum class class)
{
	uint64_t end = now_ms() + options.shrink_seconds * 1000ULL;
	size_t nr = 2, part = 0;
	struct list less;

	if (!fails_again(list, class, end)) {
		printf("# it did not fail again\n");
		return false;
	}
	less.steps = calloc(list->nr, sizeof(*less.steps));
	while (less.steps && list->nr > 1 && now_ms() < end && !broken) {
		leave_out(&less, list, part, nr);
		if (fails_again(&less, class, end)) {
			memcpy(list->steps, less.steps, less.nr * sizeof(*less.steps));
			list->nr = less.nr;
			printf("# %zu operations: %s\n", list->nr, fuzz->why);
			fflush(stdout);
			nr = nr > 2 ? nr - 1 : 2;
		} else if (++part == nr) {
			if (nr >= list->nr)
				break;
			nr *= 2;
			part = 0;
		}
		if (nr > list->nr)
			nr = list->nr;
		if (part >= nr)
			part = 0;
	}
	free(less.steps);
	return true;
}

static void report(struct list *list, enum class class)
{
	printf("# not so: %s\n# %s\n", class_names[class], fuzz->why);
	if (broken)
		printf("# this cannot be undone\n");
	printf("# %s:\n", !broken && shrink(list, class) ?
	       "the shortest that fails" : "the operations of that round");
	print_list(list);
}

/* --- the whole --- */

static void setup(void)
{
	static struct seen seen;
	char suffix[32];
	unsigned int i;
	int ret;

	if (!options.udev)
		udev_hold_queue();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (dm_list(see_dm, &seen))
		ksft_exit_fail_msg("DM_LIST_DEVICES: %m\n");
	fuzz->alone = !seen.nr;
	ret = disk_create(&fuzz->marker, 8, false);
	for (i = 0; !ret && i < disk_count(); i++)
		ret = disk_create(&fuzz->disks[i], 8, true);
	for (i = 0; !ret && i < LEGS; i++) {
		snprintf(suffix, sizeof(suffix), "fuzzleg%u", i);
		ret = leg_create(&fuzz->legs[i], suffix, 8);
		/* Not for DM_REMOVE_ALL. */
		if (!ret) {
			leg_files[i] = dm_open(&fuzz->legs[i].dm, O_RDONLY);
			ret = leg_files[i] < 0 ? leg_files[i] : 0;
		}
	}
	for (i = 0; !ret && i < md_count(); i++)
		ret = i == NAMED ? md_pick_name(&fuzz->mds[i]) : md_pick(&fuzz->mds[i]);
	if (ret)
		ksft_exit_fail_msg("no devices to work with: %s\n", strerror(-ret));
	for (i = 0; i < dm_count(); i++)
		snprintf(fuzz->dms[i].name, sizeof(fuzz->dms[i].name),
			 "lc%d_fuzz%u", getpid(), i);
	for (i = 0; i < ARRAY_SIZE(modules); i++)
		fuzz->unloadable[i] =
			!run("modprobe -q %s 2>/dev/null", modules[i]) &&
			path_exists("/sys/module/%s/initstate", modules[i]);
	uevents = uevent_open();
	kmsg = kmsg_open();
	kmsg_of_slub = kmsg_open();
	if (uevents < 0 || kmsg < 0 || kmsg_of_slub < 0)
		ksft_exit_fail_msg("no uevents, or no kernel's log\n");
	kmsg_warn_again();
}

static void teardown(void)
{
	unsigned int i;

	if (broken)
		return;
	for (i = 0; i < md_count(); i++)
		md_cleanup(&fuzz->mds[i]);
	for (i = 0; i < LEGS; i++) {
		close(leg_files[i]);
		leg_destroy(&fuzz->legs[i]);
	}
	for (i = 0; i < disk_count(); i++)
		disk_destroy(&fuzz->disks[i]);
	disk_destroy(&fuzz->marker);
	if (!options.udev)
		udev_resume();
}

static long long slab_now(void)
{
	file_write("3", "/proc/sys/vm/drop_caches");
	return slab_bytes(NULL);
}

static void usage(void)
{
	printf("Usage: fuzz [OPTIONS]\n"
	       "  --seed N            (%llu)\n"
	       "  --ops N             operations (%lu)\n"
	       "  --workers N         processes that do them (%u)\n"
	       "  --quiet-every N     after so many look at what there is (%u)\n"
	       "  --shrink-seconds N  look for a shorter list that fails (%u)\n"
	       "  --replay LIST       these operations, again and again\n"
	       "  --plant OPERATION   call it an error that this one succeeds\n"
	       "  --udev              let udevd, if there is one, do what it does\n",
	       options.seed, options.ops, options.workers, options.quiet_every,
	       options.shrink_seconds);
}

/* Returns the list to replay, or NULL. */
static char *parse(int argc, char **argv)
{
	static const struct option known[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "ops", required_argument, NULL, 'o' },
		{ "workers", required_argument, NULL, 'w' },
		{ "quiet-every", required_argument, NULL, 'q' },
		{ "shrink-seconds", required_argument, NULL, 't' },
		{ "replay", required_argument, NULL, 'r' },
		{ "plant", required_argument, NULL, 'p' },
		{ "udev", no_argument, NULL, 'u' },
		{ "help", no_argument, NULL, 'h' },
		{},
	};
	char *replay = NULL;
	int opt;

	while ((opt = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		switch (opt) {
		case 's':
			options.seed = strtoull(optarg, NULL, 0);
			break;
		case 'o':
			options.ops = strtoul(optarg, NULL, 0);
			break;
		case 'w':
			options.workers = strtoul(optarg, NULL, 0);
			break;
		case 'q':
			options.quiet_every = strtoul(optarg, NULL, 0);
			break;
		case 't':
			options.shrink_seconds = strtoul(optarg, NULL, 0);
			break;
		case 'r':
			replay = optarg;
			break;
		case 'p':
			options.plant = optarg;
			break;
		case 'u':
			options.udev = true;
			break;
		default:
			usage();
			exit(opt == 'h' ? KSFT_PASS : KSFT_FAIL);
		}
	}
	if (!options.workers || options.workers > MAX_WORKERS ||
	    !options.quiet_every || optind < argc) {
		usage();
		exit(KSFT_FAIL);
	}
	return replay;
}

static void result_of_growth(long long before, long long after, unsigned long done)
{
	static const char *const name = "no growth of slab";

	if (kernel_has("kasan_report")) {
		ksft_test_result_skip("%s: KASAN keeps freed objects\n", name);
	} else if (before < 0 || after < 0) {
		ksft_test_result_skip("%s: not measured\n", name);
	} else {
		printf("# %lld bytes of slab more after %lu operations\n",
		       after - before, done);
		ksft_test_result(after - before <
				 SLACK + MAX_GROWTH * (long long)done, "%s\n", name);
	}
}

int main(int argc, char **argv)
{
	uint64_t states[MAX_WORKERS], told = now_ms(), start = told;
	unsigned long done = 0, warm_up, measured = 0;
	long long before = -1, after = -1;
	enum class class = GOOD;
	struct list list = {};
	const char *missing;
	char old_create[8], *replay = parse(argc, argv);
	unsigned int i;

	ksft_print_header();
	missing = md_missing("create_on_open") ?: dm_missing() ?: task_missing();
	if (missing)
		ksft_exit_skip("%s\n", missing);
	if (replay) {
		read_list(&list, replay);
	} else {
		list.nr = options.quiet_every;
		list.steps = calloc(list.nr, sizeof(*list.steps));
	}
	fuzz = mmap(NULL, sizeof(*fuzz), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (fuzz == MAP_FAILED || !list.steps || (replay && !list.nr))
		ksft_exit_fail_msg("no memory, or nothing to replay\n");
	if (md_param_set("create_on_open", "Y", old_create, sizeof(old_create)))
		ksft_exit_fail_msg("create_on_open cannot be set\n");
	missing = md_autoload_missing();
	if (missing)
		ksft_exit_skip("%s\n", missing);
	ksft_set_plan(CLASSES);
	printf("# %s --seed %llu --ops %lu --workers %u --quiet-every %u%s\n", argv[0],
	       options.seed, options.ops, options.workers, options.quiet_every,
	       options.udev ? " --udev" : "");
	setup();
	for (i = 0; i < MAX_WORKERS; i++)
		states[i] = options.seed + i * 0xd1342543de82ef95ULL;

	/* What is allocated once is by then. */
	warm_up = options.ops / 10 > 2000 ? options.ops / 10 : 2000;
	while (done < options.ops && !class) {
		if (!replay)
			generate(&list, states);
		class = do_round(&list);
		done += list.nr;
		if (before < 0 && done >= warm_up && !class) {
			before = slab_now();
			measured = done;
		}
		if (now_ms() - told > 20000) {
			told = now_ms();
			printf("# %lu operations\n", done);
			fflush(stdout);
		}
	}
	if (!class && measured < done)
		after = slab_now();
	printf("# %lu operations in %llu ms\n", done,
	       (unsigned long long)(now_ms() - start));
	printf("# done, refused, nothing to do it with:");
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		printf("%s%s %u %u %u", i % 5 ? ", " : "\n#   ", ops[i].name,
		       fuzz->ops[i].done, fuzz->ops[i].refused, fuzz->ops[i].skipped);
	printf("\n");
	if (class)
		report(&list, class);
	for (i = ERRNO; i < CLASSES; i++)
		ksft_test_result(i != class, "%s\n", class_names[i]);
	result_of_growth(before, after, done - measured);
	teardown();
	md_param_set("create_on_open", old_create, NULL, 0);
	ksft_finished();
}
