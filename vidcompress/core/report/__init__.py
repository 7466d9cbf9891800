"""Reports of compression: of a call, of each image and video in it, and of each view."""

from __future__ import annotations

from vidcompress.core.report.report import Report
from vidcompress.core.report.visual import Allotment, ViewReport, VisualReport, budget_note

__all__ = ["Allotment", "Report", "ViewReport", "VisualReport", "budget_note"]
