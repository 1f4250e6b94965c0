import assert from "node:assert/strict";
import { test } from "node:test";
import { getProgramDerivedAddress, address, getAddressEncoder } from "@solana/kit";
import { bookAddress, isOnCurve, pageAddress, PROGRAM, tokenAccountAddress, TOKEN_PROGRAM } from "../../src/address.js";
import { amountFrom, base58, base64, fromBase58, fromBase64, littleEndian, Malformed, readLittleEndian, utf8 } from "../../src/bytes.js";
import { generateKeys, signerFrom } from "../../src/keys.js";
import { baseUnits } from "../../src/server/price.js";

test("given keys when written and read as base58 then they are the same, and nothing else is read", () => {
  for (const bytes of [new Uint8Array(32), new Uint8Array(32).fill(255), littleEndian(1n, 32), littleEndian(1n << 248n, 32)]) {
    assert.deepEqual(fromBase58(base58(bytes), 32), bytes);
  }
  assert.equal(base58(new Uint8Array(32)), "1".repeat(32));
  for (const text of ["", "0", "1".repeat(31), "1".repeat(33), `${"1".repeat(31)}l`, "z".repeat(45), "1".repeat(100_000)]) {
    assert.throws(() => fromBase58(text, 32), Malformed);
  }
});

test("given bytes when written and read as base64 and numbers then they are the same", () => {
  const bytes = Uint8Array.from({ length: 100_000 }, (_, at) => at % 251);
  assert.deepEqual(fromBase64(base64(bytes)), bytes);
  assert.throws(() => fromBase64("=&"), Malformed);
  assert.equal(readLittleEndian(littleEndian((1n << 64n) - 1n, 8), 0, 8), (1n << 64n) - 1n);
  assert.throws(() => littleEndian(1n << 64n, 8), Malformed);
  assert.throws(() => readLittleEndian(new Uint8Array(7), 0, 8), Malformed);
});

test("given amounts on the wire when read then only decimal strings of 64 bits are", () => {
  assert.equal(amountFrom("18446744073709551615"), (1n << 64n) - 1n);
  assert.equal(amountFrom("0"), 0n);
  for (const amount of ["", "-1", "+1", "01", "1.0", "1e3", " 1", "0x1", "18446744073709551616", 1, 1n, null, undefined]) {
    assert.throws(() => amountFrom(amount), Malformed, String(amount));
  }
});

test("given prices when read then they are base units, and what is finer than the mint is refused", () => {
  assert.equal(baseUnits("$0.0005", 6), 500n);
  assert.equal(baseUnits("1", 6), 1_000_000n);
  assert.equal(baseUnits(0.1, 6), 100_000n);
  assert.equal(baseUnits("9007199254740993.000001", 6), 9007199254740993000001n);
  for (const price of ["", "$", "$-1", "$0.0000001", 1e-7, "1,5", "$1 USDC", Number.NaN, "Infinity"]) {
    assert.throws(() => baseUnits(price, 6), TypeError, String(price));
  }
});

test("given seeds when addresses are derived then they are those of @solana/kit", async () => {
  const owner = (await signerFrom(await generateKeys())).address;
  const encode = getAddressEncoder();
  const seeds = [utf8("book"), encode.encode(address(owner)), encode.encode(address(PROGRAM)), littleEndian(7, 2)];
  const [book] = await getProgramDerivedAddress({ programAddress: address(PROGRAM), seeds });
  assert.equal(await bookAddress(owner, PROGRAM, 7), book);
  const pages = [utf8("page"), encode.encode(book), littleEndian(300, 4)];
  const [page] = await getProgramDerivedAddress({ programAddress: address(PROGRAM), seeds: pages });
  assert.equal(await pageAddress(book, 300), page);
  assert.notEqual(await tokenAccountAddress(owner, PROGRAM, TOKEN_PROGRAM), book);
  assert.equal(isOnCurve(fromBase58(owner, 32)), true);
  assert.equal(isOnCurve(fromBase58(book, 32)), false);
});

test("given whatever is taken for a signer when made one then it signs as the same key", async () => {
  const seed = new Uint8Array(32).fill(7);
  const signer = await signerFrom(seed);
  const secret = new Uint8Array([...seed, ...fromBase58(signer.address, 32)]);
  const pair = await generateKeys();
  assert.equal(pair.privateKey.extractable, false);
  const message = utf8("a message");
  const kit = { address: signer.address, keyPair: pair };
  assert.equal((await signerFrom(kit)).address, (await signerFrom(pair)).address);
  assert.deepEqual(await (await signerFrom(secret)).sign(message), await signer.sign(message));
  await assert.rejects(signerFrom(pair.privateKey), TypeError);
  await assert.rejects(signerFrom(secret.fill(0, 32)), TypeError);
  await assert.rejects(signerFrom(new Uint8Array(31)), TypeError);
});
