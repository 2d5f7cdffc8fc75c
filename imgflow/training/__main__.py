"""`python -m imgflow.training ...`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Train the weights that imgflow ships.", no_args_is_help=True)


@app.callback()
def _main() -> None:
    pass


@app.command()
def eraser(
    photos: Annotated[Path, typer.Argument(help="Folder of photos to learn from.")],
    work: Annotated[Path, typer.Option(help="Folder for checkpoint, curve and weights.")],
    fonts: Annotated[Path, typer.Option(help="Folder of fonts.")] = Path("/usr/share/fonts"),
    steps: Annotated[int, typer.Option(help="Steps of 16 patches.")] = 6_000,
    learning_rate: Annotated[float, typer.Option()] = 1e-3,
    start: Annotated[
        Path | None, typer.Option(help="Weights to begin with, of an earlier training.")
    ] = None,
    own_masks: Annotated[
        bool, typer.Option("--own-masks", help="Restore under masks that the finder gives.")
    ] = False,
    seed: Annotated[int, typer.Option()] = 0,
    threads: Annotated[int, typer.Option(help="Threads of torch; 0: its choice.")] = 0,
) -> None:
    """The eraser of overlaid text. Run again, it goes on where it stopped."""
    from functools import partial

    import torch
    from safetensors.torch import load_file

    from imgflow.engines.networks.eraser import Eraser
    from imgflow.synthesis.fonts import find_fonts
    from imgflow.training.eraser import Scenes, judged, loss
    from imgflow.training.loop import Recipe, export, train
    from imgflow.training.photos import load_photos

    if threads:
        torch.set_num_threads(threads)
    known = load_photos(photos)
    # Every eighth photo is kept for the curve.
    names = sorted(known)
    kept = names[::8]
    found = find_fonts(fonts, held_out=False)
    samples = Scenes([known[name] for name in names if name not in kept], found, seed)
    unseen = Scenes([known[name] for name in kept], found, seed + 1)
    recipe = Recipe(steps=steps, batch=2, learning_rate=learning_rate, seed=seed)
    torch.manual_seed(seed)
    network = Eraser()
    if start is not None:
        network.load_state_dict(load_file(str(start)))
    network = train(
        network,
        samples,
        partial(loss, own_masks=own_masks),
        lambda trained: judged(trained, unseen, 40),
        recipe,
        work,
        typer.echo,
    )
    export(network, work / "eraser.safetensors", recipe, {"network": "eraser"})
    typer.echo(f"weights: {work / 'eraser.safetensors'}")


@app.command()
def origin(
    photos: Annotated[Path, typer.Argument(help="Folder of photos to write on.")],
    work: Annotated[Path, typer.Option(help="Folder for photos, detections and weights.")],
    fonts: Annotated[Path, typer.Option(help="Folder of fonts.")] = Path("/usr/share/fonts"),
    cases: Annotated[int, typer.Option(help="Photos with text to make.")] = 1000,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """The judge of overlay and product text. Run again, it goes on where it stopped."""
    from random import Random

    from imgflow.engines.origin import look
    from imgflow.engines.rapidocr import RapidOcrDetector
    from imgflow.synthesis.fonts import find_fonts
    from imgflow.synthesis.phrases import TRAINING
    from imgflow.training.origin import (
        Case,
        collect,
        export,
        figures,
        lessons,
        make_case,
        teach,
    )
    from imgflow.training.photos import load_photos

    known = load_photos(photos)
    names = sorted(known)
    # Every fourth photo is kept for the thresholds, and every fourth case is made of those.
    kept = names[::4]
    shown = [known[name] for name in names if name not in kept]
    unseen = [known[name] for name in kept]
    found = find_fonts(fonts, held_out=False)

    def make(number: int) -> Case:
        chance = Random(f"{seed}/{number}")
        return make_case(unseen if number % 4 == 3 else shown, TRAINING, found, chance)

    labels = collect(make, range(cases), RapidOcrDetector(), work / "cases", typer.echo)
    pairs = [(number, look(each.photo, each.regions), each) for number, each in
        enumerate(labels) if each.regions]  # fmt: skip
    taught = lessons([(seen, each) for number, seen, each in pairs if number % 4 != 3])
    held = lessons([(seen, each) for number, seen, each in pairs if number % 4 == 3])
    weights = teach(taught, held, seed)
    path = work / "origin.safetensors"
    export(weights, path, {"seed": str(seed), "cases": str(cases)})
    for name, part in (("taught", taught), ("kept back", held)):
        told = ", ".join(f"{key} {value:.4g}" for key, value in figures(weights, part).items())
        typer.echo(f"{name}: {told}")
    typer.echo(f"weights: {path}")


if __name__ == "__main__":
    app()
