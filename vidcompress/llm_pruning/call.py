"""What a call of the language model needs of hooks: pruning between its layers, masses in its attention, or both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from vidcompress.core.pruning.plan import PruningPlan
from vidcompress.errors import CompressionStateError
from vidcompress.llm_pruning.hooks import Pruner
from vidcompress.llm_pruning.mass import MassHooks, MassPlan

_locks: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_locks_lock = threading.Lock()
_running: WeakKeyDictionary[Any, DecoderCall] = WeakKeyDictionary()
"""Calls whose hooks are on a model, outside `compress` blocks."""


def _lock_of(model: Any) -> threading.RLock:
    with _locks_lock:
        return _locks.setdefault(model, threading.RLock())


class DecoderHooks:
    """Hooks on one model's decoder.

    Args:
        adapter: of the model.
        prunes: whether a method prunes between the layers.
        weighs: whether attention weighs tokens by their masses.

    Raises:
        UnsupportedModelError: the decoder cannot be pruned inside, or takes no masses.
    """

    def __init__(self, adapter: Any, *, prunes: bool, weighs: bool) -> None:
        self.pruner = Pruner(adapter) if prunes else None
        self.mass: MassHooks | None = None
        if weighs and self.pruner is not None:
            self.mass = MassHooks(adapter, self.pruner.sequence_at)
        elif weighs:
            self.mass = MassHooks(adapter)

    @contextmanager
    def attached(self) -> Iterator[DecoderHooks]:
        """Context with the hooks on the decoder."""
        with ExitStack() as hooks:
            for part in (self.pruner, self.mass):
                if part is not None:
                    hooks.enter_context(part.attached())
            yield self

    @contextmanager
    def armed(self, call: DecoderCall) -> Iterator[None]:
        """Context in which the hooks act on this thread's calls of the decoder."""
        with ExitStack() as acting:
            if self.pruner is not None:
                acting.enter_context(
                    self.pruner.armed(call.plan, None if call.mass is None else call.mass.mass)
                )
            if self.mass is not None:
                acting.enter_context(self.mass.armed(call.mass))
            yield


class DecoderCall:
    """Call of the language model with compressed inputs that needs hooks.

    Args:
        adapter: of the model.
        plan: of a method inside the language model, or None.
        mass: of the tokens sent, or None.

    Attributes:
        on: whether the inputs may be unpacked: their hooks are on, and this thread put them on.
    """

    def __init__(self, adapter: Any, plan: PruningPlan | None, mass: MassPlan | None = None) -> None:
        self.plan, self.mass = plan, mass
        self._adapter = adapter
        self._thread: int | None = None
        self._before: dict[int, Tensor] = {}
        self._handed_out = False

    @property
    def on(self) -> bool:
        """Whether the hooks act on this thread's calls at present."""
        return self._thread == threading.get_ident()

    @property
    def why(self) -> str:
        """What the hooks are for."""
        if self.plan is None:
            return "mass='on', which is the default of census, weighs tokens inside the language model"
        return f"method {self.plan.method.name!r} prunes inside the language model"

    @property
    def way_out(self) -> str:
        """Words on how to do without the hooks, where a setting switches them off."""
        return ", or compress with mass='off'" if self.plan is None else ""

    @contextmanager
    def switched_on(self) -> Iterator[None]:
        """Context in which this thread may unpack the inputs."""
        self._thread = threading.get_ident()
        self._before = {} if self.plan is None else dict(self.plan.outcome.kept)
        try:
            yield
        finally:
            self._thread = None

    def hand_out(self) -> bool:
        """Note that encoder outputs are handed out; False where this is not allowed."""
        self._handed_out |= self.on
        return self.on

    def check_ran(self) -> None:
        """Refuse a result of layers whose hooks did not act, after inputs were handed out.

        Raises:
            CompressionStateError: the hooks were not called in this thread.
        """
        if not self._handed_out:
            return
        last = self.plan.layers[-1] if self.plan is not None and self.plan.layers else None
        what = None
        if (
            self.plan is not None
            and last is not None
            and self.plan.outcome.kept.get(last) is self._before.get(last)
        ):
            what = f"without being pruned by method {self.plan.method.name!r}"
        elif self.mass is not None and not self.mass.applied:
            what = "without the masses of its tokens (mass='on')"
        if what is not None:
            raise CompressionStateError(
                f"the language model ran {what}, though the report says so: its layers were called in another thread, "
                "or by code that was compiled without their hooks; call it in the thread that opened the block, and "
                "not through torch.compile"
            )

    @contextmanager
    def run(self) -> Iterator[None]:
        """Context in which the hooks are on the decoder and act on this thread's calls.

        Raises:
            CompressionStateError: the block is inside another one of this thread and model; the inputs were handed out,
                and the hooks did not act in this thread.
        """
        model = self._adapter.model
        hooks = DecoderHooks(self._adapter, prunes=self.plan is not None, weighs=self.mass is not None)
        with _lock_of(model):  # calls from several threads wait for each other
            if model in _running:
                raise CompressionStateError(
                    f"inputs.pruning() is inside another pruning() block of this {type(model).__name__}, and both "
                    "would act on one call; leave the first block before entering the second"
                )
            self._handed_out = False
            _running[model] = self
            try:
                with hooks.attached(), hooks.armed(self), self.switched_on():
                    yield
            finally:
                _running.pop(model, None)
        self.check_ran()
