"""Every page of the gateway, found in its URL configuration: whoever adds one need not add it here."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from gateway_project.core.models import Alert
from network.models import RemoteAE
from studies.models import Instance, QuarantinedObject, Series, SourceActivity, Study
from uploads.models import UploadJob, Vault

# What stands for an argument of an address: any row of that kind. By the beginning of the address's name.
SAMPLES = {
    "study": Study,
    "series": Series,
    "instance": Instance,
    "preview": Series,
    "vault": Vault,
    "upload": UploadJob,
    "quarantine": QuarantinedObject,
    "alert": Alert,
    "peer": RemoteAE,
    "source": SourceActivity,
}
NO_PAGES = ("admin", "api", "setup/")  # Django's own pages, programs' answers, and a page that exists once


@dataclass(frozen=True)
class Address:
    name: str
    path: str


def addresses() -> Iterator[Address]:
    """Every named address outside of admin and API, arguments filled from rows that exist; without rows, left out."""
    for name, arguments in sorted(_named(get_resolver().url_patterns, "")):
        values = {argument: _sample(name, argument) for argument in arguments}
        if all(values.values()):
            yield Address(name, reverse(name, kwargs=values))


def pages(client: Client) -> list[Address]:
    """Those that answer this client's GET with a whole page."""
    return [address for address in addresses() if _is_page(client, address.path)]


def _is_page(client: Client, path: str) -> bool:
    response = client.get(path)
    if response.status_code != 200 or not response["Content-Type"].startswith("text/html"):
        return False
    return b"<!doctype html" in response.content[:200]


def _named(patterns: list, prefix: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if route.startswith(NO_PAGES):
            continue
        if isinstance(pattern, URLResolver):
            yield from _named(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern) and pattern.name:
            yield pattern.name, tuple(pattern.pattern.converters)


def _sample(name: str, argument: str) -> object:
    """`pk` and the like are of the kind that the address's name begins with; `series_pk` says its kind itself."""
    kind = argument.removesuffix("_pk").removesuffix("_id")
    model = SAMPLES.get(kind) or SAMPLES.get(name.partition("-")[0])
    return model.objects.values_list("pk", flat=True).first() if model else None
