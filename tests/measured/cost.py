"""What the documents say about time and memory, measured and on paper."""

from __future__ import annotations

from typing import Any

from bench.checks import OF_ALLOWED
from bench.growth import LINEAR
from vidcompress.tools.cost import allowed_ratio, estimate

from .accuracy import row_of
from .said import holds, result, says, span

PERFORMANCE = "docs/performance.md"


@says("docs/index.md")
def one_photo() -> str:
    total = estimate("llava-next-7b", size=(672, 672)).visual["total"]
    return f"reads about {round(total + 10, -1):,} tokens: {total:,} of them are the photo."


@says("docs/cost.md")
def the_headline() -> str:
    whole, tenth = estimate(), estimate(method="globalcom2", retention_ratio=0.1)
    flops = [row.prefill_flops["llm_viewer"] / 1e12 for row in (whole, tenth)]
    sent = [row.visual["sent"] for row in (whole, tenth)]
    return (
        f"{flops[0]:.1f} and {flops[1]:.1f} TFLOPs for {sent[0]:,} and {sent[1]:,} visual tokens "
        "on LLaVA-NeXT-7B"
    )


@says(PERFORMANCE)
def shares_of_encoding() -> str:
    rows = sorted(result("bench_select")["rows"], key=lambda row: -row["share_of_encoder"])
    above = [row for row in rows if row["share_of_encoder"] > 0.02]
    holds([(row["method"], row["medium"]) for row in above] == [("pdrop", "image")], "one is above 2 %")
    holds(rows[1]["method"] == "divprune", "divprune comes next")
    slower = [(row["method"], row["medium"]) for row in rows if (row["times_faster"] or 9) < 1]
    holds(slower == [("fastvid", "clip")], f"a loop is quicker in one case, not {slower}")
    return (
        "One is above 2 % of encoding: `pdrop` on an image "
        f"({100 * above[0]['share_of_encoder']:.2f} %), which projects "
        "every token with the next layer's weights to rank it; then comes `divprune` "
        f"({100 * rows[1]['share_of_encoder']:.2f} %), whose first pick compares all pairs of "
        "tokens. Where a loop is "
        "quicker (`fastvid` on a clip)"
    )


@says(PERFORMANCE)
def memory_of_encoding() -> str:
    found = result("encode_memory")
    families = {entry["family"] for entry in found["growth"]}
    holds({row["frames"] for row in found["rows"]} == {64, 256}, "64 and 256 frames")
    holds(
        len(families) == 3 and {row["side"] for row in found["rows"]} == {224}, "three families at 224 pixels"
    )
    beside = {(row["family"], row["evidence"], row["frames"]): row["beside"] for row in found["rows"]}
    ratios = [
        beside[entry["family"], entry["evidence"], 256] / beside[entry["family"], entry["evidence"], 64]
        for entry in found["growth"]
    ]
    return (
        f"peaked at {span(ratios, '{:.2f}')} times as much resident memory for 256 frames as for "
        "64 (three video families"
    )


@says("docs/faq.md")
def broken_files() -> str:
    found = result("fuzz")
    holds(not found["findings"], "the last run found nothing")
    return f"reads {found['cases']:,} broken clips, pictures, checkpoints and templates"


# -- docs/performance.md -----------------------------------------------------------------------------------------------


def layers_left() -> str:
    """Layers of the benchmark's model, of those that the whole one has."""
    cases = result("bench_cpu")["cases"]
    encoder, decoder = (
        {case["plan"][f"{part}_layers"] for name, case in cases.items() if name != "embedded"}
        for part in ("encoder", "decoder")
    )
    whole = estimate("llava-onevision-0.5b", frames=8).geometry
    return (
        f"{encoder.pop()} of {whole.encoder.layers} encoder layers and {decoder.pop()} of "
        f"{whole.decoder.layers} decoder layers"
    )


@says(PERFORMANCE)
def what_is_wanted() -> str:
    a, b = (100 * OF_ALLOWED[ratio] for ratio in (0.25, 0.1))
    tenth = {"model": "llava-onevision-0.5b", "method": "globalcom2", "retention_ratio": 0.1}
    image, clip = allowed_ratio(**tenth, size=(384, 768)), allowed_ratio(**tenth, frames=8)
    holds(clip < image, "a clip has more to encode")
    return (
        f"{layers_left()}, an image of 768 x 384 pixels and a clip of 8 frames. In the whole model the "
        "encoder takes more of the "
        f"time, and a tenth of the tokens allows {image:.2f} for the image and {clip:.2f} for the clip; with few "
        "encoder layers there is more to save and less to hide "
        f"behind. Wanted: {a:.0f} % of what is allowed at 0.25 and {b:.0f} % at 0.1."
    )


@says(PERFORMANCE)
def what_the_clock_shows() -> str:
    found = [row["of_allowed"] for rows in result("bench_cpu")["verdicts"].values() for row in rows]
    reached = [100 * row[clock] for row in found for clock in ("min", "busy")]
    return (
        f"the clock shows what operations allow: {span(reached)} % of it in every row, in minima "
        "as in processor time"
    )


def adds(name: str) -> dict[str, float]:
    """Milliseconds that each set of evidence adds to the fastest encoding; keys begin with the input."""
    return {
        f"{entry['workload']}: {e['evidence']}": e["encode_ms"]["min"]
        - entry["evidence"][0]["encode_ms"]["min"]
        for entry in result(name)["inputs"]
        for e in entry["evidence"][1:]
    }


def shares(name: str, asked: bool) -> list[float]:
    """Per cent that evidence adds, or that `question`, which asks nothing of the encoder, seems to."""
    return [
        100 * e["adds"]["min"]
        for entry in result(name)["inputs"]
        for e in entry["evidence"][1:]
        if e["evidence"].startswith("question") != asked
    ]


@says(PERFORMANCE)
def noise_of_probes() -> str:
    noise = [
        abs(x)
        for name in ("bench_probes", "bench_probes_next", "bench_probes_few")
        for x in shares(name, False)
    ]
    return (
        f'what it "adds" is the noise of these figures, {span(noise, "{:.1f}")} points. Wanted '
        "are less than 2 % of both."
    )


@says(PERFORMANCE)
def selection_of_probes() -> str:
    def took(name: str) -> dict[str, float]:
        found = [m for entry in result(name)["inputs"] for m in entry["methods"] if "skipped" not in m]
        return {
            m["row"].partition("@")[0]: 100 * m["share"] for m in sorted(found, key=lambda m: -m["share"])
        }

    first = took("bench_probes_next")
    names = list(first)
    holds(names[:5] == ["divprune", "prumerge_plus", "prumerge", "cdpruner", "visionzip"], str(names))
    holds(first[names[5]] < 0.1, "all others less than 0.1 %")
    figures = ", ".join(f"`{name}` {first[name]:.2f} %" for name in names[1:5])
    other = max(
        m["share"] for e in result("bench_probes")["inputs"] for m in e["methods"] if "skipped" not in m
    )
    return (
        f"Selection: `divprune` takes {first['divprune']:.2f} % of encoding the image of "
        f"LLaVA-NeXT-7B, {figures}, all "
        f"others less than 0.1 %; on LLaVA-OneVision none takes more than {100 * other:.2f} %."
    )


@says(PERFORMANCE)
def evidence_of_probes() -> str:
    def spread(raw: list[dict[str, Any]], key: str) -> float:
        times = [round_["encode"][key] for round_ in raw]
        return 100 * (max(times) / min(times) - 1)

    both = ("bench_probes", "bench_probes_next")
    most = max(
        spread(e["raw"], key)
        for name in both
        for e in result(name)["inputs"]
        for key in e["raw"][0]["encode"]
    )
    few = {key.partition(": ")[2]: ms for key, ms in adds("bench_probes_few").items()}
    rows = [ms for key, ms in few.items() if key.startswith("cls_attention of")]
    (logits,) = (ms for key, ms in few.items() if key.startswith("cls_logits"))
    (keys,) = (ms for key, ms in few.items() if "keys of -1" in key)
    (noise,) = (ms for key, ms in few.items() if key.startswith("question"))
    plan = result("bench_probes_few")["plan"]
    whole = result("bench_probes_next")["inputs"][0]["evidence"][0]["encode_ms"]["min"]
    of_whole = [100 * ms / whole for ms in (*rows, logits, keys)]
    return (
        f"Evidence: on LLaVA-OneVision {span(shares(both[0], True), '{:+.1f}')} %, on LLaVA-NeXT "
        f"{span(shares(both[1], True), '{:+.1f}')} %, where rounds of one and the same encoding "
        f"differ by up to {most:.0f} %. "
        f"With {plan['encoder_layers']} of CLIP's 24 layers and {plan['rounds']} rounds there is "
        f"less noise ({noise:.0f} ms): "
        f"{span(rows)} ms for rows of CLS, {logits:.0f} for its logits in the last layer, "
        f"{keys:.0f} for the keys of the last "
        f"layer, which are {span(of_whole, '{:.1f}')} % of the {whole / 1000:.1f} s of the whole encoder."
    )


def exponents(name: str, modality: str, quantity: str = "first token, ms") -> dict[str, float]:
    """Growth of time with length, by method and budget."""
    return {key: curve["exponent"] for key, curve in result(name)["growth"][modality][quantity].items()}


@says(PERFORMANCE)
def linear_in_crops() -> str:
    name = "length-llava-onevision-0.5b"
    for modality in ("image", "video"):
        holds(all(x <= LINEAR for x in exponents(name, modality).values()), "time is linear")
    memory = exponents(name, "image", "peak, MiB")
    holds(all(x < 0.5 for x in memory.values()), "memory grows more slowly")
    views = sorted({group["views"] for group in result(name)["groups"] if group["modality"] == "image"})
    frames = sorted({group["views"] for group in result(name)["groups"] if group["modality"] == "video"})
    return (
        f"pictures of {views[0] - 1} to {views[-1] - 1} crops of 384 pixels, clips of {frames[0]} "
        f"to {frames[-1]} frames; "
        "[curves](results/length-llava-onevision-0.5b.png). Time is linear to the last picture. "
        "Memory grows more slowly"
    )


@says(PERFORMANCE)
def linear_in_frames() -> str:
    clips, images = exponents("length", "video"), exponents("length", "image")
    holds(clips["none 1"] > LINEAR, "the uncompressed model is not linear")
    holds(all(x <= LINEAR for key, x in clips.items() if key.endswith(" 0.1")), "at 10 % time is linear")
    holds(all(x < 1 for x in images.values()), "images stay below")
    last = max(group["views"] for group in result("length")["groups"] if group["modality"] == "video")
    return (
        f"The uncompressed model's attention begins to show at {last} frames; at 10 % time is "
        "linear. Images stay below"
    )


@says(PERFORMANCE)
def crops_not_encoded() -> str:
    name, way = "ablations/tiny-next-image-saving", "globalcom2:allocation=gated,encoder_saving=crops"
    spared, lost = [], []
    for ratio in (0.25, 0.1):
        row, whole = row_of(name, way, ratio), row_of(name, "globalcom2", ratio)
        gated = row_of(name, "globalcom2:allocation=gated", ratio)
        holds(row["correct"] == gated["correct"], "the same tokens are sent")
        spared.append(100 * (1 - row["views"]["encoded"] / row["views"]["views"]))
        lost.append(100 * (whole["accuracy"] - row["accuracy"]))
    low, high = row_of(name, way, 0.25)["interval"]
    holds(low < row_of(name, "uniform", 0.25)["accuracy"] < high, "no better than uniform at 0.25")
    views = row_of(name, way, 0.25)["views"]["views"]
    return (
        f'1,000 questions about images of {views:g} views on average. `allocation="gated"` alone '
        "shows what the gate "
        f'costs; with `encoder_saving="crops"` the same tokens are sent, and {spared[0]:.0f} and '
        f"{spared[1]:.0f} % of the "
        f"views are not encoded. It costs {lost[0]:.0f} points at 0.25 and {lost[1]:.0f} at 0.1, "
        "and at 0.25 it is no better "
        "than `uniform`"
    )


@says(PERFORMANCE)
def frames_not_encoded() -> str:
    name = "ablations/tiny-onevision-clip-saving"
    whole = row_of(name, "globalcom2", 0.25)
    default, looser = (
        row_of(name, f"globalcom2:encoder_saving=frames{more}", 0.25) for more in ("", ":0.15:0.05")
    )
    holds(whole["accuracy"] - default["accuracy"] < 0.005, "nearly nothing is lost")
    lost = {kind: whole["per_type"][kind] - looser["per_type"][kind] for kind in whole["per_type"]}
    holds(max(lost, key=lambda kind: lost[kind]) == "digit", "the digit is lost first")
    return (
        "At the default nearly nothing is lost; a looser measure first loses the digit that "
        "flashes in a single frame"
    )
