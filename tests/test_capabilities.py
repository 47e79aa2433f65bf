"""What a form needs to know, in one answer."""

from tests.ingress_backend import CARD, OneColour, app_over, ask


def test_capabilities_say_what_a_form_needs() -> None:
    answer = ask(app_over(OneColour(), max_body_mb=9.0), "GET", "/v1/capabilities")
    assert answer.status_code == 200
    body = answer.json()
    assert body["models"] == [
        {
            "id": "tiny",
            "family": "stable-diffusion",
            "default": True,
            "sizes": {"multiple": 8, "min_side": 32, "max_side": 256, "only": []},
            "schedulers": list(CARD.schedulers),
            "loras": [],
            "defaults": {
                "width": 64,
                "height": 64,
                "num_inference_steps": 20,
                "guidance_scale": 7.5,
                "strength": 0.8,
                "scheduler": "EulerDiscreteScheduler",
            },
            "limits": {
                "n": 10,
                "num_inference_steps": 100,
                "guidance_scale": 30.0,
                "seed": 2**63 - 1,
                "prompt_chars": 32000,
                "loras": 0,
                "lora_scale": 10.0,
            },
        }
    ]
    assert body["loading"] == ["loading"]
    assert body["output_formats"] == ["png", "jpeg", "webp"]
    assert body["limits"] == {"max_body_mb": 9.0, "max_megapixels": 32.0, "max_pixels": 0}


def test_the_routes_are_those_of_the_app() -> None:
    app = app_over(OneColour())
    offered = ask(app, "GET", "/v1/capabilities").json()["routes"]
    paths = {each["path"]: each["methods"] for each in offered}
    assert paths["/v1/images/generations"] == ["POST"]
    assert paths["/hf/models/{id:path}"] == ["POST"]
    assert paths["/healthz"] == ["GET", "HEAD"]


def test_before_any_model_is_warm_all_are_loading() -> None:
    body = ask(app_over(OneColour(warm=False)), "GET", "/v1/capabilities").json()
    assert (body["models"], body["loading"]) == ([], ["tiny", "loading"])
