/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM md

#if !defined(_TRACE_MD_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_MD_H

#include <linux/kdev_t.h>
#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(md_change,

	TP_PROTO(dev_t dev, const char *name, const char *old, const char *new,
		 const char *reason),

	TP_ARGS(dev, name, old, new, reason),

	TP_STRUCT__entry(
		__field(dev_t,		dev)
		__string(name,		name)
		__string(old,		old)
		__string(new,		new)
		__string(reason,	reason)
	),

	TP_fast_assign(
		__entry->dev = dev;
		__assign_str(name);
		__assign_str(old);
		__assign_str(new);
		__assign_str(reason);
	),

	TP_printk("%u,%u %s old=%s new=%s reason=%s",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __get_str(name),
		  __get_str(old), __get_str(new), __get_str(reason))
);

/**
 * md_life - an md device has gone from one state of its life to the next
 * @dev: its number
 * @name: its name, as in /sys/block
 * @old: none, nascent, live, dying or gone; see drivers/md/md-lifecycle.h
 * @new: the same
 * @reason: what has caused it
 */
DEFINE_EVENT(md_change, md_life,

	TP_PROTO(dev_t dev, const char *name, const char *old, const char *new,
		 const char *reason),

	TP_ARGS(dev, name, old, new, reason)
);

/**
 * md_hold - what keeps an unused and unconfigured md device has changed
 * @dev: its number
 * @name: its name, as in /sys/block
 * @old: none, until_ioctl or until_stop
 * @new: the same
 * @reason: what has caused it
 */
DEFINE_EVENT(md_change, md_hold,

	TP_PROTO(dev_t dev, const char *name, const char *old, const char *new,
		 const char *reason),

	TP_ARGS(dev, name, old, new, reason)
);

#endif /* _TRACE_MD_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
