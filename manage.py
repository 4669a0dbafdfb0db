#!/usr/bin/env python
"""Django's command line, with the gateway's settings."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    from gateway_project.core.lean import numpy_leave_out

    numpy_leave_out()
    from django.core.management import execute_from_command_line

    from gateway_project.core.logs import install_hooks

    install_hooks()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
