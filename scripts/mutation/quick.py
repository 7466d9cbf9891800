"""Pytest plugin for mutation tests: property tests draw the same examples every time and report the first failure.

Shrinking an example to its smallest form costs minutes and tells nothing here.
"""

from __future__ import annotations

from hypothesis import Phase, settings

settings.register_profile(
    "mutants", derandomize=True, database=None, phases=(Phase.explicit, Phase.generate), print_blob=False
)
settings.load_profile("mutants")
