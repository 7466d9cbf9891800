"""Tables of questions: columns, answers, media inside and beside them, revisions, and what is refused."""

import re
import subprocess
import sys

import datasets
import pytest
from PIL import Image

from table_files import CLIP, png, shapes_rows, write_table
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.run.sweep import TaskSpec
from vidcompress.tools.evaluation.tasks import table_source
from vidcompress.tools.evaluation.tasks.folder import CHOICE_SUFFIX
from vidcompress.tools.evaluation.tasks.registry import Tasks, make_task
from vidcompress.tools.evaluation.tasks.table import TableTask
from vidcompress.tools.evaluation.tasks.table_columns import check_columns
from vidcompress.tools.evaluation.tasks.table_source import open_hub, open_parquet, parse_hub_name

RED, BLUE = (png(Image.new("RGB", (20, 10), color)) for color in ("red", "blue"))
ROW = {"question": "what?", "answer": "red"}


def task_of(folder, rows, *, features=None, split=None, **options):
    if "columns" in options:
        options["columns"] = check_columns("columns", options["columns"])
    path = write_table(folder / "t.parquet", rows, **(features or {}))
    return TableTask(open_parquet(path, split), folder / "media", **options)


def test_questions_of_usual_names_are_read(tmp_path):
    rows = [{**row, "more": "x"} for row in shapes_rows(3)]
    task = task_of(tmp_path, rows, features={"image": datasets.Image()})
    assert (task.name, task.split, task.metric, task.max_new_tokens) == ("t", "test", "exact", 32)
    for item, row in zip(task.items(), rows, strict=True):
        assert (item.id, item.question) == (str(row["question_id"]), row["question"])
        assert (item.answers, item.kind, item.video) == ((row["answer"],), row["category"], None)
        assert len(item.images) == 1 and not item.images[0].exists()
    task.write_media()
    for item, row in zip(task.items(), rows, strict=True):
        assert item.images[0].read_bytes() == row["image"]["bytes"]
    assert len(list((tmp_path / "media").iterdir())) == len({row["image"]["bytes"] for row in rows})


def test_media_are_written_once_and_only_those_that_are_missing(tmp_path):
    task = task_of(tmp_path, [{**ROW, "image": RED}, {**ROW, "image": BLUE}, {**ROW, "image": RED}])
    first, second, third = (item.images[0] for item in task.items())
    assert first == third != second
    task.write_media()
    first.write_bytes(b"as it was")
    second.unlink()
    task.write_media()
    assert (first.read_bytes(), second.read_bytes()) == (b"as it was", BLUE)
    assert {path.name for path in first.parent.iterdir()} == {first.name, second.name}


def test_several_pictures_clips_and_plain_bytes(tmp_path):
    clip = CLIP.read_bytes()
    rows = [
        {**ROW, "images": [{"bytes": RED, "path": "a.JPEG"}, {"bytes": BLUE, "path": None}], "video": None},
        {**ROW, "images": [], "video": {"bytes": clip, "path": "b.webm"}},
        {**ROW, "images": None, "video": {"bytes": clip, "path": "../../.ssh/key"}},
    ]
    task = task_of(tmp_path, rows)
    one, two, three = task.items()
    assert [path.suffix for path in one.images] == [".jpeg", ".png"] and one.video is None
    assert (two.images, two.video.suffix, three.video.suffix) == ((), ".webm", ".mp4")
    assert {path.parent for item in task.items() for path in (*item.images, *filter(None, [item.video]))} == {
        tmp_path / "media"
    }
    task.write_media()
    assert (two.video.read_bytes(), three.video.read_bytes()) == (clip, clip)


def test_a_mapping_names_columns_and_joins_them(tmp_path):
    rows = [
        {"q": "which?", "A": "red", "B": "blue", "C": None, "gt": "B", "one": RED, "two": BLUE, "id": 1},
        {"q": "who?", "A": "me", "B": "you", "C": "us", "gt": "us", "one": RED, "two": None, "id": 1},
    ]
    columns = {
        "question": "q",
        "choices": ["A", "B", "C"],
        "answer": "gt",
        "images": ["one", "two"],
        "id": "",
    }
    first, second = task_of(tmp_path, rows, columns=columns).items()
    assert first.question == f"which?\nA. red\nB. blue{CHOICE_SUFFIX}"
    assert (first.choices, first.answers, first.metric, first.id) == (("red", "blue"), ("B",), "choice", "0")
    assert (second.choices, second.answers, second.id) == (("me", "you", "us"), ("us",), "1")
    assert [len(item.images) for item in (first, second)] == [2, 1]
    bare = task_of(tmp_path, rows, columns=columns, prompt_suffix=" Now.", metric="exact").items()[0]
    assert (bare.question, bare.metric) == ("which?\nA. red\nB. blue Now.", "exact")


def test_answers_by_number_and_by_class(tmp_path):
    rows = [
        {"question": "?", "options": ["x", "y"], "answer": 1},
        {"question": "?", "options": ["1", "2"], "answer": 1},
    ]
    assert [item.answers for item in task_of(tmp_path, rows).items()] == [("B",), ("1",)]
    rows = [{"question": "is it?", "label": 1, "category": 0}]
    named = {"label": datasets.ClassLabel(names=["no", "yes"]), "category": datasets.ClassLabel(names=["k"])}
    (item,) = task_of(tmp_path, rows, features=named, metric="yes_no").items()
    assert (item.answers, item.kind, item.metric) == (("yes",), "k", "yes_no")
    rows = [{"question": "?", "answers": ["a", "b"], "type": 3}]
    (item,) = task_of(tmp_path, rows).items()
    assert (item.answers, item.kind) == (("a", "b"), "3")


def test_paths_lead_to_files_beside_the_table_and_nowhere_else(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(RED)
    task = task_of(tmp_path, [{**ROW, "image": "pictures/a.png"}])
    assert task.items()[0].images == (tmp_path / "pictures/a.png",)
    task.write_media()
    assert not (tmp_path / "media").exists()
    before = task.revision
    (tmp_path / "pictures" / "a.png").write_bytes(BLUE + b"1")
    assert task_of(tmp_path, [{**ROW, "image": "pictures/a.png"}]).revision != before
    for name in ("../secret.png", "/etc/passwd", "https://example.org/a.png"):
        with pytest.raises(ArgumentError, match=r"row 0: column 'image'=.*(leads out|must be a path within)"):
            task_of(tmp_path, [{**ROW, "image": name}])


def test_the_revision_is_that_of_the_data_and_of_how_they_are_read(tmp_path):
    rows = [{**ROW, "other": "blue"}, {**ROW, "other": "red"}]
    same = [task_of(tmp_path, rows).revision, task_of(tmp_path, rows, limit=1).revision]
    assert same[0] == same[1] and re.fullmatch("[0-9a-f]{64}", same[0])
    others = [
        task_of(tmp_path, rows[:1]).revision,
        task_of(tmp_path, rows, columns={"answer": "other"}).revision,
        task_of(tmp_path, rows, metric="anls").revision,
        task_of(tmp_path, rows, prompt_suffix="").revision,
    ]
    assert len({same[0], *others}) == 5
    assert len(task_of(tmp_path, rows, limit=1).items()) == 1


def test_folders_have_splits(tmp_path):
    for name, answer in (("test-00001-of-2", "b"), ("test-00000-of-2", "a"), ("train-00000", "c")):
        write_table(tmp_path / "data" / f"{name}.parquet", [{**ROW, "answer": answer}])
    with pytest.raises(ArgumentError, match=r"holds the splits test, train; name one in a sweep file"):
        open_parquet(tmp_path)
    task = TableTask(open_parquet(tmp_path, "test"), tmp_path / "media")
    assert (task.split, [item.answers for item in task.items()]) == ("test", [("a",), ("b",)])
    assert open_parquet(tmp_path, "train").split == "train"
    with pytest.raises(ArgumentError, match=r"split='dev': no file is of it; known: test, train"):
        open_parquet(tmp_path, "dev")
    with pytest.raises(ArgumentError, match=r"split='test': only for folders and hub: tasks; leave it out"):
        open_parquet(tmp_path / "data" / "train-00000.parquet", "test")


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"q": "?", "answer": "a"}], {}, r"no column is recognised as the question; .*columns are q, answer"),
        ([{"question": "?"}], {}, r"no column is recognised as the answer; .* columns = \{answer = 'name'\}"),
        ([ROW], {"columns": {"kind": "sort"}}, r"columns.kind='sort': no such column; known: answer, question"),
        ([ROW, {**ROW, "question": ""}], {}, r"row 1: column 'question': question='': must be a text"),
        ([{**ROW, "question": None}, ROW], {}, r"row 0: column 'question': question=None: must be a text"),
        ([{**ROW, "choices": "red, blue"}], {}, r"row 0: column 'choices': choices='red, blue': must be a list"),
        (
            [{"question": "?", "gt": "C", "options": ["x", "y"]}],
            {"columns": {"answer": "gt"}},
            r"row 0: column 'gt': answer=\['C'\]: must be a letter or the text of one of .* \['x', 'y'\]",
        ),
        ([{**ROW, "answer": None}, ROW], {}, r"row 0: column 'answer': answer is missing; give a text or a list"),
        ([{**ROW, "id": 1}, {**ROW, "id": 1}], {}, r"row 1: column 'id': id='1' is there already; name a column"),
        ([{**ROW, "image": 3}], {}, r"row 0: column 'image': 3 is no picture or clip; it must be bytes, a path"),
        ([{**ROW, "video": [RED, BLUE]}], {}, r"row 0: column 'video': holds 2 clips; a question is about one"),
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused(rows, options, message, tmp_path):
    with pytest.raises(ArgumentError, match=rf"^parquet:.*t\.parquet: {message}"):
        task_of(tmp_path, rows, **options)


def test_a_picture_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("vidcompress.tools.evaluation.tasks.table.MAX_BUFFERED_BYTES", len(RED) - 1)
    with pytest.raises(ArgumentError, match=rf"column 'image': a picture of {len(RED)} bytes; the most is"):
        task_of(tmp_path, [{**ROW, "image": RED}])
    task_of(tmp_path, [{**ROW, "video": RED}])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("q", r"columns='q': must be a table from fields to columns"),
        ({}, r"columns=\{\}: must be a table"),
        ({"questions": "q"}, r"columns: unknown field 'questions'; .*did you mean 'question'"),
        ({"question": ["a", "b"]}, r"columns.question=\['a', 'b'\]: must be the name of a column$"),
        ({"choices": []}, r"columns.choices=\[\]: must be the name of a column, or a list of names"),
        ({"choices": ["A", 3]}, r"columns.choices=\['A', 3\]: must be the name of a column, or a list"),
        ({"answer": ""}, r"columns.answer='': a question needs it; name a column"),
        ({"image": "a", "images": "b"}, r"columns: image and images exclude each other"),
    ],
)
def test_mappings_that_are_refused(value, message):
    with pytest.raises(ArgumentError, match=message):
        check_columns("columns", value)


def test_files_that_are_no_parquet(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ArgumentError, match=r"a\.parquet: cannot be read as Parquet \(.*\); check the file"):
        open_parquet(tmp_path / "a.parquet")
    with pytest.raises(ArgumentError, match=r"parquet:no-such: no such file or folder; pass a Parquet file"):
        make_task(TaskSpec("parquet:no-such"), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match=r"holds no \.parquet file"):
        open_parquet(tmp_path / "empty")
    path = tmp_path / "none.parquet"
    datasets.Dataset.from_list([ROW]).select([]).to_parquet(path)
    with pytest.raises(ArgumentError, match=r"holds no rows; pass a table with questions"):
        TableTask(open_parquet(path), tmp_path)


def test_tasks_take_the_settings_of_their_specification(tmp_path):
    path = write_table(tmp_path / "t.parquet", [{"q": "?", "answer": "yes", "image": RED}] * 3)
    spec = TaskSpec(
        f"parquet:{path}", limit=2, columns=(("question", "q"),), metric="yes_no", prompt_suffix="!"
    )
    tasks = Tasks(tmp_path / "media")
    task, items = tasks(spec)
    assert (task.metric, [item.question for item in items]) == ("yes_no", ["?!", "?!"])
    tasks.write_media(spec)
    assert items[0].images[0].read_bytes() == RED


def test_one_line_where_datasets_is_missing(tmp_path, monkeypatch):
    path = write_table(tmp_path / "t.parquet", [ROW])
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ArgumentError, match=r"needs datasets, which is not installed \(.*\); pip install .*\[data"
    ) as error:
        open_parquet(path)
    assert "\n" not in str(error.value)


def test_nothing_loads_datasets_before_a_table_is_opened():
    probe = (
        "import sys, vidcompress.tools.evaluation.tasks.registry; "
        "assert 'datasets' not in sys.modules and 'pyarrow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", probe], check=True)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("owner/name", ("owner/name", None, None)),
        ("owner/name/some.config@refs/pr/1", ("owner/name", "some.config", "refs/pr/1")),
        ("owner/name@v1.0", ("owner/name", None, "v1.0")),
    ],
)
def test_names_of_the_hub(text, parts):
    assert parse_hub_name(text) == parts


@pytest.mark.parametrize("text", ["name", "owner/name/a/b", "owner/name@", "/name", "owner/na me"])
def test_names_that_are_not_of_the_hub(text):
    with pytest.raises(ArgumentError, match=r"^hub:.*: must be hub:owner/name, hub:owner/name/config or"):
        parse_hub_name(text)


COMMIT = "0123456789012345678901234567890123456789"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """`datasets` with one repository instead of the Hub; what was asked of it."""
    asked = []
    rows = [{"question": "is it?", "answer": name, "image": RED} for name in ("yes", "no")]
    table = datasets.Dataset.from_list(rows)

    def load(name, config, *, split, revision):
        asked.append((name, config, split, revision))
        return table

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_, **__: ["train", "validation"])
    monkeypatch.setattr(table_source, "_commit", lambda name, revision: COMMIT)
    return asked


def test_a_table_of_the_hub_at_one_commit(hub, tmp_path):
    task = make_task(TaskSpec("hub:owner/name/small@main"), tmp_path)
    assert hub == [("owner/name", "small", "validation", COMMIT)]
    assert (task.name, task.split, task.revision) == ("owner/name/small", "validation", COMMIT)
    task.write_media()
    assert task.items()[0].images[0].read_bytes() == RED
    other = make_task(TaskSpec("hub:owner/name", split="train", metric="yes_no"), tmp_path)
    assert other.revision.startswith(f"{COMMIT}+train+") and (other.split, other.metric) == (
        "train",
        "yes_no",
    )
    with pytest.raises(
        ArgumentError, match=r"hub:owner/name: split='test': no such split; known: train, valid"
    ):
        open_hub("owner/name", "test")


def test_a_hub_that_cannot_be_reached():
    with pytest.raises(
        ArgumentError, match=r"^hub:owner/name: cannot be opened \(.*\); check its name and the"
    ):
        open_hub("owner/name")
