"""Benchmark of servers: seeded traffic to OpenAI-compatible ones, compressed against stock in turns, and a forecast."""

from vidcompress.tools.benchmark.serving.forecast import forecast as forecast
from vidcompress.tools.benchmark.serving.plan import ServePlan as ServePlan
from vidcompress.tools.benchmark.serving.run import run_serve as run_serve

__all__ = ["ServePlan", "forecast", "run_serve"]
