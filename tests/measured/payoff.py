"""What docs/guide-payoff.md says about its two measurements."""

from __future__ import annotations

from typing import Any

from .said import holds, result, says, span

PAGE = "docs/guide-payoff.md"
TUNED, SERVED = "tune_shapes", "serve_cpu"


def _tuned() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = result(TUNED)["methods"]
    return entries


def _own(entry: dict[str, Any], sample: str, ratio: float | None = None) -> dict[str, Any]:
    """The row of a method in a sample, at the budget that was found or at another."""
    ratio = entry["first"]["choice"]["retention_ratio"] if ratio is None else ratio
    row: dict[str, Any] = next(
        row for row in entry[sample]["rows"] if not row["control"] and row["retention_ratio"] == ratio
    )
    return row


def _interval(row: dict[str, Any]) -> str:
    return f"{row['equal']} ({100 * row['low']:.1f} to {100 * row['high']:.1f} %), {row['verdict']}"


def tune_rows() -> list[str]:
    """Lines of the table of methods."""
    lines = []
    for entry in _tuned():
        found = f"{100 * entry['first']['choice']['retention_ratio']:g} %"
        first, second = (_interval(_own(entry, sample)) for sample in ("first", "second"))
        lines.append(f"| `{entry['method']}` | {found} | {first} | {second} |")
    return lines


@says(PAGE)
def samples() -> str:
    content = result(TUNED)
    holds(content["agreement"] == 0.95, "an agreement of 0.95")
    holds({entry["first"]["left_out"] for entry in _tuned()} == {0}, "no question failed")
    return f"{content['questions']:,} questions in each sample, at an agreement of {content['agreement']:g}"


@says(PAGE)
def who_is_confirmed() -> str:
    again = {entry["method"]: _own(entry, "second") for entry in _tuned()}
    good = [name for name, row in again.items() if row["verdict"] == "confirmed"]
    other = [name for name, row in again.items() if row["verdict"] == "open"]
    holds(len(good) + len(other) == len(again) and good and other, "some confirmed, the others open")
    named = " and ".join(f"`{name}`" for name in good)
    left = " and ".join(f"`{name}`" for name in other)
    return f"The second sample confirms the budget of {named}; for that of {left} it is open"


@says(PAGE)
def controls_at_the_budget_found() -> str:
    entry = next(entry for entry in _tuned() if entry["method"] == "census")
    ratio = entry["first"]["choice"]["retention_ratio"]
    shares = [
        100 * row["equal"] / row["questions"]
        for sample in ("first", "second")
        for row in entry[sample]["rows"]
        if row["control"] and row["retention_ratio"] == ratio
    ]
    return f"At the {100 * ratio:g} % of `census`, `random` and `uniform` leave {span(shares)} % of the answers equal"


@says(PAGE)
def the_second_sample_agrees_less() -> str:
    gaps = []
    for entry in _tuned():
        for again in entry["second"]["rows"]:
            (before,) = (
                row
                for row in entry["first"]["rows"]
                if (row["method"], row["retention_ratio"]) == (again["method"], again["retention_ratio"])
            )
            gaps.append(before["equal"] - again["equal"])
    holds(
        sum(gap > 0 for gap in gaps) > sum(gap < 0 for gap in gaps),
        "most rows agree less on the second sample",
    )
    return f"{sum(gap > 0 for gap in gaps)} of {len(gaps)} rows agree less on the second sample, controls among them"


def _summary(group: dict[str, Any], name: str) -> dict[str, Any]:
    summary: dict[str, Any] = next(row["summary"] for row in group["rows"] if row["row"] == name)
    return summary


def serve_rows() -> list[str]:
    """Lines of the table of servers."""
    lines = []
    for group in result(SERVED)["groups"]:
        for row in group["rows"]:
            s, against = row["summary"], row["summary"]["against"]
            through, first = s["requests_per_s"], s["first_token_ms"]
            cells = [
                str(group["at_once"]),
                row["row"],
                f"{s['prompt_tokens']:.0f}",
                f"{through['median']:.2f} ({through['least']:.2f} to {through['most']:.2f})",
                "" if against is None else _factor(against["requests_per_s"]),
                f"{first['p50']['all'] / 1e3:.2f} s",
                f"{first['p95']['all'] / 1e3:.2f} s",
                "" if against is None else _factor(against["first_token"]),
                f"{s['tokens_per_s']['median']:.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return lines


def _factor(one: dict[str, float]) -> str:
    return f"{one['median']:.2f} x ({one['least']:.2f} to {one['most']:.2f})"


@says(PAGE)
def requests_at_a_tenth() -> str:
    one, four = result(SERVED)["groups"]
    factors = [
        row["summary"]["against"]["requests_per_s"]["median"]
        for row in one["rows"]
        if row["summary"]["against"]
    ]
    holds(max(factors) < 1, "with one request at once no ratio gains")
    tenth = _summary(four, "vidcompress 0.1")["against"]["requests_per_s"]
    return (
        "With one request at once no ratio gains requests per second; with four, a tenth of the tokens gives "
        f"{tenth['median']:.2f} times those of stock in the median round and {tenth['least']:.2f} times in the worst"
    )


@says(PAGE)
def load_of_the_machine() -> str:
    loads = [
        one["load"] for group in result(SERVED)["groups"] for row in group["rows"] for one in row["rounds"]
    ]
    least, most = min(loads), max(loads)
    return f"The two cores had other work all the time (load average {least:.0f} to {most:.0f} before the rounds)"


@says(PAGE)
def noise_of_the_control() -> str:
    factors = [
        _summary(group, "vidcompress 1")["against"]["requests_per_s"] for group in result(SERVED)["groups"]
    ]
    least, most = min(one["least"] for one in factors), max(one["most"] for one in factors)
    holds(least < 1 < most, "the control lies on both sides of stock")
    return f"came out at {least:.2f} to {most:.2f} times the requests of stock by round"


@says(PAGE)
def errors_and_share() -> str:
    content = result(SERVED)
    errors = sum(row["summary"]["errors"] for group in content["groups"] for row in group["rows"])
    asked = sum(row["summary"]["requests"] for group in content["groups"] for row in group["rows"])
    holds(errors == 0, "no request failed")
    share = 100 * content["forecast"]["encoder_share"]
    return (
        f"None of the {asked} requests failed. By the cost model {share:.0f} % of a request's operations are the "
        "encoder's"
    )
