"""Page of the app: what stands where, and which function a click calls. Importing it imports gradio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from vidcompress.errors import MediaError
from vidcompress.loading.resources import find
from vidcompress.tools.app import cost_pane, render
from vidcompress.tools.app.desk import FAVOURITES, Asking, Desk, serving

SECONDS_BETWEEN_CLEANINGS = 600
SECONDS_KEPT = 3600
"""Time after which an upload is deleted, and time between two looks for such uploads."""
MOST_IN_LINE = 32
"""Most questions of all tabs at once."""
SHARE, TOKENS = "share", "tokens"
EXAMPLES = (
    ("a picture", "examples/scene.png", "what digit is shown?"),
    ("the same picture", "examples/scene.png", "where is the white square?"),
    ("a clip", "examples/clip.mp4", "how many rings are there?"),
)
"""Label, file and question of each example."""


def make_page(desk: Desk) -> gr.Blocks:
    """Build the page.

    Args:
        desk: the model behind it.
    """
    with gr.Blocks(
        title="vidcompress",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(SECONDS_BETWEEN_CLEANINGS, SECONDS_KEPT),
    ) as page:
        gr.HTML(render.render("head.html", model=desk.model, limits=desk.limits))
        with gr.Tab("Ask"):
            _ask_tab(desk)
        with gr.Tab("Cost"):
            _cost_tab(page)

        def leave(request: gr.Request) -> None:
            desk.stop(str(request.session_hash))

        page.unload(leave)
    return page


def _ask_tab(desk: Desk) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            file = gr.File(
                label="Picture or clip",
                file_types=["image", "video"],
                type="filepath",
                height=140,
            )
            preview = gr.HTML(render.preview(), elem_id="preview")
            question = gr.Textbox(label="Question", placeholder="what is this?", lines=1, max_length=2000)
            methods = gr.Dropdown(
                serving(None),
                value=list(FAVOURITES),
                multiselect=True,
                allow_custom_value=True,
                label="Methods, with options as in globalcom2:tau=5",
            )
            budget = gr.Radio([("share", SHARE), ("number of tokens", TOKENS)], value=SHARE, label="Keep a")
            ratio = gr.Slider(
                0.01, 1.0, value=0.25, step=0.01, label="Share of the visual tokens (retention ratio)"
            )
            tokens = gr.Number(64, label="Visual tokens", precision=0, minimum=1, visible=False)
            with gr.Row():
                ask = gr.Button("Ask", variant="primary", min_width=120, elem_id="ask")
                stop = gr.Button("Stop", min_width=120, elem_id="stop")
            gr.Examples(
                [[str(find(name)), text] for _, name, text in EXAMPLES],
                [file, question],
                example_labels=[f"{label}: {text}" for label, _, text in EXAMPLES],
                api_visibility="private",
            )
        with gr.Column(scale=5, min_width=320):
            status = gr.HTML(render.render("empty.html"), elem_id="status")
            cards = gr.HTML(elem_id="cards")
            viewer = gr.HTML(elem_id="viewer")

    def show_upload(path: str | None, ticked: list[str]) -> tuple[str, Any]:
        if path is None:
            return render.preview(), gr.update(choices=serving(None))
        try:
            upload = desk.open(path)
        except MediaError as error:
            return render.preview(problem=str(error)), gr.update()
        names = serving(upload.kind)
        return render.preview(upload), gr.update(choices=names, value=_still_serving(ticked, names))

    def run(
        path: str | None,
        text: str,
        names: list[str],
        kind: str,
        share: float,
        count: float,
        request: gr.Request,
    ) -> Iterator[tuple[str, str, str]]:
        asking = Asking(
            text or "",
            path,
            names or [],
            retention_ratio=share if kind == SHARE else None,
            max_tokens=int(count or 0) if kind == TOKENS else None,
        )
        pane, viewer = render.CardPane(), ""
        for state in desk.ask(asking, str(request.session_hash)):
            if state.phase in ("done", "stopped"):
                viewer = render.viewer(state)
            # Panes that stay are sent as they are: of each gr.skip(), gradio keeps a component for an hour.
            yield render.status(state), pane.html(state), viewer

    def halt(request: gr.Request) -> None:
        desk.stop(str(request.session_hash))

    file.change(
        show_upload, [file, methods], [preview, methods], show_progress="minimal", api_visibility="private"
    )
    budget.change(
        lambda kind: (gr.update(visible=kind == SHARE), gr.update(visible=kind == TOKENS)),
        budget,
        [ratio, tokens],
        queue=False,
        api_visibility="private",
    )
    gr.on(
        [ask.click, question.submit],
        run,
        [file, question, methods, budget, ratio, tokens],
        [status, cards, viewer],
        show_progress="hidden",
        scroll_to_output=True,  # on a narrow screen the answers lie below
        concurrency_limit=MOST_IN_LINE,
        api_name="ask",
    )
    stop.click(halt, queue=False, api_name="stop")


def _cost_tab(page: gr.Blocks) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            model = gr.Dropdown(cost_pane.models(), value="llava-onevision-7b", label="Model")
            medium = gr.Radio(["picture", "clip"], value="picture", label="Input")
            width = gr.Slider(64, 4096, value=1280, step=16, label="Width in pixels")
            height = gr.Slider(64, 4096, value=960, step=16, label="Height in pixels")
            frames = gr.Slider(1, 256, value=32, step=1, label="Frames of the clip", visible=False)
            method = gr.Dropdown(serving(None), value="globalcom2", label="Method")
            ratio = gr.Slider(
                0.01,
                1.0,
                value=0.1,
                step=0.01,
                label="Share of the visual tokens (retention ratio)",
                elem_id="cost-ratio",
            )
            answer = gr.Slider(1, 512, value=64, step=1, label="Tokens of the answer")
            device = gr.Dropdown(cost_pane.devices(), value="H100", label="Device")
        with gr.Column(scale=5, min_width=320):
            out = gr.HTML(elem_id="cost")
    inputs = [model, medium, width, height, frames, method, ratio, answer, device]
    medium.change(
        lambda kind: gr.update(visible=kind == "clip"), medium, frames, queue=False, api_visibility="private"
    )
    gr.on(
        [page.load, *(part.change for part in inputs)],
        cost_pane.cost_pane,
        inputs,
        out,
        show_progress="hidden",
        trigger_mode="always_last",
        api_name="cost",
    )


def _still_serving(names: Sequence[str], serve: Sequence[str]) -> list[str]:
    """Return the chosen methods that serve a new file; the favourites where none does."""
    kept = [name for name in names if name.partition(":")[0].partition("+")[0] in serve]
    return kept or [name for name in FAVOURITES if name in serve]
