"""`Run`: what happened in a training."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import keras
import numpy as np

from clr.averaging import AveragedWeights
from clr.files import read_json, write_json
from clr.training import machine
from clr.training.bounds import FoundBounds
from clr.training.experiment import Experiment, is_auto


@dataclass
class Run:
    """What happened in a training, as plain values that JSON can hold.

    Attributes:
        experiment: What was trained, with `"auto"` where a range test was asked for.
        history: Per epoch: `loss`, `accuracy`, `val_loss`, `val_accuracy` (on the test images, as
            the tutorial does) and `learning_rate` of the epoch's last iteration.
        iterations_per_epoch: Updates in an epoch. With `experiment` it gives every rate: `rates`.
        classes: The classes' names.
        report: scikit-learn's classification report on the test images.
        confusion: Counts of test images by true (row) and predicted class (column).
        parameters: Number of the network's weights.
        examples: Number of training and of test images.
        seconds: Wall time of training, validation included (`"train"`), and of the final evaluation
            (`"evaluate"`). If they were evaluated: that of the average, with its batch
            normalisation's statistics (`"average"`), and of the ensemble (`"ensemble"`).
        data: Where the images came from.
        hardware: Processor, cores and accelerators.
        versions: Of Python and of the libraries that matter here.
        commit: The repository's commit, if it ran from one.
        started: When, in UTC, as ISO 8601.
        snapshots: If several cycles ended: the test accuracies of the networks at their ends
            (`"accuracy"`), and that of the mean of their predictions (`"ensemble"`).
        bounds: If the experiment says `max_lr="auto"`: the bounds that were found, and the range
            test. Otherwise `None`.
        averaged: If the experiment says `average=True`: the test accuracy of the averaged weights
            (`"accuracy"`), and which cycles or epochs are in them (`"numbers"`). For a comparison
            also that of the last network if its batch normalisation gets its statistics in the same
            way (`"last"`).
        model: The trained network; not saved in the JSON file.
        average: If the experiment says `average=True`: what puts the average into that network, by
            `average.apply(x_train)`. Not saved in the JSON file.
    """

    experiment: Experiment
    history: dict[str, list[float]]
    iterations_per_epoch: int
    classes: list[str]
    report: dict[str, Any]
    confusion: list[list[int]]
    parameters: int
    examples: dict[str, int]
    seconds: dict[str, float]
    data: str
    hardware: dict[str, Any]
    versions: dict[str, str]
    commit: str | None
    started: str
    snapshots: dict[str, Any] | None = None
    bounds: FoundBounds | None = None
    averaged: dict[str, Any] | None = None
    model: keras.Model | None = field(default=None, repr=False, compare=False)
    average: AveragedWeights | None = field(default=None, repr=False, compare=False)

    FORMAT = "clr-run/1"

    @property
    def test_accuracy(self) -> float:
        """Share of test images that the trained network got right."""
        return self.report["accuracy"]

    def rates(self) -> np.ndarray:
        """Returns the rate of every iteration, from the formula: float64 of shape (iterations,)."""
        e = self.experiment if self.bounds is None else self.bounds.put_into(self.experiment)
        trained = len(self.history["loss"]) * self.iterations_per_epoch
        return e.rates(self.iterations_per_epoch)[:trained]

    def classification_report(self) -> str:
        """Returns the report as a table to print."""
        rows = [f"{'':>12}  precision  recall  f1-score  support\n"]
        for name in [*self.classes, "macro avg", "weighted avg"]:
            row = self.report[name]
            rows.append(
                f"{name:>12}  {row['precision']:9.2f}  {row['recall']:6.2f}  "
                f"{row['f1-score']:8.2f}  {row['support']:7.0f}"
            )
        rows.append(f"\n{'accuracy':>12}  {self.test_accuracy:9.4f}")
        return "\n".join(rows)

    def side_by_side(self) -> str | None:
        """Returns a table of last network, average and ensemble, or `None` if there is but one."""
        rows = [("last network", self.test_accuracy, "evaluate")]
        if self.averaged is not None:
            name = f"average of {len(self.averaged['numbers'])}"
            rows.append((name, self.averaged["accuracy"], "average"))
        if self.snapshots is not None:
            name = f"ensemble of {len(self.snapshots['accuracy'])}"
            rows.append((name, self.snapshots["ensemble"], "ensemble"))
        lines = [f"{'':>16}  accuracy  seconds"]
        for name, accuracy, clock in rows:
            time = f"{self.seconds[clock]:7.1f}" if clock in self.seconds else f"{'-':>7}"
            lines.append(f"{name:>16}  {accuracy:8.4f}  {time}")
        return "\n".join(lines) if len(rows) > 1 else None

    @property
    def machine(self) -> str:
        """Processor, accelerators and versions, in words."""
        return machine.in_words(self.hardware, self.versions)

    def provenance(self) -> str:
        """Returns one sentence on how this run was made, to stand beside its numbers."""
        e = self.experiment
        found = f"Range test: {self.bounds.in_words(e)}. " if self.bounds is not None else ""
        epochs = len(self.history["loss"])
        planned = "" if epochs == e.num_epochs else f" of the {e.num_epochs} planned"
        return (
            f"Data: {e.dataset} ({self.data}), {self.examples['train']:,} training and "
            f"{self.examples['test']:,} test images. Network: width {e.width:g}, "
            f"{self.parameters:,} parameters, {e.dtype}. Seed {e.seed}. {found}Time: "
            f"{self.seconds['train']:,.0f} s for {epochs} epochs{planned}, from {self.started}. "
            f" {self.machine}."
        )

    def save(self, path: str | Path) -> None:
        """Writes the run to a JSON file, whole or not at all."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.compare}
        values["experiment"] = asdict(self.experiment)
        if self.bounds is None:
            del values["bounds"]  # As runs were written before bounds could be found.
        else:
            values["bounds"] = self.bounds.to_dict()
        if self.averaged is None:
            del values["averaged"]
        write_json(Path(path), self.FORMAT, values)

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Returns the run that `save` wrote.

        Raises:
            FileNotFoundError: No such file.
            ValueError: The file is damaged, or is not a run's.
        """
        with read_json(path, cls.FORMAT, "a run that clr.Run.save wrote") as values:
            values["experiment"] = Experiment(**values["experiment"])
            if "bounds" in values:
                values["bounds"] = FoundBounds.from_dict(values["bounds"])
            run = cls(**values)
            run._check()
        return run

    def _check(self) -> None:
        """Raises an error if anything is missing, of the wrong type, or at odds with the rest."""
        epochs = np.array(list(self.history.values()), float)  # Fails if they differ in length.
        self._check_bounds()
        # Fewer than planned where a callback has stopped the training.
        if "loss" not in self.history or not 0 < epochs.shape[1] <= self.experiment.num_epochs:
            raise ValueError("the history is not that of the experiment's epochs")
        expected = self.experiment.iterations_per_epoch(self.examples["train"])
        if self.iterations_per_epoch != expected:
            raise ValueError("the iterations are not those of examples and batch size")
        if np.array(self.confusion, int).shape != (len(self.classes), len(self.classes)):
            raise ValueError("the confusion matrix does not fit the classes")
        self._touch_all()

    def _check_bounds(self) -> None:
        if is_auto(self.experiment.max_lr) != (self.bounds is not None):
            raise ValueError("bounds belong to an experiment with max_lr='auto', and to no other")
        given = self.experiment.min_lr
        if self.bounds is not None and not is_auto(given) and given != self.bounds.min_lr:
            raise ValueError("the lower bound is not the one that the experiment gives")

    def _touch_all(self) -> None:
        """Uses all that must be there; what is not raises an error of some kind."""
        self.provenance(), self.classification_report(), self.side_by_side()
