"""An answer gives masks and scores of every method as arrays in the picture's own coordinates, and as JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import vidcompress
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.core.report.maps import mask_of
from vidcompress.errors import ArgumentError

SCENE, CLIP = "examples/scene.png", "examples/clip.mp4"
METHODS = sorted({*available_methods(), "globalcom2+fastv"})


def asked(qa: vidcompress.VisualQA, method: str, modality: str, **more: Any) -> vidcompress.Answer:
    media: dict[str, Any] = {"image": SCENE} if modality == "image" else {"video": CLIP}
    return qa.using(method=method, retention_ratio=0.6, **more).ask("what?", **media, max_new_tokens=1)


def serves(method: str, modality: str) -> bool:
    return all(modality in get_method(part).modalities for part in method.split("+"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("modality", ["image", "video"])
@pytest.mark.parametrize("method", METHODS)
def test_masks_say_what_the_report_counts(qa: vidcompress.VisualQA, method: str, modality: str) -> None:
    if not serves(method, modality):
        with pytest.raises(vidcompress.VidcompressError, match="serves"):
            asked(qa, method, modality)
        return
    answer = asked(qa, method, modality)
    (visual,) = answer.report.visuals
    assert [int(view.kept.sum()) for view in visual.maps] == [view.kept for view in visual.views]
    height, width = (224, 336) if modality == "image" else (112, 112)
    masks = answer.masks()
    assert {mask.shape for mask in masks} == {(height, width)} and len(masks) == len(visual.views)
    for mask, view in zip(masks, visual.maps, strict=True):
        assert view.place is not None
        area = (view.place[2] - view.place[0]) * (view.place[3] - view.place[1])
        assert mask.mean() == pytest.approx(area * view.kept.mean(), abs=0.02)
    entry = json.loads(json.dumps(answer.to_dict(masks=True)))
    for told, view in zip(entry["visual_tokens"]["per_view"], visual.maps, strict=True):
        assert np.array_equal(mask_of(told["mask"], (told["grid"][0], told["grid"][1])), view.kept)
        assert told["place"] == pytest.approx(view.place, abs=1e-4)
        assert {int(layer) for layer in told.get("stages", {})} == {*view.stages}
    if get_method(method.split("+")[-1]).where == "inside":
        assert answer.report.inside is not None
        for layer in visual.maps[0].stages:
            left = sum(int(view.stages[layer].sum()) for view in visual.maps)
            separators = sum(
                1 for n in visual.kept_entries[visual.stages[layer]] if visual.layout.separator[n]
            )
            assert left + separators == answer.report.inside.per_layer[layer] < visual.kept
    else:
        assert not visual.maps[0].stages


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("policy", ["exact", "reference"])
@pytest.mark.parametrize(
    ("method", "modality"),
    [
        ("globalcom2", "image"),
        ("globalcom2", "video"),
        ("vidcom2", "video"),
        ("evs", "video"),
        ("fastervlm", "image"),
        ("hired", "image"),
    ],
)
def test_tokens_sent_have_the_best_scores(
    qa: vidcompress.VisualQA, method: str, modality: str, policy: Any
) -> None:
    answer = asked(qa, method, modality, policy=policy)
    maps = answer.report.visuals[0].maps
    groups = (
        [maps] if method == "evs" else [[view] for view in maps]
    )  # evs ranks the clip, the others each view
    gaps = []
    for views in groups:
        scores = np.concatenate([view.scores[view.cells] for view in views if view.scores is not None])
        kept = np.concatenate([view.kept[view.cells] for view in views])
        if kept.any() and not kept.all():
            assert scores[kept].min() >= scores[~kept].max()
            gaps.append(scores[kept].max() > scores[~kept].min())
    assert gaps and all(gaps)  # the control: the other way round it is false
    for scores, mask in zip(answer.scores(), answer.masks(), strict=True):
        assert not (mask & np.isnan(scores)).any()


def test_masses_sum_to_the_tokens(qa: vidcompress.VisualQA) -> None:
    maps = asked(qa, "census", "video").report.visuals[0].maps
    assert sum(float(view.mass.sum()) for view in maps if view.mass is not None) == pytest.approx(128)
    assert "mass" in maps[0].to_dict()
    assert all(view.mass is None for view in asked(qa, "census", "video", mass="off").report.visuals[0].maps)


def test_a_method_without_scores_says_so(qa: vidcompress.VisualQA) -> None:
    answer = asked(qa, "divprune", "image")
    with pytest.raises(ArgumentError, match="scores: method 'divprune' gave no scores of tokens here"):
        answer.scores()
    with pytest.raises(ArgumentError, match="index=1: the question had 1 images and videos"):
        answer.masks(1)


def test_frames_that_were_not_encoded_have_a_map(qa: vidcompress.VisualQA) -> None:
    few = qa.using(retention_ratio=0.05, encoder_saving="frames:threshold=1.5,area=0.9")
    (visual,) = few.ask("what?", video=CLIP, max_new_tokens=1).report.visuals
    assert visual.encoded < len(visual.views) == len(visual.maps)
    assert [int(view.kept.sum()) for view in visual.maps] == [view.kept for view in visual.views]
