"""Running averages of named numbers: the small helper for a training loop of one's own."""

from torch import Tensor

__all__ = ["MetricsTracker"]


class MetricsTracker:
    """Collects named values and averages them.

    >>> tracker = MetricsTracker()
    >>> tracker.update(loss=2.0, accuracy=0.5)
    >>> tracker.update(loss=4.0, accuracy=1.0)
    >>> tracker.averages
    {'loss': 3.0, 'accuracy': 0.75}
    """

    def __init__(self) -> None:
        self.metrics: dict[str, list[float]] = {}

    def update(self, **values: float | Tensor) -> None:
        """Append one value, a number or a scalar tensor, to each named metric; a name that is new starts a metric."""
        for name, value in values.items():
            number = value.detach() if isinstance(value, Tensor) else value
            self.metrics.setdefault(name, []).append(float(number))

    @property
    def averages(self) -> dict[str, float]:
        """Name -> arithmetic mean of all values so far."""
        return {name: sum(values) / len(values) for name, values in self.metrics.items()}

    def reset(self) -> None:
        """Forget all values."""
        self.metrics.clear()
