// Bytes as text and numbers, in the encodings of Solana and x402. Nothing here depends on where it runs.

const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const MAX_U64 = (1n << 64n) - 1n;

/** Raised by the readers of this module; callers say which input it was. */
export class Malformed extends Error {
  override readonly name = "Malformed";
}

/** One array of all the parts. */
export function concat(...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Whether both hold the same bytes. Not for secrets. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

/** ASCII or UTF-8. */
export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}

/** Lower-case hexadecimal. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Bitcoin's base58, as Solana writes keys, hashes and signatures. */
export function base58(bytes: Uint8Array): string {
  const digits: number[] = [];
  for (const byte of bytes) {
    let carry = byte;
    for (let at = 0; at < digits.length; at++) {
      carry += (digits[at] ?? 0) << 8;
      digits[at] = carry % 58;
      carry = (carry / 58) | 0;
    }
    for (; carry > 0; carry = (carry / 58) | 0) digits.push(carry % 58);
  }
  const zeros = bytes.findIndex((byte) => byte !== 0);
  const lead = zeros < 0 ? bytes.length : zeros;
  return "1".repeat(lead) + digits.reverse().map((digit) => BASE58[digit]).join("");
}

/** Reads base58 that must be `length` bytes long, or throws {@link Malformed}. */
export function fromBase58(text: string, length: number): Uint8Array<ArrayBuffer> {
  // No text of more characters fits: 58^1.4 is above 256.
  if (text.length > length * 2) throw new Malformed(`not ${length} bytes in base58`);
  const bytes: number[] = [];
  for (const character of text) {
    let carry = BASE58.indexOf(character);
    if (carry < 0) throw new Malformed("not base58");
    for (let at = 0; at < bytes.length; at++) {
      carry += (bytes[at] ?? 0) * 58;
      bytes[at] = carry & 0xff;
      carry >>= 8;
    }
    for (; carry > 0; carry >>= 8) bytes.push(carry & 0xff);
  }
  const zeros = /^1*/.exec(text)?.[0].length ?? 0;
  const whole = concat(new Uint8Array(zeros), bytes.reverse());
  if (whole.length !== length) throw new Malformed(`not ${length} bytes in base58`);
  return whole;
}

/** Padded base64. */
export function base64(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

/** Reads base64, or throws {@link Malformed}. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    throw new Malformed("not base64");
  }
}

/** An unsigned integer, least significant byte first. */
export function littleEndian(value: bigint | number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let rest = BigInt(value);
  for (let at = 0; at < length; at++, rest >>= 8n) bytes[at] = Number(rest & 0xffn);
  if (rest !== 0n) throw new Malformed(`${value} does not fit ${length} bytes`);
  return bytes;
}

/** Reads an unsigned integer, least significant byte first. */
export function readLittleEndian(bytes: Uint8Array, at: number, length: number): bigint {
  if (at + length > bytes.length) throw new Malformed("too short");
  let value = 0n;
  for (let index = at + length - 1; index >= at; index--) value = (value << 8n) | BigInt(bytes[index] ?? 0);
  return value;
}

/** An amount on the wire: a decimal string of base units below 2^64 without a leading zero, as a bigint. */
export function amountFrom(text: unknown): bigint {
  if (typeof text !== "string" || !/^(0|[1-9][0-9]{0,19})$/.test(text)) throw new Malformed("not a decimal amount");
  const amount = BigInt(text);
  if (amount > MAX_U64) throw new Malformed("not an amount of 64 bits");
  return amount;
}

/** The larger amount. */
export function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

/** The smaller amount. */
export function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

/** `a - b`, or nothing where that would be below nothing. */
export function less(a: bigint, b: bigint): bigint {
  return a > b ? a - b : 0n;
}
