// Transactions byte by byte: against @solana/kit, and what an operator's key signs.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  decompileTransactionMessage,
  getCompiledTransactionMessageDecoder,
  getTransactionDecoder,
  type Instruction as KitInstruction,
} from "@solana/kit";
import { COMPUTE_BUDGET_PROGRAM, MEMO_PROGRAM, PROGRAM, tokenAccountAddress } from "../../src/address.js";
import { base58, concat, fromBase64, Malformed } from "../../src/bytes.js";
import { type Signer, signerFrom, verify } from "../../src/keys.js";
import { NoAnswer } from "../../src/server/facilitator.js";
import { signRefund } from "../../src/server/refund.js";
import { accountsOf } from "../../src/terms.js";
import { type Instruction, message, open, parse, refund, signed, sponsored } from "../../src/transaction.js";

const key = (byte: number): string => base58(new Uint8Array(32).fill(byte));
const payer = await signerFrom(new Uint8Array(32).fill(1));
const operator = await signerFrom(new Uint8Array(32).fill(2));
const parts = { payer: payer.address, signer: key(12), book: key(13), page: key(14), slot: 5, generation: 6 };
const terms = { mint: key(17), tokenProgram: key(18) };
const at = await accountsOf(parts.book, terms, parts.page);
const [sponsor, blockhash] = [key(19), key(20)];

test("given an opening when @solana/kit reads it then it is compute limit, compute price, open and memo", async () => {
  const bytes = await signed(message(sponsor, sponsored(open(at, parts, key(21), 1_000n), key(9)), blockhash), payer);
  const { messageBytes, signatures } = getTransactionDecoder().decode(bytes);
  const decoded = decompileTransactionMessage(getCompiledTransactionMessageDecoder().decode(messageBytes));
  assert.equal(decoded.feePayer.address, sponsor);
  assert.deepEqual(Object.keys(signatures), [sponsor, payer.address]);
  const instructions = decoded.instructions as readonly KitInstruction[];
  const programs = instructions.map(({ programAddress }) => String(programAddress));
  assert.deepEqual(programs, [COMPUTE_BUDGET_PROGRAM, COMPUTE_BUDGET_PROGRAM, PROGRAM, MEMO_PROGRAM]);
  const accounts = instructions[2]?.accounts?.map(({ address, role }) => [String(address), role]);
  // Roles: 0 read, 1 write, 2 sign.
  const wanted = [[payer.address, 2], [PROGRAM, 0], [parts.book, 0], [parts.page, 1], [key(21), 1], [at.vault, 1]];
  assert.deepEqual(accounts, [...wanted, [terms.mint, 0], [terms.tokenProgram, 0]]);
  const signature = new Uint8Array(signatures[payer.address as never] ?? []);
  assert.equal(await verify(payer.address, signature, new Uint8Array(messageBytes)), true);
  const parsed = parse(bytes);
  assert.equal(parsed.instructions.length, 4);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => parse(bytes.subarray(0, length)), Malformed, `cut to ${length} bytes`);
  }
  assert.throws(() => parse(concat(bytes, [0])), Malformed);
});

async function sign(instructions: readonly Instruction[], feePayer = sponsor, by: Signer = operator): Promise<string> {
  const unsigned = await signed(message(feePayer, instructions, blockhash));
  return signRefund(unsigned, by, { asset: terms.mint, extra: { tokenProgram: terms.tokenProgram } }, parts, 500n);
}

const account = await tokenAccountAddress(payer.address, terms.mint, terms.tokenProgram);
const closing = (change: Partial<typeof parts> = {}, keep = 500n, to = account): Instruction =>
  refund(at, operator.address, { ...parts, ...change }, keep, to);
const claim = (page: string, discriminator = 5): Instruction => ({
  program: PROGRAM,
  accounts: [{ address: page, signer: false, writable: true }],
  data: new Uint8Array([discriminator, 1, 2, 3]),
});
const limit: Instruction = { program: COMPUTE_BUDGET_PROGRAM, accounts: [], data: new Uint8Array([2, 0, 0, 0, 0]) };

test("given the channel's own refund when asked then the operator signs", async () => {
  for (const instructions of [[closing()], [limit, limit, claim(parts.page), closing()], [claim(parts.page, 6), closing()]]) {
    const transaction = parse(fromBase64(await sign(instructions)));
    const place = transaction.keys.indexOf(operator.address);
    assert.equal(await verify(operator.address, transaction.signatures[place] ?? new Uint8Array(), transaction.message), true);
  }
});

test("given anything else when asked then the operator does not sign", async () => {
  const memo: Instruction = { program: MEMO_PROGRAM, accounts: [], data: new Uint8Array([1]) };
  const cases: Readonly<Record<string, readonly Instruction[]>> = {
    "keeps less": [closing({}, 499n)],
    "another slot": [closing({ slot: 4 })],
    "another generation": [closing({ generation: 7 })],
    "another account": [closing({}, 500n, key(40))],
    "another program": [{ ...closing(), program: key(55) }],
    "a claim of another page": [claim(key(44)), closing()],
    "another instruction first": [claim(parts.page, 7), closing()],
    "two refunds": [closing(), closing()],
    "two claims": [claim(parts.page), claim(parts.page), closing()],
    "a memo besides": [memo, closing()],
    "three budgets": [limit, limit, limit, closing()],
    "nothing at all": [limit],
  };
  for (const [name, instructions] of Object.entries(cases)) await assert.rejects(sign(instructions), NoAnswer, name);
  await assert.rejects(sign([closing()], operator.address), NoAnswer, "the operator pays the fee");
  await assert.rejects(sign([closing()], sponsor, payer), NoAnswer, "another operator");
});
