"""`vidcompress methods` and `vidcompress models`: lists of methods, models and families."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcompress.cli.options import Json
from vidcompress.cli.show import show
from vidcompress.table import Table, terminal_width


def methods(
    name: Annotated[
        str | None, typer.Argument(help="Print the card of this one.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the compression methods with their options, or print the card of one."""
    if name is not None:
        _print_card(name, as_json)
        return
    entries, broken = method_entries(), broken_entries("methods")
    if as_json:
        typer.echo(json.dumps({"methods": entries, "broken": broken}))
        return
    for entry in entries:
        show(f"{entry['name']:<14} {' and '.join(entry['modalities'])}", style="bold", hanging=15)
        show(f"    {entry['summary']}", hanging=4)
        if entry["options"]:
            pairs = ", ".join(f"{name}={value}" for name, value in entry["options"].items())
            show(f"    options: {pairs}", style="dim", hanging=13)
        if entry["stream"]:
            show(f"    stream: {entry['stream']}", style="dim", hanging=12)
        for note in filter(None, (entry["package"] and f"from {entry['package']}", entry["card_problem"])):
            show(f"    {note}", style="dim", hanging=4)
    _print_broken(broken)


def _print_card(name: str, as_json: bool) -> None:
    from vidcompress.core.method import METHODS
    from vidcompress.errors import ArgumentError
    from vidcompress.methods.card import card_of

    try:
        cls = METHODS.get(name)
    except KeyError as error:
        raise ArgumentError(error.args[0]) from None
    card = card_of(cls)
    if as_json:
        entry = next(entry for entry in method_entries() if entry["name"] == name)
        typer.echo(json.dumps({**entry, "card": None if card is None else dataclasses.asdict(card)}))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    if card is None:
        show(f"{name}: {cls.summary}; it has no card")
        return
    Console(highlight=False, width=terminal_width()).print(Markdown(card.text))
    defaults = f"positions {_plain(cls.positions)}, mass {cls.mass}"
    for label, value in (
        ("by default", defaults),
        ("paper", card.paper),
        ("code", card.code),
        ("needs", card.needs),
        ("stream", card.stream),
    ):
        if value:
            show(f"{label}: {value}", style="dim", hanging=7)


def models(
    every_class: Annotated[
        bool,
        typer.Option(
            "--all",
            help="List also the classes of transformers that the generic adapter serves, refuses, or has not met.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the embedded models and the model families that can be loaded."""
    embedded, families, broken = embedded_entries(), family_entries(), broken_entries("adapters")
    others = class_entries()
    if as_json:
        entry = {"embedded": embedded, "families": families, "classes": others, "broken": broken}
        typer.echo(json.dumps(entry))
        return
    _table(
        ("embedded model", "family", "takes", "size"),
        [
            (
                entry["name"],
                entry["model_type"],
                " ".join(entry["modalities"]),
                f"{entry['megabytes']:.1f} MB",
            )
            for entry in embedded
        ],
    )
    _table(
        ("family (model_type)", "takes", "adapter", "from"),
        [
            (
                entry["model_type"],
                " ".join(entry["modalities"]),
                entry["adapter"],
                entry["package"] or "vidcompress",
            )
            for entry in families
        ],
    )
    _print_broken(broken)
    _print_classes(others, every_class)


def _print_classes(entries: Sequence[dict[str, Any]], every_class: bool) -> None:
    """Print the classes that have no adapter of their own, or how many there are."""
    from vidcompress.adapters.generic.verdicts import judged_with

    for verdict, says in (
        ("served", "class served by the generic adapter"),
        ("refused", "class it refuses"),
        ("not run", "class it was not run on"),
    ):
        rows = [entry for entry in entries if entry["verdict"] == verdict]
        if every_class:
            last = "takes" if verdict == "served" else "reason"
            _table(
                (says, "model_type", last),
                [(e["class"], e["model_type"], " ".join(e["modalities"]) or e["reason"]) for e in rows],
            )
    served = sum(entry["verdict"] == "served" for entry in entries)
    show(
        f"{served} more classes of transformers {judged_with()} are served by the generic adapter, with methods that "
        "read features only" + ("" if every_class else "; --all lists them"),
        style="dim",
    )


def class_entries() -> list[dict[str, Any]]:
    """Return class, model type, verdict, modalities and reason of every class of transformers without an own adapter.

    The verdicts are those of the generic adapter at toy size, see `vidcompress.adapters.generic.verdicts`.
    """
    from vidcompress.adapters.base import ADAPTERS
    from vidcompress.adapters.generic.verdicts import known_verdicts

    own = set(ADAPTERS.names())
    return [
        {
            "class": one.name,
            "model_type": one.model_type,
            "verdict": one.verdict,
            "modalities": list(one.served),
            "reason": one.reason,
        }
        for one in known_verdicts()
        if one.model_type not in own
    ]


def method_entries() -> list[dict[str, Any]]:
    """Return an entry for every registered method, by name.

    Returns:
        Dicts of name, summary (the effect its card states, else the class's own), paper, `stream` of its card,
        modalities, options with their defaults, default `positions` and `mass`, its third-party package or None, and
        the error of its card or None.
    """
    from vidcompress.core.method import METHODS
    from vidcompress.errors import ArgumentError
    from vidcompress.methods.card import card_of

    entries = []
    for name in METHODS.names():
        cls = METHODS.get(name)
        problem, card = None, None
        try:
            card = card_of(cls)
        except ArgumentError as error:
            problem = str(error)
        method = cls()
        entries.append(
            {
                "name": name,
                "summary": card.effect if card else cls.summary,
                "paper": card.paper if card else "",
                "stream": card.stream if card else "",
                "modalities": sorted(cls.modalities),
                "options": {
                    f.name: _plain(getattr(method, f.name)) for f in dataclasses.fields(cls) if f.init
                },
                "positions": _plain(cls.positions),
                "mass": cls.mass,
                "package": METHODS.package(name),
                "card_problem": problem,
            }
        )
    return entries


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def family_entries() -> list[dict[str, Any]]:
    """Return model type, adapter, modalities and third-party package of every family that an adapter serves."""
    from vidcompress.adapters.base import ADAPTERS

    entries = []
    for model_type in ADAPTERS.names():
        cls = ADAPTERS.get(model_type)
        taken = (("image", cls.image_keys), ("video", cls.video_keys))
        entries.append(
            {
                "model_type": model_type,
                "adapter": cls.__name__,
                "modalities": [m for m, keys in taken if keys],
                "package": ADAPTERS.package(model_type),
            }
        )
    return entries


def broken_entries(group: str) -> list[dict[str, str]]:
    """Return name, value, package and error of the third-party entry points that could not be used.

    Args:
        group: "methods" or "adapters".
    """
    from vidcompress.adapters.base import ADAPTERS
    from vidcompress.core.method import METHODS
    from vidcompress.registry import Registry

    registries: dict[str, Registry[Any]] = {"methods": METHODS, "adapters": ADAPTERS}
    registry = registries[group]
    registry.names()
    return [dataclasses.asdict(plugin) for plugin in registry.broken]


def _print_broken(broken: Sequence[dict[str, str]]) -> None:
    for entry in broken:
        show(f"{entry['name']} is broken and was left out", style="bold")
        show(f"    {entry['value']}, from {entry['package']}: {entry['reason']}", hanging=4)


def embedded_entries() -> list[dict[str, Any]]:
    """Return name, model type, modalities, size and folder of the checkpoints that come with the package."""
    from vidcompress.loading.resources import embedded_models

    takes = {entry["model_type"]: entry["modalities"] for entry in family_entries()}
    entries = []
    for name, folder in embedded_models().items():
        model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
        entries.append(
            {
                "name": name,
                "model_type": model_type,
                "modalities": takes.get(model_type, []),
                "megabytes": round(_size(folder) / 1e6, 2),
                "path": str(folder),
            }
        )
    return entries


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table of words, with an empty line below it."""
    show(Table.of_lines(header, rows, keys=len(header), notes=[""]) if rows else f"no {header[0]}")
