// Transactions of this protocol, built byte by byte: legacy messages with static accounts.

import { COMPUTE_BUDGET_PROGRAM, MEMO_PROGRAM, PROGRAM } from "./address.js";
import type { Book } from "./accounts.js";
import { base58, concat, fromBase58, hex, littleEndian, Malformed, same, utf8 } from "./bytes.js";
import type { Signer } from "./keys.js";
import type { ChannelParts } from "./voucher.js";

/** The most bytes of a legacy transaction. */
const MAX_BYTES = 1_232;
/** What a deposit needs, with room, and what is offered for it; the sponsor caps both. */
const DEPOSIT_UNITS = 60_000;
const DEPOSIT_PRICE = 1_000;
/** Compute for an instruction at one's own expense. */
const OWN_UNITS = 100_000;

/** An account that an instruction names. */
export interface AccountMeta {
  readonly address: string;
  readonly signer: boolean;
  readonly writable: boolean;
}

/** An instruction. */
export interface Instruction {
  readonly program: string;
  readonly accounts: readonly AccountMeta[];
  readonly data: Uint8Array;
}

const plain = (address: string): AccountMeta => ({ address, signer: false, writable: false });
const writable = (address: string): AccountMeta => ({ address, signer: false, writable: true });
const signs = (address: string): AccountMeta => ({ address, signer: true, writable: false });

function ours(discriminator: number, accounts: readonly AccountMeta[], ...data: readonly Uint8Array[]): Instruction {
  return { program: PROGRAM, accounts, data: concat([discriminator], ...data) };
}

/** The accounts of a book that its instructions name. */
export interface Accounts {
  readonly book: string;
  readonly terms: Pick<Book, "mint" | "tokenProgram">;
  readonly page: string;
  readonly vault: string;
}

/** Opens the channel with `deposit` base units out of `source`. */
export function open(at: Accounts, parts: ChannelParts, source: string, deposit: bigint): Instruction {
  const accounts = [signs(parts.payer), plain(PROGRAM), plain(at.book), writable(at.page), writable(source)];
  const tail = [writable(at.vault), plain(at.terms.mint), plain(at.terms.tokenProgram)];
  const place = concat(littleEndian(parts.slot, 1), littleEndian(parts.generation, 4));
  return ours(3, [...accounts, ...tail], place, fromBase58(parts.signer, 32), littleEndian(deposit, 8));
}

/** Adds `amount` base units out of the payer's `source` to the channel. */
export function topUp(at: Accounts, parts: ChannelParts, source: string, amount: bigint): Instruction {
  const accounts = [signs(parts.payer), plain(at.book), writable(at.page), writable(source), writable(at.vault)];
  const tail = [plain(at.terms.mint), plain(at.terms.tokenProgram)];
  const place = concat(littleEndian(parts.slot, 1), littleEndian(parts.generation, 4));
  return ours(4, [...accounts, ...tail], place, littleEndian(amount, 8));
}

/** Begins to close the channel; the payer signs. */
export function requestClose(parts: ChannelParts): Instruction {
  const accounts = [signs(parts.payer), plain(parts.book), writable(parts.page)];
  return ours(8, accounts, littleEndian(parts.slot, 1), littleEndian(parts.generation, 4));
}

/** Returns what is unspent to `account`, the payer's associated one, once the grace period is over. */
export function withdraw(at: Accounts, slot: number, account: string): Instruction {
  const terms = [plain(at.terms.mint), plain(at.terms.tokenProgram), writable(account)];
  const accounts = [plain(PROGRAM), plain(at.book), writable(at.page), writable(at.vault), ...terms];
  return ours(9, accounts, littleEndian(1, 4), littleEndian(slot, 1));
}

/** Gives all but `keep` base units of the channel back to `account`, the payer's associated one; the operator signs. */
export function refund(at: Accounts, operator: string, parts: ChannelParts, keep: bigint, account: string): Instruction {
  const terms = [plain(at.terms.mint), plain(at.terms.tokenProgram), writable(account)];
  const accounts = [signs(operator), plain(at.book), writable(at.page), writable(at.vault), ...terms];
  const row = concat(littleEndian(parts.slot, 1), littleEndian(parts.generation, 4), littleEndian(keep, 8));
  return ours(10, accounts, littleEndian(1, 4), row);
}

function computeLimit(units: number): Instruction {
  return { program: COMPUTE_BUDGET_PROGRAM, accounts: [], data: concat([2], littleEndian(units, 4)) };
}

/** The one shape of transaction that a sponsor pays for: compute limit, compute price, `open` or `top_up`, and a memo. */
export function sponsored(deposit: Instruction, channel: string): Instruction[] {
  const price = { program: COMPUTE_BUDGET_PROGRAM, accounts: [], data: concat([3], littleEndian(DEPOSIT_PRICE, 8)) };
  const memo = { program: MEMO_PROGRAM, accounts: [], data: utf8(hex(fromBase58(channel, 32))) };
  return [computeLimit(DEPOSIT_UNITS), price, deposit, memo];
}

/** One instruction at one's own expense. */
export function atOwnExpense(instruction: Instruction): Instruction[] {
  return [computeLimit(OWN_UNITS), instruction];
}

/** A length as Solana writes it: seven bits a byte. */
function compact(length: number): number[] {
  return length < 0x80 ? [length] : [(length & 0x7f) | 0x80, length >> 7];
}

/** A message, and who has to sign it in which order. */
export interface Message {
  readonly bytes: Uint8Array;
  readonly signers: readonly string[];
}

/** Compiles a legacy message. */
export function message(feePayer: string, instructions: readonly Instruction[], blockhash: string): Message {
  const metas = new Map<string, { signer: boolean; writable: boolean }>();
  for (const { program, accounts } of instructions) {
    for (const account of [...accounts, plain(program)]) {
      const known = metas.get(account.address) ?? { signer: false, writable: false };
      known.signer ||= account.signer;
      known.writable ||= account.writable;
      metas.set(account.address, known);
    }
  }
  metas.delete(feePayer);
  const kind = (signer: boolean, canWrite: boolean): string[] =>
    [...metas].filter(([, meta]) => meta.signer === signer && meta.writable === canWrite).map(([address]) => address);
  const [writers, readers] = [[feePayer, ...kind(true, true)], kind(true, false)];
  const readonly = kind(false, false);
  const keys = [...writers, ...readers, ...kind(false, true), ...readonly];
  const at = (address: string): number => keys.indexOf(address);
  const compiled = instructions.map(({ program, accounts, data }) =>
    concat([at(program)], compact(accounts.length), accounts.map(({ address }) => at(address)), compact(data.length), data),
  );
  const header = [writers.length + readers.length, readers.length, readonly.length];
  const bytes = concat(
    header,
    compact(keys.length),
    ...keys.map((key) => fromBase58(key, 32)),
    fromBase58(blockhash, 32),
    compact(instructions.length),
    ...compiled,
  );
  return { bytes, signers: [...writers, ...readers] };
}

/** A transaction with the signatures of those who are given; the places of others stay empty. */
export async function signed({ bytes, signers }: Message, ...keys: readonly Signer[]): Promise<Uint8Array<ArrayBuffer>> {
  const signatures = signers.map(async (address) => {
    const key = keys.find((known) => known.address === address);
    if (!key) return new Uint8Array(64);
    return key.signTransaction ? key.signTransaction(bytes) : key.sign(bytes);
  });
  const transaction = concat(compact(signers.length), ...(await Promise.all(signatures)), bytes);
  if (transaction.length > MAX_BYTES) throw new Malformed("the transaction is too large");
  return transaction;
}

/** The name of a transaction: its first signature, in base58. */
export function nameOf(transaction: Uint8Array): string {
  return base58(transaction.subarray(1, 65));
}

/** A transaction with static accounts only, taken apart. */
export interface Parsed {
  readonly signatures: readonly Uint8Array[];
  readonly message: Uint8Array;
  /** The signers stand first, the fee payer before all. */
  readonly keys: readonly string[];
  readonly signers: number;
  readonly instructions: readonly { program: string; accounts: readonly string[]; data: Uint8Array }[];
}

/** Takes a legacy transaction apart, or one of version 0 without lookup tables; throws {@link Malformed} for any other. */
export function parse(bytes: Uint8Array): Parsed {
  let at = 0;
  const take = (length: number): Uint8Array => {
    if (at + length > bytes.length) throw new Malformed("a transaction is cut off");
    return bytes.subarray(at, (at += length));
  };
  const byte = (): number => take(1)[0] ?? 0;
  const length = (): number => {
    const first = byte();
    return first < 0x80 ? first : (first & 0x7f) | (byte() << 7);
  };
  if (bytes.length > MAX_BYTES) throw new Malformed("the transaction is too large");
  const signatures = Array.from({ length: length() }, () => take(64));
  const start = at;
  const first = byte();
  const isVersion0 = first === 0x80;
  const signers = isVersion0 ? byte() : first;
  if (signers !== signatures.length || signers > 0x7f) throw new Malformed("not a legacy transaction, nor one of version 0");
  take(2);
  const keys = Array.from({ length: length() }, () => base58(take(32)));
  take(32);
  const key = (): string => keys[byte()] ?? raise("an instruction names no account");
  const instructions = Array.from({ length: length() }, () => {
    const program = key();
    const accounts = Array.from({ length: length() }, key);
    return { program, accounts, data: take(length()) };
  });
  if (isVersion0 && length() !== 0) throw new Malformed("a transaction with lookup tables");
  if (at !== bytes.length) throw new Malformed("bytes after a transaction");
  return { signatures, message: bytes.subarray(start), keys, signers, instructions };
}

/** Whether an instruction that was taken apart is this one. */
export function isThis(found: Parsed["instructions"][number], wanted: Instruction): boolean {
  const addresses = wanted.accounts.map(({ address }) => address);
  const sameAccounts =
    found.accounts.length === addresses.length && found.accounts.every((address, at) => address === addresses[at]);
  return found.program === wanted.program && sameAccounts && same(found.data, wanted.data);
}

function raise(why: string): never {
  throw new Malformed(why);
}
