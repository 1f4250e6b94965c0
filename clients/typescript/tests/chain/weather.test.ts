// Bad weather everywhere: answers are lost between client, server and facilitator, again and again. SEEDS="4 5" tries others.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import type { Agent } from "../../src/agent.js";
import { TallybookChannel } from "../../src/client.js";
import { AgentError } from "../../src/error.js";
import { payingFetch } from "../../src/fetch.js";
import { Between } from "../between.js";
import { Ground } from "../ground.js";
import { Shop } from "../shop.js";

const CALLS = 40;
const LANES = 3;
let [ground, facilitator, shop, between] = [undefined as unknown as Ground, undefined as unknown as Between, undefined as unknown as Shop, undefined as unknown as Between];

before(async () => {
  ground = await Ground.start();
  facilitator = await Between.of(ground.report.facilitator);
  shop = await Shop.open(ground, { facilitator: { url: facilitator.url, timeoutMilliseconds: 2_000 } });
  between = await Between.of(shop.url);
});

after(async () => {
  await between?.close();
  await shop?.close();
  await facilitator?.close();
  await ground?.stop();
});

/** Numbers from 0 to 1, the same for the same seed. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

interface Buyer {
  readonly agent: Agent;
  readonly get: (url: string) => Promise<Response>;
}

async function buyers(): Promise<readonly Buyer[]> {
  const policy = ground.policy({ channelsPerHost: LANES, deposit: 3_000n, maxDeposit: 3_000n, attempts: 12 });
  const pay = payingFetch(fetch, { signer: await ground.wallet(), policy });
  const channel = new TallybookChannel(await ground.wallet(), policy);
  const buy = wrapFetchWithPayment(channel.watch(fetch), new x402Client().register("solana:*", channel));
  return [{ agent: pay.agent, get: pay }, { agent: channel.agent, get: buy }];
}

for (const seed of (process.env.SEEDS ?? "1 2 3").split(" ").map(Number)) {
  test(`given bad weather under seed ${seed} when many calls are made then each that was charged is known, and none twice`, async (context) => {
    const roll = dice(seed);
    for (const { agent, get } of await buyers()) {
      facilitator.meddle = ({ path }) => (path !== "/supported" && roll() < 0.06 ? "drop" : undefined);
      between.meddle = ({ paid }) => (paid && roll() < 0.12 ? "drop" : undefined);
      const outcomes = await Promise.allSettled(Array.from({ length: CALLS }, () => get(`${between.url}/fixed`)));
      [facilitator.meddle, between.meddle] = [() => undefined, () => undefined];
      let [paid, told] = [0n, 0n];
      for (const outcome of outcomes) {
        if (outcome.status === "fulfilled") paid += outcome.value.status === 200 ? 1n : 0n;
        else {
          assert.ok(outcome.reason instanceof AgentError, String(outcome.reason));
          told += ["charged_without_answer", "answer_lost"].includes(outcome.reason.code) ? 1n : 0n;
        }
      }
      let charged = 0n;
      for (const { closed, error } of await agent.closeAll()) {
        assert.equal(error, undefined, String(error));
        charged += closed?.charged ?? 0n;
      }
      context.diagnostic(`${paid} paid, ${told} lost, ${charged} base units`);
      assert.ok(paid > 0n && charged >= paid * 500n, `${charged} for ${paid} answers`);
      assert.ok(charged <= (paid + told) * 500n, `${charged} for ${paid} answers and ${told} that were lost`);
      assert.equal(await agent.spent(), charged);
      const wallet = await agent.wallet();
      assert.equal(await ground.tokens(wallet), 1_000_000n - charged);
    }
  });
}
