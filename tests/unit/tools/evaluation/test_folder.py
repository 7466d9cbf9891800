"""A folder of questions, whole and broken."""

import json

import pytest

from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.tasks.folder import CHOICE_SUFFIX, FolderTask


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bench" / "media").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"x")
    return tmp_path / "bench"


def write(folder, *lines, toml=None):
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "questions.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    if toml is not None:
        (folder / "benchmark.toml").write_text(toml)
    return folder


GOOD = {"id": "q1", "question": "what?", "answer": "red"}


def test_all_keys_are_read(folder):
    lines = [
        {"id": 7, "image": "media/1.png", "question": "colour?", "answer": ["red", "rot"], "kind": "color"},
        {"id": "b", "images": ["1.png", "2.png"], "question": "same?", "answer": "no", "metric": "yes_no"},
        {"id": "c", "video": "c.mp4", "question": "which?", "choices": ["red", "blue"], "answer": "B"},
        {"id": "d", "video": "c.mp4", "question": "x?", "answer": 3, "group": "g", "facts": {"frames": 8}},
    ]
    task = FolderTask(write(folder, lines[0], "", *lines[1:]))
    first, second, third, fourth = task.items()
    assert (task.name, task.split, task.metric, task.max_new_tokens) == ("bench", "test", "mixed", 32)
    assert (first.id, first.images, first.answers) == ("7", (folder / "media/1.png",), ("red", "rot"))
    assert (first.kind, first.metric, first.question) == ("color", "exact", "colour?")
    assert (second.images, second.metric) == ((folder / "1.png", folder / "2.png"), "yes_no")
    assert third.question == f"which?\nA. red\nB. blue{CHOICE_SUFFIX}"
    assert (third.video, third.metric, third.choices) == (folder / "c.mp4", "choice", ("red", "blue"))
    assert (fourth.answers, fourth.group, fourth.facts) == (("3",), "g", {"frames": 8})


def test_settings_of_the_folder(folder):
    toml = 'name = "mine"\nmetric = "anls"\nprompt_suffix = " Briefly."\nmax_new_tokens = 5\nsplit = "val"'
    task = FolderTask(write(folder, GOOD, toml=toml))
    assert (task.name, task.metric, task.max_new_tokens, task.split) == ("mine", "anls", 5, "val")
    assert task.items()[0].question == "what? Briefly."
    choice = {**GOOD, "choices": ["red", "blue"]}
    bare = FolderTask(write(folder, choice, toml="list_choices = false"))
    assert (bare.items()[0].question, bare.metric) == ("what?", "choice")


def test_the_revision_is_that_of_the_data(folder):
    write(folder, {**GOOD, "image": "a.png"})
    revisions = [FolderTask(folder).revision]
    (folder / "a.png").write_bytes(b"123")
    revisions.append(FolderTask(folder).revision)
    write(folder, {**GOOD, "image": "a.png"}, toml="max_new_tokens = 5")
    revisions.append(FolderTask(folder).revision)
    write(folder, {**GOOD, "image": "a.png", "answer": "blue"})
    revisions.append(FolderTask(folder).revision)
    assert len(set(revisions)) == 4
    assert FolderTask(folder).revision == revisions[-1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", r"line 2: not JSON \(Expecting value.*\); write one object per line"),
        ("[" * 100_000, r"line 2: not JSON \(Recursion"),
        ('{"id": NaN}', r"line 2: not JSON \(NaN is no JSON number\)"),
        (
            '{"id": "\\ud800"}',
            r"line 2: id='\\ud800': character 0 is '\\ud800', half a surrogate pair; pass Unicode",
        ),
        (
            '{"choices": ["a", "\\udfff"]}',
            r"line 2: choices=.*'\\udfff', half a surrogate pair; pass Unicode",
        ),
        ("[1]", r"line 2: must be an object with the keys id, .*got \[1\]"),
        ({**GOOD, "anser": 1}, r"line 2: unknown key 'anser'; known: .*did you mean 'answer'\?"),
        (GOOD, r"line 2: id='q1' is there already; give every question its own"),
        ({**GOOD, "id": ""}, r"line 2: id='': must be a text that is not empty"),
        ({**GOOD, "id": True}, r"line 2: id=True: must be a text"),
        ({"id": "q2", "answer": "x"}, r"line 2: question=None: must be a text that is not empty"),
        ({"id": "q2", "question": "x"}, r"line 2: answer is missing; give a text or a list"),
        (
            {**GOOD, "id": "q2", "answer": []},
            r"line 2: answer=\[\]: must be a list of texts that is not empty",
        ),
        ({**GOOD, "id": "q2", "answer": [None]}, r"line 2: answer=\[None\]: must be a list of texts"),
        ({**GOOD, "id": "q2", "choices": "ab"}, r"line 2: choices='ab': must be a list of texts"),
        (
            {**GOOD, "id": "q2", "choices": ["red"]},
            r"line 2: answer=\['red'\]: must be a letter or the text of one of",
        ),
        (
            {**GOOD, "id": "q2", "choices": ["a", "b"]},
            r"line 2: answer=\['red'\]: must be a letter or the text",
        ),
        (
            {**GOOD, "id": "q2", "choices": list("abcdefghijklmnopqrstuvwxyz0")},
            r"choices: 27 of them; at most 26",
        ),
        (
            {**GOOD, "id": "q2", "metric": "exakt"},
            r"line 2: metric must be one of exact, .*did you mean 'exact'\?",
        ),
        ({**GOOD, "id": "q2", "facts": [1]}, r"line 2: facts=\[1\]: must be an object"),
        ({**GOOD, "id": "q2", "kind": 1}, r"line 2: kind=1: must be a text"),
        ({**GOOD, "id": "q2", "image": "a", "images": ["b"]}, r"line 2: image and images exclude each other"),
        (
            {**GOOD, "id": "q2", "image": "../secret.png"},
            r"line 2: image='../secret.png' leads out of the folder",
        ),
        (
            {**GOOD, "id": "q2", "image": "/etc/passwd"},
            r"line 2: image='/etc/passwd' leads out of the folder",
        ),
        ({**GOOD, "id": "q2", "image": "link.png"}, r"line 2: image='link.png' leads out of the folder"),
        ({**GOOD, "id": "q2", "image": "a\0b"}, r"line 2: image='a.x00b': must be a path within the folder"),
        (
            {**GOOD, "id": "q2", "video": "http://x/y.mp4"},
            r"line 2: video='http://x/y.mp4': must be a path within",
        ),
        ({**GOOD, "id": "q2", "image": 3}, r"line 2: image=3: must be a path within the folder"),
        ({**GOOD, "id": "q2", "group": "g", "image": "other.png"}, r"group='g' began with other media"),
        ("x" * (1024**2 + 1), r"line 2: longer than 1048576 bytes; shorten it"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_broken_line_is_refused_by_number(folder, line, message):
    (folder / "link.png").symlink_to("../secret.png")
    with pytest.raises(ArgumentError, match=message):
        FolderTask(write(folder, {**GOOD, "group": "g"}, line))


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("metrik = 'exact'", r"benchmark.toml: unknown key 'metrik'; .*did you mean 'metric'\?"),
        ("metric = 'best'", r"benchmark.toml: metric must be one of exact, choice, yes_no, anls, mixed"),
        ("max_new_tokens = 0", r"benchmark.toml: max_new_tokens=0: must be a whole number of at least 1"),
        ("name = ''", r"benchmark.toml: name='': must be a text that is not empty"),
        ("list_choices = 1", r"benchmark.toml: list_choices=1: must be True or False"),
        ("prompt_suffix = 1", r"benchmark.toml: prompt_suffix=1: must be a text"),
        ("= 5", r"benchmark.toml is no TOML file that can be read \(Invalid.*\); check its syntax"),
    ],
)
def test_broken_settings_are_refused(folder, toml, message):
    with pytest.raises(ArgumentError, match=message):
        FolderTask(write(folder, GOOD, toml=toml))


def test_a_folder_without_questions_is_refused(folder):
    with pytest.raises(ArgumentError, match=r"holds no questions.jsonl; pass a folder that has it"):
        FolderTask(folder)
    with pytest.raises(ArgumentError, match=r"questions.jsonl holds no questions; write one per line"):
        FolderTask(write(folder, "", " "))
