"""From an `Experiment` (what to train) through `train` to a `Run` (what happened)."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from clr import checks, datasets
from clr.callback import CyclicLR, PolicyCallback
from clr.files import read_json, write_atomically
from clr.models import MiniGoogLeNet
from clr.snapshots import Snapshots
from clr.training import methods
from clr.training.checkpoints import Checkpoints

DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")

# What each profile says where a parameter is left open; the rest are Experiment's defaults.
PROFILES: dict[str, dict[str, Any]] = {
    "full": {},
    "quick": {
        "dataset": "digits",
        "min_lr": 1e-3,
        "max_lr": 1e-1,
        "decay": 1e-2,
        "batch_size": 32,
        "step_size": 2,
        "num_epochs": 8,
        "width": 0.25,
        "bn_momentum": 0.9,
    },
}


def _option(default: Any, text: str, choices: tuple[str, ...] = ()) -> Any:
    """A field with the help that the command line shows for it."""
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class Experiment:
    """What to train. The fields keep the tutorial's names, and by default its values.

    Each epoch has exactly `examples // batch_size` iterations.

    Raises:
        TypeError: A field of the wrong type.
        ValueError: A field out of its range.
    """

    dataset: str = _option(
        "cifar10",
        f"data set to train on: {', '.join(datasets.LOADERS)}, or a folder of images by class",
    )
    clr_method: str = _option("triangular", "what sets the learning rate", methods.METHODS)
    min_lr: float = _option(1e-7, "lower bound of the learning rate (base_lr)")
    max_lr: float = _option(1e-2, "upper bound of the learning rate")
    step_size: int = _option(8, "epochs in half a cycle; with step: from drop to drop")
    cycle_momentum: bool = _option(False, "swing the momentum against a cyclical rate")
    gamma: float = _option(0.99994, "decay per iteration with exp_range, in (0, 1]")
    decay: float = _option(1e-4, "decay per iteration with time")
    factor: float = _option(0.25, "what each drop multiplies the rate with, in (0, 1], with step")
    power: float = _option(2.0, "exponent with polynomial")
    batch_size: int = _option(64, "images in a batch")
    num_epochs: int = _option(96, "epochs to train")
    width: float = _option(1.0, "multiplies the network's numbers of filters")
    optimizer: str = _option("sgd", "what applies the gradients", methods.OPTIMIZERS)
    momentum: float = _option(0.9, "SGD's momentum, in [0, 1)")
    bn_momentum: float = _option(0.99, "what batch normalisation keeps of its averages, in [0, 1)")
    augment: bool = _option(True, "shift and flip training images at random")
    dtype: str = _option("float32", "precision: float32, or mixed with one of these", DTYPES)
    jit_compile: bool | str = _option("auto", "compile with XLA: auto, true or false")
    seed: int = _option(42, "seed of weights, batches, dropout and augmentation")

    def __post_init__(self) -> None:
        """Checks every field. Whether there is such a data set shows when it is loaded."""

        def check(check: Callable[..., Any], names: str, **limits: Any) -> None:
            for name in names.split():
                object.__setattr__(self, name, check(name, getattr(self, name), **limits))

        if not isinstance(self.dataset, str) or not self.dataset:
            raise ValueError(f"`dataset` must be a name. Received: dataset={self.dataset!r}")
        for choice in fields(self):
            if choice.metadata["choices"]:
                check(checks.choice, choice.name, choices=choice.metadata["choices"])
        check(checks.count, "step_size batch_size num_epochs")
        check(checks.count, "seed", minimum=0)
        check(checks.rate, "min_lr decay power")
        check(checks.above, "max_lr width")
        check(checks.decay, "gamma factor")
        check(checks.share, "momentum bn_momentum")
        check(checks.flag, "augment cycle_momentum")
        checks.at_least("max_lr", self.max_lr, "min_lr", self.min_lr)
        if self.jit_compile not in (True, False, "auto"):
            raise ValueError(
                "`jit_compile` must be True, False or 'auto'. "
                f"Received: jit_compile={self.jit_compile!r}"
            )

    @classmethod
    def from_profile(cls, profile: str = "auto", **parameters: Any) -> "Experiment":
        """Returns an experiment from a profile and what departs from it.

        Args:
            profile: `"full"`, `"quick"` or `"auto"`; see `resolve_profile`.
            **parameters: Fields of `Experiment`; `None` means "what the profile says".

        Raises:
            TypeError: An unknown parameter.
            ValueError: An unknown profile, or a parameter out of its range.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        return cls(**{**PROFILES[resolve_profile(profile)], **given})

    def learning_rate(
        self, iterations_per_epoch: int
    ) -> PolicyCallback | keras.optimizers.schedules.LearningRateSchedule | float:
        """Returns what sets the rate, for epochs of so many iterations: see `clr.methods`."""
        return methods.learning_rate(self, iterations_per_epoch)

    def rates(self, iterations_per_epoch: int) -> np.ndarray:
        """Returns the rate of every iteration, for epochs of so many: float64."""
        iterations = np.arange(self.num_epochs * iterations_per_epoch)
        setter = self.learning_rate(iterations_per_epoch)
        if isinstance(setter, PolicyCallback):
            return setter.policy.rate(iterations)
        if isinstance(setter, float):
            return np.full(len(iterations), setter)
        return keras.ops.convert_to_numpy(setter(iterations)).astype("float64")


def resolve_profile(profile: str = "auto") -> str:
    """Returns the profile in force: `"full"` or `"quick"`.

    `"auto"` means what the environment variable `CLR_PROFILE` says, else `"full"` where Keras sees
    a GPU or TPU, else `"quick"`.

    Raises:
        ValueError: An unknown profile, here or in `CLR_PROFILE`.
    """
    checks.choice("profile", profile, ("auto", *PROFILES))
    if profile != "auto":
        return profile
    asked = os.environ.get("CLR_PROFILE")
    if asked:
        return checks.choice("CLR_PROFILE", asked, tuple(PROFILES))
    return "quick" if accelerators() == [] else "full"


def accelerators() -> list[str]:
    """Returns the GPUs and TPUs that Keras sees, as `"gpu:0"`."""
    if keras.backend.backend() == "torch":
        import torch

        return [f"gpu:{i}" for i in range(torch.cuda.device_count())]
    return [d for d in keras.distribution.list_devices() if not d.lower().startswith("cpu")]


@dataclass
class Run:
    """What happened in a training, as plain values that JSON can hold.

    Attributes:
        experiment: What was trained.
        history: Per epoch: `loss`, `accuracy`, `val_loss`, `val_accuracy` (on the test images, as
            the tutorial does) and `learning_rate` of the epoch's last iteration.
        iterations_per_epoch: Updates in an epoch. With `experiment` it gives every rate: `rates`.
        classes: The classes' names.
        report: scikit-learn's classification report on the test images.
        confusion: Counts of test images by true (row) and predicted class (column).
        parameters: Number of the network's weights.
        examples: Number of training and of test images.
        seconds: Wall time of training, validation included, and of the final evaluation.
        data: Where the images came from.
        hardware: Processor, cores and accelerators.
        versions: Of Python and of the libraries that matter here.
        commit: The repository's commit, if it ran from one.
        started: When, in UTC, as ISO 8601.
        snapshots: If several cycles ended: the test accuracies of the networks at their ends
            (`"accuracy"`), and that of the mean of their predictions (`"ensemble"`).
        model: The trained network; not saved in the JSON file.
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
    model: keras.Model | None = field(default=None, repr=False, compare=False)

    FORMAT = "clr-run/1"

    @property
    def test_accuracy(self) -> float:
        """Share of test images that the trained network got right."""
        return self.report["accuracy"]

    def rates(self) -> np.ndarray:
        """Returns the rate of every iteration, from the formula: float64 of shape (iterations,)."""
        return self.experiment.rates(self.iterations_per_epoch)

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

    @property
    def machine(self) -> str:
        """Processor, accelerators and versions, in words."""
        return _machine(self.hardware, self.versions)

    def provenance(self) -> str:
        """Returns one sentence on how this run was made, to stand beside its numbers."""
        e = self.experiment
        return (
            f"Data: {e.dataset} ({self.data}), {self.examples['train']:,} training and "
            f"{self.examples['test']:,} test images. Network: width {e.width:g}, "
            f"{self.parameters:,} parameters, {e.dtype}. Seed {e.seed}. Time: "
            f"{self.seconds['train']:,.0f} s for {len(self.history['loss'])} epochs, from "
            f"{self.started}. {self.machine}."
        )

    def save(self, path: str | Path) -> None:
        """Writes the run to a JSON file, whole or not at all."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "model"}
        values["experiment"] = asdict(self.experiment)
        text = json.dumps({"format": self.FORMAT, **values}, indent=1, allow_nan=True)
        write_atomically(Path(path), (text + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Returns the run that `save` wrote.

        Raises:
            FileNotFoundError: No such file.
            ValueError: The file is damaged, or is not a run's.
        """
        with read_json(path, cls.FORMAT, "a run that clr.Run.save wrote") as values:
            values["experiment"] = Experiment(**values["experiment"])
            run = cls(**values)
            run._check()
        return run

    def _check(self) -> None:
        """Raises an error if anything is missing, of the wrong type, or at odds with the rest."""
        epochs = np.array(list(self.history.values()), float)  # Fails if they differ in length.
        # A file can ask for no more rates than it has epochs, however many it says there were.
        if "loss" not in self.history or epochs.shape[1] != self.experiment.num_epochs:
            raise ValueError("the history is not that of the experiment's epochs")
        if self.iterations_per_epoch != self.examples["train"] // self.experiment.batch_size:
            raise ValueError("the iterations are not those of examples and batch size")
        if np.array(self.confusion, int).shape != (len(self.classes), len(self.classes)):
            raise ValueError("the confusion matrix does not fit the classes")
        self.provenance(), self.classification_report()


def build(experiment: Experiment, data: datasets.Dataset) -> keras.Model:
    """Returns an experiment's network, augmentation in front, compiled and untrained.

    The loss is the categorical cross-entropy, binary for two classes. The optimizer has the rate
    `max_lr` where a callback is to set it, else the experiment's schedule.

    Args:
        experiment: What to train.
        data: The data, for the images' shape and the classes.
    """
    per_epoch = len(data.x_train) // experiment.batch_size
    rate = experiment.learning_rate(per_epoch)
    two = len(data.classes) == 2
    with _dtype_policy(experiment.dtype):
        model = MiniGoogLeNet(
            data.x_train.shape[1:],
            len(data.classes),
            experiment.width,
            bn_momentum=experiment.bn_momentum,
        )
        if experiment.augment:
            model = keras.Sequential([datasets.augmentation(data.flip), model])
        model.compile(
            methods.optimizer(
                experiment, experiment.max_lr if isinstance(rate, PolicyCallback) else rate
            ),
            loss="binary_crossentropy" if two else "categorical_crossentropy",
            metrics=["categorical_accuracy" if two else "accuracy"],
            jit_compile=experiment.jit_compile,
        )
    return model


def train(
    experiment: Experiment,
    data: datasets.Dataset | None = None,
    verbose: bool = True,
    run_dir: str | Path | None = None,
) -> Run:
    """Trains MiniGoogLeNet as the experiment says and evaluates it on the test images.

    Sets the random seeds of Python, NumPy and Keras. With `run_dir` the training may be killed at
    any moment and started again: it goes on from the last epoch's end with the same rates, batches,
    dropout and augmentation as if it had never stopped.

    Args:
        experiment: What to train.
        data: The data to train on. Defaults to what `experiment.dataset` names. The run's own
            `experiment.dataset` is the name of what it was trained on.
        verbose: Whether to print a line after each epoch. Defaults to `True`.
        run_dir: Folder for checkpoints. Defaults to none.

    Raises:
        OSError: A checkpoint could not be written; the one before it is intact.
        TypeError: `experiment` is not an `Experiment`.
        ValueError: No such data set, `batch_size` above the number of training images, or a
            `run_dir` that can't be written to or belongs to another experiment.
    """
    if not isinstance(experiment, Experiment):
        raise TypeError(
            f"`experiment` must be a clr.Experiment. Received: experiment={experiment!r}"
        )
    data = datasets.load(experiment.dataset) if data is None else data
    experiment = replace(experiment, dataset=data.name)
    keras.utils.set_random_seed(experiment.seed)
    batches = datasets.Batches(data.x_train, data.y_train, experiment.batch_size, experiment.seed)
    model = build(experiment, data)
    network = model.layers[-1] if experiment.augment else model
    setter = experiment.learning_rate(batches.num_batches)
    cycle = [setter] if isinstance(setter, PolicyCallback) else []
    snapshots = [Snapshots(c, run_dir) for c in cycle if isinstance(c, CyclicLR)]
    checkpoints = Checkpoints(run_dir, experiment) if run_dir is not None else None
    done = checkpoints.resume(model) if checkpoints else 0
    if done and verbose:
        print(f"going on after epoch {done} of {experiment.num_epochs}", flush=True)
    started, clock = datetime.now(UTC), time.perf_counter()
    history = model.fit(
        batches,
        epochs=experiment.num_epochs,
        initial_epoch=done,
        shuffle=False,
        validation_data=(data.x_test, data.y_test),
        validation_batch_size=256,
        callbacks=[
            batches.follow(),
            *cycle,
            *snapshots,
            *([_Progress(experiment.num_epochs)] if verbose else []),
            *([checkpoints] if checkpoints else []),
        ],
        verbose=0,
    ).history
    trained = time.perf_counter()
    seconds = trained - clock
    if checkpoints:
        history, seconds = checkpoints.history, checkpoints.seconds
    # Keras's own schedules leave no trace in the history.
    lasts = slice(batches.num_batches - 1, None, batches.num_batches)
    history.setdefault("learning_rate", experiment.rates(batches.num_batches)[lasts].tolist())
    predicted = model.predict(data.x_test, batch_size=256, verbose=0).argmax(axis=1)
    return Run(
        experiment=experiment,
        history={name.replace("categorical_", ""): values for name, values in history.items()},
        iterations_per_epoch=batches.num_batches,
        **_judge(data, predicted),
        parameters=network.count_params(),
        examples={"train": len(data.x_train), "test": len(data.x_test)},
        seconds={"train": seconds, "evaluate": time.perf_counter() - trained},
        data=data.source,
        hardware=hardware(),
        versions=versions(),
        commit=COMMIT,
        started=started.isoformat(timespec="seconds"),
        snapshots=_ensemble(data, snapshots[0]) if snapshots else None,
        model=network,
    )


def _ensemble(data: datasets.Dataset, snapshots: Snapshots) -> dict[str, Any] | None:
    if len(snapshots.weights) < 2:
        return None
    true, model = data.y_test.argmax(axis=1), snapshots.model

    def accuracy(predicted: np.ndarray) -> float:
        return float((predicted.argmax(axis=1) == true).mean())

    together = accuracy(snapshots.predict(data.x_test, batch_size=256))
    last, alone = model.get_weights(), []
    for _, weights in sorted(snapshots.weights.items()):
        model.set_weights(weights)
        alone.append(accuracy(model.predict(data.x_test, batch_size=256, verbose=0)))
    model.set_weights(last)
    return {"accuracy": alone, "ensemble": together}


def _judge(data: datasets.Dataset, predicted: np.ndarray) -> dict[str, Any]:
    from sklearn.metrics import classification_report, confusion_matrix

    true, labels = data.y_test.argmax(axis=1), range(len(data.classes))
    report = classification_report(
        true,
        predicted,
        labels=labels,
        target_names=data.classes,
        output_dict=True,
        zero_division=0,
    )
    return {
        "classes": list(data.classes),
        # scikit-learn leaves "accuracy" out if a class is missing from the test images.
        "report": {**report, "accuracy": float((true == predicted).mean())},
        "confusion": confusion_matrix(true, predicted, labels=labels).tolist(),
    }


def made_with(profile: str = "auto", run: Run | None = None, data: str | None = None) -> str:
    """Returns a sentence on how a page was made, to stand at its end.

    Args:
        profile: The profile it was executed under, as for `resolve_profile`.
        run: The run it shows, if it trained one.
        data: What else it computed with, if not a run's data.
    """
    said = f"Executed in the profile {resolve_profile(profile)!r}"
    if run is not None:
        return f"{said}. {run.provenance()}"
    data = "without a data set" if data is None else f"on {data}"
    return f"{said}, {data}. {_machine(hardware(), versions())}."


def _machine(hardware: dict[str, Any], versions: dict[str, str]) -> str:
    devices = ", ".join(hardware["accelerators"]) or f"{hardware['cores']} cores, no GPU"
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"{hardware['processor']}, {devices}; {libraries}"


def hardware() -> dict[str, Any]:
    """Returns this machine's processor, number of cores and accelerators."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "accelerators": [_model_of(name) for name in accelerators()],
    }


def _model_of(accelerator: str) -> str:
    """Returns what an accelerator that Keras calls `"gpu:0"` is sold as, where that can be told."""
    number = int(accelerator.rsplit(":", 1)[1])
    match keras.backend.backend():
        case "jax":
            import jax

            return jax.devices()[number].device_kind
        case "torch":
            import torch

            return torch.cuda.get_device_name(number)
        case _:
            import tensorflow as tf

            kind = accelerator.split(":")[0].upper()
            device = tf.config.list_physical_devices(kind)[number]
            details = tf.config.experimental.get_device_details(device)
            return details.get("device_name", accelerator)


def versions() -> dict[str, str]:
    """Returns the versions of Python, of Keras, its backend, and of NumPy."""
    backend = keras.backend.backend()
    found = {"Python": platform.python_version()}
    for name in ("keras", backend, "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # Builds such as tensorflow-cpu go by another name.
            found[name] = getattr(sys.modules.get(name), "__version__", "unknown")
    return found


class _Progress(keras.callbacks.Callback):
    """One line an epoch, with the time left: no control characters, fit for a stored notebook."""

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_train_begin(self, logs=None):
        self.started, self.first = time.perf_counter(), None

    def on_epoch_begin(self, epoch, logs=None):
        self.first = epoch if self.first is None else self.first

    def on_epoch_end(self, epoch, logs=None):
        elapsed = time.perf_counter() - self.started
        left = elapsed / (epoch + 1 - self.first) * (self.epochs - epoch - 1)
        values = "  ".join(
            f"{name.replace('categorical_', '')} {value:.4g}" for name, value in logs.items()
        )
        print(
            f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}  {values}  "
            f"{timedelta(seconds=round(left))} left",
            flush=True,
        )


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    try:
        command = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


COMMIT = _commit()  # Of the code that was imported, whatever is committed while it trains.
