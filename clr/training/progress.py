"""How far a training run is."""

from clr.progress import Bar, Batches, Clock, in_words


class Progress(Batches):
    """A line after each epoch, with the time left, and a bar within an epoch if somebody watches.

    The lines have no control characters, and so are fit for a stored notebook.

    Args:
        epochs: Epochs of the whole run, also of one that goes on from a checkpoint.
        bar: The bar.
    """

    def __init__(self, epochs: int, bar: Bar):
        super().__init__(bar)
        self.epochs = epochs

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts the clock."""
        self.clock, self.seen = Clock(), 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Begins the epoch's batches."""
        self.work = self._which(epoch)
        super().on_epoch_begin(epoch)

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Begins the test images' batches, however many."""
        self.bar.begin(f"{self.work}, test images", None)

    def on_test_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Shows the batches before this one."""
        self.bar.update(batch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Prints the epoch's line."""
        self.seen += 1
        left = self.clock.seconds / self.seen * (self.epochs - epoch - 1)
        values = "  ".join(f"{plain(name)} {value:.4g}" for name, value in (logs or {}).items())
        print(f"{self._which(epoch)}  {values}  {in_words(left)} left", flush=True)

    def _which(self, epoch: int) -> str:
        return f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}"


def plain(metric: str) -> str:
    """Returns a metric's name as it is where there are more than two classes."""
    return metric.replace("categorical_", "")
