"""`jupyter checkpoint`: what is saved, why kernels died, what is wrong, and the installer.

Parses arguments and prints; the work is `kernelspec`'s, `listing`'s, `doctor`'s and, for
`check` and `prune`, the store's, through `cli_store`; the looks are `cli_show`'s.
argparse, because it costs no dependency. Exit status: 0 fine, 1 findings or failure, 2 usage.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checkpoint_kernel.contract import KERNELSPEC_NAME
from checkpoint_kernel.manifest import ManifestError
from checkpoint_kernel.words import size

from . import cli_show, death_summary, doctor, installed, kernelspec, listing

FINE, FOUND, USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. A user's mistake is one line, never a traceback."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except (kernelspec.InstallError, listing.NotFound, ManifestError) as why:
        return _fail(str(why))
    except BrokenPipeError:
        # `... | head`: Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except OSError as why:
        return _fail(f"{why.filename or 'system error'}: {why.strerror or why}")
    except KeyboardInterrupt:
        return _fail("interrupted")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jupyter checkpoint",
        description="Checkpoints of Jupyter kernels: what is saved, and why a kernel died.",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_install(verbs)

    reading = argparse.ArgumentParser(add_help=False)
    reading.add_argument("--json", action="store_true", help="print JSON")
    reading.add_argument(
        "--store",
        type=Path,
        default=None,
        metavar="DIR",
        help="where the checkpoints are (default: under the Jupyter data directory, and where "
        "the `store` of an installed kernelspec says)",
    )

    def add(name: str, run: Any, text: str, notebook: bool = False) -> argparse.ArgumentParser:
        verb: argparse.ArgumentParser = verbs.add_parser(
            name, parents=[reading], help=text, description=text
        )
        verb.set_defaults(run=run)
        if notebook:
            verb.add_argument(
                "notebook", nargs="?", metavar="NOTEBOOK", help="path or name (default: all)"
            )
        return verb

    add("list", _list, "List notebooks and their checkpoints.", notebook=True)
    show = add("show", _show, "Show one checkpoint with every variable and what was skipped.")
    show.add_argument("id", metavar="ID", help="its ID, or the beginning of it")
    deaths = add(
        "deaths", _deaths, "List the deaths of kernels, and explain the last.", notebook=True
    )
    deaths.add_argument(
        "--summary", action="store_true", help="count them by cause, notebook and line instead"
    )
    stacks = add(
        "stacks", _stacks, "Show what running kernels are doing, without stopping them.", True
    )
    stacks.add_argument("--all", action="store_true", help="show the kernel's own threads too")
    stacks.add_argument(
        "--native",
        action="store_true",
        help="compiled code too, by gdb, elfutils or py-spy: the kernel is held for a moment",
    )
    env = add("env", _env, "Write what a session ran with, as a file that makes it again.")
    env.add_argument(
        "id", metavar="ID", help="of a session or a checkpoint, or its beginning; or a notebook"
    )
    env.add_argument(
        "--format",
        choices=("requirements.txt", "environment.yml"),
        default="requirements.txt",
        help="for pip, or for conda (default: %(default)s)",
    )
    add("doctor", _doctor, "Check what this machine offers and what is in the way.")
    add("check", _check, "Read every byte of the store and name what is damaged.", notebook=True)
    prune = add("prune", _prune, "Remove old checkpoints.", notebook=True)
    prune.add_argument(
        "--keep", type=_count, default=20, metavar="N", help="keep so many (default: 20)"
    )
    return parser


def _add_install(verbs: Any) -> None:
    text = "Install the kernelspec, so that frontends offer the kernel."
    verb = verbs.add_parser("install", help=text, description=text)
    verb.set_defaults(run=_install)
    scope = verb.add_mutually_exclusive_group()
    scope.add_argument("--user", action="store_true", help="for this user")
    scope.add_argument("--sys-prefix", action="store_true", help="for this environment")
    scope.add_argument("--prefix", metavar="P", help="under P/share/jupyter/kernels")
    verb.add_argument(
        "--name", default=KERNELSPEC_NAME, metavar="N", help="kernelspec (default: %(default)s)"
    )
    verb.add_argument(
        "--display-name", metavar="D", help='in the launcher (default: "Python X.Y (resilient)")'
    )
    verb.add_argument(
        "--memory-limit", metavar="8G", help="cap for the kernel and all its children"
    )
    verb.add_argument("--cpu-limit", type=float, metavar="1.5", help="cores for all of them")
    verb.add_argument("--pids-limit", type=int, metavar="500", help="processes and threads")
    verb.add_argument("--nice", type=int, metavar="5", help="niceness, 0 to 19")
    verb.add_argument(
        "--python", metavar="PATH", help="the kernel's Python (default: the one that runs this)"
    )


def _install(options: argparse.Namespace) -> int:
    scope: kernelspec.Scope | None = None
    if options.user:
        scope = "user"
    elif options.sys_prefix:
        scope = "sys-prefix"
    elif options.prefix is not None:
        scope = "prefix"
    done = kernelspec.install(
        kernelspec.Request(
            scope=scope,
            prefix=options.prefix,
            name=options.name,
            display_name=options.display_name,
            memory_limit=options.memory_limit,
            cpu_limit=options.cpu_limit,
            pids_limit=options.pids_limit,
            nice=options.nice,
            python=options.python,
        )
    )
    verb = "Replaced" if done.replaced else "Installed"
    print(f"{verb} {done.display_name!r} as kernelspec {done.name} in {done.directory}")
    for warning in done.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    return FINE


def _list(options: argparse.Namespace) -> int:
    roots = _roots(options)
    shelves = listing.shelves(roots, options.notebook)
    if options.json:
        _print_json([cli_show.shelf_json(shelf) for shelf in shelves])
    elif shelves:
        print("\n\n".join(cli_show.shelf_text(shelf) for shelf in shelves))
    else:
        print(f"No checkpoints yet under {listing.places(roots)}.")
    return FOUND if any(shelf.unusable for shelf in shelves) else FINE


def _show(options: argparse.Namespace) -> int:
    shelf, m = listing.checkpoint(_roots(options), options.id)
    if options.json:
        _print_json(cli_show.checkpoint_json(shelf, m))
    else:
        print(cli_show.checkpoint_text(shelf, m))
    return FINE


def _deaths(options: argparse.Namespace) -> int:
    roots = _roots(options)
    records, bad = listing.deaths(roots, options.notebook)
    for path, why in bad:
        print(f"{path} was passed over: {why}", file=sys.stderr)
    summary = death_summary.summarized(records) if options.summary else None
    if options.json:
        _print_json(records if summary is None else summary)
    elif records:
        print(cli_show.deaths_text(records) if summary is None else cli_show.summary_text(summary))
    else:
        print(f"No kernel has died, as far as {listing.places(roots)} can tell.")
    return FOUND if bad else FINE


def _stacks(options: argparse.Namespace) -> int:
    from . import cli_stacks

    roots = _roots(options)
    seen = cli_stacks.look(roots, options.notebook, options.native)
    if options.json:
        _print_json([cli_stacks.as_json(one) for one in seen])
    elif seen:
        print("\n\n".join(cli_stacks.as_text(one, options.all) for one in seen))
    else:
        of = f" for {options.notebook}" if options.notebook else ""
        print(f"No kernel is running{of}, as far as {listing.places(roots)} can tell.")
    return FINE if seen and not any(one.why_not for one in seen) else FOUND


def _env(options: argparse.Namespace) -> int:
    from . import cli_env

    environment = cli_env.find(_roots(options), options.id)
    if options.json:
        _print_json(dataclasses.asdict(environment))
    else:
        print(cli_env.FORMATS[options.format](environment), end="")
    return FINE


def _doctor(options: argparse.Namespace) -> int:
    found = doctor.examine(_roots(options))
    checks = [check for under_heading in found.values() for check in under_heading]
    if options.json:
        _print_json([dataclasses.asdict(check) for check in checks])
    else:
        print(doctor.as_text(found))
    return FOUND if any(check.level == "fail" for check in checks) else FINE


def _check(options: argparse.Namespace) -> int:
    from . import cli_store  # needs blake3; the other commands do not

    findings = cli_store.check(_roots(options), options.notebook)
    if options.json:
        _print_json(findings)
    else:
        print(cli_show.findings_text(findings) if findings else "The store is whole.")
    return FOUND if findings else FINE


def _prune(options: argparse.Namespace) -> int:
    from . import cli_store

    done = cli_store.prune(_roots(options), options.notebook, options.keep)
    if options.json:
        _print_json(done)
    for one in [] if options.json else done:
        removed, freed = len(one["removed"]), size(one["freed_bytes"])
        print(f"{one['notebook']}: checkpoints removed: {removed}, freed: {freed}")
        if one["kept_because"]:
            print(f"  {one['kept_because']}")
    return FOUND if any(one["kept_because"] and not one["in_use"] for one in done) else FINE


def _roots(options: argparse.Namespace) -> list[Path]:
    """Where to look: --store, or the default and what the installed kernelspecs configure."""
    given: Path | None = options.store
    if given is None:
        return list(dict.fromkeys([listing.default_root(), *installed.stores()]))
    root = given.expanduser().absolute()
    if not root.is_dir():
        raise listing.NotFound(f"--store {given}: there is no such directory")
    return [root]


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return number


def _fail(why: str) -> int:
    print(f"jupyter checkpoint: {why}", file=sys.stderr)
    return FOUND


if __name__ == "__main__":
    sys.exit(main())
