"""Latency and memory, measured: real shapes or real checkpoints, compressed and uncompressed in turns."""

from .plan import BenchPlan as BenchPlan
from .run import run_bench as run_bench
from .summary import summarise as summarise

__all__ = ["BenchPlan", "run_bench", "summarise"]
