"""Every exception the package raises on bad input or a failed check.

A message says which thing, what was expected, what was found, and what to do next. The command line prints it on
one line and exits with code 2; anything else that escapes is a bug and keeps its traceback. Where the thing is a
bundle or one of its files, `TvmFlowError.cause` names what is wrong with it as the C runtime does.
"""

from __future__ import annotations

from tvm_flow.causes import Cause


class TvmFlowError(Exception):
    """Base of all errors that a user can act on."""

    def __init__(self, message: str = "", cause: Cause = Cause.NONE) -> None:
        """``cause``: one of the named ones, where it is one of these."""
        super().__init__(message)
        self.cause = cause


class ConfigError(TvmFlowError):
    """A YAML or JSON configuration has a missing, unknown or impossible value."""


class CheckpointError(TvmFlowError):
    """A checkpoint file is unreadable, or a key is missing, extra or has another shape."""


class SamplerMismatchError(ConfigError):
    """Step tables were made for another sampler configuration than the one asked for."""


class CalibrationError(TvmFlowError):
    """Ranges are absent, inconsistent, or belong to another model or sampler."""


class QuantizeError(TvmFlowError):
    """A scale, zero point or weight cannot be represented."""


class ExportError(TvmFlowError):
    """A step graph cannot be written or fails its own checks."""


class ImportGraphError(TvmFlowError):
    """An ONNX graph uses something that cannot be imported with fixed shapes and scales."""


class BuildError(TvmFlowError):
    """A kernel cannot be lowered or compiled, or the linker refused the library."""


class BitExactError(TvmFlowError):
    """A compiled library disagrees with the integer reference."""


class BundleError(TvmFlowError):
    """A bundle is incomplete, altered, or made for another machine or schema."""


class SignatureError(BundleError):
    """A bundle is not signed as is asked; each way is a class of its own, as it is a status of the C runtime."""

    def __init__(self, message: str = "", cause: Cause = Cause.BAD_SIGNATURE) -> None:
        super().__init__(message, cause)


class NotSignedError(SignatureError):
    """There is no signature."""


class BadSignatureError(SignatureError):
    """It was changed, is of another bundle or model, or is not by the key that it names."""


class UnknownKeyError(SignatureError):
    """It is by a key that is not trusted."""


class OlderVersionError(SignatureError):
    """It is of a version below the least that is accepted."""

    def __init__(self, message: str = "", cause: Cause = Cause.WRONG_VERSION) -> None:
        super().__init__(message, cause)


class RuntimeFailure(TvmFlowError):
    """The C runtime returned an error code; the message is its own."""


class NotFiniteError(RuntimeFailure):
    """What a step computed holds NaN or an infinity."""


class PromptError(TvmFlowError):
    """A prompt has no embedding, or its embedding has another shape."""


class InterruptedCommand(TvmFlowError):
    """Ctrl-C: what is finished is kept, what was half done is removed."""


class ClusterError(TvmFlowError):
    """Workers cannot be had, were lost, or hold other files than the process that asks them."""
