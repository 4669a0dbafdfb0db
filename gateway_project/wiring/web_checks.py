"""wiring.W001: behind TLS of a proxy that is not declared, every request looks plain, and is sent round in a circle."""

from typing import Any

from django.conf import settings
from django.core import checks


@checks.register(checks.Tags.security, deploy=True)
def proxies_check(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    if not settings.WEB_HTTPS or settings.WEB_TRUSTED_PROXIES:
        return []
    return [
        checks.Warning(
            "GATEWAY_WEB__HTTPS is on, but no proxy is trusted: every request looks plain and is sent to https again.",
            hint="Set GATEWAY_WEB__TRUSTED_PROXIES to the proxy's address, and let it set X-Forwarded-Proto and -For.",
            id="wiring.W001",
        )
    ]
