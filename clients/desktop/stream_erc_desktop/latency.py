"""Two panels of bars: the emotion of a turn, and the latency by stage."""

from collections.abc import Sequence

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from stream_erc_desktop.icons import paint_face, rounded
from stream_erc_desktop.model import Turn, percent
from stream_erc_desktop.palette import LIGHT, EmotionStyle, Theme
from stream_erc_desktop.stages import Stage

ROW_PX = 20
STAGE_PX = 27
HEAD_PX = 20


class Panel(QWidget):
    """A panel whose rows have a name, a bar and figures."""

    def __init__(self, name: str, empty: str) -> None:
        super().__init__()
        self.theme: Theme = LIGHT
        self._empty = empty
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @property
    def row_count(self) -> int:
        """Number of rows."""
        raise NotImplementedError

    def set_theme(self, theme: Theme) -> None:
        """Apply a theme."""
        self.theme = theme
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the size of the rows."""
        return QSize(280, HEAD_PX + ROW_PX * max(1, self.row_count))

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw the rows, or the text for an empty panel."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.row_count:
            self.draw(painter)
        else:
            painter.setPen(QColor(self.theme.soft))
            painter.drawText(
                self.rect(), int(Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap), self._empty
            )
        painter.end()

    def draw(self, painter: QPainter) -> None:
        """Draw the rows."""
        raise NotImplementedError

    def small(self, *, bold: bool = False) -> QFont:
        """Return the font of rows."""
        font = QFont(self.font())
        font.setPixelSize(13)
        font.setWeight(QFont.Weight.DemiBold if bold else QFont.Weight.Normal)
        return font

    def text(self, painter: QPainter, box: QRectF, words: str, colour: str, *, right: bool = False) -> None:
        """Draw one line, shortened with an ellipsis if it does not fit."""
        painter.setPen(QColor(colour))
        side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
        elided = painter.fontMetrics().elidedText(words, Qt.TextElideMode.ElideRight, int(box.width()))
        painter.drawText(box, side | Qt.AlignmentFlag.AlignVCenter, elided)


class ReadingPanel(Panel):
    """The probabilities of one turn."""

    def __init__(self) -> None:
        super().__init__("Emotion of the turn", "The last turn's emotion appears here.")
        self.turn: Turn | None = None
        self.styles: dict[str, EmotionStyle] = {}

    @property
    def row_count(self) -> int:
        """One for each label."""
        return len(self.turn.emotion.probabilities) if self.turn and self.turn.emotion else 0

    def show_turn(self, turn: Turn | None, styles: dict[str, EmotionStyle]) -> None:
        """Show the emotion of a turn."""
        if turn is self.turn and styles is self.styles:
            return
        rows = self.row_count
        self.turn, self.styles = turn, styles
        if turn is not None and turn.emotion is not None:
            self.setAccessibleDescription(
                ", ".join(f"{label} {percent(p)}" for label, p in turn.emotion.probabilities.items())
            )
        if rows != self.row_count:
            self.updateGeometry()
        self.update()

    def draw(self, painter: QPainter) -> None:
        """Draw a face, the label, a bar and the probability of each label; the most probable in bold."""
        turn, theme = self.turn, self.theme
        if turn is None or turn.emotion is None:
            return
        painter.setFont(self.small())
        when = "is speaking" if turn.partial else f"turn {turn.index + 1}"
        self.text(painter, QRectF(0, 0, self.width(), 18), f"{turn.who} · {when}", theme.soft)
        for row, (label, p) in enumerate(turn.emotion.probabilities.items()):
            style = self.styles.get(label)
            if style is None:
                continue
            top = HEAD_PX + row * ROW_PX
            best = label == turn.emotion.label
            paint_face(painter, QRectF(0, top + 3, 16, 16), style, theme)
            painter.setFont(self.small(bold=best))
            self.text(painter, QRectF(24, top, 76, ROW_PX), label, theme.ink if best else theme.soft)
            track = QRectF(104, top + 8, self.width() - 104 - 46, 6)
            painter.fillPath(rounded(track, 3), QColor(theme.line))
            if p >= 0.005:
                track.setWidth(max(6.0, track.width() * p))
                colour = QColor(style.colour(theme))
                colour.setAlphaF(1.0 if best else 0.6)
                painter.fillPath(rounded(track, 3), colour)
            figure = QRectF(self.width() - 44, top, 44, ROW_PX)
            self.text(painter, figure, percent(p), theme.ink if best else theme.soft, right=True)


class LatencyPanel(Panel):
    """The latency by stage: the last turn, the median and the 95th percentile."""

    COLUMNS = ("last", "median", "p95")
    FIGURE_PX = 54

    def __init__(self) -> None:
        super().__init__("Latency from the end of speech to the result", "Shown after the first turn.")
        self.stages: Sequence[Stage] = ()

    @property
    def row_count(self) -> int:
        """One for each stage."""
        return len(self.stages)

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the size of two lines for each stage: the figures, and the bar below."""
        return QSize(280, HEAD_PX + STAGE_PX * max(1, self.row_count))

    def show_stages(self, stages: Sequence[Stage]) -> None:
        """Show these stages."""
        if list(stages) == list(self.stages):
            return
        rows = self.row_count
        self.stages = stages
        self.setAccessibleDescription(
            "; ".join(f"{s.name}: last {_figure(s.last)}, median {_figure(s.median)} ms" for s in stages)
        )
        if rows != self.row_count:
            self.updateGeometry()
        self.update()

    def draw(self, painter: QPainter) -> None:
        """Draw the figures and a bar for each stage: dark to the median, pale to the 95th percentile."""
        theme, wide = self.theme, self.width()
        painter.setFont(self.small())
        self.text(painter, QRectF(0, 0, 120, 18), "in ms", theme.soft)
        lefts = [wide - self.FIGURE_PX * (3 - column) for column in range(3)]
        for left, name in zip(lefts, self.COLUMNS, strict=True):
            self.text(painter, QRectF(left, 0, self.FIGURE_PX, 18), name, theme.soft, right=True)
        most = max(max(stage.p95, stage.last) for stage in self.stages)
        for row, stage in enumerate(self.stages):
            top = HEAD_PX + row * STAGE_PX
            total = stage.name == "Total"
            painter.setFont(self.small(bold=total))
            self.text(painter, QRectF(0, top, lefts[0] - 4, 20), stage.name, theme.ink)
            for left, value in zip(lefts, (stage.last, stage.median, stage.p95), strict=True):
                box = QRectF(left, top, self.FIGURE_PX, 20)
                self.text(painter, box, _figure(value), theme.ink if total else theme.soft, right=True)
            for share, alpha in ((stage.p95, 0.16), (stage.median, 0.72)):
                colour = QColor(theme.ink)
                colour.setAlphaF(alpha)
                bar = QRectF(0, top + 20, max(2.0, wide * share / most), 5)
                painter.fillPath(rounded(bar, 2.5), colour)
            at = wide * stage.last / most  # a tick for the last turn
            painter.fillRect(QRectF(min(at, wide - 2.0), top + 18, 2, 9), QColor(theme.record))


def _figure(ms: float) -> str:
    return f"{ms:.1f}" if ms < 10 else f"{round(ms):,}"
