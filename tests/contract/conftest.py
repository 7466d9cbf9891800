"""What contract tests of families with axes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mrope_family import MropeAdapter, served_by


@pytest.fixture
def mrope_adapter() -> Iterator[None]:
    """The third party's adapter serves its families as long as a test runs."""
    with served_by(MropeAdapter):
        yield
