"""Every error a client can meet, in the order in which a request can meet them.

HTTP codes live only in the ingress's table (`deployments/ingress/failures.py`). Every error can
be rebuilt from its message and attributes, since it is pickled on its way through Ray.
"""


class StepwiseError(Exception):
    """The root: something this service says on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidApiKey(StepwiseError):
    """No API key came with the request, or one that is not known here."""


class InvalidRequest(StepwiseError):
    """The client can cure it. `param` names the field, `message` the value and the cure."""

    def __init__(self, message: str, *, param: str | None = None, code: str = "invalid_value"):
        super().__init__(message)
        self.param = param
        self.code = code


class RequestTooLarge(InvalidRequest):
    """More bytes than the service reads."""


class SlowBody(InvalidRequest):
    """The body took longer to arrive than the service waits."""


class UnknownModel(InvalidRequest):
    """No model of that name is served here."""


class InvalidImage(InvalidRequest):
    """The image or mask cannot be used; raised by the imaging room."""


class UnsupportedScheduler(InvalidRequest):
    """The scheduler cannot be turned into a table of step matrices; raised by sampling."""


class UnknownJob(InvalidRequest):
    """No job of that id is the caller's, or it has expired."""


class UnknownFile(InvalidRequest):
    """No picture of that name is kept, or no longer."""


class FileForbidden(InvalidRequest):
    """The address of a picture was not signed here."""


class FileExpired(InvalidRequest):
    """The address of a picture was good once."""


class TooManyRows(StepwiseError):
    """The caller has as many rows in flight, or in the last minute, as its key allows."""

    def __init__(self, message: str, *, retry_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class ForeignOrigin(InvalidRequest):
    """A web page of another site asks, where no API key would tell that its user wants it to."""


class ModelNotReady(StepwiseError):
    """The model is still loading or warming up."""


class ReplicaLost(ModelNotReady):
    """The replica at work, or its engine, ended. To a client: that of the row's repetition too."""


class AdapterFailed(StepwiseError):
    """An adapter that the row asks for cannot be used: its file is broken, or of another model."""


class Requeue(StepwiseError):
    """This replica's queue is full; another may have room. Carries its pending work."""

    def __init__(self, message: str, *, pending_s: float = 0.0) -> None:
        super().__init__(message)
        self.pending_s = pending_s


class ImagingFull(Requeue):
    """The same of an imaging replica."""


class GenerationFailed(StepwiseError):
    """The row itself cannot be made: its latents stopped being numbers. It would fail again."""


class EngineFailed(StepwiseError):
    """The row was lost through no fault of its own: something went wrong on the device."""
