"""Requests generated from /openapi.json: what is answered is what the document says.

Every check of schemathesis but one: that whatever fits the document is accepted is not claimed,
since the models' own limits are not in it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.engine import Status, events, from_schema
from starlette.types import ASGIApp

from deployments.ingress.documents.operation import FORM, URLENCODED
from deployments.ingress.documents.operations import OPERATIONS
from deployments.ingress.routes import build_app
from deployments.ingress.settings import AuthSettings, IngressSettings
from tests.ingress_backend import CARD, OneColour

KEY = "stepwise-key"
BEARER = {"authorization": f"Bearer {KEY}"}
MAX_EXAMPLES = 100
LEAST_CASES = 2_000
NOT_BY_CHANCE = {
    "GET /openapi.json",  # it has the document
    "GET /v1/files/{name}",  # signed
    "POST /superlabs_diffusion/v1/img2img",  # a JSON text and a picture
}
"""What no generated request gets a success of."""
ALL_BUT_ONE = {"positive_data_acceptance": {"enabled": False}}

pytestmark = pytest.mark.slow


def test_no_5xx_and_no_answer_outside_the_document() -> None:
    statuses: Counter[tuple[str, int]] = Counter()
    wrong: list[str] = []
    for scenario in scenarios(build_app(OneColour(), IngressSettings()), checks=ALL_BUT_ONE):
        for case_id, interaction in scenario.interactions.items():
            assert interaction.response is not None, f"{scenario.label} was not answered"
            statuses[scenario.label, interaction.response.status_code] += 1
            wrong += failures(scenario, case_id)
    assert not wrong, "\n\n".join(wrong[:10])
    assert not [each for each in statuses if each[1] >= 500]
    assert statuses.total() >= LEAST_CASES
    answered = {label for label, status in statuses if status < 300}
    assert described() - answered == NOT_BY_CHANCE


def test_no_answer_without_a_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"somebody:{hashlib.sha256(KEY.encode()).hexdigest()}")
    auth = AuthSettings(keys_file=str(keys))
    app = build_app(OneColour(), IngressSettings(auth=auth))
    checks = {"enabled": False, "ignored_auth": {"enabled": True}}
    num_checks = 0
    for scenario in scenarios(app, checks=checks, max_examples=5):
        for case_id in scenario.interactions:
            num_checks += len(scenario.checks.get(case_id, ()))
            assert not failures(scenario, case_id)
    assert num_checks > len(OPERATIONS)


def described() -> set[str]:
    return {f"{each.method} {each.path}" for each in OPERATIONS}


def scenarios(
    app: ASGIApp, *, checks: dict[str, Any], max_examples: int = MAX_EXAMPLES
) -> Iterator[Any]:
    """What schemathesis asked and found, operation by operation."""
    config = schemathesis.Config.from_dict(
        {
            "seed": 1,
            "auth": {"openapi": {"bearer": {"bearer": KEY}}},
            "checks": checks,
            "phases": {"stateful": {"enabled": False}},
            "generation": {
                "max-examples": max_examples,
                "deterministic": True,
                "no-shrink": True,
                "database": "none",
            },
        }
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config, headers=BEARER)
    schema.validate()
    for event in from_schema(schema).execute():
        assert not isinstance(event, events.FatalError), event.exception
        if isinstance(event, events.NonFatalError):
            # Of schemathesis itself: now and then it validates a file that it has made, and cannot.
            assert "Unsupported type: 'Binary'" in str(event.value)
        if isinstance(event, events.ScenarioFinished):
            yield event.recorder


@schemathesis.hook("before_call")
def name_a_model_that_is_there(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: Any
) -> None:
    """Any word fits the document as a model's id, and nearly all of them end in a 404."""
    if "/models/" in case.path and case.meta and not case.meta.generation.mode.is_negative:
        case.path_parameters = {"id": CARD.id}


def failures(scenario: Any, case_id: str) -> list[str]:
    """What a case has shown to be wrong, with the command that shows it."""
    in_a_form = scenario.cases[case_id].value.media_type in (FORM, URLENCODED)
    return [
        f"{check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
        for check in scenario.checks.get(case_id, ())
        if check.status != Status.SUCCESS
        # All of a form is text: a `false` that was meant as a wrong type is a string there.
        and not (in_a_form and check.name == "negative_data_rejection")
    ]
