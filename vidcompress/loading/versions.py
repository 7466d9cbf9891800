"""Versions of transformers that every change is tested with."""

from __future__ import annotations

from functools import cache

from packaging.version import Version

OLDEST_TESTED = "5.18.0"
NEWEST_TESTED = "5.24.0"


@cache
def beyond_tested(version: str) -> str | None:
    """Return a sentence on a transformers newer than the newest tested one; None for any other.

    Args:
        version: of the installed transformers, such as "5.23.0".
    """
    if Version(version) <= Version(NEWEST_TESTED):
        return None
    return (
        f"transformers {version} is newer than {NEWEST_TESTED}, the newest that this vidcompress was tested with; "
        f"where answers look wrong, compare with transformers=={NEWEST_TESTED}"
    )
