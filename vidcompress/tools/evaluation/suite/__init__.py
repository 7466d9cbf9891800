"""The offline suite: benchmarks that are drawn from a seed, as folders and as tasks of lmms-eval.

Nothing is downloaded, no model was trained on it, and no module here needs torch. `vidcompress suite make NAME --out
FOLDER` writes a folder for `vidcompress eval --data FOLDER`; `--include_path "$(vidcompress suite path)"` adds the
tasks to lmms-eval.
"""

from vidcompress.tools.evaluation.suite.benchmark import BENCHMARKS, Benchmark, Entry, Media, benchmark_of
from vidcompress.tools.evaluation.suite.folder import FinishedFolder, make, tasks_folder

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Entry",
    "FinishedFolder",
    "Media",
    "benchmark_of",
    "make",
    "tasks_folder",
]
