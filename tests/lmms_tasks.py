"""Small lmms-eval tasks on local data: shapes of our own, and rows in the format of the official POPE and VideoMME."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vidcompress.tools.evaluation.shapes.examples import held_out, write_clip

UTILS = """
import os
from PIL import Image

ROOT = os.path.dirname(__file__)

def _path(doc):
    fuse = os.environ.get("SHAPES_FUSE")  # a file: whoever finds it is killed, once
    if fuse and doc["id"] == 5 and os.environ.get("RANK") == "1" and os.path.exists(fuse):
        os.remove(fuse)
        os.kill(os.getpid(), 9)
    return os.path.join(ROOT, doc["media"])

def image(doc):
    return [Image.open(_path(doc)).convert("RGB")]

def clip(doc):
    return [_path(doc)]

def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]

def rounds(doc, lmms_eval_specific_kwargs=None, previous_output=None, round_idx=None, previous_round_info=None):
    if not round_idx:
        return doc["question"]
    asked = (previous_round_info or 0) + 1
    return None, "is there a red circle", round_idx >= 3, previous_output, asked

def score(doc, results):
    return {"acc": float(results[0].strip() == doc["answer"])}

def last(doc, results):
    return {"acc": float(len(results[0]) == 3)}

def choices(doc):
    return ["yes", "no"]

def right(doc):
    return int(doc["answer"] != "yes")
"""

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_visual: !function shapes_utils.{visual}
doc_to_text: !function shapes_utils.{text}
doc_to_target: {target}
{extra}
generation_kwargs: {{max_new_tokens: 6, temperature: 0, do_sample: false}}
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""

OFFICIAL = """
include: {official}
task: {name}
dataset_path: {data}
dataset_kwargs: {{load_from_disk: true}}
"""


def shapes(folder: Path, images: int = 12, clips: int = 4) -> None:
    """Write the tasks `vc_images`, `vc_clips`, `vc_rounds`, `vc_choices` with their data."""
    folder.mkdir(parents=True)
    (folder / "shapes_utils.py").write_text(UTILS)
    for name, medium, count in (("images", "image", images), ("clips", "clip", clips)):
        rows = []
        for number, (example, question) in enumerate(_examples(medium, count)):
            media = f"{name}{number}.{'png' if medium == 'image' else 'mp4'}"
            example.image.save(folder / media) if medium == "image" else write_clip(example, folder / media)
            rows.append({"id": number, "media": media, "question": question.text, "answer": question.answer})
        _jsonl(folder / f"{name}.jsonl", rows)
    scored = "process_results: !function shapes_utils.score"
    _task(folder, "vc_images", "images.jsonl", "generate_until", "image", "text", "answer", scored)
    _task(folder, "vc_clips", "clips.jsonl", "generate_until", "clip", "text", "answer", scored)
    last = "process_results: !function shapes_utils.last"
    _task(
        folder, "vc_rounds", "images.jsonl", "generate_until_multi_round", "image", "rounds", "answer", last
    )
    listed = "doc_to_choice: !function shapes_utils.choices"
    target = "!function shapes_utils.right"
    _task(folder, "vc_choices", "images.jsonl", "multiple_choice", "image", "text", target, listed)


def official(folder: Path, package: Path, hub: Path, rows: int = 4) -> None:
    """Write `pope_local` and `videomme_local`, which include the official task files.

    Args:
        folder: of the task files and data. package: of the installed lmms_eval. hub: what HF_HOME will be.
        rows: of each.
    """
    from datasets import Dataset, DatasetDict, Features, Image, Value

    text = Value("string")
    pope = dict.fromkeys(("id", "question_id", "question", "answer", "image_source", "category"), text)
    asked = [
        {
            "id": str(number),
            "question_id": str(number),
            "question": "is there a red circle",
            "answer": ("yes", "no")[number % 2],
            "image_source": f"local_{number}",
            "category": "adversarial",
            "image": example.image,
        }
        for number, (example, _) in enumerate(_examples("image", rows))
    ]
    made = Dataset.from_list(asked, features=Features({**pope, "image": Image()}))
    DatasetDict({"test": made}).save_to_disk(str(folder / "pope"))
    videos = hub / "videomme" / "data"
    videos.mkdir(parents=True)
    told = []
    for number, (example, question) in enumerate(_examples("clip", rows)):
        write_clip(example, videos / f"v{number}.mp4")
        told.append(
            {
                "video_id": str(number),
                "duration": "short",
                "domain": "Knowledge",
                "sub_category": "Astronomy",
                "url": "local",
                "videoID": f"v{number}",
                "question_id": f"{number}-1",
                "task_type": "Counting Problem",
                "question": question.text,
                "options": ["A. one", "B. two", "C. red", "D. left"],
                "answer": "A",
            }
        )
    DatasetDict({"test": Dataset.from_list(told)}).save_to_disk(str(folder / "videomme"))
    for name in ("pope", "videomme"):
        original = package / "tasks" / name / f"{name}.yaml"
        written = OFFICIAL.format(official=original, name=f"{name}_local", data=folder / name)
        if name == "pope":  # the small models know few words, and none of POPE's instruction
            written += 'lmms_eval_specific_kwargs: {default: {pre_prompt: "", post_prompt: ""}}\n'
        (folder / f"{name}_local.yaml").write_text(written)


def _examples(medium: Any, count: int) -> Any:
    return held_out(medium, count) if medium == "image" else held_out(medium, count, 8)


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _task(
    folder: Path, name: str, data: str, kind: str, visual: str, text: str, target: str, extra: str
) -> None:
    written = TASK.format(
        name=name, data=data, kind=kind, visual=visual, text=text, target=target, extra=extra
    )
    (folder / f"{name}.yaml").write_text(written)
