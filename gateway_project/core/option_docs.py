"""The page of settings, made from the declarations, so that it cannot say anything else."""

import json
from itertools import groupby
from typing import Any

from gateway_project.core.options import REGISTRY, Kind, Option, OptionRegistry

PRECEDENCE = """The environment variable wins and locks its option; then comes what was set in the gateway; then the
default. Every process sees a change within two seconds, except where a restart is noted.
"""
KIND_WORDS = {
    Kind.INT: "whole number",
    Kind.FLOAT: "number",
    Kind.BOOL: "true or false",
    Kind.STR: "text",
    Kind.LIST: "list of texts, comma separated",
    Kind.JSON: "JSON",
}


def options_markdown(registry: OptionRegistry = REGISTRY) -> str:
    """Every declared option in one table a section, sorted; the same for every machine (no current values)."""
    parts = [
        "# Settings\n",
        "Made by `manage.py optionlist --markdown` from the options in the code; do not edit.\n",
        PRECEDENCE,
    ]
    for section, options in groupby(registry.all(), key=lambda option: option.key.partition(".")[0]):
        parts.append(f"## {section}\n")
        parts.append("| option | environment | type | default | restart | meaning |\n|---|---|---|---|---|---|")
        parts.extend(_row(option) for option in options)
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def value_text(option: Option, value: Any) -> str:
    """A value as an operator would write it into the environment."""
    if option.kind is Kind.BOOL:
        return "true" if value else "false"
    if option.kind is Kind.LIST:
        return ",".join(value)
    if option.kind is Kind.FLOAT and float(value).is_integer():
        return str(int(value))
    return json.dumps(value) if option.kind is Kind.JSON else str(value)


def _row(option: Option) -> str:
    default = "not set" if option.secret else _code(value_text(option, option.default)) or "empty"
    cells = [
        _code(option.key),
        _code(option.environment_name),
        _type_words(option),
        default,
        "yes" if option.restart else "",
        option.help,
    ]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _type_words(option: Option) -> str:
    words = "secret" if option.secret else KIND_WORDS[option.kind]
    if option.choices:
        words += ": " + ", ".join(option.choices)
    bounds = [f"from {option.minimum:.12g}" if option.minimum is not None else ""]
    bounds.append(f"to {option.maximum:.12g}" if option.maximum is not None else "")
    return " ".join([words, *filter(None, bounds)])
