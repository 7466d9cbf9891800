"""Benchmark of latency and memory: named shapes or checkpoints, compressed and uncompressed in turns."""

from vidcompress.tools.benchmark.plan import BenchPlan as BenchPlan
from vidcompress.tools.benchmark.run import run_bench as run_bench
from vidcompress.tools.benchmark.summary import summarise as summarise

__all__ = ["BenchPlan", "run_bench", "summarise"]
