// The JSON and headers of x402 v2 and of the scheme `@tallybook/channel`. Parsed once, with caps; what comes out is well formed.

import { amountFrom, base64, fromBase58, fromBase64, Malformed, utf8 } from "./bytes.js";
import type { ChannelParts, Voucher } from "./voucher.js";

/** The name of the scheme. */
export const SCHEME = "@tallybook/channel";
/** Server to client, with 402: what is asked for. */
export const PAYMENT_REQUIRED = "PAYMENT-REQUIRED";
/** Client to server: the payment. */
export const PAYMENT_SIGNATURE = "PAYMENT-SIGNATURE";
/** Server to client: what was settled. */
export const PAYMENT_RESPONSE = "PAYMENT-RESPONSE";
/** The name of a stream's meter. */
export const PAYMENT_METER = "PAYMENT-METER";
/** The largest value of such a header, in characters. */
const MAX_HEADER = 8_192;
/** The largest JSON body, in bytes. */
export const MAX_BODY = 65_536;

/** Any JSON object. */
export type Json = Readonly<Record<string, unknown>>;

/** One entry of `accepts`, as it came. It is echoed as it is. */
export interface Requirements {
  readonly scheme: string;
  readonly network: string;
  readonly amount: string;
  readonly asset: string;
  readonly payTo: string;
  readonly maxTimeoutSeconds: number;
  readonly extra: Record<string, unknown>;
}

/** Where a channel stands in the server's ledger. Amounts in base units. */
export interface ChannelState {
  /** Which channel. */
  readonly channelId: string;
  /** Its deposit. */
  readonly balance: bigint;
  /** What was settled on chain. */
  readonly totalClaimed: bigint;
  /** What calls really cost so far: the next voucher is this plus the price. */
  readonly chargedCumulativeAmount: bigint;
}

/** The newest voucher that a server says it holds. */
export interface VoucherState {
  readonly signedMaxClaimable: bigint;
  readonly signature: string;
}

/** An offer of our scheme, read. Amounts in base units, keys in base58. */
export interface Offer {
  /** As it came, but for what was said about one channel. */
  readonly raw: Requirements;
  readonly network: string;
  /** The price of the call, or where it is metered the most that it costs. */
  readonly amount: bigint;
  readonly asset: string;
  readonly payTo: string;
  readonly maxTimeoutSeconds: number;
  readonly book: string;
  readonly bookId: number;
  readonly page: string;
  readonly slot: number;
  readonly feePayer: string;
  readonly withdrawDelay: number;
  readonly minDeposit: bigint;
  readonly tokenProgram: string;
  readonly decimals: number;
  readonly metered: boolean;
  readonly channelState: ChannelState | undefined;
  readonly voucherState: VoucherState | undefined;
}

/** A 402, read as far as this scheme is concerned. */
export interface PaymentRequired {
  readonly offers: readonly Offer[];
  readonly error: string | undefined;
  readonly resource: Json | undefined;
  readonly extensions: Json | undefined;
}

/** The payment of our scheme, by `type`. */
export type ChannelPayload =
  | { type: "deposit"; channel: ChannelParts; voucher: Voucher; deposit: { amount: string; transaction: string } }
  | { type: "voucher"; voucher: Voucher }
  | { type: "refund"; voucher: Voucher };

/** The `PAYMENT-RESPONSE` header. */
export interface Receipt {
  /** Whether it was settled. */
  readonly success: boolean;
  /** Why not. */
  readonly reason: string | undefined;
  /** The transaction, where there was one. */
  readonly transaction: string | undefined;
  /** Who paid. */
  readonly payer: string | undefined;
  /** Where the channel stands. */
  readonly channelState: ChannelState | undefined;
  /** What the call cost, in base units. */
  readonly chargedAmount: bigint | undefined;
}

function object(value: unknown): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Malformed("not a JSON object");
  return value as Json;
}

function text(value: unknown): string {
  if (typeof value !== "string") throw new Malformed("not a text");
  return value;
}

function key(value: unknown): string {
  fromBase58(text(value), 32);
  return text(value);
}

function whole(value: unknown, limit: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > limit) {
    throw new Malformed("not a whole number in range");
  }
  return value;
}

const optional = <T>(value: unknown, read: (value: unknown) => T): T | undefined =>
  value === undefined || value === null ? undefined : read(value);

/** Where a channel stands, or throws {@link Malformed}. */
export function readChannelState(value: unknown): ChannelState {
  const state = object(value);
  return {
    channelId: key(state.channelId),
    balance: amountFrom(state.balance),
    totalClaimed: amountFrom(state.totalClaimed),
    chargedCumulativeAmount: amountFrom(state.chargedCumulativeAmount),
  };
}

function readVoucherState(value: unknown): VoucherState {
  const state = object(value);
  fromBase58(text(state.signature), 64);
  return { signedMaxClaimable: amountFrom(state.signedMaxClaimable), signature: text(state.signature) };
}

/** Reads one entry of `accepts` of our scheme, or throws {@link Malformed}. */
export function readOffer(value: unknown): Offer {
  const raw = object(value);
  const extra = object(raw.extra);
  if (raw.scheme !== SCHEME) throw new Malformed("another scheme");
  whole(extra.generation, 0xffff_ffff);
  const { channelState, voucherState, ...terms } = extra;
  return {
    raw: { ...(raw as unknown as Requirements), extra: terms },
    network: text(raw.network),
    amount: amountFrom(raw.amount),
    asset: key(raw.asset),
    payTo: key(raw.payTo),
    maxTimeoutSeconds: whole(raw.maxTimeoutSeconds, 0xffff_ffff),
    book: key(extra.book),
    bookId: whole(extra.bookId, 0xffff),
    page: key(extra.page),
    slot: whole(extra.slot, 0xff),
    feePayer: key(extra.feePayer),
    withdrawDelay: whole(extra.withdrawDelay, 0xffff_ffff),
    minDeposit: amountFrom(extra.minDeposit),
    tokenProgram: key(extra.tokenProgram),
    decimals: whole(extra.decimals, 0xff),
    metered: extra.metered === true,
    channelState: optional(channelState, readChannelState),
    voucherState: optional(voucherState, readVoucherState),
  };
}

/** Reads a 402: the offers of our scheme, those of others skipped. Throws {@link Malformed} for what is none. */
export function readPaymentRequired(value: unknown): PaymentRequired {
  const required = object(value);
  if (required.x402Version !== 2) throw new Malformed("not x402 version 2");
  if (!Array.isArray(required.accepts)) throw new Malformed("a 402 without offers");
  const offers = required.accepts.filter((accept) => object(accept).scheme === SCHEME).map(readOffer);
  return {
    offers,
    error: optional(required.error, (error) => text(error).slice(0, 200)),
    resource: optional(required.resource, object),
    extensions: optional(required.extensions, object),
  };
}

/** Reads a `PAYMENT-RESPONSE`, or throws {@link Malformed}. */
export function readReceipt(value: unknown): Receipt {
  const raw = object(value);
  const extra = optional(raw.extra, object) ?? {};
  if (typeof raw.success !== "boolean") throw new Malformed("a receipt that does not say whether it settled");
  const transaction = optional(raw.transaction, text);
  return {
    success: raw.success,
    reason: optional(raw.errorReason, (reason) => text(reason).slice(0, 200)),
    transaction: transaction === "" ? undefined : transaction,
    payer: optional(raw.payer, text),
    channelState: optional(extra.channelState, readChannelState),
    chargedAmount: optional(extra.chargedAmount, amountFrom),
  };
}

/** Reads a header: base64 of JSON, at most 8,192 characters. Throws {@link Malformed}. */
export function readHeader(value: string): unknown {
  if (value.length > MAX_HEADER) throw new Malformed("a header above 8,192 characters");
  return readJson(new TextDecoder().decode(fromBase64(value)));
}

/** Reads JSON, or throws {@link Malformed}. */
export function readJson(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw new Malformed("not JSON");
  }
}

/** Writes a header. Throws {@link Malformed} for one that its reader would refuse. */
export function header(value: unknown): string {
  const encoded = base64(utf8(JSON.stringify(value)));
  if (encoded.length > MAX_HEADER) throw new Malformed("a header above 8,192 characters");
  return encoded;
}

/** What travels beside a payment: what is bought, and extensions. */
export interface Beside {
  readonly resource?: Json;
  readonly extensions?: Json;
}

/** The `PAYMENT-SIGNATURE` of a payment: `accepted` is echoed. */
export function payment(accepted: Requirements, payload: ChannelPayload, beside: Beside = {}): string {
  return header({ x402Version: 2, ...beside, accepted, payload });
}
