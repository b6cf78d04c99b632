"""TensorRT's logger."""

from typing import Any

from engines.flavours import Flavour


class Log:
    """Quiet, but it remembers the last error, which is all that the API tells of a failure.

    Attributes:
        logger: the ``ILogger`` to hand to TensorRT; it must live as long as what was made with it.
        last_error: text of the last error.
    """

    def __init__(self, flavour: Flavour) -> None:
        trt = flavour.module
        log = self
        self.last_error = "no reason was given"

        class Remembering(trt.ILogger):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, text: str) -> None:
                if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                    log.last_error = text

        self.logger = Remembering()
