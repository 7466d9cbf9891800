"""Sentences with measured figures say what the result files say, and no figure stands in the documents unchecked."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

import measured.accuracy
import measured.cost
import measured.fast
import measured.mass
import measured.payoff
import measured.readme
import measured.stream
import measured.suite
import measured.trace
from measured.said import FIGURE, PAGES, TABLE, NotSo, holds, missing, prose, read, result, uncovered, words

NOT_MEASURED: dict[str, tuple[str, ...]] = {
    "CONTRIBUTING.md": ("at most 12 MB",),  # a rule
    "docs/accuracy.md": ("points with 95 % intervals",),  # a definition, as the next two
    "docs/methods/mass.md": ("in points with 95 % intervals",),
    "docs/results/mass.md": ("In brackets stand 95 % intervals",),
    "docs/guide-app.md": ("Files of more than 100 MiB",),  # a limit
    "docs/guide-benchmarks.md": (
        "with 95 % intervals",  # a definition
    ),
    "docs/guide-payoff.md": ("its share of equal answers (95 %, two-sided)",),  # a definition
    "docs/performance.md": (
        "the length of an input at 10 %",  # the budget
        "41.7 to 3.8 TFLOPs, 23.0 to 13.9 GB and 3.8 to 6.7 samples/s on LLaVA-NeXT-7B at 10 %",  # GlobalCom2's paper
    ),
    "docs/performance-fast.md": (
        "256 MB on an accelerator, the block in which single ones are read anyway, and 1 MB on the CPU",  # constants
        "(with 4 MB pictures of the embedded model took longer",  # a constant that was not taken
    ),
    "docs/results/accuracy.md": (
        "50, 25 and 10 % of the visual tokens",  # budgets
        "its 95 % interval leaves out zero",
    ),
    "vidcompress/methods/cards/dycoke.md": (
        "1/4 + 3/4 x 0.3 = 47 %",  # arithmetic, as the next
        "(49 % for R = 0.3 of 32 frames)",
    ),
    "vidcompress/methods/cards/globalcom2.md": ("`gate` = 2 times the tokens to keep",),  # the default
    "vidcompress/methods/cards/pdrop.md": (
        "(46.9 % on 32 layers)",  # arithmetic, see tests/unit/core/test_pruning_schedule.py
        "so below 25 % the budget is refused",
    ),
    "vidcompress/methods/cards/random.md": (
        "random keeps 94.8 % of the average accuracy and FastV 94.9 %",  # VidCom2's paper
    ),
}
"""Figures that are no measurement of ours: definitions, settings, arithmetic, other people's figures."""

SENTENCES = [pytest.param(sentence, id=f"{sentence.page}:{sentence.name}") for sentence in TABLE]


@pytest.mark.parametrize("page", dict.fromkeys(sentence.page for sentence in TABLE))
def test_sentences_say_what_the_result_files_say(page: str) -> None:
    assert not missing(read(page), page)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_changed_figure_is_found(sentence: measured.said.Sentence) -> None:
    """Each number of the passage, made another one in the document; and the passage left out."""
    text, passage = words(read(sentence.page)), words(sentence.text())
    assert passage in text
    alone = [replace(sentence, text=lambda: passage)]
    numbers = [match for match in re.finditer(r"(?<![\w`.])\d+", passage) if match[0] != "0"]
    for number in numbers:
        changed = f"{passage[: number.start()]}{int(number[0]) + 1}{passage[number.end() :]}"
        said = missing(text.replace(passage, changed), sentence.page, alone)
        assert said == [f"{sentence.name}: expected: {passage}"], changed
    assert missing(text.replace(passage, ""), sentence.page, alone)
    assert not missing(text, sentence.page, alone)


def test_a_changed_result_file_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(
        r for r in result("bench_select")["rows"] if (r["method"], r["medium"]) == ("divprune", "image")
    )
    page = "docs/performance.md"
    assert not missing(read(page), page)
    monkeypatch.setitem(row, "share_of_encoder", 0.0190)
    (said,) = missing(read(page), page)
    assert said.startswith("shares_of_encoding: expected: ") and "then comes `divprune` (1.90 %)" in said
    monkeypatch.setitem(row, "share_of_encoder", 0.0250)
    assert "shares_of_encoding: not so: one is above 2 %" in missing(read(page), page)


def test_a_ranking_that_changes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim without a figure: on half a clip something becomes clearly better than `pool`."""
    cells = measured.accuracy.cells_of(result(measured.accuracy.CLIP), 0.5)
    monkeypatch.setitem(cells["evs"], "correct", "1" * 1000)
    page = "docs/accuracy.md"
    assert "half_a_clip: not so: nothing is better" in missing(read(page), page)


def test_a_claim_that_does_not_hold_raises() -> None:
    holds(True, "so")
    with pytest.raises(NotSo, match="^not this$"):
        holds(False, "not this")


@pytest.mark.parametrize("page", PAGES)
def test_no_figure_stands_outside_the_table(page: str) -> None:
    assert not list(uncovered(read(page), page, NOT_MEASURED.get(page, ())))


@pytest.mark.parametrize("page", NOT_MEASURED)
def test_what_is_exempt_is_there(page: str) -> None:
    text = prose(read(page))
    for phrase in NOT_MEASURED[page]:
        assert phrase in text
        assert FIGURE.search(phrase), "it needs no exemption"


@pytest.mark.parametrize(
    "sentence",
    [
        "It is 3.5 times as fast.",
        "It takes 12 ms a clip,",
        "by 5 to 7 points on clips.",
        "a share of\n41 and 57 % of the views",
        "in 20.7 s with compiling",
        "needs 13.9 GB of memory",
        "1,234 ms more",
    ],
)
@pytest.mark.parametrize(
    "page", ["README.md", "docs/suite.md", "docs/faq.md", "vidcompress/methods/cards/evs.md"]
)
def test_a_new_figure_is_found(page: str, sentence: str) -> None:
    """A new sentence in any document is found; the same words without a unit are no figure."""
    exempt = NOT_MEASURED.get(page, ())
    (found,) = uncovered(f"{read(page)}\n{sentence}\n", page, exempt)
    assert " ".join(sentence.split()).split(" of ")[0][:12] in found
    bare = re.sub(r"(?:%|times|ms|points|s|GB)(?!\w)", "things", sentence)
    assert not list(uncovered(f"{read(page)}\n{bare}\n", page, exempt))


def test_figures_in_code_and_generated_blocks_are_left_to_others() -> None:
    page = "docs/guide-benchmarks.md"
    block = "\n```\nfirst 12 ms\n```\n<!-- x -->\n12 ms\n<!-- /x -->\n| a | 12 ms |\n"
    assert not list(uncovered(read(page) + block, page, NOT_MEASURED[page]))


HAND_WRITTEN = {
    "docs/performance-fast.md": [*measured.fast.profile_rows(), *measured.fast.arriving_rows()],
    "docs/design.md": measured.trace.trace_rows(),
    "docs/guide-payoff.md": [*measured.payoff.tune_rows(), *measured.payoff.serve_rows()],
}


@pytest.mark.parametrize(
    ("page", "row"), [(page, row) for page, rows in HAND_WRITTEN.items() for row in rows]
)
def test_tables_written_by_hand(page: str, row: str) -> None:
    """Of the profile, of arriving clips and of traced calls, line by line, as their result files say."""

    def cells(text: str) -> str:
        return " ".join(text.replace("|", " | ").split())

    text = cells(read(page))
    assert cells(row) in text
    last = re.search(r"\d(?=\D*$)", row)
    assert last is not None
    changed = f"{row[: last.start()]}{(int(last[0]) + 1) % 10}{row[last.end() :]}"
    assert cells(changed) not in text
