"""Arguments for pictures and clips in one form: lists, with their prompts where known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vidcompress.checks import is_whole
from vidcompress.errors import MediaError, shown


def arrange_images(images: Any) -> tuple[list[Any], list[int] | None]:
    """Flatten pictures and return the sizes of their groups.

    Args:
        images: None, one picture, a list of pictures, or a list of lists (one list per prompt, empty for text only).

    Returns:
        The pictures in order, and the length of each non-empty list; None where no lists were given.

    Raises:
        MediaError: lists and pictures are mixed.
    """
    if images is None:
        return [], None
    if not isinstance(images, (list, tuple)):
        return [images], None
    nested = [isinstance(entry, (list, tuple)) for entry in images]
    if not any(nested):
        return list(images), None
    if not all(nested):
        raise MediaError(
            "images: pictures and lists of pictures are mixed; pass one list per prompt, or one flat list"
        )
    return [picture for group in images for picture in group], [len(group) for group in images if group]


def arrange_videos(videos: Any) -> list[Any]:
    """Make a list of sources for `read_video`.

    Args:
        videos: None; one clip (a path, bytes, a file object, VideoFrames, an array (frame, height, width, channel),
            or a list of pictures); a list of clips; or one array (clip, frame, height, width, channel).
    """
    if videos is None:
        return []
    if isinstance(videos, (list, tuple)):
        if not videos:
            return []
        return [videos] if _is_picture(videos[0]) else list(videos)
    if getattr(videos, "ndim", None) == 5:
        return list(videos)
    return [videos]


def _is_picture(entry: Any) -> bool:
    from PIL.Image import Image

    return isinstance(entry, Image) or getattr(entry, "ndim", None) == 3


def check_counts(
    kind: str, token: str | None, in_text: Sequence[int], given: int, groups: list[int] | None
) -> None:
    """Check that the prompts have as many placeholders as there are pictures or clips.

    Args:
        kind: "images" or "videos", the argument.
        token: its placeholder, None where the model has none.
        in_text: placeholders per row.
        given: number of pictures or clips.
        groups: sizes of their non-empty lists, or None.

    Raises:
        MediaError: the numbers differ.
    """
    if token is None and given:
        others = ""
        if kind == "videos":
            others = ", or use Qwen-VL, InternVL, LLaVA-OneVision, LLaVA-Video or LLaVA-NeXT-Video"
        raise MediaError(f"{kind}: {given} given, but this model takes none; leave the argument out{others}")
    if sum(in_text) != given:
        raise MediaError(
            f"{kind}: {given} given, but text has {list(in_text)} {token!r} placeholders per row; write one for each"
        )
    if groups is not None and groups != [count for count in in_text if count]:
        raise MediaError(
            f"{kind}: lists of {groups}, but text has {list(in_text)} {token!r} placeholders per row; "
            "pass one list per row, with as many entries as the row has placeholders"
        )


def check_groups(pictures: Any, groups: Any) -> None:
    """Check that pictures are a list, and that the sizes of their groups sum to its length.

    Raises:
        MediaError: otherwise.
    """
    if not isinstance(pictures, (list, tuple)):
        raise MediaError(f"pictures={shown(pictures)}: must be a list of what load_image takes")
    if groups is None:
        return
    fine = isinstance(groups, (list, tuple)) and all(is_whole(count) and count > 0 for count in groups)
    if not fine or sum(groups) != len(pictures):
        raise MediaError(
            f"groups={shown(groups)}: must be whole numbers of at least 1 that sum to the {len(pictures)} pictures, or "
            "None"
        )
