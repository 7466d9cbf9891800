"""Trial of one mutant, in a copy of the checkout."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .table import Mutant

SCRIPTS = Path(__file__).resolve().parent.parent
OWN_TEST = (
    "tests/unit/scripts/test_mutants.py"  # says that every mutant applies, which is not so in a mutated copy
)
LEFT_OUT_AT_ROOT = shutil.ignore_patterns(".git", ".venv*", ".transformers-*", "runs", "dist", "build")
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis", "*.egg-info")


def left_out(root: Path) -> Callable[[str, list[str]], set[str]]:
    """What of a checkout is not copied; the package has a folder `runs` of its own, which is."""

    def of_folder(folder: str, names: list[str]) -> set[str]:
        at_root = LEFT_OUT_AT_ROOT(folder, names) if Path(folder) == root else set()
        return {*at_root, *LEFT_OUT(folder, names)}

    return of_folder


class BrokenRun(Exception):
    """A run says nothing about a mutant: the tests fail without it, or could not be started."""


@dataclass(frozen=True)
class Outcome:
    """What one run of pytest said.

    Attributes:
        status: "passed", "failed", "hung" or "broken".
        test: the first test that failed, if one did.
        seconds: wall time.
        tail: the end of what was printed.
    """

    status: str
    test: str | None
    seconds: float
    tail: str


@dataclass(frozen=True)
class Result:
    """What became of one mutant.

    Attributes:
        name, kind, file, why: as in the table.
        digest: of the mutation.
        caught: whether a test noticed.
        by: the test, or a word on the time limit; None when it survived.
        seconds: wall time of all its runs.
    """

    name: str
    kind: str
    file: str
    why: str
    digest: str
    caught: bool
    by: str | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)


def fingerprint(root: Path) -> str:
    """Changes when the package, a test or a script changes, so that old results are not taken for new ones."""
    digest = hashlib.sha256()
    for folder in ("vidcompress", "tests", "scripts"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


class Workspace:
    """A copy of the checkout that tests can be run in.

    Args:
        root: the checkout.
        folder: an empty folder for the copy.
        package: name of the package that must come from the copy.
    """

    def __init__(self, root: Path, folder: Path, package: str = "vidcompress") -> None:
        self.folder = folder / "copy"
        shutil.copytree(root, self.folder, ignore=left_out(root), symlinks=True)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        offline = dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"), "1")
        paths = os.pathsep.join(map(str, (self.folder, SCRIPTS)))
        # Byte code is matched to its source by second and size, so a mutant could run as the code before it.
        self._env = {**os.environ, **threads, **offline, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        where = self._run([sys.executable, "-c", f"import {package}; print({package}.__file__)"], 60)[
            1
        ].strip()
        if not where.startswith(str(self.folder)):
            raise BrokenRun(f"{package} is imported from {where}, not from the copy in {self.folder}")

    def tests(self, paths: list[str], limit: float, *options: str) -> Outcome:
        """Run tests until the first failure.

        Args:
            paths: test files or ids, from the root.
            limit: seconds.
            *options: further ones of pytest.
        """
        start = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--no-header", "--tb=line"]
        command += ["-p", "no:cacheprovider", "-p", "mutation.quick", *options, *paths]
        code, printed = self._run(command, limit)
        seconds, tail = round(time.monotonic() - start, 1), printed[-3000:]
        found = re.search(r"^(?:FAILED|ERROR) (\S+::.*?)(?: - .*)?$", printed, flags=re.MULTILINE)
        if code is None:
            return Outcome("hung", None, seconds, tail)
        if code == 0:
            return Outcome("passed", None, seconds, tail)
        if code == 1 and found:
            return Outcome("failed", found[1], seconds, tail)
        return Outcome("broken", None, seconds, tail)

    def _run(self, command: list[str], limit: float) -> tuple[int | None, str]:
        """Exit code (None past the limit) and output; nothing that was started outlives the call."""
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=limit)
            return process.returncode, printed
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def baseline(self, files: list[str], limit: float) -> float:
        """Seconds that the tests take on the code as it is.

        Raises:
            BrokenRun: they do not pass.
        """
        outcome = self.tests(files, limit)
        if outcome.status != "passed":
            raise BrokenRun(f"the tests do not pass without any mutant ({outcome.status}):\n{outcome.tail}")
        return outcome.seconds

    def attempt(self, mutant: Mutant, limit: float, suite_limit: float, suite_jobs: int = 2) -> Result:
        """Make the mistake, run its likely tests, then the whole suite, and undo it.

        Args:
            mutant: of the table.
            limit: seconds for the likely tests; taking longer counts as caught.
            suite_limit: seconds for the rest; taking longer counts as survived, for it may merely be slow.
            suite_jobs: processes for the whole suite.

        Raises:
            BrokenRun: the mutated package cannot be imported, or the test that failed fails without it too.
        """
        path = self.folder / mutant.file
        original = path.read_text(encoding="utf-8")
        path.write_text(mutant.mutated(original), encoding="utf-8")
        try:
            outcome = self.tests(list(mutant.tests), limit)
            seconds, by = outcome.seconds, outcome.test
            if outcome.status == "hung":
                by = f"no end within {limit:.0f} s of {' '.join(mutant.tests)}"
            elif outcome.status == "passed":
                ignored = [f"--ignore={test}" for test in (OWN_TEST, *mutant.tests)]
                spread = ["-n", str(suite_jobs), "--dist", "worksteal"] if suite_jobs > 1 else []
                outcome = self.tests(["tests"], suite_limit, *ignored, *spread)
                seconds, by = seconds + outcome.seconds, outcome.test
        finally:
            path.write_text(original, encoding="utf-8")
        if outcome.status == "broken":
            raise BrokenRun(f"mutant {mutant.name!r}: the tests cannot be run:\n{outcome.tail}")
        if by is not None and outcome.status == "failed" and by.split("::")[0] not in mutant.tests:
            if self.tests([by], limit).status != "passed":
                raise BrokenRun(f"{by} fails without mutant {mutant.name!r} too; mend it first")
        return Result(
            mutant.name,
            mutant.kind,
            mutant.file,
            mutant.why,
            mutant.digest,
            by is not None,
            by,
            round(seconds, 1),
        )
