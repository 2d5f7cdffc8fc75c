"""The demo's table, on wide and narrow terminals."""

import io

import pytest
from rich.console import Console

from imgflow.demo.outcome import Outcome
from imgflow.demo.run import print_outcomes
from imgflow.lineage.record import Verdict
from imgflow.store.keys import ImageKey

KEY = ImageKey("demo/motorcycle-date-stamp.jpg")
OUTCOME = Outcome(
    title="A date stamp on a motorcycle",
    key=KEY,
    found="text: '2024 06 11', '[x]'",
    done="remove text (eraser)",
    psnr_before=20.1,
    psnr_after=31.2,
    ssim_before=0.8,
    ssim_after=0.9,
    psnr_damage_before=None,
    psnr_damage_after=None,
    seconds=13.1,
    verdict=Verdict.QUARANTINED,
    reason="a reason that is longer than the column is wide",
)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_a_key_is_never_cut_and_nothing_is_wider_than_the_terminal(width: int) -> None:
    shown = io.StringIO()
    print_outcomes([OUTCOME], Console(file=shown, width=width))
    lines = shown.getvalue().splitlines()
    assert any(KEY in line for line in lines)
    assert all(len(line) <= width for line in lines)
    assert "[x]" in shown.getvalue()
    if width >= 100:  # a table whose right edge is there
        assert lines[-1].endswith("┘")
