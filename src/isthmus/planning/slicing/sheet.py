"""A sheet to draw on: inches from the top left corner, and the same bytes from the same drawing."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from isthmus.errors import EnvironmentProblem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, GREY, PALE, LIGHT = "#1a1a1a", "#5c5c5c", "#e4e4e4", "#f5f5f5"
BLUE, SKY, RED, PEACH = "#0072b2", "#cfe6f5", "#d55e00", "#fbe3d3"
"""Of Okabe and Ito's palette (2008), which the colour-blind tell apart; SKY and PEACH are lighter shades."""
FONT = "DejaVu Sans"
"""Comes with matplotlib, so that a text is as wide on every machine."""
DOTS_PER_INCH = 160
POINT = 1 / 72


class Sheet:
    """A page of ``width`` by ``height`` inches.

    Raises:
        EnvironmentProblem: matplotlib is not installed.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._drawn: list[Callable[[Any], None]] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 8.5,
        color: str = INK,
        bold: bool = False,
        align: Literal["left", "center", "right"] = "left",
        over: str = "",
    ) -> None:
        """Write a line whose middle is at height ``y``; ``over``: a colour that covers what it crosses.

        A box, not a halo: matplotlib writes a text with a halo as curves, which nobody can search.
        """
        if over:
            width, height = text_width(text, size, bold), 1.2 * size * POINT
            start = x - width * {"left": 0.0, "center": 0.5, "right": 1.0}[align]
            self.box(start - POINT, y - height / 2, width + 2 * POINT, height, fill=over, rank=4)

        def draw(axes: Any) -> None:
            axes.text(
                x,
                y,
                text,
                size=size,
                color=color,
                weight="bold" if bold else "normal",
                ha=align,
                va="center_baseline",
                parse_math=False,
                zorder=5,
            )

        self._drawn.append(draw)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str,
        edge: str = "none",
        hatch: str | None = None,
        rank: float = 2,
    ) -> None:
        """Draw a rectangle from its top left corner."""

        def draw(axes: Any) -> None:
            from matplotlib.patches import Rectangle

            axes.add_patch(
                Rectangle(
                    (x, y),
                    width,
                    height,
                    facecolor=fill,
                    edgecolor=edge,
                    hatch=hatch,
                    linewidth=0.8,
                    zorder=rank,
                )
            )

        self._drawn.append(draw)

    def dot(self, x: float, y: float, radius: float, *, fill: str, edge: str, rank: float = 3) -> None:
        """Draw a disc around a point."""

        def draw(axes: Any) -> None:
            from matplotlib.patches import Circle

            axes.add_patch(Circle((x, y), radius, facecolor=fill, edgecolor=edge, linewidth=0.8, zorder=rank))

        self._drawn.append(draw)

    def line(
        self,
        points: Sequence[tuple[float, float]],
        *,
        color: str = GREY,
        width: float = 1.2,
        dashed: bool = False,
        arrow: bool = False,
        rank: float = 3,
    ) -> None:
        """Draw a line through points; ``arrow``: with a head at the last."""

        def draw(axes: Any) -> None:
            from matplotlib.patches import FancyArrowPatch
            from matplotlib.path import Path

            axes.add_patch(
                FancyArrowPatch(
                    path=Path(list(points)),
                    arrowstyle="-|>,head_length=4.5,head_width=2.2" if arrow else "-",
                    color=color,
                    linewidth=width,
                    linestyle="--" if dashed else "-",
                    joinstyle="miter",
                    capstyle="butt",
                    zorder=rank,
                )
            )

        self._drawn.append(draw)

    def svg(self) -> bytes:
        """Return the sheet as SVG, with texts as texts; without date."""
        return self._bytes("svg", {"Date": None, "Creator": None})

    def png(self) -> bytes:
        """Return the sheet as PNG, 160 dots per inch."""
        return self._bytes("png", {"Software": None})

    def _bytes(self, kind: str, metadata: dict[str, None]) -> bytes:
        matplotlib = _matplotlib()
        found = io.BytesIO()
        with matplotlib.rc_context():
            # A person's own matplotlibrc shall not change the drawing.
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(
                {
                    "svg.hashsalt": "isthmus",
                    "svg.fonttype": "none",
                    "font.family": [FONT],
                    "hatch.linewidth": 0.6,
                }
            )
            self._figure().savefig(found, format=kind, metadata=metadata, dpi=DOTS_PER_INCH)
        return found.getvalue()

    def _figure(self) -> Figure:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(self.width, self.height), facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        axes.set_axis_off()
        for draw in self._drawn:
            draw(axes)
        return figure


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise EnvironmentProblem("a picture needs matplotlib; install `isthmus[planner]`") from error
    return matplotlib


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size: float = 8.5, bold: bool = False) -> float:
    """Return the width of a line in inches.

    Raises:
        EnvironmentProblem: matplotlib is not installed.
    """
    _matplotlib()
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font = FontProperties(family=FONT, size=size, weight="bold" if bold else "normal")
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return float(width) * POINT


def ticks(end: float, most: int = 7) -> list[float]:
    """Return round numbers from 0 to ``end``.

    Raises:
        EnvironmentProblem: matplotlib is not installed.
    """
    _matplotlib()
    from matplotlib.ticker import MaxNLocator

    return [float(tick) for tick in MaxNLocator(nbins=most).tick_values(0, end) if 0 <= tick <= end]
