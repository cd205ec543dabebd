"""Parameters of the Open Inference Protocol's requests, inputs and outputs, the same over REST and gRPC.

What is named here is heeded or, where an answer without it would be another one than was asked for, refused. Others of
a request or an input are ignored, as the protocol has it: `priority` and `timeout` among them. An output has no others.
Sources: https://github.com/kserve/open-inference-protocol, and Triton's extensions "Binary Tensor Data",
"Classification", "Shared Memory" and "Sequence".
"""

import msgspec

from runners.inputs.wording import legible
from shokado.dialects.problem import Problem

CONTENT_TYPES = ("np", "pd", "str")
"""MLServer's, that mean the values as they are; another, such as `base64`, says that they have to be decoded first."""
_REGION = "shared_memory_region"


class InferParameters(msgspec.Struct):
    """Parameters of the whole request. Others are ignored."""

    binary_data_output: bool = False
    """Whether outputs are sent in binary that do not say otherwise."""
    content_type: str | None = None
    """MLServer's word for how values are encoded; refused unless it is `np`, `pd` or `str`."""
    sequence_id: int | str | None = None
    """Refused unless it is 0: no state is kept from one request to the next."""

    def refuse(self) -> None:
        """Raise `Problem` (400) for what is not served."""
        if self.sequence_id:
            message = "the parameter sequence_id is not served: no version keeps state from one request to the next"
            raise _refused(message, "sequence_id")
        _refuse_content_type("the request", self.content_type)


class InputParameters(msgspec.Struct):
    """Parameters of one input. Others are ignored."""

    binary_data_size: int | None = None
    """Bytes after the JSON, one input's after the other's."""
    content_type: str | None = None
    """MLServer's word, as the request has it."""
    shared_memory_region: str | None = None
    """Refused: send the data itself."""

    def refuse(self, name: str) -> None:
        """Raise `Problem` (400), which names the input, for what is not served."""
        if self.shared_memory_region is not None:
            raise _refused(f"input {_shown(name)}: shared memory is not served; send the data itself", _REGION)
        _refuse_content_type(f"input {_shown(name)}", self.content_type)


class OutputParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of one output. Others are refused."""

    binary_data: bool | None = None
    """Whether it is sent in binary."""
    classification: int | None = None
    """How many classes are wanted, best first, each as a text `score:index:label`; more than there are: all."""
    content_type: str | None = None
    """MLServer's word, as the request has it."""
    shared_memory_region: str | None = None
    """Refused: the data comes with the answer."""
    shared_memory_byte_size: int | None = None
    shared_memory_offset: int | None = None

    def refuse(self, name: str) -> None:
        """Raise `Problem` (400), which names the output, for what is not served."""
        if self.shared_memory_region is not None:
            message = f"output {_shown(name)}: shared memory is not served; the data comes with the answer"
            raise _refused(message, _REGION)
        if self.classification is not None and self.classification < 1:
            said = str(self.classification)[:20]
            message = f"output {_shown(name)}: classification is {said}; 1 or more belongs here"
            raise _refused(message, "classification")
        _refuse_content_type(f"output {_shown(name)}", self.content_type)


def _refuse_content_type(whose: str, content_type: str | None) -> None:
    if content_type is not None and content_type not in CONTENT_TYPES:
        known = ", ".join(CONTENT_TYPES)
        message = f"{whose}: the content_type {_shown(content_type)} is not understood; {known} are, or none"
        raise _refused(message, "content_type")


def _refused(message: str, parameter: str) -> Problem:
    return Problem("unsupported_parameter", message, {"parameter": parameter})


def _shown(name: str) -> str:
    return repr(legible(name))
