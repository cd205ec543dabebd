"""What goes wrong for a reason the user can act on; the command line prints these without a traceback.

Every error carries the message (what is wrong, with the names involved) and, where there is one, the next command, both
without the credentials of the addresses in them.
"""

from configuration.credentials import without_credentials


class LifecycleError(Exception):
    """Expected failure of a lifecycle command.

    Args:
        message: one or two sentences for the person at the keyboard.
        next_command: what to run to get on, or None.
    """

    def __init__(self, message: str, next_command: str | None = None) -> None:
        super().__init__(without_credentials(message))
        self.next_command = without_credentials(next_command) if next_command is not None else None


class UnknownDataSet(LifecycleError):
    """No data set of that name; the message lists the names."""


class MissingPackage(LifecycleError):
    """A package of the `train` extra is not installed."""


class SourceNotFound(LifecycleError):
    """The registry has no such model, version, alias or run, or cannot be reached."""


class UnsupportedModel(LifecycleError):
    """The model's flavor, task, signature or graph is not one that can be imported."""


class CanCarryCode(UnsupportedModel):
    """Reading the model could run code that its author chose, and only harmless formats were asked for."""


class NeedsPython(UnsupportedModel):
    """Only Python can score the model, which no server here loads; MLflow's own does."""


class FeaturesUnknown(UnsupportedModel):
    """A file does not say what its columns are called, and nobody else does."""


class VerificationFailed(LifecycleError):
    """A converted file scores differently from the framework by more than the tolerance."""


class ReferenceRefused(LifecycleError):
    """Rows cannot serve as the reference of a version; the message says which and why."""


class NothingToQuantize(LifecycleError):
    """The version has no weights that could be made smaller; the message is the reason, without its subject."""


class QuantizationRefused(LifecycleError):
    """A quantized version gains nothing, or differs too much from its parent, or there is none to be made."""


class VersionTaken(LifecycleError):
    """The store holds another source under the wanted label."""


class BuildFailed(LifecycleError):
    """The bento could not be built."""


class ImageFailed(LifecycleError):
    """The image could not be built, or a container of it could not be started."""


class GatewayAway(LifecycleError):
    """The gateway cannot be reached, or cannot answer for the moment."""


class GatewayRefused(LifecycleError):
    """The gateway answers that something cannot be done, and why."""


class Overtaken(LifecycleError):
    """Somebody else has changed the routing in the meantime; nothing was changed."""


class CanaryRefused(LifecycleError):
    """A step of a canary makes no sense as things stand."""


class ReplayRefused(LifecycleError):
    """Logged requests cannot be put to a candidate; the message says why, and which setting would have to change."""


class BatchRefused(LifecycleError):
    """A table cannot be scored as asked, or no further; the message says why. What was written stays."""


class DeployFailed(LifecycleError):
    """Something is not in the cluster as it should be; the message says what and why."""


class ManifestsRefused(LifecycleError):
    """The manifests cannot be edited as asked; they are as they were."""


class SmokeTestRefused(LifecycleError):
    """A server cannot be tried; the message says what is not known of it."""


class UnknownSite(LifecycleError):
    """It is not known where an environment is served, or with which key."""


class ExportFailed(LifecycleError):
    """An artefact could not be written to, or read from, where exported ones lie; or it is not whole there."""


class DeliveryRefused(LifecycleError):
    """A version cannot go from one environment to the next, or back; the message says what is in its way."""


class WatchRefused(LifecycleError):
    """A watch cannot begin or go on: its journal cannot be used."""
