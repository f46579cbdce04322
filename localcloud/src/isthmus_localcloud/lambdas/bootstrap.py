"""First program of a function's process: order the search path as AWS does, then hand over to awslambdaric.

Runs without ``site``, so that nothing of the host's Python reaches a function, on any supported interpreter.
The runtime's own packages come last: what a function or a layer brings wins.
"""

import os
import site
import sys


def search_path(entries: list[str]) -> list[str]:
    """Code, layers, standard library, runtime. Source: Lambda developer guide, "Search path"."""
    task, opt = os.environ["LAMBDA_TASK_ROOT"], os.environ.pop("ISTHMUS_LOCALCLOUD_OPT", "/opt")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    runtime = os.environ["LAMBDA_RUNTIME_DIR"]
    first = [task, f"{opt}/python/lib/{version}/site-packages", f"{opt}/python"]
    foreign = ("site-packages", "dist-packages")
    standard = [e for e in entries if e and e != runtime and e not in first and not e.endswith(foreign)]
    # An interpreter that the user named brings its own runtime packages: ours are built for another version.
    own = (
        [e for e in entries if e.endswith(foreign)]
        if os.environ.pop("ISTHMUS_LOCALCLOUD_FOREIGN", "")
        else []
    )
    return [*first, *standard, runtime, *own]


def main() -> None:
    site.setquit()
    site.setcopyright()
    site.sethelper()
    sys.path[:] = search_path(sys.path)
    from awslambdaric.__main__ import main as serve

    serve([sys.argv[0], os.environ["_HANDLER"]])


if __name__ == "__main__":
    main()
