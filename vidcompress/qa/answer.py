"""Answer to a question, with its report and timings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vidcompress.checks import is_whole
from vidcompress.core.report import Report
from vidcompress.errors import ArgumentError, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from vidcompress.qa.animation import Animation


@dataclass(frozen=True, eq=False)
class Answer:
    """Answer of a model, with the report of its visual tokens and its timings.

    Attributes:
        text: the answer, without special tokens or surrounding spaces.
        question: the question.
        report: the visual tokens of this question that reached the language model.
        timing_ms: milliseconds of decode, preprocess, encode, compress, prefill, generate (the decoding after the
            first token) and total, their sum; for the whole batch of this question.
        batch_size: number of questions in that batch.
        new_tokens: tokens of the answer.
        media: the PIL image, as the encoder saw it, or `VideoFrames` of each of `report.visuals`.
    """

    text: str
    question: str
    report: Report
    timing_ms: dict[str, float]
    batch_size: int = 1
    new_tokens: int = 0
    media: tuple[Any, ...] = field(default=(), repr=False)

    @property
    def notes(self) -> list[str]:
        """Remarks of the report on the answer and its media."""
        return self.report.all_notes

    def overlay(self, index: int = 0) -> Image:
        """Draw the tokens of one image or video that were kept.

        Args:
            index: number of the visual in `report.visuals`, from 0.

        Raises:
            ArgumentError: the question was about no such image or video.
        """
        from vidcompress.qa.overlay import draw_overlay

        return draw_overlay(self.report, self._drawn_over(index), index=index)

    def masks(self, index: int = 0) -> tuple[NDArray[np.bool_], ...]:
        """Return what was sent of one image or video, in the coordinates of the picture.

        `report.visuals[index].maps` has the same by tokens, with masses and what the layers dropped.

        Args:
            index: number of the visual in `report.visuals`, from 0.

        Returns:
            For each view an array (height, width) of the picture or frame: True at pixels whose token was sent, False
            at others and where the view does not reach. Two frames that make one temporal patch have one array.

        Raises:
            ArgumentError: the question was about no such image or video, or where its crops lie is not known.
        """
        size = self._size_of(index)
        return tuple(view.on_picture(view.kept, *size) for view in self.report.visuals[index].maps)

    def scores(self, index: int = 0) -> tuple[NDArray[np.float32], ...]:
        """Return the method's scores of the tokens of one image or video, in the coordinates of the picture.

        Args:
            index: number of the visual in `report.visuals`, from 0.

        Returns:
            For each view an array (height, width) float32, higher is kept; NaN where there is no score.

        Raises:
            ArgumentError: the question was about no such image or video, where its crops lie is not known, or the
                method does not rank tokens by a score.
        """
        size, scores = self._size_of(index), []
        for view in self.report.visuals[index].maps:
            if view.scores is None:
                raise ArgumentError(
                    f"scores: method {self.report.method!r} gave no scores of tokens here; use a method that ranks "
                    "them by a score, such as globalcom2, or masks()"
                )
            scores.append(view.on_picture(view.scores, *size))
        return tuple(scores)

    def _size_of(self, index: int) -> tuple[int, int]:
        """Return the height and width of an image, or of the frames of a video, in pixels."""
        from PIL import Image

        media = self._drawn_over(index)
        if isinstance(media, Image.Image):
            return media.height, media.width
        _, height, width, _ = media.shape
        return int(height), int(width)

    def animation(self, index: int = 0) -> Animation:
        """Draw one video frame by frame; `answer.animation().save("kept.gif")` writes it, or "kept.mp4".

        Args:
            index: number of the visual in `report.visuals`, from 0.

        Raises:
            ArgumentError: the question was about no such video, or it is an image.
        """
        from vidcompress.qa.animation import draw_animation

        return draw_animation(self.report, self._drawn_over(index), index=index)

    def html(self) -> str:
        """Return a page that shows what was kept, as one HTML file that loads nothing.

        `Path("kept.html").write_text(answer.html(), encoding="utf-8")` saves it, and a notebook shows it for an answer
        at the end of a cell. It has the kept tokens over the media, scores, mass, what layers dropped, and the times.
        """
        from vidcompress.qa.viewer.page import viewer_page
        from vidcompress.qa.viewer.rows import ViewerRow

        row = ViewerRow.of_report(self.report, self.text, timing_ms=self.timing_ms)
        return viewer_page([row], question=self.question, media=self.media)

    def _repr_html_(self) -> str:
        """Return the page in a frame, for notebooks."""
        from vidcompress.qa.viewer.page import embedded

        return embedded(self.html())

    def _drawn_over(self, index: int) -> Any:
        """Return the image, or the frames of the video, that was encoded."""
        if not is_whole(index) or not 0 <= index < len(self.media):
            if not self.media:
                raise ArgumentError(
                    f"index={shown(index)}: the question had no image and no video; ask about one to see what was kept"
                )
            raise ArgumentError(
                f"index={shown(index)}: the question had {len(self.media)} images and videos, counted from 0; "
                "pass a whole number below that"
            )
        media = self.media[index]
        return getattr(media, "frames", media)

    def to_dict(self, *, masks: bool = False) -> dict[str, Any]:
        """Return the answer, the report and the timings as JSON types; rounded parts still sum to `total`.

        Args:
            masks: add to each view its place, mask, stages and masses.
        """
        parts = {phase: round(ms, 3) for phase, ms in self.timing_ms.items() if phase != "total"}
        return {
            "question": self.question,
            "answer": self.text,
            **self.report.to_dict(masks=masks),
            "timing_ms": {**parts, "total": round(sum(parts.values()), 3)},
            "batch_size": self.batch_size,
            "new_tokens": self.new_tokens,
        }

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return (
            f"Answer({shown(self.text)}, question={shown(self.question)}, kept={self.report.kept} of "
            f"{self.report.total}, {self.timing_ms.get('total', 0.0):.1f} ms)"
        )
