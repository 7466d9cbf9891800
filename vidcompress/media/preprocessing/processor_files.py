"""Processor files of a checkpoint: found, read, checked, and turned into the fields of a `Processor`."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import fields, replace
from typing import Any

import torch

from vidcompress.adapters.base import ADAPTERS
from vidcompress.adapters.families import Geometry, get_family, repeated_token
from vidcompress.adapters.family.native import NativeGeometry
from vidcompress.adapters.family.pan_and_scan import PanAndScan, PannedGeometry
from vidcompress.adapters.family.split import SplitGeometry
from vidcompress.adapters.presets import find_preset
from vidcompress.checks import check_source, device, whole_number
from vidcompress.core.devices import input_device
from vidcompress.core.wrappers import unwrap
from vidcompress.errors import MediaError, one_line, shown
from vidcompress.media.preprocessing.chat_template import check_template
from vidcompress.media.preprocessing.native_config import native_settings
from vidcompress.media.preprocessing.pixel_config import read_recipe
from vidcompress.media.preprocessing.split_config import split_settings

logger = logging.getLogger(__name__)

MOST_TILES = 1000
"""Most tiles of one picture; a file from elsewhere may state any number."""


def read_processor_files(
    model_or_path: Any,
    *,
    resize_device: str | torch.device | None = None,
    tokenizer: Any = None,
    preset: str | None = None,
    local_files_only: bool = False,
    revision: str | None = None,
) -> dict[str, Any]:
    """Read the fields of the `Processor` of a checkpoint, by name.

    Args:
        model_or_path, resize_device, tokenizer, preset, local_files_only, revision: as in `load_processor`.

    Raises:
        ArgumentError, MediaError: as `load_processor`.
    """
    from vidcompress.adapters.llava_video.original_checkpoints import CHAT_TEMPLATE, add_placeholders

    check_source(revision, local_files_only, error=MediaError)
    model_or_path = unwrap(model_or_path)
    target = _resize_device(resize_device, model_or_path)
    if tokenizer is not None and not hasattr(tokenizer, "convert_tokens_to_ids"):
        raise MediaError(
            f"tokenizer={shown(tokenizer)}: must be a transformers tokenizer, or None for the checkpoint's"
        )
    config, name = _find_config(model_or_path, local_files_only, revision)
    files = _Files(name, local_files_only, revision)
    family = get_family(str(config.model_type))
    geometry = family.geometry(config)
    laid_out = find_preset(preset, family.presets, family.model_type)
    nested = files.json("processor_config.json")
    image_raw, image_origin = files.section(nested, "image_processor", ["preprocessor_config.json"])
    video_raw, video_origin = files.section(
        nested, "video_processor", ["video_preprocessor_config.json", "preprocessor_config.json"]
    )
    _warn_about_pinpoints(image_raw, geometry, image_origin)
    tokenizer = tokenizer if tokenizer is not None else _load_tokenizer(files)
    _try_tokenizer(tokenizer, files.name)
    original = _is_original(files)
    if original:
        add_placeholders(tokenizer)
    image_token, video_token = (
        str(getattr(tokenizer, name, None) or nested.get(name) or default)
        for name, default in zip(("image_token", "video_token"), family.placeholders, strict=True)
    )
    if family.tiles and not family.split:
        geometry = replace(geometry, tiles=_tiles(image_raw, image_origin))
    if family.prompt_token is not None:
        image_token = family.prompt_token
    geometry = _panned(image_raw, geometry, image_origin)
    _check_token(tokenizer, repeated_token(family, image_token), geometry.image_token_id, "image")
    if geometry.video_token_id is not None:
        if family.native is not None and family.native.form == "numbered":
            _add_token(tokenizer, video_token)
        _check_token(tokenizer, video_token, geometry.video_token_id, "video")
    if laid_out is not None:
        geometry = replace(geometry, canvases=(laid_out.canvas(geometry.image_size),))
    if isinstance(geometry, NativeGeometry) and family.native is not None:
        pixels = native_settings(
            family.native, geometry, (image_raw, image_origin), (video_raw, video_origin), tokenizer, nested
        )
    elif isinstance(geometry, SplitGeometry):
        pixels = split_settings(geometry, (image_raw, image_origin), (video_raw, video_origin))
    else:
        usual = {"resample": family.resample}
        pixels = dict(
            geometry=geometry,
            image_recipe=read_recipe({**usual, **image_raw}, geometry, image_origin),
            video_recipe=read_recipe({**usual, **video_raw}, geometry, video_origin),
        )
    return dict(
        family=family,
        **pixels,
        tokenizer=tokenizer,
        image_token=image_token,
        video_token=video_token if family.takes_clips else None,
        chat_template=_find_template(files, tokenizer, CHAT_TEMPLATE if original else None),
        resize_device=target,
        preset=laid_out,
        settings=_settings(nested, image_raw, video_raw),
        config=config,
    )


def model_type_here(source: str, revision: str | None = None) -> str | None:
    """Return the `model_type` of a checkpoint whose config.json is on this machine; None for any other.

    Args:
        source: a folder or a hub id.
        revision: of the hub repository.
    """
    try:
        config, _ = _find_config(source, True, revision)
    except MediaError:
        return None
    return str(config.model_type)


def check_preset(source: str, preset: str | None, revision: str | None = None) -> None:
    """Refuse a preset that the family of a checkpoint lacks, if its config.json is on this machine; else do nothing.

    Args:
        source: a folder or a hub id.
        preset: as in `load_processor`.
        revision: of the hub repository.

    Raises:
        ArgumentError: the family has no such preset. MediaError: the family is not known.
    """
    kind = None if preset is None else model_type_here(source, revision)
    if preset is None or kind is None:
        return
    family = get_family(kind)
    find_preset(preset, family.presets, family.model_type)


class _Files:
    """Files of one checkpoint, in a folder or on the hub; empty for a model made in memory."""

    def __init__(self, name: str, local_files_only: bool, revision: str | None) -> None:
        self.name, self.local_files_only, self.revision = name, local_files_only, revision

    def path(self, filename: str) -> str | None:
        if not self.name:
            return None
        if os.path.isdir(self.name):
            path = os.path.join(self.name, filename)
            return path if os.path.isfile(path) else None
        from transformers.utils import cached_file

        try:
            fetched = cached_file(
                self.name,
                filename,
                local_files_only=self.local_files_only,
                revision=self.revision or "main",
                _raise_exceptions_for_missing_entries=False,
            )
        except OSError as error:
            reason = one_line(error)
            raise MediaError(
                f"{filename} of {self.name!r} cannot be fetched ({reason}); retry, or pass a folder"
            ) from error
        return None if fetched is None else str(fetched)

    def text(self, filename: str) -> str | None:
        path = self.path(filename)
        if path is None:
            return None
        try:
            with open(path, encoding="utf-8") as file:
                return file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise MediaError(f"{path} cannot be read ({error}); fetch the checkpoint again") from error

    def json(self, filename: str) -> dict[str, Any]:
        text = self.text(filename)
        if text is None:
            return {}
        try:
            content = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise MediaError(
                f"{filename} of {self.name!r} is not JSON ({error}); fetch the checkpoint again"
            ) from error
        if not isinstance(content, dict):
            raise MediaError(
                f"{filename} of {self.name!r} holds a {type(content).__name__}; expected a JSON object"
            )
        return content

    def section(self, nested: dict[str, Any], key: str, filenames: list[str]) -> tuple[dict[str, Any], str]:
        """Return the settings of the joint file or of the first single file that exists, and their source's name."""
        if isinstance(nested.get(key), dict):
            return nested[key], f"processor_config.json ({key}) of {self.name!r}"
        for filename in filenames:
            content = self.json(filename)
            if content:
                return content, f"{filename} of {self.name!r}"
        return {}, f"the config of {self.name or 'the model'!r}"


def _settings(nested: dict[str, Any], image: dict[str, Any], video: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a checkpoint's processor files as one processor_config.json."""
    settings = {**nested}
    for name, raw in (("image_processor", image), ("video_processor", video)):
        if raw:
            settings.setdefault(name, {key: value for key, value in raw.items() if key != "processor_class"})
    kind = nested.get("processor_class") or image.get("processor_class")
    return {**settings, "processor_class": kind} if kind else settings


def _find_config(model_or_path: Any, local_files_only: bool, revision: str | None) -> tuple[Any, str]:
    if not isinstance(model_or_path, (str, os.PathLike)):
        config = getattr(model_or_path, "config", None)
        if config is None or not hasattr(config, "model_type"):
            raise MediaError(
                f"model_or_path: got {type(model_or_path).__name__}; pass a folder, a hub id or a transformers model"
            )
        return config, str(getattr(config, "_name_or_path", "") or "")
    from transformers import AutoConfig

    from vidcompress.adapters.llava_video.original_checkpoints import read_config

    ADAPTERS.names()  # adapters register model types that transformers lacks
    name = os.fsdecode(model_or_path)
    if not name.strip() or "\0" in name:
        raise MediaError(
            f"model_or_path={name!r}: names nothing; pass a folder, a hub id or a transformers model"
        )
    if os.path.exists(name) and not os.path.isfile(os.path.join(name, "config.json")):
        raise MediaError(
            f"model_or_path={name!r} holds no config.json; pass the folder of a saved transformers model"
        )
    try:
        where = {"local_files_only": local_files_only, "revision": revision or "main"}
        config = read_config(name, **where) or AutoConfig.from_pretrained(
            name, local_files_only=local_files_only, revision=revision or "main", trust_remote_code=False
        )
    except Exception as error:
        raise MediaError(
            f"model_or_path={name!r}: {one_line(error)}; pass a folder or a hub id of a known model"
        ) from error
    return config, str(name)


def _resize_device(stated: str | torch.device | None, model_or_path: Any) -> torch.device:
    if stated is not None:
        return device("resize_device", stated, error=MediaError)
    return (
        input_device(model_or_path) if hasattr(model_or_path, "get_input_embeddings") else torch.device("cpu")
    )


def _load_tokenizer(files: _Files) -> Any:
    from transformers import AutoTokenizer

    if not files.name:
        raise MediaError("the model was built in memory and names no files; pass tokenizer=...")
    try:
        return AutoTokenizer.from_pretrained(
            files.name,
            local_files_only=files.local_files_only,
            revision=files.revision or "main",
            trust_remote_code=False,
        )
    except Exception as error:
        raise MediaError(
            f"the tokenizer of {files.name!r} does not load ({one_line(error)}); pass tokenizer=..."
        ) from error


def _try_tokenizer(tokenizer: Any, name: str) -> None:
    """Check that a tokenizer works before an answer needs it; some broken files load and then fail."""
    try:
        tokenizer.decode(tokenizer("what is this?")["input_ids"])
        _ = tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id
    except Exception as error:
        raise MediaError(
            f"the tokenizer of {name!r} does not work ({one_line(error)}); pass tokenizer=..., or fetch it again"
        ) from error


def _check_token(tokenizer: Any, token: str, expected: int, kind: str) -> None:
    number = tokenizer.convert_tokens_to_ids(token)
    if number != expected:
        raise MediaError(
            f"the tokenizer gives {token!r} the id {number}, the model's config has {kind}_token_id={expected}; "
            "add the token to the tokenizer, or take the tokenizer that belongs to the model"
        )


def _add_token(tokenizer: Any, token: str) -> None:
    """Add a placeholder that the published tokenizers lack and the stock processor adds (Gemma 4)."""
    if tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id):
        tokenizer.add_special_tokens({"additional_special_tokens": [token]})


def _is_original(files: _Files) -> bool:
    from vidcompress.adapters.llava_video.original_checkpoints import is_original

    return is_original(files.json("config.json"))


def _find_template(files: _Files, tokenizer: Any, default: str | None) -> str | None:
    template = files.text("chat_template.jinja")
    if template is None:
        template = files.json("chat_template.json").get("chat_template")
    if template is None:
        template = default or getattr(tokenizer, "chat_template", None)
    if template is not None and not isinstance(template, str):
        raise MediaError(
            f"the chat template of {files.name!r} is a {type(template).__name__}; expected one Jinja text"
        )
    return template if template is None else check_template(template, f"the chat template of {files.name!r}")


def _tiles(raw: dict[str, Any], origin: str) -> tuple[int, int]:
    """Return the fewest and most tiles of a picture; 1 to 12 where the file does not state them."""
    fewest, most = (
        whole_number(f"{origin}: {key}", raw.get(key, usual), most=MOST_TILES, error=MediaError)
        for key, usual in (("min_patches", 1), ("max_patches", 12))
    )
    if fewest > most:
        raise MediaError(
            f"{origin}: min_patches={fewest} is above max_patches={most}; fetch the processor's files again"
        )
    return (1, 1) if most == 1 else (fewest, most)


def _panned(raw: dict[str, Any], geometry: Geometry, origin: str) -> Geometry:
    """Return the geometry with the rule for pan and scan, where the file asks for it."""
    if raw.get("do_pan_and_scan") is not True:
        return geometry
    stated = {
        name: raw[key]
        for name, key in (
            ("least", "pan_and_scan_min_crop_size"),
            ("most", "pan_and_scan_max_num_crops"),
            ("ratio", "pan_and_scan_min_ratio_to_activate"),
        )
        if raw.get(key) is not None
    }
    whole_number(
        f"{origin}: pan_and_scan_max_num_crops", stated.get("most", 4), most=MOST_TILES, error=MediaError
    )
    own = {entry.name: getattr(geometry, entry.name) for entry in fields(geometry)}
    return PannedGeometry(**own, pan=PanAndScan(**stated))


def _warn_about_pinpoints(raw: dict[str, Any], geometry: Geometry, origin: str) -> None:
    stated = raw.get("image_grid_pinpoints")
    if stated is not None and stated != [list(canvas) for canvas in geometry.canvases]:
        logger.warning(
            "%s states other image_grid_pinpoints than the model's config; the config's are used, as the model does",
            origin,
        )
