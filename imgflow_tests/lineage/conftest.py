"""Installations for tests of the lineage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from told import Told
from two_photos import make_two

from imgflow.home import Home


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Told]:
    """Two photos, made once. Never to be changed."""
    home = Home(tmp_path_factory.mktemp("whole"))
    return home, make_two(home)


@pytest.fixture
def made(whole: tuple[Home, Told], tmp_path: Path) -> tuple[Home, Told]:
    """The same in a folder of the test's own."""
    home, told = whole
    shutil.copytree(home.root, tmp_path / "data")
    return Home(tmp_path / "data"), Told(list(told.events))


@pytest.fixture
def home(made: tuple[Home, Told]) -> Home:
    return made[0]


@pytest.fixture
def told(made: tuple[Home, Told]) -> Told:
    return made[1]
