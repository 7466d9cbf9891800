"""Sweep files: what they say, and what is refused."""

import tomllib
from collections.abc import Iterator

import pytest

from vidcompress.core.config.compression import _read
from vidcompress.core.method import METHODS
from vidcompress.errors import ArgumentError, VidcompressError
from vidcompress.tools.evaluation.run.sweep import ModelSpec, TaskSpec, row_id
from vidcompress.tools.evaluation.run.sweep_file import load_sweep, read_sweep

WHOLE = """
name = "first"
published = "globalcom2-llava-next-7b"
ratios = [0.5, 0.25]
methods = ["globalcom2:tau=5,policy=reference", "none", "globalcom2+fastv:schedule=fit", "random"]
tasks = [{name = "lmms:pope", limit = 9, form = "chat"}, "shapes:image", {name = "data:x", max_new_tokens = 3}]
seed = 4
batch_size = 5
limit = 7
[[models]]
name = "tiny-onevision"
num_frames = 4
[[models]]
name = "tiny-next"
batch_size = 2
"""


def test_rows_are_models_by_tasks_by_budgets_by_methods():
    rows = read_sweep(tomllib.loads(WHOLE)).rows()
    assert len(rows) == 2 * 3 * (1 + 2 * 3)
    first = rows[:7]
    assert {row.task.name for row in first} == {"shapes:image"}
    assert [row.task.kind for row in rows[:21:7]] == ["shapes", "data", "lmms"], "the harness comes last"
    assert [(row.method.partition(":")[0], row.budget_text) for row in first] == [
        ("none", "1"),
        ("globalcom2", "0.5"),
        ("globalcom2+fastv", "0.5"),
        ("random", "0.5"),
        ("globalcom2", "0.25"),
        ("globalcom2+fastv", "0.25"),
        ("random", "0.25"),
    ]
    assert first[0].baseline is None
    assert {row.baseline for row in first[1:]} == {first[0].id}
    assert len({row.id for row in rows}) == len(rows)
    assert all(set(row.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.=+") for row in rows)
    assert [row.task.limit for row in rows[:21:7]] == [7, 7, 9]
    assert [row.task.max_new_tokens for row in rows[:21:7]] == [None, 3, None]
    assert (rows[0].batch_size, rows[-1].batch_size) == (5, 2)
    assert rows[0].model.sampling() == {"num_frames": 4}
    assert first[1].compression(9) == {
        "method": "globalcom2",
        "retention_ratio": 0.5,
        "tau": 5,
        "policy": "reference",
    }
    assert [row.compression(9).get("seed") for row in first[1:4]] == [None, None, 13], "4, and the batch"


def test_budgets_in_tokens_and_labels_for_namesakes():
    models = [{"name": "tiny-next"}, {"name": "tiny-next", "label": "half", "dtype": "bfloat16"}]
    sweep = read_sweep(
        {"models": models, "tasks": ["shapes:image"], "methods": ["random"], "max_tokens": [64]}
    )
    rows = sweep.rows()
    assert [(row.model.shown, row.budget_text) for row in rows] == [
        ("tiny-next", "1"),
        ("tiny-next", "64 tokens"),
        ("half", "1"),
        ("half", "64 tokens"),
    ]
    assert sweep.name == "sweep"
    assert rows[2].model.loading() == {"dtype": "bfloat16"}


BASE = {"models": ["tiny-next"], "tasks": ["shapes:image"], "methods": ["random"]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"metods": []}, r"x: unknown key 'metods'; known: .*did you mean 'methods'\?"),
        ({"name": ""}, r"x: name='': must be a text that is not empty"),
        ({"published": 3}, r"x: published=3: must be a text"),
        ({"ratios": 0.5}, r"x: ratios=0.5: must be a list"),
        ({"ratios": []}, r"x: retention_ratios=\[\]: give at least one"),
        ({"ratios": [0.5, 2]}, r"x: retention_ratio must be a number with 0 < R <= 1, got 2"),
        ({"ratios": ["x"]}, r"x: retention_ratio must be a number with 0 < R <= 1, got 'x'"),
        ({"ratios": [[]]}, r"x: retention_ratio must be a number with 0 < R <= 1, got \[\]"),
        (
            {"ratios": [0.5], "max_tokens": [4]},
            r"x: retention_ratios=.* and max_tokens=.* exclude each other",
        ),
        ({"max_tokens": [0]}, r"x: max_tokens must be an integer of at least 1, got 0"),
        ({"methods": "random"}, r"x: methods='random': must be a list"),
        ({"methods": [1]}, r"x: methods=\[1\]: must be a list of names"),
        ({"methods": ["randon"]}, r"x: unknown method 'randon'; .*did you mean 'random'\?"),
        ({"methods": [""]}, r"x: methods: '' must be a name, such as"),
        ({"methods": ["globalcom2:tau"]}, r"x: methods: 'globalcom2:tau' must list options as key=value"),
        (
            {"methods": ["fastv:retention_ratio=1"]},
            r"x: methods: .* sets retention_ratio, which is not an option",
        ),
        ({"failed": "right"}, r"x: failed must be one of wrong, left-out, got 'right'"),
        ({"view_text": "dorp"}, r"x: view_text must be one of keep, drop, got 'dorp'; did you mean 'drop'\?"),
        ({"view_text": True}, r"x: view_text must be one of keep, drop, got True"),
        ({"methods": ["random:view_text=all"]}, r"x: view_text must be one of keep, drop, got 'all'"),
        ({"mass": "onn"}, r"x: mass must be one of on, off, got 'onn'; did you mean 'on'\?"),
        ({"mass": True}, r"x: mass must be one of on, off, got True"),
        ({"mass": "on", "mass_strength": -1}, r"x: mass_strength=-1: must be a finite number of at least 0"),
        ({"mass": "on", "mass_cap": "16"}, r"x: mass_cap='16': must be a finite number of at least 1"),
        ({"methods": ["random:mass=maybe"]}, r"x: mass must be one of on, off, got 'maybe'"),
        ({"mass": "on", "methods": ["random:mass=maybe"]}, r"x: mass must be one of on, off, got 'maybe'"),
        ({"mass": "on", "methods": ["randon"]}, r"x: unknown method 'randon'; .*did you mean 'random'\?"),
        ({"mass_strength": 0.5}, r"x: mass_strength=0.5: no method of the sweep has a mass; add mass='on'"),
        ({"mass": "off", "mass_cap": 4}, r"x: mass_cap=4: no method of the sweep has a mass; add mass='on'"),
        ({"failed": 3}, r"x: failed must be one of wrong, left-out, got 3"),
        (
            {"failed": "left-out", "tasks": ["shapes:image", "lmms:pope"]},
            r"x: failed='left-out': lmms-eval counts a question that failed as an empty answer; leave it out, or",
        ),
        ({"tasks": []}, r"x: tasks is missing or empty; name at least one"),
        ({"tasks": [3]}, r"x: tasks\[0\]: 3 must be a name, or a table with a name"),
        ({"tasks": [{}]}, r"x: tasks\[0\]: name is missing; add it"),
        (
            {"tasks": ["shape:image"]},
            r"x: tasks\[0\]: name='shape:\w+': must be shapes:image, .* or lmms:NAME; did you mean 'shapes:",
        ),
        (
            {"tasks": ["shapes:film"]},
            r"x: tasks\[0\]: .*behind the colon must be one of image, clip, got 'film'",
        ),
        ({"tasks": ["data:"]}, r"x: tasks\[0\]: name='data:': must say which"),
        ({"tasks": [{"name": "data:x", "frames": 3}]}, r"x: tasks\[0\]: frames=3: only for shapes: tasks"),
        (
            {"tasks": [{"name": "data:x", "split": "test"}]},
            r"x: tasks\[0\]: split='test': only for parquet: and hub: tasks; leave it out",
        ),
        (
            {"tasks": ["hub:name"]},
            r"x: tasks\[0\]: hub:name: must be hub:owner/name, hub:owner/name/config or either",
        ),
        (
            {"tasks": [{"name": "parquet:x", "columns": {"anwser": "a"}}]},
            r"x: tasks\[0\]: columns: unknown field 'anwser'; .*did you mean 'answer'\?",
        ),
        (
            {"tasks": [{"name": "parquet:x", "metric": "exactly"}]},
            r"x: tasks\[0\]: metric must be one of exact, .*, got 'exactly'",
        ),
        (
            {"tasks": [{"name": "hub:a/b", "prompt_suffix": 3}]},
            r"x: tasks\[0\]: prompt_suffix=3: must be a text",
        ),
        (
            {"tasks": [{"name": "hub:a/b", "split": ""}]},
            r"x: tasks\[0\]: split='': must be a text that is not",
        ),
        (
            {"tasks": [{"name": "data:x", "limits": 3}]},
            r"tasks\[0\]: unknown key 'limits'; .*did you mean 'limit'\?",
        ),
        (
            {"tasks": [{"name": "data:x", "limit": 0}]},
            r"tasks\[0\]: limit=0: must be a whole number of at least 1",
        ),
        (
            {"tasks": [{"name": "shapes:clip", "seed": -1}]},
            r"tasks\[0\]: seed=-1: must be a whole number from 0",
        ),
        ({"tasks": [{"name": "lmms:gqa", "form": "long"}]}, r"tasks\[0\]: form must be one of simple, chat"),
        (
            {"tasks": [{"name": "lmms:gqa", "max_new_tokens": 3}]},
            r"max_new_tokens=3: the task file of lmms-eval says",
        ),
        (
            {"tasks": ["shapes:image"] * 2},
            r"x: models and tasks: .* stands in the sweep twice; give one of the",
        ),
        ({"models": []}, r"x: models is missing or empty; name at least one"),
        (
            {"models": ["tiny-nxt"]},
            r"x: models\[0\]: model='tiny-nxt' is neither .*did you mean 'tiny-next'\?",
        ),
        (
            {"models": [{"name": "tiny-next", "fsp": 1}]},
            r"models\[0\]: unknown key 'fsp'; .*did you mean 'fps'\?",
        ),
        ({"models": [{"name": "tiny-next", "dtype": "int8"}]}, r"models\[0\]: dtype must be one of float32"),
        (
            {"models": [{"name": "tiny-next", "device": "toaster"}]},
            r"models\[0\]: device='toaster' is not a device",
        ),
        (
            {"models": [{"name": "tiny-next", "attn_implementation": "x"}]},
            r"models\[0\]: .*no attention implementation",
        ),
        (
            {"models": [{"name": "tiny-next", "num_frames": 0}]},
            r"models\[0\]: num_frames=0: must be from 1 to 300",
        ),
        ({"models": [{"name": "tiny-next", "max_frames": "x"}]}, r"models\[0\]: max_frames='x'"),
        (
            {"models": [{"name": "tiny-next", "batch_size": 0}]},
            r"models\[0\]: batch_size=0: must be a whole number",
        ),
        ({"models": [{"name": "tiny-next", "quantization": "1bit"}]}, r"models\[0\]: quantization='1bit'"),
        ({"seed": "x"}, r"x: seed='x': must be a whole number from 0 to 4294967295"),
        ({"batch_size": 0}, r"x: batch_size=0: must be a whole number of at least 1"),
        ({"limit": 1.5}, r"x: limit=1.5: must be a whole number of at least 1"),
        (
            {"models": [{"name": "tiny-next", "device": "cpu", "device_map": "auto"}]},
            r"models\[0\]: device='cpu' and device_map='auto' exclude each other",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_wrong_is_refused(changed, message):
    with pytest.raises(ArgumentError, match=message):
        read_sweep({**BASE, **changed}, where="x: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"= 3", r"s.toml' is no TOML file that can be read \(Invalid"),
        (b"\xff", r"s.toml' is no TOML file that can be read \('utf-8' codec"),
        (b"a = " + b"[" * 50_000, r"s.toml' is no TOML file that can be read"),
        (b"#" * (1024**2 + 1), r"s.toml': longer than 1048576 bytes; pass a sweep file"),
        (None, r"s.toml': no such file; pass a TOML file, see configs/"),
    ],
)
def test_hostile_files_are_refused(tmp_path, content, message):
    path = tmp_path / "s.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VidcompressError, match=message):
        load_sweep(path)


def test_a_file_is_read_with_its_name(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('tasks = ["shapes:image"]\nmodels = ["tiny-next"]\n')
    sweep = load_sweep(path)
    assert (sweep.name, [row.method for row in sweep.rows()]) == ("mine", ["none"])


def test_text_of_views_is_dropped_by_methods_that_do_not_say_it() -> None:
    methods = ["none", "random", "globalcom2:tau=5", "uniform:view_text=keep", "random:view_text=drop"]
    some = {**BASE, "methods": methods, "ratios": [0.5]}
    rows = read_sweep({**some, "view_text": "drop"}).rows()
    assert {row.method: row.settings.view_text for row in rows} == {
        "none": "keep",
        "random:view_text=drop": "drop",
        "globalcom2:tau=5,view_text=drop": "drop",
        "uniform:view_text=keep": "keep",
    }
    assert rows[1].compression(0) == {
        "method": "random",
        "retention_ratio": 0.5,
        "seed": 0,
        "view_text": "drop",
    }
    kept = read_sweep({**some, "view_text": "keep"}).rows()
    assert [row.id for row in kept] == [row.id for row in read_sweep(some).rows()], "keep is what is not said"
    shared = {row.method for row in kept if row.id in {other.id for other in rows}}
    assert shared == {"none", "uniform:view_text=keep", "random:view_text=drop"}, (
        "other rows are other folders"
    )


def test_mass_is_stated_by_methods_with_another_default() -> None:
    methods = ["none", "random", "globalcom2:tau=5", "uniform:mass=off", "random:mass=on,mass_cap=4"]
    some = {**BASE, "methods": methods, "ratios": [0.5]}
    rows = read_sweep({**some, "mass": "on", "mass_strength": 0.5, "mass_cap": 16}).rows()
    mass = {
        row.method: (row.settings.mass, row.settings.mass_strength, row.settings.mass_cap) for row in rows
    }
    assert mass == {
        "none": (None, 1.0, None),
        "random:mass=on,mass_strength=0.5,mass_cap=16": ("on", 0.5, 16.0),
        "globalcom2:tau=5,mass=on,mass_strength=0.5,mass_cap=16": ("on", 0.5, 16.0),
        "uniform:mass=off": ("off", 1.0, None),
        "random:mass=on,mass_cap=4,mass_strength=0.5": ("on", 0.5, 4.0),
    }
    assert rows[1].compression(0) == {
        "method": "random",
        "retention_ratio": 0.5,
        "seed": 0,
        "mass": "on",
        "mass_strength": 0.5,
        "mass_cap": 16,
    }
    plain = read_sweep(some).rows()
    ids = {row.method: row.id for row in plain}
    off = read_sweep({**some, "mass": "off"}).rows()
    assert {row.method: row.id for row in off} == ids, "off is the default of these methods"
    assert {row.method for row in rows if row.id in ids.values()} == {"none", "uniform:mass=off"}
    on = [
        read_sweep({**some, "mass": "on", **more}).rows()
        for more in ({}, {"mass_strength": 1}, {"mass_cap": 8.0})
    ]
    assert [row.id for row in on[0]] == [row.id for row in on[1]], "a strength of 1 is what is not said"
    assert [row.method for row in on[2]][1] == "random:mass=on,mass_cap=8"


@pytest.fixture
def weighing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`uniform` has mass by default; configurations that were read before are read anew, and so are those read here."""
    monkeypatch.setattr(METHODS.get("uniform"), "mass", "on")
    _read.cache_clear()
    yield
    _read.cache_clear()


@pytest.mark.usefixtures("weighing")
def test_mass_of_a_method_that_has_it_by_default() -> None:
    some = {**BASE, "methods": ["random", "uniform"], "ratios": [0.5]}
    labels = {
        state: [row.method for row in read_sweep({**some, **state_of}).rows()][1:]
        for state, state_of in {
            "on": {"mass": "on"},
            "off": {"mass": "off"},
            "half": {"mass_strength": 0.5},
            "none": {},
        }.items()
    }
    assert labels == {
        "on": ["random:mass=on", "uniform"],
        "off": ["random", "uniform:mass=off"],
        "half": ["random", "uniform:mass_strength=0.5"],
        "none": ["random", "uniform"],
    }


def test_a_name_that_is_cut_at_a_dash_has_its_parts_apart() -> None:
    """A folder's name is cut to 40 characters, here behind its dash."""
    for length in range(20, 50):
        task = TaskSpec("data:/" + "a" * length + "-rest")
        name = row_id(ModelSpec("tiny-next"), task, "random", {"max_tokens": 9})
        assert name.split("--")[2:4] == ["random", "9"], name


def test_settings_of_tables():
    table = {"name": "hub:a/b/c@v1", "split": "val", "metric": "anls", "prompt_suffix": ""}
    columns = {"question": "q", "choices": ["A", "B"]}
    (task,) = read_sweep({**BASE, "tasks": [{**table, "columns": columns}]}).tasks
    assert (task.kind, task.rest, task.split, task.metric) == ("hub", "a/b/c@v1", "val", "anls")
    assert (task.prompt_suffix, task.columns) == ("", (("question", "q"), ("choices", ("A", "B"))))
    assert hash(task) and columns == {"question": "q", "choices": ["A", "B"]}
