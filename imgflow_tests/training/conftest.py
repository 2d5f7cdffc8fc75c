"""What the tests of trainings draw text with."""

from __future__ import annotations

import pytest
from samples import default_font

from imgflow.synthesis.fonts import Fonts


@pytest.fixture(scope="session")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Fonts:
    path = default_font(tmp_path_factory.mktemp("fonts"))
    return Fonts(latin=(path,), cyrillic=(), chinese=())
