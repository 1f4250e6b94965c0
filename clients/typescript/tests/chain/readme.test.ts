// The code of the README runs as it stands there.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { transform } from "esbuild";
import type { Express } from "express";
import { payingFetch } from "../../src/fetch.js";
import { Ground } from "../ground.js";

let ground: Ground;
const root = resolve(import.meta.dirname, "../../..");
const folder = join(root, "build/readme");

before(async () => {
  ground = await Ground.start();
  await mkdir(folder, { recursive: true });
  process.chdir(ground.folder); // for the files that the examples name
});

after(() => ground?.stop());

/** Runs the block under a heading, with what it takes for granted, and gives these of its names. */
async function run(heading: string, given: Record<string, unknown>, ...names: readonly string[]): Promise<Record<string, unknown>> {
  const text = await readFile(join(root, "README.md"), "utf8");
  const section = text.split(/^## /m).find((section) => section.startsWith(`${heading}\n`));
  const block = /```ts\n([^]*?)```/.exec(section ?? "")?.[1];
  assert.ok(block, heading);
  const known = Object.keys(given).filter((name) => !block.includes(`const ${name} =`));
  const { code } = await transform(`const { ${known.join(", ")} } = globalThis.given;\n${block}\nexport { ${names.join(", ")} };`, {
    loader: "ts",
  });
  const file = join(folder, `${heading.replaceAll(/[^a-z0-9]/gi, "-")}.mjs`);
  await writeFile(file, code);
  Object.assign(globalThis, { given });
  return (await import(file)) as Record<string, unknown>;
}

test("given the README when its examples run then they pay, and charge", async () => {
  const { network, genesisHash, mint, book } = ground.report;
  const given = { network, genesisHash, mint, book, operator: await ground.secret("operator") };
  const first = await run("Pay", { ...given, signer: await ground.wallet(2_000_000n) }, "answer", "pay");
  assert.equal((first.answer as Response).status, 200);
  const signer = await ground.wallet();
  const second = await run("Pay with `@x402/fetch`", { ...given, signer, policy: ground.policy() }, "answer", "channel");
  assert.equal((second.answer as Response).status, 200);
  const { app } = (await run("Charge", given, "app")) as { app: Express };
  const server = app.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const pay = payingFetch(fetch, { signer: await ground.wallet(), policy: ground.policy({ maxCeiling: 10_000n }) });
  assert.deepEqual(await (await pay(`${url}/weather`)).json(), { weather: "sunny" });
  assert.equal((await pay(`${url}/summary`)).status, 200);
  assert.equal(await pay.agent.spent(), 3_900n);
  server.close();
  server.closeAllConnections();
});
