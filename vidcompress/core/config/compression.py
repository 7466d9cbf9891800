"""Configuration: all arguments of compression, checked once, in memory and in a file."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from vidcompress.checks import is_number, is_whole, one_of
from vidcompress.core.budget import (
    POLICIES,
    SEPARATORS,
    Budget,
    Policy,
    Ratio,
    Separators,
    ratio_fraction,
)
from vidcompress.core.config.json_file import read_json, write_json
from vidcompress.core.config.view_skipping import EncoderSaving, ViewSkipping, read_view_skipping
from vidcompress.core.method import MASS, POSITIONS, Mass, Method, Positions
from vidcompress.core.method_lookup import (
    get_method,
    option_names,
    options_from_json,
    options_to_json,
    with_options,
)
from vidcompress.core.method_spec import fraction_text, parse_method_spec, read_fraction
from vidcompress.core.prompt import VIEW_TEXT, ViewText
from vidcompress.core.report import Report
from vidcompress.core.stream.stream import StreamSize
from vidcompress.errors import ArgumentError, nearest, shown

FILE_NAME = "compression_config.json"
VERSION = 1
"""Version of the file format. A reader refuses any other."""

DEFAULT_METHOD = "globalcom2"
NO_SAVING: EncoderSaving = "off"
DEFAULT_RATIO = 0.25
"""Share of the visual tokens that a `VisualQA` keeps where no budget is given."""


@dataclass(frozen=True, init=False)
class CompressionConfig:
    """Configuration of compression: the method with its options, the budget, separators, positions and views.

    It is checked when it is made and cannot be changed; `replace` makes another one. Functions with `config=` take
    it instead of the keyword arguments of the same names.

    Args:
        method: name of a registered method; two joined by `+`; a text with options such as "globalcom2:alpha=0.3"; or
            a `Method`. A field of this class that the text states, as in "globalcom2:policy=reference", is taken from
            there. Kept as the `Method`.
        retention_ratio: 0 < R <= 1, share of each image's or video's positions to keep, read as an exact decimal.
            Exactly one of this and `max_tokens` is needed; the method "none" takes 1 without either. Kept as a float
            where the float's shortest decimal is the ratio, as a `Fraction` otherwise.
        max_tokens: visual positions per prompt row, at least 1; instead of `retention_ratio`.
        separators: `thin` keeps newline tokens in proportion, `keep` all, `drop` none; None is `thin`, and `keep` under
            the policy `reference`.
        positions: `contiguous` renumbers, `original` leaves gaps, `scaled` shrinks the gaps of a clip to the length
            that the checkpoint was trained on; None is the policy of the method's authors.
        policy: `exact` meets the budget to the token; `reference` reproduces the authors' counts and order.
        max_views: most views per encoder call; bounds its memory.
        max_patches: most patches per call of an encoder that takes any number of patches, where no view alone has
            more; the default is 16 pictures of 448 x 448 pixels in patches of 14.
        encoder_saving: `off`, or `frames`: frames of a clip that look like an earlier one are not encoded and take
            over its tokens. With `frames:threshold=0.2,area=0.05`, or a `ViewSkipping`, a frame is new when more than
            5 % of its cells of 8 x 8 pixels changed by more than 0.2 (of `pixel_values`); the default is 0.15 and 1 %.
            With `crops` the thumbnail of an image is encoded first, and crops that `globalcom2` with allocation="gated"
            gives nothing never are; on a canvas that the model resizes this is refused. `frames+crops` is both. Kept as
            a `ViewSkipping`.
        view_text: `keep` leaves text that belongs to a view, such as the time of a frame, in the prompt; `drop` takes
            it out where the view keeps nothing.
        hold: for clips, tokens held in memory per token of the budget, 2 to 1024, while the method's stream takes chunk
            after chunk of frames; frames of files are then decoded, encoded and left one chunk at a time. None holds
            the whole clip, and takes what the method chooses from it.
        mass: `on` adds the logarithm of the number of tokens that a token sent stands for to its attention logits, in
            every layer of the language model; `off` adds nothing; None is the default of the method.
        mass_strength: factor of that logarithm, at least 0; 0 is off.
        mass_cap: largest number of tokens that counts, at least 1; None for no limit.

    Raises:
        ArgumentError: an unknown or ill-typed argument, or two that do not go together.
        BudgetError: a budget out of range, none, or two.
    """

    method: Method
    retention_ratio: float | Fraction | None = None
    max_tokens: int | None = None
    separators: Separators | None = None
    positions: Positions | None = None
    policy: Policy = "exact"
    max_views: int = 16
    max_patches: int = 16384
    encoder_saving: ViewSkipping = ViewSkipping()
    view_text: ViewText = "keep"
    hold: float | None = None
    mass: Mass | None = None
    mass_strength: float = 1.0
    mass_cap: float | None = None

    def __init__(
        self,
        method: str | Method = DEFAULT_METHOD,
        retention_ratio: Ratio | None = None,
        max_tokens: int | None = None,
        separators: Separators | None = None,
        positions: Positions | None = None,
        policy: Policy = policy,
        max_views: int = max_views,
        max_patches: int = max_patches,
        encoder_saving: EncoderSaving = NO_SAVING,
        view_text: ViewText = view_text,
        hold: float | None = None,
        mass: Mass | None = None,
        mass_strength: float = mass_strength,
        mass_cap: float | None = None,
    ) -> None:
        chosen, stated = read_method(method)
        given = {
            "retention_ratio": retention_ratio,
            "max_tokens": max_tokens,
            "separators": separators,
            "positions": positions,
            "policy": policy,
            "max_views": max_views,
            "max_patches": max_patches,
            "encoder_saving": encoder_saving,
            "view_text": view_text,
            "hold": hold,
            "mass": mass,
            "mass_strength": mass_strength,
            "mass_cap": mass_cap,
        }
        self._set(method=chosen, **{**given, **stated})
        self._check()

    def _check(self) -> None:
        """Check the fields as they were given, and convert those that are kept in another form."""
        method = self.method
        if method.name == "none" and self.retention_ratio is None and self.max_tokens is None:
            self._set(retention_ratio=1)
        budget = Budget(self.retention_ratio, self.max_tokens)
        one_of("policy", self.policy, POLICIES)
        if self.policy == "reference" and self.max_tokens is not None:
            raise ArgumentError(
                f"max_tokens={self.max_tokens} cannot go with policy='reference': the authors' code knows shares only "
                "and sends every separator on top; use retention_ratio, or policy='exact'"
            )
        _check_inside(method, self.separators, self.policy, self.positions)
        one_of("separators", self.resolved_separators, SEPARATORS)
        one_of("positions", self.resolved_positions, POSITIONS)
        one_of("view_text", self.view_text, VIEW_TEXT)
        one_of("mass", self.resolved_mass, MASS)
        self._check_hold()
        for name in ("max_views", "max_patches"):
            if not is_whole(limit := getattr(self, name)) or limit < 1:
                raise ArgumentError(f"{name} must be an integer of at least 1, got {shown(limit)}")
        strength, cap = self.mass_strength, self.mass_cap
        if not is_number(strength) or strength < 0:
            raise ArgumentError(f"mass_strength={shown(strength)}: must be a finite number of at least 0")
        if cap is not None and (not is_number(cap) or cap < 1):
            raise ArgumentError(f"mass_cap={shown(cap)}: must be a finite number of at least 1, or None")
        self._set(
            mass_strength=float(strength),
            mass_cap=None if cap is None else float(cap),
            retention_ratio=None if budget.ratio is None else _shortest(budget.ratio),
            max_tokens=None if self.max_tokens is None else int(self.max_tokens),
            max_views=int(self.max_views),
            max_patches=int(self.max_patches),
            encoder_saving=read_view_skipping(self.encoder_saving),
        )

    def _check_hold(self) -> None:
        """Refuse a bounded memory that is out of range, or that goes with something which needs the whole clip."""
        hold = self.hold
        if hold is None:
            return
        size = StreamSize(1, hold)
        saving = read_view_skipping(self.encoder_saving)
        for name, whole in (
            ("policy='reference'", self.policy == "reference"),
            (f"encoder_saving={str(saving)!r}", saving.frames),
        ):
            if whole:
                raise ArgumentError(
                    f"hold={hold:g} cannot go with {name}, which needs the whole clip; leave one of them out"
                )
        self.method.stream(size)  # refuses where the method has none
        self._set(hold=float(hold))

    def _set(self, **values: Any) -> None:
        """Fill fields in; only `__init__` does."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """Return the call that makes an equal configuration, without defaults."""
        values = {name: getattr(self, name) for name in FIELDS if name != "method"}
        values["encoder_saving"] = str(self.encoder_saving)
        texts = [f"{name}={value!r}" for name, value in values.items() if value != DEFAULTS[name]]
        return f"CompressionConfig({', '.join([_short(self.method), *texts])})"

    @cached_property
    def budget(self) -> Budget:
        """The budget in exact numbers."""
        return Budget(self.retention_ratio, self.max_tokens)

    @cached_property
    def resolved_separators(self) -> Separators:
        """`separators`, or the default of the policy."""
        if self.separators is not None:
            return self.separators
        return "keep" if self.policy == "reference" else "thin"

    @cached_property
    def resolved_positions(self) -> Positions:
        """`positions`, or those of the method; a method inside the language model leaves the prompt whole."""
        if self.positions is not None:
            return self.positions
        positions: Positions = self.method.positions
        return "contiguous" if self.method.inside is self.method else positions

    @cached_property
    def resolved_mass(self) -> Mass:
        """`mass`, or the default of the method."""
        mass: Mass = self.method.mass
        return mass if self.mass is None else self.mass

    @cached_property
    def weighs(self) -> bool:
        """Whether a call of this configuration may add masses to attention: not at ratio 1, nor at strength 0."""
        keeps_all = self.budget.ratio == 1 or not (self.method.uses_budget or self.method.inside is not None)
        return self.resolved_mass == "on" and self.mass_strength > 0 and not keeps_all

    @cached_property
    def inside_positions(self) -> Positions:
        """Positions of the tokens that stay inside the language model."""
        inside = self.method.inside
        by_method: Positions = self.resolved_positions if inside is None else inside.positions
        return self.positions or by_method

    @cached_property
    def _reported_positions(self) -> Positions:
        return self.inside_positions if self.method.inside is self.method else self.resolved_positions

    def report(self) -> Report:
        """An empty report that states this configuration."""
        idle = [name for name in ("mass_strength", "mass_cap") if getattr(self, name) != DEFAULTS[name]]
        return Report(
            self.method.name,
            self.policy,
            self.resolved_separators,
            self._reported_positions,
            None if self.retention_ratio is None else float(self.retention_ratio),
            self.max_tokens,
            view_text=self.view_text,
            mass="on" if self.weighs else "off",
            mass_strength=self.mass_strength,
            mass_cap=self.mass_cap,
            notes=[f"{name} has no effect with mass='off'" for name in idle if self.resolved_mass == "off"],
        )

    def replace(self, **changes: object) -> CompressionConfig:
        """Return a configuration with the named fields and options changed.

        Args:
            **changes: fields of this class, and options of the method. `retention_ratio` replaces `max_tokens`, and
                the reverse. A new method begins with its own options.

        Raises:
            ArgumentError, BudgetError: as for the class; an option that the method does not have.
        """
        fields = {name: value for name, value in changes.items() if name in FIELDS}
        options = {name: value for name, value in changes.items() if name not in FIELDS}
        if "method" in fields:
            method, stated = read_method(fields["method"], options)
            fields |= {**stated, "method": method}
        elif options:
            fields["method"] = with_options(self.method, options)
        if ("retention_ratio" in fields) != ("max_tokens" in fields):
            fields = {"retention_ratio": None, "max_tokens": None, **fields}
        changed: dict[str, Any] = fields  # checked by the class
        return dataclasses.replace(self, **changed)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, with `version` and all options of the method; `from_dict` reads them back.

        Raises:
            ArgumentError: a method that is not registered, or an option of it that JSON cannot hold.
        """
        ratio = self.retention_ratio
        return {
            "version": VERSION,
            "method": self.method.name,
            "options": options_to_json(self.method),
            "retention_ratio": fraction_text(ratio) if isinstance(ratio, Fraction) else ratio,
            "max_tokens": self.max_tokens,
            "separators": self.separators,
            "positions": self.positions,
            "policy": self.policy,
            "max_views": self.max_views,
            "max_patches": self.max_patches,
            "encoder_saving": str(self.encoder_saving),
            "view_text": self.view_text,
            "hold": self.hold,
            "mass": self.mass,
            "mass_strength": self.mass_strength,
            "mass_cap": self.mass_cap,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> CompressionConfig:
        """Make a configuration from plain JSON types.

        Args:
            values: the fields of this class by name; `options` of the method; `version`. A missing field has its
                default. A ratio may also be a text such as "1/3".

        Raises:
            ArgumentError: an unknown key or another version; otherwise as for the class.
        """
        if not isinstance(values, Mapping):
            raise ArgumentError(
                f"values={shown(values)}: must be a mapping, such as {{'method': 'random', 'retention_ratio': 0.25}}"
            )
        keys = ("version", "options", *FIELDS)
        for key in values:
            if key not in keys:
                raise ArgumentError(f"unknown key {shown(key)}; {nearest(key, keys)}")
        version = values.get("version", VERSION)
        if type(version) is not int or version != VERSION:
            raise ArgumentError(
                f"version={shown(version)}: must be {VERSION}, which this release of vidcompress reads; save the "
                "configuration again, or install the release that wrote it"
            )
        fields = {name: value for name, value in values.items() if name in FIELDS}
        try:
            method, stated = read_method(fields.pop("method", DEFAULT_METHOD))
            options: Any = values.get("options", {})
            method = options_from_json(method, options)
            if "retention_ratio" in fields:
                fields["retention_ratio"] = read_fraction(fields["retention_ratio"])
            return cls(**{**fields, **stated, "method": method})
        except OverflowError as error:
            raise ArgumentError(f"a number is out of range ({error}); use a smaller one") from error

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write `compression_config.json` into a folder, whole or not at all.

        Args:
            folder: made where it is missing; it may be that of a model.

        Returns:
            The path of the file.

        Raises:
            ArgumentError: the folder cannot be written to; otherwise as `to_dict`.
        """
        path = _path(folder) / FILE_NAME
        write_json(path, self.to_dict())
        return path

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> CompressionConfig:
        """Read a configuration that `save_pretrained` wrote.

        Args:
            folder: folder with a `compression_config.json`, or the path of such a file.

        Raises:
            ArgumentError: no such file, one that is no configuration, or a value that is not allowed; the message names
                the file, the key and the value.
        """
        path = _path(folder)
        if path.is_dir():
            path /= FILE_NAME
        values = read_json(path)
        try:
            return cls.from_dict(values)
        except ArgumentError as error:
            text = str(error)  # shows a value of the file, which may be long
            raise type(error)(f"{str(path)!r}: {text if len(text) <= 500 else text[:497] + '...'}") from error


DEFAULTS = {
    name: parameter.default for name, parameter in inspect.signature(CompressionConfig).parameters.items()
}
"""Types of each field as callers may state it."""

FIELDS = tuple(DEFAULTS)


def read_config(
    arguments: Mapping[str, Any],
    *,
    config: CompressionConfig | None = None,
    default_ratio: float | None = None,
) -> CompressionConfig:
    """Read a configuration from keyword arguments, or return the given one.

    Args:
        arguments: fields of `CompressionConfig` by name; any other name is an option of the method. Missing fields have
            their defaults.
        config: a configuration. Arguments beside it must have the defaults of `CompressionConfig`.
        default_ratio: share to keep where neither a ratio nor a number of tokens is given; None makes that an error.

    Raises:
        ArgumentError: `config` is not a `CompressionConfig`, or is given with another argument; as `CompressionConfig`.
    """
    if config is not None:
        return _alone(config, arguments)
    try:
        # Types too: 1 == True, and a fraction is kept as one.
        key = tuple((name, type(value), value) for name, value in arguments.items())
        return _read(key, default_ratio)
    except TypeError:  # an option that cannot be hashed, such as a list
        return _read.__wrapped__(
            tuple((name, None, value) for name, value in arguments.items()), default_ratio
        )


@lru_cache(maxsize=256)
def _read(arguments: tuple[tuple[str, Any, Any], ...], default_ratio: float | None) -> CompressionConfig:
    """Read (name, type, value) triples as `read_config` does; cached, since a configuration never changes."""
    fields = {name: value for name, _, value in arguments if name in FIELDS}
    options = {name: value for name, _, value in arguments if name not in FIELDS}
    method, stated = read_method(fields.get("method", DEFAULTS["method"]), options)
    no_budget = all(fields.get(name) is None for name in ("retention_ratio", "max_tokens"))
    if default_ratio is not None and no_budget and method.name != "none":
        fields["retention_ratio"] = default_ratio
    return CompressionConfig(**{**fields, **stated, "method": method})


def takes_seed(config: CompressionConfig, text: str) -> bool:
    """Whether `seed` is an option of the method that its text, as in "random:seed=3", leaves open."""
    return "seed" in option_names(type(config.method)) and "seed" not in parse_method_spec(text)[1]


def _alone(config: Any, arguments: Mapping[str, Any]) -> CompressionConfig:
    if not isinstance(config, CompressionConfig):
        raise ArgumentError(
            f"config={shown(config)}: must be a vidcompress.CompressionConfig, such as "
            "CompressionConfig('globalcom2', retention_ratio=0.25)"
        )
    for name, value in arguments.items():
        default = DEFAULTS.get(name)
        if name not in FIELDS or type(value) is not type(default) or value != default:
            raise ArgumentError(
                f"{name}={shown(value)} cannot go with config=, which states it already; pass "
                f"config=config.replace({name}=...)"
            )
    return config


def read_method(method: Any, options: Mapping[str, Any] | None = None) -> tuple[Method, dict[str, Any]]:
    """Read a method, and the fields of a configuration that its text states.

    Args:
        method: a name, a text with options, or a `Method`.
        options: further options.

    Raises:
        ArgumentError: an unknown method or option, or an option that the text states too.
    """
    if not isinstance(method, str):
        plain = isinstance(method, Method) and not options
        return method if plain else get_method(method, **(options or {})), {}
    name, listed = parse_method_spec(method)
    stated = {field: listed.pop(field) for field in FIELDS if field in listed}
    for option in listed.keys() & (options or {}).keys():
        raise ArgumentError(
            f"{option}={shown((options or {})[option])}: method={method!r} states it too; leave one of them out"
        )
    return get_method(name, **listed, **(options or {})), stated


def _short(method: Method) -> str:
    """A registered method as its name in quotes, with options that are not at their default; others as their repr."""
    try:
        if get_method(method.name) == method:
            return repr(method.name)
    except (ArgumentError, TypeError):  # not registered, or needs options
        return repr(method)
    changed = {
        field.name: getattr(method, field.name)
        for field in dataclasses.fields(method)
        if getattr(method, field.name) != field.default
    }
    try:
        listed = [
            f"{name}={value if isinstance(value, str) else json.dumps(value)}"
            for name, value in changed.items()
        ]
        text = f"{method.name}:{','.join(listed)}"
        return repr(text) if read_method(text) == (method, {}) else repr(method)
    except (ArgumentError, TypeError):
        return repr(method)


def _shortest(ratio: Fraction) -> float | Fraction:
    """The float whose shortest decimal is the ratio, or the ratio where there is none."""
    number = float(ratio)
    return number if number > 1e-29 and ratio_fraction(number) == ratio else ratio


def _path(folder: Any) -> Path:
    if not isinstance(folder, (str, os.PathLike)) or not str(folder):
        raise ArgumentError(f"folder={shown(folder)}: must be the path of a folder, such as 'my-model'")
    return Path(folder)


def _check_inside(
    method: Method, separators: str | None, policy: Literal["exact", "reference"], positions: str | None
) -> None:
    """Refuse arguments that have no meaning for a method inside the language model."""
    if method.inside is None:
        return
    if method.inside is not method and policy == "reference":
        raise ArgumentError(
            f"policy='reference' names the counts of one method's authors, and {method.name!r} is two methods; use "
            "policy='exact'"
        )
    if method.inside is method and separators is not None:
        raise ArgumentError(
            f"separators={shown(separators)} cannot go with method {method.name!r}: inside the language model newline "
            "tokens are ranked like any other; leave it out"
        )
    if method.inside is method and positions == "scaled":
        raise ArgumentError(
            f"positions='scaled' cannot go with method {method.name!r}: it is sent every token, so that the prompt has "
            "no gap to scale; use 'original' or 'contiguous', or a method before the language model in front of it"
        )
