"""The OpenAPI document, and two ways to read it in a browser: Swagger UI and Redoc, both served from here alone."""

import functools
from typing import Any

from csp.constants import SELF, UNSAFE_INLINE
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


# Both draw themselves with style elements and attributes; scripts stay ours and the sidecar's files alone.
_styled = csp_update({"style-src": [SELF, UNSAFE_INLINE]})


@_styled
@seeing
@require_GET
def swagger(request: HttpRequest) -> HttpResponse:
    return render(request, "api/swagger.html", {"csrf": get_token(request)})


@_styled
@seeing
@require_GET
def redoc(request: HttpRequest) -> HttpResponse:
    return render(request, "api/redoc.html")
