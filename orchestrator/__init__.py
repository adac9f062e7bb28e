"""The stages. With `python -m`, this file runs first: errors that occur before `cli.run` are reported here."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m orchestrator.STAGE`, whose imports take a second or two
    import os
    import signal

    def _interrupted(number: int, frame: object) -> None:
        os.write(2, b"interrupted: run the same command again to resume\n")
        os._exit(130)  # no work was started

    def _unfit(kind: type[BaseException], error: BaseException, trace: object) -> None:
        name = (getattr(error, "name", None) or "").partition(".")[0]
        if not isinstance(error, ImportError) or name in ("orchestrator", "models", "preprocessing"):
            sys.__excepthook__(kind, error, trace)  # type: ignore[arg-type]
            return
        text = " ".join(str(error).split())
        print(f"error: a package cannot be used in {sys.prefix} ({text}): install dualpain again (make install, or pip), "
              "or start the command with .venv/bin/python.", file=sys.stderr, flush=True)
        os._exit(2)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    sys.excepthook = _unfit
