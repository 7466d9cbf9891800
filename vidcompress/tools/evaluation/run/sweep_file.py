"""Sweep files: TOML with the models, benchmarks, methods and budgets of a sweep.

name = "first-look"
ratios = [0.5, 0.25, 0.1]            # or max_tokens = [128, 64]
methods = ["globalcom2", "fastv:schedule=fit", "globalcom2+fastv"]
tasks = ["shapes:image", "data:my-benchmark", {name = "lmms:pope", limit = 100}, "parquet:questions.parquet",
         {name = "hub:owner/name/config@revision", split = "test", columns = {question = "q", choices = ["A", "B"]}}]
failed = "wrong"                     # or "left-out": how a failed question counts in the scores
view_text = "keep"                   # or "drop": policy on text of views that keep nothing, in all methods that do not
                                     # state it themselves, as "globalcom2:view_text=drop" does
mass = "on"                          # or "off": likewise, in all methods whose default is the other one
mass_strength = 0.5                  # and mass_cap = 16: likewise, in all methods with mass
[[models]]
name = "tiny-onevision"
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidcompress import checks
from vidcompress.checks import DEFAULT_MAX_FRAMES, whole_number, word
from vidcompress.core.budget import Budget
from vidcompress.core.config import DEFAULT_RATIO, CompressionConfig, read_config
from vidcompress.core.devices import check_device_map
from vidcompress.core.foreign_arguments import LOADING, refuse
from vidcompress.core.method_spec import with_argument
from vidcompress.core.prompt import VIEW_TEXT
from vidcompress.errors import ArgumentError, one_line, shown
from vidcompress.loading.attention import check_attention
from vidcompress.loading.load import DTYPES, one_dtype, resolve
from vidcompress.loading.quantization import check_quantization
from vidcompress.media.video.sampling import check_request
from vidcompress.qa.compare.grid import read_budgets
from vidcompress.tools.evaluation.run.sweep import (
    BASELINE,
    DEFAULT_BATCH,
    FAILED,
    ModelSpec,
    Sweep,
    TaskSpec,
)
from vidcompress.tools.evaluation.tasks.base import METRICS
from vidcompress.tools.evaluation.tasks.folder import known_keys
from vidcompress.tools.evaluation.tasks.shapes import MEDIA
from vidcompress.tools.evaluation.tasks.spelling import FORMS, meant_task
from vidcompress.tools.evaluation.tasks.table_columns import check_columns
from vidcompress.tools.evaluation.tasks.table_source import parse_hub_name

KEYS = (
    "name",
    "published",
    "ratios",
    "max_tokens",
    "methods",
    "tasks",
    "models",
    "seed",
    "batch_size",
    "limit",
    "max_new_tokens",
    "failed",
    "view_text",
    "mass",
    "mass_strength",
    "mass_cap",
)
KINDS = ("shapes", "data", "parquet", "hub", "lmms")
MAX_FILE_BYTES = 1024**2
_TABLES = ("parquet", "hub")
_ONLY = {
    **dict.fromkeys(("questions", "seed", "frames"), ("shapes",)),
    **dict.fromkeys(("columns", "metric", "prompt_suffix", "split"), _TABLES),
    **dict.fromkeys(("include_path", "form", "prompts_of"), ("lmms",)),
}


def load_sweep(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        ArgumentError: the file is missing, is not TOML, or states something that is not allowed.
    """
    return read_sweep(parse_sweep(path), where=f"{path}: ", name=path.stem)


def parse_sweep(path: Path) -> dict[str, Any]:
    """Parse a sweep file, unchecked.

    Raises:
        ArgumentError: the file is not there or is not TOML.
    """
    try:
        if not path.is_file():
            raise ArgumentError(f"sweep={str(path)!r}: no such file; pass a TOML file, see configs/")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ArgumentError(f"sweep={str(path)!r}: longer than {MAX_FILE_BYTES} bytes; pass a sweep file")
        return tomllib.loads(content.decode())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"sweep={str(path)!r} is no TOML file that can be read ({one_line(error)}); check its syntax"
        ) from error


def read_sweep(content: Mapping[str, Any], *, where: str = "", name: str = "sweep") -> Sweep:
    """Check the content of a sweep file and build its sweep.

    Args:
        content: the keys of a sweep file.
        where: put before messages.
        name: of the sweep, where it has none.

    Raises:
        ArgumentError: a key is unknown, missing or wrong, or a row cannot be.
    """
    known_keys(content, KEYS, where)
    common = {key: content[key] for key in ("limit", "max_new_tokens") if key in content}
    for key in common:
        whole_number(f"{where}{key}", common[key])
    try:
        methods = _methods(content, where)
        sweep = Sweep(
            name=word(f"{where}name", content.get("name", name), "first-look"),
            models=tuple(
                _model(entry, f"{where}models[{n}]: ") for n, entry in _numbered(content, "models", where)
            ),
            tasks=tuple(
                _task(entry, f"{where}tasks[{n}]: ", common)
                for n, entry in _numbered(content, "tasks", where)
            ),
            methods=methods,
            budgets=_budgets(content, where) if methods else (),
            published=_optional(content, "published", where),
            seed=whole_number(f"{where}seed", content.get("seed", 0), least=0, most=2**32 - 1),
            batch_size=whole_number(f"{where}batch_size", content.get("batch_size", DEFAULT_BATCH)),
            failed=content.get("failed", FAILED[0]),
        )
        checks.one_of(f"{where}failed", sweep.failed, FAILED)
        if sweep.failed != FAILED[0] and any(task.kind == "lmms" for task in sweep.tasks):
            raise ArgumentError(
                f"failed={sweep.failed!r}: lmms-eval counts a question that failed as an empty answer; leave it out, "
                "or put the lmms: tasks into a sweep of their own"
            )
        sweep.rows()
    except ArgumentError as error:
        if str(error).startswith(where):
            raise
        raise type(error)(f"{where}{error}") from error
    return sweep


def _methods(content: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return the labels without the baseline; they state what the sweep says of text of views and of mass."""
    labels = [label for label in _list(content, "methods", where) if label != BASELINE]
    view_text = content.get("view_text", VIEW_TEXT[0])
    checks.one_of(f"{where}view_text", view_text, VIEW_TEXT)
    if view_text != VIEW_TEXT[0]:
        labels = [with_argument(label, "view_text", view_text) for label in labels]
    given = {name: content[name] for name in ("mass", "mass_strength", "mass_cap") if name in content}
    return tuple(dict.fromkeys(_with_mass(labels, given) if given else labels))


def _with_mass(labels: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """Return labels that state the mass of a sweep where it is no default, so that their rows stay apart from others.

    Args:
        labels: of methods.
        given: `mass`, `mass_strength` and `mass_cap`, as far as the sweep states them.

    Raises:
        ArgumentError: a value is not allowed, or no method has a mass of which `given` states the strength or the cap.
    """
    asked, stated = CompressionConfig(BASELINE, **given), []
    numbers = {
        name: f"{value!r}".removesuffix(".0")
        for name in ("mass_strength", "mass_cap")
        if (value := getattr(asked, name)) != getattr(CompressionConfig, name)
    }
    for label in labels:
        if asked.mass not in (None, _mass_of(label)):
            label = with_argument(label, "mass", str(asked.mass))
        if _mass_of(label) == "on":
            for name, text in numbers.items():
                label = with_argument(label, name, text)
        stated.append(label)
    if numbers and all(_mass_of(label) == "off" for label in stated):
        name = next(iter(numbers))
        raise ArgumentError(
            f"{name}={shown(given[name])}: no method of the sweep has a mass; add mass='on', or leave it out"
        )
    return stated


def _mass_of(label: str) -> str:
    """Return `on` or `off`, as a label states it or by the default of its method."""
    return read_config({"method": label}, default_ratio=DEFAULT_RATIO).resolved_mass


def _budgets(content: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], ...]:
    for key in ("ratios", "max_tokens"):
        if key in content:
            _list(content, key, where)
    budgets = read_budgets(content.get("ratios"), content.get("max_tokens"))
    for budget in budgets:
        Budget(**budget)  # refuses a value out of range
    return tuple(
        {key: float(value) if key == "retention_ratio" else value for key, value in budget.items()}
        for budget in budgets
    )


def _model(entry: Any, where: str) -> ModelSpec:
    given = _table(_foreign(entry, where), ModelSpec, where)
    texts = (
        "name",
        "label",
        "revision",
        "dtype",
        "attn_implementation",
        "device_map",
        "quantization",
        "preset",
    )
    _check(given, where, texts, ("batch_size",))
    spec = ModelSpec(**given)
    try:
        resolve(spec.name)
        if spec.device is not None:
            checks.device("device", spec.device)
        if spec.dtype is not None:
            checks.one_of("dtype", spec.dtype, DTYPES)
        check_attention(spec.attn_implementation)
        check_device_map(spec.device_map)
        check_quantization(spec.quantization, None)
        if spec.device is not None and spec.device_map is not None:
            raise ArgumentError(
                f"device={spec.device!r} and device_map={spec.device_map!r} exclude each other; pass one of them"
            )
        most = DEFAULT_MAX_FRAMES if spec.max_frames is None else spec.max_frames
        check_request(num_frames=spec.num_frames, fps=spec.fps, max_frames=most)
    except ArgumentError as error:
        raise ArgumentError(f"{where}{error}") from error
    return spec


def _foreign(entry: Any, where: str) -> Any:
    """Check a model's table: names of other libraries are refused, and `torch_dtype` becomes `dtype`."""
    if not isinstance(entry, dict):
        return entry
    given = dict(entry)
    try:
        dtype = one_dtype(given.pop("dtype", None), given.pop("torch_dtype", None))
        refuse(given, LOADING, [part.name for part in dataclasses.fields(ModelSpec)])
    except ArgumentError as error:
        raise ArgumentError(f"{where}{error}") from error
    return given if dtype is None else {**given, "dtype": dtype}


def _task(entry: Any, where: str, common: Mapping[str, Any]) -> TaskSpec:
    given = dict(_table(entry, TaskSpec, where))
    _check(
        given,
        where,
        ("name", "label", "include_path", "prompts_of", "split"),
        ("limit", "max_new_tokens", "questions", "frames"),
    )
    if given.get("seed") is not None:
        whole_number(f"{where}seed", given["seed"], least=0, most=1000)
    task = TaskSpec(**given)
    if task.kind not in KINDS:
        meant = meant_task(task.name)
        raise ArgumentError(
            f"{where}name={shown(task.name)}: must be {FORMS}{f'; did you mean {meant!r}?' if meant else ''}"
        )
    if not task.rest:
        raise ArgumentError(f"{where}name={shown(task.name)}: must say which, as in 'data:my-benchmark'")
    if task.kind == "shapes":
        checks.one_of(f"{where}name={shown(task.name)}: what stands behind the colon", task.rest, MEDIA)
    for key, kinds in _ONLY.items():
        if key in given and task.kind not in kinds:
            only = " and ".join(f"{kind}:" for kind in kinds)
            raise ArgumentError(f"{where}{key}={shown(given[key])}: only for {only} tasks; leave it out")
    if task.kind == "hub":
        try:
            parse_hub_name(task.rest)
        except ArgumentError as error:
            raise ArgumentError(f"{where}{error}") from error
    if "columns" in given:
        given["columns"] = check_columns(f"{where}columns", given["columns"])
    if "metric" in given:
        checks.one_of(f"{where}metric", given["metric"], METRICS)
    if not isinstance(given.get("prompt_suffix", ""), str):
        raise ArgumentError(f"{where}prompt_suffix={shown(given['prompt_suffix'])}: must be a text")
    if "form" in given:
        checks.one_of(f"{where}form", given["form"], ("simple", "chat"))
    if task.kind == "lmms" and "max_new_tokens" in given:
        raise ArgumentError(
            f"{where}max_new_tokens={given['max_new_tokens']}: the task file of lmms-eval says it; leave it out"
        )
    common = {key: value for key, value in common.items() if task.kind != "lmms" or key != "max_new_tokens"}
    return TaskSpec(**{**common, **given})


def _table(entry: Any, spec: Any, where: str) -> dict[str, Any]:
    given = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(given, dict):
        raise ArgumentError(f"{where}{shown(entry)} must be a name, or a table with a name")
    known_keys(given, tuple(part.name for part in dataclasses.fields(spec)), where)
    if "name" not in given:
        raise ArgumentError(f"{where}name is missing; add it")
    return given


def _check(given: Mapping[str, Any], where: str, texts: tuple[str, ...], numbers: tuple[str, ...]) -> None:
    checked: list[tuple[tuple[str, ...], Callable[[str, Any], Any]]] = [
        (texts, lambda name, value: word(name, value, "tiny-onevision" if name.endswith("name") else "main")),
        (numbers, whole_number),
    ]
    for names, check in checked:
        for name in names:
            if name in given:
                check(f"{where}{name}", given[name])


def _list(content: Mapping[str, Any], key: str, where: str) -> list[Any]:
    values = content.get(key, [])
    if not isinstance(values, list):
        raise ArgumentError(f"{where}{key}={shown(values)}: must be a list")
    if key == "methods" and not all(isinstance(value, str) for value in values):
        raise ArgumentError(
            f"{where}methods={shown(values)}: must be a list of names, such as 'globalcom2:tau=5'"
        )
    return values


def _numbered(content: Mapping[str, Any], key: str, where: str) -> list[tuple[int, Any]]:
    values = _list(content, key, where)
    if not values:
        raise ArgumentError(f"{where}{key} is missing or empty; name at least one")
    return list(enumerate(values))


def _optional(content: Mapping[str, Any], key: str, where: str) -> str | None:
    return None if key not in content else word(f"{where}{key}", content[key], "globalcom2-llava-next-7b")
