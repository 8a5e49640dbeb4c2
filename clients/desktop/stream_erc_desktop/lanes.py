"""A lane for each speaker: turns in the colours of their emotions, stronger with more confidence."""

from collections.abc import Sequence
from itertools import pairwise

from pyqtgraph.GraphicsScene.mouseEvents import MouseClickEvent
from PySide6.QtCore import QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QBrush, QColor, QFont, QFontMetricsF, QKeyEvent, QPainter, QPen, QResizeEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QStackedWidget,
    QToolTip,
    QVBoxLayout,
    QWidget,
)

from stream_erc_desktop.icons import paint_face, rounded
from stream_erc_desktop.model import Turn, clock, percent
from stream_erc_desktop.palette import EmotionStyle, Theme, ink_on, mix, tint
from stream_erc_desktop.waveform import TimeItem, TimeView, Waveform

LANE_PX, MARGIN_PX = 34, 4
NAMES_PX = 132
LABEL_PX = 34  # room for the face beside the label
UNSURE_PX = 11  # room for the mark of an unsure speaker
MAX_LANES_SEEN = 8
MAX_NAME = 100  # characters, the protocol's limit


_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


def timed(turns: Sequence[Turn]) -> list[tuple[Turn, int, int]]:
    """Return the turns with audio by their start, each with its span; a longer one comes first."""
    spans = [(t, t.start_ms, t.end_ms) for t in turns if t.start_ms is not None and t.end_ms is not None]
    return sorted(spans, key=lambda span: (span[1], -span[2]))


class SpeakerName(QStackedWidget):
    """A speaker's name; a click, or Enter, turns it into a text field to rename the speaker."""

    renamed = Signal(str, str)

    def __init__(self, speaker: str) -> None:
        super().__init__()
        self.speaker = speaker
        self.setFixedHeight(LANE_PX)
        self.button = QPushButton(speaker)
        self.button.setObjectName("name")
        self.button.setFlat(True)
        self.button.setToolTip(f"{speaker}: click to rename")
        self.button.setAccessibleName(f"Rename {speaker}")
        self.button.clicked.connect(self.edit)
        self._field = QLineEdit()
        self._field.setMaxLength(MAX_NAME)
        self._field.setAccessibleName(f"New name of {speaker}")
        self._field.returnPressed.connect(self._rename)
        self._field.editingFinished.connect(lambda: self.setCurrentWidget(self.button))
        self.addWidget(self.button)
        self.addWidget(self._field)

    def edit(self) -> None:
        """Show the text field."""
        self._field.setText(self.speaker)
        self._field.selectAll()
        self.setCurrentWidget(self._field)
        self._field.setFocus()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Cancel the renaming on Escape."""
        if event.key() == Qt.Key.Key_Escape and self.currentWidget() is self._field:
            self._field.setText(self.speaker)
            self.setCurrentWidget(self.button)
            self.button.setFocus()
        else:
            super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Show as much of the name as fits."""
        super().resizeEvent(event)
        self.show_name()

    def _rename(self) -> None:
        name = self._field.text().strip()
        self.setCurrentWidget(self.button)
        if name and name != self.speaker:
            self.button.setText(f"{name} …")  # until the server confirms it
            self.renamed.emit(self.speaker, name)

    def show_name(self) -> None:
        """Show the current name, shortened to the width of the button."""
        metrics = self.button.fontMetrics()
        self.button.setText(metrics.elidedText(self.speaker, Qt.TextElideMode.ElideRight, self.width() - 16))


class Lanes(QWidget):
    """The lanes below the waveform, on the same time axis.

    Signals:
        renamed: a speaker and the new name that was typed.
        chosen: index of the turn that was clicked.
    """

    renamed = Signal(str, str)
    chosen = Signal(int)

    def __init__(self, waveform: Waveform) -> None:
        super().__init__()
        self.setAccessibleName("Speakers")
        self._names = QVBoxLayout()
        self._names.setContentsMargins(12, 0, 4, 0)
        self._names.setSpacing(0)
        column = QWidget()
        column.setFixedWidth(NAMES_PX)
        column.setLayout(self._names)
        self.strip = Strip(waveform)
        self.strip.chosen.connect(self.chosen)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(column)
        layout.addWidget(self.strip, 1)
        self.tab_after: QWidget | None = None  # the widget before the names in the tab order
        self._by_name: dict[str, SpeakerName] = {}  # in the order of the lanes
        self.show_turns([], [], {}, None)

    def show_turns(
        self,
        turns: Sequence[Turn],
        speakers: Sequence[str],
        styles: dict[str, EmotionStyle],
        selected: int | None,
    ) -> None:
        """Show the turns of each speaker with their emotions."""
        if list(speakers) != list(self._by_name):
            self._show_names(list(speakers))
        self.strip.show_turns(turns, speakers, styles, selected)
        self.setFixedHeight(LANE_PX * max(1, len(speakers)))

    def name_of(self, speaker: str) -> SpeakerName | None:
        """Return the widget of a speaker's name."""
        return self._by_name.get(speaker)

    def restore_names(self) -> None:
        """Show the current names again, after a new one was refused."""
        for name in self._by_name.values():
            name.show_name()

    def _show_names(self, speakers: list[str]) -> None:
        """Show the names; those that stay keep their widgets, since the user may be typing in one."""
        kept, self._by_name = self._by_name, {}
        while self._names.count():
            self._names.takeAt(0)
        for speaker in speakers:
            name = kept.pop(speaker, None)
            if name is None:
                name = SpeakerName(speaker)
                name.renamed.connect(self.renamed)
            self._names.addWidget(name)
            self._by_name[speaker] = name
        self._names.addStretch(1)
        for gone in kept.values():
            gone.deleteLater()
        if self.tab_after is not None:
            for before, after in pairwise(
                [self.tab_after, *(name.button for name in self._by_name.values())]
            ):
                self.setTabOrder(before, after)


class Strip(TimeView):
    """The turns of all speakers, drawn."""

    chosen = Signal(int)

    def __init__(self, waveform: Waveform) -> None:
        super().__init__("Turns by speaker; the transcript lists the same ones")
        self.turns: Sequence[Turn] = ()
        self.speakers: list[str] = []
        self.styles: dict[str, EmotionStyle] = {}
        self.selected: int | None = None
        self._waveform = waveform
        self.getViewBox().invertY(True)
        # Not pyqtgraph's setXLink: it shifts views whose frames differ by a pixel.
        waveform.sigXRangeChanged.connect(self._follow)
        self.getViewBox().sigRangeChangedManually.connect(lambda *_: waveform.move_by_hand(*self.span_ms))
        self._item = _Turns(self)
        self.addItem(self._item)
        self.scene().sigMouseClicked.connect(self._clicked)
        self.scene().sigMouseMoved.connect(self._hovered)

    def show_turns(
        self,
        turns: Sequence[Turn],
        speakers: Sequence[str],
        styles: dict[str, EmotionStyle],
        selected: int | None,
    ) -> None:
        """Show these turns."""
        self.turns, self.speakers, self.styles, self.selected = turns, list(speakers), styles, selected
        self.setYRange(0, max(1, len(speakers)), padding=0)
        self._follow()
        self._item.update()

    def turn_at(self, position: QPointF) -> Turn | None:
        """Return the turn at a position of the scene."""
        place = self.getViewBox().mapSceneToView(position)
        lane = int(place.y())
        if not 0 <= lane < len(self.speakers):
            return None
        for turn, start_ms, end_ms in reversed(timed(self.turns)):
            if turn.speaker == self.speakers[lane] and start_ms <= place.x() < end_ms:
                return turn
        return None

    def _follow(self, *_: object) -> None:
        self.setXRange(*self._waveform.span_ms, padding=0)

    def _clicked(self, event: MouseClickEvent) -> None:
        turn = self.turn_at(event.scenePos())
        if turn is not None:
            self.chosen.emit(turn.index)

    def _hovered(self, position: QPointF) -> None:
        turn = self.turn_at(position)
        if turn is None or turn.start_ms is None or turn.end_ms is None:
            QToolTip.hideText()
            self.unsetCursor()
            return
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        emotion = f"{turn.emotion.label} {percent(turn.emotion.confidence)}" if turn.emotion else ""
        what = f"failed: {turn.failed}" if turn.failed else emotion
        when = f"{clock(turn.start_ms, tenths=True)} to {clock(turn.end_ms, tenths=True)}"
        who = turn.who if turn.speaker else ""
        span = " · ".join(filter(None, (when, turn.overlap_text)))
        lines = (" · ".join(filter(None, (who, what))), span, turn.text)
        where = self.viewport().mapToGlobal(self.mapFromScene(position))
        QToolTip.showText(where, "\n".join(filter(None, lines)), self)


class _Turns(TimeItem):
    """The turns as blocks."""

    view: Strip

    def boundingRect(self) -> QRectF:  # noqa: N802
        return QRectF(0, 0, 1e9, 1e4)

    def draw(self, painter: QPainter, px_per_ms: float, offset_px: float, area: QRectF) -> None:
        theme = self.view.theme
        lanes = {speaker: lane for lane, speaker in enumerate(self.view.speakers)}
        start_ms, end_ms = self.view.span_ms
        painter.setPen(QPen(QColor(theme.line), 1))
        for lane in range(len(lanes)):
            y = area.top() + lane * LANE_PX + 0.5
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
        font = QFont(painter.font())
        font.setPixelSize(11)
        font.setWeight(QFont.Weight.DemiBold)
        painter.setFont(font)
        ends: dict[int, float] = {}  # lane -> where it is painted up to
        for turn, turn_start_ms, turn_end_ms in timed(self.view.turns):
            at = lanes.get(turn.speaker or "")
            if at is None or turn_end_ms < start_ms or turn_start_ms > end_ms:
                continue
            left = turn_start_ms * px_per_ms + offset_px
            wide = max(2.0, (turn_end_ms - turn_start_ms) * px_per_ms)
            top = area.top() + at * LANE_PX + MARGIN_PX
            box = QRectF(left, top, wide, LANE_PX - 2 * MARGIN_PX)
            if left < ends.get(at, left):  # apart from an earlier one that it overlaps
                painter.fillPath(rounded(box.adjusted(-1.5, -1.5, 1.5, 1.5), 4), QColor(theme.surface))
            self._draw_turn(painter, box, turn, theme)
            ends[at] = max(box.right(), ends.get(at, 0.0))

    def _draw_turn(self, painter: QPainter, box: QRectF, turn: Turn, theme: Theme) -> None:
        shape = rounded(box, 3)
        if turn.failed or turn.emotion is None or turn.emotion.label not in self.view.styles:
            colour = theme.error if turn.failed else theme.wave
            painter.fillPath(shape, QBrush(QColor(colour), Qt.BrushStyle.BDiagPattern))
            painter.setPen(QPen(QColor(colour), 1))
            painter.drawPath(shape)
            return
        style, sure = self.view.styles[turn.emotion.label], turn.emotion.confidence
        fill = tint(style, sure, theme)
        if turn.partial:
            fill = mix(fill, theme.surface, 0.45)
        painter.fillPath(shape, QColor(fill))
        painter.save()
        painter.setClipPath(shape, Qt.ClipOperation.IntersectClip)
        if not turn.partial:
            painter.fillRect(
                QRectF(box.left(), box.bottom() - 3, box.width(), 3), QColor(style.colour(theme))
            )
        ink = QColor(ink_on(fill))
        if turn.unsure and box.width() >= UNSURE_PX:
            painter.setPen(ink)
            painter.drawText(box.adjusted(0, 0, -4, -2), _RIGHT, "?")
        room = box.adjusted(0, 0, -UNSURE_PX, 0) if turn.unsure else box
        self._draw_label(painter, room, style, ink)
        painter.restore()
        if turn.partial:
            outline = QPen(QColor(style.colour(theme)), 1.2, Qt.PenStyle.DashLine)
            painter.setPen(outline)
            painter.drawPath(rounded(box.adjusted(0.6, 0.6, -0.6, -0.6), 3))
        if turn.index == self.view.selected:
            painter.setPen(QPen(QColor(theme.ink), 2))
            painter.drawPath(rounded(box.adjusted(-1, -1, 1, 1), 4))

    def _draw_label(self, painter: QPainter, box: QRectF, style: EmotionStyle, ink: QColor) -> None:
        metrics = QFontMetricsF(painter.font())
        painter.setPen(ink)
        room = box.adjusted(0, 0, 0, -2)
        if box.width() >= metrics.horizontalAdvance(style.label) + LABEL_PX:
            face = QRectF(round(box.left()) + 7, round(room.center().y() - 8), 16, 16)
            paint_face(painter, face, style, self.view.theme, ink=ink.name())
            painter.drawText(room.adjusted(27, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, style.label)
        elif box.width() >= metrics.horizontalAdvance(style.label) + 8:  # the whole word, or only the colour
            painter.drawText(room, Qt.AlignmentFlag.AlignCenter, style.label)
