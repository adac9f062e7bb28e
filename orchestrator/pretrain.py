"""Stage 2: masked auto-encoders on declared groups of subjects, data-parallel with Ray Train.

`python -m orchestrator.pretrain --dataset NAME [key=value ...]`
"""

import sys

from orchestrator import cli


def main(argv: list[str] | None = None) -> int:
    call = cli.parse("pretrain", __doc__.splitlines()[0], argv)
    from orchestrator.config.configuration import with_protocol

    config = call.config if call.config.protocol.name != "both" else with_protocol(call.config, "clean")
    if call.dry_run:
        from orchestrator.stages import dry_run

        return dry_run.show(config, "pretrain")
    from orchestrator.plan import folds
    from orchestrator.runtime import progress, ray_session
    from orchestrator.stages import make_clips, make_encoders
    from orchestrator.stores import cross_dataset, origin

    with ray_session.session(config):
        people = cross_dataset.load(config)
        plan = folds.make_plan(config, people.people, origin.read(config, people))
        progress.say("pretrain", plan.text())
        clips = make_clips.ensure_clips(config, people)
        for own, part in plan.parts(config):
            make_encoders.ensure(own, people, clips, part.groups)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
