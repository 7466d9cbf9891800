"""Table of mutants: the old text, the new text, and the harm that the change would do."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

TABLE = Path(__file__).with_name("mutants.toml")
KINDS = (
    "reverse the sort",
    "off by one",
    "skip the restore",
    "swap rows and columns",
    "shift positions",
    "reuse a consumed encoder output",
    "drop the 2-D mask",
    "mix up neighbours",
    "wrong term in a sum",
)
"""The seven kinds that every table has, and two more: what belongs to one view, row or visual reaches another; and a
figure on paper with a term too many, too few or of another size."""


class TableError(Exception):
    """The table does not fit the code, or itself."""


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        name: unique, for `--only` and the results.
        kind: one of `KINDS`.
        file: path from the root of the checkout.
        old: text that occurs exactly once in the file.
        new: what stands there instead.
        why: what would go wrong for a user.
        tests: files that are likely to notice, tried before the whole suite.
    """

    name: str
    kind: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Changes when the mutation changes."""
        return hashlib.sha256("\0".join((self.file, self.old, self.new)).encode()).hexdigest()[:16]

    def mutated(self, source: str) -> str:
        """The file with the mistake in it.

        Args:
            source: the file as it is.

        Raises:
            TableError: the old text is not there exactly once.
        """
        count = source.count(self.old)
        if count != 1:
            raise TableError(
                f"mutant {self.name!r}: its old text occurs {count} times in {self.file}, expected once; the code has "
                f"moved on, so write the mutation anew:\n{self.old}"
            )
        return source.replace(self.old, self.new)


def load(path: Path = TABLE) -> list[Mutant]:
    """Read the table.

    Raises:
        TableError: an entry has unknown or missing keys, an unknown kind, no effect, or a name that is taken.
    """
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
    mutants, names = [], [field.name for field in fields(Mutant)]
    for number, entry in enumerate(entries):
        where = f"mutant {entry.get('name', number)!r}"
        if set(entry) != set(names):
            raise TableError(f"{where} has the keys {sorted(entry)}; expected {names}")
        mutant = Mutant(**{**entry, "tests": tuple(entry["tests"])})
        if mutant.kind not in KINDS:
            raise TableError(f"{where}: kind={mutant.kind!r} is none of {', '.join(KINDS)}")
        if mutant.old == mutant.new or not mutant.old.strip() or not mutant.why or not mutant.tests:
            raise TableError(f"{where} needs an old text, another new one, a reason and tests")
        if mutant.name in {other.name for other in mutants}:
            raise TableError(f"{where} is there twice; choose another name")
        mutants.append(mutant)
    return mutants


def check(mutants: list[Mutant], root: Path) -> None:
    """See that every mutant applies to the checkout and compiles, and that its tests exist.

    Raises:
        TableError: naming the first that does not.
    """
    for mutant in mutants:
        source = mutant.mutated((root / mutant.file).read_text(encoding="utf-8"))
        try:
            compile(source, mutant.file, "exec")
        except SyntaxError as error:
            raise TableError(f"mutant {mutant.name!r} is no Python: {error}") from error
        missing = [test for test in mutant.tests if not (root / test).is_file()]
        if missing:
            raise TableError(f"mutant {mutant.name!r} names tests that are not there: {missing}")


def pick(mutants: list[Mutant], words: list[str]) -> list[Mutant]:
    """Those whose name, kind or file contains one of the words; all without words.

    Raises:
        TableError: a word that no mutant contains.
    """
    for word in words:
        if not any(word in text for m in mutants for text in (m.name, m.kind, m.file)):
            raise TableError(f"--only {word!r} matches no name, kind or file; see --list")
    return [
        m for m in mutants if not words or any(w in text for w in words for text in (m.name, m.kind, m.file))
    ]
