"""manage.py optionlist: every option, its value and where that comes from."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from gateway_project.core.option_docs import options_markdown, value_text
from gateway_project.core.options import REGISTRY, OptionState


class Command(BaseCommand):
    """Prints tab separated: key, value ("set" or "not set" for a secret), source, restart, fault. Changes nothing."""

    help = "Shows every option: key, current value, where it comes from, whether a change needs a restart."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--markdown", action="store_true", help="print the page of settings instead, without values"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["markdown"]:
            self.stdout.write(options_markdown(), ending="")
            return
        for option in REGISTRY.all():
            self.stdout.write(_line(REGISTRY.state(option.key)))


def _line(state: OptionState) -> str:
    value = state.shown if state.option.secret else value_text(state.option, state.shown)
    restart = "restart" if state.option.restart else "-"
    return "\t".join(
        [state.option.key, value.replace("\t", " ").replace("\n", " "), state.source.value, restart, state.fault]
    )
