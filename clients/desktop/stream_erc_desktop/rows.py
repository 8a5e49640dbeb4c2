"""The rows of the transcript: a Qt list model of the turns, and the painting of a row."""

from collections.abc import Sequence

from PySide6.QtCore import (
    QAbstractListModel,
    QLocale,
    QModelIndex,
    QPersistentModelIndex,
    QPointF,
    QRect,
    QRectF,
    QSize,
    Qt,
)
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPolygonF
from PySide6.QtWidgets import QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem
from stream_erc_client import EmotionReading

from stream_erc_desktop.icons import paint_face, rounded
from stream_erc_desktop.model import Turn, clock, percent
from stream_erc_desktop.palette import LIGHT, EmotionStyle, Theme

Index = QModelIndex | QPersistentModelIndex

PAD_X, PAD_Y, GAP = 14, 9, 14  # px
TIME_PX, SPEAKER_PX, EMOTION_PX = 46, 104, 148
NARROW_PX = 560  # in narrower rows, the words get a line of their own
MAX_SIZES = 10_000  # rows
TRANSLATION_SCALE, TRANSLATION_GAP = 0.9, 2  # of the font; px between the words and their translation
TURN = Qt.ItemDataRole.UserRole
SAME_SPEAKER = Qt.ItemDataRole.UserRole + 1


class TurnList(QAbstractListModel):
    """A Qt list model of the turns; `sync` reports only what changed."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[Turn] = []

    def sync(self, turns: Sequence[Turn]) -> None:
        """Update the list to the turns of the conversation, in order."""
        root, new = QModelIndex(), list(turns)
        gone = 0  # removed from the front, where the oldest turns are dropped
        first = new[0].index if new else None
        while gone < len(self.turns) and (first is None or self.turns[gone].index < first):
            gone += 1
        if gone:
            self.beginRemoveRows(root, 0, gone - 1)
            del self.turns[:gone]
            self.endRemoveRows()
        if len(self.turns) > len(new):
            self.beginRemoveRows(root, len(new), len(self.turns) - 1)
            del self.turns[len(new) :]
            self.endRemoveRows()
        changed = [at for at, turn in enumerate(self.turns) if turn is not new[at]]
        for at in changed:
            self.turns[at] = new[at]
        if changed:
            # A repeated name is shown paler, so the row below may change too.
            self.dataChanged.emit(
                self.index(changed[0]), self.index(min(changed[-1] + 1, len(self.turns) - 1))
            )
        if len(new) > len(self.turns):
            self.beginInsertRows(root, len(self.turns), len(new) - 1)
            self.turns.extend(new[len(self.turns) :])
            self.endInsertRows()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008, N802
        """Return the number of turns."""
        return 0 if parent.isValid() else len(self.turns)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Return a turn, its sentence, or whether the turn above has the same speaker."""
        if not index.isValid() or index.row() >= len(self.turns):
            return None
        turn = self.turns[index.row()]
        if role == TURN:
            return turn
        if role == SAME_SPEAKER:
            above = self.turns[index.row() - 1] if index.row() else None
            return above is not None and above.speaker == turn.speaker and not above.failed
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return turn.sentence
        return None


class TurnDelegate(QStyledItemDelegate):
    """A painter of a turn as one row: time, speaker, words and emotion."""

    def __init__(self, view: QListView) -> None:
        super().__init__(view)
        self._view = view
        self.theme: Theme = LIGHT
        self.styles: dict[str, EmotionStyle] = {}
        self.playing: int | None = None  # the turn being played
        self._sizes: dict[int, tuple[Turn, QSize]] = {}

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:  # noqa: N802
        """Return the height that the words need at the view's width."""
        # The view asks for all of its rows whenever one changes, so the sizes are cached.
        turn, wide = index.data(TURN), self._view.viewport().width()
        known = self._sizes.get(turn.index)
        if known is None or known[0] is not turn or known[1].width() != wide:
            if len(self._sizes) > MAX_SIZES:
                self._sizes.clear()
            known = self._sizes[turn.index] = (turn, self._size(turn, wide))
        return known[1]

    def _size(self, turn: Turn, wide: int) -> QSize:
        line = self._view.fontMetrics().height()
        beside = (2 * line if turn.revision else line) + 5
        words = self._text_box(QRect(0, 0, wide, 0).adjusted(PAD_X, PAD_Y, -PAD_X, -PAD_Y))
        room = QRect(0, 0, words.width(), 100_000)
        height = _height(self._view.fontMetrics(), room, _words(turn))
        if below := _below(turn):
            quieter = QFontMetrics(_font(self._view.font(), TRANSLATION_SCALE))
            height += TRANSLATION_GAP + _height(quieter, room, below)
        return QSize(wide, max(words.top() - PAD_Y + height, beside) + 2 * PAD_Y)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Paint the row."""
        turn: Turn = index.data(TURN)
        theme = self.theme
        box: QRect = option.rect
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        over = bool(option.state & QStyle.StateFlag.State_MouseOver)
        playing = turn.index == self.playing
        if selected or over or playing:
            painter.fillPath(rounded(QRectF(box.adjusted(4, 1, -4, -1)), 8), QColor(theme.hover))
        if index.row():
            painter.setPen(QColor(theme.line))
            painter.drawLine(box.left() + PAD_X, box.top(), box.right() - PAD_X, box.top())
        if selected and self._view.hasFocus():
            painter.setPen(QColor(theme.ink))
            painter.drawPath(rounded(QRectF(box.adjusted(4, 2, -5, -2)), 8))
        inner = box.adjusted(PAD_X, PAD_Y, -PAD_X, -PAD_Y)
        if playing or (over and turn.start_ms is not None and not turn.partial):
            self._paint_play_mark(painter, inner, playing)
        self._paint_time_and_speaker(painter, inner, turn, bool(index.data(SAME_SPEAKER)))
        self._paint_words(painter, inner, turn)
        if turn.emotion is not None and not turn.failed:
            self._paint_emotion(painter, inner, turn.emotion, turn.partial)
        painter.restore()

    def set_theme(self, theme: Theme) -> None:
        """Apply a theme; sizes may change with its font."""
        self.theme = theme
        self._sizes.clear()

    def _paint_time_and_speaker(self, painter: QPainter, inner: QRect, turn: Turn, same: bool) -> None:
        theme, metrics = self.theme, painter.fontMetrics()
        painter.setPen(QColor(theme.error if turn.failed else theme.soft))
        painter.setFont(_font(self._view.font(), 0.9))
        when = str(turn.index + 1) if turn.start_ms is None else clock(turn.start_ms)
        line = QRect(inner.left(), inner.top(), TIME_PX, metrics.height())
        painter.drawText(line, Qt.AlignmentFlag.AlignVCenter, when)
        quiet = same or turn.partial
        painter.setFont(_font(self._view.font(), 1, bold=not quiet))
        painter.setPen(QColor(theme.error if turn.failed else theme.soft if quiet else theme.ink))
        who = "failed" if turn.failed else turn.speaker or "…"
        mark = "?" if turn.unsure and not turn.failed else ""
        line = QRect(inner.left() + TIME_PX + GAP, inner.top(), SPEAKER_PX, metrics.height())
        room = SPEAKER_PX - painter.fontMetrics().horizontalAdvance(mark)
        elided = painter.fontMetrics().elidedText(who, Qt.TextElideMode.ElideRight, room) + mark
        painter.drawText(line, Qt.AlignmentFlag.AlignVCenter, elided)
        if turn.revision:  # below the name; beside it in narrow rows, where the words are below
            if inner.width() < NARROW_PX:
                line.translate(painter.fontMetrics().horizontalAdvance(elided) + 8, 0)
            else:
                line.translate(0, metrics.height())
            painter.setFont(_font(self._view.font(), 0.8))
            painter.setPen(QColor(theme.soft))
            painter.drawText(line, Qt.AlignmentFlag.AlignVCenter, "revised")

    def _paint_play_mark(self, painter: QPainter, inner: QRect, playing: bool) -> None:
        """Paint the play or stop mark, left of the time."""
        x, y = inner.left() - 8.0, inner.top() + painter.fontMetrics().height() / 2
        shape = QPolygonF([QPointF(x, y - 4), QPointF(x + 6, y), QPointF(x, y + 4)])
        if playing:
            shape = QPolygonF(QRectF(x, y - 3, 6, 6))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self.theme.ink if playing else self.theme.soft))
        painter.drawPolygon(shape)
        painter.setBrush(Qt.BrushStyle.NoBrush)

    def _paint_words(self, painter: QPainter, inner: QRect, turn: Turn) -> None:
        theme = self.theme
        painter.setFont(_font(self._view.font(), 1, italic=turn.partial or not turn.text))
        quiet = turn.partial or not turn.text
        painter.setPen(QColor(theme.error if turn.failed else theme.soft if quiet else theme.ink))
        box = self._text_box(inner)
        painter.drawText(box, int(Qt.TextFlag.TextWordWrap), _words(turn))
        if quieter := _below(turn):
            below = _height(painter.fontMetrics(), QRect(0, 0, box.width(), 100_000), _words(turn))
            painter.setFont(_font(self._view.font(), TRANSLATION_SCALE))
            painter.setPen(QColor(theme.soft))
            box.setTop(box.top() + below + TRANSLATION_GAP)
            painter.drawText(box, int(Qt.TextFlag.TextWordWrap), quieter)

    def _paint_emotion(self, painter: QPainter, inner: QRect, emotion: EmotionReading, partial: bool) -> None:
        theme = self.theme
        style = self.styles.get(emotion.label)
        if style is None:
            return
        painter.setOpacity(0.55 if partial else 1.0)
        font = _font(self._view.font(), 0.95)
        painter.setFont(font)
        high = QFontMetrics(font).height()
        left, top = inner.right() - EMOTION_PX, inner.top()
        paint_face(painter, QRectF(left, top + (high - 17) / 2, 17, 17), style, theme)
        label = QRect(left + 25, top, EMOTION_PX - 25, high)
        painter.setPen(QColor(theme.soft if partial else theme.ink))
        painter.drawText(label, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, emotion.label)
        painter.setPen(QColor(theme.soft))
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(label, right, percent(emotion.confidence))
        track = QRectF(left + 25, top + high + 3, EMOTION_PX - 25, 3)
        painter.fillPath(rounded(track, 1.5), QColor(theme.line))
        track.setWidth(max(3.0, track.width() * emotion.confidence))
        painter.fillPath(rounded(track, 1.5), QColor(style.colour(theme)))

    def _text_box(self, inner: QRect) -> QRect:
        """Return the box of the words: between the name and the emotion, or below in narrow rows."""
        if inner.width() < NARROW_PX:
            return inner.adjusted(TIME_PX + GAP, self._view.fontMetrics().height() + 7, 0, 0)
        return inner.adjusted(TIME_PX + SPEAKER_PX + 2 * GAP, 0, -EMOTION_PX - GAP - 6, 0)


def on_time(x: float) -> bool:
    """Return whether a position in a row is on the time."""
    return x < PAD_X + TIME_PX + GAP / 2


def on_name(x: float) -> bool:
    """Return whether a position in a row is on the speaker's name."""
    return PAD_X + TIME_PX + GAP / 2 <= x < PAD_X + TIME_PX + GAP + SPEAKER_PX


def _words(turn: Turn) -> str:
    return turn.failed or turn.text or ("…" if turn.partial else "no words")


def _below(turn: Turn) -> str:
    """Return what is shown beneath the words: their translation, and who else spoke."""
    return "\n".join(filter(None, (_translation(turn), turn.overlap_text)))


def _translation(turn: Turn) -> str:
    """Return a turn's words in English after the name of their language, "" if not translated."""
    if not turn.translation or not turn.language:
        return turn.translation
    return f"from {language_name(turn.language)}: {turn.translation}"


def language_name(code: str) -> str:
    """Return the English name of a language, given its ISO 639-1 code; the code itself if Qt has none."""
    language = QLocale.codeToLanguage(code)
    known = language not in (QLocale.Language.AnyLanguage, QLocale.Language.C)
    return QLocale.languageToString(language) if known else code


def _height(metrics: QFontMetrics, room: QRect, text: str) -> int:
    return metrics.boundingRect(room, int(Qt.TextFlag.TextWordWrap), text).height()


def _font(base: QFont, scale: float, *, bold: bool = False, italic: bool = False) -> QFont:
    font = QFont(base)
    if scale != 1:
        font.setPixelSize(round((base.pixelSize() if base.pixelSize() > 0 else 14) * scale))
    font.setWeight(QFont.Weight.DemiBold if bold else QFont.Weight.Normal)
    font.setItalic(italic)
    return font
