// Measures what a browser would load: each entry alone, bundled and minified, plain and compressed.

import { build } from "esbuild";
import { gzipSync } from "node:zlib";

const entries = {
  'payingFetch from "@tallybook/x402/fetch"': 'export { payingFetch } from "./dist/fetch.js"',
  'TallybookChannel from "@tallybook/x402/client"': 'export { TallybookChannel } from "./dist/client.js"',
  'PolicyBreach alone from "@tallybook/x402/fetch"': 'export { PolicyBreach } from "./dist/fetch.js"',
};
for (const [name, contents] of Object.entries(entries)) {
  const stdin = { contents, resolveDir: process.cwd(), loader: "js" };
  const options = { stdin, bundle: true, minify: true, format: "esm", platform: "browser", target: "es2022", write: false };
  const [file] = (await build(options)).outputFiles;
  console.log(`${name}: ${file.contents.length} bytes, ${gzipSync(file.contents).length} compressed`);
}
