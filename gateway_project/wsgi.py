"""The web's entry for gunicorn."""

import os

from django.core.wsgi import get_wsgi_application

from gateway_project.core.lean import numpy_leave_out
from gateway_project.core.logs import install_hooks

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
numpy_leave_out()
install_hooks()
application = get_wsgi_application()

from gateway_project.core.options import boot_values_freeze  # noqa: E402 - the options exist once Django is up
from gateway_project.core.schema import schema_check  # noqa: E402

schema_check()
boot_values_freeze()
