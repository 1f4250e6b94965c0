// The decisions of a channel, case by case as in the Rust agent.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Slot } from "../../src/accounts.js";
import { base58 } from "../../src/bytes.js";
import { OwnChannel } from "../../src/channel.js";
import { signerFrom } from "../../src/keys.js";
import { signVoucher } from "../../src/voucher.js";
import type { ChannelState, VoucherState } from "../../src/wire.js";
import { offer } from "../offer.js";

const key = (byte: number): string => base58(new Uint8Array(32).fill(byte));
const signer = await signerFrom(new Uint8Array(32).fill(3));
const PRICE = 500n;

function channel(): OwnChannel {
  const parts = { payer: key(7), signer: signer.address, book: key(3), page: key(4), slot: 1, generation: 1 };
  return new OwnChannel(key(9), parts, "a.example", "https://a.example/x", "GET", offer(), 100_000n, { phase: "open" });
}

async function claim(of: OwnChannel, charged: bigint, signed: bigint): Promise<[ChannelState, VoucherState]> {
  const { signature } = await signVoucher(signer, of.id, signed);
  const state = { channelId: of.id, balance: of.deposit, totalClaimed: 0n, chargedCumulativeAmount: charged };
  return [state, { signedMaxClaimable: signed, signature }];
}

test("given many calls when vouchers are reserved then the store is written once for many, and before the first", () => {
  const it = channel();
  let writes = 0;
  for (let call = 0; call < 200; call++) {
    assert.equal(it.covers(PRICE), true);
    const next = it.toSign(PRICE);
    writes += it.reserve(next, PRICE) ? 1 : 0;
    assert.ok(next <= it.reserved);
    it.served(next, next);
  }
  assert.equal(it.covers(PRICE), false, "the deposit is used up");
  assert.equal(writes, 4);
  assert.equal(it.reserved, it.deposit);
});

test("given a call whose outcome was not seen when the server shows our voucher then it is adopted once and no more", async () => {
  const it = channel();
  it.reserve(PRICE, PRICE);
  assert.equal(await it.adopt(...(await claim(it, 500n, 500n))), undefined);
  assert.equal(it.charged, PRICE);
  assert.equal(await it.adopt(...(await claim(it, 1_000n, 1_000n))), PRICE);
});

test("given a lie when told then it is not adopted", async () => {
  const it = channel();
  it.reserve(PRICE, PRICE);
  const before = it.toText();
  const [state, voucher] = await claim(it, 500n, 500n);
  assert.equal(await it.adopt(...(await claim(it, 500n, 499n))), 0n, "charged above what is shown as signed");
  assert.equal(await it.adopt(state, undefined), 0n, "charged without a voucher");
  const other = await signVoucher(await signerFrom(new Uint8Array(32).fill(4)), it.id, 500n);
  assert.equal(await it.adopt(state, { ...voucher, signature: other.signature }), 0n, "a signature that is not ours");
  assert.notEqual(await it.adopt({ ...state, channelId: key(8) }, voucher), undefined, "another channel's");
  assert.equal(await it.adopt(...(await claim(it, 501n, 501n))), 500n, "more than was ever signed");
  assert.equal(it.toText(), before);
});

test("given a call that failed when it is charged later then it is not adopted", async () => {
  const it = channel();
  it.reserve(PRICE, PRICE);
  it.notServed();
  assert.equal(await it.adopt(...(await claim(it, 500n, 500n))), 0n);
});

test("given a restart when the server shows our voucher then what was reserved is possible, and it is asked first", async () => {
  const it = channel();
  it.reserve(PRICE, PRICE);
  const again = OwnChannel.fromText(it.toText());
  assert.deepEqual([again.unsure, again.toSign(PRICE), again.possible()], [true, 0n, 32_000n]);
  assert.equal(await again.adopt(...(await claim(again, 3_000n, 3_000n))), undefined);
  assert.deepEqual([again.charged, again.unsure, again.toSign(PRICE)], [3_000n, false, 3_500n]);
});

test("given a server that forgot when it remembers again then it is believed, but not what it invents", async () => {
  const it = channel();
  it.reserve(PRICE, PRICE);
  it.served(PRICE, PRICE);
  assert.equal(await it.adopt((await claim(it, 0n, 0n))[0], undefined), undefined);
  assert.deepEqual([it.charged, it.possible()], [0n, PRICE]);
  assert.equal(await it.adopt(...(await claim(it, 500n, 500n))), undefined);
  assert.equal(it.charged, PRICE);
});

/** A slot of the channel as the chain has it. */
function slot(of: OwnChannel, settled: bigint, change: Partial<Slot> = {}): Slot {
  const { payer, signer, generation } = of.parts;
  return { payer, signer, generation, deposit: of.deposit, settled, closingAt: 0, status: "open", ...change };
}

/** A channel of which the server has forgotten all but one of four calls. */
async function forgotten(): Promise<OwnChannel> {
  const it = channel();
  for (const cumulative of [500n, 1_000n, 1_500n, 2_000n]) {
    it.reserve(cumulative, PRICE);
    it.served(cumulative, cumulative);
  }
  assert.equal(await it.adopt(...(await claim(it, 500n, 500n))), undefined);
  return it;
}

test("given a server that forgot when it serves on then what was due before stays possible under our voucher", async () => {
  const it = await forgotten();
  it.reserve(1_000n, PRICE);
  it.served(1_000n, 1_000n);
  assert.deepEqual([it.charged, it.possible()], [1_000n, 2_000n]);
  assert.equal(await it.adopt((await claim(it, 2_000n, 2_000n))[0], undefined), 1_000n, "without a voucher");
  assert.equal(await it.adopt(...(await claim(it, 2_001n, 2_001n))), 2_000n, "more than ever");
  assert.equal(await it.adopt(...(await claim(it, 2_000n, 2_000n))), undefined);
  assert.equal(it.toSign(PRICE), 2_500n);
});

test("given what the chain has settled when it is claimed then it is due without a voucher, and no more is", async () => {
  const it = channel();
  it.reserve(PRICE, PRICE);
  it.served(PRICE, PRICE);
  it.see(slot(it, 1_700n));
  const before = it.toText();
  const [state, voucher] = await claim(it, 1_701n, 1_701n);
  assert.equal(await it.adopt(state, undefined), 1_700n);
  assert.equal(await it.adopt(state, voucher), 1_700n);
  assert.equal(it.toText(), before);
  for (const claimed of [1_700n, 1_000n]) {
    // A voucher that is not above what is settled is worth nothing.
    assert.equal(await it.adopt((await claim(it, claimed, 0n))[0], undefined), undefined);
    assert.equal(it.toSign(PRICE), 2_200n);
  }
  // And beyond it as before: one call whose outcome was not seen.
  it.reserve(2_200n, PRICE);
  assert.equal(await it.adopt(...(await claim(it, 2_200n, 2_200n))), undefined);
  assert.equal(it.charged, 2_200n);
});

test("given a slot of another channel when seen then nothing is due", () => {
  const it = channel();
  const others: readonly Partial<Slot>[] = [
    { generation: 2 },
    { generation: 0 },
    { payer: key(8) },
    { signer: key(8) },
    { status: "free" },
  ];
  for (const other of others) {
    it.see(slot(it, 700n, other));
    assert.deepEqual([it.charged, it.settled], [0n, 0n], JSON.stringify(other));
  }
  it.see(slot(it, 700n));
  it.see(slot(it, 600n));
  assert.deepEqual([it.charged, it.settled], [700n, 700n]);
});

test("given a call whose outcome was not seen when more is charged then its cost is said only where it is known", async () => {
  const it = await forgotten();
  const cost = (before: bigint, signed: bigint, now: bigint, isUsed: boolean): bigint | undefined => {
    it.charged = now;
    return it.costOf(before, signed, isUsed);
  };
  assert.equal(cost(1_000n, 1_500n, 1_000n, false), 0n);
  assert.equal(cost(1_000n, 1_500n, 1_500n, true), PRICE);
  assert.equal(cost(1_000n, 1_500n, 2_000n, true), PRICE, "no more than was signed for it");
  assert.equal(cost(1_000n, 1_500n, 1_500n, false), undefined, "2,000 were due before");
  assert.equal(cost(1_000n, 1_500n, 2_000n, false), undefined);
  assert.equal(cost(2_000n, 2_500n, 2_100n, false), 100n);
  assert.equal(cost(2_000n, 2_500n, 2_501n, false), undefined, "settled by a voucher over more");
});

test("given a call that cost less than its ceiling when served then it is counted as it cost, and never above what was signed", () => {
  const it = channel();
  it.reserve(PRICE, PRICE);
  assert.equal(it.served(120n, PRICE), 120n);
  assert.equal(it.toSign(PRICE), 620n);
  it.reserve(620n, PRICE);
  assert.equal(it.served(9_999n, 620n), PRICE);
});

test("given every phase when stored and read then it is the same", () => {
  for (const phase of [
    { phase: "opening", last_valid_height: 7 },
    { phase: "open" },
    { phase: "given_up" },
    { phase: "closing", closing_at: 9 },
    { phase: "ended" },
  ] as const) {
    const it = channel();
    it.phase = phase;
    it.topUp = { amount: 5n, before: 100_000n, lastValidHeight: 3, transaction: "AA==" };
    assert.equal(OwnChannel.fromText(it.toText()).toText(), it.toText());
  }
  assert.throws(() => OwnChannel.fromText(channel().toText().replace('"open"', '"lost"')), TypeError);
});
