"""Stage 1: recordings to Parquet clips, in parallel with Ray Data.

`python -m orchestrator.preprocess --dataset NAME [key=value ...]`
"""

import sys

from orchestrator import cli


def main(argv: list[str] | None = None) -> int:
    call = cli.parse("preprocess", __doc__.splitlines()[0], argv)
    if call.dry_run:
        from orchestrator.stages import dry_run

        return dry_run.show(call.config, "preprocess")
    from orchestrator.cohort import cohort
    from orchestrator.runtime import ray_session
    from orchestrator.stages import make_clips

    with ray_session.session(call.config):
        make_clips.ensure(call.config, cohort.load(call.config), may_share=True)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
