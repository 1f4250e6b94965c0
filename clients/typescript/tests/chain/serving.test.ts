// The scheme on the server's side, behind @x402/express and Hono.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { serve } from "@hono/node-server";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/hono";
import { Hono } from "hono";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { TallybookChannel } from "../../src/client.js";
import { payingFetch, receipt } from "../../src/fetch.js";
import { AgentError } from "../../src/error.js";
import { memoryStore } from "../../src/store.js";
import { TallybookChannelServer } from "../../src/server.js";
import { header, readHeader } from "../../src/wire.js";
import { Between } from "../between.js";
import { Ground } from "../ground.js";
import { Shop } from "../shop.js";

let ground: Ground;
let shop: Shop;

before(async () => {
  ground = await Ground.start();
  shop = await Shop.open(ground);
});

after(async () => {
  await shop?.close();
  await ground?.stop();
});

const payer = async (more = {}) => payingFetch(fetch, { signer: await ground.wallet(), policy: ground.policy(more) });

test("given no payment when asked then the 402 offers a free slot with the terms of the book", async () => {
  const answer = await fetch(`${shop.url}/fixed`);
  assert.equal(answer.status, 402);
  const required = readHeader(answer.headers.get("PAYMENT-REQUIRED") ?? "") as { accepts: Record<string, unknown>[] };
  const [accept] = required.accepts;
  assert.equal(accept?.amount, "500");
  assert.equal(accept?.payTo, ground.address("payee"));
  const extra = accept?.extra as Record<string, unknown>;
  for (const name of ["book", "bookId", "page", "slot", "generation", "feePayer", "withdrawDelay", "minDeposit", "recentBlockhash"]) {
    assert.notEqual(extra[name], undefined, name);
  }
  assert.deepEqual(shop.served, []);
});

test("given a handler that fails when paid then the reservation is released and nothing is charged", async () => {
  const pay = await payer();
  for (let call = 0; call < 2; call++) assert.equal((await pay(`${shop.url}/fails`)).status, 404);
  assert.equal((await pay(`${shop.url}/fixed`)).status, 200);
  assert.equal(await pay.agent.spent(), 500n);
  const [closed] = await pay.agent.closeAll();
  assert.deepEqual([closed?.closed?.charged, closed?.closed?.returned], [500n, 19_500n]);
});

test("given a metered call when it says what it cost then that is charged, and the next voucher may be for less", async () => {
  const pay = await payer();
  const costs = [["300", 300n], ["0", 0n], ["50%", 500n], ["$0.0007", 700n], ["1000", 1_000n]] as const;
  for (const [said, cost] of costs) {
    const answer = await pay(`${shop.url}/metered?cost=${encodeURIComponent(said)}`);
    assert.equal(answer.status, 200, said);
    assert.equal(receipt(answer)?.chargedAmount, cost, said);
    assert.equal(answer.headers.get("Settlement-Overrides"), null, "for the middleware alone");
  }
  assert.equal(await pay.agent.spent(), 2_500n);
  const [closed] = await pay.agent.closeAll();
  assert.equal(closed?.closed?.charged, 2_500n);
});

test("given a handler that charges above the ceiling when paid then nothing is charged", async () => {
  const pay = await payer();
  await assert.rejects(pay(`${shop.url}/metered?cost=1001`), (error) => {
    return error instanceof AgentError && error.reason === "charge_above_ceiling";
  });
  // The Rust agent takes it for what it is, too.
  const told = (error: unknown) => String((error as { stderr?: string }).stderr).includes("charge_above_ceiling");
  await assert.rejects(ground.cli("pay", `${shop.url}/metered?cost=1001`), told);
  assert.equal((await pay(`${shop.url}/metered?cost=1`)).status, 200);
  const [closed] = await pay.agent.closeAll();
  assert.equal(closed?.closed?.charged, 1n);
});

test("given the newest vouchers in the server's file when its facilitator is not asked then the payee is paid from it", async () => {
  const pay = await payer();
  await pay(`${shop.url}/fixed`);
  await pay(`${shop.url}/metered?cost=123`);
  const [channel] = await pay.agent.channels();
  const lines = (await readFile(shop.vouchers, "utf8")).trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
  const kept = lines.reverse().find(({ voucher }) => (voucher as { channelId: string }).channelId === channel?.id);
  assert.equal(kept?.charged, "623");
  const [payee, claimed] = [await ground.tokens(ground.address("payee")), await ground.claimed()];
  await ground.cli("vouchers", "export", shop.vouchers, "--book", ground.report.book, "-o", "export.jsonl");
  await ground.cli("settle", "export.jsonl");
  assert.equal((await ground.slot(channel?.parts.slot ?? 0)).settled, 623n);
  assert.equal((await ground.claimed()) - claimed, 623n);
  assert.ok((await ground.tokens(ground.address("payee"))) > payee);
  await pay.agent.closeAll();
});

test("given two calls at once on one channel when made then the server lets one wait", async () => {
  const store = memoryStore();
  const signer = await ground.wallet();
  const pay = payingFetch(fetch, { signer, policy: ground.policy(), store });
  await pay(`${shop.url}/fixed`);
  // The same channel in other hands at the same time: what the agent itself would never do.
  const copy = memoryStore(await store.load());
  const other = payingFetch(fetch, { signer, policy: ground.policy(), store: copy });
  const [first, second] = await Promise.all([pay(`${shop.url}/slow`), other(`${shop.url}/slow`)]);
  assert.deepEqual([first.status, second.status], [200, 200]);
  const [closed] = await other.agent.closeAll();
  assert.equal(closed?.closed?.charged, 1_500n);
});

test("given a server without its operator's key when asked to close then it says so, and the chain is left", async () => {
  const keyless = await Shop.open(ground, { operator: undefined as never });
  try {
    const pay = await payer();
    await pay(`${keyless.url}/fixed`);
    const [outcome] = await pay.agent.closeAll();
    assert.equal((outcome?.error as AgentError).reason, "operator_must_sign");
    const [channel] = await pay.agent.channels();
    const closingAt = await pay.agent.forceClose(channel?.id ?? "");
    assert.ok(closingAt > Date.now() / 1_000);
    assert.equal((await ground.slot(channel?.parts.slot ?? 0)).status, "closing");
    await assert.rejects(pay.agent.withdraw(channel?.id ?? ""), /can be withdrawn from/);
    const exit = await pay.agent.exitTransaction(channel?.id ?? "", ground.address("sponsor")).catch((error: unknown) => error);
    assert.match(String(exit), /can be withdrawn from/);
  } finally {
    await keyless.close();
  }
});

test("given a facilitator whose answers are lost when paid then nothing is lost or charged twice, by wrapper and scheme", async () => {
  const facilitator = await Between.of(ground.report.facilitator);
  const far = await Shop.open(ground, { facilitator: { url: facilitator.url, timeoutMilliseconds: 2_000 } });
  try {
    const [pay, channel] = [await payer(), new TallybookChannel(await ground.wallet(), ground.policy())];
    const buy = wrapFetchWithPayment(fetch, new x402Client().register("solana:*", channel));
    for (const get of [pay, buy]) {
      for (const lost of ["/settle", "/settle", "/settle", "/verify"]) {
        // First of the deposit, then of the voucher: each once.
        let drops = 1;
        facilitator.meddle = ({ path }) => (path === lost && drops-- > 0 ? "drop" : undefined);
        assert.equal((await get(`${far.url}/fixed`)).status, 200, lost);
      }
    }
    facilitator.meddle = () => undefined;
    for (const { agent } of [pay, channel]) {
      const [closed, ...others] = await agent.closeAll();
      assert.deepEqual([closed?.closed?.charged, others.length], [2_000n, 0], String(closed?.error));
    }
    // When it does not answer at all, nobody is served, and nobody charged.
    const served = far.served.length;
    facilitator.meddle = () => "drop";
    const patient = payingFetch(fetch, { signer: await ground.wallet(), policy: ground.policy({ attempts: 2 }) });
    assert.equal((await patient(`${far.url}/fixed`)).status, 502);
    facilitator.meddle = () => undefined;
    assert.equal((await patient(`${far.url}/fixed`)).status, 200);
    facilitator.meddle = () => "drop";
    const isAway = (error: unknown) => error instanceof AgentError && error.reason === "facilitator_unavailable";
    await assert.rejects(patient(`${far.url}/fixed`), isAway);
    assert.equal(far.served.length, served + 1);
    assert.equal(await patient.agent.spent(), 500n);
  } finally {
    await far.close();
    await facilitator.close();
  }
});

test("given garbage for a payment when sent then it is refused with its name, and no handler runs", async () => {
  const pay = await payer();
  await pay(`${shop.url}/fixed`);
  const served = shop.served.length;
  const answer = await fetch(`${shop.url}/fixed`);
  const required = readHeader(answer.headers.get("PAYMENT-REQUIRED") ?? "") as { accepts: Record<string, unknown>[] };
  const [accepted] = required.accepts;
  const send = async (payload: unknown, accept: unknown = accepted): Promise<string | undefined> => {
    const value = header({ x402Version: 2, accepted: accept, payload });
    const refused = await fetch(`${shop.url}/fixed`, { headers: { "PAYMENT-SIGNATURE": value } });
    assert.equal(refused.status, 402);
    return (readHeader(refused.headers.get("PAYMENT-REQUIRED") ?? "") as { error?: string }).error;
  };
  const [channel] = await pay.agent.channels();
  const signature = "1".repeat(64);
  const voucher = { channelId: channel?.id, maxClaimableAmount: "1000", signature };
  assert.equal(await send({}), "malformed_payload");
  assert.equal(await send({ type: "gift", voucher }), "malformed_payload");
  assert.equal(await send({ type: "voucher", voucher }), "bad_signature");
  assert.equal(await send({ type: "voucher", voucher }, { ...accepted, amount: "1" }), "wrong_price");
  assert.equal(await send({ type: "voucher", voucher }, { ...accepted, payTo: ground.address("agent") }), "requirements_mismatch");
  assert.equal(shop.served.length, served);
  await pay.agent.closeAll();
});

test("given a route of Hono when bought from then it is the same scheme", async () => {
  const { facilitator: url, book, network } = ground.report;
  const channel = new TallybookChannelServer({ facilitator: { url }, book, keepVouchersIn: false, operator: await ground.secret("operator") });
  const core = new x402ResourceServer(new HTTPFacilitatorClient({ url })).register("solana:*", channel);
  const app = new Hono();
  const accepts = channel.accepts(network as `${string}:${string}`, { asset: ground.report.mint, amount: "77" });
  app.use(paymentMiddleware({ "GET /hono": { accepts } }, core));
  app.get("/hono", (context) => context.json({ hono: true }));
  const server = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }) as Server;
  await once(server, "listening");
  try {
    const pay = await payer();
    const answer = await pay(`http://127.0.0.1:${(server.address() as AddressInfo).port}/hono`);
    assert.deepEqual(await answer.json(), { hono: true });
    const [closed] = await pay.agent.closeAll();
    assert.equal(closed?.closed?.charged, 77n);
  } finally {
    server.close();
  }
});
