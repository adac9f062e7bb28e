"""Executors of the tests: what was done is kept, or a stage is done otherwise than the rest."""

from orchestrator.executors.inline import InlineExecutor
from orchestrator.executors.on_ray import RayExecutor


class Recording(InlineExecutor):
    """done: {stage: [what was done]}: subject indices, encoders, (encoder, subject index), folds."""

    def __init__(self, done: dict[str, list]):
        self.done = done

    def start(self, config):
        """The process is pytest's: its environment stays."""

    def each(self, config, worker, settings, items, **how):
        for item, row in zip(items, super().each(config, worker, settings, items, **how), strict=True):
            if not row["mistake"]:
                embeds = hasattr(item, "encoder")
                self.done["embed" if embeds else "preprocess"].append((item.encoder, item.subject) if embeds else item.subject)
            yield row

    def train(self, config, work, settings, workers, on_row, scratch):
        for job in settings["jobs"]:
            super().train(config, work, {**settings, "jobs": [job]}, workers, on_row, scratch)
            self.done["pretrain"].append(job["name"])

    def trials(self, config, names, work, scratch, share, on_done):
        def told(name, accuracy):
            self.done["loso"].append(name)
            on_done(name, accuracy)

        return super().trials(config, names, work, scratch, share, told)


class FoldsInline(RayExecutor):
    """Every stage on Ray, the folds in this process."""

    trials = InlineExecutor.trials


class Trials(RayExecutor):
    """run(names, share) -> failures stands for all trials; nothing is started. gpus: that it says there are."""

    def __init__(self, run, gpus=0):
        self.run, self.n_gpus = run, gpus

    def start(self, config):
        """Nothing."""

    def gpus(self):
        return self.n_gpus

    def trials(self, config, names, work, scratch, share, on_done):
        return self.run(list(names), share)
