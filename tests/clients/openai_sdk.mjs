// openai: URL SCENARIO SETTINGS, as openai_sdk.py.
import { createReadStream, readFileSync } from "node:fs";
import OpenAI, { toFile } from "openai";

const [url, scenario, settings] = [...process.argv.slice(2, 4), JSON.parse(process.argv[4])];
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
const asked = {
  prompt: "a red house on green hills at day",
  model: settings.model,
  size: settings.size,
  seed: 7,
  num_inference_steps: 4,
};

const scenarios = {
  async generate() {
    const answer = await client.images.generate({ ...asked, n: 2 });
    const models = [];
    for await (const model of client.models.list()) models.push(model.id);
    return {
      models,
      pictures: answer.data.map((each) => each.b64_json),
      seeds: answer.data.map((each) => each.seed),
      size: answer.size,
      usage: answer.usage && [
        answer.usage.input_tokens,
        answer.usage.output_tokens,
        answer.usage.total_tokens,
      ],
      request_id: answer._request_id,
    };
  },
  async stream() {
    const events = [];
    try {
      const stream = await client.images.generate({ ...asked, stream: true, partial_images: 2 });
      for await (const event of stream) events.push(event);
    } catch (error) {
      if (!(error instanceof OpenAI.APIError)) throw error;
      return { events, error: { message: error.message, code: error.code } };
    }
    return { events, error: null };
  },
  async edit() {
    const answer = await client.images.edit({
      ...asked,
      image: createReadStream(settings.image),
      mask: await toFile(readFileSync(settings.mask), "mask.png", { type: "image/png" }),
    });
    return {
      pictures: answer.data.map((each) => each.b64_json),
      seeds: answer.data.map((each) => each.seed),
    };
  },
  async refused() {
    try {
      await client.images.generate(asked);
    } catch (error) {
      if (!(error instanceof OpenAI.APIError)) throw error;
      return {
        kind: error.constructor.name,
        status: error.status,
        code: error.code,
        param: error.param,
        type: error.type,
      };
    }
    return { kind: null };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
