"""Generations whose fields are wrong: their types, their values, their names."""

from tests.bad_inputs.case import LONG, MISSING, TYPE, UNKNOWN, VALUE, generation, raw

TYPES = [
    generation("n as text", "n", TYPE, "an integer", n="2"),
    generation("n as float", "n", TYPE, "an integer", n=2.5),
    generation("n as bool", "n", TYPE, "an integer", n=True),
    generation("n as list", "n", TYPE, "an integer", n=[1]),
    generation("prompt as number", "prompt", TYPE, "a string", prompt=7),
    generation("prompt as null", "prompt", TYPE, "a string", prompt=None),
    generation("prompt as list", "prompt", TYPE, "a string", prompt=["a"]),
    generation("prompt as object", "prompt", TYPE, "a string", prompt={"text": "a"}),
    generation("size as number", "size", TYPE, "a string", size=512),
    generation("size as list", "size", TYPE, "a string", size=[512, 512]),
    generation("seed as text", "seed", TYPE, "an integer", seed="42"),
    generation("seed as float", "seed", TYPE, "an integer", seed=0.5),
    generation("steps as text", "num_inference_steps", TYPE, "integer", num_inference_steps="20"),
    generation("guidance as text", "guidance_scale", TYPE, "a number", guidance_scale="7.5"),
    generation("guidance as bool", "guidance_scale", TYPE, "a number", guidance_scale=True),
    generation("rescale as text", "guidance_rescale", TYPE, "a number", guidance_rescale="0.7"),
    generation("guidance end as list", "guidance_end", TYPE, "a number", guidance_end=[0, 1]),
    generation("priority as number", "priority", TYPE, "a string", priority=1),
    generation("scheduler as number", "scheduler", TYPE, "a string", scheduler=1),
    generation("stream as text", "stream", TYPE, "true or false", stream="true"),
    generation("model as number", "model", TYPE, "a string", model=1),
    generation("quality as number", "quality", TYPE, "a string", quality=2),
]

VALUES = [
    generation("prompt empty", "prompt", VALUE, "empty", prompt=""),
    generation("prompt of blanks", "prompt", VALUE, "empty", prompt=" \n\t "),
    generation("prompt too long", "prompt", VALUE, "32000", prompt=LONG),
    generation(
        "negative prompt too long", "negative_prompt", VALUE, "32000", negative_prompt="x" * 32_001
    ),
    generation("n zero", "n", VALUE, "from 1", n=0),
    generation("n negative", "n", VALUE, "-1", n=-1),
    generation("n huge", "n", VALUE, "10000000000", n=10**10),
    generation("n beyond every integer", "n", VALUE, "", n=10**4000),
    generation("steps zero", "num_inference_steps", VALUE, "from 1", num_inference_steps=0),
    generation("steps negative", "num_inference_steps", VALUE, "-5", num_inference_steps=-5),
    generation("steps huge", "num_inference_steps", VALUE, "1000000", num_inference_steps=10**6),
    generation("guidance negative", "guidance_scale", VALUE, "-0.5", guidance_scale=-0.5),
    generation("guidance huge", "guidance_scale", VALUE, "from 0", guidance_scale=1e30),
    generation("rescale above 1", "guidance_rescale", VALUE, "from 0 to 1", guidance_rescale=1.1),
    generation("rescale negative", "guidance_rescale", VALUE, "-0.1", guidance_rescale=-0.1),
    generation("guidance start negative", "guidance_start", VALUE, "-1", guidance_start=-1),
    generation("guidance start of percents", "guidance_start", VALUE, "20", guidance_start=20),
    generation("guidance start at the end", "guidance_start", VALUE, "before", guidance_start=1),
    generation("guidance end at the start", "guidance_end", VALUE, "before", guidance_end=0),
    generation(
        "guidance ends before it starts",
        "guidance_start",
        VALUE,
        "0.8 is not before guidance_end 0.2",
        guidance_start=0.8,
        guidance_end=0.2,
    ),
    generation("priority unknown", "priority", VALUE, "low, normal, high", priority="urgent"),
    generation("priority empty", "priority", VALUE, "normal", priority=""),
    generation("seed negative", "seed", VALUE, "-1", seed=-1),
    generation("seed of 2**63", "seed", VALUE, "from 0", seed=2**63),
    generation("seed of 2**64", "seed", VALUE, "from 0", seed=2**64),
    generation(
        "cropped without image", "resize_mode", VALUE, "without an image", resize_mode="crop"
    ),
    generation("blur without mask", "mask_blur", VALUE, "without a mask", mask_blur=4),
    generation("strength without image", "strength", VALUE, "without an image", strength=0.5),
    generation("size of one number", "size", VALUE, "512x512", size="512"),
    generation("size of words", "size", VALUE, "512x512", size="large"),
    generation("size empty", "size", VALUE, "512x512", size=""),
    generation("size negative", "size", VALUE, "512x512", size="-512x512"),
    generation("size zero", "size", VALUE, "512x512", size="0x0"),
    generation("size fractional", "size", VALUE, "512x512", size="512.0x512"),
    generation("size with a cross sign", "size", VALUE, "512x512", size="512\u00d7512"),
    generation("size in other digits", "size", VALUE, "512x512", size="\u0665\u0661\u0662x512"),
    generation("size not a multiple", "size", VALUE, "nearest valid size", size="129x127"),
    generation("size huge", "size", VALUE, "nearest valid size", size="999999x999999"),
    generation("size tiny", "size", VALUE, "nearest valid size", size="1x1"),
    generation("size of long digits", "size", VALUE, "512x512", size="9" * 5000 + "x512"),
    generation("scheduler of a dash", "scheduler", VALUE, "choose one of", scheduler="-"),
    generation("scheduler of a tree", "scheduler", VALUE, "'DPM++ 2M SDE'", scheduler="DPM++ SDE"),
    generation(
        "scheduler unknown", "scheduler", VALUE, "choose one of", scheduler="NoSuchScheduler"
    ),
    generation(
        "scheduler misspelt",
        "scheduler",
        VALUE,
        "did you mean 'EulerDiscreteScheduler'?",
        scheduler="EulerDiscretScheduler",
    ),
    generation("scheduler empty", "scheduler", VALUE, "choose one of", scheduler=""),
    generation("model unknown", "model", "model_not_found", "choose one of", 404, model="dall-e-9"),
    generation("model empty", "model", "model_not_found", "choose one of", 404, model=""),
    generation("quality unknown", "quality", VALUE, "did you mean 'high'?", quality="hihg"),
    generation(
        "output format unknown", "output_format", VALUE, "png, jpeg, webp", output_format="gif"
    ),
    generation("compression above 100", "output_compression", VALUE, "101", output_compression=101),
    generation("compression negative", "output_compression", VALUE, "-1", output_compression=-1),
    generation(
        "response format unknown", "response_format", VALUE, "b64_json", response_format="blob"
    ),
    generation(
        "a stream of addresses", "response_format", VALUE, "b64", stream=True, response_format="url"
    ),
    generation("partials unstreamed", "partial_images", VALUE, "stream true", partial_images=2),
    generation(
        "partials above 3", "partial_images", VALUE, "0 to 3", stream=True, partial_images=4
    ),
    generation("partials negative", "partial_images", VALUE, "-1", stream=True, partial_images=-1),
    generation("transparent", "background", VALUE, "'opaque'", background="transparent"),
    generation("background unknown", "background", VALUE, "opaque", background="green"),
]

FIELDS = [
    generation("unknown field", "nonsense", UNKNOWN, "'nonsense'", nonsense=1),
    generation("misspelt field", "promt", UNKNOWN, "did you mean 'prompt'?", promt="x"),
    generation("another service's field", "num_images", UNKNOWN, "'n'", num_images=2),
    generation("cfg_rescale", "cfg_rescale", UNKNOWN, "'guidance_rescale'", cfg_rescale=0.7),
    generation("two names", "cfg_scale", VALUE, "same", cfg_scale=7, guidance_scale=8),
    generation("two aliases", "step", VALUE, "same", steps=7, step=8),
    generation("an alias of a wrong type", "steps", TYPE, "an integer", steps="7"),
    generation("adapters by another name", "loras", TYPE, "an array", lora="x"),
    generation("adapters by two names", "lora", VALUE, "same", lora=[1], loras=[2]),
    generation("an adapter of no name", "loras", MISSING, "loras[0].name", loras=[{"scale": 1}]),
    generation("an adapter by its file", "loras", UNKNOWN, "'file'", loras=[{"file": "x"}]),
    generation("adapters as number", "loras", TYPE, "an array", loras=1),
    generation("an adapter alone", "loras", TYPE, "an array", loras={"name": "x"}),
    generation(
        "a scale as text", "loras", TYPE, "loras[0].scale", loras=[{"name": "x", "scale": "1"}]
    ),
    generation("an unknown adapter", "loras", VALUE, "'x' is not offered", loras=[{"name": "x"}]),
    generation(
        "adapters without end", "loras", VALUE, "10000 bytes", loras=[{"name": "x" * 10_000}]
    ),
    generation("width alone", "size", VALUE, "both sides", width=512),
    generation("width and another size", "width", VALUE, "agree", width=512, size="64x64"),
    generation("field of no name", "", UNKNOWN, "''", **{"": 1}),
    generation("field of quotes", "`'\"", UNKNOWN, "", **{"`'\"": 1}),
    generation("field with a line break", "a\nb", UNKNOWN, "", **{"a\nb": 1}),
    generation("field of a long name", "x" * 200, UNKNOWN, "...", **{"x" * 100_000: 1}),
    generation("image in JSON", "image", UNKNOWN, "'image'", image="aGk="),
    raw("no prompt", b'{"n": 1}', MISSING, "required", param="prompt"),
    raw("empty object", b"{}", MISSING, "required", param="prompt"),
]
