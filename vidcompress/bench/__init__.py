"""Latency and memory, measured: real shapes or real checkpoints, compressed and uncompressed in turns."""

from vidcompress.bench.plan import BenchPlan as BenchPlan
from vidcompress.bench.run import run_bench as run_bench
from vidcompress.bench.summary import summarise as summarise

__all__ = ["BenchPlan", "run_bench", "summarise"]
