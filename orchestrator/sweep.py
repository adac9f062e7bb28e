"""ViT scale and mask ratio as a grid over the same stages, scored on inner validation subjects only.

`python -m orchestrator.sweep --dataset NAME sweep.encoder=[vit_tiny,vit_small] sweep.mask_ratio=[0.75,0.9]` pretrains
and embeds once per configuration, then fits every (configuration, fold) pair in one Tune grid. No clip of a test subject
is opened. With sweep.halves=true the choice is cross-fitted: each half of the subjects chooses the configuration for the
other half, and `loso sweep.read=DIR` reads the choices.
"""

import sys

from orchestrator import cli
from orchestrator.errors import EXIT_DONE, EXIT_FAILED_FOLDS


def main(argv: list[str] | None = None) -> int:
    call = cli.parse("sweep", __doc__.splitlines()[0], argv)
    from orchestrator.evaluation.sweep_points import write_table
    from orchestrator.runtime import progress, ray_session, surroundings
    from orchestrator.stages import run_sweep

    configs = run_sweep.grid(call.config, call.overrides)
    if call.dry_run:
        surroundings.require_and_warn(call.config, [run_sweep.sweep_dir(call.config)])
        return run_sweep.forecast(configs)
    with ray_session.session(call.config, [run_sweep.sweep_dir(call.config)]):
        result = run_sweep.run(call.config, configs)
    found = [{**result, **half} for half in result.get("halves", [{}])]
    for half in found:
        write_table(half, progress.console)
    return EXIT_FAILED_FOLDS if any(half["chosen"] is None for half in found) else EXIT_DONE


if __name__ == "__main__":
    sys.exit(cli.run(main))
