"""Methods with options as one word."""

from __future__ import annotations

import pytest

from vidcompress.core.method_spec import parse_method_spec, split_method_specs, with_argument
from vidcompress.errors import ArgumentError


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("globalcom2", ["globalcom2"]),
        (" random, globalcom2 ,,", ["random", "globalcom2"]),
        ("a:tau=5,alpha=0.3,b", ["a:tau=5,alpha=0.3", "b"]),
        ("a+b:tau=5,c", ["a+b:tau=5", "c"]),
        ("a,tau=5", ["a:tau=5"]),
        ("a:x=1,b:y=2,z=3", ["a:x=1", "b:y=2,z=3"]),
        ("", []),
    ],
)
def test_commas_before_an_option_belong_to_the_label(text: str, labels: list[str]) -> None:
    assert split_method_specs(text) == labels


def test_values_are_read_as_json() -> None:
    name, options = parse_method_spec("m:tau=5,alpha=0.5,flag=true,score=local,empty=")
    assert name == "m"
    assert options == {"tau": 5, "alpha": 0.5, "flag": True, "score": "local", "empty": ""}
    assert parse_method_spec("globalcom2+fastv") == ("globalcom2+fastv", {})


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("m:tau", "must list options as key=value, got 'tau'"),
        ("m:=5", "got '=5'"),
        (
            "m:retention_ratio=0.5",
            "'m:retention_ratio=0.5' sets retention_ratio, which is not an option of a method",
        ),
        ("m:max_tokens=5", "sets max_tokens"),
    ],
)
def test_bad_labels(label: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_method_spec(label)


@pytest.mark.parametrize(
    ("spec", "stated"),
    [
        ("random", "random:view_text=drop"),
        ("random:", "random:view_text=drop"),
        ("globalcom2+fastv:schedule=fit", "globalcom2+fastv:schedule=fit,view_text=drop"),
        ("random:seed=3,", "random:seed=3,view_text=drop"),
        ("random:view_text=keep,seed=3", "random:view_text=keep,seed=3"),
        (" ", " "),
    ],
)
def test_an_argument_is_stated_once(spec: str, stated: str) -> None:
    assert with_argument(spec, "view_text", "drop") == stated
    assert parse_method_spec(stated)[0] == parse_method_spec(spec)[0]
