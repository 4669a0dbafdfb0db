"""The OpenAPI document, and two ways to read it in a browser: Swagger UI and Redoc, both served from here alone."""

import functools
from typing import Any

from csp.constants import SELF
from csp.decorators import csp_update
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.views.decorators.http import require_GET
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer2
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from gateway_project.wiring.api.access import PROGRAMS_SEEING
from gateway_project.wiring.api.contract import ApiView, operation
from gateway_project.wiring.api.fields import Answer
from gateway_project.wiring.pages.access import seeing

PREFIX = "/api/"


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = "gateway_project.wiring.api.access.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        words = "A token of manage.py tokencreate."
        return {"type": "http", "scheme": "bearer", "description": words}


def only_api(endpoints: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """For the generator: what stands below /api/, and nothing else of the gateway."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith(PREFIX)]


def bodies_closed(result: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
    """For the generator: a body takes what is declared and nothing else."""
    for name, component in result["components"]["schemas"].items():
        if name.endswith("Body"):
            component["additionalProperties"] = False
    return result


@functools.cache
def schema_document() -> dict[str, Any]:
    """Made once: it depends on the code alone."""
    document: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return document


class SchemaView(ApiView):
    @extend_schema(exclude=True)
    @operation("This document", tag="System", roles=PROGRAMS_SEEING, answer=Answer)
    def get(self, request: Request) -> HttpResponse:
        text = OpenApiJsonRenderer2().render(schema_document(), renderer_context={})
        return HttpResponse(text, content_type="application/vnd.oai.openapi+json")


# Redoc draws itself with style elements: empty ones that it fills through the object model, and one sheet of fixed text
# (of this version of it). By their hashes they are allowed, and nothing else is. Swagger UI needs nothing.
REDOC_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='",
)


@seeing
@require_GET
def swagger(request: HttpRequest) -> HttpResponse:
    return render(request, "api/swagger.html", {"csrf": get_token(request)})


@csp_update({"style-src": [SELF, *REDOC_STYLES]})  # type: ignore[untyped-decorator]
@seeing
@require_GET
def redoc(request: HttpRequest) -> HttpResponse:
    return render(request, "api/redoc.html")
