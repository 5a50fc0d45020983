"""`metarl show FAMILY`: what varies over a family, and a picture of its tasks."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl.cli.common import FamilyOptions, parse, print_json, show, warn
from metarl.errors import UserError
from metarl.video import choose_backend

_DESCRIPTION = """Print what varies over a family, and draw a grid of its tasks at the start of an
episode: from the train range on the left, out of distribution on the right."""
_LISTED = 6  # parameters that are written over a picture; more do not fit


@dataclass(frozen=True)
class Options(FamilyOptions):
    """What to show."""

    out: Path | None = None  # picture to write, ending in .png; FAMILY.png by default
    rows: int = 3  # rows of the grid, of two train and two ood tasks each
    seed: int = 0  # of the tasks and the start states
    json: bool = False  # print the parameters as JSON


def run(argv: list[str]) -> int:
    """Print and draw."""
    options = parse("show", Options, argv, _DESCRIPTION)
    if options.out is not None and options.out.suffix != ".png":
        raise UserError(f"--out {options.out} must end in .png")
    if options.rows < 1:
        raise UserError(f"--rows {options.rows} must be at least 1")
    # MuJoCo chooses its OpenGL while it is imported, hence the imports below.
    problem = ""
    try:
        choose_backend()
    except UserError as error:
        problem = str(error)
    from metarl import api
    from metarl.cli.list import as_json, parameters

    chosen = api.choose_family(options.family, options.mjcf, options.vary)
    family, out = chosen.cls(), options.out or Path(f"{chosen.name.replace(':', '.')}.png")
    if not problem:
        _draw(family, options, out)
    if options.json:
        print_json({**as_json(family), "picture": None if problem else str(out)})
    else:
        show(parameters(family))
        show("no picture" if problem else f"picture: {out}")
    if problem:
        warn(problem)
    return 0


def _draw(family: Any, options: Options, out: Path) -> None:
    """The grid, written to `out`."""
    import matplotlib
    import torch

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from metarl.envs.camera import Camera
    from metarl.envs.family import named_task, sample_tasks
    from metarl.envs.worlds import Worlds
    from metarl.randomness import Draws

    count = 2 * options.rows
    tasks = torch.cat([sample_tasks(family, split, count, options.seed)
                       for split in ("train", "ood")])
    worlds = Worlds(family, len(tasks))
    worlds.set_tasks(tasks)
    worlds.reset(draws=Draws.of(options.seed, 0, len(tasks)))
    figure, axes = pyplot.subplots(
        options.rows, 4, figsize=(14, 3.1 * options.rows + 0.6), squeeze=False,
        layout="constrained",
    )
    with closing(Camera(worlds.engine.model)) as camera:
        for i, task in enumerate(tasks):
            named = named_task(family, task)
            column = 2 * (i // count) + i % 2
            ax = axes[(i % count) // 2, column]
            ax.imshow(camera.picture(*worlds.engine.row(i), family.marks(named)))
            ax.set_title(_caption(named), fontsize=8, color="#444444")
            ax.set_axis_off()
    beyond = "out of distribution" if any(p.ood for p in family.parameters) else "held out"
    figure.suptitle(f"{family.name}: train (left), {beyond} (right)", fontsize=13)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=90)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error}") from None
    finally:
        pyplot.close(figure)


def _caption(task: dict[str, float]) -> str:
    """The first parameters, three a line."""
    words = [f"{name} {value:.2f}" for name, value in list(task.items())[:_LISTED]]
    words += ["..."] if len(task) > _LISTED else []
    return "\n".join("   ".join(words[i:i + 3]) for i in range(0, len(words), 3))
