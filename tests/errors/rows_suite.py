"""Wrong options of `vidcompress suite`."""

from __future__ import annotations

from errors.rows_command_line import NOT_WHOLE, Words


def make(parameter: str, *words: str, message: str, names: str | None = None) -> Words:
    """A row of `suite make` with everything but one option right."""
    return Words("suite make", parameter, ("multi-turn", "--out", "new", *words), message, names=names)


ROWS = [
    Words("suite list", "as_json", ("--json=yes",), "does not take a value", names="--json"),
    Words("suite path", "", ("here",), "unexpected extra argument", names="argument"),
    Words("suite make", "name", ("--out", "new"), "Missing argument 'name'"),
    Words("suite make", "name", ("needel", "--out", "new"), "did you mean 'needle'?"),
    Words("suite make", "name", ("", "--out", "new"), "name='': no benchmark of the suite; known: "),
    Words("suite make", "out", ("detail",), "Missing option '--out'"),
    Words("suite make", "out", ("detail", "--out", ""), "out='': must be the name of a folder"),
    Words("suite make", "out", ("detail", "--out", "{room}"), "is not empty: it holds 'sub.png'; name a new one", names="folder"),
    Words("suite make", "out", ("detail", "--out", "{photo}"), "is a file; name a new folder", names="folder"),
    make("questions", "--questions", "0", message="questions=0: must be a whole number from 1 to 2000"),
    make("questions", "--questions", "7", message="asks 5 about each of its media; pass a multiple of 5"),
    make("questions", "--questions", "x", message=NOT_WHOLE, names="--questions"),
    make("seed", "--seed", "100", message="seed=100: must be a whole number from 0 to 99"),
    make("seed", "--seed", "x", message=NOT_WHOLE, names="--seed"),
    make("view", "--view", "112", message="view=112: multi-turn is drawn without it; leave it out"),
    make("view", "--view", "x", message=NOT_WHOLE, names="--view"),
    Words("suite make", "view", ("detail", "--out", "new", "--view", "9"), "view=9: must be a whole number from 56 to 512"),
    make("prompt_suffix", "--prompt-suffix", "a\x01", message="must be a text of printable characters; leave it out"),
    make("as_json", "--json=yes", message="does not take a value", names="--json"),
    Words("suite", "", ("mkae",), "No such command 'mkae'", names="command"),
]  # fmt: skip
