"""The project: settings, core, wiring."""

__version__ = "0.1.0"
