"""What docs/performance-fast.md says about the profile, clips that arrive and compiled answers."""

from __future__ import annotations

from typing import Any

from vidcompress.tools.cost import estimate

from .said import holds, result, says, span

FAST = "docs/performance-fast.md"
NAMES = ("next-7b image, fastervlm", "next-7b image, all of the encoder")


def cases() -> dict[str, Any]:
    """Cases of the profile by name."""
    found: dict[str, Any] = result("profile_path")["cases"]
    return found


def ratio(case: str, phase: str) -> float:
    """Before over now of one phase."""
    return float(cases()[case]["before_over_now"][phase])


@says(FAST)
def what_encode_gains() -> str:
    first, whole = NAMES
    described: dict[str, Any] = {"size": (672, 672), "retention_ratio": 0.1}
    now = estimate("llava-next-7b", method="fastervlm", **described).parts
    before = estimate("llava-next-7b", size=(672, 672)).parts
    runs = estimate("llava-next-7b").geometry.encoder.runs
    flops = [parts[name] / 1e12 for parts in (before, now) for name in ("encoder", "projector")]
    says_arithmetic = (flops[0] + flops[1]) / (flops[2] + flops[3])
    return (
        f"What `encode` gains is the projector's share: {ratio(first, 'encode'):.2f} with "
        f"{cases()[first]['case']['encoder']} "
        f"encoder layers, {ratio(whole, 'encode'):.2f} with the {runs} that LLaVA-NeXT-7B runs, where "
        "arithmetic says "
        f"{says_arithmetic:.2f} ({flops[0]:.2f} TFLOP of the encoder and {flops[1]:.2f} of the "
        "projector before, "
        f"{flops[2]:.2f} and {flops[3]:.2f} now)."
    )


@says(FAST)
def what_compress_gains() -> str:
    return (
        "`compress` of 8 pictures takes half of what it took "
        f"({ratio('tiny, 8 pictures', 'compress'):.2f}; `fastervlm` "
        f"{ratio('tiny, 8 pictures, fastervlm', 'compress'):.2f}); of 8 clips of `vidcom2`, whose "
        "scores were still made "
        f"clip by clip when this was measured, {ratio('tiny, 8 clips', 'compress'):.2f}."
    )


@says(FAST)
def what_splice_takes() -> str:
    before, now = ([cases()[name]["ms"][side]["splice"] for name in NAMES] for side in ("before", "now"))
    holds({round(ms) for ms in now} == {2}, "2 ms now")
    total = estimate("llava-next-7b", size=(672, 672)).visual["total"]
    return f"{span(before)} ms before and {now[0]:.0f} ms now for a prompt of {total + 40:,} tokens."


@says(FAST)
def what_preprocess_gains() -> str:
    return f"`preprocess` of a clip: {ratio('embedded ask clip', 'preprocess'):.2f}."


@says(FAST)
def noise_of_the_profile() -> str:
    asked = [name for name in cases() if name.startswith("embedded")]
    sides = [ratio(name, phase) for name in asked for phase in ("prefill", "encode")]
    sides += [ratio(name, "prefill") for name in cases()]
    return (
        f"What did not change differs by up to {100 * max(abs(x - 1) for x in sides):.0f} % between "
        "the sides (`prefill` "
        "everywhere, `encode` of the embedded models): the noise of these figures."
    )


@says(FAST)
def where_time_goes() -> str:
    real = [case["ms"]["now"] for name, case in cases().items() if name.startswith(("next", "onevision"))]
    encode, compress = ([100 * ms[phase] / ms["all"] for ms in real] for phase in ("encode", "compress"))

    def share(case: str, *names: str) -> float:
        return 100 * sum(
            f["share"] for f in cases()[case]["functions"] if any(n in f["function"] for n in names)
        )

    return (
        f"The encoder and projector take {span(encode)} % of every case of real width, and "
        "`compress` at most "
        f"{max(compress):.1f} %. By function, the model's own linear layers take "
        f'{share("tiny, 8 pictures", "linear"):.0f} % of "tiny, 8 pictures"; of "embedded ask clip" '
        "they take "
        f"{share('embedded ask clip', 'linear'):.0f} %, and PyAV's decoder and conversion to RGB "
        f"{share('embedded ask clip', 'decode', 'to_ndarray'):.0f} %."
    )


@says(FAST)
def projector_rows() -> str:
    described: dict[str, Any] = {"size": (672, 672), "preset": "2880"}
    before = estimate("llava-next-7b", **described).parts
    now = estimate("llava-next-7b", method="fastervlm", retention_ratio=0.1, **described).parts
    return (
        f"of LLaVA-NeXT-7B (5 views) {before['projector'] / 1e9:.0f} GFLOP become "
        f"{now['projector'] / 1e9:.0f} at R = 0.1, "
        f"beside {before['encoder'] / 1e12:.1f} TFLOP of the encoder's 23 layers"
    )


@says(FAST)
def arriving_clips() -> str:
    plan, models = result("arriving")["plan"], result("arriving")["models"]
    over = {name: model["without_over_with"] for name, model in models.items()}
    holds(over["tiny-onevision"]["fastest"] >= over["tiny-onevision"]["allowed"], "the first reaches it")
    holds(over["middle"]["fastest"] < over["middle"]["allowed"], "the second does not")
    return (
        f"{plan['frames']} of 192 frames of an H.264 clip of {plan['size'][0]} x {plan['size'][1]}, "
        "the same question with "
        f"and without, in {plan['repeats']} turns, one torch thread, two cores with nothing else to do"
    )


@says(FAST)
def first_nine_compiled() -> str:
    growing, static = result("compiled")["cases"]
    holds(
        all(case["asked"] == 9 and case["first"]["differ"] == 0 for case in (growing, static)), "nine answers"
    )
    holds(
        all(case["again"]["differ"] == 0 and case["again"]["graphs"] == 0 for case in (growing, static)),
        "again",
    )
    holds({case["first"]["graphs"] for case in (growing, static)} == {2}, "two graphs")
    for case in (growing, static):
        holds(case["again"]["busy_here"] == case["ordinary_busy"], "as long as uncompiled ones")
    return (
        "got the nine ordinary answers, with the growing cache and with the static one, by two "
        "graphs each and no more "
        f"when asked again. The first nine answers took {growing['first']['seconds']:.0f} s with compiling "
        f"({static['first']['seconds']:.0f} s with the static cache) on a quiet machine, and "
        "minutes on a busy one; after "
        f"them, nine took as long as uncompiled ones ({growing['again']['busy_here']} s of "
        "processor time each way, "
        f"{static['again']['busy_here']} s with the static cache)"
    )


def profile_rows() -> list[str]:
    """The lines of the table of the profile, as they must stand in the document."""
    phases = ("decode", "preprocess", "encode", "compress", "splice", "prefill", "generate", "all")

    def cells(values: dict[str, float], form: str) -> str:
        return " | ".join(form.format(values[p]) if values.get(p) else "" for p in phases)

    rows = []
    for name, case in cases().items():
        rows.append(f"| {name} | before | {cells(case['ms']['before'], '{:,.1f}')} |")
        rows.append(f"| | now | {cells(case['ms']['now'], '{:,.1f}')} |")
        rows.append(f"| | ratio | {cells(case['before_over_now'], '{:.2f}')} |")
    return rows


def arriving_rows() -> list[str]:
    """The lines of the table of arriving clips."""
    rows = []
    for name, label in (
        ("tiny-onevision", "tiny-onevision"),
        ("middle", "random, encoder 3 layers 192 wide"),
    ):
        model = result("arriving")["models"][name]
        busy, fastest, over = model["busy_ms_without"], model["fastest_ms"], model["without_over_with"]
        turns = span(model["turns"], "{:.2f}")
        rows.append(
            f"| {label} | {busy['decode'] + busy['preprocess']:.0f}, {busy['encode']:.0f}, "
            f"{busy['all']:,.0f} | "
            f"{over['allowed']:.2f} | {fastest['with']:.0f}, {fastest['without']:.0f} | "
            f"{over['fastest']:.2f} | "
            f"{over['median_of_turns']:.2f} ({turns}) |"
        )
    return rows
