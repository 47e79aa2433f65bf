// node-sd-webui: URL SCENARIO SETTINGS, where SETTINGS is JSON with `side` and `image`.
import { readFileSync } from "node:fs";
import client from "node-sd-webui";

const [url, scenario, settings] = [...process.argv.slice(2, 4), JSON.parse(process.argv[4])];
const sdwebui = (client.default ?? client)({ apiUrl: url });
const prompt = "a red house on green hills at day";

const scenarios = {
  // Nothing but the prompt: the rest is the server's.
  txt2img: () => sdwebui.txt2img({ prompt }),
  img2img: () =>
    sdwebui.img2img({
      prompt,
      imageData: [readFileSync(settings.image).toString("base64")],
      width: settings.side,
      height: settings.side,
      steps: 4,
      seed: 7,
      samplingMethod: "Euler",
    }),
};

const answer = await scenarios[scenario]();
console.log(JSON.stringify({ pictures: answer.images, info: answer.info }));
