"""Serializers as the API speaks: camelCase outside, our names inside; nothing taken that is not declared."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.core.validators import RegexValidator
from django.db import models
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

KEY_SHOWN = re.compile(r"[A-Za-z0-9_-]{1,64}")
RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", re.IGNORECASE
)
WITHOUT_NUL = r"^[^\u0000]*$"
CURSOR = r"^[A-Za-z0-9_-]{1,200}$"


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


class _Camel(serializers.Serializer):
    def get_fields(self) -> dict[str, Any]:
        fields = {}
        for name, field in super().get_fields().items():
            outside = camel(name)
            if outside != name and field.source is None:
                field.source = name
            fields[outside] = field
        return fields


class Answer(_Camel):
    # What an operation answers; made from rows, dataclasses or dicts. A docstring would be every answer's in OpenAPI.
    pass


class Moment(serializers.DateTimeField):
    """RFC 3339; given in UTC whatever the machine's time zone, and taken with any offset."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("default_timezone", UTC)
        super().__init__(**kwargs)


class Since(Moment):
    """A moment with its offset, strictly as RFC 3339 5.6 has it; a leap second counts with the one before it."""

    def to_internal_value(self, value: Any) -> datetime:
        if not (isinstance(value, str) and RFC3339.fullmatch(value)):
            self.fail("invalid", format="RFC 3339, with an offset")
        year = int(value[:4])
        try:
            return super().to_internal_value(re.sub(r"(:\d\d):60", r"\1:59", value.upper()))
        except serializers.ValidationError as error:
            if error.get_codes() != ["overflow"]:
                raise
            return datetime.min.replace(tzinfo=UTC) if year == 1 else datetime.max.replace(tzinfo=UTC)


class Day(serializers.DateField):
    """2026-11-25, and nothing that only resembles it."""

    def to_internal_value(self, value: Any) -> Any:
        if not (isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value)):
            self.fail("invalid", format="YYYY-MM-DD")
        return super().to_internal_value(value)


@extend_schema_field({"type": "string", "pattern": r"^\d\d:\d\d:\d\d(\.\d+)?$"})
class DeviceTime(serializers.TimeField):
    """As the device wrote it, whose time zone nobody knows."""


class RowAnswer(_Camel, serializers.ModelSerializer):
    # The same from the fields of a model that `Meta.fields` names, and no others.
    serializer_field_mapping = serializers.ModelSerializer.serializer_field_mapping | {
        models.DateTimeField: Moment,
        models.TimeField: DeviceTime,
    }

    def get_extra_kwargs(self) -> dict[str, dict[str, Any]]:
        return {name: {"read_only": True} for name in self.Meta.fields}  # type: ignore[attr-defined]


class Asked(_Camel):
    # What a request may say, in its address or its body: an undeclared name is refused, not passed over (400).

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = sorted(str(key) for key in data if key not in self.fields)
            if unknown:
                shown = [key if KEY_SHOWN.fullmatch(key) else "?" for key in unknown[:10]]
                raise serializers.ValidationError({key: ["unknown"] for key in shown}, code="unknown")
        return super().to_internal_value(data)


class Nothing(Asked):
    """No parameter, or an empty body."""


class Whole(serializers.IntegerField):
    """A whole number: in an address its digits, in a body a number (5.0 is 5 in JSON) and nothing like one."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, float) and data.is_integer():
            data = int(data)
        digits = isinstance(data, str) and self.context.get("address") and re.fullmatch(r"-?[0-9]{1,18}", data)
        if not (digits or (isinstance(data, int) and not isinstance(data, bool))):
            self.fail("invalid")
        return super().to_internal_value(data)


def bounded(default: int, most: int, **kwargs: Any) -> Whole:
    """From 1 to `most`."""
    return Whole(required=False, default=default, min_value=1, max_value=most, **kwargs)


class Text(serializers.CharField):
    """A text, empty unless given; a body's number or truth value is none. NUL is in no text, and the schema says so."""

    def __init__(self, **kwargs: Any) -> None:
        defaults: dict[str, Any] = {"required": False, "default": "", "allow_blank": True}
        super().__init__(**defaults | kwargs)
        self.validators.append(RegexValidator(WITHOUT_NUL))

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Truth(serializers.BooleanField):
    """true or false, and no other word for it."""

    def to_internal_value(self, data: Any) -> Any:
        words = {"true": True, "false": False} if self.context.get("address") else {}
        if isinstance(data, bool):
            return data
        if isinstance(data, str) and data in words:
            return words[data]
        return self.fail("invalid", input=data)


class Choices(serializers.MultipleChoiceField):
    """One or more of the choices: a list in a body, in an address the parameter as often as needed."""

    def to_internal_value(self, data: Any) -> Any:
        chosen = [data] if self.context.get("address") and isinstance(data, str) else data
        if not (isinstance(chosen, list) and all(isinstance(each, str) for each in chosen)):
            self.fail("not_a_list", input_type=type(data).__name__)
        return sorted(super().to_internal_value(chosen))  # type: ignore[arg-type]


class Cursor(serializers.RegexField):
    """Where the next page begins: what an answer gave as `next`."""

    def __init__(self, **kwargs: Any) -> None:
        words = "The `next` of the page before; the other filters stay as they were."
        defaults: dict[str, Any] = {"required": False, "help_text": words}
        super().__init__(CURSOR, **defaults | kwargs)


@extend_schema_field({"type": "array", "items": {"type": "string"}})
class Parts(serializers.Field):
    """A text of several values, as DICOM writes them, apart."""

    def __init__(self, *, separator: str = "\\", **kwargs: Any) -> None:
        self.separator = separator
        super().__init__(read_only=True, **kwargs)

    def to_representation(self, value: str) -> list[str]:
        return [part for part in value.split(self.separator) if part]
