"""`vidcompress methods` and `vidcompress models`: what there is to choose from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


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
    entries = method_entries()
    if as_json:
        typer.echo(json.dumps({"methods": entries}))
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for entry in entries:
        console.print(f"[bold]{entry['name']:<12}[/bold] {' and '.join(entry['modalities'])}")
        console.print(f"    {entry['summary']}", markup=False)
        if entry["options"]:
            pairs = ", ".join(f"{name}={value}" for name, value in entry["options"].items())
            console.print(f"    options: {pairs}", style="dim", markup=False)


def _print_card(name: str, as_json: bool) -> None:
    from vidcompress.errors import ArgumentError
    from vidcompress.methods.card import read_card
    from vidcompress.registry import METHODS

    try:
        cls = METHODS.get(name)
    except KeyError as error:
        raise ArgumentError(error.args[0]) from None
    card = read_card(name)
    if as_json:
        entry = next(entry for entry in method_entries() if entry["name"] == name)
        typer.echo(json.dumps({**entry, "card": None if card is None else dataclasses.asdict(card)}))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(highlight=False)
    if card is None:
        console.print(f"{name}: {cls.summary}; it has no card", markup=False)
        return
    console.print(Markdown(card.text))
    for label, value in (("paper", card.paper), ("code", card.code), ("needs", card.needs)):
        if value:
            console.print(f"{label}: {value}", style="dim", markup=False)


def models(as_json: Json = False) -> None:
    """List the embedded models and the model families that can be loaded."""
    embedded, families = embedded_entries(), family_entries()
    if as_json:
        typer.echo(json.dumps({"embedded": embedded, "families": families}))
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
        ("family (model_type)", "takes", "adapter"),
        [(entry["model_type"], " ".join(entry["modalities"]), entry["adapter"]) for entry in families],
    )


def method_entries() -> list[dict[str, Any]]:
    """Return name, summary, modalities and options with their defaults of every registered method, by name."""
    from vidcompress.registry import METHODS

    entries = []
    for name in METHODS.names():
        cls = METHODS.get(name)
        options = {field.name: _default(field) for field in dataclasses.fields(cls) if field.init}
        entries.append(
            {"name": name, "summary": cls.summary, "modalities": sorted(cls.modalities), "options": options}
        )
    return entries


def _default(field: dataclasses.Field[Any]) -> Any:
    value = field.default
    if value is dataclasses.MISSING:
        value = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def family_entries() -> list[dict[str, Any]]:
    """Return model type, adapter and modalities of every model family that an adapter serves."""
    from vidcompress.registry import ADAPTERS

    entries = []
    for model_type in ADAPTERS.names():
        cls = ADAPTERS.get(model_type)
        modalities = ["image", *(["video"] if cls.video_keys else [])]
        entries.append({"model_type": model_type, "adapter": cls.__name__, "modalities": modalities})
    return entries


def embedded_entries() -> list[dict[str, Any]]:
    """Return name, model type, modalities, size and folder of the checkpoints that come with the package."""
    from vidcompress.resources import embedded_models

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
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console = Console()
    console.print(table if rows else f"no {header[0]}")
