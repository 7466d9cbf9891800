"""Synthetic model inputs: random pixels and token ids in the shapes of the family's processor."""

from __future__ import annotations

from typing import Any

import torch

from vidcompress.adapters.families import Family, Geometry, clip_runs, get_family, image_runs
from vidcompress.adapters.family.native import NativeGeometry
from vidcompress.core.devices import input_device
from vidcompress.errors import MediaError, UnsupportedInputError
from vidcompress.tools.benchmark.row import Workload
from vidcompress.tools.cost.load import DEFAULT_FRAME


def make_inputs(
    model: Any,
    workload: Workload,
    batch: int,
    *,
    text_tokens: int,
    seed: int,
    pixels: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the inputs of a batch of equal requests.

    Args:
        model: of a family with a processor in vidcompress.
        workload: the image or clip of each request.
        batch: requests, B.
        text_tokens: words beside the visual tokens, half of them before.
        seed: of words and pixels.
        pixels: processor output of one real file, repeated B times; random pixels by default.

    Returns:
        `input_ids` and `attention_mask` (B, token), and for an image `pixel_values` (B, view, 3, side, side), in the
        model's dtype, with its companions, for a clip `pixel_values_videos` (B, frame, 3, side, side); of an encoder of
        patches (patch, value) with a grid for each request; all on the model's device.

    Raises:
        UnsupportedInputError: the family takes no clips, or its inputs cannot be drawn.
    """
    config, device = model.config, input_device(model)
    family = drawn_family(config)
    shape, count, token = visual_shape(config, workload)
    geometry = family.geometry(config)
    generator = torch.Generator(device).manual_seed(seed)
    words = _words((batch, text_tokens), config, geometry, generator)
    before = text_tokens // 2
    runs = image_runs(family, geometry, count)
    if workload.modality == "video":
        runs = clip_runs(family, count, workload.frames)
    if family.native is not None and family.native.timestamps:
        runs = (count // shape[0],) * shape[0]
    between = _words((batch, len(runs) - 1), config, geometry, generator)
    visual = [words.new_full((batch, run), token) for run in runs]
    placed = [part for n in range(len(runs)) for part in (visual[n], between[:, n : n + 1])]
    ids = torch.cat((words[:, :before], *placed, words[:, before:]), dim=1)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    types = family.token_types if family.native is None else "mm_token_type_ids"
    if types is not None:
        inputs[types] = (ids == token).to(ids.dtype) * (2 if workload.modality == "video" else 1)
    if pixels is not None:
        repeated = {
            key: value.to(device).repeat(batch, *[1] * (value.ndim - 1)) for key, value in pixels.items()
        }
        return inputs | {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in repeated.items()}
    drawn = torch.randn((batch, *shape), generator=generator, device=device, dtype=model.dtype)
    if isinstance(geometry, NativeGeometry):
        grids = torch.tensor([_grid(geometry, workload)] * batch, device=device)
        if workload.modality == "image":
            return inputs | {"pixel_values": drawn.flatten(0, 2), "image_grid_thw": grids}
        inputs |= {"pixel_values_videos": drawn.flatten(0, 2), "video_grid_thw": grids}
        if family.native is not None and family.native.seconds:
            inputs["second_per_grid_ts"] = torch.ones(batch)
        return inputs
    if family.tiles:
        side = geometry.image_size
        size = (side, side, workload.frames) if workload.size is None else (*workload.size, 0)
        sizes = torch.tensor([size] * batch, device=device)
        if family.split:
            return inputs | {"pixel_values": drawn, "image_sizes": sizes}
        return inputs | {"pixel_values": drawn.flatten(0, 1), "image_sizes": sizes}
    if workload.modality == "video":
        return inputs | {"pixel_values_videos": drawn}
    if not family.crops:
        return inputs | {"pixel_values": drawn.flatten(0, 1)}
    inputs |= {"pixel_values": drawn, "image_sizes": torch.tensor([workload.size] * batch, device=device)}
    if family.counts_images:
        inputs["batch_num_images"] = torch.ones(batch, dtype=torch.int64, device=device)
    return inputs


def _words(
    shape: tuple[int, int], config: Any, geometry: Geometry, generator: torch.Generator
) -> torch.Tensor:
    """Draw random token ids (B, token), placeholders excluded."""
    taken = {geometry.image_token_id, geometry.video_token_id}
    words = torch.randint(
        config.get_text_config().vocab_size, shape, generator=generator, device=generator.device
    )
    other = min({0, 1, 2} - taken)
    for placeholder in taken - {None}:
        words[words == placeholder] = other
    return words


def drawn_family(config: Any) -> Family:
    """Return the family of a model whose inputs can be drawn.

    Raises:
        UnsupportedInputError: no family here, or one whose pictures come with companions that are not drawn.
    """
    kind = config.model_type
    try:
        family = get_family(kind)
    except MediaError as error:
        raise UnsupportedInputError(
            f"a model of type {kind!r} has no processor here, so what its inputs look like is not known and bench "
            "cannot draw them; measure on media of yours with compare"
        ) from error
    native = family.native
    if native is not None and (native.form != "grids" or native.frame_text is not None):
        raise UnsupportedInputError(
            f"inputs of {kind} are not drawn by bench; measure on media of yours with compare, or take another model"
        )
    return family


def visual_shape(config: Any, workload: Workload) -> tuple[tuple[int, ...], int, int]:
    """Return (view, channel, height, width) of one request's pixels, its number of placeholders, and their id; for an
    encoder of patches (view, patch, value).

    Raises:
        UnsupportedInputError: the family takes no clips, or its inputs cannot be drawn.
    """
    family = drawn_family(config)
    geometry = family.geometry(config)
    if isinstance(geometry, NativeGeometry):
        depth, rows, cols = _grid(geometry, workload)
        patches = geometry.patches
        shape = (depth, rows * cols, 3 * patches.temporal * patches.patch**2)
        token = geometry.image_token_id if workload.modality == "image" else geometry.video_token_id
        assert token is not None  # noqa: S101  (a family of grids has both)
        return shape, depth * rows * cols // patches.merge**2, token
    side = geometry.image_size
    if workload.modality == "video":
        if family.video_layout is None or (geometry.video_token_id is None and not family.tiles):
            raise UnsupportedInputError(
                f"frames=[{workload.frames}]: {family.model_type} takes no clips; give sizes= instead, or another model"
            )
        count = len(family.video_layout(geometry, workload.frames))
        token = geometry.image_token_id if family.tiles else geometry.video_token_id
        assert token is not None  # noqa: S101  (for the type checker)
        return (workload.frames, 3, side, side), count, token
    assert workload.size is not None  # noqa: S101  (a workload has one of both)
    layout = family.image_layout(geometry, workload.size)
    return (len(layout.views), 3, side, side), len(layout), geometry.image_token_id


def _grid(geometry: NativeGeometry, workload: Workload) -> tuple[int, int, int]:
    """Return (frames, rows, columns) in patches; frames of clips are of `DEFAULT_FRAME`."""
    if workload.size is not None:
        return geometry.image_grid(workload.size)
    return geometry.clip_grid(workload.frames, DEFAULT_FRAME)
