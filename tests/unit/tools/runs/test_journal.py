"""The journal of a run: what a kill, a full disk or a flipped bit can do to it, and what is left."""

import json
import resource
import signal

import pytest

from vidcompress.core.timing import PHASES
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.run.batches import failed_line
from vidcompress.tools.evaluation.run.result_file import LOG, read_events, read_result
from vidcompress.tools.evaluation.run.worker import is_answer
from vidcompress.tools.runs import journal as module
from vidcompress.tools.runs.journal import JournalError, RunJournal, rank_path, read_head, read_lines
from vidcompress.tools.runs.run_log import RunLog, merge_logs, read_log

HEAD = {"model": "m", "data": "d"}


def line(name, answer="red"):
    return {"id": name, "answer": answer, "score": 1.0, "kept": 3, "budget": 3, "total": 12}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "row" / "answers.jsonl"


def ids(path):
    return [json.loads(text).get("id") for text in path.read_text().splitlines()[1:]]


def test_answers_are_read_back_and_the_file_ends_in_item_order(path):
    journal = RunJournal(path, HEAD)
    journal.add([line("b"), line("a")])
    journal.add([])
    again = RunJournal(path, HEAD)
    assert again.done == {"b": line("b"), "a": line("a")}
    again.add([line("c")])
    again.finish(["a", "b", "c", "d"])
    assert ids(path) == ["a", "b", "c"]
    assert list(again.done) == ["a", "b", "c"]
    assert path.read_bytes().splitlines()[1] == (
        b'{"answer":"red","budget":3,"id":"a","kept":3,"score":1.0,"total":12}'
    )


def test_every_length_a_kill_can_leave_is_read_and_completed_to_the_same_bytes(path):
    RunJournal(path, HEAD).add([line("a"), line("b"), line("c")])
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        journal = RunJournal(path, HEAD)
        assert journal.corrupt == 0
        assert path.read_bytes().endswith(b"\n")
        journal.add([line(name) for name in "abc" if name not in journal.done])
        journal.finish("abc")
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "spoilt",
    [
        b"\xff\x00",
        b"[1]",
        b"{}",
        b'{"id": 3, "answer": ""}',
        b'{"id": "b"}',
        b"[" * 9999,
        b'{"id": "b", "answer": "x", "score": NaN}',
        b'{"id": "b", "answer": "x", "score": -Infinity}',
    ],
)
def test_a_corrupt_line_is_set_aside_and_its_neighbours_stay(path, spoilt):
    RunJournal(path, HEAD).add([line("a"), line("b"), line("c")])
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:2], spoilt, lines[3]]) + b"\n")
    journal = RunJournal(path, HEAD)
    assert (journal.corrupt, list(journal.done)) == (1, ["a", "c"])
    assert path.with_name("answers.jsonl.corrupt").read_bytes() == spoilt + b"\n"
    assert RunJournal(path, HEAD).corrupt == 0, "set aside once"


def test_a_journal_of_another_run_is_refused(path):
    RunJournal(path, HEAD)
    with pytest.raises(
        ArgumentError, match=r"belongs to another run: data is 'd' there and 'x' here; choose"
    ):
        RunJournal(path, {**HEAD, "data": "x"})
    path.write_bytes(b'{"head": 3}\n')
    with pytest.raises(ArgumentError, match=r"its first line is damaged; move the file away"):
        RunJournal(path, HEAD)


def test_of_two_lines_with_one_id_the_first_counts(path):
    """What was scored and reported is the answer that was there first; a line behind it changes nothing."""
    RunJournal(path, HEAD).add([line("a", "red"), line("b", "blue")])
    content = path.read_bytes()
    path.write_bytes(content + module.as_line(line("a", "green")))
    journal = RunJournal(path, HEAD)
    assert {name: entry["answer"] for name, entry in journal.done.items()} == {"a": "red", "b": "blue"}
    journal.finish("ab")
    assert path.read_bytes() == content


@pytest.mark.parametrize("lines", [[line("a")], [{"answer": "x"}], [line("b"), line("b")]])
def test_an_id_is_written_once(path, lines):
    journal = RunJournal(path, HEAD)
    journal.add([line("a")])
    before = path.read_bytes()
    with pytest.raises(
        ArgumentError, match=r"lines: id=.* must be a text that the journal does not hold yet"
    ):
        journal.add(lines)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_file_as_it_was(path):
    journal = RunJournal(path, HEAD)
    journal.add([line("a")])
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))  # the second line does not fit
    try:
        with pytest.raises(
            JournalError, match=r"answers.jsonl cannot be written \(File too large\); make room"
        ):
            journal.add([line("b"), line("c")])
        assert path.read_bytes() == before
        assert list(journal.done) == ["a"]
        journal.add([line("b")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    journal.add([line("c")])
    assert ids(path) == ["a", "b", "c"]


def test_what_cannot_be_put_in_order_stays_as_it_was(path, monkeypatch):
    journal = RunJournal(path, HEAD)
    journal.add([line("b"), line("a")])
    before = path.read_bytes()

    def full(target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(JournalError, match=r"cannot be put in order \(No space left on device\); make room"):
        journal.finish("ab")
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["answers.jsonl"]


def test_a_journal_that_cannot_be_made_says_so(path):
    path.mkdir(parents=True)
    with pytest.raises(JournalError, match=r"answers.jsonl cannot be opened \(Is a directory\)"):
        RunJournal(path, HEAD)


@pytest.mark.parametrize(
    "change",
    [{"score": "1"}, {"score": None}, {"score": True}, {"score": 10**400}, {"score": {}}, {"kept": "3"},
     {"total": [12]}, {"answer": {"a": 1}}, {"answer": None}, {"error": {"x": 1}}, {"error": None}],
)  # fmt: skip
def test_a_line_of_wrong_types_is_asked_again(path, change):
    RunJournal(path, HEAD).add([line("a"), {**line("b"), **change}, line("c")])
    journal = RunJournal(path, HEAD, is_answer)
    assert (journal.corrupt, list(journal.done)) == (1, ["a", "c"])


def test_lines_that_a_row_writes_are_read_back(path):
    lines = [line("a"), {**line("b"), "kept": 2.5}, failed_line("c", "no picture")]
    RunJournal(path, HEAD).add(lines)
    assert list(RunJournal(path, HEAD, is_answer).done.values()) == lines


BATCH = {
    "questions": 2,
    "seconds": 1.5,
    "ms": dict.fromkeys(PHASES, 1.0),
    "first_token_ms": [3.0],
    "processes": 1,
}


@pytest.mark.parametrize(
    ("event", "told"),
    [("start", {"provenance": 3}), ("start", {"model": []}), ("start", {"settings": "x"}),
     ("batch", {**BATCH, "questions": 0}), ("batch", {**BATCH, "questions": 10**9}), ("batch", {**BATCH, "ms": {}}),
     ("batch", {**BATCH, "ms": 3}), ("batch", {**BATCH, "first_token_ms": ["x"]}),
     ("batch", {**BATCH, "seconds": None}), ("batch", {**BATCH, "peak_memory_bytes": "x"})],
)  # fmt: skip
def test_events_of_wrong_types_are_left_out(tmp_path, event, told):
    log = RunLog(tmp_path / LOG)
    log.add("start", provenance={})
    log.add(event, **told)
    log.add("batch", **BATCH)
    assert [entry["event"] for entry in read_events(tmp_path / LOG)] == ["start", "batch"]


@pytest.mark.parametrize(
    "change",
    [{"provenance": []}, {"failed": 3}, {"failed": [{"id": "a"}]}, {"unreachable": 3}, {"schema": 2}],
)
def test_a_result_of_wrong_types_is_none(tmp_path, change):
    result = {"schema": 1, "provenance": {}, "failed": [{"id": "a", "error": "x"}], "unreachable": None}
    result |= {"model": {}, "task": {}, "scores": {}, "tokens": {}}
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert read_result(tmp_path) == result
    (tmp_path / "result.json").write_text(json.dumps({**result, **change}))
    assert read_result(tmp_path) is None


def test_a_journal_without_a_file_keeps_its_lines(tmp_path):
    journal = RunJournal(None, HEAD)
    journal.add([line("b"), line("a")])
    assert journal.write([line("a", "blue"), line("c")]) == {}
    journal.finish("ab")
    assert journal.done == {"a": line("a"), "b": line("b")}
    assert journal.merge_ranks() == {}
    assert not list(tmp_path.iterdir())


def test_a_journal_of_another_run_is_begun_anew_where_that_is_asked_for(path):
    RunJournal(path, HEAD).add([line("a")])
    assert list(RunJournal(path, HEAD, anew=True).done) == ["a"], "a journal of the same run is kept"
    assert RunJournal(path, {**HEAD, "data": "x"}, anew=True).done == {}
    assert read_head(path) == {**HEAD, "data": "x"} and ids(path) == []


def test_processes_write_files_of_their_own_and_the_first_takes_them_in(path):
    journals = [RunJournal(path, HEAD, rank=rank) for rank in range(3)]
    for journal, names in zip(journals, ("ab", "bc", "d"), strict=True):
        journal.add([line(name, f"{name} of {journal.path.name}") for name in names])
    with rank_path(path, 2).open("ab") as file:
        file.write(
            b"spoilt\n" + module.as_line(line("e"))[:-9]
        )  # a line of another program, and one cut short
    before = journals[0].corrupt
    assert journals[0].merge_ranks() == {}
    assert journals[0].corrupt == before + 1
    assert [entry.name for entry in path.parent.glob("*.jsonl")] == ["answers.jsonl"]
    assert [entry["answer"] for entry in RunJournal(path, HEAD).done.values()] == [
        "a of answers.jsonl",
        "b of answers.jsonl",
        "c of answers.rank1.jsonl",
        "d of answers.rank2.jsonl",
    ]


def test_the_file_of_a_process_of_another_run_is_refused_and_stays(path):
    journal = RunJournal(path, HEAD)
    RunJournal(path, {**HEAD, "data": "x"}, rank=1).add([line("a")])
    with pytest.raises(ArgumentError, match=r"rank1.jsonl belongs to another run: data is 'x' there"):
        journal.merge_ranks()
    assert journal.done == {}
    assert ids(rank_path(path, 1)) == ["a"]


def test_lines_that_the_disk_refuses_wait_for_the_next(path, monkeypatch):
    journal = RunJournal(path, HEAD)
    RunJournal(path, HEAD, rank=1).add([line("c")])

    def full(target):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", full)
        (reason,) = journal.write([line("a")]).values()
        assert reason.endswith(
            "(No space left on device); make room and run again: what was written before is kept"
        )
        assert list(journal.write([line("b"), line("a", "blue"), line("b", "blue")])) == ["a", "b"]
        assert ids(path) == []
    assert journal.write() == {}
    assert [entry["answer"] for entry in RunJournal(path, HEAD).done.values()] == ["red", "red"]

    append = module._append

    def mostly_full(target, content):
        if target == path:
            full(target)
        append(target, content)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_append", mostly_full)
        assert list(journal.merge_ranks()) == ["c"]
        assert ids(rank_path(path, 1)) == ["c"], "kept where it is"
    assert journal.merge_ranks() == {}
    assert ids(path) == ["a", "b", "c"]
    assert not rank_path(path, 1).exists()


def test_a_file_that_another_process_is_writing_is_read_as_far_as_it_goes(path):
    assert list(read_lines(path)) == []
    RunJournal(path, HEAD).add([line("a"), line("b")])
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert [entry["id"] for entry in read_lines(path, HEAD) if "id" in entry] == ["a"]
    assert list(read_lines(path, {**HEAD, "data": "x"})) == []
    assert path.read_bytes() == whole[:-9], "nothing is mended"


def test_logs_of_processes_are_read_together_and_merged(tmp_path):
    path = tmp_path / "a.times"
    for rank in (0, 1):
        RunLog(path, rank).add("start", rank=rank)
    path.write_bytes(path.read_bytes() + b'\n{"event": "batch", "sec')
    RunLog(path).add("finish")
    told = [(event["event"], event.get("rank")) for event in read_log(path)]
    assert told == [("start", 0), ("finish", None), ("start", 1)]
    merge_logs(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.times"]
    assert [(event["event"], event.get("rank")) for event in read_log(path)] == told
    RunLog(None).add("start")
