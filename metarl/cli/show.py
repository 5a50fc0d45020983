"""`metarl show FAMILY`: what varies over a family, and a picture of its tasks."""

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl.cli.common import (
    FamilyOptions,
    build_family,
    explain_family,
    parse,
    print_json,
    say,
    show,
    split_family,
    warn,
)
from metarl.documents import whole
from metarl.errors import UserError
from metarl.video import choose_backend

_DESCRIPTION = """Print what varies over a family, and draw a grid of its tasks at the start of an
episode: from the train range on the left, out of distribution on the right. The family's own
options are set as for training, say --family.horizon 100; metarl show FAMILY --help lists them."""
_LISTED, _WIDTH = 6, 58  # parameters, and letters in a line, that fit over a picture
_ROWS = 20  # that a picture may have: some 80 tasks, and a minute


@dataclass(frozen=True)
class Options(FamilyOptions):
    """What to show."""

    out: Path | None = None  # picture to write, ending in .png; FAMILY.png by default
    rows: int = 3  # rows of the grid, of two train and two ood tasks each
    seed: int = 0  # of the tasks and the start states
    json: bool = False  # print the parameters as JSON


def run(argv: list[str]) -> int:
    """Print and draw."""
    rest, own = split_family(argv)
    explain_family("show", Options, rest, _DESCRIPTION)
    options = parse("show", Options, rest, _DESCRIPTION)
    if options.out is not None and options.out.suffix != ".png":
        raise UserError(f"--out {options.out} must end in .png")
    if not 1 <= options.rows <= _ROWS:
        raise UserError(f"--rows {options.rows} must lie in [1, {_ROWS}]")
    # MuJoCo chooses its OpenGL while it is imported, hence the imports below.
    problem = ""
    try:
        choose_backend()
    except UserError as error:
        problem = str(error)
    from metarl import api
    from metarl.cli.list import as_json, parameters, size

    chosen = api.choose_family(options.family, options.mjcf, options.vary)
    family = build_family(f"show {chosen.words}", chosen.cls, own)
    out = options.out or Path(f"{chosen.name.replace(':', '.')}.png")
    if not problem:
        if options.rows > Options.rows:
            say(f"drawing {4 * options.rows} tasks …")
        _draw(family, options, out)
    if options.json:
        print_json({**as_json(family), "picture": None if problem else str(out)})
    else:
        show(size(family))
        show(parameters(family))
        show("no picture" if problem else f"picture: {out}")
    if problem:
        warn(problem)
    return 0


def _draw(family: Any, options: Options, out: Path) -> None:
    """The grid, written to `out`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pictures, captions, scales = _pictures(family, options)
    left_out = len(family.parameters) - _LISTED
    # inches, of the pictures, of a line about their captions, of what colours mean
    heights = [3.0 * options.rows + 0.4, 0.25 if left_out > 0 else 0.01, 0.7 if scales else 0.01]
    figure = pyplot.figure(figsize=(14, sum(heights)), layout="constrained")
    parts: Any = figure.subfigures(3, 1, height_ratios=heights)
    beyond = "out of distribution" if any(p.ood for p in family.parameters) else "held out"
    heads = f"{family.name}: train", f"{family.name}: {beyond}"
    count = 2 * options.rows
    for half, (part, head) in enumerate(zip(parts[0].subfigures(1, 2), heads, strict=True)):
        part.suptitle(head, fontsize=13, fontweight="bold")
        part.set_facecolor(("#eef3f8", "#fbf1e6")[half])
        axes = part.subplots(options.rows, 2, squeeze=False).ravel()
        for i, ax in enumerate(axes, half * count):
            ax.imshow(pictures[i])
            ax.set_title(captions[i], fontsize=8, color="#333333")
            ax.set_axis_off()
    if left_out > 0:
        parts[1].text(0.5, 0.5, _footnote(left_out), ha="center", va="center", fontsize=8,
                      color="#333333")
    _legend(parts[2], scales)
    try:
        with whole(out) as temporary:
            figure.savefig(temporary, dpi=90)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error}") from None
    finally:
        pyplot.close(figure)


def _pictures(family: Any, options: Options) -> tuple[list[Any], list[str], list[Any]]:
    """Pictures and captions of train and then ood tasks; the scales of their colours."""
    import torch

    from metarl.envs.camera import Camera
    from metarl.envs.family import named_task, sample_tasks
    from metarl.envs.shading import Shading
    from metarl.envs.worlds import Worlds
    from metarl.randomness import Draws

    tasks = torch.cat([sample_tasks(family, split, 2 * options.rows, options.seed)
                       for split in ("train", "ood")])
    worlds = Worlds(family, len(tasks))
    worlds.set_tasks(tasks)
    worlds.reset(draws=Draws.of(options.seed, 0, len(tasks)))
    rows = [worlds.engine.row(i) for i in range(len(tasks))]
    shading = Shading(worlds.engine.model, [model for model, _ in rows])
    pictures = []
    with closing(Camera(worlds.engine.model)) as camera:
        for task, (model, data) in zip(tasks, rows, strict=True):
            named, dots = named_task(family, task), shading.apply(model, data)
            pictures.append(
                camera.picture(model, data, family.marks(named), family.aim(named), dots)
            )
    return pictures, [_caption(family, task.tolist()) for task in tasks], shading.scales


def _caption(family: Any, task: list[float]) -> str:
    """The parameters that differ most from their defaults, in their own order."""
    pairs = list(zip(family.parameters, task, strict=True))
    most = sorted(range(len(pairs)), key=lambda i: -_oddity(*pairs[i]))[:_LISTED]
    lines = [""]
    for parameter, value in (pairs[i] for i in sorted(most)):
        word = f"{parameter.name} {parameter.quantity(_rounded(parameter, value))}"
        longer = f"{lines[-1]}   {word}".strip()
        if len(longer) > _WIDTH:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _footnote(left_out: int) -> str:
    """What the captions leave out, said once."""
    others = "the other one lies" if left_out == 1 else f"the other {left_out} lie"
    return (f"over each picture the {_LISTED} parameters that lie farthest from the middle of "
            f"their train range; {others} nearer to it")


def _rounded(parameter: Any, value: float) -> float:
    """A value in three digits of its train range: what is next to nothing there is 0, and not -0;
    a choice as it is."""
    largest = max(map(abs, parameter.train))
    if parameter.values or not largest:
        return value
    return round(value, 2 - math.floor(math.log10(largest))) + 0.0


def _oddity(parameter: Any, value: float) -> float:
    """How far a value is from the default, in widths of the train range."""
    points = [*parameter.train, parameter.default, value]
    if parameter.distribution == "log-uniform":
        points = [math.log(point) for point in points]
    low, high, default, at = points
    return abs(at - default) / (high - low)


def _legend(part: Any, scales: list[Any]) -> None:
    """A bar for what each colour means."""
    if not scales:
        return
    import numpy as np

    from metarl.envs.shading import RANGE

    axes = part.subplots(1, 3, squeeze=False).ravel()
    for ax in axes[len(scales):]:
        ax.set_axis_off()
    ratios = np.geomspace(1 / RANGE, RANGE, 99)
    for ax, scale in zip(axes, scales, strict=False):
        ax.imshow([[scale.colour(ratio) for ratio in ratios]], aspect="auto")
        ax.set_title(f"{scale.meaning}, to the base model's", fontsize=8, color="#333333")
        ax.set_yticks([])
        ticks = ax.set_xticks([0, 49, 98], ["x 1/4 or less", "x 1", "x 4 or more"], fontsize=8)
        # Inwards, or the ends of neighbours run into one another.
        for tick, where in zip(ticks, ("left", "center", "right"), strict=True):
            tick.label1.set_horizontalalignment(where)
