"""core.W001: an environment variable of our form that no option reads is a typing error that would pass in silence."""

from typing import Any

from django.core import checks

from gateway_project.core.options import REGISTRY


@checks.register()
def environment_names_check(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """One warning for each such variable, with the name probably meant; its value is not shown."""
    return [
        checks.Warning(
            f"The environment variable {name} matches no option and has no effect.",
            hint=f"Did you mean {near}?" if near else "manage.py optionlist shows every option.",
            id="core.W001",
        )
        for name, near in REGISTRY.environment_strays().items()
    ]
