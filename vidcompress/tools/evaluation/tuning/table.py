"""Tables of a tuning, and what it found in words."""

from __future__ import annotations

from collections.abc import Sequence

from vidcompress.table import Table
from vidcompress.tools.evaluation.tuning.agreement import Agreement, least_questions, questions_needed
from vidcompress.tools.evaluation.tuning.run_tuning import TunedRow, Tuning

HEAD = ("retention", "method", "equal", "share", "95 % interval", "says", "tokens", "score")
NOT_TESTED = "not tested"


def tuning_tables(tuning: Tuning) -> list[Table]:
    """The table of all questions, controls beside the method, and that of the kinds of question."""
    return [_whole(tuning), *([_kinds(tuning)] if tuning.kinds else [])]


def findings(tuning: Tuning) -> list[str]:
    """What was found: the budget, why a smaller one was not, the same by kind, and what the sample cannot tell."""
    lines = [_found(tuning), *_stopped(tuning), *_controls(tuning)]
    lines += _of_kinds(tuning)
    if tuning.left_out:
        lines.append(
            f"{_questions(tuning.left_out)} failed with all tokens and are in no count; result.json of that row lists "
            "them"
        )
    counted = tuning.rows[0].agreement.questions
    if tuning.media is not None and 0 < tuning.media < counted:
        lines.append(
            f"{counted} questions are about {tuning.media} pictures or clips: answers about one are not independent, "
            "so the sample is worth fewer questions than it has"
        )
    return lines


def verdicts(tuning: Tuning, kind: str | None = None) -> list[str]:
    """What the table says of each budget of the method; behind the first that is not confirmed nothing is tested."""
    count = tuning.confirmed(kind)
    return [
        "out of reach"
        if row.unreachable is not None
        else row.verdict(tuning.agreement, kind)
        if place <= count
        else NOT_TESTED
        for place, row in enumerate(tuning.rows)
    ]


def _whole(tuning: Tuning) -> Table:
    words = dict(zip((id(row) for row in tuning.rows), verdicts(tuning), strict=True))
    groups: list[list[list[tuple[str, bool]]]] = []
    for row in tuning.rows:
        alike = [row, *(control for control in tuning.controls if control.budget == row.budget)]
        groups.append([_cells(one, words.get(id(one), "control"), one is tuning.choice()) for one in alike])
    base = [
        ("all tokens", False),
        ("none", False),
        *[("", False)] * 4,
        _number(tuning.total),
        _score(tuning.score),
    ]
    title = f"{tuning.model}: {tuning.task}, at least {_per_cent(tuning.agreement)} equal answers"
    notes = [
        "equal: answers that are those with all tokens, letter for letter. Intervals are Wilson's. says: confirmed "
        "where the whole interval reaches the agreement, below where none of it does, open where the sample cannot "
        "decide; budgets are tested from the largest down, to the first that is not confirmed. Bold: the budget that "
        "was found.",
    ]
    return Table(HEAD, [[base], *groups], title, notes, keys=2, words=("says",))


def _kinds(tuning: Tuning) -> Table:
    head = ("kind", "retention", "equal", "share", "interval", "says")
    groups = []
    for kind in tuning.kinds:
        chosen = tuning.choice(kind)
        group = []
        for row, word in zip(tuning.rows, verdicts(tuning, kind), strict=True):
            counted, bold = row.kinds[kind], row is chosen
            cells = [kind, row.shown, *_share(counted), word]
            group.append([(cell, bold) for cell in cells])
        groups.append(group)
    notes = [
        f"Intervals of {len(tuning.kinds)} kinds are wider: Bonferroni over the kinds. Bold: the smallest budget of "
        "the kind that is confirmed."
    ]
    return Table(head, groups, f"{tuning.method} by kind of question", notes, keys=2, words=("says",))


def _cells(row: TunedRow, word: str, bold: bool) -> list[tuple[str, bool]]:
    shares = ["", "", ""] if row.unreachable is not None else _share(row.agreement)
    first = [row.shown, row.method, *shares, word]
    return [*((cell, bold) for cell in first), _number(row.kept), _score(row.score)]


def _share(counted: Agreement) -> list[str]:
    low, high = counted.limits
    share = "" if counted.share is None else f"{100 * counted.share:.1f} %"
    return [f"{counted.equal} of {counted.questions}", share, f"{100 * low:.1f} to {100 * high:.1f}"]


def _number(value: float | None) -> tuple[str, bool]:
    return ("" if value is None else f"{value:.1f}"), False


def _score(value: float | None) -> tuple[str, bool]:
    return ("" if value is None else f"{100 * value:.1f}" if 0 <= value <= 1 else f"{value:.1f}"), False


def _found(tuning: Tuning) -> str:
    chosen = tuning.choice()
    if chosen is None:
        return f"no budget of {tuning.method} is confirmed at {_per_cent(tuning.agreement)}"
    low, _ = chosen.agreement.limits
    return (
        f"{chosen.shown} with {tuning.method} is the smallest budget that is confirmed: {chosen.agreement.equal} of "
        f"{chosen.agreement.questions} answers equal those with all tokens, and with 95 % confidence at least "
        f"{100 * low:.1f} % do"
    )


def _stopped(tuning: Tuning) -> list[str]:
    """Why the budget behind the last confirmed one is not confirmed."""
    count = tuning.confirmed()
    if count == len(tuning.rows):
        return ["every budget that was tried is confirmed; a smaller one may be too"]
    row = tuning.rows[count]
    if row.unreachable is not None:
        return [f"{row.shown} is out of reach: {row.unreachable}"]
    return [f"{row.shown}: {_reason(row.agreement, tuning.agreement)}"]


def _reason(counted: Agreement, agreement: float) -> str:
    least, wanted = least_questions(agreement, counted.sequences), _per_cent(agreement)
    if counted.questions < least:
        return (
            f"{_questions(counted.questions)} cannot confirm {wanted}, however they are answered: it takes {least} or "
            "more"
        )
    share = counted.share or 0.0
    if counted.verdict(agreement) == "below":
        return (
            f"{100 * share:.1f} % of the answers are equal, and with 95 % confidence fewer than {wanted} are"
        )
    needed = questions_needed(share, agreement, counted.sequences)
    decides = (
        "no number of questions tells that from the agreement itself"
        if needed is None
        else f"if the share stays, {_questions(needed)} decide in four of five samples"
    )
    return f"the sample cannot decide: {100 * share:.1f} % of {_questions(counted.questions)} are equal; {decides}"


def _controls(tuning: Tuning) -> Sequence[str]:
    """A remark where a control alone agrees as well as was asked for: then the choice of tokens does not matter."""
    chosen = tuning.choice()
    if chosen is None:
        return []
    good = [
        row.method
        for row in tuning.controls
        if row.budget == chosen.budget and row.verdict(tuning.agreement) == "confirmed"
    ]
    if not good:
        return []
    names = " and ".join(good)
    return [
        f"{names} would do at {chosen.shown} too: on these questions it matters little which tokens are kept"
    ]


def _of_kinds(tuning: Tuning) -> list[str]:
    """A line per kind of question; one for all where each has too few questions."""
    first = tuning.rows[0].kinds
    counts = sorted(counted.questions for counted in first.values())
    least = max(
        (least_questions(tuning.agreement, counted.sequences) for counted in first.values()), default=0
    )
    if counts and counts[-1] < least:
        each = f"{counts[0]} to {counts[-1]}" if counts[0] < counts[-1] else f"{counts[0]}"
        return [
            f"a kind of question has {each} questions, and it takes {least} or more to confirm "
            f"{_per_cent(tuning.agreement)} for one of {len(counts)} kinds"
        ]
    return [_kind(tuning, kind) for kind in tuning.kinds]


def _kind(tuning: Tuning, kind: str) -> str:
    chosen, count = tuning.choice(kind), tuning.confirmed(kind)
    first = "nothing is confirmed" if chosen is None else f"{chosen.shown} is confirmed"
    if count == len(tuning.rows):
        return f"{kind}: {first}"
    row = tuning.rows[count]
    if row.unreachable is not None:
        return f"{kind}: {first}"
    return f"{kind}: {first}; {row.shown}: {_reason(row.kinds[kind], tuning.agreement)}"


def _per_cent(share: float) -> str:
    return f"{100 * share:g} %"


def _questions(count: int) -> str:
    return f"{count:,} question{'s' * (count != 1)}"
