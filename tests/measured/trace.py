"""What docs/design.md says about how far a call travels."""

from __future__ import annotations

from trace_calls import CASES, table

from .said import holds, result, says

DESIGN = "docs/design.md"


@says(DESIGN)
def files_and_changes() -> str:
    now, before = (result("trace")[when] for when in ("now", "before"))
    more = [abs(now[case]["core"]["changes"] - before[case]["core"]["changes"]) for case in CASES]
    holds(max(more) <= 5, "the numbers stayed")
    of, was = now["ask(image)"]["core"], before["ask(image)"]["core"]
    return (
        f"A question about a picture enters {of['files']} files and changes file {of['changes']} times "
        f"({was['files']} and {was['changes']} before)."
    )


def trace_rows() -> list[str]:
    """The lines of the table, as they must stand in the document."""
    return table({when: result("trace")[when] for when in ("before", "now")})[2:]
