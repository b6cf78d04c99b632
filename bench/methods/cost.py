"""What kind of method explains, and what a map costs."""

from typing import Literal

from ptame_deploy.records import Record

Family = Literal["p-tame", "cam", "gradient", "perturbation", "given", "floor"]


class Cost(Record):
    """What one map costs in passes of the classifier; a backward pass costs about two forward."""

    forward: int
    backward: int = 0

    @property
    def passes(self) -> int:
        """Forward passes that take about as long."""
        return self.forward + 2 * self.backward
