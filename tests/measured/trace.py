"""What docs/design.md says about how far a call travels."""

from __future__ import annotations

from trace_calls import CASES, table

from .said import holds, result, says

DESIGN = "docs/design.md"


@says(DESIGN)
def files_and_changes() -> str:
    now, before = (result("trace")[when] for when in ("now", "before"))
    more = {case: now[case]["core"]["changes"] - before[case]["core"]["changes"] for case in CASES}
    holds(max(more[case] for case in CASES) < 0, "every number of changes fell")
    of, was = now["ask(image)"]["core"], before["ask(image)"]["core"]
    own, old = now["compress_inputs(image)"]["core"], before["compress_inputs(image)"]["core"]
    return (
        f"A question about a picture enters {of['files']} files and changes file {of['changes']} times "
        f"({was['files']} and {was['changes']} before), `compress_inputs` on its own {own['files']} and "
        f"{own['changes']} ({old['files']} and {old['changes']})."
    )


def trace_rows() -> list[str]:
    """The lines of the table, as they must stand in the document."""
    return table({when: result("trace")[when] for when in ("before", "now")})[2:]
