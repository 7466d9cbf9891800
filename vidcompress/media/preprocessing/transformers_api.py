"""Processor interface of transformers (pipelines, Trainer) other than the call."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from transformers.processing_utils import ProcessorMixin

from vidcompress.adapters.family.pan_and_scan import PannedGeometry
from vidcompress.checks import flag
from vidcompress.errors import MediaError, shown
from vidcompress.media.preprocessing.arguments import arrange_images
from vidcompress.media.preprocessing.processor_files import read_processor_files

if TYPE_CHECKING:
    from vidcompress.adapters.families import Family


class NoPart(MediaError, AttributeError):
    """Processor part that stock processors have and this one lacks."""


class StockProcessor(ProcessorMixin):  # type: ignore[misc]
    """`ProcessorMixin` made from a checkpoint's files instead of image and video processors.

    Attributes:
        tokenizer: the checkpoint's transformers tokenizer.
        chat_template: Jinja, or None.
        settings: content of `processor_config.json`.
        config: of the model, or None.
    """

    family: Family
    settings: Mapping[str, Any]
    config: Any

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **options: Any) -> Self:
        """Call `load_processor`, under the name that transformers uses.

        Args:
            pretrained_model_name_or_path: as `model_or_path` of `load_processor`.
            **options: of `load_processor`.

        Raises:
            MediaError: as `load_processor`; or an option that it does not have.
        """
        from vidcompress.media import load_processor

        accepted = [
            name for name in inspect.signature(read_processor_files).parameters if name != "model_or_path"
        ]
        for name, value in options.items():
            if name not in accepted:
                raise MediaError(
                    f"{name}={shown(value)}: load_processor takes {', '.join(accepted)}; leave it out"
                )
        processor: Self = load_processor(pretrained_model_name_or_path, **options)
        return processor

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **options: Any) -> list[str]:
        """Write tokenizer, chat template and settings of the pixels, as transformers' processors do.

        The model's config.json is written too where the folder has none, so that `load_processor` reads the folder. A
        preset and the device of the resizing are not stored.

        Args:
            save_directory: a folder; made if it is missing.
            push_to_hub: must be False.
            **options: none.

        Returns:
            The path of processor_config.json.

        Raises:
            MediaError: nothing to save, or an argument that is not served.
        """
        if flag("push_to_hub", push_to_hub, error=MediaError):
            raise MediaError(
                "push_to_hub=True: only folders are written; leave it out, and upload the folder"
            )
        for name, value in options.items():
            raise MediaError(f"{name}={shown(value)}: save_pretrained takes a folder only; leave it out")
        if not isinstance(save_directory, (str, os.PathLike)) or not os.fspath(save_directory):
            raise MediaError(f"save_directory={shown(save_directory)}: must be the path of a folder")
        folder = os.fsdecode(save_directory)
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise MediaError(
                f"save_directory={folder!r} cannot be made ({error.strerror}); name another folder"
            ) from error
        self.tokenizer.save_pretrained(folder)
        if self.chat_template is not None:
            _write(folder, "chat_template.jinja", self.chat_template)
        if self.config is not None and not os.path.exists(os.path.join(folder, "config.json")):
            self.config.save_pretrained(folder)
        return [_write(folder, "processor_config.json", self.to_json_string())]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of processor_config.json."""
        return dict(self.settings)

    def to_json_string(self) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @property
    def model_input_names(self) -> list[str]:
        """Keys that the inputs may have, `input_ids` first."""
        names = list(self.tokenizer.model_input_names)
        names += [self.family.token_types] * (self.family.token_types is not None)
        panned = isinstance(self.geometry, PannedGeometry)
        names += ["pixel_values"] + ["image_sizes"] * (self.family.crops or self.family.tiles or panned)
        names += ["num_crops"] * panned
        names += ["batch_num_images"] * self.family.counts_images
        apart = self.family.takes_clips and not self.family.tiles
        return [*names, "pixel_values_videos"] if apart else names

    @property
    def image_processor(self) -> ImagePart:
        """Image processor: the part that prepares pictures."""
        return ImagePart(self)

    @property
    def video_processor(self) -> Any:
        """Absent: a call of the processor reads and prepares a clip."""
        raise NoPart(
            "video_processor: this processor prepares clips itself; use processor(text=..., videos=...)"
        )


class ImagePart:
    """The part of a processor that prepares pictures. Pipelines batch and save with it.

    Args:
        processor: a `Processor`.
    """

    padding_value = 0.0
    """Value of missing views of a picture in `pixel_values`."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __call__(self, images: Any, *, return_tensors: str = "pt") -> Any:
        """Make pixel inputs of pictures, `pixel_values` and its companions, as a transformers `BatchFeature`.

        Args:
            images: as in a call of the processor.
            return_tensors: "pt", the only one.

        Raises:
            MediaError: a picture cannot be read, or an argument is not allowed.
        """
        from transformers import BatchFeature

        if return_tensors != "pt":
            raise MediaError(f"return_tensors={shown(return_tensors)}: only 'pt' is supported")
        inputs, _ = self._processor.prepare_images(*arrange_images(images))
        return BatchFeature(inputs)

    def __repr__(self) -> str:
        return f"ImagePart({self._processor!r})"

    @property
    def model_input_names(self) -> list[str]:
        """Keys of its possible outputs."""
        names: list[str] = self._processor.model_input_names
        return [name for name in names if "image" in name or name == "pixel_values"]

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **options: Any) -> list[str]:
        """Call `Processor.save_pretrained`."""
        files: list[str] = self._processor.save_pretrained(save_directory, push_to_hub, **options)
        return files


def _write(folder: str, name: str, content: str) -> str:
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)
    return path
