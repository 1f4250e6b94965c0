// Where the accounts are: addresses that are derived from seeds and lie off the curve.

import { base58, concat, fromBase58, littleEndian, utf8 } from "./bytes.js";
import { sha256 } from "./keys.js";

/** The program. Pinned here, and never taken from the wire. */
export const PROGRAM = "Eis2qMZ5ku5ZubGRsjYXVmaKDwzseonmDJjq6QepXp5h";
/** SPL Token. */
export const TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
/** Token-2022. */
export const TOKEN_2022_PROGRAM = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb";
/** SPL Memo, version 3. */
export const MEMO_PROGRAM = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";
/** The compute budget program. */
export const COMPUTE_BUDGET_PROGRAM = "ComputeBudget111111111111111111111111111111";
/** Where the chain keeps its own time. */
export const CLOCK = "SysvarC1ock11111111111111111111111111111111";
/** SPL Associated Token Account. */
export const ASSOCIATED_TOKEN_PROGRAM = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL";

const P = (1n << 255n) - 19n;
const D = 0x52036cee2b6ffe738cc740797779e89800700a4d4141d8ab75eb4dca135978a3n;

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  for (let square = base % P, rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % P;
    square = (square * square) % P;
  }
  return result;
}

/** Whether these 32 bytes are the encoding of a point of edwards25519: x² = (y² − 1) / (d·y² + 1) has a root. */
export function isOnCurve(bytes: Uint8Array): boolean {
  let y = 0n;
  for (let at = 31; at >= 0; at--) y = (y << 8n) | BigInt((bytes[at] ?? 0) & (at === 31 ? 0x7f : 0xff));
  const square = (y * y) % P;
  const product = ((square + P - 1n) * (D * square + 1n)) % P;
  return power(product, (P - 1n) / 2n) <= 1n;
}

/** The address of these seeds under a program: the first bump from 255 down that gives no point of the curve. */
export async function derived(program: string, ...seeds: readonly Uint8Array[]): Promise<string> {
  const tail = concat(fromBase58(program, 32), utf8("ProgramDerivedAddress"));
  for (let bump = 255; bump >= 0; bump--) {
    const hash = await sha256(...seeds, new Uint8Array([bump]), tail);
    if (!isOnCurve(hash)) return base58(hash);
  }
  throw new Error("no address for these seeds"); // one in 2^256
}

/** The book of `payee` for `mint`, by its number. */
export function bookAddress(payee: string, mint: string, bookId: number): Promise<string> {
  return derived(PROGRAM, utf8("book"), fromBase58(payee, 32), fromBase58(mint, 32), littleEndian(bookId, 2));
}

/** The page of a book, by its index. */
export function pageAddress(book: string, index: number): Promise<string> {
  return derived(PROGRAM, utf8("page"), fromBase58(book, 32), littleEndian(index, 4));
}

/** The associated token account of `owner`; a page's vault is that of the page. */
export function tokenAccountAddress(owner: string, mint: string, tokenProgram: string): Promise<string> {
  return derived(ASSOCIATED_TOKEN_PROGRAM, ...[owner, tokenProgram, mint].map((key) => fromBase58(key, 32)));
}
