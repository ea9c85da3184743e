"""The one tree of errors. Each says what was got, what is allowed and what to do."""


class CtxshaperError(Exception):
    """Root of every error that this library raises on purpose."""


class InvalidInputError(CtxshaperError, ValueError):
    """A query, passage, budget, option or file that cannot be used as given."""


class RecipeError(InvalidInputError):
    """A recipe that names an unknown stage or field, or is not valid YAML; says line and field."""


class MissingDependencyError(CtxshaperError, ImportError):
    """An optional package is not installed; the message holds the line that installs it."""


class ModelError(CtxshaperError):
    """A model that cannot be found, verified or read."""


class UnsupportedModelError(ModelError):
    """A model whose attention this library would read wrongly, and therefore refuses."""


class StageError(CtxshaperError):
    """A stage failed inside a pipeline; the cause is chained."""


class DeadlineError(CtxshaperError, TimeoutError):
    """A request took longer than its caller allows, or was cancelled; the work stopped."""


class GeneratorError(CtxshaperError):
    """A language model that was asked to write did not: unreachable, refused by its server, or no usable answer."""
