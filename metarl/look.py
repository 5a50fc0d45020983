"""How the figures of a page look."""

from typing import Any

# Stand-ins for what depends on the page being light or dark; metarl.report.THEME names them.
INK, MUTED, GRID, CARD = "#22303c", "#5b6875", "#e6eaee", "#fefefe"


def themed() -> Any:
    """matplotlib.pyplot in the look of a page."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style: dict[Any, Any] = {
        "font.size": 9.5, "axes.edgecolor": MUTED, "axes.labelcolor": INK, "text.color": INK,
        "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK,
        "ytick.labelcolor": INK, "axes.linewidth": 0.7, "xtick.major.width": 0.7,
        "ytick.major.width": 0.7, "figure.constrained_layout.use": True, "axes.facecolor": "none",
        "figure.facecolor": "none", "savefig.facecolor": "none", "legend.labelcolor": INK,
        "font.family": "DejaVu Sans", "text.parse_math": False,  # names are no formulas
    }
    plt.rcParams.update(style)  # for what is added to the figure, a colour bar say, too
    return plt


def plain(ax: Any, grid: bool = True) -> None:
    """Axes without a frame, with faint lines where a `grid` is wanted."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(axis="y", color=GRID, lw=0.8)
