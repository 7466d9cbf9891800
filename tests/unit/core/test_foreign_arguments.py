"""Arguments under foreign names: each is answered with what to do instead, and the answer is right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from vidcompress import UnsupportedModelError, VisualQA
from vidcompress.adapters.families import get_family
from vidcompress.core.foreign_arguments import ASKING, LOADING, SAMPLING, instead, refuse
from vidcompress.core.method import METHODS
from vidcompress.core.method_lookup import get_method
from vidcompress.errors import ArgumentError, MediaError
from vidcompress.loading.arguments import OWN, _known
from vidcompress.loading.load import load_model, one_dtype
from vidcompress.tools.evaluation.lmms_eval.settings import read_settings
from vidcompress.tools.evaluation.run.sweep_file import read_sweep

SCENE = str(Path(__file__).parents[3] / "examples" / "scene.png")


@pytest.fixture(scope="module")
def qa() -> VisualQA:
    return VisualQA.from_pretrained(torch_dtype="auto")


def test_no_name_of_the_table_means_something_where_it_is_refused(qa: VisualQA) -> None:
    assert not (set(ASKING) & (_known(qa.model) | set(OWN)))
    for name in METHODS.names():
        assert not set(LOADING) & set(vars(METHODS.get(name)()))
    assert set(SAMPLING) <= set(LOADING) and set(SAMPLING) <= set(ASKING)


@pytest.mark.parametrize("table", [ASKING, LOADING], ids=["asking", "loading"])
def test_every_answer_says_what_to_do(table: Any) -> None:
    for name in table:
        said = instead(name, 1, table)
        assert said is not None and said.startswith(f"{name}=") and "{" not in said
        assert re.search(r"pass |leave |use |set |takes? ", said), said
        assert "did you mean" not in said
    assert instead("tau", 1, table) is None


def test_what_is_advised_for_the_budget_works(qa: VisualQA) -> None:
    assert qa.using(retention_ratio=0.1).ask("how many?", image=SCENE, max_new_tokens=1).report.kept == 46
    for name in ("backend", "time_instruction"):
        with pytest.raises(ArgumentError, match=rf"{name}=4: is set where a VisualQA is made"):
            qa.ask("how many?", **{name: 4})


def test_options_of_methods_are_no_arguments_of_generate(qa: VisualQA) -> None:
    with pytest.raises(ArgumentError, match=r"tau=5: is an option of .*globalcom2.*using\(tau=5\)"):
        qa.ask("how many?", image=SCENE, tau=5)  # type: ignore[call-arg]
    assert qa.using(tau=5).ask("how many?", image=SCENE, max_new_tokens=1).report.kept == 116
    with pytest.raises(ArgumentError, match="img='a.png': pass image='a.png'"):
        qa.ask("how many?", img="a.png")  # type: ignore[call-arg]


def test_a_token_is_not_shown() -> None:
    with pytest.raises(ArgumentError, match="token") as caught:
        VisualQA.from_pretrained("owner/name", token="hf_secret")
    assert "hf_secret" not in str(caught.value)
    with pytest.raises(ArgumentError, match="cache_dir='hf_secret'"):  # others are
        VisualQA.from_pretrained("owner/name", cache_dir="hf_secret")


def test_a_method_that_has_an_option_of_such_a_name_gets_it() -> None:
    refuse({"token": 1}, LOADING, known=["token"])
    with pytest.raises(ArgumentError, match="method 'globalcom2' has no option 'tua'.*did you mean 'tau'"):
        get_method("globalcom2", tua=1)
    for method in ("globalcom2", "globalcom2+fastv", get_method("random")):
        with pytest.raises(ArgumentError, match="load_in_4bit=True: pass quantization='4bit'"):
            get_method(method, load_in_4bit=True)


def test_both_names_of_the_dtype(qa: VisualQA) -> None:
    assert qa.model.dtype == torch.float32  # the checkpoint's own
    half = VisualQA.from_pretrained(torch_dtype=torch.bfloat16, dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    assert one_dtype(None, None) is None and one_dtype("auto", None) == one_dtype(None, "auto") == "auto"
    with pytest.raises(
        ArgumentError, match="torch_dtype='float16' and dtype='auto' are two names of one argument"
    ):
        one_dtype("auto", "float16")


def test_lmms_eval_and_sweeps_take_both_names_and_refuse_the_foreign() -> None:
    assert read_settings({"pretrained": "tiny-next", "torch_dtype": "auto"}).loading == {"dtype": "auto"}
    assert read_settings({"pretrained": "tiny-next", "dtype": "auto"}).loading == {"dtype": "auto"}
    with pytest.raises(ArgumentError, match="two names of one argument"):
        read_settings({"pretrained": "tiny-next", "torch_dtype": "auto", "dtype": "float16"})
    with pytest.raises(ArgumentError, match="trust_remote_code=True: code in a checkpoint is never run"):
        read_settings({"pretrained": "tiny-next", "trust_remote_code": True})
    with pytest.raises(
        ArgumentError, match="max_frames=8: no such model argument.*did you mean 'max_frames_num'"
    ):
        read_settings({"pretrained": "tiny-next", "max_frames": 8})

    def sweep(**model: Any) -> Any:
        return read_sweep(
            {"models": [{"name": "tiny-next", **model}], "tasks": ["shapes:image"]}, where="x: "
        )

    assert sweep(torch_dtype="auto").models == sweep(dtype="auto").models
    assert sweep(dtype="float16").models != sweep(dtype="auto").models
    with pytest.raises(ArgumentError, match=r"x: models\[0\]: load_in_8bit=True: pass quantization='8bit'"):
        sweep(load_in_8bit=True)
    with pytest.raises(ArgumentError, match=r"x: models\[0\]: torch_dtype='a' and dtype='b' are two names"):
        sweep(torch_dtype="a", dtype="b")


@pytest.mark.parametrize("kind", ["mllama", "llama", "llava_nxt", "bert"])
def test_another_family_is_told_which_there_are_and_how_to_add_one(kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    with pytest.raises(UnsupportedModelError) as caught:
        load_model(tmp_path)
    assert f"is of type '{kind}', which no adapter serves; supported: " in str(caught.value)
    assert "llava_next, " in str(caught.value)
    assert "can add a family, see docs/guide-family.md" in str(caught.value)
    assert "did you mean" not in str(caught.value)
    with pytest.raises(MediaError, match="has no processor here; known: .*llava_next, ") as unread:
        get_family(kind)
    assert "did you mean" not in str(unread.value)
