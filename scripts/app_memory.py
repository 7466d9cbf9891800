"""Ask the app 200 questions through its server, as a browser does, and print its memory every 20.

python scripts/app_memory.py --questions 200

The server is a process of its own, with a picture and a clip in turns, a new session every ten questions, and three
methods, so that every part of the page is filled. Prints resident memory in MiB, and exits with 1 where the second half
grew by more than the limit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from gradio_client import Client, handle_file

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ASKED = (
    (EXAMPLES / "scene.png", "where is the white square?"),
    (EXAMPLES / "clip.mp4", "what digit is shown?"),
)
EVERY, SESSION = 20, 10
METHODS = ["globalcom2", "random", "fastv"]


def resident(process: int) -> float:
    """Resident memory of a process in MiB."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


def main() -> None:
    """Run the server and ask."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--limit", type=float, default=15.0, help="MiB that the second half may grow by")
    given = parser.parse_args()
    words = [sys.executable, "-m", "vidcompress", "app", "--max-new-tokens", "8"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ}) as server:
        assert server.stderr is not None
        try:
            url = next(line for line in server.stderr if line.startswith("http")).split()[0]
            seen: list[float] = []
            client = Client(url, verbose=False, analytics_enabled=False)
            for number in range(given.questions):
                if number and number % SESSION == 0:
                    client.close()
                    client = Client(url, verbose=False, analytics_enabled=False)
                path, question = ASKED[number % len(ASKED)]
                status, *_ = client.predict(
                    handle_file(str(path)), question, METHODS, "share", 0.5, 64, api_name="/ask"
                )
                assert "4 answers." in status, status
                if (number + 1) % EVERY == 0:
                    seen.append(resident(server.pid))
                    print(f"{number + 1:4d} questions: {seen[-1]:7.1f} MiB", flush=True)
            client.close()
        finally:
            server.terminate()
    grown = seen[-1] - seen[len(seen) // 2 - 1]
    print(f"second half: {grown:+.1f} MiB")
    sys.exit(grown > given.limit)


if __name__ == "__main__":
    main()
