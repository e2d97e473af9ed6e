"""Paints a state as a coloured mark, and progress as a bar behind the words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from PyQt6.QtCore import QRectF, Qt
from PyQt6.QtGui import QColor, QPainter
from PyQt6.QtWidgets import QStyledItemDelegate, QStyleOptionViewItem

from pyqt_reactive._tree_model import Role

if TYPE_CHECKING:
    from PyQt6.QtCore import QModelIndex

__all__ = ["STATE_COLOURS", "StatusDelegate"]

# Okabe & Ito's colours, told apart with every common colour vision; words always stand beside them.
STATE_COLOURS: Final = {
    "failed": "#d55e00",
    "lost": "#cc79a7",
    "cancelled": "#999999",
    "running": "#0072b2",
    "queued": "#bbbbbb",
    "reused": "#56b4e9",
    "ok": "#009e73",
}
_MARK_PX = 10
_GAP_PX = 6


class StatusDelegate(QStyledItemDelegate):
    """Paints `Role.STATE` and `Role.FRACTION` of a row; rows without them look as usual."""

    def paint(
        self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        if painter is None:
            return
        state, fraction = index.data(Role.STATE), index.data(Role.FRACTION)
        if fraction is not None:
            self._paint_bar(painter, option, float(fraction), state)
        inner = QStyleOptionViewItem(option)
        if state is not None:
            self._paint_mark(painter, option, state)
            inner.rect = option.rect.adjusted(_MARK_PX + 2 * _GAP_PX, 0, 0, 0)
        super().paint(painter, inner, index)

    @staticmethod
    def _paint_bar(
        painter: QPainter, option: QStyleOptionViewItem, fraction: float, state: str | None
    ) -> None:
        bar = QRectF(option.rect).adjusted(1, 2, -1, -2)
        bar.setWidth(bar.width() * min(max(fraction, 0.0), 1.0))
        colour = QColor(STATE_COLOURS.get(state or "running", "#0072b2"))
        colour.setAlphaF(0.25)
        painter.fillRect(bar, colour)

    @staticmethod
    def _paint_mark(painter: QPainter, option: QStyleOptionViewItem, state: str) -> None:
        area = QRectF(option.rect)
        mark = QRectF(area.left() + _GAP_PX, area.center().y() - _MARK_PX / 2, _MARK_PX, _MARK_PX)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(STATE_COLOURS.get(state, "#999999")))
        painter.drawEllipse(mark)
        painter.restore()
