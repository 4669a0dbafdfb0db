"""Who may open a page: tests of the role, and no page in any cache."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.cache import cache_control
from django.views.decorators.vary import vary_on_cookie

from gateway_project.core.roles import can_act, can_administer, can_see

View = Callable[..., HttpResponseBase]

private = cache_control(private=True, no_store=True)


def _allowed(test: Callable[[Any], bool], caching: Callable[[View], View] = private) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @login_required
        @caching
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not test(request.user):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return checked

    return decorate


seeing = _allowed(can_see)
seeing_pictures = _allowed(can_see, vary_on_cookie)  # which say themselves how long the browser may keep them
acting = _allowed(can_act)
administering = _allowed(can_administer)
