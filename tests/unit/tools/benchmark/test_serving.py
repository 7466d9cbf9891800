"""The benchmark of servers against a stand-in whose delays are known, and the words of its forecast."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("aiohttp", reason="the client of servers needs aiohttp")

from stand_in_server import StandIn
from vidcompress.errors import ArgumentError
from vidcompress.tools.benchmark.serving import ServePlan, forecast, run_serve
from vidcompress.tools.benchmark.serving.client import ServerError, drive, served_model
from vidcompress.tools.benchmark.serving.forecast import PAYS, in_words
from vidcompress.tools.benchmark.serving.plan import is_address
from vidcompress.tools.benchmark.serving.summary import summary_of
from vidcompress.tools.benchmark.serving.table import serve_footer, serve_tables
from vidcompress.tools.benchmark.serving.traffic import requests_of

SMALL: dict[str, Any] = {"size": (32, 32), "text_tokens": 5, "new_tokens": 6}
SLACK = 0.06
"""Seconds that a busy machine may add between server and client."""


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn().running() as running:
        yield running


def bodies(count: int, *key: int) -> list[dict[str, Any]]:
    return [{"model": "m", **body} for body in requests_of(key or (0,), count, **SMALL)]


# -- traffic -----------------------------------------------------------------------------------------------------------


def pictures(of: list[dict[str, Any]]) -> list[bytes]:
    urls = [body["messages"][0]["content"][0]["image_url"]["url"] for body in of]
    return [base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in urls]


def test_traffic_follows_from_its_seed_and_no_two_pictures_are_alike() -> None:
    first, again, other = bodies(20, 0, 1, 0), bodies(20, 0, 1, 0), bodies(20, 0, 1, 1)
    assert first == again
    assert len(set(pictures(first) + pictures(other))) == 40
    assert Image.open(io.BytesIO(pictures(first)[0])).size == (32, 32)
    texts = [body["messages"][0]["content"][1]["text"] for body in first]
    assert {len(text.split()) for text in texts} == {5} and len(set(texts)) > 15
    assert all(body["max_tokens"] == 6 and body["ignore_eos"] and body["stream"] for body in first)


# -- client ------------------------------------------------------------------------------------------------------------


def test_times_are_those_of_the_server(server: StandIn) -> None:
    exchanges, took = drive(server.url, bodies(9), 1)
    over: tuple[list[float], list[float]] = ([], [])
    for exchange, (first, rest) in zip(exchanges, server.waits, strict=True):
        assert exchange.error is None and (exchange.prompt_tokens, exchange.new_tokens) == (110, 6)
        assert exchange.first is not None
        assert exchange.first - exchange.sent >= 0.05, "not that of the role, which comes at once"
        over[0].append(exchange.first - exchange.sent - first)
        over[1].append(abs(exchange.ended - exchange.first - rest))
    assert max(map(median, over)) < SLACK
    assert 9 * 0.1 <= took and took == pytest.approx(exchanges[-1].ended, abs=SLACK)
    assert server.most_at_once == 1
    starts = [exchange.sent for exchange in exchanges]
    assert starts == sorted(starts) and starts[1] >= exchanges[0].ended


def test_so_many_requests_are_in_flight_and_no_more(server: StandIn) -> None:
    _, alone = drive(server.url, bodies(8), 1)
    server.most_at_once = 0
    exchanges, took = drive(server.url, bodies(8), 4)
    assert server.most_at_once == 4 and all(exchange.error is None for exchange in exchanges)
    assert took < alone / 2
    drive(server.url, bodies(2), 64)
    assert server.most_at_once == 4, "no more than there are"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("500", "status 500: no room for this request"),
        ("cut", "Cannot|closed|payload|reset|Response"),
        ("garbage", "Expecting property name"),
        ("uncounted", "ended without tokens or without their count"),
        ("said", "out of cache"),
        ("hang", "no answer in time"),
    ],
)
def test_a_request_that_fails_costs_no_other(how: str, said: str) -> None:
    with StandIn(becomes=lambda number: how if number % 3 == 1 else "good").running() as server:
        exchanges, _ = drive(server.url, bodies(6), 2, seconds=1.0)
    failed = [exchange for exchange in exchanges if exchange.error is not None]
    assert len(failed) == 2 and len(exchanges) == 6
    for exchange in failed:
        assert exchange.error is not None and re.search(said, exchange.error), exchange.error
        assert exchange.new_tokens == 0 and exchange.ended > exchange.sent
    assert all(exchange.new_tokens == 6 for exchange in exchanges if exchange.error is None)


def test_a_server_that_is_not_there_is_one_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ServerError, match=r"cannot be reached \(.*\); start the server"):
        served_model(url, seconds=5)
    exchanges, _ = drive(url, bodies(1), 1)
    assert exchanges[0].error is not None and exchanges[0].first is None


def test_the_model_of_a_server_and_its_version(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served_model(server.url) == {"id": "stand-in", "root": "/nowhere/stand-in", "version": "0.1"}
    with pytest.raises(ServerError, match="cannot be reached"):
        served_model(server.url + "/elsewhere")
    monkeypatch.setattr("vidcompress.tools.benchmark.serving.client.VERSION", "/no-such-page")
    assert served_model(server.url)["version"] is None
    monkeypatch.setattr("vidcompress.tools.benchmark.serving.client.MODELS", "/version")
    with pytest.raises(ServerError, match="lists no model; pass the address of an OpenAI-compatible server"):
        served_model(server.url)


def test_a_key_of_the_server_is_sent(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    drive(server.url, bodies(1), 1)
    monkeypatch.setenv("VLLM_API_KEY", "abc")
    drive(server.url, bodies(1), 1)
    assert "Authorization" not in server.headers[0] and server.headers[1]["Authorization"] == "Bearer abc"


# -- plan --------------------------------------------------------------------------------------------------------------


def test_servers_and_their_rows() -> None:
    both = ServePlan(["http://a:1/v1", "http://b:2/"], (0.25, "0.1"))
    assert both.servers == [("stock", "http://a:1"), ("vidcompress", "http://b:2")]
    assert [row.key for row in both.rows] == ["stock", "vidcompress 0.25", "vidcompress 0.1"]
    assert [row.extra for row in both.rows][:2] == [{}, {"mm_processor_kwargs": {"retention_ratio": 0.25}}]
    one = ServePlan(["http://b:2"], (0.1,))
    assert [row.key for row in one.rows] == ["vidcompress 1", "vidcompress 0.1"]
    named = ServePlan(["evs=http://c:3", "ours=http://b:2", "stock=http://a:1"], (0.1,))
    assert [row.key for row in named.rows] == ["stock", "evs 0.1", "ours 0.1"]
    assert json.loads(json.dumps(both.to_dict()))["serve"] == ["http://a:1/v1", "http://b:2/"]
    assert is_address("stock=http://a:1") and not is_address("owner/name")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"serve": []}, "serve=[]: must be a list that is not empty"),
        ({"serve": "http://a:1"}, "serve='http://a:1': must be a list"),
        ({"serve": ["ftp://a"]}, "serve='ftp://a': must be http://HOST:PORT"),
        ({"serve": ["http://a:1", "http://b:1", "http://c:1"]}, "needs a name, as in NAME=http"),
        ({"serve": ["x=http://a:1", "x=http://b:1"]}, "two servers have one name; give others"),
        ({"retention_ratios": [2]}, "0 < R <= 1, got 2"),
        ({"size": (0, 4)}, "size=0: must be a whole number from 1"),
        ({"size": 4}, "size=4: must be (width, height) in pixels"),
        ({"batch_sizes": [0]}, "batch_sizes=0: must be a whole number from 1"),
        ({"requests": 0}, "requests=0: must be a whole number from 1"),
        ({"rounds": 0}, "rounds=0: must be a whole number from 1"),
        ({"warmup": -1}, "warmup=-1: must be a whole number from 0"),
        ({"new_tokens": 0}, "new_tokens=0: must be a whole number from 1"),
        ({"timeout": 0}, "timeout=0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(said)):
        ServePlan(**{"serve": ["http://a:1"], **given})


# -- run ---------------------------------------------------------------------------------------------------------------


def plan_of(stock: StandIn, ours: StandIn, **more: Any) -> ServePlan:
    given = {"batch_sizes": (1, 4), "requests": 6, "rounds": 3, "warmup": 1, **SMALL, **more}
    return ServePlan([stock.url, ours.url], (0.2,), **given)


def test_figures_are_those_of_the_delays() -> None:
    """The stock one waits 200 ms for its first token, ours 40 ms; both give 6 tokens, 10 ms apart."""
    with StandIn(first=0.2).running() as stock, StandIn(first=0.2).running() as ours:
        result = run_serve(plan_of(stock, ours, warmup=0))
    alone, four = result["groups"]
    for place, (group, at_once) in enumerate(((alone, 1), (four, 4))):
        first, second = (row["summary"] for row in group["rows"])
        for server, summary, wait in ((stock, first, 0.2), (ours, second, 0.04)):
            waits = server.waits[18 * place : 18 * (place + 1)]
            middle, high = (summary["first_token_ms"][name] for name in ("p50", "p95"))
            assert 1e3 * wait <= middle["all"] <= high["all"]
            assert middle["all"] == pytest.approx(1e3 * median(first for first, _ in waits), abs=1e3 * SLACK)
            assert middle["least"] <= middle["median"] <= middle["most"] <= high["most"]
            later = median(rest for _, rest in waits) / 5
            assert summary["token_ms"] == pytest.approx(1e3 * later, rel=0.3)
            assert summary["token_ms"] >= 8
            assert 0 < summary["requests_per_s"]["median"] <= at_once / (wait + 0.05)
            assert summary["tokens_per_s"]["median"] == pytest.approx(6 * summary["requests_per_s"]["median"])
            assert (summary["requests"], summary["errors"]) == (18, 0)
        assert (first["prompt_tokens"], second["prompt_tokens"]) == (110, 30)
        assert 1.3 < second["against"]["requests_per_s"]["median"] < 4
        assert 1.8 < second["against"]["first_token"]["median"] < 6
        assert first["against"] is None
    through = [group["rows"][0]["summary"]["requests_per_s"]["median"] for group in (alone, four)]
    assert through[1] > 1.5 * through[0], "six requests, four at once, take two turns"
    text = "\n".join(table.text() for table in serve_tables(result)) + serve_footer(result)
    assert "1 request at once" in text and "4 requests at once" in text and "vidcompress 0.2" in text
    assert "INCOMPLETE" not in text and "stand-in" in text
    assert result["servers"] == {
        name: {"id": "stand-in", "version": "0.1"} for name in ("stock", "vidcompress")
    }


def test_rows_take_turns_on_the_same_traffic() -> None:
    order: list[str] = []
    with (
        StandIn(
            first=0.01, later=0.001, becomes=lambda n: order.append("stock") or "good"
        ).running() as stock,
        StandIn(first=0.01, later=0.001, becomes=lambda n: order.append("ours") or "good").running() as ours,
    ):
        run_serve(plan_of(stock, ours, batch_sizes=(1,), requests=2, warmup=0))
    assert order == ["stock"] * 2 + ["ours"] * 4 + ["stock"] * 4 + ["ours"] * 2
    assert len(stock.bodies) == len(ours.bodies) == 6
    assert pictures(stock.bodies) == pictures(ours.bodies)
    assert len(set(pictures(stock.bodies))) == 6, "no round has another's pictures"
    assert all("mm_processor_kwargs" not in body for body in stock.bodies)
    assert all(body["mm_processor_kwargs"] == {"retention_ratio": 0.2} for body in ours.bodies)


def test_a_run_goes_on_from_its_journal(tmp_path: Path) -> None:
    journal = tmp_path / "serve.jsonl"
    with (
        StandIn(first=0.01, later=0.001).running() as stock,
        StandIn(first=0.01, later=0.001).running() as ours,
    ):
        plan = plan_of(stock, ours, batch_sizes=(1,), requests=2, warmup=0)
        half = run_serve(plan, journal=journal, seconds=0)
        assert not half["complete"] and half["groups"][0]["rows"][0]["summary"] is None
        assert "INCOMPLETE" in serve_footer(half) and serve_tables(half)[0].text().count("no answer") == 2
        whole = run_serve(plan, journal=journal)
        asked = len(stock.bodies)
        again = run_serve(plan, journal=journal)
        assert len(stock.bodies) == asked == 6
        assert again["groups"] == whole["groups"]
        with pytest.raises(ArgumentError, match="belongs to another run"):
            run_serve(plan_of(stock, ours, seed=1), journal=journal)
    with StandIn().running() as anew, StandIn().running() as other:  # on other ports
        moved = run_serve(plan_of(anew, other, batch_sizes=(1,), requests=2, warmup=0), journal=journal)
        assert moved["groups"] == whole["groups"] and not anew.bodies


def test_errors_are_counted_and_shown_and_are_in_no_figure() -> None:
    with (
        StandIn(first=0.02, later=0.001).running() as stock,
        StandIn(first=0.02, later=0.001, becomes=lambda n: "500" if n % 2 else "good").running() as ours,
    ):
        result = run_serve(plan_of(stock, ours, batch_sizes=(1,), warmup=0))
    first, second = (row["summary"] for row in result["groups"][0]["rows"])
    assert (first["errors"], second["errors"], second["requests"]) == (0, 9, 18)
    text = serve_tables(result)[0].text()
    assert "9 of 18" in text and "9 requests failed, the first one: status 500" in text
    with StandIn(becomes=lambda n: "500").running() as broken, StandIn(first=0.01).running() as stock:
        result = run_serve(plan_of(stock, broken, batch_sizes=(1,), rounds=1, requests=1, warmup=0))
    assert result["groups"][0]["rows"][1]["summary"] is None


def test_percentiles_are_over_the_requests_of_all_rounds() -> None:
    """200 requests that wait 1 to 200 ms, in two rounds of 100 that are not alike."""
    waits = [*range(1, 101)], [*range(101, 201)]
    rounds = [
        {
            "round": number,
            "seconds": 10.0,
            "load": None,
            "exchanges": [
                {
                    "sent": 1.0,
                    "first": 1 + ms / 1e3,
                    "ended": 2.0,
                    "prompt_tokens": 7,
                    "new_tokens": 3,
                    "error": None,
                }
                for ms in each
            ],
        }
        for number, each in enumerate(waits)
    ]
    summary = summary_of(rounds)
    assert summary is not None
    p50, p95 = summary["first_token_ms"]["p50"], summary["first_token_ms"]["p95"]
    assert (p50["all"], p95["all"]) == pytest.approx((100.5, 190.05))
    assert (p50["least"], p50["most"], p95["most"]) == pytest.approx((50.5, 150.5, 195.05))
    assert summary["requests_per_s"] == {"median": 10.0, "least": 10.0, "most": 10.0}
    assert summary["tokens_per_s"]["median"] == 30.0


def test_ratios_are_paired_by_round() -> None:
    """A round that one row lacks is left out of both."""

    def one(number: int, first: float, seconds: float) -> dict[str, Any]:
        exchange = {"sent": 0.0, "first": first, "ended": first + 0.1, "prompt_tokens": 9, "new_tokens": 2}
        return {"round": number, "seconds": seconds, "load": 1.0, "exchanges": [{**exchange, "error": None}]}

    base = [one(0, 0.4, 1.0), one(1, 4.0, 10.0), one(2, 0.4, 1.0)]
    summary = summary_of([one(0, 0.2, 0.5), one(2, 0.1, 0.25)], base)
    assert summary is not None
    assert summary["against"]["first_token"] == pytest.approx({"median": 3.0, "least": 2.0, "most": 4.0})
    assert summary["against"]["requests_per_s"] == pytest.approx({"median": 3.0, "least": 2.0, "most": 4.0})
    assert summary_of([]) is None


# -- forecast ----------------------------------------------------------------------------------------------------------


def test_a_forecast_says_when_it_will_not_pay() -> None:
    plan = ServePlan(
        ["http://a:1", "http://b:2"], (0.25, 0.1), size=(672, 672), batch_sizes=(1, 16), new_tokens=64
    )
    said = forecast(plan, "qwen2.5-vl-7b", devices=["H100"])
    one, many = said["words"]
    assert one.startswith("H100, 1 at once: ") and "decoding dominates" in one and "will not pay" in one
    assert many.startswith("H100, 16 at once: ") and "will not pay" not in many
    rows = {(row["at_once"], row["retention_ratio"]): row for row in said["rows"]}
    assert rows[1, 0.1]["factor"] < PAYS < rows[16, 0.1]["factor"]
    assert rows[16, None]["factor"] == 1.0 and rows[16, 0.1]["factor"] > rows[16, 0.25]["factor"]
    for row in said["rows"]:
        assert row["encode"] + row["prefill"] + row["decode"] == pytest.approx(1.0)
        assert row["fits"]
    assert 0 < said["encoder_share"] < 1 and said["source"].startswith("cost: ")
    assert forecast(plan, "llava-next-13b", devices=["RTX 4090"], method="fastervlm")["words"][0].endswith(
        "does not fit into its memory by the estimate, so no forecast holds"
    )
    with pytest.raises(ArgumentError, match="devices: 'H1000' is none of them"):
        forecast(plan, "qwen2.5-vl-7b", devices=["H1000"])


def test_words_name_what_dominates() -> None:
    whole = {"device": "X", "at_once": 2, "fits": True, "encode": 0.7, "decode": 0.1, "first_token_ms": 10.0}
    less = {"retention_ratio": 0.1, "factor": 1.05, "first_token_ms": 8.0}
    assert "encoding dominates, which is not shortened: compression will not pay" in in_words(whole, less)
    assert "1.05 x the requests per second, the first token 1.25 x as soon" in in_words(whole, less)
    decoding = in_words({**whole, "encode": 0.1, "decode": 0.7}, less)
    assert "decoding dominates, which is hardly shortened" in decoding
    assert "too little is prefill" in in_words({**whole, "encode": 0.4, "decode": 0.45}, less)
    assert "pay" not in in_words(whole, {**less, "factor": 1.1})
