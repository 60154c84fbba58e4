// SPDX-License-Identifier: GPL-2.0
/*
 * What each operation on a mapped device says in each state of its life. This
 * is the table of Documentation/md-lifecycle.rst: change both or neither. Then
 * what the operations say that have to wait.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"
#include "stall.h"
#include "task.h"

#define NODE		"/dev/.dm-errno"
#define SECTORS		2048

/*
 * NONE		no such device
 * CREATED	has no table and no disk
 * LOADED	has its first table, which is not in use yet
 * LIVE		has a table that is in use
 * RELOADED	and another one that is not
 * SUSPENDED	like live
 * SUSP_RELOADED	like reloaded
 * OPEN		live, and somebody has it open
 * DEFERRED	the same, and it is to go at the last close
 * REMOVING	DM_DEV_REMOVE waits for something; the name has gone
 * FAILED	the first load, of a request-based table, has failed
 */
enum state {
	NONE, CREATED, LOADED, LIVE, RELOADED, SUSPENDED, SUSP_RELOADED, OPEN,
	DEFERRED, REMOVING, FAILED, STATES
};

static const char * const states[STATES] = {
	"none", "created", "loaded", "live", "reloaded", "suspended",
	"susp_reloaded", "open", "deferred", "removing", "failed",
};

FIXTURE(dm_errno) {
	struct disk disk;
	struct leg leg;			/* whose close can be stalled */
	struct dm_dev dm;
	struct dm_dev other;		/* has a name and a uuid */
	char uuid[64];
	struct task remover;
	int fd;
	int node_fd;			/* O_PATH, its node has gone */
	enum state state;
};

FIXTURE_VARIANT(dm_errno) {
	enum state state;
};

FIXTURE_VARIANT_ADD(dm_errno, none) { .state = NONE };
FIXTURE_VARIANT_ADD(dm_errno, created) { .state = CREATED };
FIXTURE_VARIANT_ADD(dm_errno, loaded) { .state = LOADED };
FIXTURE_VARIANT_ADD(dm_errno, live) { .state = LIVE };
FIXTURE_VARIANT_ADD(dm_errno, reloaded) { .state = RELOADED };
FIXTURE_VARIANT_ADD(dm_errno, suspended) { .state = SUSPENDED };
FIXTURE_VARIANT_ADD(dm_errno, susp_reloaded) { .state = SUSP_RELOADED };
FIXTURE_VARIANT_ADD(dm_errno, open) { .state = OPEN };
FIXTURE_VARIANT_ADD(dm_errno, deferred) { .state = DEFERRED };
FIXTURE_VARIANT_ADD(dm_errno, removing) { .state = REMOVING };
FIXTURE_VARIANT_ADD(dm_errno, failed) { .state = FAILED };

/* --- The operations: 0 or a negative errno. --- */

struct row {
	const char *name;
	int (*op)(struct _test_data_dm_errno *self, const struct row *row);
	unsigned long cmd;
	unsigned int flags;	/* of the ioctl or of open */
	const char *word;
	bool query;		/* changes nothing, whatever it says */
	int want[STATES];	/* an errno */
};

struct call {
	struct dm_ioctl io;
	char data[2048];
};

static void prepare(struct call *call, const char *name)
{
	memset(call, 0, sizeof(*call));
	call->io.version[0] = DM_VERSION_MAJOR;
	call->io.data_size = sizeof(*call);
	call->io.data_start = offsetof(struct call, data);
	snprintf(call->io.name, sizeof(call->io.name), "%s", name);
}

static int do_call(struct call *call, unsigned long cmd)
{
	int fd, ret;

	fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = ioctl(fd, cmd, call) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static uint64_t number(const struct dm_dev *dm)
{
	/* As the kernel's huge_encode_dev() */
	return (dm->minor & 0xff) | dm->major << 8 | (uint64_t)(dm->minor & ~0xff) << 12;
}

/* What has no data, or a string. */
static int call(struct _test_data_dm_errno *self, const struct row *row)
{
	struct call call;

	prepare(&call, self->dm.name);
	call.io.flags = row->flags;
	call.io.event_nr = ~0U;		/* nothing to wait for */
	if (row->word)
		snprintf(call.data, sizeof(call.data), "%s", row->word);
	return do_call(&call, row->cmd);
}

static int call_by_number(struct _test_data_dm_errno *self, const struct row *row)
{
	struct call call;

	prepare(&call, "");
	call.io.dev = number(&self->dm);
	return do_call(&call, row->cmd);
}

static int call_by_uuid(struct _test_data_dm_errno *self, const struct row *row)
{
	struct call call;

	prepare(&call, "");
	snprintf(call.io.uuid, sizeof(call.io.uuid), "%s", row->word ?: self->uuid);
	return do_call(&call, row->cmd);
}

static int call_by_name_and_uuid(struct _test_data_dm_errno *self, const struct row *row)
{
	struct call call;

	prepare(&call, self->other.name);
	snprintf(call.io.uuid, sizeof(call.io.uuid), "%s", self->uuid);
	return do_call(&call, row->cmd);
}

static int call_by_name_and_number(struct _test_data_dm_errno *self, const struct row *row)
{
	struct call call;

	prepare(&call, self->other.name);
	call.io.dev = number(&self->other);
	return do_call(&call, row->cmd);
}

/* With a descriptor that root has opened. */
static int call_as_nobody(struct _test_data_dm_errno *self, const struct row *row)
{
	struct call call;
	int fd, status;
	pid_t pid;

	prepare(&call, "");
	fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		if (setresuid(65534, 65534, 65534))
			_exit(255);
		_exit(ioctl(fd, row->cmd, &call) < 0 ? errno : 0);
	}
	close(fd);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

static int call_of_later_version(struct _test_data_dm_errno *self, const struct row *row)
{
	struct call call;

	prepare(&call, "");
	call.io.version[0]++;
	return do_call(&call, row->cmd);
}

static int suspend_and_resume(struct _test_data_dm_errno *self, const struct row *row)
{
	return dm_suspend(&self->dm) ?: dm_resume(&self->dm);
}

/* --- create --- */

static int remove_name(const char *name)
{
	struct dm_dev dm;

	snprintf(dm.name, sizeof(dm.name), "%s", name);
	return dm_remove_when_unused(&dm);
}

static int create_as(const char *name, const char *uuid, const struct dm_dev *number_of)
{
	struct call call;
	int ret;

	prepare(&call, name);
	if (uuid)
		snprintf(call.io.uuid, sizeof(call.io.uuid), "%s", uuid);
	if (number_of) {
		call.io.flags = DM_PERSISTENT_DEV_FLAG;
		call.io.dev = number(number_of);
	}
	ret = do_call(&call, DM_DEV_CREATE);
	if (!ret)
		ret = remove_name(name);
	return ret;
}

static int create_same_name(struct _test_data_dm_errno *self, const struct row *row)
{
	return create_as(self->dm.name, NULL, NULL);
}

static int create_same_number(struct _test_data_dm_errno *self, const struct row *row)
{
	return create_as("lc-number", NULL, &self->dm);
}

static int create_same_uuid(struct _test_data_dm_errno *self, const struct row *row)
{
	return create_as("lc-uuid", self->uuid, NULL);
}

static int create_word(struct _test_data_dm_errno *self, const struct row *row)
{
	return create_as(row->word, NULL, NULL);
}

/* --- rename --- */

static int rename_dm(const struct dm_dev *dm, const char *name, unsigned int flags)
{
	struct call call;

	prepare(&call, dm->name);
	call.io.flags = flags;
	snprintf(call.data, sizeof(call.data), "%s", name);
	return do_call(&call, DM_DEV_RENAME);
}

static int rename_to(struct _test_data_dm_errno *self, const char *name, unsigned int flags)
{
	return rename_dm(&self->dm, name, flags);
}

static int rename_and_back(struct _test_data_dm_errno *self, const struct row *row)
{
	struct dm_dev old = self->dm;
	int ret;

	ret = rename_to(self, row->word, 0);
	if (ret)
		return ret;
	snprintf(self->dm.name, sizeof(self->dm.name), "%s", row->word);
	ret = rename_to(self, old.name, 0);
	if (!ret)
		self->dm = old;
	return ret;
}

static int rename_to_own_name(struct _test_data_dm_errno *self, const struct row *row)
{
	return rename_to(self, self->dm.name, 0);
}

static int rename_to_used_name(struct _test_data_dm_errno *self, const struct row *row)
{
	return rename_to(self, self->other.name, 0);
}

static int set_used_uuid(struct _test_data_dm_errno *self, const struct row *row)
{
	return rename_to(self, self->uuid, DM_UUID_FLAG);
}

static int set_uuid_twice(struct _test_data_dm_errno *self, const struct row *row)
{
	int ret = rename_to(self, "lc-first-uuid", DM_UUID_FLAG);

	return ret ?: rename_to(self, "lc-second-uuid", DM_UUID_FLAG);
}

static int rename_by_number(struct _test_data_dm_errno *self, const struct row *row)
{
	struct call call;

	prepare(&call, "");
	call.io.dev = number(&self->other);
	snprintf(call.data, sizeof(call.data), "lc-renamed");
	return do_call(&call, DM_DEV_RENAME);
}

static int rename_by_uuid(struct _test_data_dm_errno *self, const struct row *row)
{
	struct call call;

	prepare(&call, "");
	snprintf(call.io.uuid, sizeof(call.io.uuid), "%s", self->uuid);
	snprintf(call.data, sizeof(call.data), "lc-renamed");
	return do_call(&call, DM_DEV_RENAME);
}

/* --- load --- */

static int load(struct _test_data_dm_errno *self, struct dm_row row)
{
	return dm_load(&self->dm, &row, 1);
}

static int load_good(struct _test_data_dm_errno *self, const struct row *row)
{
	return load(self, dm_linear(&self->disk, SECTORS));
}

/* With a parameter string, as it is */
static int load_word(struct _test_data_dm_errno *self, const struct row *row)
{
	struct dm_row table = { .len = SECTORS, .type = "linear" };

	snprintf(table.params, sizeof(table.params), "%s", row->word);
	return load(self, table);
}

static int load_type(struct _test_data_dm_errno *self, const struct row *row)
{
	struct dm_row table = dm_linear(&self->disk, SECTORS);

	table.type = row->word;
	return load(self, table);
}

static int load_nothing(struct _test_data_dm_errno *self, const struct row *row)
{
	return dm_load(&self->dm, NULL, 0);
}

static int load_gap(struct _test_data_dm_errno *self, const struct row *row)
{
	struct dm_row table = dm_linear(&self->disk, SECTORS);

	table.start = 8;
	return load(self, table);
}

static int load_itself(struct _test_data_dm_errno *self, const struct row *row)
{
	struct disk own = { .major = self->dm.major, .minor = self->dm.minor };

	return load(self, dm_linear(&own, SECTORS));
}

static int load_claimed(struct _test_data_dm_errno *self, const struct row *row)
{
	struct disk claimed = {};
	int fd, ret;

	ret = disk_create(&claimed, 8, false);
	if (ret)
		return ret;
	fd = open(claimed.path, O_RDONLY | O_EXCL | O_CLOEXEC);
	ret = fd < 0 ? -errno : load(self, dm_linear(&claimed, SECTORS));
	if (fd >= 0)
		close(fd);
	if (!ret)
		dm_clear(&self->dm);
	disk_destroy(&claimed);
	return ret;
}

static int load_too_long(struct _test_data_dm_errno *self, const struct row *row)
{
	return load(self, dm_linear(&self->disk, 1024 * SECTORS));
}

static int use_too_long(struct _test_data_dm_errno *self, const struct row *row)
{
	return load_too_long(self, row) ?: dm_resume(&self->dm);
}

static int load_request_based(struct _test_data_dm_errno *self, const struct row *row)
{
	return load(self, dm_multipath(&self->disk, 8 * SECTORS));
}

/* --- messages --- */

static int message(struct _test_data_dm_errno *self, const struct row *row)
{
	struct dm_target_msg *msg;
	struct call call;

	prepare(&call, self->dm.name);
	msg = (void *)call.data;
	snprintf(msg->message, sizeof(call.data) - sizeof(*msg), "%s", row->word);
	return do_call(&call, DM_TARGET_MSG);
}

/* --- the block device --- */

static int open_devtmpfs(struct _test_data_dm_errno *self, const struct row *row)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/dm-%u", self->dm.minor);
	return open_and_close(path, row->flags);
}

static int open_node(struct _test_data_dm_errno *self, const struct row *row)
{
	int fd = dm_open(&self->dm, row->flags);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int open_node_claimed(struct _test_data_dm_errno *self, const struct row *row)
{
	int fd, ret;

	fd = dm_open(&self->dm, O_RDONLY | O_EXCL);
	if (fd < 0)
		return fd;
	ret = open_node(self, row);
	close(fd);
	return ret;
}

static int open_old_node(struct _test_data_dm_errno *self, const struct row *row)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->node_fd);
	return open_and_close(path, row->flags);
}

static int load_readonly(struct _test_data_dm_errno *self)
{
	struct call call;
	struct {
		struct dm_target_spec spec;
		char params[64];
	} *table = (void *)call.data;
	int ret;

	prepare(&call, self->dm.name);
	call.io.flags = DM_READONLY_FLAG;
	call.io.target_count = 1;
	table->spec.length = SECTORS;
	snprintf(table->spec.target_type, sizeof(table->spec.target_type), "linear");
	snprintf(table->params, sizeof(table->params), "%u:%u 0", self->disk.major,
		 self->disk.minor);
	ret = do_call(&call, DM_TABLE_LOAD);
	return ret ?: dm_resume(&self->dm);
}

static int open_readonly_table(struct _test_data_dm_errno *self, const struct row *row)
{
	return load_readonly(self) ?: open_node(self, row);
}

static int with_open(struct _test_data_dm_errno *self, int (*fn)(int fd, void *buf))
{
	char buf[8192];
	int fd, ret;

	fd = dm_open(&self->dm, O_RDWR | O_DIRECT);
	if (fd < 0)
		return fd;
	ret = fn(fd, (void *)(((uintptr_t)buf + 4095) & ~4095UL)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static int do_read(int fd, void *buf)
{
	return pread(fd, buf, 4096, 0);
}

static int do_write(int fd, void *buf)
{
	return pwrite(fd, buf, 4096, 0);
}

static int do_fsync(int fd, void *buf)
{
	return fsync(fd);
}

/* One that no driver knows: would be for the device below. */
static int do_ioctl_below(int fd, void *buf)
{
	return ioctl(fd, _IO('L', 0x7f), 0);
}

static int read_block(struct _test_data_dm_errno *self, const struct row *row)
{
	return with_open(self, do_read);
}

static int write_block(struct _test_data_dm_errno *self, const struct row *row)
{
	return with_open(self, do_write);
}

static int write_readonly_table(struct _test_data_dm_errno *self, const struct row *row)
{
	return load_readonly(self) ?: write_block(self, row);
}

static int sync_block(struct _test_data_dm_errno *self, const struct row *row)
{
	return with_open(self, do_fsync);
}

static int ioctl_below(struct _test_data_dm_errno *self, const struct row *row)
{
	return with_open(self, do_ioctl_below);
}

/* --- The table. --- */

/* Not applicable; waits: see the fixture dm_wait. */
#define NA	(-1)
#define WAITS	(-2)

#define ONCE(err)	{ err, NA, NA, NA, NA, NA, NA, NA, NA, NA, NA }
#define CALL(what, ioctl, how, text, ...) \
	{ .name = what, .op = call, .cmd = ioctl, .flags = how, .word = text, \
	  .want = { __VA_ARGS__ } }
#define QUERY(what, ioctl, how, text, ...) \
	{ .name = what, .op = call, .cmd = ioctl, .flags = how, .word = text, \
	  .query = true, .want = { __VA_ARGS__ } }
#define OP(what, fn, text, ...) \
	{ .name = what, .op = fn, .word = text, .want = { __VA_ARGS__ } }
#define TRY(what, fn, how, text, ...) \
	{ .name = what, .op = fn, .flags = how, .word = text, .query = true, \
	  .want = { __VA_ARGS__ } }
#define CREATE_BAD(what, text) \
	{ .name = what, .op = create_word, .word = text, .query = true, \
	  .want = ONCE(EINVAL) }

/*
 * None, created, loaded, live, reloaded, suspended, susp_reloaded, open,
 * deferred, removing, failed
 */
static const struct row rows[] = {
	TRY("CREATE, its name", create_same_name, 0, NULL,
	    0, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, 0, EBUSY),
	TRY("CREATE, its number", create_same_number, 0, NULL,
	    0, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY),
	TRY("CREATE, uuid of another", create_same_uuid, 0, NULL,
	    EBUSY, NA, NA, NA, NA, NA, NA, NA, NA, NA, NA),
	CREATE_BAD("CREATE, no name", ""),
	CREATE_BAD("CREATE, name \"control\"", "control"),
	CREATE_BAD("CREATE, name \".\"", "."),
	CREATE_BAD("CREATE, name \"..\"", ".."),
	CREATE_BAD("CREATE, name \"a/b\"", "a/b"),

	CALL("REMOVE", DM_DEV_REMOVE, 0, NULL,
	     ENXIO, 0, 0, 0, 0, 0, 0, EBUSY, EBUSY, ENXIO, 0),
	CALL("REMOVE, deferred", DM_DEV_REMOVE, DM_DEFERRED_REMOVE, NULL,
	     ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	OP("@cancel_deferred_remove", message, "@cancel_deferred_remove",
	   ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),

	OP("RENAME", rename_and_back, "lc-renamed",
	   ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	TRY("RENAME, its own name", rename_to_own_name, 0, NULL,
	    ENXIO, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, ENXIO,
	    EBUSY),
	TRY("RENAME, name of another", rename_to_used_name, 0, NULL,
	    EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY,
	    EBUSY),
	QUERY("RENAME, name \"a/b\"", DM_DEV_RENAME, 0, "a/b",
	      EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	      EINVAL, EINVAL, EINVAL),
	QUERY("RENAME, no name", DM_DEV_RENAME, 0, "",
	      EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	      EINVAL, EINVAL, EINVAL),
	CALL("RENAME, first uuid", DM_DEV_RENAME, DM_UUID_FLAG, "lc-uuid",
	     ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	OP("RENAME, second uuid", set_uuid_twice, NULL,
	   ENXIO, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	   ENXIO, EINVAL),
	TRY("RENAME, uuid of another", set_used_uuid, 0, NULL,
	    EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY,
	    EBUSY),
	TRY("RENAME, looked up by uuid", rename_by_uuid, 0, NULL,
	    ENXIO, NA, NA, NA, NA, NA, NA, NA, NA, NA, NA),
	TRY("RENAME, looked up by number", rename_by_number, 0, NULL,
	    ENXIO, NA, NA, NA, NA, NA, NA, NA, NA, NA, NA),

	CALL("SUSPEND", DM_DEV_SUSPEND, DM_SUSPEND_FLAG, NULL,
	     ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	CALL("resume", DM_DEV_SUSPEND, 0, NULL,
	     ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	OP("resume, suspended before", suspend_and_resume, NULL,
	   ENXIO, EINVAL, 0, 0, 0, 0, 0, 0, 0, ENXIO, EINVAL),
	OP("resume, a table that is too long", use_too_long, NULL,
	   ENXIO, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	   ENXIO, EINVAL),

	OP("LOAD", load_good, NULL,
	   ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	OP("LOAD, no such number below", load_word, "259:1048575 0",
	   ENXIO, ENXIO, ENXIO, ENXIO, ENXIO, ENXIO, ENXIO, ENXIO, ENXIO, ENXIO,
	   ENXIO),
	OP("LOAD, no such node below", load_word, "/dev/.none 0",
	   ENXIO, ENOENT, ENOENT, ENOENT, ENOENT, ENOENT, ENOENT, ENOENT, ENOENT,
	   ENXIO, ENOENT),
	OP("LOAD, no block device below", load_word, "/dev/null 0",
	   ENXIO, ENOTBLK, ENOTBLK, ENOTBLK, ENOTBLK, ENOTBLK, ENOTBLK, ENOTBLK,
	   ENOTBLK, ENXIO, ENOTBLK),
	OP("LOAD, claimed by another below", load_claimed, NULL,
	   ENXIO, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, ENXIO,
	   EBUSY),
	OP("LOAD, itself below", load_itself, NULL,
	   ENXIO, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	   ENXIO, EINVAL),
	OP("LOAD, longer than what is below", load_too_long, NULL,
	   ENXIO, EINVAL, 0, 0, 0, 0, 0, 0, 0, ENXIO, EINVAL),
	OP("LOAD, no such target type", load_type, "lc-none",
	   ENXIO, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	   ENXIO, EINVAL),
	OP("LOAD, bad parameters", load_word, "",
	   ENXIO, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	   ENXIO, EINVAL),
	OP("LOAD, no targets", load_nothing, NULL,
	   ENXIO, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	   ENXIO, EINVAL),
	OP("LOAD, a gap", load_gap, NULL,
	   ENXIO, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	   ENXIO, EINVAL),
	OP("LOAD, request-based", load_request_based, NULL,
	   ENXIO, 0, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, ENXIO,
	   NA),
	CALL("CLEAR", DM_TABLE_CLEAR, 0, NULL,
	     ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),

	QUERY("DEV_STATUS", DM_DEV_STATUS, 0, NULL,
	      ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	{ .name = "DEV_STATUS, by number", .op = call_by_number,
	  .cmd = DM_DEV_STATUS, .query = true,
	  .want = { ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0 } },
	QUERY("TABLE_STATUS", DM_TABLE_STATUS, 0, NULL,
	      ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	QUERY("TABLE_STATUS, inactive", DM_TABLE_STATUS,
	      DM_QUERY_INACTIVE_TABLE_FLAG, NULL,
	      ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	QUERY("TABLE_DEPS", DM_TABLE_DEPS, 0, NULL,
	      ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	QUERY("DEV_WAIT, for a past event", DM_DEV_WAIT, 0, NULL,
	      ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	TRY("TARGET_MSG, to a target without", message, 0, "lc-message",
	    ENXIO, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	    ENXIO, EINVAL),
	TRY("TARGET_MSG, \"@stats_list\"", message, 0, "@stats_list",
	    ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	TRY("TARGET_MSG, \"@none\"", message, 0, "@none",
	    ENXIO, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	    ENXIO, EINVAL),
	QUERY("SET_GEOMETRY", DM_DEV_SET_GEOMETRY, 0, "2 16 63 0",
	      ENXIO, 0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	QUERY("SET_GEOMETRY, starts after its end", DM_DEV_SET_GEOMETRY, 0,
	      "2 16 63 2017",
	      ENXIO, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	      EINVAL, ENXIO, EINVAL),
	QUERY("DEV_ARM_POLL", DM_DEV_ARM_POLL, 0, NULL,
	      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
	QUERY("LIST_DEVICES", DM_LIST_DEVICES, 0, NULL,
	      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
	QUERY("LIST_VERSIONS", DM_LIST_VERSIONS, 0, NULL,
	      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),

	{ .name = "DEV_STATUS, uuid of another", .op = call_by_uuid,
	  .cmd = DM_DEV_STATUS, .query = true, .want = ONCE(0) },
	{ .name = "DEV_STATUS, no such uuid", .op = call_by_uuid, .word = "lc-none",
	  .cmd = DM_DEV_STATUS, .query = true, .want = ONCE(ENXIO) },
	{ .name = "DEV_STATUS, by name and uuid", .op = call_by_name_and_uuid,
	  .cmd = DM_DEV_STATUS, .query = true, .want = ONCE(EINVAL) },
	{ .name = "DEV_STATUS, by name and number", .op = call_by_name_and_number,
	  .cmd = DM_DEV_STATUS, .query = true, .want = ONCE(ENXIO) },
	{ .name = "LIST_DEVICES, without CAP_SYS_ADMIN", .op = call_as_nobody,
	  .cmd = DM_LIST_DEVICES, .query = true, .want = ONCE(EACCES) },
	{ .name = "another interface version", .op = call_of_later_version,
	  .cmd = DM_LIST_DEVICES, .query = true, .want = ONCE(EINVAL) },
	{ .name = "no such ioctl", .op = call, .cmd = _IOWR(DM_IOCTL, 0x7f, struct dm_ioctl),
	  .query = true, .want = ONCE(ENOTTY) },

	TRY("open /dev/dm-N", open_devtmpfs, O_RDWR, NULL,
	    ENOENT, ENOENT, 0, 0, 0, 0, 0, 0, 0, ENXIO, ENOENT),
	TRY("open a node of mknod", open_node, O_RDWR, NULL,
	    ENXIO, ENXIO, 0, 0, 0, 0, 0, 0, 0, ENXIO, ENXIO),
	TRY("open O_EXCL", open_node, O_RDONLY | O_EXCL, NULL,
	    ENXIO, ENXIO, 0, 0, 0, 0, 0, 0, 0, ENXIO, ENXIO),
	TRY("open O_EXCL, with another O_EXCL", open_node_claimed,
	    O_RDONLY | O_EXCL, NULL,
	    ENXIO, ENXIO, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, ENXIO,
	    ENXIO),
	TRY("open O_NONBLOCK", open_node, O_RDONLY | O_NONBLOCK, NULL,
	    ENXIO, ENXIO, 0, 0, 0, 0, 0, 0, 0, ENXIO, ENXIO),
	TRY("open /proc/self/fd/N, O_PATH from before", open_old_node, O_RDONLY,
	    NULL,
	    ENXIO, ENXIO, 0, 0, 0, 0, 0, 0, 0, ENXIO, ENXIO),
	{ .name = "open O_RDWR, a read-only table", .op = open_readonly_table,
	  .flags = O_RDWR,
	  .want = { NA, 0, NA, NA, NA, NA, NA, NA, NA, NA, NA } },

	TRY("read", read_block, 0, NULL,
	    NA, NA, 0, 0, 0, WAITS, WAITS, 0, 0, NA, NA),
	TRY("write", write_block, 0, NULL,
	    NA, NA, ENOSPC, 0, 0, WAITS, WAITS, 0, 0, NA, NA),
	OP("write, a read-only table", write_readonly_table, NULL,
	   NA, EPERM, NA, NA, NA, NA, NA, NA, NA, NA, NA),
	TRY("fsync", sync_block, 0, NULL,
	    NA, NA, 0, 0, 0, WAITS, WAITS, 0, 0, NA, NA),
	TRY("an ioctl for the device below", ioctl_below, 0, NULL,
	    NA, NA, ENOTTY, ENOTTY, ENOTTY, EAGAIN, EAGAIN, ENOTTY, ENOTTY, NA, NA),
};

/* --- The states. --- */

FIXTURE_SETUP(dm_errno)
{
	const char *missing = dm_missing();

	self->fd = -1;
	self->node_fd = -1;
	self->state = variant->state;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disk, 8, false));
	if (self->state == REMOVING)
		ASSERT_EQ(0, leg_create(&self->leg, "leg", 8));
	snprintf(self->uuid, sizeof(self->uuid), "lc-other-%d", getpid());
	ASSERT_EQ(0, dm_create(&self->other, "other"));
	ASSERT_EQ(0, rename_dm(&self->other, self->uuid, DM_UUID_FLAG));
}

static void leave(struct _test_data_dm_errno *self)
{
	if (self->fd >= 0)
		close(self->fd);
	self->fd = -1;
	if (self->node_fd >= 0)
		close(self->node_fd);
	self->node_fd = -1;
	leg_release(&self->leg);
	if (self->remover.shared) {
		task_result(&self->remover);
		task_end(&self->remover);
	}
	if (self->dm.name[0])
		dm_remove_when_unused(&self->dm);
	self->dm.name[0] = '\0';
}

FIXTURE_TEARDOWN(dm_errno)
{
	leave(self);
	if (self->other.name[0])
		dm_remove(&self->other);
	leg_destroy(&self->leg);
	disk_destroy(&self->disk);
	udev_resume();
}

static long remove_it(struct task *task, void *arg)
{
	return dm_remove(arg);
}

/*
 * The remover closes the leg, the last to do so, and so has to write back what
 * is dirty: which cannot be written.
 */
static int begin_remove(struct _test_data_dm_errno *self)
{
	char buf[4096] = "dirty";
	int fd, ret;

	fd = dm_open(&self->leg.dm, O_RDWR);
	if (fd < 0)
		return fd;
	ret = leg_stall(&self->leg);
	if (!ret && pwrite(fd, buf, sizeof(buf), 0) != sizeof(buf))
		ret = -EIO;
	close(fd);
	if (ret)
		return ret;
	ret = task_start(&self->remover, "DM_DEV_REMOVE", remove_it, &self->dm, -1);
	return ret ?: task_blocked(&self->remover);
}

static int open_and_unlink_node(struct _test_data_dm_errno *self)
{
	unlink(NODE);
	if (mknod(NODE, S_IFBLK | 0600, makedev(self->dm.major, self->dm.minor)))
		return -errno;
	self->node_fd = open(NODE, O_PATH | O_CLOEXEC);
	unlink(NODE);
	return self->node_fd < 0 ? -errno : 0;
}

static int enter(struct _test_data_dm_errno *self)
{
	struct dm_row table = dm_linear(self->state == REMOVING ? &self->leg.disk : &self->disk,
				     SECTORS);
	int ret;

	ret = dm_create(&self->dm, "errno");
	if (!ret)
		ret = open_and_unlink_node(self);
	if (ret || self->state == CREATED)
		return ret;
	if (self->state == NONE)
		return dm_remove(&self->dm);
	if (self->state == FAILED)
		return load(self, dm_multipath(&self->disk, 1024 * SECTORS)) == -EINVAL ?
		       0 : -EPROTO;

	ret = load(self, table);
	if (ret || self->state == LOADED)
		return ret;
	ret = dm_resume(&self->dm);
	if (!ret && (self->state == SUSPENDED || self->state == SUSP_RELOADED))
		ret = dm_suspend(&self->dm);
	if (!ret && (self->state == RELOADED || self->state == SUSP_RELOADED))
		ret = load(self, table);
	if (!ret && (self->state == OPEN || self->state == DEFERRED)) {
		self->fd = dm_open(&self->dm, O_RDONLY);
		ret = self->fd < 0 ? self->fd : 0;
	}
	if (!ret && self->state == DEFERRED)
		ret = dm_remove_deferred(&self->dm);
	if (!ret && self->state == REMOVING)
		ret = begin_remove(self);
	return ret;
}

static const char *errno_name(int err)
{
	static const char * const names[] = {
		[0] = "0", [EPERM] = "EPERM", [ENOENT] = "ENOENT", [EINTR] = "EINTR", [EIO] = "EIO",
		[ENXIO] = "ENXIO", [EAGAIN] = "EAGAIN", [EACCES] = "EACCES",
		[ENOTBLK] = "ENOTBLK", [EBUSY] = "EBUSY", [EEXIST] = "EEXIST",
		[ENODEV] = "ENODEV", [EINVAL] = "EINVAL", [ENOTTY] = "ENOTTY",
		[ENOSPC] = "ENOSPC", [EROFS] = "EROFS", [EOVERFLOW] = "EOVERFLOW",
		[ESTALE] = "ESTALE",
	};

	if (err < 0 || err >= (int)ARRAY_SIZE(names) || !names[err])
		return "another errno";
	return names[err];
}

TEST_F(dm_errno, B9_one_errno_per_state_and_operation)
{
	bool entered = false;
	const struct row *row;
	int want, seen;

	for (row = rows; row < rows + ARRAY_SIZE(rows); row++) {
		want = row->want[self->state];
		if (want < 0)
			continue;
		if (!entered) {
			ASSERT_EQ(0, enter(self)) {
				TH_LOG("no state \"%s\" for \"%s\"",
				       states[self->state], row->name);
			}
		}
		seen = -row->op(self, row);
		ksft_print_msg("%-13s %-44s %s\n", states[self->state], row->name,
			       errno_name(seen));
		EXPECT_EQ(want, seen) {
			TH_LOG("%s, %s: expected %s, seen %s (%d)", states[self->state],
			       row->name, errno_name(want), errno_name(seen), seen);
		}

		/* Whatever else the operation was, it may be another state now. */
		entered = row->query && seen == want;
		if (!entered)
			leave(self);
	}
}

/* --- What waits. --- */

FIXTURE(dm_wait) {
	struct leg leg;
	struct disk cow;
	struct dm_dev dm;		/* on the leg */
	struct dm_dev snapshot;
	struct task reader, tasks[2];
	int fd;
};

FIXTURE_SETUP(dm_wait)
{
	const char *missing = dm_missing() ?: task_missing();

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, leg_create(&self->leg, "leg", 8));
	ASSERT_EQ(0, dm_create(&self->dm, "wait"));
}

FIXTURE_TEARDOWN(dm_wait)
{
	int i;

	leg_release(&self->leg);
	dm_resume(&self->dm);
	if (self->fd >= 0)
		close(self->fd);
	for (i = 0; i < 2; i++)
		task_end(&self->tasks[i]);
	task_end(&self->reader);
	if (self->snapshot.name[0])
		dm_remove_when_unused(&self->snapshot);
	dm_remove_when_unused(&self->dm);
	leg_destroy(&self->leg);
	disk_destroy(&self->cow);
	udev_resume();
}

static int make_live(struct dm_dev *dm, const struct dm_row *row)
{
	return dm_load(dm, row, 1) ?: dm_resume(dm);
}

static int make_linear(struct _test_data_dm_wait *self)
{
	struct dm_row row = dm_linear(&self->leg.disk, SECTORS);

	return make_live(&self->dm, &row);
}

static long read_direct(struct task *task, void *arg)
{
	char buf[8192];
	int fd = dm_open(arg, O_RDONLY | O_DIRECT);

	if (fd < 0)
		return fd;
	return do_read(fd, (void *)(((uintptr_t)buf + 4095) & ~4095UL)) < 0 ? -errno : 0;
}

static long read_cached(struct task *task, void *arg)
{
	char buf[4096];
	int fd = dm_open(arg, O_RDONLY);

	if (fd < 0)
		return fd;
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	return do_read(fd, buf) < 0 ? -errno : 0;
}

static long write_and_fsync(struct task *task, void *arg)
{
	char buf[4096] = "dirty";
	int fd = dm_open(arg, O_RDWR);

	if (fd < 0)
		return fd;
	return do_write(fd, buf) < 0 || fsync(fd) < 0 ? -errno : 0;
}

static long suspend_it(struct task *task, void *arg)
{
	return dm_suspend(arg);
}

static long resume_it(struct task *task, void *arg)
{
	return dm_resume(arg);
}

static void got_signal(int sig)
{
}

/* The same, and a signal does not start it again. */
static long suspend_interruptibly(struct task *task, void *arg)
{
	struct sigaction act = { .sa_handler = got_signal };

	sigaction(SIGUSR1, &act, NULL);
	return dm_suspend(arg);
}

static long wait_for_event(struct task *task, void *arg)
{
	struct sigaction act = { .sa_handler = got_signal };
	const struct dm_dev *dm = arg;
	struct call call;
	int ret;

	sigaction(SIGUSR1, &act, NULL);
	prepare(&call, dm->name);
	ret = do_call(&call, DM_DEV_STATUS);
	if (ret)
		return ret;
	task->shared->out = call.io.event_nr;
	prepare(&call, dm->name);
	call.io.event_nr = task->shared->out;
	return do_call(&call, DM_DEV_WAIT);
}

/* Reads and writes of a suspended device wait until it is resumed. */
TEST_F(dm_wait, B9_cached_read_while_suspended)
{
	ASSERT_EQ(0, make_linear(self));
	ASSERT_EQ(0, dm_suspend(&self->dm));
	ASSERT_EQ(0, task_start(&self->tasks[0], "a read", read_cached, &self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->tasks[0]));
	ASSERT_EQ(0, task_start(&self->tasks[1], "a read", read_cached, &self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->tasks[1]));
	EXPECT_EQ(0, task_kill(&self->tasks[0]));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(0, task_result(&self->tasks[1]));
}

TEST_F(dm_wait, B9_direct_read_while_suspended)
{
	ASSERT_EQ(0, make_linear(self));
	ASSERT_EQ(0, dm_suspend(&self->dm));
	ASSERT_EQ(0, task_start(&self->reader, "a direct read", read_direct, &self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->reader));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(0, task_result(&self->reader));
}

TEST_F(dm_wait, B9_fsync_while_suspended)
{
	ASSERT_EQ(0, make_linear(self));
	ASSERT_EQ(0, dm_suspend(&self->dm));
	ASSERT_EQ(0, task_start(&self->reader, "a write and fsync", write_and_fsync,
				&self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->reader));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(0, task_result(&self->reader));
}

/* A suspend waits for I/O; who waits for that suspend has the same result. */
TEST_F(dm_wait, B9_two_suspends)
{
	uint32_t flags;
	int i;

	ASSERT_EQ(0, make_linear(self));
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(0, task_start(&self->reader, "a direct read", read_direct, &self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->reader));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, task_start(&self->tasks[i], i ? "the second suspend" :
					"the first suspend", suspend_it, &self->dm, -1));
		ASSERT_EQ(0, task_blocked(&self->tasks[i]));
	}
	leg_release(&self->leg);
	EXPECT_EQ(0, task_result(&self->tasks[0]));
	EXPECT_EQ(0, task_result(&self->tasks[1]));
	EXPECT_EQ(0, task_result(&self->reader));
	ASSERT_EQ(0, dm_info(&self->dm, &flags, NULL));
	EXPECT_EQ((uint32_t)DM_SUSPEND_FLAG, flags & DM_SUSPEND_FLAG);
}

/* The suspend that is part of a swap fails for the same reason, and the swap. */
TEST_F(dm_wait, B9_suspend_and_swap)
{
	struct dm_row row = { .len = SECTORS, .type = "linear" };
	char table[160], want[160];

	ASSERT_EQ(0, make_linear(self));
	snprintf(row.params, sizeof(row.params), "%u:%u 8", self->leg.disk.major,
		 self->leg.disk.minor);
	ASSERT_EQ(0, dm_load(&self->dm, &row, 1));
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(0, task_start(&self->reader, "a direct read", read_direct, &self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->reader));
	ASSERT_EQ(0, task_start(&self->tasks[0], "the suspend", suspend_it, &self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->tasks[0]));
	ASSERT_EQ(0, task_start(&self->tasks[1], "the swap", resume_it, &self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->tasks[1]));
	leg_release(&self->leg);
	EXPECT_EQ(0, task_result(&self->tasks[0]));
	EXPECT_EQ(0, task_result(&self->tasks[1]));
	EXPECT_EQ(0, task_result(&self->reader));
	ASSERT_EQ(0, dm_table(&self->dm, false, table, sizeof(table)));
	snprintf(want, sizeof(want), "linear %s", row.params);
	EXPECT_STREQ(want, table);
}

/*
 * The resume of a snapshot suspends the origin for a moment, and that waits for
 * the origin's I/O.
 */
TEST_F(dm_wait, B9_two_resumes)
{
	struct dm_row origin = { .len = SECTORS, .type = "snapshot-origin" };
	struct dm_row snapshot = { .len = SECTORS, .type = "snapshot" };
	uint32_t flags;
	int i, ret;

	snprintf(origin.params, sizeof(origin.params), "%u:%u", self->leg.disk.major,
		 self->leg.disk.minor);
	ret = make_live(&self->dm, &origin);
	if (ret == -EINVAL)
		SKIP(return, "no dm-snapshot");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, disk_create(&self->cow, 8, false));
	snprintf(snapshot.params, sizeof(snapshot.params), "%u:%u %u:%u N 16",
		 self->leg.disk.major, self->leg.disk.minor, self->cow.major, self->cow.minor);
	ASSERT_EQ(0, dm_create(&self->snapshot, "snapshot"));
	ASSERT_EQ(0, make_live(&self->snapshot, &snapshot));
	ASSERT_EQ(0, dm_suspend(&self->snapshot));

	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(0, task_start(&self->reader, "a direct read", read_direct, &self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->reader));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, task_start(&self->tasks[i], i ? "the second resume" :
					"the first resume", resume_it, &self->snapshot, -1));
		ASSERT_EQ(0, task_blocked(&self->tasks[i]));
	}
	leg_release(&self->leg);
	EXPECT_EQ(0, task_result(&self->tasks[0]));
	EXPECT_EQ(0, task_result(&self->tasks[1]));
	EXPECT_EQ(0, task_result(&self->reader));
	ASSERT_EQ(0, dm_info(&self->snapshot, &flags, NULL));
	EXPECT_EQ(0U, flags & DM_SUSPEND_FLAG);
}

/* A suspend that has to wait can be given up, and then has not happened. */
TEST_F(dm_wait, B9_interrupted_suspend)
{
	uint32_t flags;

	ASSERT_EQ(0, make_linear(self));
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(0, task_start(&self->reader, "a direct read", read_direct, &self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->reader));
	ASSERT_EQ(0, task_start(&self->tasks[0], "the suspend", suspend_interruptibly,
				&self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->tasks[0]));
	ASSERT_EQ(0, kill(self->tasks[0].pid, SIGUSR1));
	EXPECT_EQ(-EINTR, task_result(&self->tasks[0]));
	ASSERT_EQ(0, dm_info(&self->dm, &flags, NULL));
	EXPECT_EQ(0U, flags & DM_SUSPEND_FLAG);
	leg_release(&self->leg);
	EXPECT_EQ(0, task_result(&self->reader));
}

TEST_F(dm_wait, B9_interrupted_wait_for_an_event)
{
	ASSERT_EQ(0, make_linear(self));
	ASSERT_EQ(0, task_start(&self->tasks[0], "DM_DEV_WAIT", wait_for_event, &self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->tasks[0]));
	ASSERT_EQ(0, kill(self->tasks[0].pid, SIGUSR1));
	EXPECT_EQ(-EINTR, task_result(&self->tasks[0]));
}

TEST_HARNESS_MAIN
