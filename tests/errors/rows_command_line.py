"""Wrong options of every command: what stderr says in one line, and the exit code."""

from __future__ import annotations

from dataclasses import dataclass, replace

USAGE, FAILURE = 2, 1


@dataclass(frozen=True)
class Words:
    """One wrong command line.

    Attributes:
        command: of `vidcompress`; "" for what stands before a command.
        parameter: which is wrong, by its Python name.
        words: what is typed after the command; "{photo}" and "{clip}" are files that can be read, "{broken}" a text
            that is called .mp4, "{room}" the current folder, "{empty}" an empty one, "{run}" one of results.
        message: part of the line on stderr.
        code: exit code.
        names: what the line calls the parameter, where it does not by its name.
    """

    command: str
    parameter: str
    words: tuple[str, ...]
    message: str
    code: int = USAGE
    names: str | None = None

    def __str__(self) -> str:
        return " ".join(("vidcompress", self.command, *self.words))


QUESTION = ("--question", "what?")


def ask(parameter: str, *words: str, message: str, code: int = USAGE, names: str | None = None) -> Words:
    """A row of `ask` with a question."""
    return Words("ask", parameter, (*QUESTION, *words), message, code, names)


def shared(command: str) -> list[Words]:
    """Rows of `ask` that hold for `compare` too: the same options, checked in the same way; it needs a picture."""
    alike = "text media question image video model num_frames fps max_new_tokens policy separators positions"
    alike += " view_text mass mass_strength mass_cap encoder_saving seed device dtype attn_implementation device_map quantization preset backend time_instruction overlay html as_json"
    rows = [row for row in ROWS if row.command == "ask" and row.parameter in alike.split()]
    return [
        replace(
            row, command=command, words=row.words if _has_media(row) else (*row.words, "--image", "{photo}")
        )
        for row in rows
    ]


def clips(command: str, *words: str) -> list[Words]:
    """Rows of `remember` and `watch`: how a model is loaded, frames are taken, and what is held."""
    alike = "model device dtype option max_tokens hold"
    alike += " num_frames fps max_frames backend" if command == "remember" else ""
    known = [row for row in ROWS if row.command == "ask" and row.parameter in alike.split()]
    plain = [row for row in known if row.words[:2] == QUESTION and "--retention-ratio" not in row.words]
    named = ("--method", "globalcom2", "--max-tokens", "60")
    return [
        *(replace(row, command=command, words=(*words, *named, *row.words[2:])) for row in plain),
        Words(command, "method", (*words, "--method", "globalcom3"), "did you mean 'globalcom2'?"),
        Words(command, "method", (*words, "--method", "divprune"), "needs the whole clip"),
    ]


def served() -> list[Words]:
    """Rows of `ask` that hold for `app` too: how a model is loaded, frames are taken, and an answer's length."""
    alike = "model num_frames fps backend preset device dtype attn_implementation device_map quantization max_new_tokens"
    rows = [row for row in ROWS if row.command == "ask" and row.parameter in alike.split()]
    return [replace(row, command="app", words=row.words[2:]) for row in rows if row.words[:2] == QUESTION]


def _has_media(row: Words) -> bool:
    return (
        row.words[-1:] == ("--question",)
        or row.parameter in ("overlay", "html", "media", "text")
        or bool({"--image", "--video"} & {*row.words})
    )


NOT_WHOLE = "valid integer"
ONE_OF = "must be one of "
ROWS = [
    Words("", "command", ("aks",), "No such command 'aks'", names="command"),
    Words("", "command", ("--verison",), "No such option: --verison", names="--verison"),
    Words("", "version", ("--version=5",), "does not take a value", names="--version"),
    Words(
        "",
        "install_completion",
        ("--install-completion=5",),
        "does not take a value",
        names="--install-completion",
    ),
    Words(
        "", "show_completion", ("--show-completion=5",), "does not take a value", names="--show-completion"
    ),
    ask(
        "model",
        "--load-in-4bit",
        message="No such option: --load-in-4bit; pass --quantization 4bit",
        names="--load-in-4bit",
    ),
    ask(
        "model",
        "--token",
        "x",
        message="No such option: --token; the hub's client finds your token",
        names="--token",
    ),
    ask("model", "--cache-dir", "x", message="No such option: --cache-dir; set HF_HOME", names="--cache-dir"),
    ask(
        "model",
        "--trust-remote-code",
        message="code in a checkpoint is never run; leave it out",
        names="--trust-remote-code",
    ),
    Words("ask", "question", (), "question: there is none; pass it first, then the media"),
    Words("ask", "text", ("",), "question='': must be a text that is not empty", names="question"),
    Words("ask", "text", ("{photo}",), "is a file; pass the question first", names="question"),
    Words("ask", "text", ("{photo}", "what?"), "is a file; pass the question first", names="question"),
    ask("text", "which one?", message="there is another one, 'what?'; pass one question", names="question"),
    ask("text", "extra", message="there is another one, 'what?'; pass one question", names="question"),
    ask(
        "text", "no.png", message="media='no.png': no such file; check the path", code=FAILURE, names="media"
    ),
    ask("question", "--question", "why?", message="question='why?': there is another one, 'what?'"),
    Words("ask", "media", ("what?", "no.png"), "media='no.png': no such file; check the path", FAILURE),
    Words(
        "ask",
        "media",
        ("what?", "https://example.org/a.png"),
        "media='https://example.org/a.png': URLs are not opened; download it",
        FAILURE,
    ),
    Words(
        "ask",
        "media",
        ("what?", "{broken}"),
        "is neither a picture nor a clip in a known format; check it, or convert it",
        FAILURE,
    ),
    Words(
        "ask",
        "media",
        ("what?", "{clip}", "{clip}"),
        "are 2 clips, and a question takes pictures and at most",
    ),
    ask("media", "{clip}", "--video", "{clip}", message="are 2 clips, and a question takes pictures and"),
    Words("ask", "question", ("--question",), "requires an argument", names="--question"),
    Words("ask", "question", ("--question", ""), "question='': must be a text that is not empty"),
    Words(
        "ask",
        "question",
        ("--question", "a\udcff"),
        "question='a\\udcff': character 1 is '\\udcff', a byte that is no",
    ),
    Words(
        "ask",
        "question",
        ("--question", "a <image>?"),
        "stands for a picture or clip in a prompt; leave it out",
    ),
    ask("image", "--imaeg", "x", message="No such option: --imaeg"),
    ask("image", "--image", "no.png", message="image='no.png': no such file; check the path", code=FAILURE),
    ask("image", "--image", "", message="image='': no such file; check the path", code=FAILURE),
    ask(
        "image",
        "--image",
        "https://example.org/a.png",
        message="URLs are not opened; download it",
        code=FAILURE,
    ),
    ask(
        "video",
        "--video",
        "https://example.org/a.mp4",
        message="URLs are not opened; download it",
        code=FAILURE,
    ),
    ask("image", "--image", "{broken}", message="is not a picture in a known format", code=FAILURE),
    ask("image", "--image", "{clip}", message="is a video, not a picture; pass it as video=", code=FAILURE),
    ask("video", "--video", "no.mp4", message="video='no.mp4': no such file; check the path", code=FAILURE),
    ask(
        "video", "--video", "{empty}", message="is a folder without pictures; pass a video file", code=FAILURE
    ),
    ask("video", "--video", "{broken}", message="is not a video in a known format", code=FAILURE),
    ask(
        "video",
        "--video",
        "{photo}",
        message="is a still picture, not a video; pass it as image=",
        code=FAILURE,
    ),
    ask("video", "--model", "tiny-next", "--video", "{clip}", message="takes no", code=FAILURE),
    ask("model", "--model", "tiny-onevison", message="did you mean 'tiny-onevision'?"),
    ask("model", "--model", "", message="is neither a folder nor an embedded model"),
    ask("model", "--model", "owner/nothing", message="model='owner/nothing' does not load"),
    ask("model", "--model", "{room}", message="does not load"),
    ask("method", "--method", "globalcom", message="unknown method 'globalcom'; known: "),
    ask("method", "--method", "", message="unknown method ''; known: "),
    ask(
        "method",
        "--method",
        "vidcom2",
        "--image",
        "{photo}",
        message="serves video inputs only, got an image",
    ),
    ask("retention_ratio", "--retention-ratio", "1.5", message="must be a number with 0 < R <= 1, got '1.5'"),
    ask("retention_ratio", "--retention-ratio", "0", message="must be a number with 0 < R <= 1, got '0'"),
    ask(
        "retention_ratio", "--retention-ratio", "-0.1", message="must be a number with 0 < R <= 1, got '-0.1'"
    ),
    ask("retention_ratio", "--retention-ratio", "nan", message="must be a number with 0 < R <= 1, got 'nan'"),
    ask("retention_ratio", "--retention-ratio", "1e-999999999", message="must be a number with 0 < R <= 1"),
    ask("retention_ratio", "--retention-ratio", "lots", message="got 'lots'; 0.25 keeps a quarter"),
    ask(
        "max_tokens",
        "--retention-ratio",
        "0.5",
        "--max-tokens",
        "5",
        message="give exactly one of retention_ratio",
    ),
    ask("max_tokens", "--max-tokens", "0", message="max_tokens must be an integer of at least 1, got 0"),
    ask("max_tokens", "--max-tokens", "-4", message="max_tokens must be an integer of at least 1, got -4"),
    ask("max_tokens", "--max-tokens", "2.5", message=NOT_WHOLE, names="--max-tokens"),
    ask("num_frames", "--num-frames", "0", message="num_frames=0: must be from 1 to 300"),
    ask("num_frames", "--num-frames", "301", message="num_frames=301: must be from 1 to 300"),
    ask(
        "num_frames",
        "--num-frames",
        "few",
        message="is no whole number of frames, and not 'all'",
        names="--num-frames",
    ),
    ask("max_frames", "--max-frames", "0", message="max_frames=0: must be a whole number of at least 1"),
    ask("max_frames", "--max-frames", "few", message=NOT_WHOLE, names="--max-frames"),
    ask(
        "max_frames",
        "--max-frames",
        "3",
        "--num-frames",
        "4",
        message="must be from 1 to 3 (max_frames)",
        names="max_frames",
    ),
    ask("hold", "--hold", "1", message="hold=1.0: must be a number from 2 to 1024"),
    ask("hold", "--hold", "nan", message="hold=nan: must be a number from 2 to 1024"),
    ask("hold", "--hold", "x", message="valid number"),
    ask("hold", "--hold", "4", "--method", "divprune", message="needs the whole clip", names="divprune"),
    ask("memory", "--memory", "none.memory", message="no such file; pass one that qa.remember"),
    ask("memory", "--memory", "{photo}", message="is damaged or cut short"),
    ask(
        "memory",
        "--memory",
        "{photo}",
        "--video",
        "{clip}",
        message="it stands for a clip that was read already",
    ),
    ask("fps", "--fps", "0", message="fps=0.0: must be a positive number of frames per second"),
    ask("fps", "--fps", "inf", message="fps=inf: must be a positive number of frames per second"),
    ask("fps", "--fps", "nan", message="fps=nan: must be a positive number of frames per second"),
    ask("fps", "--fps", "fast", message="valid "),
    ask("fps", "--fps", "1", "--num-frames", "4", message="num_frames=4 and fps=1.0 exclude each other"),
    ask(
        "max_new_tokens",
        "--max-new-tokens",
        "0",
        message="max_new_tokens=0: must be a whole number of at least 1",
    ),
    ask("max_new_tokens", "--max-new-tokens", "-1", message="max_new_tokens=-1: must be a whole number"),
    ask("max_new_tokens", "--max-new-tokens", "x", message=NOT_WHOLE, names="--max-new-tokens"),
    ask("policy", "--policy", "strict", message="policy must be one of exact, reference, got 'strict'"),
    ask(
        "policy",
        "--policy",
        "reference",
        "--max-tokens",
        "5",
        message="use retention_ratio, or policy='exact'",
    ),
    ask("separators", "--separators", "all", message="separators must be one of keep, thin, drop, got 'all'"),
    ask("separators", "--separators", "", message="separators must be one of keep, thin, drop, got ''"),
    ask("positions", "--positions", "orginal", message="did you mean 'original'?"),
    ask("positions", "--positions", "scales", message="did you mean 'scaled'?"),
    ask("encoder_saving", "--encoder-saving", "frames:x", message="must be 'off', 'frames', 'crops' or"),
    ask("view_text", "--view-text", "all", message="view_text must be one of keep, drop, got 'all'"),
    ask("view_text", "--view-text", "", message="view_text must be one of keep, drop, got ''"),
    ask("mass", "--mass", "onn", message="mass must be one of on, off, got 'onn'; did you mean 'on'?"),
    ask("mass", "--mass", "", message="mass must be one of on, off, got ''"),
    ask("mass_strength", "--mass-strength", "strong", message="valid number"),
    ask(
        "mass_strength", "--mass-strength", "-1", message="mass_strength=-1.0: must be a finite number of at"
    ),
    ask(
        "mass_strength", "--mass-strength", "nan", message="mass_strength=nan: must be a finite number of at"
    ),
    ask("mass_cap", "--mass-cap", "all", message="valid number"),
    ask(
        "mass_cap",
        "--mass-cap",
        "0.5",
        message="mass_cap=0.5: must be a finite number of at least 1, or None",
    ),
    ask("option", "--option", "tau", message="--option='tau': must look like NAME=VALUE"),
    ask("option", "--option", "=5", message="--option='=5': must look like NAME=VALUE"),
    ask("option", "--option", "tua=1", message="has no option 'tua'; known: allocation"),
    ask("option", "--option", "tau=0", message="tau must be a number above 0, got 0", names="tau"),
    ask("option", "--option", "tau=NaN", message="tau must be a number above 0, got nan", names="tau"),
    ask("option", "--option", "tau=hot", message="tau must be a number, got 'hot'", names="tau"),
    ask(
        "option",
        "--option",
        "policy=exact",
        message="what is not an option of the method has a flag of its own",
    ),
    ask("seed", "--seed", "-1", message="seed=-1: must be a whole number from 0 to 4294967295"),
    ask("seed", "--seed", "4294967296", message="seed=4294967296: must be a whole number from 0 to"),
    ask("seed", "--seed", "x", message=NOT_WHOLE),
    ask("device", "--device", "toaster", message="device='toaster' is not a device; pass 'cpu'"),
    ask("device", "--device", "", message="device='' is not a device; pass 'cpu'"),
    ask("device", "--device", "cuda:99", message="this machine has"),
    ask("dtype", "--dtype", "int8", message="dtype='int8': must be a torch dtype or one of float32"),
    ask("dtype", "--dtype", "", message="dtype='': must be a torch dtype or one of float32"),
    ask(
        "attn_implementation",
        "--attn-implementation",
        "fast",
        message="is no attention implementation of transformers; known",
    ),
    ask(
        "attn_implementation",
        "--attn-implementation",
        "",
        message="is no attention implementation of transformers; known",
    ),
    ask("backend", "--backend", "ffmpeg", message="backend='ffmpeg': not known; use one of ['auto'"),
    ask("time_instruction", "--time-instruction=5", message="does not take a value", names="--time"),
    ask(
        "device_map", "--device-map", "nowhere", message="device_map='nowhere': must be one of auto, balanced"
    ),
    ask(
        "device_map",
        "--device-map",
        "auto",
        "--device",
        "cpu",
        message="exclude each other; pass one of them",
    ),
    ask("quantization", "--quantization", "2bit", message="quantization='2bit': must be one of 4bit, 8bit"),
    ask("overlay", "--overlay", "kept.png", message="there is nothing to draw over; add a picture or a clip"),
    ask("overlay", "--image", "a.png", "--overlay", "kept.bmp", message="must end in .png, .jpg or .webp"),
    ask(
        "overlay",
        "--image",
        "a.png",
        "--overlay",
        "no/such/kept.png",
        message="its folder does not exist; make it",
    ),
    ask(
        "overlay",
        "--image",
        "{photo}",
        "--overlay",
        "{room}/sub.png",
        message="is a folder; name a file in it",
    ),
    ask("html", "--html", "kept.html", message="there is nothing to show; add a picture or a clip"),
    ask("html", "--image", "a.png", "--html", "kept.pdf", message="must end in .html or .htm"),
    ask(
        "html",
        "--image",
        "a.png",
        "--html",
        "no/such/kept.html",
        message="its folder does not exist; make it",
    ),
    ask("html", "--image", "{photo}", "--html", "{room}/sub.png", message="is a folder; name a file in it"),
    ask("preset", "--preset", "288", "--model", "tiny-next", message="did you mean '2880'?"),
    ask("preset", "--preset", "2880", message="with llava_onevision: it has no presets; leave it out"),
    ask("masks", "--masks", message="--masks goes with --json only; add --json", names="--masks"),
    ask("explain", "--explain=yes", message="does not take a value", names="--explain"),
    ask("as_json", "--json=yes", message="does not take a value", names="--json"),
    Words("methods", "name", ("globalcom",), "unknown method 'globalcom'; known: ", names="method"),
    Words("methods", "name", ("../x",), "unknown method '../x'; known: ", names="method"),
    Words("methods", "name", ("a", "b"), "unexpected extra argument", names="argument"),
    Words("methods", "as_json", ("--json=yes",), "does not take a value", names="--json"),
    Words("models", "as_json", ("--json=yes",), "does not take a value", names="--json"),
    Words("models", "every_class", ("--all=yes",), "does not take a value", names="--all"),
    Words("models", "as_json", ("--jsn",), "No such option: --jsn", names="--jsn"),
]
COMPARE = ("--question", "what?", "--image", "{photo}")
ROWS += [
    *(
        row
        for row in shared("compare")
        if (row.parameter, row.words[2:3]) != ("policy", ("--policy=reference",))
    ),
    Words(
        "compare",
        "methods",
        (*COMPARE, "--methods", "globalcom3"),
        "did you mean 'globalcom2'?",
        names="method",
    ),
    Words("compare", "methods", (*COMPARE, "--methods", "globalcom2:tau"), "must list options as key=value"),
    Words("compare", "methods", (*COMPARE, "--methods", ","), "name at least one, or leave it out"),
    Words("compare", "masks", (*COMPARE, "--masks"), "--masks goes with --json only", names="--masks"),
    Words("compare", "only", (*COMPARE, "--only=yes"), "does not take a value", names="--only"),
    Words(
        "compare",
        "retention_ratios",
        (*COMPARE, "--retention-ratios", "2"),
        "0 < R <= 1, got '2'",
        names="retention_ratio",
    ),
    Words("compare", "retention_ratios", (*COMPARE, "--retention-ratios", ","), "give at least one"),
    Words(
        "compare",
        "max_tokens",
        (*COMPARE, "--max-tokens", "5,x"),
        "must be whole numbers with commas between",
    ),
    Words(
        "compare",
        "max_tokens",
        (*COMPARE, "--max-tokens", "0"),
        "max_tokens must be an integer of at least 1, got 0",
    ),
    Words(
        "compare",
        "max_tokens",
        (*COMPARE, "--max-tokens", "5", "--retention-ratios", "0.5"),
        "exclude each other; pass",
    ),
    Words(
        "compare", "repeats", (*COMPARE, "--repeats", "0"), "repeats=0: must be a whole number of at least 1"
    ),
    Words("compare", "repeats", (*COMPARE, "--repeats", "x"), NOT_WHOLE, names="--repeats"),
    Words("compare", "image", ("--question", "what?"), "there is nothing to compress; pass image="),
    Words(
        "doctor", "model", ("--size", "5x5"), "only a model can say what it makes of an input; pass model="
    ),
    Words(
        "doctor",
        "image",
        ("--model", "tiny-next", "--image", "no.png"),
        "no such file; check the path",
        FAILURE,
    ),
    Words(
        "doctor",
        "video",
        ("--model", "tiny-next", "--video", "no.mp4"),
        "no such file; check the path",
        FAILURE,
    ),
    Words("doctor", "size", ("--model", "tiny-next", "--size", "5"), "must be WIDTHxHEIGHT in pixels"),
    Words(
        "doctor", "size", ("--model", "tiny-next", "--size", "0x5"), "must be (height, width), whole pixels"
    ),
    Words(
        "doctor", "frames", ("--model", "tiny-next", "--frames", "0"), "num_frames=0: must be from 1 to 300"
    ),
    Words("doctor", "fps", ("--model", "tiny-next", "--fps", "2"), "fps=2.0: needs video="),
    Words("doctor", "preset", ("--preset", "2880"), "only a model can say what it makes of an input"),
    Words("doctor", "timeout", ("--timeout", "0"), "must be a number of seconds above 0"),
    Words("doctor", "timeout", ("--timeout", "nan"), "must be a number of seconds above 0"),
    Words("doctor", "as_json", ("--json=5",), "does not take a value", names="--json"),
    Words("cost", "model", ("--model", "tiny-onevison"), "did you mean 'tiny-onevision'?"),
    Words("cost", "model", ("--model", "owner/nothing"), "model='owner/nothing'"),
    Words("cost", "model", ("--model", "{empty}"), "there is no config.json; pass the folder"),
    Words("cost", "geometry", ("--geometry", "llava-nxt-7b"), "did you mean 'llava-next-7b'?"),
    Words("cost", "geometry", ("--geometry", "tiny-next"), "no such geometry; known: "),
    Words(
        "cost",
        "geometry",
        ("--geometry", "llava-next-7b", "--model", "tiny-next"),
        "exclude each other; pass one",
    ),
    Words(
        "cost", "visual_tokens", ("--visual-tokens", "0"), "visual_tokens=0: must be a whole number from 1"
    ),
    Words("cost", "visual_tokens", ("--visual-tokens", "few"), NOT_WHOLE, names="--visual-tokens"),
    Words(
        "cost",
        "visual_tokens",
        ("--visual-tokens", "5", "--image", "9x9"),
        "how many tokens it has; pass either",
    ),
    Words("cost", "size", ("--image", "5"), "--image='5': must be WIDTHxHEIGHT in pixels", names="image"),
    Words("cost", "size", ("--size", "0x5"), "must be (height, width), whole pixels"),
    Words("cost", "images", ("--images", "0", "--image", "9x9"), "images=0: must be a whole number from 1"),
    Words("cost", "images", ("--images", "2"), "of which size? pass size="),
    Words("cost", "preset", ("--preset", "288", "--image", "9x9"), "did you mean '2880'?"),
    Words("cost", "preset", ("--preset", "2880"), "it lays out pictures, and none is described; pass size="),
    Words("cost", "preset", ("--preset", "2880", "--visual-tokens", "2880"), "(instead of visual_tokens)"),
    Words("cost", "frames", ("--frames", "0"), "frames=0: must be a whole number from 1"),
    Words("cost", "frames", ("--frames", "8"), "take no clips; pass a picture"),
    Words(
        "cost", "frame_size", ("--frames", "8", "--frame-size", "5"), "--frame-size='5': must be WIDTHxHEIGHT"
    ),
    Words("cost", "frame_size", ("--frame-size", "9x9"), "of how many frames? pass frames= too"),
    Words(
        "cost",
        "frame_size",
        ("--frames", "8", "--frame-size", "9x9", "--geometry", "llava-video-7b"),
        "have one size; leave it out",
    ),
    Words("cost", "method", ("--method", "globalcom"), "unknown method 'globalcom'; known: "),
    Words(
        "cost", "method", ("--method", "vidcom2", "--image", "9x9"), "serves video inputs only, got an image"
    ),
    Words("cost", "method", ("--method", "frames"), "the clip must be described; pass frames="),
    Words("cost", "option", ("--option", "tau"), "--option='tau': must look like NAME=VALUE"),
    Words("cost", "option", ("--option", "tua=1"), "has no option 'tua'; known: allocation"),
    Words("cost", "retention_ratio", ("--retention-ratio", "2"), "must be a number with 0 < R <= 1, got '2'"),
    Words(
        "cost",
        "retention_ratio",
        ("--method", "fastv", "--retention-ratio", "0.01"),
        "so its floor is 6.3 %; raise the budget, or pass schedule='fit'",
        names="budget",
    ),
    Words("cost", "max_tokens", ("--max-tokens", "0"), "max_tokens must be an integer of at least 1, got 0"),
    Words(
        "cost",
        "max_tokens",
        ("--max-tokens", "5", "--retention-ratio", "1"),
        "give exactly one of retention_ratio",
    ),
    Words("cost", "text_tokens", ("--text-tokens", "-1"), "text_tokens=-1: must be a whole number from 0"),
    Words("cost", "new_tokens", ("--new-tokens", "0"), "new_tokens=0: must be a whole number from 1"),
    Words("cost", "batch_size", ("--batch-size", "0"), "batch_size=0: must be a whole number from 1"),
    Words(
        "cost", "dtype", ("--dtype", "int8"), "dtype must be one of float32, bfloat16, float16, got 'int8'"
    ),
    Words("cost", "as_json", ("--json=5",), "does not take a value", names="--json"),
]

SHAPES = ("--task", "shapes:image")


def sweep(parameter: str, *words: str, message: str, code: int = USAGE, names: str | None = None) -> Words:
    """A row of `eval` with a task."""
    return Words("eval", parameter, (*SHAPES, *words), message, code, names)


ROWS += [
    Words("eval", "sweep", (), "there is nothing to ask; pass a sweep file, --data or --task", names="sweep"),
    Words("eval", "sweep", ("no.toml",), "sweep='no.toml': no such file; pass a TOML file"),
    Words("eval", "sweep", ("{broken}",), "is no TOML file that can be read"),
    Words("eval", "sweep", ("{room}",), "no such file; pass a TOML file"),
    Words("eval", "data", ("--data", "nowhere"), "data='nowhere': holds no questions.jsonl; pass a folder"),
    Words("eval", "data", ("--data", ""), "name='data:': must say which", names="data"),
    Words(
        "eval",
        "task",
        ("--task", "shape:image"),
        "must be shapes:image, shapes:clip, data:FOLDER, parquet:FILE, hub:OWNER/NAME or lmms:NAME; did you mean",
    ),
    Words("eval", "task", ("--task", "shapes:film"), "must be one of image, clip, got 'film'"),
    Words("eval", "task", ("--task", "gqa"), "hub:OWNER/NAME or lmms:NAME; did you mean 'lmms:gqa'?"),
    Words(
        "eval",
        "task",
        ("--task", "parquet:no.parquet"),
        "no such file or folder; pass a Parquet file",
        names="no.parquet",
    ),
    Words("eval", "task", ("--task", "parquet:{photo}"), "cannot be read as Parquet (", names="scene.png"),
    Words("eval", "task", ("--task", "parquet:"), "must say which, as in 'data:my-benchmark'"),
    Words(
        "eval",
        "task",
        ("--task", "hub:name"),
        "must be hub:owner/name, hub:owner/name/config or",
        names="hub:name",
    ),
    Words("eval", "task", ("--task", "hub:owner/name"), "cannot be opened (", names="owner/name"),
    Words("eval", "task", ("--task", "lmms:"), "must say which, as in 'data:my-benchmark'"),
    sweep("model", "--model", "tiny-onevison", message="did you mean 'tiny-onevision'?"),
    sweep("methods", "--methods", "globalcom3", message="did you mean 'globalcom2'?", names="method"),
    sweep("methods", "--methods", "globalcom2:tau", message="must list options as key=value"),
    sweep(
        "retention_ratios", "--retention-ratios", "2", message="0 < R <= 1, got '2'", names="retention_ratio"
    ),
    sweep("retention_ratios", "--retention-ratios", ",", message="retention_ratios=[]: give at least one"),
    sweep("max_tokens", "--max-tokens", "5,x", message="must be whole numbers with commas between"),
    sweep("max_tokens", "--max-tokens", "0", message="max_tokens must be an integer of at least 1, got 0"),
    sweep("max_tokens", "--max-tokens", "5", "--retention-ratios", "0.5", message="exclude each other; pass"),
    sweep("out", "--limit", "1", "--out", "{broken}", message="cannot be used: ", code=FAILURE),
    sweep("limit", "--limit", "0", message="limit=0: must be a whole number of at least 1"),
    sweep("limit", "--limit", "x", message=NOT_WHOLE, names="--limit"),
    sweep("batch_size", "--batch-size", "0", message="batch_size=0: must be a whole number of at least 1"),
    sweep("num_frames", "--num-frames", "0", message="num_frames=0: must be from 1 to 300"),
    sweep("fps", "--fps", "0", message="fps=0.0: must be a positive number of frames per second"),
    sweep("fps", "--fps", "1", "--num-frames", "4", message="num_frames=4 and fps=1.0 exclude each other"),
    sweep("max_frames", "--max-frames", "0", message="max_frames=0"),
    sweep(
        "max_new_tokens", "--max-new-tokens", "0", message="max_new_tokens=0: must be a whole number of at"
    ),
    sweep("seed", "--seed", "-1", message="seed=-1: must be a whole number from 0 to 4294967295"),
    sweep("device", "--device", "toaster", message="device='toaster' is not a device; pass 'cpu'"),
    sweep(
        "dtype",
        "--dtype",
        "int8",
        message="dtype must be one of float32, float16, bfloat16, auto, got 'int8'",
    ),
    sweep("attn_implementation", "--attn-implementation", "fast", message="is no attention implementation"),
    sweep("device_map", "--device-map", "nowhere", message="device_map='nowhere': must be one of auto"),
    sweep(
        "device_map",
        "--device-map",
        "auto",
        "--device",
        "cpu",
        message="exclude each other; pass one of them",
    ),
    sweep("quantization", "--quantization", "2bit", message="quantization='2bit': must be one of 4bit, 8bit"),
    sweep("view_text", "--view-text", "all", message="view_text must be one of keep, drop, got 'all'"),
    sweep("view_text", "--view-text", "", message="view_text must be one of keep, drop, got ''"),
    sweep("mass", "--mass", "onn", message="mass must be one of on, off, got 'onn'; did you mean 'on'?"),
    sweep("mass", "--mass", "", message="mass must be one of on, off, got ''"),
    sweep("mass_strength", "--mass-strength", "strong", message="valid number"),
    sweep(
        "mass_strength", "--mass-strength", "-1", message="mass_strength=-1.0: must be a finite number of at"
    ),
    sweep(
        "mass_strength",
        "--mass-strength",
        "0.5",
        message="mass_strength=0.5: no method of the sweep has a mass; add mass='on', or leave it out",
    ),
    sweep("mass_cap", "--mass-cap", "all", message="valid number"),
    sweep("mass_cap", "--mass-cap", "0.5", message="mass_cap=0.5: must be a finite number of at least 1"),
    sweep("failed", "--failed", "left", message="must be one of wrong, left-out, got 'left'"),
    sweep("log_to", "--log-to", "tensorboard", message="--log-to must be one of trackio, wandb, got 'tensor"),
    sweep("log_to", "--log-to", "wandb", "--dry-run", message="--log-to=wandb: wandb cannot be imported ("),
    sweep("preset", "--preset", "", message="preset='': must be a text that is not empty"),
    Words(
        "eval",
        "dry_run",
        ("--task", "lmms:pope", "--dry-run", "--out", "a,b"),
        "lmms:pope with tiny-onevision, none at 1: model_args: journal=",
        names="holds a comma",
    ),
    sweep(
        "dry_run", "--dry-run", "--preset", "2880", message="it has no presets; leave it out", names="preset"
    ),
    sweep("dry_run", "--dry-run=5", message="does not take a value", names="--dry"),
    sweep("as_json", "--json=5", message="does not take a value", names="--json"),
]
ROWS += [
    Words("results", "runs", (), "Missing argument 'RUNS", names="RUNS"),
    Words("results", "runs", ("no-such-run",), "no such file or folder; pass what", names="no-such-run"),
    Words("results", "runs", ("{empty}",), "holds no result.json; pass what", names="result.json"),
    Words("results", "runs", ("{photo}",), "is no result file (", names="scene.png"),
    Words(
        "results",
        "against",
        ("{run}", "--against", "no.toml"),
        "no such file; pass `published`",
        names="no.toml",
    ),
    Words("results", "against", ("{run}", "--against", "{photo}"), "is no TOML table (", names="scene.png"),
    Words("results", "pairs", ("{run}", "--pairs", "globalcom2"), "must be two methods with a comma between"),
    Words("results", "pairs", ("{run}", "--pairs", "globalcom2,globalcom3"), "did you mean 'globalcom2'?"),
    Words("results", "html", ("{run}", "--html", "page.txt"), "must end in .html"),
    Words(
        "results",
        "html",
        ("{run}", "--html", "no/such/page.html"),
        "its folder does not exist; make it first",
    ),
    Words("results", "html", ("{run}", "--html", "{empty}"), "is a folder; name a file in it"),
    Words(
        "results", "card", ("{run}", "--model-index", "card.txt"), "must end in .md", names="--model-index"
    ),
    Words(
        "results",
        "card",
        ("{run}", "--model-index", "no/such/x.md"),
        "its folder does not exist; make it first",
        names="--model-index",
    ),
    Words("results", "questions", ("{run}", "--questions", "-1"), "must be a whole number from 0 to"),
    Words("results", "questions", ("{run}", "--questions", "x"), NOT_WHOLE, names="--questions"),
    Words("results", "plot", ("{run}", "--plot", "{photo}/plots"), "cannot be made ("),
    Words("results", "plot", ("{run}", "--plot", "plots.txt"), "must end in .svg, .png, "),
    Words(
        "results", "plot", ("{run}", "--plot", "no/such/x.png"), "its folder does not exist; make it first"
    ),
    Words("results", "parts", ("{run}", "--parts=yes"), "does not take a value", names="--parts"),
    Words("results", "as_markdown", ("{run}", "--markdown=yes"), "does not take a value", names="--markdown"),
    Words(
        "results", "as_markdown", ("{run}", "--markdown", "--json"), "exclude each other", names="--markdown"
    ),
    Words("results", "as_json", ("{run}", "--json=yes"), "does not take a value", names="--json"),
    Words(
        "results",
        "output_format",
        ("{run}", "--format", "md"),
        "--format must be one of text, markdown, csv, latex, json, got 'md'",
        names="--format",
    ),
    Words(
        "results",
        "output_format",
        ("{run}", "--format", "csv", "--json"),
        "--format=csv and --json exclude each other; pass one of them",
        names="--format",
    ),
    Words(
        "results",
        "output_format",
        ("{run}", "--format", "csv", "--pairs", "globalcom2,random"),
        "--format=csv: is one table and cannot go with --pairs; leave it out or pass",
        names="--format",
    ),
    Words(
        "results",
        "output_format",
        ("{run}", "--format", "csv", "--against", "published"),
        "is one table and cannot go with --against",
        names="--format",
    ),
    Words(
        "results",
        "baseline",
        ("{run}", "--baseline", "no-such-run"),
        "no such file or folder",
        names="no-such-run",
    ),
    Words(
        "results", "baseline", ("{run}", "--baseline", "{empty}"), "holds no result.json", names="result.json"
    ),
    *(
        Words(
            "results",
            "baseline",
            ("{run}", "--baseline", "{run}", *words),
            f"cannot go with {words[0]}; leave it out",
        )
        for words in (("--plot", "plots"), ("--parts",), ("--against", "published"), ("--html", "page.html"))
    ),
    Words(
        "results",
        "pairs",
        ("{run}", "--baseline", "{run}", "--pairs", "globalcom2,globalcom3"),
        "no row of the baseline is of method 'globalcom3'; known: ",
    ),
]
BENCH = ("--geometry", "llava-onevision-0.5b", "--frames", "4")


def bench(parameter: str, *words: str, message: str, code: int = USAGE, names: str | None = None) -> Words:
    """A row of `bench` with a geometry and a clip."""
    return Words("bench", parameter, (*BENCH, *words), message, code, names)


TAKES_NO_VALUE = "does not take a value"
ROWS += [
    Words("bench", "geometry", ("--frames", "4"), "give one of them, a named shape with random weights"),
    Words(
        "bench", "geometry", ("--geometry", "llava-next-8b", "--frames", "4"), "did you mean 'llava-next-7b'?"
    ),
    Words("bench", "model", (*BENCH, "--model", "tiny-next"), "give one of them, a named shape"),
    Words("bench", "model", ("--model", "no-such-model", "--frames", "4"), "no-such-model"),
    bench("decoder_layers", "--decoder-layers", "0", message="must be a whole number from 1 to 1000"),
    bench(
        "decoder_layers", "--decoder-layers", "1000000000", message="must be a whole number from 1 to 1000"
    ),
    Words(
        "bench",
        "decoder_layers",
        ("--model", "tiny-next", "--sizes", "9x9", "--decoder-layers", "2"),
        "a checkpoint is as it is; use geometry= instead",
    ),
    bench("encoder_layers", "--encoder-layers", "1", message="must be a whole number from 2 to 1000"),
    bench("scale", "--scale", "small", message="scale must be one of full, tiny"),
    Words("bench", "sizes", ("--geometry", "llava-next-7b"), "there is nothing to measure: give sizes="),
    Words(
        "bench", "sizes", ("--geometry", "llava-next-7b", "--sizes", "672"), "must be WIDTHxHEIGHT in pixels"
    ),
    Words(
        "bench",
        "sizes",
        ("--geometry", "llava-next-7b", "--sizes", "0x9"),
        "must be a whole number from 1 to",
    ),
    Words("bench", "frames", (*BENCH[:2], "--frames", "4,x"), "must be whole numbers with commas between"),
    Words("bench", "frames", (*BENCH[:2], "--frames", "0"), "must be a whole number from 1 to 4096"),
    Words(
        "bench",
        "frames",
        ("--geometry", "llava-next-7b", "--frames", "4", "--scale", "tiny"),
        "takes no clips",
    ),
    bench("methods", "--methods", "globalcom3", message="did you mean 'globalcom2'?", names="method"),
    bench("methods", "--methods", ",", message="name at least one, or leave it out"),
    bench("methods", "--methods", "hired", message="serves image inputs only"),
    bench("baseline", "--baseline=yes", message=TAKES_NO_VALUE, names="--baseline"),
    bench("only", "--only=yes", message=TAKES_NO_VALUE, names="--only"),
    bench(
        "retention_ratios", "--retention-ratios", "2", message="0 < R <= 1, got '2'", names="retention_ratio"
    ),
    bench("max_tokens", "--max-tokens", "5,x", message="must be whole numbers with commas between"),
    bench("max_tokens", "--max-tokens", "5", "--retention-ratios", "1", message="exclude each other; pass"),
    bench("batch_sizes", "--batch-sizes", "0", message="must be a whole number from 1 to 1024"),
    bench("batch_sizes", "--batch-sizes", "1000000000", message="must be a whole number from 1 to 1024"),
    bench("batch_sizes", "--batch-sizes", ",", message="give at least one"),
    bench("concurrency", "--concurrency", "processes", message="concurrency must be one of batch, threads"),
    bench("new_tokens", "--new-tokens", "0", message="must be a whole number from 1 to 65536"),
    bench("new_tokens", "--new-tokens", "1000000000", message="must be a whole number from 1 to 65536"),
    bench("text_tokens", "--text-tokens", "1", message="must be a whole number from 2"),
    bench("text_tokens", "--text-tokens", "1000000000", message="must be a whole number from 2 to 1048576"),
    bench("rounds", "--rounds", "0", message="must be a whole number from 1"),
    bench("warmup", "--warmup", "-1", message="must be a whole number from 0"),
    bench("memory", "--memory=yes", message=TAKES_NO_VALUE, names="--memory"),
    bench("probes", "--probes=yes", message=TAKES_NO_VALUE, names="--probes"),
    bench(
        "probes",
        "--probes",
        "--plot",
        "x.png",
        message="cannot go with --probes; leave it out",
        names="probes",
    ),
    bench("decode", "--decode=yes", message=TAKES_NO_VALUE, names="--decode"),
    bench("image", "--image", "no.png", message="no such file; check the path", code=FAILURE),
    bench(
        "image",
        "--image",
        "{photo}",
        "--sizes",
        "9x9",
        message="has a size of its own; use it without sizes=",
    ),
    bench("video", "--video", "no.mp4", message="no such file; check the path", code=FAILURE),
    Words(
        "bench", "video", (*BENCH[:2], "--sizes", "9x9", "--video", "{clip}"), "say how many frames to take"
    ),
    bench("device", "--device", "tpu9", message="is not a device; pass 'cpu'"),
    bench("dtype", "--dtype", "int8", message="dtype must be one of float32, float16, bfloat16"),
    bench("attn_implementation", "--attn-implementation", "sdap", message="did you mean 'sdpa'?"),
    bench("threads", "--threads", "0", message="must be a whole number from 1 to 1024"),
    bench("seed", "--seed", "-1", message="must be a whole number from 0"),
    bench("journal", "--journal", "{room}", message="is a folder; name a file in it"),
    bench(
        "journal",
        "--scale",
        "tiny",
        "--journal",
        "{broken}",
        message="its first line is damaged; move the file away",
    ),
    bench("minutes", "--minutes", "0", message="must be a positive number"),
    bench("out", "--out", "no/such/x.json", message="its folder does not exist; make it first"),
    bench("out", "--out", "x" * 300, message="cannot be written"),
    bench("plot", "--plot", "x.txt", message="must end in .svg, .png"),
    bench("plot", "--plot", "x" * 300 + ".png", message="cannot be written"),
    bench("as_json", "--json=5", message=TAKES_NO_VALUE, names="--json"),
]
ROWS += [
    *served(),
    *clips("remember", "{clip}", "--out", "clip.memory"),
    *clips("watch", "{clip}"),
    Words("remember", "video", ("none.mp4", "--out", "a"), "video='none.mp4': no such file", FAILURE),
    Words("remember", "video", ("{broken}", "--out", "a"), "is not a video in a known format", FAILURE),
    Words("remember", "out", ("{clip}",), "Missing option '--out'"),
    Words("remember", "out", ("{clip}", "--out", "{photo}/a"), "cannot be written", names="path"),
    Words("remember", "as_json", ("{clip}", "--out", "a", "--json=5"), TAKES_NO_VALUE, names="--json"),
    Words("watch", "source", ("none.ts",), "cannot be opened", FAILURE),
    Words("watch", "source", ("{empty}",), "cannot be opened", FAILURE),
    Words("watch", "fps", ("{clip}", "--fps", "0"), "fps=0.0: must be a positive number of frames"),
    Words("watch", "idle", ("{clip}", "--idle", "0"), "idle=0.0: must be a positive number of seconds"),
    Words("watch", "at_end", ("{clip}", "--at-end"), "waits for the end of the source", names="--at-end"),
    Words(
        "watch", "max_new_tokens", ("{clip}", "--max-new-tokens", "0"), "must be a whole number of at least 1"
    ),
    Words("watch", "as_json", ("{clip}", "--json=5"), TAKES_NO_VALUE, names="--json"),
    Words("app", "host", ("--host", ""), "must be a text that is not empty, such as '127.0.0.1'"),
    Words("app", "host", ("--host", ".a"), "no address of that name"),
    Words("app", "host", ("--host", "192.0.2.1"), "is no address of this machine"),
    Words("app", "port", ("--port", "0"), "must be a whole number from 1 to 65535"),
    Words("app", "port", ("--port", "7860.5"), NOT_WHOLE),
    Words("app", "open_browser", ("--open=5",), TAKES_NO_VALUE, names="--open"),
]


def serve(parameter: str, *words: str, message: str, code: int = USAGE, names: str | None = None) -> Words:
    """A row of `serve` with a model."""
    return Words("serve", parameter, ("tiny-qwen", "--dry-run", *words), message, code, names)


ROWS += [
    Words("serve", "model", (), "Missing argument"),
    Words("serve", "model", ("no-such-model",), "tiny-onevision", names="no-such-model"),
    serve("method", "--method", "globalcom3", message="globalcom2"),
    serve("method", "--method", "fastv", message="it drops tokens inside the language model"),
    serve("retention_ratio", "-r", "2", message="0 < R <= 1"),
    serve("max_tokens", "--max-tokens", "0", message="must be an integer of at least 1"),
    serve("max_tokens", "--max-tokens", "1.5", message=NOT_WHOLE),
    serve("option", "--option", "tau", message="must look like NAME=VALUE"),
    serve("option", "--option", "tua=5", message="has no option 'tua'"),
    serve("separators", "--separators", "some", message=ONE_OF),
    serve("host", "--host", "", message="must be a text that is not empty"),
    serve("port", "--port", "0", message="must be a whole number from 1 to 65535"),
    serve("max_model_len", "--max-model-len", "0", message="must be a whole number"),
    serve("max_images", "--max-images", "-1", message="must be a whole number"),
    serve("max_clips", "--max-clips", "-1", message="must be a whole number"),
    serve("fixed_budget", "--fixed-budget=5", message=TAKES_NO_VALUE),
    serve("media_domain", "--media-domain", "http://a.org/x", message="must be the name of a host alone"),
    serve("tensor_parallel", "--tensor-parallel", "0", message="must be a whole number"),
    serve("data_parallel", "--data-parallel", "0", message="must be a whole number"),
    serve("pipeline_parallel", "--pipeline-parallel", "0", message="must be a whole number"),
    serve("pipeline_parallel", "--pipeline-parallel", "2", message="whose positions have axes"),
    serve("dtype", "--dtype", "float8", message=ONE_OF),
    Words("serve", "dry_run", ("tiny-qwen", "--dry-run=5"), TAKES_NO_VALUE),
]
