"""Fuzzing: what strange bytes are read by, one target after the other.

    python -m tests.fuzz [TARGET ...] [--seconds 600] [--seed 1] [--replay FILE]

With atheris it is led by coverage, and what it learns stays in build/fuzz/corpus-TARGET; without, the small runner
mutates by chance. The seconds are shared out evenly. An input that breaks a promise is kept in build/fuzz/, its path
printed, and the command fails; --replay tries it again.
"""

import argparse
import hashlib
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.mutations import mutations, run
from tests.fuzz.promises import TARGETS
from tests.fuzz.seeds import SEED_BYTES, SEEDS

FOLDER = Path("build/fuzz")
ONE_INPUT_SECONDS = 20


def name_of(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def by_coverage(target: str, seconds: int, seed: int) -> bool:
    corpus = FOLDER / f"corpus-{target}"
    corpus.mkdir(parents=True, exist_ok=True)
    for data in SEEDS[target]():
        (corpus / name_of(data)).write_bytes(data)
    options = {
        "max_total_time": seconds,
        "max_len": SEED_BYTES,
        "timeout": ONE_INPUT_SECONDS,
        "seed": seed,
        "artifact_prefix": f"{FOLDER}/{target}-",
        "print_final_stats": 1,
        "verbosity": 1,
    }
    words = [f"-{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "tests.fuzz.guided", target, str(corpus), *words]
    return subprocess.run(command, check=False).returncode == 0


def by_chance(target: str, seconds: int, seed: int) -> bool:
    def failed(data: bytes) -> None:
        path = FOLDER / f"{target}-crash-{name_of(data)}"
        path.write_bytes(data)
        print(f"failing input: {path}", file=sys.stderr)

    FOLDER.mkdir(parents=True, exist_ok=True)
    tried = run(TARGETS[target], mutations(SEEDS[target](), seed=seed), failed=failed, seconds=seconds)
    print(f"{target}: {tried} inputs, none failed")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--replay", type=Path)
    asked = parser.parse_args()
    targets = asked.targets or list(TARGETS)
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if asked.replay:
        TARGETS[targets[0]](asked.replay.read_bytes())
        return
    fuzz = by_coverage if importlib.util.find_spec("atheris") else by_chance
    print(f"{', '.join(targets)}: {fuzz.__name__.replace('_', ' ')}, seed {asked.seed}", flush=True)
    held = {target: fuzz(target, max(1, asked.seconds // len(targets)), asked.seed) for target in targets}
    sys.exit(f"promises broken: {[name for name, one in held.items() if not one]}" if not all(held.values()) else 0)


if __name__ == "__main__":
    main()
