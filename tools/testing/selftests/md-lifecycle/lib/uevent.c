// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fnmatch.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/netlink.h>

#include "lifecycle.h"

#define KERNEL_EVENTS	1

int uevent_open(void)
{
	struct sockaddr_nl addr = {
		.nl_family = AF_NETLINK,
		.nl_groups = KERNEL_EVENTS,
	};
	int size = 8 << 20;
	int fd, ret;

	fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

/* The next event, as its strings one after the other; its length. */
static ssize_t uevent_next(int fd, char *msg, size_t len)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	ssize_t n;

	if (poll(&pfd, 1, DEADLINE_MS) <= 0)
		return -ETIMEDOUT;
	n = recv(fd, msg, len - 1, 0);
	if (n < 0)
		return -errno;
	msg[n] = '\0';
	return n;
}

#define HEAD_LEN	128

static void uevent_head(char *head, const char *name, const char *action)
{
	snprintf(head, HEAD_LEN, "%s@/devices/virtual/block/%s", action, name);
}

int uevent_wait(int fd, const char *name, const char *action)
{
	char head[HEAD_LEN], msg[8192];
	ssize_t n;

	uevent_head(head, name, action);
	do {
		n = uevent_next(fd, msg, sizeof(msg));
		if (n < 0)
			return n;
	} while (strcmp(msg, head));
	return 0;
}

static bool has_variable(const char *msg, size_t len, const char *want)
{
	const char *end = msg + len;

	for (; msg < end; msg += strlen(msg) + 1)
		if (!strcmp(msg, want))
			return true;
	return false;
}

/* Tell @seen of every event there is, as far as that of a marker. */
static int uevent_drain(int fd, const struct disk *disk,
			void (*seen)(void *arg, const char *msg, size_t len),
			void *arg)
{
	char marker[64], mark[64], msg[8192];
	static unsigned int serial;
	ssize_t n;
	int ret;

	/* A synthetic event: an action, a UUID of which we vary the end, a KEY. */
	snprintf(marker, sizeof(marker),
		 "change 6d646c63-0000-4000-8000-%012x LC=%u", getpid(), ++serial);
	snprintf(mark, sizeof(mark), "SYNTH_ARG_LC=%u", serial);

	ret = file_write(marker, "/sys/block/%s/uevent", disk->name);
	if (ret)
		return ret;
	do {
		n = uevent_next(fd, msg, sizeof(msg));
		/* Until all are read no more come, not even the last one. */
		while (n == -ENOBUFS && recv(fd, msg, sizeof(msg), MSG_DONTWAIT) >= 0)
			;
		if (n < 0)
			return n;
		seen(arg, msg, n);
	} while (!has_variable(msg, n, mark));
	return 0;
}

struct counting {
	char head[HEAD_LEN];
	const char *variable;
	int count;
};

static void count_event(void *arg, const char *msg, size_t len)
{
	struct counting *counting = arg;

	if (!strcmp(msg, counting->head) &&
	    (!counting->variable || has_variable(msg, len, counting->variable)))
		counting->count++;
}

int uevent_count_with(int fd, const struct disk *disk, const char *name,
		      const char *action, const char *variable)
{
	struct counting counting = { .variable = variable };

	uevent_head(counting.head, name, action);
	return uevent_drain(fd, disk, count_event, &counting) ?: counting.count;
}

int uevent_count(int fd, const struct disk *disk, const char *name,
		 const char *action)
{
	return uevent_count_with(fd, disk, name, action, NULL);
}

struct telling {
	void (*seen)(void *arg, const char *action, const char *name);
	void *arg;
};

static void tell_event(void *arg, const char *msg, size_t len)
{
	struct telling *telling = arg;
	char action[32], name[64];

	if (sscanf(msg, "%31[^@]@/devices/virtual/block/%63s", action, name) == 2)
		telling->seen(telling->arg, action, name);
}

int uevent_each(int fd, const struct disk *disk,
		void (*seen)(void *arg, const char *action, const char *name),
		void *arg)
{
	struct telling telling = { seen, arg };

	return uevent_drain(fd, disk, tell_event, &telling);
}

struct lives {
	const char *pattern;
	unsigned int adds, removes;
};

static void count_lives(void *arg, const char *action, const char *name)
{
	struct lives *lives = arg;

	if (fnmatch(lives->pattern, name, FNM_PATHNAME))
		return;
	lives->adds += !strcmp(action, "add");
	lives->removes += !strcmp(action, "remove");
}

int uevent_lives(int fd, const struct disk *disk, const char *pattern,
		 unsigned int *adds, unsigned int *removes)
{
	struct lives lives = { .pattern = pattern };
	int ret = uevent_each(fd, disk, count_lives, &lives);

	*adds = lives.adds;
	*removes = lives.removes;
	return ret;
}
