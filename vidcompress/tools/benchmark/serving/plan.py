"""Plan of a benchmark of servers: the servers, their rows, the traffic, and how often it is repeated."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vidcompress.checks import positive, whole_number, word
from vidcompress.core.budget import Budget
from vidcompress.errors import ArgumentError, shown
from vidcompress.tools.benchmark.plan import MOST_NEW_TOKENS, MOST_PIXELS, MOST_REQUESTS, MOST_TEXT

STOCK, COMPRESSED = "stock", "vidcompress"
"""Names of servers: the first compresses nothing and is asked for nothing, which ratios are against."""
_NAMED = re.compile(r"([A-Za-z][\w.-]*)=(https?://.*)")
_URL = re.compile(r"https?://[^\s/]+(/\S*)?")


@dataclass(frozen=True)
class ServerRow:
    """Row of the table: a server, and what its requests ask for.

    Attributes:
        server: name. url: address. ratio: retention ratio that each request asks for; None asks for nothing.
    """

    server: str
    url: str
    ratio: float | None = None

    @property
    def key(self) -> str:
        """Name of the row."""
        return self.server if self.ratio is None else f"{self.server} {self.ratio:g}"

    @property
    def extra(self) -> dict[str, Any]:
        """What its requests hold beside the traffic: vLLM hands `mm_processor_kwargs` to the model's processor."""
        return {} if self.ratio is None else {"mm_processor_kwargs": {"retention_ratio": self.ratio}}


@dataclass(frozen=True)
class ServePlan:
    """Plan of a benchmark of servers, checked on construction.

    Attributes:
        serve: addresses, as `http://host:port` or `name=http://host:port`. Without names the first of two is `stock`,
            which is asked for nothing, and the other `vidcompress`; one alone is asked for all tokens instead.
        retention_ratios: that the requests to a compressing server ask for, one row each.
        size: (width, height) of the picture of each request, in pixels.
        text_tokens: words of each question. new_tokens: length of each answer.
        batch_sizes: requests at once.
        requests: of a row in a round. rounds: repetitions, rows in turns. warmup: requests of every row before these.
        seed: of pictures and words; every round has others, and all rows of a round the same.
        timeout: seconds that a request may take.

    Raises:
        ArgumentError: naming the argument.
    """

    serve: Sequence[str]
    retention_ratios: Sequence[float | str] = (0.25, 0.1)
    size: tuple[int, int] = (224, 224)
    text_tokens: int = 40
    new_tokens: int = 16
    batch_sizes: Sequence[int] = (1, 4)
    requests: int = 10
    rounds: int = 3
    warmup: int = 1
    seed: int = 0
    timeout: float = 600.0

    def __post_init__(self) -> None:
        for name in ("serve", "retention_ratios", "batch_sizes"):
            if not isinstance(getattr(self, name), (list, tuple)) or not getattr(self, name):
                raise ArgumentError(f"{name}={shown(getattr(self, name))}: must be a list that is not empty")
        for ratio in self.retention_ratios:
            Budget(ratio)
        if not isinstance(self.size, (list, tuple)) or len(self.size) != 2:
            raise ArgumentError(f"size={shown(self.size)}: must be (width, height) in pixels")
        for side in self.size:
            whole_number("size", side, most=MOST_PIXELS)
        for count in self.batch_sizes:
            whole_number("batch_sizes", count, most=MOST_REQUESTS)
        whole_number("text_tokens", self.text_tokens, least=1, most=MOST_TEXT)
        whole_number("new_tokens", self.new_tokens, most=MOST_NEW_TOKENS)
        for name, least in (("requests", 1), ("rounds", 1), ("warmup", 0), ("seed", 0)):
            whole_number(name, getattr(self, name), least=least, most=2**31 - 1)
        positive("timeout", self.timeout, "seconds")
        names = [name for name, _ in self.servers]
        if len(set(names)) < len(names):
            raise ArgumentError(f"serve={shown(list(self.serve))}: two servers have one name; give others")

    @property
    def servers(self) -> list[tuple[str, str]]:
        """Name and address of each server, stock first."""
        pairs = [_server(text, len(self.serve), number) for number, text in enumerate(self.serve)]
        return sorted(pairs, key=lambda pair: pair[0] != STOCK)

    @property
    def rows(self) -> list[ServerRow]:
        """Rows: the stock server, or one that is asked for all tokens; then each ratio of each other server."""
        ratios = [float(Budget(ratio).ratio or 1) for ratio in self.retention_ratios]
        rows = [ServerRow(name, url) for name, url in self.servers if name == STOCK]
        ratios = ratios if rows else sorted({1.0, *ratios}, reverse=True)
        for name, url in self.servers:
            rows += [ServerRow(name, url, ratio) for ratio in ratios if name != STOCK]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON types."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        lists = {
            name: [str(one) if name == "retention_ratios" else one for one in fields[name]]
            for name in ("serve", "retention_ratios", "size", "batch_sizes")
        }
        return {**fields, **lists}


def is_address(text: str) -> bool:
    """Whether a value of `serve` is the address of a server, named or not, rather than a model."""
    return "://" in text


def _server(text: Any, count: int, number: int) -> tuple[str, str]:
    word("serve", text, "http://127.0.0.1:8000")
    named = _NAMED.fullmatch(text)
    name, url = (named[1], named[2]) if named else ("", text)
    if not _URL.fullmatch(url):
        raise ArgumentError(
            f"serve={shown(text)}: must be http://HOST:PORT or NAME=http://HOST:PORT, or a model to be served"
        )
    if not name and count > 2:
        raise ArgumentError(
            f"serve={shown(text)}: needs a name, as in NAME={text}, where there are more than two"
        )
    name = name or (COMPRESSED if count == 1 or number else STOCK)
    return name, url.rstrip("/").removesuffix("/v1")
