// Reading the program's accounts, as any RPC endpoint returns them.

import { base58, hex, Malformed, readLittleEndian } from "./bytes.js";

const BOOK = "792279235b3e55de"; // SHA-256("account:Book")[..8]
const PAGE = "857fc057ce95c30e"; // SHA-256("account:Page")[..8]
const BOOK_BYTES = 584;
const HEADER_BYTES = 224;
const SLOT_BYTES = 104;

/** A payee's offer. Amounts in base units, keys in base58. */
export interface Book {
  readonly payee: string;
  readonly mint: string;
  readonly tokenProgram: string;
  readonly operator: string;
  readonly genesisHash: string;
  readonly minDeposit: bigint;
  readonly graceSeconds: number;
  readonly nextPage: number;
  readonly bookId: number;
  readonly decimals: number;
  /** 0 anyone opens a channel, 1 the operator co-signs. */
  readonly openPolicy: number;
}

/** A place for a channel. Amounts in base units, keys in base58. */
export interface Slot {
  readonly payer: string;
  readonly signer: string;
  readonly deposit: bigint;
  readonly settled: bigint;
  /** Unix seconds; 0 unless closing. */
  readonly closingAt: number;
  readonly generation: number;
  readonly status: "free" | "open" | "closing";
}

/** An account with channels in it. */
export interface Page {
  readonly book: string;
  readonly domain: Uint8Array;
  readonly index: number;
  readonly slots: readonly Slot[];
}

/** What both token programs keep of a token account. */
export interface TokenAccount {
  readonly mint: string;
  readonly owner: string;
  readonly amount: bigint;
  readonly frozen: boolean;
}

function reader(data: Uint8Array, start: number) {
  const number = (at: number, length: number): number => Number(readLittleEndian(data, start + at, length));
  const amount = (at: number): bigint => readLittleEndian(data, start + at, 8);
  const key = (at: number): string => base58(data.subarray(start + at, start + at + 32));
  return { number, amount, key };
}

/** Reads a book of version 1, or throws {@link Malformed}. The caller has checked that the program owns the account. */
export function readBook(data: Uint8Array): Book {
  const { number, amount, key } = reader(data, 8);
  if (data.length !== BOOK_BYTES || hex(data.subarray(0, 8)) !== BOOK || number(217, 1) !== 1) {
    throw new Malformed("no book of this version");
  }
  return {
    payee: key(0),
    mint: key(32),
    tokenProgram: key(64),
    operator: key(96),
    genesisHash: key(160),
    minDeposit: amount(192),
    graceSeconds: number(200, 4),
    nextPage: number(208, 4),
    bookId: number(212, 2),
    decimals: number(214, 1),
    openPolicy: number(215, 1),
  };
}

/** Reads a page of version 1, or throws {@link Malformed}. The caller has checked that the program owns the account. */
export function readPage(data: Uint8Array): Page {
  if (data.length < HEADER_BYTES || hex(data.subarray(0, 8)) !== PAGE) throw new Malformed("no page");
  const { number, key } = reader(data, 8);
  const capacity = number(188, 1);
  if (number(190, 1) !== 1 || data.length !== HEADER_BYTES + SLOT_BYTES * capacity) {
    throw new Malformed("no page of this version");
  }
  const slots = Array.from({ length: capacity }, (_, at) => readSlot(data, HEADER_BYTES + SLOT_BYTES * at));
  return { book: key(0), domain: data.slice(40, 72), index: number(184, 4), slots };
}

function readSlot(data: Uint8Array, start: number): Slot {
  const { number, amount, key } = reader(data, start);
  const status = (["free", "open", "closing"] as const)[number(100, 1)];
  if (!status) throw new Malformed("no slot of this version");
  return {
    payer: key(0),
    signer: key(32),
    deposit: amount(64),
    settled: amount(72),
    closingAt: number(80, 8),
    generation: number(96, 4),
    status,
  };
}

/** Reads a token account; nothing when it is no initialized one. */
export function readTokenAccount(data: Uint8Array): TokenAccount | undefined {
  // Token-2022 tells its accounts from its mints by the byte after the shared part: 2 is an account.
  if (data.length < 165 || (data.length > 165 && data[165] !== 2)) return undefined;
  const { amount, key } = reader(data, 0);
  const state = data[108];
  if (state !== 1 && state !== 2) return undefined;
  return { mint: key(0), owner: key(32), amount: amount(64), frozen: state === 2 };
}
