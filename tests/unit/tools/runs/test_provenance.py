"""The command that a result names is one that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidcompress.tools.runs.provenance import provenance


@pytest.mark.parametrize(
    ("started", "named"),
    [
        ("vidcompress/__main__.py", "python -m vidcompress bench --sizes 64x64"),
        (".venv/bin/vidcompress", "python -m vidcompress bench --sizes 64x64"),
        ("Scripts/vidcompress.exe", "python -m vidcompress bench --sizes 64x64"),
        ("tools/vidcompress.py", "python tools/vidcompress.py bench --sizes 64x64"),
        ("scripts/bench_cpu.py", "python scripts/bench_cpu.py bench --sizes 64x64"),
    ],
)
def test_a_package_is_started_by_its_name(
    started: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [str(tmp_path / started), "bench", "--sizes", "64x64"])
    assert provenance(tmp_path)["command"] == named
