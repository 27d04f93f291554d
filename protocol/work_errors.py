"""Why an attempt could not do its work: a branch of the tree in ``protocol/errors.py``. Import them from there."""

from protocol.error_base import AgentComError


class WorkFailed(AgentComError):
    """An attempt could not do its work, for a reason outside the work itself."""

    code = "work_failed"

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return self.why


class EndpointDown(WorkFailed):
    """The LLM endpoint does not answer, or answers something that is not its protocol."""

    code = "endpoint_down"
    retryable = True

    def __init__(self, endpoint: str, why: str) -> None:
        self.endpoint, self.problem = endpoint, why
        super().__init__(f"endpoint {endpoint}: {why}")


class EndpointBusy(EndpointDown):
    """The LLM endpoint is overloaded or its quota is used up (429, 503, 529)."""

    code = "endpoint_busy"

    def __init__(self, endpoint: str, why: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        later = "" if retry_after_s is None else f"; it asks to come back in {retry_after_s:g} s"
        super().__init__(endpoint, why + later)


class EndpointRefused(EndpointDown):
    """The LLM endpoint will not serve us however often we ask: a wrong key, no permission, an endpoint nobody knows."""

    code = "endpoint_refused"
    retryable = False


class ModelFailed(WorkFailed):
    """The endpoint works, but this request got no usable answer: refused, cut off, or not accepted."""

    code = "model_failed"


class ModelMissing(ModelFailed):
    """The endpoint has no such model; ``available`` are those it has."""

    code = "model_missing"

    def __init__(self, endpoint: str, model: str, available: tuple[str, ...] = ()) -> None:
        self.endpoint, self.model, self.available = endpoint, model, available
        has = f"; it has {', '.join(available)}" if available else ""
        super().__init__(f"endpoint {endpoint} has no model {model!r}{has}")


class PromptTooLong(ModelFailed):
    """The prompt does not fit the model's context; sending it would silently drop its beginning."""

    code = "prompt_too_long"

    def __init__(self, model: str, prompt_tokens: int, context_tokens: int, why: str = "") -> None:
        self.model, self.prompt_tokens, self.context_tokens = model, prompt_tokens, context_tokens
        room = f"{context_tokens} tokens of context" if context_tokens else "context"
        super().__init__(
            why
            or f"the prompt of about {prompt_tokens} tokens does not fit the {room} of {model}"
            "; shorten it, name fewer files, or give the endpoint a larger num_ctx"
        )


class ToolsUnsupported(ModelFailed):
    """The model cannot call tools."""

    code = "tools_unsupported"


class WorkspaceFailed(WorkFailed):
    """The git workspace of an attempt could not be made or finished."""

    code = "workspace_failed"


class Unpriced(WorkFailed):
    """A budget in dollars cannot be kept, as nobody knows what the model costs."""

    code = "unpriced"

    def __init__(self, model: str, endpoint: str) -> None:
        self.model, self.endpoint = model, endpoint
        super().__init__(
            f"no price is known for model {self.model} on {self.endpoint}, so a budget in dollars cannot be kept: "
            f"set one at the hub (agentcom hub --price '{self.model}=INPUT/OUTPUT', dollars for a million tokens), "
            "or submit without such a budget"
        )


class BudgetSpent(WorkFailed):
    """The attempt used up its tokens, money, seconds or turns."""

    code = "budget_spent"

    def __init__(self, kind: str, limit: float, used: float) -> None:
        self.kind, self.limit, self.used = kind, limit, used
        super().__init__(f"budget of {limit:g} {kind} is spent (used {used:g})")
