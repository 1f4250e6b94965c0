// The scheme's document says what this package reads; and everything else is refused.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { outcomeOf, requiredBy } from "../../src/answer.js";
import { Malformed } from "../../src/bytes.js";
import { AgentError } from "../../src/error.js";
import { remedy } from "../../src/reason.js";
import { header, readChannelState, readHeader, readOffer, readPaymentRequired, readReceipt } from "../../src/wire.js";
import { offer } from "../offer.js";

const root = resolve(import.meta.dirname, "../../../../..");
const document = await readFile(join(root, "protocol/scheme/scheme_channel_svm.md"), "utf8");

/** The examples of the document, by the type that stands beside `json`. */
function examples(kind: string): Record<string, unknown>[] {
  const blocks = [...document.matchAll(/```json (\w+)\n([^]*?)```/g)].filter(([, named]) => named === kind);
  assert.ok(blocks.length > 0, kind);
  return blocks.map(([, , json]) => JSON.parse(json ?? "") as Record<string, unknown>);
}

test("given the document's examples when read then they say what stands there", () => {
  for (const example of examples("PaymentRequirements")) {
    const read = readOffer(example);
    assert.deepEqual(read.raw, example);
    assert.deepEqual([read.amount, read.minDeposit, read.withdrawDelay, read.metered], [500n, 1_000n, 900, false]);
    assert.deepEqual(readPaymentRequired({ x402Version: 2, accepts: [{ scheme: "exact" }, example] }).offers, [read]);
  }
  for (const example of examples("SettleResponse")) {
    const { success, chargedAmount, channelState } = readReceipt(example);
    assert.deepEqual([success, chargedAmount, channelState?.chargedCumulativeAmount], [true, 500n, 1_000n]);
  }
  for (const { channelState } of examples("Extra")) assert.equal(readChannelState(channelState).balance, 5_000_000n);
});

test("given the document's names of refusals when looked up then every one that this package acts upon is among them", () => {
  const names = [...document.matchAll(/^\| \d+ \| `(\w+)` \|/gm)].map(([, name]) => name ?? "");
  assert.ok(names.length > 60);
  assert.equal(new Set(names.filter((name) => remedy(name) !== "give_up")).size, 24);
  assert.equal(remedy("insufficient_funds"), "give_up");
});

test("given what is no offer when read then it is malformed", () => {
  const { raw } = offer();
  const changed = (change: object): unknown => ({ ...raw, ...change });
  const extra = (change: object): unknown => ({ ...raw, extra: { ...raw.extra, ...change } });
  const cases: readonly unknown[] = [
    null,
    [],
    "offer",
    changed({ scheme: "exact" }),
    changed({ amount: "-1" }),
    changed({ amount: 500 }),
    changed({ asset: "0" }),
    changed({ payTo: undefined }),
    changed({ extra: null }),
    changed({ maxTimeoutSeconds: 0.5 }),
    extra({ slot: 256 }),
    extra({ slot: "0" }),
    extra({ generation: -1 }),
    extra({ bookId: 65_536 }),
    extra({ minDeposit: "1.5" }),
    extra({ feePayer: "1".repeat(31) }),
    extra({ channelState: { channelId: raw.payTo } }),
    extra({ voucherState: { signedMaxClaimable: "1", signature: "short" } }),
  ];
  for (const value of cases) assert.throws(() => readOffer(value), Malformed, JSON.stringify(value));
  assert.throws(() => readPaymentRequired({ x402Version: 1, accepts: [] }), Malformed);
  assert.throws(() => readPaymentRequired({ x402Version: 2 }), Malformed);
});

test("given headers and bodies beyond their caps when read then they are refused", async () => {
  assert.throws(() => readHeader("A".repeat(8_193)), Malformed);
  assert.throws(() => header("A".repeat(8_193)), Malformed);
  const large = new Response("x".repeat(65_537), { status: 402 });
  await assert.rejects(requiredBy(large), (error) => error instanceof AgentError && error.code === "unreadable");
  const body = JSON.stringify({ x402Version: 2, accepts: [offer().raw], error: "wrong_price" });
  assert.equal((await requiredBy(new Response(body, { status: 402 }))).error, "wrong_price", "where the header is hidden");
});

test("given answers to a paid call when looked at then each means what it may", async () => {
  const failed = { success: false, errorReason: "settlement_pending", transaction: "", network: "n" };
  const asks = header({ x402Version: 2, accepts: [offer().raw] });
  const of = async (status: number, headers: Record<string, string> = {}) =>
    (await outcomeOf(new Response(status === 204 ? null : "{}", { status, headers }))).kind;
  assert.equal(await of(200), "unclear");
  assert.equal(await of(500), "unclear");
  assert.equal(await of(404), "not_charged");
  assert.equal(await of(502), "lost");
  assert.equal(await of(504), "lost");
  assert.equal(await of(200, { "PAYMENT-METER": "0".repeat(32) }), "streams");
  assert.equal(await of(200, { "PAYMENT-METER": "0".repeat(31) }), "unclear");
  assert.equal(await of(200, { "PAYMENT-RESPONSE": header({ ...failed, success: true }) }), "charged");
  assert.equal(await of(200, { "PAYMENT-RESPONSE": "garbage" }), "unclear");
  assert.equal(await of(409, { "PAYMENT-RESPONSE": header({ ...failed, errorReason: "channel_busy" }) }), "refused");
  assert.equal(await of(402, { "PAYMENT-REQUIRED": asks }), "pay_again");
  assert.equal(await of(402, { "PAYMENT-REQUIRED": asks, "PAYMENT-RESPONSE": header(failed) }), "pay_again");
  assert.equal(await of(402, { "PAYMENT-RESPONSE": header(failed) }), "refused", "a settlement that failed");
  await assert.rejects(of(402), AgentError, "it asks for nothing that can be read");
});
