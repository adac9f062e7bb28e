"""Checks this machine and the data root, reports problems with their fixes, and estimates time and disk of a run.

`python -m orchestrator.doctor --dataset NAME [key=value ...]` writes nothing. Exit code 0: a run can start; 2: the
last line says what would stop it.
`python -m orchestrator.doctor --fetch` installs the data files that a plain installation does not contain.
"""

import sys

from orchestrator import cli


def main(argv: list[str] | None = None) -> int:
    def fetch() -> int:
        from orchestrator.stages import fetch

        return fetch.fetch()

    call = cli.parse("doctor", __doc__.splitlines()[0], argv, instead={
        "--fetch": ("install the face models and the watch data if they are missing, then exit", fetch)})
    from rich.console import Console

    from orchestrator.config.model_inputs import reads_video
    from orchestrator.estimate import costs, data_fingerprint, finished, machine, timed_steps
    from orchestrator.estimate.machine import Finding
    from orchestrator.stages import check
    from preprocessing.datasets.registry import find

    config, console = call.config, Console(highlight=False)
    people, problem = check.read(config)
    data = data_fingerprint.take(config, people) if people else None
    video = data.with_video > 0 if data else find(config.dataset).films
    findings = machine.check(config, video and reads_video(config), bool(data and data.planned))
    console.print(check.table("This machine", findings), "")
    if people and data:
        for block in check.describe(config, data):
            console.print(block, "")
        wrong = check.registered(config) + check.judge(config, data, problem)
        wrong += check.duplicate_recordings(people, data, reads_video(config))
        plans, bad = check.plan(config, people)
        wrong += bad + check.classes_left(config, people, data, plans)
        if plans:
            speed = timed_steps.with_timed_step(costs.measured(config), config, data)
            found = check.already_finished(config, people, plans)
            prices = costs.forecast(config, data, plans, speed)
            left = costs.forecast(config, data, plans, speed, found) if found != finished.NOTHING else None
            console.print(check.cost_table(prices, left, speed), "")
            wrong += check.disk_space(config, left or prices)
        wrong += check.unfinished(config)
        console.print(check.table("The data and the plan", wrong))
        findings += wrong
    else:
        findings.append(Finding.stop("Data", problem))
    return check.verdict(console, findings)


if __name__ == "__main__":
    sys.exit(cli.run(main))
