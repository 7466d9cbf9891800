"""Ask the embedded model about the example image and the example clip with all, a quarter and a tenth of the tokens.

    make demo

Prints, for each, the answers beside the truth, and what they cost; writes pictures of the kept tokens to runs/demo/.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import vidcompress
from vidcompress.cli.library_output import quiet
from vidcompress.core.timing import PHASES
from vidcompress.progress import counting_bar

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
PICTURES = ROOT / "runs" / "demo"
RATIOS = (1.0, 0.25, 0.1)

Answers = dict[float, list[vidcompress.Answer]]


def load_truth() -> dict[str, list[dict[str, str]]]:
    """Questions and right answers per file, from examples/media.json."""
    media: dict[str, Any] = json.loads((EXAMPLES / "media.json").read_text(encoding="utf-8"))
    return {name: entry["questions"] for name, entry in media.items()}


def answer_all(qa: vidcompress.VisualQA, name: str, questions: list[dict[str, str]]) -> Answers:
    """Ask every question at every ratio, one at a time, so that each ratio meets the machine in the same mood."""
    media = {"video" if name.endswith(".mp4") else "image": EXAMPLES / name}
    qa.ask(questions[0]["question"], **media)  # the first call of a process is slower than all others
    answers: Answers = {ratio: [] for ratio in RATIOS}
    steps = [(ratio, question["question"]) for question in questions for ratio in RATIOS]
    with counting_bar(transient=True) as bar:
        for ratio, question in bar.track(steps, description=name):
            answers[ratio].append(qa.using(retention_ratio=ratio).ask(question, **media, max_new_tokens=8))
    return answers


def table(name: str, questions: list[dict[str, str]], answers: Answers) -> Table:
    """Answers (green where right), token counts and median times; one column per ratio."""
    out = Table(
        box=SIMPLE_HEAD, title=f"examples/{name}", title_justify="left", title_style="bold", pad_edge=False
    )
    out.add_column("")
    out.add_column("truth")
    for ratio in RATIOS:
        out.add_column(f"keep {ratio:g}", justify="right")
    for number, question in enumerate(questions):
        texts = [answers[ratio][number].text for ratio in RATIOS]
        cells = [f"[{'green' if text == question['answer'] else 'red'}]{text}[/]" for text in texts]
        out.add_row(question["question"], question["answer"], *cells)
    out.add_section()
    reports = [answers[ratio][0].report for ratio in RATIOS]
    out.add_row("visual tokens", "", *(f"{report.kept} of {report.total}" for report in reports))
    for phase in (*PHASES, "total"):
        times = [statistics.median(answer.timing_ms[phase] for answer in answers[ratio]) for ratio in RATIOS]
        out.add_row(f"{phase}, ms", "", *(f"{ms:.1f}" for ms in times))
    return out


def main() -> None:
    """Run the demo."""
    console = Console()
    with quiet():
        qa = vidcompress.VisualQA.from_pretrained()
        PICTURES.mkdir(parents=True, exist_ok=True)
        results = {
            name: (questions, answer_all(qa, name, questions)) for name, questions in load_truth().items()
        }
        for name, (_, answers) in results.items():
            for ratio in RATIOS[1:]:
                answers[ratio][0].overlay().save(PICTURES / f"{Path(name).stem}-{ratio:g}.png")
    console.print(
        f"tiny-onevision on {qa.model.device}, method {qa.method}; times are medians over the questions\n"
    )
    for name, (questions, answers) in results.items():
        console.print(table(name, questions, answers))
    console.print(f"which tokens were kept: {PICTURES.relative_to(ROOT)}/*.png")


if __name__ == "__main__":
    main()
