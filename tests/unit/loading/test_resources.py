"""Data files are found in a wheel's place first, then in the checkout, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidcompress.loading import resources

PROJECT = '[project]\nname = "vidcompress-vlm"\n'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package folder that resources takes for its own."""
    folder = tmp_path / "vidcompress"
    folder.mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", folder)
    return folder


def _write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_wheel_layout(package: Path) -> None:
    card = _write(package / "_models" / "tiny" / "card.toml")
    assert resources.find("models/tiny/card.toml") == card
    assert resources.find("models/tiny") == card.parent


def test_checkout_layout(package: Path) -> None:
    _write(package.parent / "pyproject.toml", PROJECT)
    run = _write(package.parent / "configs" / "run.toml")
    assert resources.find("configs/run.toml") == run


def test_wheel_comes_first(package: Path) -> None:
    _write(package.parent / "pyproject.toml", PROJECT)
    _write(package.parent / "models" / "a", "checkout")
    inside = _write(package / "_models" / "a", "wheel")
    assert resources.find("models/a") == inside
    assert [path.name for path in resources.listing("models")] == ["a"]


def test_a_folder_called_models_in_site_packages_is_not_ours(package: Path) -> None:
    _write(package.parent / "models" / "somebody" / "config.json")
    with pytest.raises(FileNotFoundError, match="models holds nothing"):
        resources.find("models/somebody")


def test_a_project_that_the_package_was_installed_into_is_no_checkout_of_it(package: Path) -> None:
    """As `pip install --target .` does in the folder of another project with models of its own."""
    _write(package.parent / "pyproject.toml", PROJECT.replace("vidcompress-vlm", "theirs"))
    _write(package.parent / "models" / "theirs" / "config.json")
    with pytest.raises(FileNotFoundError, match="models holds nothing"):
        resources.find("models/theirs")


@pytest.mark.parametrize("name", ["weights/x", "models/../secret", "models//etc/passwd", "/etc/passwd", ""])
def test_names_outside_the_rooms_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name="):
        resources.find(name)


def test_what_is_missing_is_said_with_what_is_there(package: Path) -> None:
    _write(package / "_models" / "tiny" / "config.json")
    with pytest.raises(FileNotFoundError, match=r"models/tinny.*models holds tiny"):
        resources.find("models/tinny")
    with pytest.raises(ValueError, match="room='data'"):
        resources.roots("data")


def test_embedded_models_have_a_config_and_weights(package: Path) -> None:
    _write(package / "_models" / "whole" / "config.json")
    _write(package / "_models" / "whole" / "model.safetensors")
    _write(package / "_models" / "cards" / "config.json")
    assert list(resources.embedded_models()) == ["whole"]


def test_this_checkout() -> None:
    assert resources.find("configs/README.md").is_file()
