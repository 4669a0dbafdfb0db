"""One target under atheris: libFuzzer, led by the coverage of the modules under test.

    python -m tests.fuzz.guided scan build/fuzz/corpus-scan [libFuzzer's own options]

`python -m tests.fuzz` starts it. What it imports first is instrumented, so nothing of ours is imported above.
"""

import sys

import atheris

with atheris.instrument_imports(include=["studies.dicom", "network.dimse.command", "network.dimse.guards"]):
    from tests.fuzz.promises import TARGETS

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
