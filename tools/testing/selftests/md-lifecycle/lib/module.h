/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Loading and unloading the kernel's modules, and what there is that a module
 * could leave behind. See lifecycle.h.
 */
#ifndef LIFECYCLE_MODULE_H
#define LIFECYCLE_MODULE_H

#include "lifecycle.h"

/* How often to load, use and unload: MD_LIFECYCLE_ROUNDS, or a few times. */
int module_rounds(void);

/* Why the module @name cannot be loaded and unloaded here, or NULL. */
const char *module_missing(const char *name);

bool module_loaded(const char *name);
int module_load(const char *name);

/*
 * -EWOULDBLOCK: it is in use, maybe by another module; -EBUSY: it is being
 * loaded or unloaded just now; -ENOENT: there is none.
 */
int module_unload(const char *name);

/* The same, again while somebody else has it or is loading it. */
int module_unload_when_unused(const char *name);

/* Unload all of md, or all of device mapper, when they are unused; 0 if not there. */
int module_unload_md(void);
int module_unload_dm(void);

/*
 * What there is in the kernel that has a name, and that modules may make: disks,
 * modules, major numbers, slab caches, threads, files in sysfs, /proc, debugfs
 * and tracefs. As lines of a file.
 */
struct inventory {
	char path[64];
};

int inventory_take(struct inventory *inv);

/* 0 if all is as it was; 1 if not, and then says what is there now or is missing. */
int inventory_compare(const struct inventory *before);
void inventory_drop(struct inventory *inv);

/* Memory in use, after what is free has been given back; in bytes, -1: not told. */
struct memory {
	long long slab, percpu, vmalloc;
};

struct memory memory_used(void);

/* Is it more than @before, by what so many rounds would have left? Says how much. */
bool memory_grown(const struct memory *before, int rounds);

#endif /* LIFECYCLE_MODULE_H */
