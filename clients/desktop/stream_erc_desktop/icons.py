"""Icons and faces, drawn from paths in any colour and size."""

from functools import lru_cache

from PySide6.QtCore import QByteArray, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QIcon, QPainter, QPainterPath, QPixmap
from PySide6.QtSvg import QSvgRenderer

from stream_erc_desktop.palette import EmotionStyle, Theme, ink_on

_STROKE = 'fill="none" stroke="{c}" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"'
_ICONS = {
    "theme": '<circle cx="10" cy="10" r="6.5" fill="none" stroke="{c}" stroke-width="1.5"/>'
    '<path d="M10 3.5a6.5 6.5 0 0 1 0 13z" fill="{c}"/>',
    "record": '<circle cx="10" cy="10" r="5.2" fill="{c}"/>',
    "stop": '<rect x="5.4" y="5.4" width="9.2" height="9.2" rx="1.8" fill="{c}"/>',
    "done": '<path d="M5.2 10.4l3.2 3.2 6.4-7.2" fill="none" stroke="{c}" stroke-width="2"'
    ' stroke-linecap="round" stroke-linejoin="round"/>',
    "pause": '<path d="M6.5 5h2.4v10H6.5zM11.1 5h2.4v10h-2.4z" fill="{c}"/>',
    "play": '<path d="M7 4.6v10.8l8.4-5.4z" fill="{c}"/>',
    "open": f'<path d="M3.2 15.5V5h4.4l1.8 2h7.4v8.5z" {_STROKE}/>',
    "save": f'<path d="M10 3.5v8.6M6.6 9l3.4 3.4L13.4 9M3.8 12.8v3.4h12.4v-3.4" {_STROKE}/>',
    "settings": f'<path d="M3 6.2h6.4M13.4 6.2H17M3 13.8h3.6M10.6 13.8H17" {_STROKE}/>'
    f'<circle cx="11.4" cy="6.2" r="2" {_STROKE}/><circle cx="8.6" cy="13.8" r="2" {_STROKE}/>',
    "help": f'<path d="M7.4 7.6a2.6 2.6 0 1 1 3.7 2.4c-.7.4-1.100.9-1.1 1.7" {_STROKE}/>'
    '<circle cx="10" cy="14.6" r="1.1" fill="{c}"/>',
    "follow": f'<path d="M4 5l5 5-5 5M10 5l5 5-5 5" {_STROKE}/>',
    "whole": f'<path d="M3.5 6.5v7M16.5 6.5v7M6 10h8M7.8 7.8L5.6 10l2.2 2.2'
    f'M12.2 7.8l2.2 2.2-2.2 2.2" {_STROKE}/>',
}


def icon(name: str, colour: str, size: int = 20) -> QIcon:
    """Return an icon in one colour."""
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 20">{_ICONS[name]}</svg>'
    renderer = QSvgRenderer(QByteArray(svg.replace("{c}", colour).encode()))
    found = QIcon()
    for scale in (1, 2, 3):
        pixmap = QPixmap(size * scale, size * scale)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        renderer.render(painter)
        painter.end()
        pixmap.setDevicePixelRatio(scale)
        found.addPixmap(pixmap)
    return found


# --- faces ------------------------------------------------------------------------------------------

_LINES = {
    "neutral": "M5.2 10.7h5.6",
    "joy": "M4.4 9.3q3.6 4.2 7.2 0",
    "sadness": "M5.2 11.6q2.8-2.6 5.6 0",
    "anger": "M5.4 11.5q2.6-1.6 5.2 0M4 4.9l2.9 1.5M12 4.9l-2.9 1.5",
    "fear": "M4.6 11.2q.85-1.5 1.7 0t1.7 0 1.7 0 1.7 0",
    "surprise": "M8 9.4a1.6 1.9 0 1 0 .01 0M4.6 4.1q.9-.8 1.8-.3M11.4 4.1q-.9-.8-1.8-.3",
    "disgust": "M4.8 11.4q1.6-1.9 3.2-.5t3.2-.9M4.5 6.6l2.3.3M11.5 6.6l-2.3.3",
}
_EYES = {"anger": (7.5, 1.0), "fear": (6.5, 1.5), "disgust": (0.0, 0.0)}


def paint_face(
    painter: QPainter, box: QRectF, style: EmotionStyle, theme: Theme, *, ink: str | None = None
) -> None:
    """Paint the face of an emotion in its colour, or its letters if it belongs to no family.

    With `ink`, paint only the features, in that colour, on a ground that already has the emotion's colour.
    """
    ratio = painter.device().devicePixelRatioF()
    size = round(box.width() * ratio)
    painter.drawPixmap(box.topLeft(), _face(style, style.colour(theme), ink, size, ratio))


@lru_cache(maxsize=256)
def _face(style: EmotionStyle, colour: str, alone: str | None, size: int, ratio: float) -> QPixmap:
    ink = alone or ink_on(colour)
    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(size / 16, size / 16)
    painter.setPen(Qt.PenStyle.NoPen)
    if alone is None:
        painter.setBrush(QColor(colour))
        painter.drawEllipse(QPointF(8, 8), 8, 8)
    if not style.face:
        font = QFont()
        font.setPixelSize(6)
        font.setWeight(QFont.Weight.DemiBold)
        painter.setFont(font)
        painter.setPen(QColor(ink))
        painter.drawText(QRectF(0, 0, 16, 16), Qt.AlignmentFlag.AlignCenter, style.code)
    else:
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
            f'<path d="{_LINES[style.face]}" fill="none" stroke="{ink}" stroke-width="1.35" '
            'stroke-linecap="round" stroke-linejoin="round"/></svg>'
        )
        QSvgRenderer(QByteArray(svg.encode())).render(painter, QRectF(0, 0, 16, 16))
        height, radius = _EYES.get(style.face, (6.5, 1.0))
        painter.setBrush(QColor(ink))
        if radius:
            for x in (5.5, 10.5):
                painter.drawEllipse(QPointF(x, height), radius, radius)
    painter.end()
    pixmap.setDevicePixelRatio(ratio)
    return pixmap


def rounded(box: QRectF, radius: float) -> QPainterPath:
    """Return the path of a rounded rectangle."""
    path = QPainterPath()
    path.addRoundedRect(box, radius, radius)
    return path
