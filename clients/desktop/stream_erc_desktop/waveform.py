"""The live waveform: a ruler above it, speech dark on a band, silence pale."""

from collections.abc import Sequence

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QLineF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFont, QPainter, QPen, QTransform

from stream_erc_desktop.model import clock
from stream_erc_desktop.outline import Outline
from stream_erc_desktop.palette import LIGHT, Theme

LIVE_MS = 30_000  # shown while the view follows the newest audio
MIN_VIEW_MS, MAX_VIEW_MS = 2_000, 4 * 3_600_000
RULER_PX, WAVE_PX = 26, 78
PITCH_PX, BAR_PX = 3, 2  # distance of the bars, and their width
TICK_PX = 74  # minimum distance of the times on the ruler
STEPS_MS = (500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000)
LONG_STEPS_MS = (120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000)
EVER_MS = 1e9

Spans = Sequence[tuple[float, float]]
Words = Sequence[tuple[QRectF, int, str]]


class TimeView(pg.PlotWidget):
    """A strip along the time axis, in milliseconds; the wheel zooms and dragging moves in time only."""

    def __init__(self, name: str, axis: pg.AxisItem | None = None) -> None:
        super().__init__(axisItems={} if axis is None else {"top": axis})
        self.theme = LIGHT
        self.setAccessibleName(name)
        self.setMenuEnabled(False)
        self.hideButtons()
        self.setMouseEnabled(x=True, y=False)
        self.setFrameShape(self.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        for side in ("left", "bottom", "right", "top"):
            self.showAxis(side, axis is not None and side == "top")
        self.getPlotItem().setContentsMargins(0, 0, 0, 0)
        self.getPlotItem().layout.setContentsMargins(0, 0, 0, 0)
        box = self.getViewBox()
        box.setDefaultPadding(0)
        box.setLimits(xMin=0, minXRange=MIN_VIEW_MS, maxXRange=MAX_VIEW_MS)
        box.disableAutoRange()

    @property
    def span_ms(self) -> tuple[float, float]:
        """The visible span of time, from and to."""
        start, end = self.getViewBox().viewRange()[0]
        return float(start), float(end)

    def set_theme(self, theme: Theme) -> None:
        """Apply a theme."""
        self.theme = theme
        self.setBackground(theme.surface)
        self.scene().update()


class ClockAxis(pg.AxisItem):
    """The ruler: times as minutes and seconds."""

    def __init__(self) -> None:
        super().__init__("top", maxTickLength=0)
        self.setHeight(RULER_PX)
        self.font = QFont()
        self.font.setPixelSize(11)
        self.setStyle(tickFont=self.font, tickTextOffset=6, autoReduceTextSpace=False)

    def tickSpacing(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, float]]:  # noqa: N802, N803
        """Return one level of ticks, as dense as is readable."""
        per_pixel = (maxVal - minVal) / max(size, 1)
        steps = (*STEPS_MS, *LONG_STEPS_MS)
        return [(next((step for step in steps if step / per_pixel >= TICK_PX), steps[-1]), 0)]

    def drawPicture(self, painter: QPainter, line: object, ticks: object, words: Words) -> None:  # noqa: N802
        """Draw only the times: a line and ticks would clutter the bars."""
        painter.setPen(self.textPen())
        painter.setFont(self.font)
        for box, flags, text in words:
            painter.drawText(box, int(flags), text)

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:  # noqa: N802
        """Format the times."""
        return [clock(value, tenths=spacing < 1_000) for value in values]


class TimeItem(pg.GraphicsObject):
    """An item drawn in pixels along the time axis."""

    def __init__(self, view: TimeView) -> None:
        super().__init__()
        self.view = view

    def boundingRect(self) -> QRectF:  # noqa: N802
        """Return a box that covers every view: painting is clipped to the view."""
        return QRectF(0, -1, EVER_MS, 3)

    def paint(self, painter: QPainter, *_: object) -> None:
        """Draw in pixels of the screen."""
        along: QTransform = painter.worldTransform()
        painter.resetTransform()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self.draw(painter, along.m11(), along.dx(), self.mapRectToDevice(self.viewRect()))

    def draw(self, painter: QPainter, px_per_ms: float, offset_px: float, area: QRectF) -> None:
        """Draw the item; time ``t`` in milliseconds is at ``t * px_per_ms + offset_px``."""
        raise NotImplementedError


class Waveform(TimeView):
    """The waveform with the speech band; it leads the time axis that the lanes follow."""

    following_changed = Signal(bool)

    def __init__(self) -> None:
        self._axis = ClockAxis()
        super().__init__("Waveform", self._axis)
        self.setFixedHeight(RULER_PX + WAVE_PX)
        self.setYRange(0, 1, padding=0)
        self.outline = Outline()
        self.speech: Spans = ()
        self.pending: Spans = ()
        self.following = True
        self._live_ms = float(LIVE_MS)
        self._item = _Bars(self)
        self.addItem(self._item)
        self.getViewBox().sigRangeChangedManually.connect(self._moved_by_hand)
        self._look(0, LIVE_MS)

    def show_audio(self, outline: Outline, speech: Spans, pending: Spans = ()) -> None:
        """Show the audio with its speech, and the pending speech without a finished turn.

        Spans are in milliseconds, from and to.
        """
        self.outline, self.speech, self.pending = outline, speech, pending
        if self.following:
            end = max(float(outline.end_ms), self._live_ms)
            self._look(end - self._live_ms, end)
        self._item.update()

    def follow(self) -> None:
        """Keep the newest audio in view."""
        self._live_ms = float(LIVE_MS)
        self._set_following(True)
        self.show_audio(self.outline, self.speech, self.pending)

    def show_whole(self) -> None:
        """Show all audio."""
        self._set_following(False)
        self._look(0, max(self.outline.end_ms, MIN_VIEW_MS))

    def show_span(self, start_ms: float, end_ms: float) -> None:
        """Move a span of time into view, if it is not."""
        start, end = self.span_ms
        if start <= start_ms and end_ms <= end:
            return
        self._set_following(False)
        left = max(0.0, start_ms - (end - start) / 3)
        self._look(left, left + end - start)

    def zoom(self, factor: float) -> None:
        """Show a shorter (factor below 1) or longer span, with the same end while following."""
        start, end = self.span_ms
        wide = min(max((end - start) * factor, MIN_VIEW_MS), MAX_VIEW_MS)
        if self.following:
            self._live_ms = wide
            self.show_audio(self.outline, self.speech, self.pending)
        else:
            left = max(0.0, (start + end - wide) / 2)
            self._look(left, left + wide)

    def set_theme(self, theme: Theme) -> None:
        """Apply a theme."""
        super().set_theme(theme)
        self._axis.setTextPen(pg.mkPen(theme.soft))

    def _look(self, start_ms: float, end_ms: float) -> None:
        self.setXRange(start_ms, end_ms, padding=0)

    def move_by_hand(self, start_ms: float, end_ms: float) -> None:
        """Show the span to which the user moved; keep following while the newest audio is in view."""
        self._look(start_ms, end_ms)
        self._moved_by_hand()

    def _moved_by_hand(self, *_: object) -> None:
        start, end = self.span_ms
        seen = start <= self.outline.end_ms <= end
        if self.following and seen:
            self._live_ms = end - start
        self._set_following(self.following and seen)

    def _set_following(self, following: bool) -> None:
        if following != self.following:
            self.following = following
            self.following_changed.emit(following)


class _Bars(TimeItem):
    """The bars, the band behind them and the head of the recording."""

    view: Waveform

    def draw(self, painter: QPainter, px_per_ms: float, offset_px: float, area: QRectF) -> None:
        theme, head_ms = self.view.theme, float(self.view.outline.end_ms)
        start_ms, end_ms = self.view.span_ms
        painter.setPen(Qt.PenStyle.NoPen)
        spans = []
        for known, colour in ((self.view.speech, theme.band), (self.view.pending, theme.pending)):
            painter.setBrush(QColor(colour))
            seen = [span for span in known if span[1] > start_ms and span[0] < end_ms]
            for first, last in seen:
                left, wide = first * px_per_ms + offset_px, (last - first) * px_per_ms
                painter.drawRoundedRect(QRectF(left, area.top(), wide, area.height()), 5, 5)
            spans += seen
        painter.setPen(QPen(QColor(theme.line), 1.5))  # after the newest audio
        middle = area.center().y()
        painter.drawLine(
            QLineF(max(area.left(), head_ms * px_per_ms + offset_px), middle, area.right(), middle)
        )
        pitch_ms = PITCH_PX / px_per_ms
        number = int(start_ms // pitch_ms)  # bars keep their positions while the view moves
        columns = int(min(end_ms, head_ms) // pitch_ms) - number + 1
        if head_ms and columns > 0:
            left_ms = number * pitch_ms
            peaks = self.view.outline.peaks(left_ms, left_ms + columns * pitch_ms, columns)
            middles = left_ms + (np.arange(columns) + 0.5) * pitch_ms
            spoken = np.zeros(columns, bool)
            for first, last in spans:
                spoken |= (middles >= first) & (middles < last)
            self._draw_bars(painter, middles * px_per_ms + offset_px, peaks / 127, spoken, area)
        if head_ms and start_ms <= head_ms <= end_ms:
            x = head_ms * px_per_ms + offset_px
            painter.setPen(QPen(QColor(theme.ink), 1.5))
            painter.drawLine(QLineF(x, area.top(), x, area.bottom()))

    def _draw_bars(
        self, painter: QPainter, x: np.ndarray, peaks: np.ndarray, spoken: np.ndarray, area: QRectF
    ) -> None:
        """Draw bars at `x` (N) from the lowest to the highest sample, `peaks` (N, 2) within -1 to 1."""
        middle, half = area.center().y(), area.height() / 2 - 5
        # The square root makes quiet speech visible and leaves the loudest as it is.
        reach = np.sqrt(np.abs(peaks)) * np.sign(peaks)
        top = middle - np.maximum(reach[:, 1] * half, 0.6)
        bottom = middle - np.minimum(reach[:, 0] * half, -0.6)
        for colour, which in ((self.view.theme.wave, ~spoken), (self.view.theme.speech, spoken)):
            pen = QPen(QColor(colour), BAR_PX)
            pen.setCapStyle(Qt.PenCapStyle.RoundCap)
            painter.setPen(pen)
            rows = zip(x[which].tolist(), top[which].tolist(), bottom[which].tolist(), strict=True)
            painter.drawLines([QLineF(at, high, at, low) for at, high, low in rows])
