"""The failure explainer: every error code with its words, likely cause and next step, in one catalogue.

`catalogue.explanation(code)` is what pages ask; docs/errors.md is made from it (`manage.py errorlist --markdown`).
"""
