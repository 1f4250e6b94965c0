// Answers that are paid for as they come, from the paywall's example `tokens`.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { type PayingFetch, payingFetch, streamEnd } from "../../src/fetch.js";
import { Between, rewrite } from "../between.js";
import { Ground, TALLYBOOK } from "../ground.js";

const TOKENS = process.env.TALLYBOOK_TOKENS ?? join(dirname(TALLYBOOK), "examples/tokens");
const url = "http://127.0.0.1:3000/complete";
let ground: Ground;
let model: ChildProcess;

before(async () => {
  ground = await Ground.start();
  const env = { ...process.env, FACILITATOR: ground.report.facilitator, BOOK: ground.report.book };
  model = spawn(TOKENS, [], { env, cwd: ground.folder, stdio: ["ignore", "inherit", "inherit"] });
  await once(model, "spawn");
  const answers = (): Promise<boolean> => fetch(url, { method: "POST" }).then(() => true, () => false);
  while (!(await answers())) await new Promise((resolve) => setTimeout(resolve, 50));
});

after(async () => {
  const ended = once(model, "exit");
  model.kill();
  await ended;
  await ground?.stop();
});

/** What the facilitator has charged on the only channel of an agent. */
async function charged({ agent }: PayingFetch): Promise<bigint> {
  const [channel] = await agent.channels();
  const view = await fetch(`${ground.report.facilitator}/channels/${channel?.id}`);
  return BigInt(((await view.json()) as { charged: string }).charged);
}

test("given a stream of 240 tokens at 20 base units when it is read to its end then 4,800 are paid, part by part", async () => {
  const policy = ground.policy({ maxCeiling: 10_000n });
  const pay = payingFetch(fetch, { signer: await ground.wallet(), policy });
  const answer = await pay(url, { method: "POST", body: "once upon a time" });
  assert.equal(answer.status, 200);
  const text = await answer.text();
  assert.equal(text.match(/^data: /gm)?.length, 240);
  const end = await streamEnd(answer);
  assert.deepEqual([end?.charged, end?.reason, end?.declined], [4_800n, undefined, undefined]);
  assert.ok((end?.signed ?? 0n) <= 6_000n);
  assert.deepEqual([await charged(pay), await pay.agent.spent()], [4_800n, 4_800n]);
});

test("given a limit below what a stream would cost when it is read then it ends early, within the limit", async () => {
  const pay = payingFetch(fetch, { signer: await ground.wallet(), policy: ground.policy({ maxCeiling: 2_500n }) });
  const answer = await pay(url, { method: "POST", body: "once upon a time" });
  await answer.text().catch(() => undefined);
  const end = await streamEnd(answer);
  assert.ok(end && end.charged !== undefined && end.charged <= 2_500n, String(end?.charged));
  assert.match(end.declined ?? "", /the limit is 2500/);
  assert.deepEqual([await charged(pay), await pay.agent.spent()], [end.charged, end.charged]);
});

test("given a reader who stops when the body is dropped then the stream stops costing", async () => {
  const pay = payingFetch(fetch, { signer: await ground.wallet(), policy: ground.policy({ maxCeiling: 10_000n }) });
  const answer = await pay(url, { method: "POST", body: "once upon a time" });
  const reader = answer.body?.getReader();
  await reader?.read();
  await reader?.cancel();
  const end = await streamEnd(answer);
  assert.ok(end && end.signed <= 10_000n);
  assert.ok((await charged(pay)) <= end.signed);
});

test("given a meter that claims more than was signed when it asks for more then nothing more is signed", async () => {
  const between = await Between.of("http://127.0.0.1:3000");
  between.meddle = (passing) => {
    rewrite(passing, ({ accepts }) => {
      for (const { extra } of accepts) {
        const state = extra.channelState as Record<string, unknown> | undefined;
        if (state) state.chargedCumulativeAmount = "9000";
      }
    });
  };
  // The stream comes from the server itself, what its meter says does not.
  const meter: typeof fetch = (input, init) => {
    const request = new Request(input, init);
    const isMeter = request.headers.has("PAYMENT-METER");
    return fetch(isMeter ? request.url.replace("127.0.0.1:3000", new URL(between.url).host) : request, isMeter ? init : undefined);
  };
  const lied = payingFetch(meter, { signer: await ground.wallet(), policy: ground.policy({ maxCeiling: 10_000n }) });
  const answer = await lied(url, { method: "POST", body: "once upon a time" });
  const reader = answer.body?.getReader();
  await reader?.read();
  await new Promise((resolve) => setTimeout(resolve, 500));
  await reader?.cancel();
  const end = await streamEnd(answer);
  assert.deepEqual(end?.signed, 1_000n);
  assert.match(end?.declined ?? "", /claims 9000 base units/);
  await between.close();
});
