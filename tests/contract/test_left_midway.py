"""A block that is left while another thread is in a call: the call finishes as it began, or is refused and ends."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import TextIteratorStreamer

import vidcompress
from tiny_models import Scene, batch, tiny_model
from vidcompress.errors import CompressionStateError, UnsupportedInputError
from vidcompress.session.compress import compress_inputs

pytestmark = pytest.mark.transformers

ROWS = [Scene((("image", (112, 80)),), before=3, seed=1)]
GREEDY = {"max_new_tokens": 4, "do_sample": False}
WAIT = 60
METHODS = ["globalcom2", "globalcom2:mass=on", "fastv", "pdrop", "sparsevlm", "globalcom2+fastv"]


class Call:
    """A call in a thread of its own that stops at the first call of a module, until it may go on."""

    def __init__(self, module: Any, run: Callable[[], Any]) -> None:
        self.arrived, self.go_on = threading.Event(), threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None
        self._run, self._thread = run, threading.Thread(target=self._work)
        self._handle = module.register_forward_pre_hook(self._stop, with_kwargs=True)

    def _stop(self, module: Any, args: Any, kwargs: Any) -> None:
        if threading.current_thread() is self._thread and not self.arrived.is_set():
            self.arrived.set()
            assert self.go_on.wait(WAIT)

    def _work(self) -> None:
        try:
            self.result = self._run()
        except BaseException as error:  # noqa: BLE001  (looked at by the test)
            self.error = error

    def start(self) -> None:
        self._thread.start()
        assert self.arrived.wait(WAIT)

    def finish(self) -> None:
        self.go_on.set()
        self._thread.join(WAIT)
        assert not self._thread.is_alive()
        self._handle.remove()


@contextmanager
def own_model() -> Iterator[tuple[Any, dict[str, Any]]]:
    """A model of its own that has run once, with nothing of ours on it before and after."""
    model: Any = copy.deepcopy(tiny_model("llava_next"))
    raw = batch(model, ROWS)
    model.generate(**raw, **GREEDY)
    hooks = ("_forward_hooks", "_forward_pre_hooks")

    def mark() -> list[Any]:
        modules = model.modules()
        return [(sorted(vars(m)), [list(getattr(m, name)) for name in hooks]) for m in modules]

    before = mark()
    yield model, raw
    assert mark() == before


def direct(model: Any, raw: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return model(**raw).logits


@pytest.mark.parametrize("place", ["encoder", "first layer", "last layer"])
@pytest.mark.parametrize("how", ["generate", "forward"])
@pytest.mark.parametrize("method", METHODS)
def test_a_call_finishes_as_it_began(method: str, how: str, place: str) -> None:
    with own_model() as (model, raw):
        layers = model.model.language_model.layers
        module = {"encoder": model.model.vision_tower, "first layer": layers[0], "last layer": layers[-1]}[
            place
        ]

        def run() -> torch.Tensor:
            return direct(model, raw) if how == "forward" else model.generate(**raw, **GREEDY)

        stock = run()
        with vidcompress.compress(model, method, retention_ratio=0.9) as session:
            expected = run()
        kept = session.report
        call = Call(module, run)
        with vidcompress.compress(model, method, retention_ratio=0.9) as session:
            call.start()
        assert "generate" not in vars(model)
        assert torch.equal(run(), stock), "outside the block, while the call still runs"
        if session.hooks is not None:
            with pytest.raises(CompressionStateError, match="a call that began in an earlier compress block"):
                with vidcompress.compress(model, method, retention_ratio=0.5):
                    pass
        else:
            with vidcompress.compress(model, method, retention_ratio=0.9):
                assert torch.equal(run(), expected)
        call.finish()
        assert call.error is None and torch.equal(call.result, expected)
        assert session.report.kept == kept.kept and session._model is None
        assert how == "generate" or expected.shape != stock.shape
        with vidcompress.compress(model, method, retention_ratio=0.9):
            assert torch.equal(run(), expected)


@pytest.mark.parametrize("how", ["generate", "forward"])
def test_an_exception_in_the_body_or_in_the_call(how: str) -> None:
    """The body fails while a call runs; and the call fails after the block was left."""
    with own_model() as (model, raw):

        def run() -> torch.Tensor:
            return direct(model, raw) if how == "forward" else model.generate(**raw, **GREEDY)

        with vidcompress.compress(model, "fastv", retention_ratio=0.9):
            expected = run()
        layers = model.model.language_model.layers
        call = Call(layers[0], run)

        def body() -> None:
            with vidcompress.compress(model, "fastv", retention_ratio=0.9):
                call.start()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            body()
        call.finish()
        assert call.error is None and torch.equal(call.result, expected)

        def fail(module: Any, args: Any) -> None:
            raise KeyError("in the model")

        call = Call(layers[0], run)
        handle = layers[1].register_forward_pre_hook(fail)
        with vidcompress.compress(model, "fastv", retention_ratio=0.9):
            call.start()
        call.finish()
        handle.remove()
        assert isinstance(call.error, KeyError)
        with vidcompress.compress(model, "fastv", retention_ratio=0.9):
            assert torch.equal(run(), expected)


def test_an_interrupted_forward_leaves_nothing() -> None:
    """Torch calls no hook after a KeyboardInterrupt."""
    with own_model() as (model, raw):

        def interrupt(module: Any, args: Any) -> None:
            raise KeyboardInterrupt

        handle = model.model.language_model.layers[1].register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt), vidcompress.compress(model, "fastv", retention_ratio=0.9):
            direct(model, raw)
        handle.remove()
        with vidcompress.compress(model, "fastv", retention_ratio=0.9):
            assert direct(model, raw).shape[1] < raw["input_ids"].shape[1]


class Streamer:
    """Keeps what it is given, and whether it was ended."""

    def __init__(self) -> None:
        self.values: list[torch.Tensor] = []
        self.ended = 0

    def put(self, value: torch.Tensor) -> None:
        self.values.append(value.flatten())

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("method", ["globalcom2", "fastv"])
def test_a_generate_kept_from_inside_is_refused_and_ends_its_streamer(method: str) -> None:
    with own_model() as (model, raw):
        with vidcompress.compress(model, method, retention_ratio=0.9) as session:
            kept = model.generate
            expected = kept(**raw, **GREEDY)
        for late in (kept, session.generate):
            streamer = Streamer()
            with pytest.raises(
                CompressionStateError, match="taken from inside a compress block of LlavaNext.*over"
            ):
                late(**raw, **GREEDY, streamer=streamer)
            assert streamer.ended == 1 and not streamer.values
        assert session.before_forward(model, (), raw) is None, "a forward on its way is the stock one"
        assert copy.copy(session).report.kept == session.report.kept
        with vidcompress.compress(model, method, retention_ratio=0.9):
            assert torch.equal(model.generate(**raw, **GREEDY), expected)


def test_a_streamer_is_read_to_its_end_outside_the_block() -> None:
    """The usual recipe: the thread starts inside, the pieces are read outside; and a refusal ends them too."""
    qa = vidcompress.VisualQA.from_pretrained("tiny-onevision", device="cpu")
    model, tokenizer = qa.model, qa.processor.tokenizer
    inputs = dict(
        qa.processor(
            text=qa.processor.apply_chat_template(
                [
                    {
                        "role": "user",
                        "content": [{"type": "image"}, {"type": "text", "text": "what digit is shown?"}],
                    }
                ]
            ),
            images=[torch.randint(0, 255, (60, 80, 3), dtype=torch.uint8)],
        )
    )
    with vidcompress.compress(model, "fastv", retention_ratio=0.9):
        out = model.generate(**inputs, **GREEDY)
    expected = tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    for extra, said in (({}, None), ({"use_cache": False}, "use_cache=False cannot go with method 'fastv'")):
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=WAIT)
        begun = threading.Event()

        def run(streamer: Any = streamer, extra: Any = extra, begun: Any = begun) -> Any:
            generate = model.generate
            begun.set()
            return generate(**inputs, **GREEDY, **extra, streamer=streamer)

        call = Call(model.model.language_model.layers[0], run)
        with vidcompress.compress(model, "fastv", retention_ratio=0.9):
            call._thread.start()
            assert begun.wait(WAIT)
            assert said or call.arrived.wait(WAIT)
        call.go_on.set()
        text = "".join(streamer)  # would wait for ever, were it not ended
        call.finish()
        if said is None:
            assert call.error is None and text == expected
        else:
            assert isinstance(call.error, (UnsupportedInputError, CompressionStateError))
            assert said in str(call.error) or "is over" in str(call.error)


def test_plain_inputs_that_another_thread_runs_are_not_unpruned_in_silence() -> None:
    """`inputs.pruning()` holds in its own thread; a call in another thread is refused."""
    with own_model() as (model, raw):
        short = compress_inputs(model, raw, "fastv", retention_ratio=0.9)
        found: list[BaseException] = []

        def unpack() -> None:
            try:
                dict(short)
            except CompressionStateError as error:
                found.append(error)

        with short.pruning():
            thread = threading.Thread(target=unpack)
            thread.start()
            thread.join(WAIT)
            expected = model.generate(**short, **GREEDY)
        assert "of the same thread" in str(found[0])

        def elsewhere() -> None:
            with short.pruning():
                given = dict(short)
                thread = threading.Thread(target=lambda: model.generate(**given, **GREEDY))
                thread.start()
                thread.join(WAIT)

        with pytest.raises(CompressionStateError, match="ran without being pruned by method 'fastv'"):
            elsewhere()
        with short.pruning():
            assert torch.equal(model.generate(**short, **GREEDY), expected)
