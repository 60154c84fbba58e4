/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dm

#if !defined(_TRACE_DM_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_DM_H

#include <linux/blkdev.h>
#include <linux/kdev_t.h>
#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(dm_device,

	TP_PROTO(dev_t dev, unsigned int holders),

	TP_ARGS(dev, holders),

	TP_STRUCT__entry(
		__field(dev_t,		dev)
		__field(unsigned int,	holders)
	),

	TP_fast_assign(
		__entry->dev = dev;
		__entry->holders = holders;
	),

	TP_printk("%u,%u holders=%u", MAJOR(__entry->dev), MINOR(__entry->dev),
		  __entry->holders)
);

/**
 * dm_create - a mapped device has been made, without a table
 * @dev: its number
 * @holders: the references to it
 */
DEFINE_EVENT(dm_device, dm_create,
	TP_PROTO(dev_t dev, unsigned int holders),
	TP_ARGS(dev, holders)
);

/**
 * dm_remove_start - nobody can find or open it any more
 * @dev: its number
 * @holders: the references to it; one is of who removes it
 */
DEFINE_EVENT(dm_device, dm_remove_start,
	TP_PROTO(dev_t dev, unsigned int holders),
	TP_ARGS(dev, holders)
);

/**
 * dm_remove_wait - its removal waits for the references of others
 * @dev: its number
 * @holders: how many
 */
DEFINE_EVENT(dm_device, dm_remove_wait,
	TP_PROTO(dev_t dev, unsigned int holders),
	TP_ARGS(dev, holders)
);

/**
 * dm_remove_end - it is gone, and its number can be used again
 * @dev: its number
 * @holders: 0, or how many have not been waited for
 */
DEFINE_EVENT(dm_device, dm_remove_end,
	TP_PROTO(dev_t dev, unsigned int holders),
	TP_ARGS(dev, holders)
);

DECLARE_EVENT_CLASS(dm_table,

	TP_PROTO(dev_t dev, const void *table, unsigned int targets),

	TP_ARGS(dev, table, targets),

	TP_STRUCT__entry(
		__field(dev_t,		dev)
		__field(const void *,	table)
		__field(unsigned int,	targets)
	),

	TP_fast_assign(
		__entry->dev = dev;
		__entry->table = table;
		__entry->targets = targets;
	),

	TP_printk("%u,%u table=%p targets=%u", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->table, __entry->targets)
);

/**
 * dm_table_bind - a table has become the live one
 * @dev: the device's number
 * @table: which; to be compared with that of other events only
 * @targets: how many rows it has
 */
DEFINE_EVENT(dm_table, dm_table_bind,
	TP_PROTO(dev_t dev, const void *table, unsigned int targets),
	TP_ARGS(dev, table, targets)
);

/**
 * dm_table_destroy - a table is going to be destroyed, used or not
 * @dev: the device's number
 * @table: which; to be compared with that of other events only
 * @targets: how many rows have been made
 */
DEFINE_EVENT(dm_table, dm_table_destroy,
	TP_PROTO(dev_t dev, const void *table, unsigned int targets),
	TP_ARGS(dev, table, targets)
);

DECLARE_EVENT_CLASS(dm_table_device,

	TP_PROTO(dev_t dev, dev_t lower, blk_mode_t mode, unsigned int count),

	TP_ARGS(dev, lower, mode, count),

	TP_STRUCT__entry(
		__field(dev_t,		dev)
		__field(dev_t,		lower)
		__field(bool,		read)
		__field(bool,		write)
		__field(unsigned int,	count)
	),

	TP_fast_assign(
		__entry->dev = dev;
		__entry->lower = lower;
		__entry->read = mode & BLK_OPEN_READ;
		__entry->write = mode & BLK_OPEN_WRITE;
		__entry->count = count;
	),

	TP_printk("%u,%u lower=%u,%u mode=%s%s count=%u",
		  MAJOR(__entry->dev), MINOR(__entry->dev),
		  MAJOR(__entry->lower), MINOR(__entry->lower),
		  __entry->read ? "r" : "", __entry->write ? "w" : "",
		  __entry->count)
);

/**
 * dm_table_device_open - a device has been opened for a table
 * @dev: the mapped device's number
 * @lower: that of the one it uses
 * @mode: how it has been opened
 * @count: how many tables use it
 */
DEFINE_EVENT(dm_table_device, dm_table_device_open,
	TP_PROTO(dev_t dev, dev_t lower, blk_mode_t mode, unsigned int count),
	TP_ARGS(dev, lower, mode, count)
);

/**
 * dm_table_device_share - a device that is open is used by one more table
 * @dev: the mapped device's number
 * @lower: that of the one it uses
 * @mode: how it has been opened
 * @count: how many tables use it
 */
DEFINE_EVENT(dm_table_device, dm_table_device_share,
	TP_PROTO(dev_t dev, dev_t lower, blk_mode_t mode, unsigned int count),
	TP_ARGS(dev, lower, mode, count)
);

/**
 * dm_table_device_close - no table uses a device any more, it is going to be closed
 * @dev: the mapped device's number
 * @lower: that of the one it uses
 * @mode: how it has been opened
 * @count: how many tables use it
 */
DEFINE_EVENT(dm_table_device, dm_table_device_close,
	TP_PROTO(dev_t dev, dev_t lower, blk_mode_t mode, unsigned int count),
	TP_ARGS(dev, lower, mode, count)
);

#endif /* _TRACE_DM_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
