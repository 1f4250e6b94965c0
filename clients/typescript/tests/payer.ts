// A process of its own that pays, to be killed. Arguments: a policy's file, a key file, a state folder, URLs to get in turn.

import { readFile } from "node:fs/promises";
import { payingFetch } from "../src/fetch.js";
import { fileStore } from "../src/node.js";
import type { Policy } from "../src/policy.js";

const [policyFile = "", keyFile = "", folder = "", ...urls] = process.argv.slice(2);
const bigints = (_name: string, value: unknown): unknown =>
  typeof value === "string" && /^[0-9]+n$/.test(value) ? BigInt(value.slice(0, -1)) : value;
const policy = JSON.parse(await readFile(policyFile, "utf8"), bigints) as Policy;
const signer = Uint8Array.from(JSON.parse(await readFile(keyFile, "utf8")) as number[]);
const pay = payingFetch(fetch, { signer, policy, store: fileStore(folder) });
for (const url of urls) {
  console.log(`getting ${url}`);
  const answer = await pay(url);
  console.log(`answered ${answer.status}`);
}
await pay.agent.shutdown();
