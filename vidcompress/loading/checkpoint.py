"""Contents of a checkpoint, before and after it is loaded: config.json, weight files, tensors."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from vidcompress.errors import ArgumentError

SHOWN = 5
"""Most tensors named per kind in a message; the rest is counted."""
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_POOLING_HEAD = ("vision_tower.head.", "vision_tower.vision_model.head.")


def read_json(source: str, filename: str, where: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read a JSON object from a checkpoint.

    Args:
        source: a folder or a hub id.
        filename: in the checkpoint.
        where: `revision` and `local_files_only` of the hub.

    Returns:
        The object, or None where the checkpoint has no such file.

    Raises:
        ArgumentError: the checkpoint cannot be reached, or the file is not a JSON object.
    """
    path = _find(source, filename, where)
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        raise _failed(source, f"{filename} cannot be read ({error}); fetch the checkpoint again") from error
    if not isinstance(content, dict):
        raise _failed(
            source, f"{filename} holds a {type(content).__name__}, expected a JSON object; fetch it again"
        )
    return content


def tensor_names(source: str, where: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of all tensors of a checkpoint, as its files have them; fetches missing files.

    Only the headers are read. A file that was cut short is refused here, not halfway through loading.

    Args:
        source: a folder or a hub id.
        where: `revision` and `local_files_only` of the hub.

    Raises:
        ArgumentError: there are no safetensors weights, a shard is missing, or a file is not a whole safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    names: set[str] = set()
    for filename, path in weight_files(source, where).items():
        try:
            with safe_open(path, framework="pt") as file:
                names.update(file.keys())
        except (SafetensorError, OSError) as error:
            raise _failed(
                source, f"{filename} is not a whole safetensors file ({error}); fetch it again"
            ) from error
    return frozenset(names)


def has_pooling_head(names: Collection[str]) -> bool:
    """Whether a checkpoint has SigLIP's pooling head, which no model here uses."""
    return any(part in name for name in names for part in _POOLING_HEAD)


def check_loaded(source: str, info: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose tensors are not exactly those of the model.

    Tensors that transformers itself ignores do not count: a tied `lm_head.weight`, buffers of old saves
    (`position_ids`, `rotary_emb.inv_freq`). SigLIP's pooling head is allowed, as it is never used.

    Args:
        source: the checkpoint, for the message.
        info: loading info of `from_pretrained(output_loading_info=True)`.

    Raises:
        ArgumentError: a tensor is missing, unexpected, or of another shape.
    """
    spare = [key for key in info["unexpected_keys"] if not has_pooling_head([key])]
    shapes = [f"{key} {tuple(got)} instead of {tuple(want)}" for key, got, want in info["mismatched_keys"]]
    problems = {"missing": info["missing_keys"], "unexpected": spare, "of another shape": shapes}
    parts = [f"{len(keys)} {kind} ({_shortened(keys)})" for kind, keys in problems.items() if keys]
    if parts:
        raise _failed(
            source,
            f"tensors {', '.join(parts)}; fetch the checkpoint again, or pass one whose config.json fits its weights",
        )


def weight_files(source: str, where: Mapping[str, Any]) -> dict[str, str]:
    """Return the paths of the weight files by name, chosen as in transformers: one whole file before shards."""
    whole = _find(source, _WEIGHTS, where)
    if whole is not None:
        return {_WEIGHTS: whole}
    index = read_json(source, _INDEX, where)
    if index is None:
        pickled = any(_find(source, name, where) for name in _PICKLED)
        raise _failed(
            source,
            "its weights are pickled (pytorch_model.bin), which can run code, and none are safetensors; convert them "
            "to safetensors, or pass another checkpoint"
            if pickled
            else f"it has no weights ({_WEIGHTS} or {_INDEX}, here or in the cache); fetch the checkpoint again",
        )
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not all(_is_shard(name) for name in shards.values()):
        raise _failed(source, f"{_INDEX} lists no safetensors files under weight_map; fetch it again")
    paths = _find_all(source, sorted(set(shards.values())), where)
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise _failed(
            source,
            f"of {len(paths)} weight files {len(missing)} are missing ({_shortened(missing)}); fetch them",
        )
    return {name: path for name, path in paths.items() if path is not None}


def _is_shard(name: Any) -> bool:
    """Whether an index entry is a file beside the index, not a path out of the folder."""
    return isinstance(name, str) and name.endswith(".safetensors") and "/" not in name and "\\" not in name


def _find_all(source: str, filenames: list[str], where: Mapping[str, Any]) -> dict[str, str | None]:
    """Find the paths of files; several on the hub are fetched at once."""
    from transformers.utils.hub import cached_files

    try:
        cached_files(source, filenames, _raise_exceptions_for_missing_entries=False, **where)
    except OSError as error:
        raise _failed(source, f"{first_line(error)}; retry, or pass a folder") from error
    return {name: _find(source, name, where) for name in filenames}


def _find(source: str, filename: str, where: Mapping[str, Any]) -> str | None:
    from transformers.utils import cached_file

    try:
        path = cached_file(source, filename, _raise_exceptions_for_missing_entries=False, **where)
    except (OSError, ValueError) as error:
        raise _failed(
            source, f"{first_line(error)}; pass a folder, or a hub id that can be reached"
        ) from error
    return None if path is None else str(path)


def _failed(source: str, reason: str) -> ArgumentError:
    return ArgumentError(f"model={source!r} does not load: {reason}")


def first_line(error: Exception) -> str:
    """Return the first line of an error's text without its full stop, or its type where there is no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(" .:")


def _shortened(names: Collection[str]) -> str:
    listed = sorted(names)
    more = len(listed) - SHOWN
    return ", ".join(listed[:SHOWN]) + (f" and {more} more" if more > 0 else "")
