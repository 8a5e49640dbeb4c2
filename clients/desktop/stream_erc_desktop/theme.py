"""Themes in Qt: choosing and applying one, as a palette and a style sheet."""

from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication

from stream_erc_desktop.keys import application
from stream_erc_desktop.palette import DARK, LIGHT, Theme, ink_on

FONT_PX = 14
ARROWS = f"""
QToolButton#backButton, QToolButton#forwardButton, QToolButton#toParentButton {{
  background: {LIGHT.wave}; border: 0; border-radius: 6px; margin: 3px; }}"""
"""A lighter ground for the arrows of Qt's file dialog, which are always black."""

FILES = Path(__file__).parent.as_posix()  # style sheets load images from files only


def chosen_theme(look: str) -> Theme:
    """Return the theme of a look: `dark`, `light`, or `system`."""
    system = QGuiApplication.styleHints().colorScheme()
    return DARK if look == "dark" or (look == "system" and system is Qt.ColorScheme.Dark) else LIGHT


def apply_theme(theme: Theme) -> None:
    """Apply a theme to the application."""
    QApplication.setPalette(qt_palette(theme))
    application().setStyleSheet(style_sheet(theme))


def qt_palette(theme: Theme) -> QPalette:
    """Return the palette of Qt's own widgets, menus and dialogs."""
    palette = QPalette()
    roles = {
        QPalette.ColorRole.Window: theme.background,
        QPalette.ColorRole.Base: theme.surface,
        QPalette.ColorRole.AlternateBase: theme.hover,
        QPalette.ColorRole.Button: theme.surface,
        QPalette.ColorRole.WindowText: theme.ink,
        QPalette.ColorRole.Text: theme.ink,
        QPalette.ColorRole.ButtonText: theme.ink,
        QPalette.ColorRole.PlaceholderText: theme.soft,
        QPalette.ColorRole.Highlight: theme.ink,
        QPalette.ColorRole.HighlightedText: theme.background,
        QPalette.ColorRole.ToolTipBase: theme.ink,
        QPalette.ColorRole.ToolTipText: theme.background,
        QPalette.ColorRole.Mid: theme.line,
        QPalette.ColorRole.Midlight: theme.line,
        QPalette.ColorRole.Dark: theme.line,
        QPalette.ColorRole.Link: theme.ink,
    }
    for role, colour in roles.items():
        palette.setColor(role, QColor(colour))
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText, QPalette.ColorRole.WindowText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, QColor(theme.soft))
    return palette


def style_sheet(theme: Theme) -> str:
    """Return the style sheet of the window, which looks like the HTML report."""
    return f"""
* {{ font-size: {FONT_PX}px; }}
QMainWindow, QDialog {{ background: {theme.background}; }}
QLabel {{ background: transparent; color: {theme.ink}; }}
QLabel#title {{ font-size: 24px; font-weight: 650; }}
QLabel#heading {{ font-size: 15px; font-weight: 620; }}
QLabel#soft, QLabel#meta {{ color: {theme.soft}; }}
QLabel#small {{ font-size: 12px; color: {theme.soft}; }}
QLabel#clock {{ font-size: 22px; font-weight: 500; }}
QLabel#empty {{ font-size: 20px; font-weight: 600; }}
QFrame#card {{ background: {theme.surface}; border: 1px solid {theme.line}; border-radius: 14px; }}
QFrame#card[drop="true"] {{ border: 2px dashed {theme.ink}; }}
QFrame#bar {{ background: {theme.surface}; border-top: 1px solid {theme.line}; }}
QFrame#notice {{ background: {theme.hover}; border-left: 3px solid {theme.soft}; border-radius: 4px; }}
QFrame#notice[tone="bad"] {{ background: {theme.error_background}; border-left-color: {theme.error}; }}
QFrame#notice[tone="good"] {{ border-left-color: {"#1fa37d" if theme.name == "dark" else "#20846f"}; }}
QListView {{ background: transparent; border: 0; outline: 0; }}
QScrollArea, QScrollArea > QWidget > QWidget {{ background: transparent; border: 0; }}
QScrollBar:vertical {{ background: transparent; width: 10px; margin: 2px; }}
QScrollBar::handle:vertical {{ background: {theme.wave}; border-radius: 3px; min-height: 28px; }}
QScrollBar::add-line, QScrollBar::sub-line {{ background: none; height: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: none; }}
QToolTip {{ background: {theme.ink}; color: {theme.background}; border: 0; padding: 7px 10px; }}
QPushButton {{
  background: {theme.surface}; color: {theme.ink}; border: 1px solid {theme.line}; border-radius: 15px;
  padding: 7px 15px; }}
QPushButton:hover {{ background: {theme.hover}; }}
QPushButton:focus, QComboBox:focus, QLineEdit:focus {{
  border: 2px solid {theme.ink}; padding: 6px 14px; }}
QPushButton:disabled, QComboBox:disabled {{ color: {theme.soft}; border-color: {theme.line}; }}
QPushButton:checked {{ background: {theme.ink}; color: {theme.background}; border-color: {theme.ink}; }}
QPushButton:default {{ border-color: {theme.soft}; }}
QPushButton#primary {{
  background: {theme.record}; border: 1px solid {theme.record}; color: {ink_on(theme.record)};
  font-weight: 600; border-radius: 23px; padding: 12px 24px 12px 18px; min-width: 76px; }}
QPushButton#primary:hover {{ border-color: {theme.ink}; }}
QPushButton#primary:focus {{ border: 2px solid {theme.ink}; padding: 11px 23px 11px 17px; }}
QPushButton#primary:disabled {{
  background: {theme.hover}; border-color: {theme.line}; color: {theme.soft}; }}
QPushButton#name {{
  text-align: left; border: 1px solid transparent; border-radius: 8px; padding: 4px 7px; font-weight: 560;
  background: transparent; }}
QPushButton#name:hover {{ background: {theme.hover}; }}
QPushButton#name:focus {{ border: 2px solid {theme.ink}; padding: 3px 6px; }}
QPushButton#plain {{
  border: 1px solid transparent; border-radius: 15px; padding: 0; background: transparent; }}
QPushButton#plain:hover {{ background: {theme.hover}; }}
QPushButton#plain:focus {{ border: 2px solid {theme.ink}; padding: 0; }}
QLineEdit, QComboBox {{
  background: {theme.surface}; color: {theme.ink}; border: 1px solid {theme.line}; border-radius: 8px;
  padding: 6px 10px; selection-background-color: {theme.ink}; selection-color: {theme.background}; }}
QComboBox {{ border-radius: 15px; padding: 7px 15px; }}
QComboBox::drop-down {{ border: 0; width: 26px; }}
QComboBox::down-arrow {{ image: url({FILES}/chevron.svg); width: 12px; height: 12px; }}
QMenu {{ background: {theme.surface}; color: {theme.ink}; border: 1px solid {theme.line}; padding: 6px; }}
QMenu::item {{ padding: 6px 26px 6px 22px; border-radius: 6px; }}
QMenu::item:selected {{ background: {theme.hover}; color: {theme.ink}; }}
QMenu::separator {{ height: 1px; background: {theme.line}; margin: 5px 8px; }}
QCheckBox {{ color: {theme.ink}; spacing: 8px; }}
QCheckBox::indicator {{
  width: 16px; height: 16px; border: 1px solid {theme.soft}; border-radius: 5px;
  background: {theme.surface}; }}
QCheckBox::indicator:checked {{ background: {theme.ink}; image: url({FILES}/check-{theme.name}.svg); }}
QCheckBox:focus {{ text-decoration: underline; }}
{ARROWS if theme.name == "dark" else ""}
QDialogButtonBox {{ dialogbuttonbox-buttons-have-icons: 0; }}
QMenu::item:disabled {{ color: {theme.soft}; background: transparent; }}
"""
