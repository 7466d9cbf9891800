"""Sources of tables: local Parquet and repositories of the Hub, through `datasets`, which runs no code of theirs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

from vidcompress.errors import ArgumentError, nearest, one_line, shown
from vidcompress.loading.distribution import how_to_install

ROWS: Final = 16
"""Rows that are in memory at once: with their pictures and clips."""
SPLITS: Final = ("test", "validation", "val", "dev", "train")
"""Names of splits; of a repository the first that it has is taken where none is stated."""
_HUB_NAME: Final = re.compile(r"([\w.-]+/[\w.-]+)(?:/([\w.-]+))?(?:@([\w./-]+))?")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class TableSource:
    """Table of questions.

    Attributes:
        where: what messages begin with.
        name: of the task.
        split: of the data.
        revision: SHA-256 of the files, or the commit of the repository, then "+" and the split where it is stated.
        features: column -> its feature, as `datasets` states it.
        roots: folders that paths in the table may lead into; those that are relative begin at the first.
        rows: of the columns that it is given, in order; pictures and clips are not decoded.
    """

    where: str
    name: str
    split: str
    revision: str
    features: Mapping[str, Any]
    roots: tuple[Path, ...]
    rows: Callable[[Sequence[str]], Iterator[Row]]


def open_parquet(path: Path, split: str | None = None) -> TableSource:
    """Open a file of Parquet, or all files of a folder that belong to a split.

    Args:
        path: a file or folder; files are read in the order of their names.
        split: only files of a folder that are called by it, such as `test-00000-of-00002.parquet`, or that lie in a
            folder of that name.

    Raises:
        ArgumentError: there is no such file, it is no Parquet, or `datasets` is not installed.
    """
    where = f"parquet:{path}: "
    files = _parquet_files(path, split)
    root = path if path.is_dir() else path.parent
    datasets, called = _datasets(where), [str(file) for file in files]

    def table(columns: Sequence[str] | None = None) -> Any:
        options: dict[str, Any] = {} if columns is None else {"columns": list(columns), "batch_size": ROWS}
        return datasets.load_dataset("parquet", data_files=called, split="train", streaming=True, **options)

    try:
        digest = hashlib.sha256()
        for file in files:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        features = dict(table().features)
    except Exception as error:  # noqa: BLE001  (datasets and pyarrow raise errors of many classes)
        _refuse_file(where, error)

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        try:
            yield from _rows(table(columns))
        except Exception as error:  # noqa: BLE001
            _refuse_file(where, error)

    return TableSource(
        where,
        path.resolve().name.removesuffix(".parquet"),
        split or _split_of(files[0], root) or "test",
        digest.hexdigest(),
        features,
        (root,),
        rows,
    )


def _refuse_file(where: str, error: Exception) -> NoReturn:
    raise ArgumentError(f"{where}cannot be read as Parquet ({one_line(error)}); check the file") from error


def _parquet_files(path: Path, split: str | None) -> list[Path]:
    where = f"parquet:{path}: "
    if path.is_file():
        if split is not None:
            raise ArgumentError(f"{where}split={split!r}: only for folders and hub: tasks; leave it out")
        return [path]
    if not path.is_dir():
        raise ArgumentError(f"{where}no such file or folder; pass a Parquet file, or a folder of them")
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise ArgumentError(f"{where}holds no .parquet file; pass a Parquet file, or a folder of them")
    splits = list(dict.fromkeys(filter(None, (_split_of(file, path) for file in files))))
    if split is None:
        if len(splits) > 1:
            raise ArgumentError(
                f"{where}holds the splits {', '.join(splits)}; name one in a sweep file, as in split = {splits[0]!r}, "
                "or pass its files"
            )
        return files
    chosen = [file for file in files if _split_of(file, path) == split]
    if not chosen:
        raise ArgumentError(f"{where}split={split!r}: no file is of it; {nearest(split, splits)}")
    return chosen


def _split_of(file: Path, root: Path) -> str | None:
    """Split that the name of a file begins with, or else that of a folder; None where they state none."""
    inner = file.relative_to(root).parts[:-1]
    for name in (re.split(r"[-_.]", file.stem)[0], *reversed(inner)):
        if name in SPLITS:
            return name
    return None


def parse_hub_name(text: str) -> tuple[str, str | None, str | None]:
    """Return repository, configuration and revision of `owner/name[/config][@revision]`.

    Raises:
        ArgumentError: it is written otherwise.
    """
    match = _HUB_NAME.fullmatch(text)
    if match is None:
        raise ArgumentError(
            f"hub:{text}: must be hub:owner/name, hub:owner/name/config or either with @revision behind it"
        )
    return match[1], match[2], match[3]


def open_hub(text: str, split: str | None = None) -> TableSource:
    """Open a data set of the Hub at one commit; its files are fetched once, into the cache of `datasets`.

    Args:
        text: `owner/name[/config][@revision]`.
        split: None takes the first of `SPLITS` that it has.

    Raises:
        ArgumentError: the name is malformed, the Hub cannot be reached, there is no such data set, configuration,
            revision or split, or `datasets` is not installed.
    """
    repository, config, revision = parse_hub_name(text)
    where = f"hub:{text}: "
    datasets = _datasets(where)
    try:
        commit = revision if revision and _COMMIT.fullmatch(revision) else _commit(repository, revision)
        splits = list(datasets.get_dataset_split_names(repository, config, revision=commit))
        chosen = split or next((name for name in SPLITS if name in splits), splits[0])
        if chosen not in splits:
            raise ArgumentError(f"{where}split={chosen!r}: no such split; {nearest(chosen, splits)}")
        table = datasets.load_dataset(repository, config, split=chosen, revision=commit)
    except ArgumentError:
        raise
    except Exception as error:
        raise ArgumentError(
            f"{where}cannot be opened ({one_line(error)}); check its name and the network, or download it and pass "
            "parquet:FOLDER"
        ) from error
    hub = import_module("huggingface_hub.constants")
    roots = (Path(hub.HF_HUB_CACHE), Path(datasets.config.HF_DATASETS_CACHE))
    return TableSource(
        where,
        repository if config is None else f"{repository}/{config}",
        chosen,
        commit if split is None else f"{commit}+{split}",
        dict(table.features),
        roots,
        lambda columns: _rows(table.select_columns(list(columns))),
    )


def _commit(repository: str, revision: str | None) -> str:
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(repository, revision=revision).sha)


def _rows(table: Any) -> Iterator[Row]:
    """Rows as Arrow stores them: a picture or clip is its bytes and path, a class its number."""
    for batch in table.with_format("arrow").iter(batch_size=ROWS):
        yield from batch.to_pylist()


def _datasets(where: str) -> Any:
    """The library, with neither bars nor warnings of its own.

    Raises:
        ArgumentError: it is not installed.
    """
    try:
        datasets = import_module("datasets")
    except ImportError as error:
        raise ArgumentError(
            f"{where}needs datasets, which is not installed ({shown(one_line(error))}); {how_to_install('datasets')}"
        ) from error
    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(50)
    return datasets
