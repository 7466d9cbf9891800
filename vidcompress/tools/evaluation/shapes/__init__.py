"""Shapes: synthetic scenes and clips of coloured shapes, small digits and moving objects, with questions.

Every scene follows from a seed. Held-out and training seeds are disjoint. No module here needs torch.
"""

from vidcompress.tools.evaluation.shapes.clip import Actor, ClipScene, paint_clip, sample_clip, write_frames
from vidcompress.tools.evaluation.shapes.draw import paint
from vidcompress.tools.evaluation.shapes.examples import (
    HELD_OUT_SEEDS,
    TRAINING_SEEDS,
    ClipExample,
    ImageExample,
    clip_example,
    held_out,
    held_out_questions,
    image_example,
    write_clip,
)
from vidcompress.tools.evaluation.shapes.questions import ShapesQuestion, ask, ask_all
from vidcompress.tools.evaluation.shapes.scene import Digit, Scene, SceneObject, sample_scene
from vidcompress.tools.evaluation.shapes.vocabulary import (
    CLIP_TYPES,
    COLORS,
    DIRECTIONS,
    IMAGE_TYPES,
    PLACES,
    SHAPES,
    words,
)

__all__ = [
    "CLIP_TYPES",
    "COLORS",
    "DIRECTIONS",
    "HELD_OUT_SEEDS",
    "IMAGE_TYPES",
    "PLACES",
    "SHAPES",
    "TRAINING_SEEDS",
    "Actor",
    "ClipExample",
    "ClipScene",
    "Digit",
    "ImageExample",
    "SceneObject",
    "ShapesQuestion",
    "Scene",
    "ask",
    "ask_all",
    "clip_example",
    "held_out",
    "held_out_questions",
    "image_example",
    "paint",
    "paint_clip",
    "sample_clip",
    "sample_scene",
    "words",
    "write_clip",
    "write_frames",
]
