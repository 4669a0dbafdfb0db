"""One decorator says all of an operation: who may ask, what it takes, what it answers, and with which problems.

The permission, the checks of parameters and body, the answer and the OpenAPI document are all made from it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway_project.core.roles import ROLES
from gateway_project.wiring.api.access import RolePermission, TokenAuthentication
from gateway_project.wiring.api.fields import Answer, Asked, Nothing
from gateway_project.wiring.api.parsing import StrictJsonParser
from gateway_project.wiring.problems import PROBLEM_TYPE, Refused

UID = OpenApiParameter("uid", str, OpenApiParameter.PATH, description="Study Instance UID.", pattern=r"^[0-9.]{1,64}$")
NUMBER = OpenApiParameter("id", OpenApiTypes.INT64, OpenApiParameter.PATH, description="Its number in the gateway.")


class Problem(serializers.Serializer):
    """RFC 9457 problem details."""

    type = serializers.CharField(help_text="Where the code is explained, on the gateway itself: /help/codes/#CODE.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="Stable; for programs.")
    detail = serializers.CharField(allow_blank=True, help_text="What to do, for people; holds nothing of a patient.")
    correlation_id = serializers.CharField(help_text="Also in the header X-Correlation-ID, and in the log.")
    errors = serializers.DictField(  # type: ignore[assignment]
        required=False, help_text="With code `invalid`: for each field what is wrong."
    )


PROBLEMS = {
    400: "The request is not understood: `errors` names the fields.",
    401: "No token or session, or one that is not accepted.",
    403: "The role may not do this, or the session's CSRF token is missing.",
    404: "There is no such thing.",
    406: "Only application/json is spoken.",
    409: "Not possible as things are; `code` and `detail` say why. Nothing was changed.",
    411: "The body came in chunks.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    429: "Too many tokens were refused, or peers tried: wait, as long as Retry-After says where it stands.",
    503: "The database or the object store does not answer; try again.",
}
ALWAYS = (400, 401, 403, 406, 429, 503)


@dataclass(frozen=True)
class Contract:
    """What `operation` was told."""

    roles: frozenset[str]
    query: type[Asked]
    body: type[Asked] | None


def operation(
    summary: str,
    *,
    tag: str,
    roles: frozenset[str],
    answer: type[serializers.BaseSerializer] | OpenApiTypes,
    query: type[Asked] = Nothing,
    body: type[Asked] | None = None,
    path: Sequence[OpenApiParameter] = (),
    problems: Sequence[int] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For a handler method that gives what `answer` serializes, or a whole response."""

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        statuses = {*ALWAYS, *problems, *((404,) if path else ()), *((411, 413, 415) if body else ())}
        told = {(status, PROBLEM_TYPE): OpenApiResponse(Problem, PROBLEMS[status]) for status in sorted(statuses)}
        allowed = [role for role in ROLES if role in roles]

        @extend_schema(
            operation_id=_snake(handler.__qualname__.partition("View.")[0]),
            summary=summary,
            description=f"{(handler.__doc__ or '').strip()}\n\nRoles: {', '.join(allowed)}.".strip(),
            tags=[tag],
            parameters=[*path, *([query] if query is not Nothing else [])],
            request=body if body and body is not Nothing else None,
            responses={(200, "application/json"): OpenApiResponse(answer, "Done."), **told},
        )
        @wraps(handler)
        def handled(view: "ApiView", request: Request, **kwargs: Any) -> HttpResponseBase:
            result = handler(view, request, **kwargs)
            if isinstance(result, HttpResponseBase) or isinstance(answer, OpenApiTypes):
                return result
            return Response(answer(result).data)

        handled.contract = Contract(roles, query, body)  # type: ignore[attr-defined]
        return handled

    return decorate


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class ApiView(APIView):
    """Asks its handler's contract: role, parameters and body are judged before the handler runs. Never in a cache.

    `asked` is what the address said, `sent` what the body said: typed, complete with defaults, nothing undeclared.
    """

    authentication_classes = [TokenAuthentication, SessionAuthentication]
    permission_classes = [RolePermission]
    parser_classes = [StrictJsonParser]
    renderer_classes = [JSONRenderer]
    http_method_names = ["get", "head", "post"]
    asked: dict[str, Any]
    sent: dict[str, Any]

    def contract(self, method: str | None) -> Contract | None:
        handler = getattr(self, (method or "").lower(), None) if method in ("GET", "HEAD", "POST") else None
        return getattr(handler, "contract", None)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        contract = self.contract(request.method)
        if contract is None:
            return
        self.asked = _checked(contract.query, _once(request), address=True)
        if contract.body is not None:
            if "HTTP_TRANSFER_ENCODING" in request.META:  # Django would take such a body for an empty one
                raise Refused(411, "length-required", "Send the body with a Content-Length, not in chunks.")
            self.sent = _checked(contract.body, request.data, address=False)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        final["Cache-Control"] = "private, no-store"
        return final


def _checked(serializer_class: type[Asked], data: Any, *, address: bool) -> dict[str, Any]:
    serializer = serializer_class(data=data, context={"address": address})
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def _once(request: Request) -> dict[str, Any]:
    """The address's parameters; one that stands there several times is a list, which only some of them take."""
    return {name: found[0] if len(found) == 1 else found for name, found in request.query_params.lists()}


__all__ = ["NUMBER", "UID", "Answer", "ApiView", "Problem", "operation"]
