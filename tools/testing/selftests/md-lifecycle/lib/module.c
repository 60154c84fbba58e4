// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "module.h"

#define ROUNDS	10

/* Bytes: what goes on elsewhere does not add up; what a round leaves does. */
#define MEMORY_NOISE	65536
#define MEMORY_ROUND	512

int module_rounds(void)
{
	const char *rounds = getenv("MD_LIFECYCLE_ROUNDS");

	return rounds && atoi(rounds) > 0 ? atoi(rounds) : ROUNDS;
}

const char *module_missing(const char *name)
{
	static char missing[64];

	missing[0] = '\0';
	if (geteuid())
		snprintf(missing, sizeof(missing), "must be root");
	else if (path_exists("/sys/module/%s", name) && !module_loaded(name))
		snprintf(missing, sizeof(missing), "%s is built in", name);
	else if (!module_loaded(name) && run("modprobe -q -n %s", name))
		snprintf(missing, sizeof(missing), "no module %s", name);
	return missing[0] ? missing : NULL;
}

/* What is built in has no state. */
bool module_loaded(const char *name)
{
	return path_exists("/sys/module/%s/initstate", name);
}

int module_load(const char *name)
{
	return run("modprobe %s", name) ? -ENOEXEC : 0;
}

int module_unload(const char *name)
{
	return syscall(__NR_delete_module, name, O_NONBLOCK) ? -errno : 0;
}

int module_unload_when_unused(const char *name)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	int ret;

	for (;;) {
		ret = module_unload(name);
		if ((ret != -EWOULDBLOCK && ret != -EBUSY) || now_ms() > end)
			return ret;
		usleep(1000);
	}
}

/* Users before what they use. */
static int unload_all(const char *const *names)
{
	int ret;

	for (; *names; names++) {
		ret = module_unload_when_unused(*names);
		if (ret && ret != -ENOENT) {
			fprintf(stderr, "# cannot unload %s: %s\n", *names,
				strerror(-ret));
			return ret;
		}
	}
	return 0;
}

int module_unload_md(void)
{
	static const char * const names[] = {
		"dm_raid", "raid456", "raid10", "raid1", "raid0", "linear",
		"md_mod", NULL
	};

	return unload_all(names);
}

int module_unload_dm(void)
{
	static const char * const names[] = {
		"dm_raid", "dm_round_robin", "dm_queue_length", "dm_service_time",
		"dm_historical_service_time", "dm_io_affinity", "dm_multipath",
		"dm_snapshot", "dm_bufio", "dm_delay", "dm_flakey", "dm_zero",
		"dm_mod", NULL
	};

	return unload_all(names);
}

int inventory_take(struct inventory *inv)
{
	static const char * const lists[] = {
		"ls -d /sys/block/* /sys/class/bdi/* /sys/class/misc/*",
		"ls -d /sys/module/* /sys/devices/virtual/*/*",
		"ls -d /proc/[!0-9]* /proc/sys/dev/*",
		"ls -d /sys/kernel/debug/block/* /sys/kernel/tracing/events/*",
		"sed 's/^/device: /' /proc/devices /proc/misc",
		"sed 's/^/module: /; s/ [0-9].*//' /proc/modules",
		"sed 's/^/slab: /; s/  .*//' /proc/slabinfo",
		"sed -nE 's/^(kworker.R|md[0-9_]|dm|kdm|raid)/thread: &/p' /proc/[0-9]*/comm",
	};
	unsigned int i;
	int fd;

	snprintf(inv->path, sizeof(inv->path), "/tmp/inventory.XXXXXX");
	fd = mkstemp(inv->path);
	if (fd < 0)
		return -errno;
	close(fd);
	/* Some of these may not be there, and threads may go. */
	for (i = 0; i < ARRAY_SIZE(lists); i++)
		run("%s >>%s 2>/dev/null", lists[i], inv->path);
	return run("sort -o %s %s", inv->path, inv->path) ? -EIO : 0;
}

int inventory_compare(const struct inventory *before)
{
	struct inventory now;
	int ret;

	ret = inventory_take(&now);
	if (!ret && run("cmp -s %s %s", before->path, now.path)) {
		/* "<": it is missing; ">": it has come */
		run("diff %s %s | sed -n 's/^[<>]/# &/p'", before->path, now.path);
		ret = 1;
	}
	inventory_drop(&now);
	return ret;
}

void inventory_drop(struct inventory *inv)
{
	if (inv->path[0])
		unlink(inv->path);
	inv->path[0] = '\0';
}

struct memory memory_used(void)
{
	struct memory used = { .percpu = -1, .vmalloc = -1 };
	char line[128];
	long long kib;
	FILE *f;

	/* Names and inodes, of /proc and of what modprobe reads. */
	file_write("3", "/proc/sys/vm/drop_caches");
	used.slab = slab_bytes(NULL);
	f = fopen("/proc/meminfo", "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Percpu: %lld", &kib) == 1)
			used.percpu = kib * 1024;
		else if (sscanf(line, "VmallocUsed: %lld", &kib) == 1)
			used.vmalloc = kib * 1024;
	}
	if (f)
		fclose(f);
	return used;
}

bool memory_grown(const struct memory *before, int rounds)
{
	const long long most = MEMORY_NOISE + rounds * MEMORY_ROUND;
	struct memory after = memory_used();

	ksft_print_msg("bytes left by %d rounds: slab %lld, percpu %lld, vmalloc %lld\n",
		       rounds, after.slab - before->slab,
		       after.percpu - before->percpu, after.vmalloc - before->vmalloc);
	return after.slab - before->slab > most ||
	       after.percpu - before->percpu > most ||
	       after.vmalloc - before->vmalloc > most;
}
