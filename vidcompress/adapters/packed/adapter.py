"""Base adapter of families with a packed encoder: pixels as patches with a grid, native views, encoding."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vidcompress.adapters.base import Adapter, Visual
from vidcompress.adapters.layouts import native_layout, video_layout
from vidcompress.adapters.packed.pieces import TokenRows, passes
from vidcompress.adapters.packed.probe import Grid, PackedProbe
from vidcompress.adapters.packing import Source, join
from vidcompress.core.layout import Layout
from vidcompress.core.prompt import text_between_runs
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import UnsupportedInputError, shown

logger = logging.getLogger(__name__)


class PackedAdapter(Adapter):
    """Encoding shared by families whose encoder takes patches of any grid: a picture is one view, a clip one per
    temporal patch.

    Class attributes:
        image_keys, video_keys: the pixels (patch, value) first, then the grids (visual, 3) in patches.
        runs_apart: whether text stands between the temporal patches of a clip, so that each is a run of its own.
        grids_apart: whether the encoder takes a grid for each temporal patch of a clip, instead of one per clip.
    """

    image_keys: ClassVar[tuple[str, ...]] = ("pixel_values", "image_grid_thw")
    video_keys: ClassVar[tuple[str, ...]] = ("pixel_values_videos", "video_grid_thw")
    refused_keys: ClassVar[tuple[str, ...]] = ()
    full_precision: ClassVar[tuple[str, ...]] = ("model.visual", "lm_head")
    runs_apart: ClassVar[bool] = False
    grids_apart: ClassVar[bool] = False

    @property
    def has_cls(self) -> bool:
        return False

    @property
    def encoder(self) -> nn.Module:
        """The vision encoder, from patches to tokens."""
        encoder: nn.Module = self.model.model.visual
        return encoder

    @property
    def merge(self) -> int:
        """Patches along one side of a token."""
        return int(self.model.config.vision_config.spatial_merge_size)

    @property
    def merger_rows(self) -> int:
        """Rows that the encoder's merger reads for one token: its patches, or 1 where they are joined before."""
        return self.merge**2

    def view_text(self, row: Tensor, runs: Sequence[range]) -> Sequence[Sequence[range]]:
        """Find the text of each run of a clip with `runs_apart`, as in `Visual.view_text`; by default the text between.

        Args:
            row: (column,) int64 ids of its prompt, on the CPU.
            runs: columns of its runs, in order.
        """
        return text_between_runs(row, runs)

    def times(self, inputs: Mapping[str, Any], grids: Sequence[Grid]) -> list[tuple[float, ...] | None]:
        """Return the seconds of every temporal patch of each clip, the mean of its frames' times; None where unknown.

        Args:
            inputs: of the caller.
            grids: of the clips.
        """
        return [None] * len(grids)

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        images, clips = self._split(inputs, self.image_keys), self._split(inputs, self.video_keys)
        for grid, _ in images:
            if grid[0] != 1:
                raise UnsupportedInputError(
                    f"{self.image_keys[1]} has {shown(grid)}: a picture has 1 temporal patch; pass clips as "
                    f"{self.video_keys[0]}"
                )
        times = self.times(inputs, [grid for grid, _ in clips])
        return (
            [self._image(grid, pixels) for grid, pixels in images],
            [self._clip(*clip, when) for clip, when in zip(clips, times, strict=True)],
        )

    def _image(self, grid: Grid, pixels: Tensor) -> Visual:
        layout = native_layout(self._tokens_of(grid), str(pixels.device))
        text = text_between_runs if self.runs_apart else None  # one run has no such text
        return Visual("image", layout, pixels, view_text=text)

    def _clip(self, grid: Grid, pixels: Tensor, times: tuple[float, ...] | None) -> Visual:
        rows, cols = self._tokens_of(grid)
        layout = video_layout(grid[0], (rows, cols), "none", times, device=str(pixels.device))
        runs = (rows * cols,) * grid[0] if self.runs_apart else None
        pictures = partial(self._pictures, (rows, cols))
        text = self.view_text if self.runs_apart else None
        return Visual("video", layout, pixels, runs=runs, view_text=text, pictures=pictures)

    def _tokens_of(self, grid: Grid) -> tuple[int, int]:
        """Return (rows, cols) of tokens of a view."""
        return grid[1] // self.merge, grid[2] // self.merge

    def _split(self, inputs: Mapping[str, Any], keys: Sequence[str]) -> list[tuple[Grid, Tensor]]:
        """Return the grid and the pixels (view, patch, value) of every visual of one kind.

        Raises:
            UnsupportedInputError: pixels or grids that are ill-shaped, or do not match.
        """
        pixels, grids, vision = inputs.get(keys[0]), inputs.get(keys[1]), self.model.config.vision_config
        if pixels is None:
            return []
        value = int(vision.in_channels) * int(vision.temporal_patch_size) * int(vision.patch_size) ** 2
        if not isinstance(pixels, Tensor) or pixels.ndim != 2 or pixels.shape[1] != value:
            raise UnsupportedInputError(
                f"{keys[0]} must be (patch, value) with {value} values, got {_shape(pixels)}; pass the processor's "
                "output unchanged"
            )
        if not isinstance(grids, Tensor) or grids.ndim != 2 or grids.shape[1] != 3:
            raise UnsupportedInputError(
                f"{keys[1]} must be (visual, 3), temporal patches, rows and columns of patches, beside {keys[0]}, got "
                f"{_shape(grids)}; pass the processor's output unchanged"
            )
        listed: list[Grid] = [(int(t), int(h), int(w)) for t, h, w in grids.tolist()]
        for grid in listed:
            if min(grid) < 1 or grid[1] % self.merge or grid[2] % self.merge:
                raise UnsupportedInputError(
                    f"{keys[1]} has {shown(grid)}: at least one temporal patch, and rows and columns in multiples of "
                    f"{self.merge}, are allowed; pass the processor's output unchanged"
                )
        sizes = [t * h * w for t, h, w in listed]
        if sum(sizes) != pixels.shape[0]:
            raise UnsupportedInputError(
                f"{keys[1]} adds up to {sum(sizes)} patches, but {keys[0]} holds {pixels.shape[0]}; pass the "
                "processor's output unchanged"
            )
        parts = pixels.split(sizes)
        return [(grid, part.unflatten(0, (grid[0], -1))) for grid, part in zip(listed, parts, strict=True)]

    def projected_rows(self, layout: Layout) -> int:
        return layout.num_tokens  # the merger is the projector

    def _pictures(self, grid: tuple[int, int], pixels: Tensor) -> Tensor:
        """Turn temporal patches into pictures with the channels of all their frames; patches lie token by token."""
        (rows, cols), merge, size = grid, self.merge, int(self.model.config.vision_config.patch_size)
        cells = pixels.reshape(pixels.shape[0], rows, cols, merge, merge, -1, size, size)
        # (view, token row, token col, row, col, channel and frame, height, width)
        lines = cells.permute(0, 5, 1, 3, 6, 2, 4, 7)
        return lines.reshape(pixels.shape[0], -1, rows * merge * size, cols * merge * size)

    def encode(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence] = (),
        frames: Sequence[tuple[int, ...] | None] | None = None,
        max_views: int = 16,
    ) -> list[VisualTokens]:
        probe = PackedProbe(self.encoder, evidence, self.merger_rows)
        logger.info(
            "%s encodes %d visuals, evidence: %s", type(self).__name__, len(visuals), evidence or "none"
        )
        layouts, sources, rows = [], [], []
        for visual, some in zip(visuals, frames or [None] * len(visuals), strict=True):
            layout, index = visual.layout, None
            if some is not None and len(some) < len(layout.views):
                index = torch.tensor(some, dtype=torch.int64, device=visual.pixels.device)
                layout = layout.restrict_to_frames(index.to(layout.view.device), some)
            layouts.append(layout)
            sources.append(Source(visual.pixels, index))
            rows.append(TokenRows(len(layout)))
        sizes = [(source.views, int(source.pixels.shape[1])) for source in sources]
        for pieces in passes(sizes, min((visual.max_patches for visual in visuals), default=1)):
            parts = [sources[piece.visual].part(piece.start, piece.stop) for piece in pieces]
            grids = [
                (part.shape[0], *self._patches_of(layouts[piece.visual]))
                for part, piece in zip(parts, pieces, strict=True)
            ]
            taken = [(1, *grid[1:]) for grid in grids for _ in range(grid[0])] if self.grids_apart else grids
            encoded = probe(self._placed(join([part.flatten(0, 1) for part in parts])), taken)
            columns = (encoded.features, *encoded.deep, *encoded.values)
            counts = [count * height * width // self.merge**2 for count, height, width in grids]
            for piece, own in zip(pieces, zip(*(x.split(counts) for x in columns), strict=True), strict=True):
                rows[piece.visual].add(own)
            del encoded, columns
        return [
            self._assembled(visual, layout, one.columns, probe, evidence)
            for visual, layout, one in zip(visuals, layouts, rows, strict=True)
        ]

    def _patches_of(self, layout: Layout) -> tuple[int, int]:
        """Return (rows, cols) of patches of a view."""
        return layout.grid[0] * self.merge, layout.grid[1] * self.merge

    def _placed(self, pixels: Tensor) -> Tensor:
        """Move pixels to the encoder's device and dtype; accelerate moves them itself to offloaded weights."""
        weight = next(self.encoder.parameters())
        device = pixels.device if weight.device.type == "meta" else weight.device
        return pixels.to(device, weight.dtype)

    def _assembled(
        self,
        visual: Visual,
        layout: Layout,
        columns: Sequence[Tensor],
        probe: PackedProbe,
        evidence: Sequence[Evidence],
    ) -> VisualTokens:
        levels = len(columns) - 1 - len(probe.evidence)
        features, deep, values = columns[0], columns[1 : 1 + levels], columns[1 + levels :]
        quantities = dict(zip(probe.evidence, values, strict=True)) | self.text_evidence(visual, evidence)
        return VisualTokens(
            features,
            layout.to(features.device),
            {item: quantities[item] for item in evidence if item in quantities},
            _merger(self.encoder.get_submodule("merger"), probe.rows),
            tuple(deep),
        )

    def encode_chosen(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence],
        choose: Callable[[int, VisualTokens], Sequence[int] | None],
        max_views: int = 16,
    ) -> list[tuple[VisualTokens, int]]:
        raise UnsupportedInputError(
            f"encoder_saving='crops' cannot go with {type(self.model).__name__}, whose pictures are one view without "
            "crops; leave it out, or use 'frames'"
        )


def _merger(merger: nn.Module, rows: int) -> Callable[[Tensor], Tensor]:
    """Return the projector as methods call it, on the rows of a token side by side: (n, C) to (n, D)."""

    def project(hidden: Tensor) -> Tensor:
        features: Tensor = merger(hidden.unflatten(-1, (rows, -1)).flatten(0, 1))
        return features

    return project


def _shape(value: Any) -> str:
    if value is None:
        return "nothing"
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
