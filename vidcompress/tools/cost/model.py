"""Model of a cost estimate: config, shape and adapter without weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from vidcompress.adapters.base import Adapter
from vidcompress.adapters.model_shape import ModelShape, geometry_of
from vidcompress.core.wrappers import unwrap
from vidcompress.errors import ArgumentError, UnsupportedModelError, nearest, shown
from vidcompress.loading.known_shapes import config_of, known_shapes


@dataclass(frozen=True)
class Model:
    """Model without weights.

    Attributes:
        name: of the request, or the `model_type`.
        adapter: of the model on the meta device.
        geometry: its shape.
        parameters: numbers in its tensors, tied ones once.
    """

    name: str
    adapter: Adapter
    geometry: ModelShape
    parameters: int


def check_geometry(name: str) -> None:
    """Refuse an unknown geometry name.

    Raises:
        ArgumentError: with the nearest known name.
    """
    config_of(name)


def model_of(model: Any) -> Model:
    """Find a model and build it without weights.

    Args:
        model: a named geometry, an embedded model, a folder, a hub id, or a config or model of transformers. A folder
            of the name of a geometry comes first. A `Model` is returned as it is.

    Raises:
        ArgumentError: nothing of that name, or a config.json that cannot be read or describes no model.
        UnsupportedModelError: no adapter serves it, or its config lacks a number.
    """
    if isinstance(model, Model):
        return model
    from vidcompress.adapters.base import ADAPTERS, adapter_for
    from vidcompress.adapters.generic.interface import serves
    from vidcompress.loading.meta_model import parameter_count

    name, config = _config(model)
    if getattr(config, "model_type", None) not in ADAPTERS.names():
        kind = getattr(config, "model_type", None)
        if serves(kind):
            raise UnsupportedModelError(
                f"model={name!r} is of type {kind!r}, which the generic adapter serves: the tokens of its pictures are "
                "known where they are encoded only, so cost cannot count them; measure on media of yours with compare"
            )
        raise UnsupportedModelError(
            f"model={name!r} is of type {kind!r}, which no adapter serves; {ADAPTERS.unknown(str(kind))}"
        )
    geometry = geometry_of(config)
    empty = _empty(name, config)
    return Model(name, adapter_for(empty), geometry, parameter_count(empty))


def _empty(name: str, config: Any) -> Any:
    from vidcompress.errors import one_line
    from vidcompress.loading.meta_model import empty_model

    try:
        return empty_model(config)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"model={name!r}: no model can be made of its config ({one_line(error)}); fetch it again"
        ) from error


def _config(model: Any) -> tuple[str, Any]:
    if isinstance(model, (str, os.PathLike)):
        name = os.fspath(model)
        if isinstance(name, str) and name in known_shapes() and not os.path.isdir(name):
            return name, config_of(name)
        return str(name), _read(str(name))
    model = unwrap(model)
    config = getattr(model, "config", model)
    if not callable(getattr(config, "get_text_config", None)):
        raise ArgumentError(
            f"model={shown(model)}: must be a named geometry ({nearest('', known_shapes())}), an embedded model, a "
            "folder, a hub id, or a config"
        )
    return str(getattr(config, "model_type", "")), config


def _read(name: str) -> Any:
    from vidcompress.errors import VidcompressError, one_line
    from vidcompress.loading.load import resolve
    from vidcompress.loading.meta_model import read_model_config
    from vidcompress.loading.resources import embedded_models

    names = {*known_shapes(), *embedded_models()}
    try:
        source = resolve(name)
    except ArgumentError:
        raise ArgumentError(
            f"model={name!r} is neither a named geometry nor an embedded model ({nearest(name, names)}), nor a folder; "
            "pass one of these, or a hub id such as 'owner/name'"
        ) from None
    try:
        # The ids of the placeholders do not change the cost, so no tokenizer is needed.
        config, _ = read_model_config(source, placeholders=(0, 1), revision="main", local_files_only=False)
    except VidcompressError as error:
        raise type(error)(f"model={name!r}: {error}") from error
    except Exception as error:
        raise ArgumentError(
            f"model={name!r}: its config.json cannot be read ({one_line(error)}); fetch it again"
        ) from error
    return config
