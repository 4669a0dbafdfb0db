"""The embedded supervisor: its configuration, and a parent that lets nothing outlive a stop."""

import configparser
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from shlex import quote

from django.conf import settings
from django.utils.timezone import now

from gateway_project.core.options import option
from gateway_project.core.processes import descendants_kill, die_with_parent, orphans_adopt
from gateway_project.wiring.demonstration import Demonstration
from network.selectors import control_path

STOP_SECONDS = 28.0
PROGRAM_STOP_SECONDS = 25


def supervisor_config(places: Demonstration | None) -> str:
    """The configuration for supervisord: one group that stops together, then the demonstration vault."""
    python = quote(sys.executable)
    manage = f"{python} {quote(str(settings.BASE_DIR / 'manage.py'))}"
    programs = {
        "web": f"{python} -m gunicorn gateway_project.wsgi:application --bind {web_address()} "
        "-k gateway_project.web_worker.GuardedWorker -w 2 --threads 16 --limit-request-fields 60 "
        "--no-control-socket --max-requests 5000 --max-requests-jitter 500 --graceful-timeout 15 --log-level warning "
        f"--worker-tmp-dir {quote(str(settings.DATA_DIR / 'run'))} --limit-request-line 4094 --forwarded-allow-ips=",
        "listeners": f"{manage} runlisteners",
        "workers": f"{manage} runworkers",
    }
    parser = configparser.RawConfigParser()
    parser["supervisord"] = {
        "nodaemon": "true",
        "umask": "077",
        "directory": str(settings.BASE_DIR),
        "pidfile": str(settings.DATA_DIR / "run" / "supervisord.pid"),
        "logfile": supervisor_log(),
        "logfile_maxbytes": "5MB",
        "logfile_backups": "2",
        "loglevel": "info",
        "silent": "true",
    }
    for name, command in programs.items():
        parser[f"program:{name}"] = _program(command)
    parser["group:gateway"] = {"programs": ",".join(programs), "priority": "20"}
    if places is not None:
        vault = (
            f"{python} -m uploads.vault serve --directory {quote(str(places.vault))} "
            f"--vault-id {places.vault_id} --demonstration --host 127.0.0.1 --port {places.port}"
        )
        parser["program:vault"] = _program(vault) | {"priority": "10"}
    lines: list[str] = []
    for section in parser.sections():
        lines += [f"[{section}]", *(f"{key}={_escaped(value)}" for key, value in parser[section].items()), ""]
    return "\n".join(lines)


def supervisor_log() -> str:
    """supervisord's own log; nowhere, when it cannot be written: supervisord would not start, and nothing with it."""
    path = settings.DATA_DIR / "logs" / "supervisord.log"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError:
        return os.devnull
    return str(path)


def _program(command: str) -> dict[str, str]:
    """As measured with django-q2: the signal goes to the main process alone, what remains is killed as a group."""
    return {
        "command": command,
        "autorestart": "true",
        "startsecs": "2",
        "startretries": "1000000",
        "stopsignal": "TERM",
        "stopasgroup": "false",
        "killasgroup": "true",
        "stopwaitsecs": str(PROGRAM_STOP_SECONDS),
        "stdout_logfile": "/dev/stdout",
        "stdout_logfile_maxbytes": "0",
        "redirect_stderr": "true",
    }


def _escaped(value: str) -> str:
    return value.replace("%", "%%")


def web_address() -> str:
    host = str(option("WEB.HOST"))
    return f"[{host}]:{option('WEB.PORT')}" if ":" in host else f"{host}:{option('WEB.PORT')}"


def supervise(places: Demonstration | None) -> int:
    """Runs supervisord until SIGINT, SIGTERM or SIGHUP; on return no process that was started is left.

    Answers 0 after a requested stop, otherwise supervisord's code. All is over in under 30 s.
    """
    configuration = settings.DATA_DIR / "run" / "supervisord.conf"
    configuration.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration.write_text(supervisor_config(places))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold patients and keys; children inherit it
    orphans_adopt()
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: asked.append(got))
    parent_pid = os.getpid()
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env=_environment(),
        # Should this process be killed, supervisord stops everything in order by itself.
        preexec_fn=lambda: die_with_parent(parent_pid, number=signal.SIGTERM),  # noqa: PLW1509 - one thread
    )
    while not asked and process.poll() is None:
        time.sleep(0.1)
    requested = bool(asked)
    if requested:
        process.terminate()
        _wait(process, STOP_SECONDS)
    descendants_kill()
    process.wait()
    _remove(configuration, settings.DATA_DIR / "run" / "supervisord.pid", control_path())
    return 0 if requested else process.returncode or 1


def _environment() -> dict[str, str]:
    """Ours, and where our code is: whoever starts the gateway may stand in any directory."""
    code = os.pathsep.join(filter(None, (str(settings.BASE_DIR), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": code, "PYTHONUNBUFFERED": "1", "GATEWAY_STARTED_AT": now().isoformat()}


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    give_up_at = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < give_up_at:
        time.sleep(0.05)


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
