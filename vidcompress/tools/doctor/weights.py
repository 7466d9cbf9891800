"""Tensors of a checkpoint by name and shape, from the headers of its safetensors files; no weight is read."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
MAX_INDEX_BYTES = 100 * 2**20


class WeightsError(Exception):
    """The weights are missing, damaged or of a kind that is never opened; the message says which."""


@dataclass
class Weights:
    """Tensors of a checkpoint, from the headers of its files.

    Attributes:
        files: names of the safetensors files.
        shapes: tensor name -> shape.
        bytes: size of all tensors.
        dtypes: safetensors' names of their dtypes, such as "BF16".
        problems: inconsistencies: missing shards, tensors that the index names and no file has.
        where: "folder", "cache" or "hub".
    """

    files: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    bytes: int = 0
    dtypes: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    where: str = "folder"

    def add(self, file: str, name: str, shape: tuple[int, ...], dtype: str) -> None:
        """Add one tensor."""
        if name in self.shapes:
            self.problems.append(f"{name} is in two files, the second is {file}")
        self.shapes[name] = shape
        self.dtypes.add(dtype)
        bits = _BITS.get(dtype) or int("".join(c for c in dtype.partition("_")[0] if c.isdigit()) or 0)
        self.bytes += prod(shape) * bits // 8


def read_weights(source: str, *, revision: str | None = None, local_files_only: bool = False) -> Weights:
    """Read the headers of a checkpoint's weights.

    Args:
        source: a folder or a hub id. Of a hub id, files in the local cache are taken; else the headers alone are
            fetched.
        revision: of the hub repository.
        local_files_only: do not access the hub.

    Raises:
        WeightsError: no safetensors, or a file that cannot be read.
    """
    if os.path.isdir(source):
        return read_folder(Path(source))
    from huggingface_hub import constants, try_to_load_from_cache

    cached = try_to_load_from_cache(source, "config.json", revision=revision)
    if isinstance(cached, str):
        folder = Path(cached).parent
        if (folder / SINGLE).is_file() or (folder / INDEX).is_file():
            weights = read_folder(folder)
            weights.where = "cache"
            return weights
    if local_files_only or constants.HF_HUB_OFFLINE:
        raise WeightsError("the weights are not in the local cache, and the hub was not to be asked")
    return _from_hub(source, revision)


def read_folder(folder: Path) -> Weights:
    """Read the headers of a folder's safetensors files.

    Raises:
        WeightsError: as `read_weights`.
    """
    weights = Weights()
    if (folder / SINGLE).is_file():
        _read_file(folder / SINGLE, weights)
        return weights
    if not (folder / INDEX).is_file():
        raise WeightsError(_nothing(sorted(path.name for path in folder.iterdir())))
    placed = _read_index(folder / INDEX)
    for file in sorted(set(placed.values())):
        if not (folder / file).is_file():
            lost = sum(place == file for place in placed.values())
            weights.problems.append(f"{file} is missing, with {lost} tensors")
            continue
        before = set(weights.shapes)
        _read_file(folder / file, weights)
        here = set(weights.shapes) - before
        named = {name for name, place in placed.items() if place == file}
        weights.problems += [
            f"{name} is not in {file}, where the index says" for name in sorted(named - here)
        ]
        weights.problems += [f"{name} in {file} is not in the index" for name in sorted(here - named)]
    return weights


def _nothing(names: list[str]) -> str:
    pickled = [name for name in names if name.endswith(PICKLED)]
    if pickled:
        return (
            f"only pickled weights ({', '.join(pickled[:4])}), which are never opened because they can run code; "
            "fetch or make a safetensors version"
        )
    others = [name for name in names if name.endswith(".safetensors")]
    if others:
        return f"neither {SINGLE} nor {INDEX}, only {', '.join(others[:4])}; fetch the index, or rename a single file"
    return f"no weights: neither {SINGLE} nor {INDEX}; fetch the checkpoint again"


def _read_index(path: Path) -> dict[str, str]:
    """Tensor name -> file name."""
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise ValueError(f"over {MAX_INDEX_BYTES} bytes")
        placed: Any = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(placed, dict) or not all(isinstance(v, str) for v in placed.values()):
            raise ValueError("weight_map must map names to files")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path.name} cannot be read ({error!r}); fetch it again") from error
    astray = [file for file in placed.values() if Path(file).name != file]
    if astray:
        raise WeightsError(
            f"{path.name} names {astray[0]!r}, which is not a file beside it; do not trust this checkpoint"
        )
    return placed


def _read_file(path: Path, weights: Weights) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():
                part = file.get_slice(name)
                weights.add(path.name, name, tuple(part.get_shape()), str(part.get_dtype()))
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path.name} is damaged or cut short ({error}); fetch it again") from error
    weights.files.append(path.name)


def _from_hub(repo: str, revision: str | None) -> Weights:
    from huggingface_hub import get_safetensors_metadata, list_repo_files
    from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError

    try:
        metadata = get_safetensors_metadata(repo, revision=revision)
    except NotASafetensorsRepoError as error:
        raise WeightsError(_nothing(list(list_repo_files(repo, revision=revision)))) from error
    except (SafetensorsParsingError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"the headers of {repo!r} cannot be fetched ({reason}); try again") from error
    weights = Weights(where="hub")
    for file, header in metadata.files_metadata.items():
        weights.files.append(file)
        for name, tensor in header.tensors.items():
            weights.add(file, name, tuple(tensor.shape), str(tensor.dtype))
    lost = sorted(set(metadata.weight_map) - set(weights.shapes))
    weights.problems += [f"{name} is in the index and in no file" for name in lost]
    return weights
