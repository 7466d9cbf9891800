"""Tracking: rows of a sweep, sent to trackers of experiments that the user names; none is used by default."""
