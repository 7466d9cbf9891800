"""Processor of text, pictures and clips: the same keys, numbers and placeholder counts as transformers' processors.

It needs no torchvision, and one class serves every family: the differences are in `families` and in the checkpoint's
own files.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange

from vidcompress.adapters.families import Family, Geometry, clip_runs, image_runs, repeated_token
from vidcompress.adapters.family.pan_and_scan import PannedGeometry
from vidcompress.adapters.presets import Preset
from vidcompress.checks import DEFAULT_MAX_FRAMES, flag, unicode_text, whole_number
from vidcompress.core.devices import upload
from vidcompress.errors import MediaError, shown
from vidcompress.media.images.image import ImageSource, load_image
from vidcompress.media.preprocessing.arguments import (
    arrange_images,
    arrange_videos,
    check_counts,
    check_groups,
)
from vidcompress.media.preprocessing.chat_template import check_conversation, part_media, render_template
from vidcompress.media.preprocessing.pixel_config import PixelRecipe
from vidcompress.media.preprocessing.placeholders import (
    Writing,
    expand,
    pad_left,
    placeholder_pattern,
    tokenize,
    without_second_start,
    write_text,
)
from vidcompress.media.preprocessing.protocol import AdoptedProcessor, even_rule
from vidcompress.media.preprocessing.transformers_api import StockProcessor
from vidcompress.media.preprocessing.transforms import (
    frame_views,
    image_views,
    join_visuals,
    panned_views,
    seen_part,
    single_view,
    stack_views,
    tile_views,
)
from vidcompress.media.video.backends import get_backend
from vidcompress.media.video.frames import VideoFrames
from vidcompress.media.video.read import read_video
from vidcompress.media.video.sampling import SamplingRule, check_request
from vidcompress.media.video.streaming import StreamingClip

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_FRAMES = 20_000
"""Most frames of a clip whose tokens are counted: its layout has an entry per token."""


@dataclass(repr=False)
class Processor(StockProcessor):
    """Processor of prompts, pictures and clips to the inputs of one model. Make one with `load_processor`.

    It is a `transformers.ProcessorMixin`, so pipelines and `Trainer` take it. It has no parts but the tokenizer.

    Attributes:
        family: the model's family.
        geometry: the numbers of the model's config.
        image_recipe: preparation of pictures.
        video_recipe: preparation of frames.
        tokenizer: the checkpoint's transformers tokenizer.
        image_token: placeholder of a picture in text.
        video_token: placeholder of a clip in text, or None.
        chat_template: the checkpoint's Jinja template, or None.
        resize_device: device for resizing; "cpu" gives the same numbers on every machine. Pixels stay there.
        preset: the named layout of every picture, on the only canvas of `geometry`; None for the model's.
        settings: of pictures and clips, as the checkpoint's files state them; `save_pretrained` writes them.
        config: of the model, or None.
    """

    family: Family
    geometry: Geometry
    image_recipe: PixelRecipe
    video_recipe: PixelRecipe
    tokenizer: Any
    image_token: str
    video_token: str | None
    chat_template: str | None = None
    resize_device: torch.device = torch.device("cpu")
    preset: Preset | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    config: Any = field(default=None, repr=False)

    def __repr__(self) -> str:
        tokens = ", ".join(repr(token) for token in (self.image_token, self.video_token) if token is not None)
        preset = f", preset={self.preset.name!r}" if self.preset is not None else ""
        return (
            f"Processor({self.family.model_type}, {tokens}, {type(self.tokenizer).__name__}, "
            f"{self.geometry.image_size} px views, up to {len(self.geometry.canvases)} canvases{preset}, "
            f"resize_device={str(self.resize_device)!r})"
        )

    def __call__(
        self,
        text: str | list[str],
        images: Any = None,
        videos: Any = None,
        *,
        num_frames: int | None = None,
        fps: float | None = None,
        max_frames: int = DEFAULT_MAX_FRAMES,
        video_backend: str = "auto",
        padding: bool | str = True,
        return_tensors: str = "pt",
        **others: Any,
    ) -> Any:
        """Prepare one prompt or a batch.

        Args:
            text: one prompt or several, with one placeholder per picture and clip, in the order they are passed.
            images: None, a picture, a list, or one list per prompt. A picture is anything `load_image` takes.
                On LLaVA-OneVision a list of two or more for one prompt sends each picture as a single view; in a
                flat list each is cut into crops, as transformers does.
            videos: None, a clip or a list of clips. A clip is anything `read_video` takes.
            num_frames: frames per clip; with neither this nor `fps`, the frames of `frame_rule` for a file (the
                `num_frames` of the checkpoint's video processor, else 32, for InternVL 8; two frames per second for the
                Qwen families), and all frames of a clip in memory.
            fps: frames per second of clip time, in place of `num_frames`.
            max_frames: most frames per clip.
            video_backend: "auto", "pyav", "decord", "torchcodec" or "pillow".
            padding: True or "longest" fills shorter rows on the left; False refuses rows of different length.
            return_tensors: "pt", the only one.
            **others: further arguments of stock processors (`audio`, `truncation`, ...), which must be None or False.

        Returns:
            A transformers `BatchFeature` with those of the following that apply:

            - `input_ids`, `attention_mask`: int64 (row, token)
            - `pixel_values`: float32 (picture, most views, channel, height, width), missing views zero; (picture,
              channel, height, width) for a family that makes no crops, without `image_sizes`
            - `token_type_ids`: int64 (row, token), 1 at placeholders of pictures and 0 elsewhere, for Gemma 3
            - `num_crops`: int64 (picture,), crops behind each whole picture in `pixel_values`, beside `image_sizes`,
              where the checkpoint asks for pan and scan (Gemma 3); for `compress_inputs` and `compress` only
            - `image_sizes`: int64 (picture, 2), height and width of each picture in pixels. For a family that cuts
              pictures into tiles (InternVL) `pixel_values` is (tile or frame, channel, height, width), and this is
              (picture or clip, 3) in the order of the prompts, height, width and number of frames (0: a picture)
            - `preset`: the name of the layout of pictures, where the processor has one; for `compress_inputs` and
              `compress` only, since the stock model knows none
            - `batch_num_images`: int64 (list,), pictures per list, or 1 per picture of a flat list (OneVision)
            - `pixel_values_videos`: float32 (clip, frame, channel, height, width); a list of (frame, channel,
              height, width) when clips have different numbers of frames, which a stock model cannot take

        Raises:
            MediaError: an argument is of the wrong kind, placeholders and media differ in number, or a
                picture or clip cannot be read.
        """
        sampling: dict[str, Any] = {
            "num_frames": num_frames,
            "fps": fps,
            "max_frames": max_frames,
            "backend": video_backend,
        }
        check_sampling(sampling)
        if not isinstance(return_tensors, str) or return_tensors != "pt":
            raise MediaError(f"return_tensors={shown(return_tensors)}: only 'pt' is supported")
        for name, value in others.items():
            if value is not None and value is not False:
                raise MediaError(
                    f"{name}={shown(value)}: not served by this processor, which takes {', '.join(_CALL)}; leave it out"
                )
        texts = _as_rows(text)
        pictures, groups = arrange_images(images)
        sources = arrange_videos(videos)
        order = self._order(texts)
        in_text = {kind: [row.count(kind) for row in order] for kind in ("image", "video")}
        check_counts("images", self.image_token, in_text["image"], len(pictures), groups)
        check_counts("videos", self.video_token, in_text["video"], len(sources), None)

        image_inputs, image_lengths = self.prepare_images(pictures, groups)
        clips = [self._sampled(source, sampling) for source in sources]
        video_inputs, video_lengths = self.prepare_videos(clips)
        writings = {self.image_token: self.write_images(image_lengths, image_inputs)}
        if self.video_token is not None:
            writings[self.video_token] = self.write_clips(clips, video_lengths)
        written, runs = write_text(texts, writings)
        ids = (self.geometry.image_token_id, self.geometry.video_token_id)
        rows = expand(tokenize(self.tokenizer, written), ids, runs)
        batch = self.with_token_types(pad_left(rows, self._pad_id(), padding))
        pixels = self.join(order, image_inputs, image_lengths, video_inputs, clips)

        from transformers import BatchFeature

        return BatchFeature({**batch, **pixels})

    def join(
        self,
        order: Sequence[Sequence[str]],
        images: Mapping[str, torch.Tensor],
        lengths: Sequence[int],
        videos: Mapping[str, torch.Tensor],
        clips: Sequence[VideoFrames],
    ) -> dict[str, torch.Tensor]:
        """Put the inputs of pictures and clips together.

        Args:
            order: per prompt `image` or `video` of each of its pictures and clips, in order.
            images: inputs of the pictures, as `prepare_images` makes them.
            lengths: placeholders of each picture.
            videos: inputs of the clips, as `prepare_videos` makes them.
            clips: the clips.
        """
        if not (self.family.tiles and images and videos):
            return {**images, **videos}
        views = [length // self.geometry.side**2 for length in lengths]
        kinds = [kind for row in order for kind in row]
        return join_visuals(kinds, images, views, videos, [len(clip) for clip in clips])

    def _sampled(self, source: Any, sampling: Mapping[str, Any]) -> VideoFrames:
        """Return the sampled frames of a clip; a clip that is being decoded is sampled already."""
        if isinstance(source, StreamingClip):
            return source
        return read_video(source, **sampling, rule=self.frame_rule)

    def _order(self, texts: list[str]) -> list[list[str]]:
        """Return per prompt `image` or `video` for each placeholder in its text, as `write_text` finds them."""
        kinds = {self.image_token: "image", self.video_token: "video"}
        pattern = placeholder_pattern(self.image_token, self.video_token)
        return [[kinds[match[0]] for match in pattern.finditer(text)] for text in texts]

    def prepare_images(
        self, pictures: list[ImageSource], groups: list[int] | None = None
    ) -> tuple[dict[str, Any], list[int]]:
        """Make pixel inputs and placeholder counts of pictures.

        Args:
            pictures: what `load_image` takes, in prompt order.
            groups: pictures per prompt when they were passed as lists; None treats each as the only one.

        Returns:
            The inputs (empty for no pictures) and the number of placeholders of each picture.
        """
        check_groups(pictures, groups)
        if not pictures:
            return {}, []
        counts = groups if groups is not None else [1] * len(pictures)
        in_group = [count for count in counts for _ in range(count)]
        views, sizes, lengths = [], [], []
        for source, shared_with in zip(pictures, in_group, strict=True):
            array = upload(torch.from_numpy(np.array(load_image(source))), self.resize_device)
            pixels = rearrange(array, "h w c -> c h w").contiguous()
            size = (int(pixels.shape[1]), int(pixels.shape[2]))
            alone = self.family.single_view_layout is None or shared_with == 1
            if self.family.tiles:
                views.append(tile_views(pixels, self.geometry, self.image_recipe))
            elif isinstance(self.geometry, PannedGeometry):
                views.append(panned_views(pixels, self.geometry.boxes(size), self.image_recipe))
            elif not self.family.crops:
                views.append(single_view(pixels, self.image_recipe, pad=self.image_recipe.pad))
            elif alone:
                views.append(image_views(pixels, self.geometry, self.image_recipe))
            else:
                views.append(single_view(pixels, self.image_recipe))
            sizes.append(size)
            lengths.append(self.image_tokens(size, single_view=not alone))
        if self.family.tiles:
            stated = torch.tensor([(*size, 0) for size in sizes])
            return {"pixel_values": torch.cat(views), "image_sizes": stated}, lengths
        if isinstance(self.geometry, PannedGeometry):
            panned = {"num_crops": torch.tensor([len(view) - 1 for view in views])}
            panned["image_sizes"] = torch.tensor(sizes)
            return {"pixel_values": torch.cat(views), **panned}, lengths
        if not self.family.crops:
            return {"pixel_values": torch.cat(views)}, lengths
        inputs: dict[str, Any] = {"pixel_values": stack_views(views), "image_sizes": torch.tensor(sizes)}
        if self.preset is not None:
            inputs["preset"] = self.preset.name
        if self.family.counts_images:
            inputs["batch_num_images"] = torch.tensor(counts, dtype=torch.long)
        return inputs, lengths

    def as_seen(self, picture: Image, *, alone: bool = True) -> Image:
        """Return the part of a picture that its thumbnail shows, to draw its token grid over.

        Args:
            picture: RGB.
            alone: whether it was the only picture of its prompt.
        """
        if self.family.crops and (alone or self.family.single_view_layout is None):
            return picture
        return seen_part(picture, self.image_recipe, pad=self.family.crops or self.image_recipe.pad)

    def prepare_videos(self, clips: list[VideoFrames]) -> tuple[dict[str, Any], list[int]]:
        """Make pixel inputs and placeholder counts of clips.

        Args:
            clips: sampled frames, in prompt order.

        Returns:
            The inputs (empty for no clips) and the number of placeholders of each clip.
        """
        check_clips(clips)
        if not clips:
            return {}, []
        lengths = [self.video_tokens(len(clip)) for clip in clips]
        if self.family.tiles:  # frames lie among tiles, so they cannot stream into the encoder
            clips = [clip.whole() if isinstance(clip, StreamingClip) else clip for clip in clips]
        recipe, device = self.video_recipe, self.resize_device
        views = [
            clip.views(recipe, device)
            if isinstance(clip, StreamingClip)
            else frame_views(clip.frames, recipe, device)
            for clip in clips
        ]
        there = [view for view in views if isinstance(view, torch.Tensor)]
        if self.family.tiles:
            stated = torch.tensor([(*clip.frames.shape[1:3], len(clip)) for clip in clips])
            return {"pixel_values": torch.cat(there), "image_sizes": stated}, lengths
        if len(there) < len(views) or len({view.shape for view in there}) > 1:
            return {"pixel_values_videos": views}, lengths
        stacked = there[0][None] if len(there) == 1 else torch.stack(there)  # one alone without a copy
        return {"pixel_values_videos": stacked}, lengths

    @property
    def frame_rule(self) -> SamplingRule:
        """Frame sampling rule for clips; the argument `rule` of `read_video`."""
        frames = self.video_recipe.num_frames
        return SamplingRule(frames) if self.family.segments is None else even_rule(self.family, frames)

    def view_times(self, clip: VideoFrames) -> tuple[float, ...]:
        """Return the times of a clip's views, in seconds."""
        return clip.times

    def write_images(self, lengths: list[int], inputs: Mapping[str, Any]) -> list[Writing]:
        """Write the text for pictures of so many placeholders in a prompt: for each one run, or one per view.

        Args:
            lengths: placeholders of each picture.
            inputs: what `prepare_images` made of the pictures.
        """
        write = self.family.image_text
        if write is None:
            return [Writing(self.image_token, (length,)) for length in lengths]
        views = [length // self.geometry.side**2 for length in lengths]
        token = repeated_token(self.family, self.image_token)
        return [
            Writing(write(token, count), image_runs(self.family, self.geometry, length))
            for count, length in zip(views, lengths, strict=True)
        ]

    def write_clips(self, clips: list[VideoFrames], lengths: list[int]) -> list[Writing]:
        """Write the text for clips of so many placeholders in a prompt: for each one run, or one per frame."""
        write = self.family.clip_text
        if write is None:
            return [Writing(str(self.video_token), (length,)) for length in lengths]
        return [
            Writing(write(self.image_token, len(clip)), clip_runs(self.family, length, len(clip)))
            for clip, length in zip(clips, lengths, strict=True)
        ]

    def with_token_types(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Add the family's per-token input to the text inputs of a batch, where it has one."""
        if self.family.token_types is None:
            return batch
        ids = batch["input_ids"]
        types = (ids == self.geometry.image_token_id).to(torch.int64)
        if self.geometry.video_token_id is not None:
            types += 2 * (ids == self.geometry.video_token_id)
        return {**batch, self.family.token_types: types}

    def image_tokens(self, size: tuple[int, int], *, single_view: bool = False) -> int:
        """Count the placeholders of a picture of `size` = (height, width) pixels, newlines included.

        Raises:
            MediaError: `size` is no pair of whole numbers of at least 1, or `single_view` neither True nor False.
        """
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise MediaError(f"size={shown(size)}: must be (height, width) in pixels")
        for side in size:
            whole_number("size", side, error=MediaError)
        flag("single_view", single_view, error=MediaError)
        family, picture = self.family, (int(size[0]), int(size[1]))
        if self.preset is not None and family.preset_layout is not None:
            return len(family.preset_layout(self.geometry, self.preset, picture))
        if single_view and family.single_view_layout is not None:
            return len(family.single_view_layout(self.geometry))
        return len(family.image_layout(self.geometry, picture))

    def video_tokens(self, frames: int) -> int:
        """Count the placeholders of a clip of that many frames, newlines included.

        Raises:
            MediaError: the family takes no clips, or `frames` is no whole number from 1 to `MOST_FRAMES`.
        """
        if self.family.video_layout is None:
            raise MediaError(
                f"videos: {self.family.model_type} takes no clips; pass frames as images, or another model"
            )
        frames = whole_number("frames", frames, most=MOST_FRAMES, error=MediaError)
        return len(self.family.video_layout(self.geometry, frames))

    def empty_clip(self, frames: int, size: tuple[int, int]) -> tuple[dict[str, Any], int]:
        """Make the inputs of a clip without pixels, on the meta device, and its number of placeholders.

        Args:
            frames: number of frames.
            size: (height, width) of these in pixels.

        Raises:
            MediaError: the family takes no clips.
        """
        placeholders, side = self.video_tokens(frames), self.geometry.image_size
        pixels = torch.empty((frames, 3, side, side), device="meta")
        if self.family.tiles:
            return {"pixel_values": pixels, "image_sizes": torch.tensor([[side, side, frames]])}, placeholders
        return {"pixel_values_videos": pixels[None]}, placeholders

    def apply_chat_template(
        self,
        conversation: list[Any],
        *,
        add_generation_prompt: bool | None = None,
        tokenize: bool = False,
        return_dict: bool = False,
        processor_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Write a conversation as prompt text with the checkpoint's template, or make model inputs of it.

        Args:
            conversation: messages (`role`, `content`), or a list of conversations; content is text or a list of
                `{"type": "text", "text": ...}`, `{"type": "image"}` and `{"type": "video"}`. The last two may hold
                their source under `image` or `video`, `url` or `path`, or `base64`.
            add_generation_prompt: end with the opening of the answer; by default, unless `continue_final_message` is
                among `kwargs`.
            tokenize: make the inputs of the prompts and their media, as a call does.
            return_dict: with `tokenize`, return all inputs and not the `input_ids` alone.
            processor_kwargs: arguments of that call, such as `num_frames`; they may be among `kwargs` too.
            **kwargs: passed to the tokenizer's `apply_chat_template`.

        Returns:
            The prompt, or a list of prompts; with `tokenize` the inputs or the ids, by `return_dict`.

        Raises:
            MediaError: the checkpoint has no template, or one that fails, violates the sandbox or makes too much text;
                or as a call.
        """
        if add_generation_prompt is None:
            add_generation_prompt = not kwargs.get("continue_final_message")
        flag("add_generation_prompt", add_generation_prompt, error=MediaError)
        flag("tokenize", tokenize, error=MediaError)
        flag("return_dict", return_dict, error=MediaError)
        if processor_kwargs is not None and not isinstance(processor_kwargs, Mapping):
            raise MediaError(
                f"processor_kwargs={shown(processor_kwargs)}: must be a dict of arguments, or None"
            )
        call = {name: kwargs.pop(name) for name in _CALL if name in kwargs} | dict(processor_kwargs or {})
        if self.chat_template is None and "chat_template" not in kwargs:
            raise MediaError(
                "this checkpoint has no chat template (chat_template.jinja or chat_template.json); "
                f"write the prompt yourself, with {self.image_token!r} where the picture belongs"
            )
        parted = part_media(conversation)
        check_conversation(parted.conversation)
        kwargs.setdefault("chat_template", self.chat_template)
        prompts = render_template(
            self.tokenizer, parted.conversation, add_generation_prompt=add_generation_prompt, **kwargs
        )
        if not tokenize:
            return prompts
        if any(parted.images):
            call["images"] = parted.images
        if parted.videos:
            call["videos"] = parted.videos
        if call.get("return_tensors", "pt") in (None, "auto"):
            call["return_tensors"] = "pt"
        rows = prompts if parted.batched else [prompts]
        inputs = self([without_second_start(row, self.tokenizer) for row in rows], **call)
        return inputs if return_dict else inputs["input_ids"]

    def _pad_id(self) -> int:
        # Padding is masked, so any id will do for a tokenizer that names none.
        pad_id = self.tokenizer.pad_token_id
        return int(pad_id if pad_id is not None else self.tokenizer.eos_token_id or 0)


def with_known_tokens(processor: Any, prompt: str) -> str:
    """Return a prompt in which each picture and clip is one placeholder known to the tokenizer, with its text."""
    family = processor.family if isinstance(processor, (Processor, AdoptedProcessor)) else None
    if family is not None and family.native is not None and family.native.frame_text is not None:
        return prompt.replace(str(processor.video_token), processor.image_token)
    if family is None or family.image_text is None:
        return prompt
    image_token = repeated_token(family, processor.image_token)
    texts = {processor.image_token: family.image_text(image_token, 1)}
    if processor.video_token is not None and family.clip_text is not None:
        texts[processor.video_token] = family.clip_text(image_token, 1)
    return placeholder_pattern(*texts).sub(lambda match: texts[match[0]], prompt)


_CALL = tuple(
    name
    for name, parameter in inspect.signature(Processor.__call__).parameters.items()
    if parameter.kind != inspect.Parameter.VAR_KEYWORD and name not in ("self", "text")
)
"""Arguments of a call beside the text."""


def check_sampling(sampling: Mapping[str, Any]) -> None:
    """Check the arguments of a call that `read_video` takes, where they differ from their defaults.

    Raises:
        SamplingError: one is out of range, or names no video decoder.
    """
    if any(value is not _SAMPLING[name] for name, value in sampling.items()):
        check_request(**{name: value for name, value in sampling.items() if name != "backend"})
        get_backend(sampling["backend"])


_SAMPLING = {"num_frames": None, "fps": None, "max_frames": DEFAULT_MAX_FRAMES, "backend": "auto"}


def check_clips(clips: Any) -> None:
    """Check that clips are sampled frames, in a list.

    Raises:
        MediaError: otherwise.
    """
    for number, clip in enumerate(clips if isinstance(clips, (list, tuple)) else [clips]):
        if not isinstance(clip, VideoFrames):
            raise MediaError(
                f"clips: entry {number} is {shown(clip)}; pass a list of VideoFrames from read_video"
            )


def _as_rows(text: str | list[str]) -> list[str]:
    rows = [text] if isinstance(text, str) else text
    if not isinstance(rows, (list, tuple)) or not rows or not all(isinstance(row, str) for row in rows):
        raise MediaError(f"text: got {type(text).__name__}; pass a prompt, or a non-empty list of prompts")
    for row in rows:
        unicode_text("text", row, error=MediaError)
    return list(rows)
