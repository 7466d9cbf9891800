"""Examination of an installation or a checkpoint: the checks, their order, and which are needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vidcompress.errors import ArgumentError, shown
from vidcompress.loading.distribution import DISTRIBUTION
from vidcompress.tools.doctor.checks import Check, Diagnosis
from vidcompress.tools.doctor.probe_worker import ProbeError, ProbeWorker

DEFAULT_TIMEOUT = 60.0


def run(
    model: str | os.PathLike[str] | None = None,
    *,
    images: Sequence[str | os.PathLike[str]] = (),
    video: str | os.PathLike[str] | None = None,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    fps: float | None = None,
    preset: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT,
    on_check: Callable[[Check], None] = lambda check: None,
) -> Diagnosis:
    """Examine this installation, or a checkpoint without loading its weights.

    Every check runs in another process with a time limit, so one that hangs or crashes is reported like any other.

    Args:
        model: an embedded model's name, a folder or a hub id; None examines the installation.
        images: with `model`, pictures of one question whose tokens are counted.
        video: with `model`, a clip.
        size: with `model`, (height, width) in pixels of a hypothetical picture.
        frames: with `model`, frames taken of the clip; without `video`, of a hypothetical clip.
        fps: with `video`, frames taken per second instead.
        preset: with `model`, a named layout of pictures instead of its own; see `load_processor`.
        revision: of the hub repository.
        local_files_only: do not access the hub.
        timeout_s: most seconds for one check, above 0.
        on_check: called with each check when it is done.

    Returns:
        All checks; `.ok` is whether everything needed works.

    Raises:
        ArgumentError: an argument is not allowed.
        MediaError: a picture or clip is missing.
    """
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not 0 < timeout_s < 1e6:
        raise ArgumentError(f"timeout_s={shown(timeout_s)}: must be a number of seconds above 0")
    inputs = {"images": images, "video": video, "size": size, "frames": frames, "fps": fps, "preset": preset}
    with ProbeWorker(timeout_s) as worker:
        if model is None:
            _refuse_inputs(inputs)
            running = _installation(worker)
        else:
            checked = _checked_inputs(images, video, size, frames, fps)
            where = {"revision": revision, "local_files_only": local_files_only}
            running = _checkpoint(worker, model, {**checked, "preset": preset, **where})
        checks = []
        for check in running:
            on_check(check)
            checks.append(check)
    return Diagnosis(tuple(checks))


def _refuse_inputs(inputs: dict[str, Any]) -> None:
    for name, value in inputs.items():
        if value is not None and not (name == "images" and not value):
            raise ArgumentError(
                f"{name}={shown(value)}: only a model can say what it makes of an input; pass model= too"
            )


def _checked_inputs(
    images: Sequence[str | os.PathLike[str]],
    video: str | os.PathLike[str] | None,
    size: tuple[int, int] | None,
    frames: int | None,
    fps: float | None,
) -> dict[str, Any]:
    from vidcompress.checks import DEFAULT_MAX_FRAMES, MAX_FRAME_PIXELS
    from vidcompress.media.images.image import local_path
    from vidcompress.media.video.sampling import check_request

    if images and size is not None:
        raise ArgumentError(f"size={shown(size)} and images exclude each other; pass one of them")
    if size is not None:
        whole = len(size) == 2 and all(type(n) is int and n >= 1 for n in size)
        if not whole or size[0] * size[1] > MAX_FRAME_PIXELS:
            raise ArgumentError(
                f"size={shown(size)}: must be (height, width), whole pixels, at most {MAX_FRAME_PIXELS} in all"
            )
    if fps is not None and video is None:
        raise ArgumentError(f"fps={shown(fps)}: needs video=, whose length it divides")
    check_request(num_frames=frames, fps=fps, max_frames=DEFAULT_MAX_FRAMES)
    if video is not None and not os.path.isdir(video):
        local_path(video, "video")
    return {
        "images": [os.path.abspath(local_path(path, "image")) for path in images],
        "video": None if video is None else os.path.abspath(video),
        "size": None if size is None else list(size),
        "frames": frames,
        "fps": fps,
    }


def _probe(
    worker: ProbeWorker, topic: str, name: str, needed: bool, function: str, /, **arguments: Any
) -> Check:
    """Check of one function in the worker; an error is its result."""
    try:
        finding = worker.call(f"vidcompress.tools.doctor.{function}", **arguments)
    except ProbeError as error:
        return Check(topic, name, "failed", str(error), needed)
    return Check(topic, name, finding["status"], finding.get("detail", ""), needed, finding.get("data", {}))


def _list_entries(
    worker: ProbeWorker, topic: str, name: str, function: str
) -> tuple[list[Any], Check | None]:
    """Entries to check, or a failed check where they cannot be listed."""
    try:
        return list(worker.call(f"vidcompress.tools.doctor.{function}")), None
    except ProbeError as error:
        return [], Check(topic, name, "failed", str(error), needed=True)


def _installation(worker: ProbeWorker) -> Iterator[Check]:
    yield from _packages(worker)
    yield from _decoders(worker)
    yield from _devices(worker)
    yield from _plugins(worker)
    yield from _embedded(worker)


def _packages(worker: ProbeWorker) -> Iterator[Check]:
    entries, failed = _list_entries(worker, "packages", "requirements", "packages:requirements")
    if failed is not None:
        yield failed
    yield _probe(worker, "packages", DISTRIBUTION, False, "packages:itself")
    for entry in entries:
        needed = entry.pop("needed")
        yield _probe(worker, "packages", entry["name"], needed, "packages:package", **entry)


def _decoders(worker: ProbeWorker) -> Iterator[Check]:
    from vidcompress.tools.doctor.decoders import formats

    names, failed = _list_entries(worker, "video decoders", "backends", "decoders:backends")
    if failed is not None:
        yield failed
    for backend in sorted(names, key=lambda name: name != "pyav"):  # the default first
        for codec in formats(backend):
            # Every other codec can be converted to H.264, which most clips have.
            needed = (backend, codec) == ("pyav", "h264")
            arguments = {"backend": backend, "codec": codec}
            yield _probe(
                worker, "video decoders", f"{backend} {codec}", needed, "decoders:decode", **arguments
            )


def _devices(worker: ProbeWorker) -> Iterator[Check]:
    from vidcompress.tools.doctor.devices import ATTENTION, DTYPES

    devices, failed = _list_entries(worker, "devices", "devices", "devices:devices")
    if failed is not None:
        yield failed
    for entry in devices:
        device = entry["device"]
        yield Check("devices", device, "ok", entry["what"])
        for dtype in DTYPES:
            needed = dtype == "float32"
            yield _probe(
                worker, "devices", f"{device} {dtype}", needed, "devices:compute", device=device, dtype=dtype
            )
        for name in ATTENTION:
            needed = name in ("eager", "sdpa")
            yield _probe(
                worker,
                "devices",
                f"{device} {name}",
                needed,
                "devices:attention",
                device=device,
                implementation=name,
            )


def _plugins(worker: ProbeWorker) -> Iterator[Check]:
    plugins, failed = _list_entries(worker, "plug-ins", "entry points", "plugins:plugins")
    if failed is not None:
        yield failed
    for entry in plugins:
        origin = f"{entry['kind']} of {entry['package']}, {entry['module']}"
        status, detail = (
            ("ok", origin) if entry["error"] is None else ("failed", f"{origin}: {entry['error']}")
        )
        yield Check("plug-ins", entry["name"], status, detail, data=entry)  # type: ignore[arg-type]
    if not plugins and failed is None:
        yield Check("plug-ins", "none", "ok", "no other package adds a method or an adapter")


def _embedded(worker: ProbeWorker) -> Iterator[Check]:
    """Checks of the embedded checkpoints: present and complete."""
    folders, failed = _list_entries(worker, "embedded models", "folders", "checkpoint:embedded")
    if failed is not None:
        yield failed
    for name, folder in folders:
        if folder is None:
            yield Check(
                "embedded models",
                name,
                "missing",
                "its files are not there; reinstall the package",
                needed=True,
            )
            continue
        checks = list(_findings(worker, "embedded models", folder, {}))
        wrong = "; ".join(f"{check.name}: {check.detail}" for check in checks if check.is_problem)
        whole = ", ".join(check.detail for check in checks if check.name in ("config", "tensors"))
        yield Check("embedded models", name, "failed" if wrong else "ok", wrong or whole, needed=True)


def _checkpoint(
    worker: ProbeWorker, model: str | os.PathLike[str], arguments: dict[str, Any]
) -> Iterator[Check]:
    from vidcompress.loading.load import resolve

    source = resolve(model)
    folder = os.path.abspath(source) if os.path.isdir(source) else source
    yield from _findings(worker, f"checkpoint {os.fspath(model)}", folder, arguments)


def _findings(worker: ProbeWorker, topic: str, source: str, arguments: dict[str, Any]) -> Iterator[Check]:
    try:
        findings = worker.call("vidcompress.tools.doctor.checkpoint:inspect", source=source, **arguments)
    except ProbeError as error:
        yield Check(topic, "examination", "failed", str(error), needed=True)
        return
    for finding in findings:
        yield Check(
            topic, finding["name"], finding["status"], finding["detail"], True, finding.get("data", {})
        )
