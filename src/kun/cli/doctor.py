"""`kun doctor`: what this machine has, and what Kun makes of it."""

import os
import platform
import shutil
import socket
import sys

from kun import api
from kun.cli import output
from kun.version import __version__


def doctor(as_json: bool = output.JSON_OPTION) -> None:
    """Say what this machine has, and what Kun makes of it.

    \b
    Example:
      kun doctor
    """
    findings = {
        "Kun": f"{__version__}, Python {platform.python_version()} in {sys.prefix}",
        "machine": _machine(),
        "torch": _torch(),
        "compiled kernels": _kernels(),
        "KUN_HOME": _home(),
        "models": ", ".join(row["name"] for row in api.models() if row["here"]) or "none yet: kun quickstart",
        "default model": "{0.name} ({0.reason})".format(api.chosen_model()),
        "knowledge bases": ", ".join(api.knowledge_bases()) or "none yet: kun kb create NAME",
        "Hugging Face hub": _reachable("huggingface.co"),
    }
    if as_json:
        output.print_json(findings)
    else:
        output.print_table(("what", "finding"), list(findings.items()))


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {output.size(memory)} of memory"
    )


def _torch() -> str:
    import torch

    gpu = f"CUDA: {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no GPU"
    return f"{torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, {gpu}"


def _kernels() -> str:
    from kun.adaptation.native import report

    return report()


def _home() -> str:
    from kun.settings import settings

    home = settings().home
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    writable = (
        "writable" if os.access(existing, os.W_OK) else "NOT writable: set KUN_HOME to a folder of yours"
    )
    return f"{home}, {writable}, {output.size(shutil.disk_usage(existing).free)} free"


def _reachable(host: str) -> str:
    from kun.settings import settings

    if settings().offline:
        return "not asked: KUN_OFFLINE is set"
    try:
        with socket.create_connection((host, 443), timeout=2):
            return "reachable"
    except OSError as error:
        return f"not reachable ({error}): kun pull takes the catalog's models from the package index instead"
