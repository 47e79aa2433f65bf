// @huggingface/inference: URL SCENARIO SETTINGS, as hugging_face.py.
import { readFileSync } from "node:fs";
import { InferenceClient } from "@huggingface/inference";

const [url, scenario, settings] = [...process.argv.slice(2, 4), JSON.parse(process.argv[4])];
const client = new InferenceClient("none").endpoint(`${url}/hf/models/${settings.model}`);
const prompt = "a red house on green hills at day";
const size = { width: settings.side, height: settings.side };

const scenarios = {
  text_to_image: () =>
    client.textToImage({
      inputs: prompt,
      parameters: { ...size, negative_prompt: "fog", num_inference_steps: 4, guidance_scale: 3, seed: 7 },
    }),
  image_to_image: () =>
    client.imageToImage({
      inputs: new Blob([readFileSync(settings.image)], { type: "image/png" }),
      parameters: { prompt, target_size: size, num_inference_steps: 4, seed: 7 },
    }),
};

const picture = await scenarios[scenario]();
const content = Buffer.from(await picture.arrayBuffer());
console.log(JSON.stringify({ pictures: [content.toString("base64")], type: picture.type }));
