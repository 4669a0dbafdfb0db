"""The table of docs/metrics.md."""

from typing import Any

from django.core.management.base import BaseCommand

from gateway_project.wiring.metrics.catalog import metrics_markdown


class Command(BaseCommand):
    help = "Print every metric that /metrics exports, as a Markdown table."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(metrics_markdown(), ending="")
