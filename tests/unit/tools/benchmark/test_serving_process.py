"""Servers that a benchmark starts: none of their processes is left, however the benchmark ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the client of servers needs aiohttp")

from vidcompress.errors import UnsupportedInputError
from vidcompress.tools.benchmark.serving.client import ServerError, served_model
from vidcompress.tools.benchmark.serving.server import running_server, server_commands

STAND_IN = str(Path(__file__).parents[3] / "stand_in_server.py")
BENCH = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
from pathlib import Path
from vidcompress.tools.benchmark.serving import server
server.server_commands = lambda *_: {"stock": sys.argv[1:4] + [sys.argv[4]], "ours": sys.argv[1:4] + [sys.argv[5]]}
with server.running_servers("m", folder=Path(sys.argv[6])) as addresses:
    print(*addresses, flush=True)
    input()
"""


def command(way: str, folder: Path) -> list[str]:
    return [sys.executable, STAND_IN, way, str(folder / "children")]


def alive(number: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(folder: Path, name: str = "children") -> bool:
    numbers = [int(number) for number in (folder / name).read_text().split()]
    until = time.monotonic() + 10
    while any(map(alive, numbers)) and time.monotonic() < until:
        time.sleep(0.05)
    return len(numbers) == 2 and not any(map(alive, numbers))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_server_and_its_children_are_gone_after_the_block(tmp_path: Path) -> None:
    with running_server(command("good", tmp_path), tmp_path / "log", 60) as url:
        assert served_model(url)["id"] == "stand-in"
        assert all(alive(int(number)) for number in (tmp_path / "children").read_text().split())
    assert gone(tmp_path)
    with (
        pytest.raises(RuntimeError, match="in the block"),
        running_server(command("good", tmp_path), tmp_path / "log", 60),
    ):
        raise RuntimeError("in the block")
    assert gone(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("way", "seconds", "said"),
    [("ends", 60, "ended with code 3"), ("mute", 3, "did not answer in 3 s")],
)
def test_a_server_that_does_not_come_up_is_one_error(
    tmp_path: Path, way: str, seconds: float, said: str
) -> None:
    with (
        pytest.raises(ServerError, match=said) as caught,
        running_server(command(way, tmp_path), tmp_path / "log", seconds),
    ):
        pass
    assert ("no room for the weights" in str(caught.value)) == (way == "ends")
    assert gone(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_benchmark_that_is_ended_leaves_no_server(tmp_path: Path, number: signal.Signals) -> None:
    words = [sys.executable, STAND_IN, "good", str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path)]
    bench = subprocess.Popen(
        [sys.executable, "-c", BENCH, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert bench.stdout is not None
    addresses = bench.stdout.readline().split()
    assert [address.partition(b"=")[0] for address in addresses] == [b"stock", b"ours"]
    bench.send_signal(number)
    assert bench.wait(30) != 0
    bench.communicate()
    assert gone(tmp_path, "one") and gone(tmp_path, "two")


def test_a_model_is_served_only_where_vllm_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidcompress.tools.benchmark.serving.server.find_spec", lambda name: None)
    with pytest.raises(UnsupportedInputError, match=r"serve='m': vLLM is not installed; use pip"):
        server_commands("m", "globalcom2")
    monkeypatch.setattr("vidcompress.tools.benchmark.serving.server.SERVED", False)
    with pytest.raises(UnsupportedInputError, match="started on Linux and macOS only; pass addresses"):
        server_commands("m", "globalcom2")
