// Everybody who pays, at everybody who charges, on a real chain: to the base unit.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createKeyPairSignerFromBytes } from "@solana/kit";
import { wrapAxiosWithPayment } from "@x402/axios";
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import axios from "axios";
import { TallybookChannel } from "../../src/client.js";
import { payingFetch } from "../../src/fetch.js";
import { signerFrom } from "../../src/keys.js";
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

/** What the wallet paid and the payee was given while this ran. */
async function moved(act: (secret: Uint8Array) => Promise<void>, known?: Uint8Array): Promise<{ paid: bigint; claimed: bigint }> {
  const secret = known ?? (await ground.wallet());
  const { address } = await signerFrom(secret);
  const [tokens, claimed] = [await ground.tokens(address), await ground.claimed()];
  await act(secret);
  return { paid: tokens - (await ground.tokens(address)), claimed: (await ground.claimed()) - claimed };
}

test("given the light wrapper when it buys from the Rust paywall then exactly the calls are paid", async () => {
  const { paid, claimed } = await moved(async (secret) => {
    const pay = payingFetch(fetch, { signer: secret, policy: ground.policy() });
    for (let call = 0; call < 5; call++) {
      const answer = await pay(ground.report.paidUrl, { method: "POST", body: "to pay or not to pay" });
      assert.equal(answer.status, 200);
      assert.equal(((await answer.json()) as { words: number }).words, 6);
    }
    assert.equal(await pay.agent.spent(), 2_500n);
    assert.equal(await pay.agent.committed(), 20_000n);
    const [closed] = await pay.agent.closeAll();
    assert.deepEqual(closed?.closed, { id: closed?.id, charged: 2_500n, returned: 17_500n });
    assert.equal(await pay.agent.committed(), 2_500n);
  });
  assert.deepEqual({ paid, claimed }, { paid: 2_500n, claimed: 2_500n });
});

test("given the light wrapper when it buys from @x402/express then exactly the calls are paid", async () => {
  const { paid, claimed } = await moved(async (secret) => {
    const pay = payingFetch(fetch, { signer: secret, policy: ground.policy() });
    const first = await pay(`${shop.url}/fixed`);
    assert.deepEqual(await first.json(), { weather: "sunny" });
    const second = await pay(`${shop.url}/fixed`, { method: "POST", body: "hello" });
    assert.deepEqual(await second.json(), { echo: "hello" });
    const [closed] = await pay.agent.closeAll();
    assert.equal(closed?.error, undefined);
    assert.equal(closed?.closed?.charged, 1_000n);
  });
  assert.deepEqual({ paid, claimed }, { paid: 1_000n, claimed: 1_000n });
});

test("given @x402/fetch with the scheme when it buys from both servers then exactly the calls are paid", async () => {
  const { paid, claimed } = await moved(async (secret) => {
    const signer = await createKeyPairSignerFromBytes(secret);
    const channel = new TallybookChannel(signer, ground.policy());
    const client = new x402Client().register("solana:*", channel);
    const pay = wrapFetchWithPayment(fetch, client);
    for (let call = 0; call < 3; call++) {
      const answer = await pay(`${shop.url}/fixed`);
      assert.equal(answer.status, 200);
      const receipt = decodePaymentResponseHeader(answer.headers.get("PAYMENT-RESPONSE") ?? "");
      assert.equal(receipt.success, true);
    }
    for (let call = 0; call < 3; call++) {
      const answer = await pay(ground.report.paidUrl, { method: "POST", body: "x402" });
      assert.equal(answer.status, 200);
    }
    const closed = await channel.agent.closeAll();
    assert.deepEqual(closed.map(({ closed, error }) => closed?.charged ?? error), [1_500n, 1_500n]);
  });
  assert.deepEqual({ paid, claimed }, { paid: 3_000n, claimed: 3_000n });
});

test("given @x402/axios with the scheme when it buys then exactly the calls are paid", async () => {
  const { paid, claimed } = await moved(async (secret) => {
    const channel = new TallybookChannel(secret, ground.policy());
    const client = new x402Client().register("solana:*", channel);
    // Its version 2.11.0 tells no scheme what came of a payment.
    const fetching = { adapter: "fetch", env: { fetch: channel.watch(fetch) } } as const;
    const api = wrapAxiosWithPayment(axios.create(fetching), client as never);
    for (let call = 0; call < 2; call++) {
      const answer = await api.get(`${shop.url}/fixed`);
      assert.deepEqual(answer.data, { weather: "sunny" });
    }
    const [closed] = await channel.agent.closeAll();
    assert.equal(closed?.closed?.charged, 1_000n);
  });
  assert.deepEqual({ paid, claimed }, { paid: 1_000n, claimed: 1_000n });
});

test("given the Rust command line when it buys from @x402/express then exactly the calls are paid", async () => {
  const { paid, claimed } = await moved(async () => {
    for (let call = 0; call < 2; call++) {
      const answer = await ground.cli("pay", `${shop.url}/fixed`);
      assert.equal(JSON.stringify(answer).includes("sunny"), true, JSON.stringify(answer));
    }
    await ground.cli("channel", "close", "--all");
  }, await ground.secret("agent"));
  assert.deepEqual({ paid, claimed }, { paid: 1_000n, claimed: 1_000n });
});
