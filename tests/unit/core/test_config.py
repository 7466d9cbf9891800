"""The configuration: one object with every default and check, in memory, as plain JSON types and in a file."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import random
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vidcompress
from fuzzing.mutations import mutate_json
from tiny_models import Scene, batch, tiny_model
from vidcompress import ArgumentError, BudgetError, CompressionConfig, VisualQA
from vidcompress.core.config import ViewSkipping, read_config
from vidcompress.core.config.compression import DEFAULTS, FIELDS, FILE_NAME
from vidcompress.core.config.json_file import MAX_FILE_BYTES
from vidcompress.core.method import METHODS, Method
from vidcompress.core.pruning.composed import Composed
from vidcompress.methods.globalcom2 import GlobalCom2

NUMBERS = st.floats(0.001, 1, allow_subnormal=False)
RATIOS = st.one_of(
    NUMBERS,
    st.decimals("0.001", "1", places=25),
    st.fractions("1/1000", 1),
    st.integers(1, 1000).map(lambda n: f"0.{n:04}"),
)
BEFORE: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "globalcom2": st.fixed_dictionaries(
        {},
        optional={
            "tau": st.floats(0.01, 100),
            "alpha": NUMBERS,
            "score": st.sampled_from(["local", "global"]),
            "layer": st.integers(-9, -1),
        },
    ),
    "vidcom2": st.fixed_dictionaries({}, optional={"widths": st.lists(NUMBERS, min_size=1).map(tuple)}),
    "random": st.fixed_dictionaries({}, optional={"seed": st.integers(0, 2**63 - 1)}),
    "fastvid": st.fixed_dictionaries(
        {}, optional={"auxiliary": st.text(min_size=1), "stride": st.integers(1, 9)}
    ),
    "prumerge": st.fixed_dictionaries({}, optional={"merge": st.booleans(), "layer": st.just(-2)}),
}
INSIDE = {
    "fastv": st.fixed_dictionaries({}, optional={"schedule": st.just("fit")}),
    "sparsevlm": st.fixed_dictionaries({}, optional={"recycle": st.booleans()}),
}


@st.composite
def methods(draw: Any) -> Method:
    def one(table: dict[str, Any]) -> Any:
        name = draw(st.sampled_from(sorted(table)))
        return METHODS.get(name)(**draw(table[name]))

    kind = draw(st.sampled_from(["before", "inside", "both"]))
    if kind != "both":
        return one(BEFORE if kind == "before" else INSIDE)  # type: ignore[no-any-return]
    return Composed(one(BEFORE), one(INSIDE), draw(st.one_of(st.none(), NUMBERS, st.fractions("1/2", 1))))


@st.composite
def configs(draw: Any) -> CompressionConfig:
    method = draw(methods())
    inside = method.inside is method
    tokens = draw(st.one_of(st.none(), st.integers(1, 10**6)))
    exact = tokens is not None or isinstance(method, Composed)
    return CompressionConfig(
        method,
        retention_ratio=draw(RATIOS) if tokens is None else None,
        max_tokens=tokens,
        separators=None if inside else draw(st.sampled_from([None, "keep", "thin", "drop"])),
        positions=draw(st.sampled_from([None, "original", "contiguous", *([] if inside else ["scaled"])])),
        policy="exact" if exact else draw(st.sampled_from(["exact", "reference"])),
        max_views=draw(st.integers(1, 99)),
        max_patches=draw(st.integers(1, 99999)),
        encoder_saving=draw(
            st.one_of(
                st.sampled_from(
                    [
                        "off",
                        "frames",
                        "crops",
                        "frames+crops",
                        "frames:area=0.2",
                        "crops+frames:threshold=1,area=0",
                    ]
                ),
                st.builds(ViewSkipping, st.booleans(), st.booleans(), st.floats(0, 1e6), st.floats(0, 1)),
            )
        ),
        view_text=draw(st.sampled_from(["keep", "drop"])),
        mass=draw(st.sampled_from([None, "on", "off"])),
        mass_strength=draw(st.one_of(st.integers(0, 9), st.floats(0, 1e6))),
        mass_cap=draw(st.one_of(st.none(), st.integers(1, 999), st.floats(1, 1e6))),
    )


@given(configs())
@settings(max_examples=300, deadline=None)
def test_a_configuration_comes_back_the_same(config: CompressionConfig) -> None:
    written = json.loads(json.dumps(config.to_dict(), allow_nan=False))
    read = CompressionConfig.from_dict(written)
    assert read == config
    assert hash(read) == hash(config)
    assert read.to_dict() == written
    assert read.budget.ratio == config.budget.ratio
    assert config.replace() == config
    assert of_its_fields(config) == config


def of_its_fields(config: CompressionConfig) -> CompressionConfig:
    """What the fields say is all there is: a configuration made of them is the same."""
    return CompressionConfig(**{name: getattr(config, name) for name in FIELDS})


@given(configs())
@settings(max_examples=60, deadline=None)
def test_a_key_that_changed_is_another_configuration(config: CompressionConfig) -> None:
    """The negative control of the test above: what is written makes a difference."""
    written = config.to_dict()
    for name in ("max_views", "max_patches"):
        assert CompressionConfig.from_dict({**written, name: written[name] + 1}) != config
    text = "keep" if config.view_text == "drop" else "drop"
    assert CompressionConfig.from_dict({**written, "view_text": text}) != config
    for mass in {None, "on", "off"} - {config.mass}:
        assert CompressionConfig.from_dict({**written, "mass": mass}) != config
    for name in ("mass_strength", "mass_cap"):
        changed = {**written, name: 2 * (written[name] or 1) + 1}
        assert CompressionConfig.from_dict(changed) != config
    other = "contiguous" if config.positions == "original" else "original"
    assert CompressionConfig.from_dict({**written, "positions": other}) != config
    for key in written:
        with pytest.raises(ArgumentError, match=f"unknown key '{key}x'; known: .*did you mean '{key}'"):
            CompressionConfig.from_dict({**written, f"{key}x": written[key]})
    for version in (0, 2, "1", 1.0, None):
        with pytest.raises(ArgumentError, match="version=.*: must be 1"):
            CompressionConfig.from_dict({**written, "version": version})
    with pytest.raises(ArgumentError, match="unknown method 'globalcom3'"):
        CompressionConfig.from_dict({**written, "method": "globalcom3", "options": {}})


@pytest.mark.parametrize(
    ("ratio", "kept", "exact"),
    [
        (0.1, 0.1, Fraction(1, 10)),
        ("0.1", 0.1, Fraction(1, 10)),
        (Fraction(1, 10), 0.1, Fraction(1, 10)),
        (1, 1.0, Fraction(1)),
        (Fraction(1, 3), Fraction(1, 3), Fraction(1, 3)),
        ("0.1000000000000000000000001", Fraction("0.1000000000000000000000001"), None),
        (Fraction(1, 10**40), Fraction(1, 10**40), None),
    ],
)
def test_ratios_are_exact(ratio: Any, kept: Any, exact: Fraction | None) -> None:
    config = CompressionConfig(retention_ratio=ratio)
    assert (config.retention_ratio, type(config.retention_ratio)) == (kept, type(kept))
    assert config.budget.ratio == (exact or kept)
    assert CompressionConfig.from_dict(config.to_dict()) == config


def test_a_file_holds_what_was_saved(tmp_path: Path) -> None:
    config = CompressionConfig("globalcom2+fastv:alpha=0.3,before_ratio=0.5", retention_ratio=Fraction(1, 3))
    folder = tmp_path / "made" / "here"
    path = config.save_pretrained(folder)
    assert path == folder / "compression_config.json"
    assert os.listdir(folder) == [FILE_NAME], "no scratch file is left"
    assert CompressionConfig.from_pretrained(folder) == config
    assert CompressionConfig.from_pretrained(str(path)) == config
    values = json.loads(path.read_text(encoding="utf-8"))
    assert values["version"] == 1
    assert (values["method"], values["retention_ratio"]) == ("globalcom2+fastv", "1/3")
    assert values["options"]["before"]["alpha"] == 0.3
    assert set(values) == {"version", "options", *FIELDS}
    second = config.replace(max_tokens=64)
    second.save_pretrained(folder)
    assert CompressionConfig.from_pretrained(folder) == second


def test_a_file_written_by_hand_needs_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(
        '{"method": "globalcom2:tau=5,policy=reference", "retention_ratio": 0.1}'
    )
    assert CompressionConfig.from_pretrained(tmp_path) == CompressionConfig(
        GlobalCom2(tau=5), retention_ratio=0.1, policy="reference"
    )


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = CompressionConfig("random", retention_ratio=0.5)
    first.save_pretrained(tmp_path)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        ArgumentError, match="compression_config.json cannot be written there .*No space left"
    ):
        first.replace(seed=3).save_pretrained(tmp_path)
    assert CompressionConfig.from_pretrained(tmp_path) == first
    assert os.listdir(tmp_path) == [FILE_NAME]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no JSON file that can be read"),
        ("{", "is no JSON file that can be read"),
        ("[1]", "must hold a JSON object, got [1]"),
        ("\xff".encode("latin-1"), "is no JSON file that can be read"),
        ("[" * 20000, "is no JSON file that can be read"),
        ('{"max_views": NaN}', "NaN is no JSON number"),
        ('{"policy": "exact", "policy": "exact"}', "the key 'policy' stands there twice"),
        ('{"retention_ratio": 0.5, "max_views": ' + "9" * 5000 + "}", "is no JSON file that can be read"),
        (" " * (MAX_FILE_BYTES + 1), f"longer than {MAX_FILE_BYTES} bytes"),
        ('{"polcy": "exact"}', "unknown key 'polcy'; known: .*did you mean 'policy'"),
        ('{"version": 7}', "version=7: must be 1"),
        ('{"retention_ratio": 2}', "retention_ratio must be a number with 0 < R <= 1, got 2"),
        ('{"retention_ratio": "1/0"}', "retention_ratio must be a number .*got '1/0'"),
        ('{"retention_ratio": 0.5, "max_views": 0}', "max_views must be an integer of at least 1, got 0"),
        ('{"retention_ratio": 0.5, "encoder_saving": "frames:area=0,threshold=' + "9" * 400 + '"}', "out of range"),
        ('{"retention_ratio": 0.5, "method": "globalcom2:tau=' + "[" * 20000 + '"}', "tau must be a number"),
        ('{"retention_ratio": 0.5, "method": 5}', "method must be a name or a Method, got 5"),
        ('{"retention_ratio": 0.5, "method": "a+b+c"}', "two names, one before"),
        ('{"retention_ratio": 0.5, "method": "globalcom2+fastv", "options": {"before": 5}}', "options=5: must be"),
        ('{"retention_ratio": 0.5, "options": {"before": {}}}', "method 'globalcom2' has no option 'before'"),
    ],
)  # fmt: skip
def test_a_hostile_file_gets_one_clear_error(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ArgumentError, match=message if ".*" in message else re.escape(message)) as caught:
        CompressionConfig.from_pretrained(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


SAVED = (
    CompressionConfig("globalcom2+fastv:before_ratio=0.7", retention_ratio=0.3),
    CompressionConfig("vidcom2", max_tokens=9),
    CompressionConfig("prumerge", retention_ratio="0.1", policy="reference"),
    CompressionConfig("random", retention_ratio=0.5, encoder_saving="frames:threshold=0.2,area=0.05"),
)


@pytest.mark.parametrize("saved", SAVED, ids=lambda config: config.method.name)
def test_a_broken_file_is_refused_or_read(tmp_path: Path, saved: CompressionConfig) -> None:
    """Whatever stands in the file: a configuration that can be written again, or one of our errors on one line."""
    path, messages = saved.save_pretrained(tmp_path), []
    data = path.read_bytes()
    for seed in range(150):
        path.write_bytes(mutate_json(data, random.Random(seed))[0])
        try:
            config = CompressionConfig.from_pretrained(path)
        except ArgumentError as error:
            messages.append(str(error))
        else:
            written = json.loads(json.dumps(config.to_dict(), allow_nan=False))
            assert CompressionConfig.from_dict(written) == config
    assert all(str(path) in message for message in messages)
    assert all("\n" not in message and len(message) < 700 for message in messages)
    assert 50 < len(messages) < 150


def test_a_file_that_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE_NAME)
    with pytest.raises(ArgumentError, match="no such file"):
        CompressionConfig.from_pretrained(tmp_path)


def test_an_instance_that_no_file_can_name_is_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class Mine(GlobalCom2):
        other: Any = None

    with pytest.raises(ArgumentError, match="is not registered, so that no file can name it"):
        CompressionConfig(Mine(), retention_ratio=0.5).to_dict()
    config = CompressionConfig(GlobalCom2(tau=np.longdouble("0.1")), retention_ratio=0.5)  # type: ignore[arg-type]
    with pytest.raises(
        ArgumentError, match="option tau=.* of method 'globalcom2' is of type longdouble, which JSON"
    ):
        config.to_dict()
    numpy = CompressionConfig(
        GlobalCom2(tau=np.float64(5), layer=np.int64(-2)), retention_ratio=np.float32(0.5)
    )  # type: ignore[arg-type]
    assert CompressionConfig.from_dict(json.loads(json.dumps(numpy.to_dict()))) == numpy


def test_a_fraction_of_too_many_digits_is_not_written() -> None:
    config = CompressionConfig(retention_ratio=Fraction(1, 10**1000 - 1))
    assert CompressionConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ArgumentError, match="more than 1000 digits; use a decimal number"):
        CompressionConfig(retention_ratio=Fraction(1, 10**5000)).to_dict()


def test_replace_changes_what_is_named() -> None:
    config = CompressionConfig("globalcom2:tau=5", retention_ratio=0.5, separators="drop", max_views=4)
    assert config.replace(alpha=0.3).method == GlobalCom2(tau=5, alpha=0.3)
    assert config.replace(max_tokens=9).budget == vidcompress.Budget(max_tokens=9)
    assert config.replace(max_tokens=9).replace(retention_ratio=0.5) == config
    other = config.replace(method="random:positions=original", seed=3)
    assert (other.method.name, other.method.seed, other.positions) == ("random", 3, "original")
    assert (other.separators, other.max_views, other.retention_ratio) == ("drop", 4, 0.5)
    both = CompressionConfig("globalcom2+fastv", retention_ratio=0.5).replace(
        tau=5, schedule="fit", before_ratio=0.7
    )
    assert (both.method.before.tau, both.method.within.schedule, both.method.before_ratio) == (5, "fit", 0.7)
    # What depends on the method or the policy follows when that changes, and stays where it was stated.
    assert CompressionConfig("sparsevlm", retention_ratio=0.5).replace(
        method="frames"
    ).resolved_positions == (METHODS.get("frames").positions)
    assert config.replace(separators=None).resolved_separators == "thin"
    assert config.replace(separators=None, policy="reference").resolved_separators == "keep"
    with pytest.raises(ArgumentError, match="method 'random' has no option 'tau'"):
        config.replace(method="random", tau=5)
    with pytest.raises(BudgetError, match="exactly one of retention_ratio"):
        config.replace(retention_ratio=0.5, max_tokens=9)
    with pytest.raises(
        ArgumentError, match="tau=6: method='globalcom2:tau=5' states it too; leave one of them out"
    ):
        config.replace(method="globalcom2:tau=5", tau=6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.policy = "reference"  # type: ignore[misc]


def test_a_configuration_and_keywords_give_the_same_inputs_and_exclude_each_other() -> None:
    model = tiny_model("llava_onevision")
    inputs = batch(model, [Scene((("image", (112, 80)),))])
    keywords: dict[str, Any] = {
        "retention_ratio": 0.3,
        "separators": "drop",
        "positions": "original",
        "tau": 5,
    }
    config = read_config(keywords)
    one = vidcompress.compress_inputs(model, inputs, **keywords)
    two = vidcompress.compress_inputs(model, inputs, config=config)
    assert one["input_ids"].equal(two["input_ids"])
    assert one["position_ids"].equal(two["position_ids"])
    with vidcompress.compress(model, config=config) as session:
        model(**inputs)
    assert session.report.kept == one.report.kept == two.report.kept
    qa = VisualQA(model, None, **keywords)
    assert qa.config == VisualQA(model, None, config=config).config == config
    assert qa.using(tau=7).using(config=config).config == config
    for call in (
        lambda **given: vidcompress.compress_inputs(model, inputs, **given),
        lambda **given: vidcompress.compress(model, **given).__enter__(),
        lambda **given: VisualQA(model, None, **given),
        lambda **given: VisualQA.from_pretrained("owner/nothing", **given),
        qa.using,
    ):
        with pytest.raises(
            ArgumentError, match=r"tau=5 cannot go with config=.*config=config.replace\(tau=...\)"
        ):
            call(config=config, tau=5)


MASS = {"mass": "on", "mass_strength": 0.5, "mass_cap": 16.0}
ENTRIES: dict[str, Any] = {
    "CompressionConfig": lambda model, given: CompressionConfig(retention_ratio=0.3, **given),
    "replace": lambda model, given: CompressionConfig(retention_ratio=0.3).replace(**given),
    "from_dict": lambda model, given: CompressionConfig.from_dict({"retention_ratio": 0.3, **given}),
    "a spec": lambda model, given: CompressionConfig(
        "globalcom2:" + ",".join(f"{name}={value}" for name, value in given.items()), retention_ratio=0.3
    ),
    "read_config": lambda model, given: read_config({"retention_ratio": 0.3, **given}),
    "VisualQA": lambda model, given: VisualQA(model, None, retention_ratio=0.3, **given).config,
    "using": lambda model, given: VisualQA(model, None, retention_ratio=0.3).using(**given).config,
    "using a method": lambda model, given: (
        VisualQA(model, None, retention_ratio=0.3, **given).using(method="globalcom2").config
    ),
    "chat": lambda model, given: VisualQA(model, None, retention_ratio=0.3, **given).chat()._pipeline.config,
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_mass_arrives_from_every_entry(entry: str) -> None:
    model, plain = tiny_model("llava_onevision"), CompressionConfig(retention_ratio=0.3)
    assert ENTRIES[entry](model, {}) == plain
    got = ENTRIES[entry](model, MASS)
    assert got == plain.replace(**MASS) and got.weighs
    for name in MASS:
        others = {key: value for key, value in MASS.items() if key != name}
        assert ENTRIES[entry](model, others) == plain.replace(**others) != got


@pytest.mark.parametrize("entry", ["compress_inputs", "compress"])
def test_the_report_of_a_call_states_the_mass(entry: str) -> None:
    model = tiny_model("llava_onevision")
    inputs = batch(model, [Scene((("image", (112, 80)),))])

    def told(**given: Any) -> tuple[Any, ...]:
        if entry == "compress_inputs":
            report = vidcompress.compress_inputs(model, inputs, "uniform", **given).report
        else:
            with vidcompress.compress(model, "uniform", **given) as session:
                model(**inputs)
            report = session.report
        return report.mass, report.mass_strength, report.mass_cap

    assert told(retention_ratio=0.3) == told(retention_ratio=0.3, mass="off") == ("off", 1.0, None)
    assert told(retention_ratio=0.3, **MASS) == ("on", 0.5, 16.0)
    assert told(retention_ratio=1, **MASS) == ("off", 0.5, 16.0), "nothing to weigh"
    assert told(retention_ratio=0.3, mass="on", mass_strength=0) == ("off", 0.0, None)


def test_a_file_from_before_the_mass_is_read(tmp_path: Path) -> None:
    config = CompressionConfig("random:seed=3", retention_ratio=0.3)
    path = config.save_pretrained(tmp_path)
    old = {name: value for name, value in json.loads(path.read_text()).items() if name not in MASS}
    assert len(old) == len(config.to_dict()) - 3
    path.write_text(json.dumps(old))
    assert CompressionConfig.from_pretrained(tmp_path) == config
    path.write_text(json.dumps({**old, **MASS}))
    assert CompressionConfig.from_pretrained(tmp_path) == config.replace(**MASS) != config


def test_defaults_stand_in_one_place() -> None:
    """Functions that take the fields as keywords show the configuration's own defaults."""
    fields = DEFAULTS
    assert list(fields) == [field.name for field in dataclasses.fields(CompressionConfig)]
    for function in (vidcompress.compress_inputs, vidcompress.compress):
        parameters = inspect.signature(function).parameters
        assert {name: parameters[name].default for name in FIELDS} == fields
    for function in (VisualQA, VisualQA.from_pretrained):
        parameters = inspect.signature(function).parameters
        shared = parameters.keys() & fields.keys()
        assert {name: parameters[name].default for name in shared} == {name: fields[name] for name in shared}


def test_arguments_are_read_once() -> None:
    first = read_config({"method": "globalcom2", "retention_ratio": 0.25, "tau": 5.0})
    assert read_config({"method": "globalcom2", "retention_ratio": 0.25, "tau": 5.0}) is first
    assert read_config({"method": "globalcom2", "retention_ratio": 0.25, "tau": 6.0}) != first


def test_equal_values_of_another_type_are_read_anew() -> None:
    one = read_config({"method": "uniform", "retention_ratio": 1})
    assert read_config({"method": "uniform", "retention_ratio": 1.0}) == one
    with pytest.raises(BudgetError, match="retention_ratio"):
        read_config({"method": "uniform", "retention_ratio": True})
    with pytest.raises(ArgumentError, match="max_views"):
        read_config({"method": "uniform", "retention_ratio": 1, "max_views": True})


def test_an_option_that_cannot_be_hashed_is_read_and_what_is_refused_is_refused_again() -> None:
    lists = {"method": "vidcom2", "retention_ratio": 0.5, "widths": [0.5, 1.0]}
    assert read_config(lists).method.widths == (0.5, 1.0)
    for _ in range(2):
        with pytest.raises(ArgumentError, match="no option"):
            read_config({"method": "vidcom2", "retention_ratio": 0.5, "width": 1})


@pytest.mark.parametrize(("name", "value"), [("mass_strength", 0.5), ("mass_cap", 8)])
def test_strength_and_cap_without_mass_are_noted(name: str, value: float) -> None:
    def notes(mass: str) -> list[str]:
        return CompressionConfig("uniform", 0.5, mass=mass, **{name: value}).report().notes  # type: ignore[arg-type]

    assert notes("off") == [f"{name} has no effect with mass='off'"] and notes("on") == []
