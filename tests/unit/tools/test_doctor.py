"""The doctor's parts: the isolated worker, the probes, and what becomes of what they find."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vidcompress.errors import ArgumentError
from vidcompress.media import MediaError
from vidcompress.media.video import backends as media_backends
from vidcompress.tools.doctor import Check, Diagnosis, decoders, devices, packages, run
from vidcompress.tools.doctor.probe_child import call, describe
from vidcompress.tools.doctor.probe_worker import ProbeError, ProbeWorker


@pytest.fixture(scope="module")
def worker() -> Iterator[ProbeWorker]:
    with ProbeWorker(20) as isolated:
        yield isolated


def test_results_come_back_and_noise_does_not(worker: ProbeWorker) -> None:
    values = {"number": 1, "text": "ä\n", "nothing": None}
    assert worker.call("probes:echo", **values) == values
    assert worker.call("probes:noise") == "quiet"
    first = worker.call("probes:process")
    with pytest.raises(ProbeError, match="^RuntimeError: out of luck$"):
        worker.call("probes:fail")
    assert worker.call("probes:process") == first  # an exception costs no process
    for function in ("nowhere:f", "probes:nothing", "probes:unspeakable"):
        with pytest.raises(ProbeError):
            worker.call(function)


def test_a_crash_is_reported_and_the_next_call_works(worker: ProbeWorker) -> None:
    before = worker.call("probes:process")
    with pytest.raises(ProbeError, match=r"crashed \(SIGABRT\): about to crash|crashed \(SIGABRT\)"):
        worker.call("probes:crash")
    with pytest.raises(ProbeError, match="died with exit code 3"):
        worker.call("probes:leave")
    assert worker.call("probes:process") != before


def test_a_hang_ends_in_time() -> None:
    with ProbeWorker(1.5) as isolated:
        start = time.monotonic()
        with pytest.raises(ProbeError, match=r"took longer than 1.5 s and was stopped"):
            isolated.call("probes:hang")
        assert time.monotonic() - start < 10
        assert isolated._process is None


def test_errors_in_one_line() -> None:
    assert describe(ArgumentError("a\n b")) == "a b"
    assert describe(KeyError()) == "KeyError: KeyError"
    assert len(describe(ValueError("x" * 10_000))) == 400
    assert call("probes:echo", {"a": 1}) == {"result": {"a": 1}}


def test_a_diagnosis_knows_what_matters() -> None:
    fine = Check("t", "a", "ok", "1.0", needed=True)
    absent, broken = Check("t", "b", "missing"), Check("u", "c", "failed", "no luck")
    assert Diagnosis((fine, absent, broken)).ok
    assert Diagnosis((fine,)).summary() == ["all that is needed works"]
    for status in ("missing", "failed"):
        wrong = Check("u", "c", status, "no luck", needed=True)  # type: ignore[arg-type]
        diagnosis = Diagnosis((fine, wrong))
        assert not diagnosis.ok and diagnosis.summary() == ["broken: u, c: no luck"]
        assert diagnosis.to_dict()["problems"] == ["c: no luck"]
        assert f"  {status.upper():<8} c" in str(diagnosis)
    assert [check.name for check in Diagnosis((fine, broken)).of("u")] == ["c"]


def test_the_wanted_packages_are_those_of_the_project() -> None:
    entries = {entry["name"]: entry for entry in packages.requirements()}
    assert entries["torch"] == {"name": "torch", "versions": ">=2.6", "needed": True}
    assert entries["python"]["versions"] == ">=3.11"
    assert not entries["decord"]["needed"] and not entries["lmms-eval"]["needed"]
    assert {"torchcodec", "bitsandbytes", "flash-attn"} <= set(entries)
    assert not {"pytest", "ruff", "mypy"} & set(entries)
    assert len(entries) == len(packages.requirements())


def test_packages_are_measured_against_their_range(monkeypatch: pytest.MonkeyPatch) -> None:
    assert packages.package("torch", ">=2.6")["status"] == "ok"
    assert packages.package("torch", ">=2.6")["data"]["version"] == torch.__version__
    late = packages.package("numpy", ">=99")
    assert late["status"] == "failed" and "is outside >=99" in late["detail"]
    assert packages.package("no-such-package", ">=1")["detail"] == "not installed (wanted >=1)"
    assert packages.package("python", ">=3.11")["data"]["version"].count(".") == 2


def test_a_package_that_cannot_be_imported_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "cracked-1.5.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: cracked\nVersion: 1.5\n")
    (tmp_path / "cracked.py").write_text("raise OSError('libcracked.so:\\n undefined symbol')\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = packages.package("cracked", ">=1")
    assert found["status"] == "failed"
    assert found["detail"] == "1.5 cannot be imported: OSError: libcracked.so: undefined symbol"


@pytest.mark.parametrize("codec", decoders.CODECS)
def test_pyav_decodes_what_it_encodes(codec: str) -> None:
    found = decoders.decode("pyav", codec)
    assert found["status"] == ("ok" if "not tried" not in found["detail"] else "missing"), found


@pytest.mark.parametrize("kind", decoders.formats("pillow"))
def test_pillow_decodes_animations(kind: str) -> None:
    found = decoders.decode("pillow", kind)
    assert found["status"] == ("ok" if "not tried" not in found["detail"] else "missing"), found


class _Grey:
    """A reader that returns frames of one grey, whatever the clip."""

    def read(self, clip: Any, request: Any) -> Any:
        from vidcompress.media import VideoFrames

        return VideoFrames(
            torch.full((3, 4, 4, 3), 40).byte(), (0.0, 0.1, 0.2), 1.0, 9.0, 9, "grey", clip.name
        )


class _Unwilling:
    def read(self, clip: Any, request: Any) -> Any:
        raise MediaError(f"video={clip.name!r}: cannot; use another")


def test_readers_that_do_not_work_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decoders.backends() and "auto" not in decoders.backends()
    monkeypatch.setitem(media_backends._BACKENDS, "grey", _Grey)
    monkeypatch.setitem(media_backends._BACKENDS, "unwilling", _Unwilling)
    found = decoders.decode("grey", "h264")
    assert found["status"] == "failed" and "wrong frames: grey levels [40, 120, 200]" in found["detail"]
    assert decoders.decode("unwilling", "h264") == {"status": "failed", "detail": "cannot; use another"}
    monkeypatch.setitem(decoders._PACKAGES, "unwilling", "no_such_package")
    assert decoders.decode("unwilling", "h264")["status"] == "missing"


def test_devices_are_compared_with_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.devices()[0]["device"] == "cpu"
    for dtype in devices.DTYPES:
        assert devices.compute("cpu", dtype)["status"] == "ok"
    right = torch.nn.functional.scaled_dot_product_attention

    def wrong(query: Any, key: Any, value: Any) -> Any:
        return right(query, key, value) * (1.0 if query.dtype == torch.float64 else 1.01)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", wrong)
    found = devices.compute("cpu", "float32")
    assert (
        found["status"] == "failed" and "'attention'" in found["detail"] and "'matmul'" not in found["detail"]
    )


def test_attention_is_compared_with_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    found = devices.attention("cpu", "sdpa")
    assert found["status"] == "ok" and "agrees with eager" in found["detail"]
    right = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: 1.2 * right(*a, **k)
    )
    assert devices.attention("cpu", "sdpa")["status"] == "failed"
    assert devices.attention("cpu", "flash_attention_2")["status"] == "missing"


def test_entry_points_of_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = tmp_path / "guest-2.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 2.0\n")
    (facts / "entry_points.txt").write_text("[vidcompress.methods]\nlame = guest_lame\ncalm = guest_calm\n")
    (tmp_path / "guest_lame.py").write_text("raise ImportError('needs a crutch')\n")
    (tmp_path / "guest_calm.py").write_text(
        "from dataclasses import dataclass\n"
        "from vidcompress import register_method\n"
        "from vidcompress.methods.controls import Uniform\n"
        "@register_method\n@dataclass(frozen=True)\n"
        "class Calm(Uniform):\n    name = 'calm'\n    summary = 'calm'\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with ProbeWorker(60) as isolated:
        found = {entry["name"]: entry for entry in isolated.call("vidcompress.tools.doctor.plugins:plugins")}
    assert found["calm"]["package"] == found["lame"]["package"] == "guest 2.0"
    assert (found["calm"]["error"], found["calm"]["kind"], found["calm"]["module"]) == (
        None,
        "method",
        "guest_calm",
    )
    assert "needs a crutch" in found["lame"]["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timeout_s": 0}, "timeout_s=0: must be a number of seconds above 0"),
        ({"timeout_s": True}, "timeout_s=True"),
        ({"images": ["a.png"]}, r"images=\['a.png'\]: only a model can say"),
        ({"video": "a.mp4"}, "video='a.mp4': only a model can say"),
        ({"frames": 4}, "frames=4: only a model can say"),
        ({"model": "tiny-onevison"}, "did you mean 'tiny-onevision'"),
        ({"model": "tiny-next", "size": (0, 5)}, r"size=\(0, 5\): must be \(height, width\)"),
        ({"model": "tiny-next", "size": (10**5, 10**5)}, "at most [0-9]+ in all"),
        ({"model": "tiny-next", "size": (5,)}, r"size=\(5,\): must be"),
        (
            {"model": "tiny-next", "size": (5, 5), "images": ["a.png"]},
            "size=.* and images exclude each other",
        ),
        ({"model": "tiny-next", "frames": 0}, "num_frames=0: must be from 1"),
        ({"model": "tiny-next", "fps": 2.0}, "fps=2.0: needs video="),
        ({"model": "tiny-next", "images": ["a.png"]}, "image='a.png': no such file"),
        ({"model": "tiny-next", "video": "a.mp4"}, "video='a.mp4': no such file"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ArgumentError, MediaError), match=message):
        run(**arguments)
