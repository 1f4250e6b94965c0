// The golden vectors of the repository, made by an independent implementation: every byte that binds, and every aggregate.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { base58, concat, hex, littleEndian, utf8 } from "../../src/bytes.js";
import { sha256, signerFrom } from "../../src/keys.js";
import { channelId, pageDomain, signVoucher, verifyVoucher, voucherMessage } from "../../src/voucher.js";

interface Claim {
  readonly slot: number;
  readonly generation: number;
  readonly payer: string;
  readonly signer_seed: string;
  readonly signer: string;
  readonly channel_id: string;
  readonly cumulative: number;
  readonly message: string;
  readonly signature: string;
}

interface Batch {
  readonly n: number;
  readonly program_id: string;
  readonly genesis_hash: string;
  readonly page: string;
  readonly page_domain: string;
  readonly claims: readonly Claim[];
  readonly s_agg: string;
  readonly z: readonly string[];
}

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));
const key = (text: string): string => base58(bytes(text));
const path = join(resolve(import.meta.dirname, "../../../../.."), "tests/vectors/vectors.json");
const { batches } = JSON.parse(await readFile(path, "utf8")) as { batches: readonly Batch[] };

test("given the golden batches when signed anew then every byte is the same", async () => {
  assert.deepEqual(batches.map(({ n }) => n), [1, 2, 3, 23]);
  for (const batch of batches) {
    const domain = await pageDomain(key(batch.program_id), key(batch.genesis_hash), key(batch.page));
    assert.equal(hex(domain), batch.page_domain);
    for (const claim of batch.claims) {
      const { slot, generation } = claim;
      const id = await channelId(domain, { slot, generation, payer: key(claim.payer), signer: key(claim.signer) });
      assert.equal(id, key(claim.channel_id));
      assert.equal(hex(voucherMessage(id, BigInt(claim.cumulative))), claim.message);
      const signer = await signerFrom(bytes(claim.signer_seed));
      assert.equal(signer.address, key(claim.signer));
      const voucher = await signVoucher(signer, id, BigInt(claim.cumulative));
      assert.equal(voucher.signature, key(claim.signature));
      assert.equal(await verifyVoucher(signer.address, id, BigInt(claim.cumulative), voucher.signature), true);
      assert.equal(await verifyVoucher(signer.address, id, BigInt(claim.cumulative) + 1n, voucher.signature), false);
    }
  }
});

const L = (1n << 252n) + 27742317777372353535851937790883648493n;
const number = (of: Uint8Array): bigint => of.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);

test("given the golden batches when their vouchers are aggregated then the scalars are the same", async () => {
  for (const batch of batches) {
    const hashes: Uint8Array[] = [];
    for (const claim of batch.claims) {
      const input = concat(bytes(claim.signature).subarray(0, 32), bytes(claim.signer), bytes(claim.message));
      hashes.push(new Uint8Array(await crypto.subtle.digest("SHA-512", input)));
    }
    const transcript = await sha256(utf8("tallybook:half-agg:v1"), littleEndian(batch.n, 2), ...hashes);
    let sum = 0n;
    for (const [at, claim] of batch.claims.entries()) {
      const coefficient = at === 0 ? 1n : number((await sha256(transcript, littleEndian(at, 2))).subarray(0, 16));
      assert.equal(coefficient, BigInt(batch.z[at] ?? ""));
      sum = (sum + coefficient * number(bytes(claim.signature).subarray(32))) % L;
    }
    assert.equal(hex(littleEndian(sum, 32)), batch.s_agg);
  }
});
