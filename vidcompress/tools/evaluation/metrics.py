"""Metrics of one answer and of a task: exact match, multiple choice, yes/no as in POPE, ANLS."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from vidcompress.checks import one_of
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.tasks.base import METRICS, Item

ANLS_THRESHOLD = 0.5
_NUMBERS = "zero one two three four five six seven eight nine ten".split()
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)}
_ARTICLES = frozenset(("a", "an", "the"))
_NEGATIVE = frozenset(("no", "not", "nope", "cannot"))
_STATED = re.compile(r"\b(?:answer|option|choice)\b(?:\s+is)?\s*:?\s*\(?([A-Za-z])\b\)?", re.IGNORECASE)


def judge(item: Item, answer: str | None, metric: str) -> float | None:
    """Score one answer.

    Args:
        item: its own `metric` comes before `metric`.
        answer: of the model; None where the question failed, which scores as wrong.
        metric: one of `METRICS`, or "mixed", where every item must have one of its own.

    Returns:
        0 to 1, or None for an item without accepted answers.

    Raises:
        ArgumentError: unknown metric, or an accepted answer that is none of the options.
    """
    chosen = item.metric or metric
    one_of("metric", chosen, METRICS)
    if not item.answers:
        return None
    return 0.0 if answer is None else _JUDGES[chosen](item, answer)


def summarise(
    items: Sequence[Item], answers: Sequence[str | None], metric: str, *, leave_out_failed: bool = False
) -> dict[str, float]:
    """Scores of a whole task, the main score first.

    Args:
        items: the questions.
        answers: one per question; None for those that failed.
        metric: of the task.
        leave_out_failed: leave failed questions out of all scores, instead of counting them as wrong.

    Returns:
        `accuracy` for "exact" and "choice"; `accuracy`, `precision`, `recall`, `f1` and `yes_rate` for "yes_no"; `anls`
        for "anls"; for "mixed" the mean `score` and the mean of each metric by its name. All from 0 to 1; empty when
        nothing was answered.
    """
    pairs = [
        (item, answer)
        for item, answer in zip(items, answers, strict=True)
        if answer is not None or not leave_out_failed
    ]
    if all(answer is None for _, answer in pairs):
        return {}
    scores = [(item.metric or metric, judge(item, answer, metric)) for item, answer in pairs]
    scored = [(name, score) for name, score in scores if score is not None]
    if not scored:
        return {}
    mean = fmean(score for _, score in scored)
    if metric == "mixed":
        names = sorted({name for name, _ in scored})
        return {"score": mean} | {
            name: fmean(score for other, score in scored if other == name) for name in names
        }
    if metric == "yes_no":
        return {"accuracy": mean, **_detection(pairs)}
    return {main_score(metric): mean}


def main_score(metric: str) -> str:
    """Name of the main score, which tables show."""
    return {"anls": "anls", "mixed": "score"}.get(metric, "accuracy")


def normalise(text: str) -> str:
    """Normalise a short answer as VQA and GQA do.

    Lower case; punctuation, articles, apostrophes and commas inside numbers are removed; number words to ten become
    digits; spaces are made single. Where nothing is left, as for the answer "a", the text is only put in lower case.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    bare = re.sub(r"(?<=\d),(?=\d)", "", plain)
    bare = re.sub(r"['’]", "", bare)
    bare = re.sub(r"(?<!\d)\.|\.(?!\d)", " ", bare)  # a decimal point stays
    bare = re.sub(r"[^\w\s.$%°€£+-]|_", " ", bare)
    bare = re.sub(
        r"(?<!\S)-+(?!\d)|(?<=\S)-(?=\s|$)|(?<=[^\W\d])-(?=[^\W\d])", " ", bare
    )  # a minus sign stays
    words = [_DIGITS.get(word, word) for word in bare.split() if word not in _ARTICLES]
    return " ".join(words) or plain


def letter_of(choices: Sequence[str], text: str) -> int | None:
    """Return the index of the option that an accepted answer names, by its text or its letter.

    Returns:
        Index of the option; None when it is neither.
    """
    said = text.strip()
    same = [number for number, choice in enumerate(choices) if choice.strip() == said]
    same = same or [number for number, choice in enumerate(choices) if normalise(choice) == normalise(said)]
    if same:
        return same[0]
    return _index(said.strip("().:").strip(), len(choices))


def choose(choices: Sequence[str], answer: str) -> int | None:
    """Return the index of the option that a model's answer names.

    In this order: a letter alone or before a bracket, point or colon ("B", "(B) red", "B. red"); a letter that is
    stated ("the answer is B", "option (B)"), the last one; the text of an option; the only option whose text occurs;
    the only capital letter that stands by itself ("I think B").

    Returns:
        Index of the option; None when the answer names none, or more than one.
    """
    said, count = answer.strip(), len(choices)
    opening = re.match(r"\(?([A-Za-z])(?:[).:]|\s*$)", said)
    if opening and (index := _index(opening[1], count)) is not None:
        return index
    stated = [_index(letter, count) for letter in _STATED.findall(said) if letter != "a"]
    if stated and stated[-1] is not None:
        return stated[-1]
    words = normalise(said)
    options = [normalise(choice) for choice in choices]
    if words in options:
        return options.index(words) if options.count(words) == 1 else None
    held = _occurring(options, words)
    if len(held) == 1:
        return held[0]
    letters = re.findall(r"(?<![\w'])(?!A\s+[a-z])([A-Z])(?![\w'])", said)
    alone = {_index(letter, count) for letter in letters} - {None}
    return alone.pop() if len(alone) == 1 and not held else None


def yes_or_no(answer: str) -> str | None:
    """Read "yes" or "no" from the first sentence; None when it has neither.

    The first word decides if it is one of the two; else a negation ("there is not ...") is a no. (The script of POPE
    counts every answer without "no" as "yes", an empty answer too; here such an answer is wrong and no "yes".)
    """
    first = re.split(r"[.!?\n]", answer.strip(), maxsplit=1)[0].casefold().replace("’", "'")
    words: list[str] = re.findall(r"[a-z']+", first)
    if words[:1] in (["yes"], ["no"]):
        return words[0]
    if any(word in _NEGATIVE or word.endswith("n't") for word in words):
        return "no"
    return "yes" if "yes" in words else None


def anls(accepted: Sequence[str], answer: str, threshold: float = ANLS_THRESHOLD) -> float:
    """Return the normalised Levenshtein similarity to the nearest accepted answer, as in the evaluation of DocVQA.

    1 - distance / longer length, of texts in lower case with single spaces; 0 below the threshold (at the threshold the
    value stays, as in that evaluation; the formula in the paper, arXiv:1907.00490, has 0 there).
    """
    said = _plain(answer)
    best = 0.0
    for text in map(_plain, accepted):
        longest = max(len(text), len(said))
        best = max(best, 1.0 - levenshtein(text, said) / longest if longest else 1.0)
    return best if best >= threshold else 0.0


def levenshtein(one: str, other: str) -> int:
    """Count the fewest insertions, deletions and substitutions of characters that turn one text into the other."""
    before = list(range(len(other) + 1))
    for row, a in enumerate(one, start=1):
        current = [row]
        for column, b in enumerate(other, start=1):
            current.append(min(before[column] + 1, current[-1] + 1, before[column - 1] + (a != b)))
        before = current
    return before[-1]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _index(letter: str, count: int) -> int | None:
    number = ord(letter.upper()) - ord("A") if len(letter) == 1 and letter.isascii() else -1
    return number if 0 <= number < count else None


def _occurring(options: Sequence[str], words: str) -> list[int]:
    """Return the options whose words occur in a row; one inside another does not count ("red" in "dark red")."""
    spaced = f" {words} "
    there = [number for number, option in enumerate(options) if option and f" {option} " in spaced]
    longer = [options[number] for number in there]
    return [
        number
        for number in there
        if not any(f" {options[number]} " in f" {other} " and other != options[number] for other in longer)
    ]


def _exact(item: Item, answer: str) -> float:
    return float(normalise(answer) in {normalise(text) for text in item.answers})


def _choice(item: Item, answer: str) -> float:
    accepted = [letter_of(item.choices, text) for text in item.answers]
    if None in accepted:
        raise ArgumentError(
            f"item {item.id!r}: answers={item.answers!r} must be letters or texts of its {len(item.choices)} choices"
        )
    return float(choose(item.choices, answer) in accepted)


def _yes_no(item: Item, answer: str) -> float:
    return float(yes_or_no(answer) in {yes_or_no(text) for text in item.answers} - {None})


def _anls(item: Item, answer: str) -> float:
    return anls(item.answers, answer)


_JUDGES: Mapping[str, Callable[[Item, str], float]] = {
    "exact": _exact,
    "choice": _choice,
    "yes_no": _yes_no,
    "anls": _anls,
}


def _detection(pairs: Sequence[tuple[Item, str | None]]) -> dict[str, float]:
    """Compute precision, recall, F1 and rate of "yes"; a failed question is neither "yes" nor "no"."""
    labels = [(yes_or_no(item.answers[0]), yes_or_no(said or "")) for item, said in pairs if item.answers]
    said_yes = sum(said == "yes" for _, said in labels)
    is_yes = sum(truth == "yes" for truth, _ in labels)
    both = sum(truth == said == "yes" for truth, said in labels)
    return {
        "precision": both / said_yes if said_yes else 0.0,
        "recall": both / is_yes if is_yes else 0.0,
        "f1": 2 * both / (said_yes + is_yes) if said_yes + is_yes else 0.0,
        "yes_rate": said_yes / len(labels),
    }
