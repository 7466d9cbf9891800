"""Versions of transformers: which are tested, and what is said of a newer one."""

from __future__ import annotations

import tomllib
import warnings
from pathlib import Path

import pytest

from tiny_models import Scene, batch, tiny_model
from vidcompress import errors
from vidcompress.loading.versions import NEWEST_TESTED, OLDEST_TESTED, beyond_tested
from vidcompress.session import compress as session
from vidcompress.session.compress import compress_inputs
from vidcompress.tools.doctor import packages

ROOT = Path(__file__).resolve().parents[3]


def test_the_tested_versions_are_those_of_the_project() -> None:
    assert f"transformers=={NEWEST_TESTED}" in (ROOT / "constraints.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = (entry for entry in project["dependencies"] if entry.startswith("transformers"))
    assert wanted == f"transformers>={OLDEST_TESTED.removesuffix('.0')},<6"
    makefile = (ROOT / "Makefile").read_text()
    assert f"OLDER_TRANSFORMERS := {OLDEST_TESTED} " in makefile


def test_only_a_newer_version_is_called_untested() -> None:
    for version in (OLDEST_TESTED, "5.23.0", NEWEST_TESTED, NEWEST_TESTED + ".dev0", "5.24.0rc1"):
        assert beyond_tested(version) is None
    for version in ("5.24.1", "5.25.0.dev0", "5.100.0", "6.0.0"):
        assert f"transformers {version} is newer than {NEWEST_TESTED}" in str(beyond_tested(version))


def test_compression_says_once_that_a_version_is_untested(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llava_next")
    inputs = batch(model, [Scene((("image", (56, 56)),))])
    monkeypatch.setattr(errors, "_WARNED", set())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    monkeypatch.setattr(session.transformers, "__version__", "5.99.0")
    with pytest.warns(UserWarning, match="transformers 5.99.0 is newer than"):
        first = compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    assert first["input_ids"].equal(second["input_ids"])


def test_doctor_says_that_a_version_is_untested(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "newest that was tested" not in packages.package("transformers", ">=5.18,<6")["detail"]
    monkeypatch.setattr(packages, "version", lambda name: "5.99.0")
    found = packages.package("transformers", ">=5.18,<6")
    assert found["status"] == "ok" and found["detail"].endswith(
        f"newer than {NEWEST_TESTED}, the newest that was tested"
    )
