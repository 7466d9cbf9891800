"""Metrics of answers against values computed by hand."""

import pytest

from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.metrics import (
    anls,
    choose,
    judge,
    letter_of,
    levenshtein,
    normalise,
    summarise,
    yes_or_no,
)
from vidcompress.tools.evaluation.tasks.base import Item


def item(*answers, choices=(), metric="", name="q"):
    return Item(name, "what?", answers=answers, choices=choices, metric=metric)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The Red car.", "red car"),
        ("  two\tdogs\n", "2 dogs"),
        ("don't", "dont"),
        ("Don’t!", "dont"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("Yes.", "yes"),
        ("-5", "-5"),
        ("black-and-white", "black and white"),
        ("$5", "$5"),
        ("a", "a"),
        ("The", "the"),
        ("?", "?"),
        ("", ""),
        ("A, b; c", "b c"),
        ("ＲＥＤ", "red"),
    ],
)
def test_short_answers_are_normalised_as_in_vqa(text, plain):
    assert normalise(text) == plain


def test_exact_match_takes_any_accepted_answer():
    asked = item("top left", "upper left")
    assert [judge(asked, said, "exact") for said in ("Top left.", "the upper left", "left", "")] == [
        1,
        1,
        0,
        0,
    ]
    assert judge(item("a"), "", "exact") == 0.0, "an article alone is no empty answer"
    assert judge(item("a"), "A", "exact") == 1.0
    assert judge(item(), "anything", "exact") is None


CHOICES = ("red", "blue", "dark red", "a big dog")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        (" b ", "B"),
        ("B.", "B"),
        ("(B) red", "B"),
        ("(B", "B"),
        ("b) blue", "B"),
        ("B: blue", "B"),
        ("The answer is B", "B"),
        ("The answer is (b).", "B"),
        ("Answer: C", "C"),
        ("first option A, but the answer is B", "B"),
        ("I would choose option (D) here", "D"),
        ("blue", "B"),
        ("It is dark red.", "C"),
        ("it is a big dog", "D"),
        ("I think B", "B"),
        ("E", None),
        ("", None),
        ("red or blue", None),
        ("B or C", None),
        ("The answer is a dog", None),
        ("A man is there", None),
        ("none of them", None),
    ],
)
def test_options_are_read_from_answers(answer, letter):
    found = choose(CHOICES, answer)
    assert (None if found is None else "ABCD"[found]) == letter


def test_known_answers_are_letters_or_texts():
    assert [letter_of(CHOICES, text) for text in ("blue", "Blue.", "c", "(D)", "green", "E", "")] == [
        *(1, 1, 2, 3),
        *(None, None, None),
    ]
    assert letter_of(("B", "A"), "A") == 1, "a text comes before a letter"
    assert judge(item("B", choices=CHOICES), "(B) red", "choice") == 1.0
    assert judge(item("A", "C", choices=CHOICES), "dark red", "choice") == 1.0
    assert choose(("cat", "cat"), "cat") is None
    with pytest.raises(
        ArgumentError, match=r"item 'q': answers=\('green',\) must be letters or texts of its 4"
    ):
        judge(item("green", choices=CHOICES), "B", "choice")


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("Yes", "yes"),
        ("yes, there is. No doubt.", "yes"),
        ("No.", "no"),
        ("There is not a dog", "no"),
        ("There isn't", "no"),
        ("There isn’t", "no"),
        ("I would say yes", "yes"),
        ("There is a dog", None),
        ("", None),
        ("nobody knows", None),
    ],
)
def test_yes_and_no_are_read_from_the_first_sentence(answer, read):
    assert yes_or_no(answer) == read


def test_yes_no_summary_by_hand():
    """Truth y y y n n n; said y n - y n n: 3 of 6 right, 1 of 2 "yes" right, 1 of 3 found."""
    items = [item(truth) for truth in ("yes", "yes", "yes", "no", "no", "no")]
    said = ["yes", "no", "maybe", "Yes!", "no", "there is no dog"]
    assert summarise(items, said, "yes_no") == {
        "accuracy": 3 / 6,
        "precision": 1 / 2,
        "recall": 1 / 3,
        "f1": 2 / 5,
        "yes_rate": 2 / 6,
    }
    assert summarise(items[:1], ["no"], "yes_no") == {
        "accuracy": 0.0,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "yes_rate": 0.0,
    }


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "abc", 0), ("ab", "ba", 2), ("", "", 0)],
)
def test_levenshtein(one, other, distance):
    assert levenshtein(one, other) == levenshtein(other, one) == distance


@pytest.mark.parametrize(
    ("accepted", "answer", "value"),
    [
        (["hello"], "Hello", 1.0),
        (["hello"], "hella", 0.8),
        (["hello world"], "hello   world ", 1.0),
        (["abcd"], "abxy", 0.5),
        (["abc"], "axy", 0.0),
        (["abc", "axy"], "axz", 2 / 3),
        (["abc"], "", 0.0),
        ([""], "", 1.0),
    ],
)
def test_anls_by_hand(accepted, answer, value):
    assert anls(accepted, answer) == pytest.approx(value)
    assert judge(item(*accepted), answer, "anls") == pytest.approx(value)


def test_what_failed_is_wrong_or_left_out():
    items = [item("red"), item("blue"), item("green")]
    assert summarise(items, ["red", None, "red"], "exact") == {"accuracy": pytest.approx(1 / 3)}
    assert summarise(items, ["red", None, "red"], "exact", leave_out_failed=True) == {"accuracy": 0.5}
    for left_out in (False, True):
        assert summarise(items, [None, None, None], "exact", leave_out_failed=left_out) == {}, (
            "no score, not 0"
        )
    unknown = [*items, item()]
    assert summarise(unknown, ["red", "blue", "green", None], "exact") == {"accuracy": 1.0}, (
        "no answer is known"
    )


def test_what_failed_is_wrong_even_where_no_words_are_right():
    assert judge(item(""), "", "anls") == 1.0
    assert judge(item(""), None, "anls") == 0.0


def test_what_failed_said_neither_yes_nor_no():
    items = [item(truth) for truth in ("yes", "yes", "no", "no")]
    assert summarise(items, ["yes", None, "yes", None], "yes_no") == {
        "accuracy": 1 / 4,
        "precision": 1 / 2,
        "recall": 1 / 2,
        "f1": 1 / 2,
        "yes_rate": 1 / 2,
    }


def test_other_summaries():
    items = [item("red"), item("blue"), item("green")]
    assert summarise(items[:1], ["red"], "anls") == {"anls": 1.0}


def test_mixed_tasks_report_every_metric():
    items = [item("red", metric="exact"), item("abcd", metric="anls"), item("no", metric="yes_no")]
    assert summarise(items, ["blue", "abxd", "no"], "mixed") == {
        "score": pytest.approx(1.75 / 3),
        "anls": 0.75,
        "exact": 0.0,
        "yes_no": 1.0,
    }
    with pytest.raises(
        ArgumentError, match=r"metric must be one of exact, choice, yes_no, anls, got 'mixed'"
    ):
        judge(item("red"), "red", "mixed")
