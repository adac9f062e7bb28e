"""Stage 3: apply the frozen video encoder to every clip, in parallel with Ray Data.

`python -m orchestrator.embed --dataset NAME [key=value ...]`
"""

import os
import sys

from orchestrator import cli


def main(argv: list[str] | None = None) -> int:
    call = cli.parse("embed", __doc__.splitlines()[0], argv)
    from orchestrator.config.configuration import with_protocol

    config = call.config if call.config.protocol.name != "both" else with_protocol(call.config, "clean")
    if call.dry_run:
        from orchestrator.stages import dry_run

        return dry_run.show(config, "embed")
    from orchestrator.plan import folds
    from orchestrator.runtime import progress, ray_session
    from orchestrator.stages import make_clips, make_encoders, make_tokens
    from orchestrator.stores import cross_dataset, origin

    with ray_session.session(config):
        people = cross_dataset.load(config)
        plan = folds.make_plan(config, people.people, origin.read(config, people))
        progress.say("embed", plan.text())
        clips = make_clips.ensure_clips(config, people)
        for own, part in plan.parts(config):
            make_tokens.ensure(own, people, clips, make_encoders.ensure(own, people, clips, part.groups))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(cli.run(main))
