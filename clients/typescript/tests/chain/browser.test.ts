// A page in Chromium that pays a server which allows it to.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { resolve } from "node:path";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { chromium, type Browser, type Page } from "playwright-core";
import { Ground } from "../ground.js";
import { Shop } from "../shop.js";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const root = resolve(import.meta.dirname, "../../..");
let [ground, shop, site, browser] = [undefined as unknown as Ground, undefined as unknown as Shop, createServer(), undefined as unknown as Browser];

/** A page with the bundle, and the chain's RPC, which other sites than a local chain's serve with CORS themselves. */
function serve(bundle: Uint8Array): Server {
  return site.on("request", (request, response) => {
    void (async () => {
      if (request.url === "/bundle.js") return response.setHeader("content-type", "text/javascript").end(bundle);
      if (request.method !== "POST") return response.setHeader("content-type", "text/html").end("<!doctype html><title>pays</title>");
      const parts: Uint8Array[] = [];
      for await (const part of request) parts.push(part as Uint8Array);
      const headers = { "content-type": "application/json" };
      const answer = await fetch(ground.report.rpc, { method: "POST", headers, body: Buffer.concat(parts) });
      return response.end(Buffer.from(await answer.arrayBuffer()));
    })().catch(() => request.socket.destroy());
  });
}

before(async () => {
  ground = await Ground.start();
  shop = await Shop.open(ground);
  const contents = `
    export * from "./dist/fetch.js";
    export { TallybookChannel } from "./dist/client.js";
    export { wrapFetchWithPayment, x402Client } from "@x402/fetch";`;
  const stdin = { contents, resolveDir: root };
  const bundled = await build({ stdin, bundle: true, minify: true, format: "esm", platform: "browser", target: "es2022", write: false });
  serve(bundled.outputFiles[0]?.contents ?? new Uint8Array()).listen(0, "127.0.0.1");
  await once(site, "listening");
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
});

after(async () => {
  await browser?.close();
  site.close();
  site.closeAllConnections();
  await shop?.close();
  await ground?.stop();
});

/** What a page does: a wallet whose key cannot be read, a session key, a store of the browser's own. */
async function inPage(page: Page, secret: Uint8Array, reloaded: boolean): Promise<Record<string, unknown>> {
  const { network, genesisHash, mint } = ground.report;
  const url = `${shop.url}/fixed`;
  const given = { network, genesisHash, mint, url, secret: [...secret], reloaded };
  return page.evaluate(async (given) => {
    const { network, genesisHash, mint, url, secret, reloaded } = given;
    const bundle = "/bundle.js";
    const { payingFetch, browserStore, TallybookChannel, wrapFetchWithPayment, x402Client } = await import(bundle);
    const cluster = { network, genesisHash, mint, rpc: `${location.origin}/rpc` };
    const policy = { cluster, maxPrice: 500n, deposit: 5_000n, budget: 100_000n, allowHosts: ["127.0.0.1"] };
    const signer = new Uint8Array(secret);
    const pay = payingFetch(fetch, { signer, policy, store: browserStore("wallet") });
    const statuses: number[] = [];
    for (let call = 0; call < 3; call++) statuses.push((await pay(url)).status);
    const other = payingFetch(fetch, { signer, policy, store: browserStore("wallet") });
    const locked = await other(url).then(() => "", (error: Error) => error.message);
    const channels = await pay.agent.channels();
    if (!reloaded) return { statuses, locked, channels: channels.length };
    const spent = String(await pay.agent.spent());
    const [outcome] = await pay.agent.closeAll();
    const scheme = new TallybookChannel(signer, policy);
    const buy = wrapFetchWithPayment(fetch, new x402Client().register("solana:*", scheme));
    for (let call = 0; call < 2; call++) statuses.push((await buy(url)).status);
    const [second] = await scheme.agent.closeAll();
    const charged = [outcome, second].map(({ closed, error }) => (closed ? String(closed.charged) : String(error)));
    return { statuses, locked, channels: channels.length, spent, charged };
  }, given);
}

test("given a page in Chromium when it buys, is loaded again and buys on then one channel pays for all of it", async () => {
  const secret = await ground.wallet();
  const page = await browser.newPage();
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  const { port } = site.address() as AddressInfo;
  await page.goto(`http://127.0.0.1:${port}/`);
  const first = await inPage(page, secret, false);
  assert.deepEqual([first.statuses, first.channels], [[200, 200, 200], 1]);
  assert.match(String(first.locked), /another tab pays from wallet/);
  await page.reload();
  const second = await inPage(page, secret, true);
  assert.deepEqual([second.statuses, second.channels], [[200, 200, 200, 200, 200], 1]);
  assert.deepEqual([second.spent, second.charged], ["3000", ["3000", "1000"]]);
  assert.deepEqual(errors, []);
});
