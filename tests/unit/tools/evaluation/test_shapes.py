"""The shapes world: scenes, questions, clips, the split."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcompress.tools.evaluation import shapes
from vidcompress.tools.evaluation.shapes.draw import background
from vidcompress.tools.evaluation.shapes.scene import overlaps
from vidcompress.tools.evaluation.shapes.sprites import digit_mask, shape_mask
from vidcompress.tools.evaluation.shapes.vocabulary import PLURALS, article

SEEDS = st.integers(0, 2**31)


def test_importing_needs_no_torch() -> None:
    code = "import sys; import vidcompress.tools.evaluation.shapes; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_scenes_are_clean(seed: int) -> None:
    scene = shapes.sample_scene(seed)
    boxes = [item.box for item in scene.items]
    assert 1 <= len(boxes) <= 6
    assert len({(item.color, item.shape) for item in scene.items}) == len(boxes)
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        assert 0 <= x0 < x1 <= scene.width and 0 <= y0 < y1 <= scene.height
        assert not overlaps(boxes[index], boxes[:index], gap=0)
        cx, cy = scene.items[index].center
        assert abs(cx - scene.width / 2) > 3 and abs(cy - scene.height / 2) > 3
    for digit in scene.digits:
        x0, y0, x1, y1 = digit.box
        assert 16 <= y1 - y0 <= 22 and 0 <= x0 and x1 <= scene.width and 0 <= y0 and y1 <= scene.height


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 16))
def test_clips_are_clean(seed: int, frames: int) -> None:
    scene = shapes.sample_clip(seed, frames)
    assert 1 <= len(scene.actors) <= 4 and scene.width % 2 == scene.height % 2 == 0
    assert 0 <= scene.flash_frame < frames
    assert min(actor.appears for actor in scene.actors) < frames
    for frame in range(frames):
        boxes = [item.box for item in (actor.at(frame) for actor in scene.actors) if item is not None]
        for index, (x0, y0, x1, y1) in enumerate(boxes):
            assert 0 <= x0 and 0 <= y0 and x1 <= scene.width and y1 <= scene.height
            assert not overlaps(boxes[index], boxes[:index], gap=0)
    for actor in scene.actors:
        last = actor.at(frames - 1)
        assert last is not None
        dx, dy = last.x - actor.item.x, last.y - actor.item.y
        moved = {None: (0, 0), "left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[
            actor.direction
        ]
        assert (np.sign(dx), np.sign(dy)) == moved


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_answers_follow_from_the_scene(seed: int) -> None:
    scene = shapes.sample_scene(seed)
    items = scene.items
    vocabulary = set(shapes.words())
    for question in shapes.ask_all(scene, np.random.default_rng(seed)):
        assert set(question.text.replace("?", " ?").split()) | set(question.answer.split()) <= vocabulary
        named = question.text.rstrip("?").split()
        if question.type == "color":
            assert [item.color for item in items if item.shape == named[-1]] == [question.answer]
        elif question.type == "shape":
            assert [item.shape for item in items if item.color == named[4]] == [question.answer]
        elif question.type == "existence":
            there = any((item.color, item.shape) == (named[3], named[4]) for item in items)
            assert question.answer == ("yes" if there else "no") and named[2] == article(named[3])
        elif question.type == "count":
            what = named[2]
            found = [i for i in items if what in ("objects", i.color, PLURALS[i.shape])]
            assert question.answer == str(len(found)) and len(question.about) == len(found)
        elif question.type == "place":
            (x, y), (vertical, horizontal) = items[question.about[0]].center, question.answer.split()
            assert (vertical == "top") == (y < scene.height / 2) and (horizontal == "left") == (
                x < scene.width / 2
            )
        else:
            assert question.type == "digit" and question.answer == str(scene.digits[0].value)


def test_clip_questions_follow_from_the_clip() -> None:
    seen = Counter[str]()
    for seed in range(120):
        scene = shapes.sample_clip(seed)
        for question in shapes.ask_all(scene, np.random.default_rng(seed)):
            seen[question.type] += 1
            about = [scene.actors[index] for index in question.about]
            if question.type == "direction":
                assert about[0].direction == question.answer
            elif question.type == "order":
                frames = [actor.appears for actor in scene.actors]
                edge = min(frames) if question.text.endswith("first?") else max(frames)
                assert (
                    about[0].appears == edge
                    and frames.count(edge) == 1
                    and about[0].item.shape == question.answer
                )
            elif question.type == "place":
                assert about[0].direction is None
    assert set(seen) == set(shapes.CLIP_TYPES)


def test_the_same_seed_gives_the_same_pixels() -> None:
    first, second = shapes.image_example(7), shapes.image_example(7)
    assert (
        np.array_equal(np.asarray(first.image), np.asarray(second.image))
        and first.questions == second.questions
    )
    assert np.array_equal(shapes.clip_example(7).frames, shapes.clip_example(7).frames)
    assert not np.array_equal(
        shapes.clip_example(7).frames, shapes.clip_example(8, size=(160, 120)).frames[:, :1]
    )


def test_sizes_are_respected() -> None:
    assert shapes.image_example(3, size=(300, 140)).image.size == (300, 140)
    assert shapes.clip_example(3, frames=5, size=(128, 96)).frames.shape == (5, 96, 128, 3)
    assert background(1, 900, 730).shape == (730, 900, 3)


def test_boxes_hold_the_objects() -> None:
    example = shapes.image_example(11)
    pixels = np.asarray(example.image).astype(int)
    for item, (x0, y0, x1, y1) in zip(example.scene.items, example.boxes, strict=True):
        near = np.abs(pixels[y0:y1, x0:x1] - np.array(item.rgb)).max(axis=2) < 3
        assert near.sum() > 0.15 * item.size**2
    clip = shapes.clip_example(3)
    assert len(clip.boxes) == 8 and all(len(boxes) == len(clip.scene.actors) for boxes in clip.boxes)


def test_the_digit_flashes_in_one_frame() -> None:
    scene = next(scene for scene in map(shapes.sample_clip, range(50)) if scene.flash is not None)
    frames = shapes.paint_clip(scene)
    x0, y0, x1, y1 = scene.flash.box  # type: ignore[union-attr]
    inked = [int((np.abs(f[y0:y1, x0:x1].astype(int) - scene.flash.ink).max(2) < 3).sum()) for f in frames]  # type: ignore[union-attr]
    assert int(np.argmax(inked)) == scene.flash_frame and inked[scene.flash_frame] > 20


def test_held_out_questions_are_balanced_and_stable() -> None:
    for medium, types in (("image", shapes.IMAGE_TYPES), ("clip", shapes.CLIP_TYPES)):
        asked = list(shapes.held_out_questions(medium, 160))  # type: ignore[arg-type]
        counts = Counter(question.type for *_, question in asked)
        assert set(counts) == set(types) and max(counts.values()) - min(counts.values()) <= 8
        answers = Counter(question.answer for *_, question in asked if question.type == "existence")
        assert abs(answers["yes"] - answers["no"]) <= 1
        assert all(seed in shapes.HELD_OUT_SEEDS for seed, *_ in asked)
        shorter = list(shapes.held_out_questions(medium, 20))  # type: ignore[arg-type]
        assert [question for *_, question in shorter] == [question for *_, question in asked[:20]]
    assert shapes.HELD_OUT_SEEDS.stop <= shapes.TRAINING_SEEDS.start
    example, question = next(iter(shapes.held_out("clip", 1)))
    assert isinstance(example, shapes.ClipExample) and example.questions == [question]


def test_clips_become_h264_files(tmp_path: Path) -> None:
    example = shapes.clip_example(3, size=(160, 120))
    path = tmp_path / "clip.mp4"
    shapes.write_clip(example, path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.average_rate == example.fps
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    assert decoded.shape == example.frames.shape
    assert np.abs(decoded.astype(int) - example.frames).mean() < 4


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    scene = shapes.sample_scene(1)
    with pytest.raises(ValueError, match="kind='order' is not one of color"):
        shapes.ask(scene, "order", np.random.default_rng(0))
    with pytest.raises(ValueError, match="frames=0 must be at least 1"):
        shapes.sample_clip(1, frames=0)
    with pytest.raises(ValueError, match="medium='film' is not one of image, clip"):
        next(shapes.held_out_questions("film", 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="even sides"):
        shapes.write_frames(np.zeros((2, 11, 10, 3), dtype=np.uint8), tmp_path / "odd.mp4")


def test_masks_are_full_and_soft() -> None:
    for name in shapes.SHAPES:
        mask = shape_mask(name, 30)
        assert mask.shape == (30, 30) and mask.min() == 0 and mask.max() == 1 and 0.2 < mask.mean() < 0.9
    glyphs = [digit_mask(digit, 21) for digit in range(10)]
    assert all(glyph.shape == (21, 15) for glyph in glyphs)
    assert min(np.abs(a - b).mean() for i, a in enumerate(glyphs) for b in glyphs[:i]) > 0.03
