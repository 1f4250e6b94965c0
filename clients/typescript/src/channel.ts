// A channel as its payer knows it. Pure: decides, and leaves signing order, store and network to the caller.

import type { Slot } from "./accounts.js";
import { amountFrom, less, max, min } from "./bytes.js";
import { type ChannelParts, verifyVoucher } from "./voucher.js";
import { type ChannelState, type Offer, readOffer, type Requirements, type VoucherState } from "./wire.js";

/** How many calls ahead the ceiling in the store is raised at a time: one write pays for so many vouchers. */
const CALLS_AHEAD = 64n;

/** What a channel is up to. `closing_at` in Unix seconds; `last_valid_height` is the last block at which a deposit can land. */
export type Phase =
  | { readonly phase: "opening"; readonly last_valid_height: number }
  | { readonly phase: "open" }
  /** Pays no more calls; its rest is to be had back by a close. */
  | { readonly phase: "given_up" }
  | { readonly phase: "closing"; readonly closing_at: number }
  /** Over; kept for the budget. */
  | { readonly phase: "ended" };

/** An addition to a deposit whose outcome is not known: sent again as it is until it is, so that it lands once at most. */
export interface TopUp {
  readonly amount: bigint;
  /** The deposit without it. */
  readonly before: bigint;
  readonly lastValidHeight: number;
  /** The signed transaction, in base64. */
  readonly transaction: string;
}

/** A channel of ours. */
export class OwnChannel {
  phase: Phase;
  deposit: bigint;
  /** What calls cost so far, as far as their outcome was seen. */
  charged = 0n;
  /** No voucher above this was ever signed: raised, durably, before one leaves. */
  reserved = 0n;
  /** The highest cumulative whose outcome is unknown; `charged` when all are known. After a restart: `reserved`. */
  ceiling = 0n;
  /** What the server had charged before it forgot: due again once it remembers. Zero where it never forgot. */
  forgotten = 0n;
  /** What the chain has settled of it, as far as it was asked. */
  settled = 0n;
  /** How much of the reserve was used is not known, so the server is asked before it is paid. */
  unsure = false;
  /** When it was used last, in Unix seconds. */
  usedAt = 0;
  topUp: TopUp | undefined;
  /** The server refused an addition: a new channel is opened instead. */
  noTopUp = false;

  constructor(
    /** Its id, computed by ourselves. */
    readonly id: string,
    readonly parts: ChannelParts,
    /** The host that it was opened for, as the budget counts it. */
    readonly authority: string,
    /** A resource there, and the method it is asked with: where a cooperative close is asked for. */
    readonly url: string,
    public method: string,
    /** The terms that it was opened under. */
    public terms: Offer,
    deposit: bigint,
    phase: Phase,
  ) {
    this.deposit = deposit;
    this.phase = phase;
  }

  /** What the budget counts: what is in it or may be, and once it is over what it cost. */
  counted(): bigint {
    return this.phase.phase === "ended" ? this.charged : this.deposit + (this.topUp?.amount ?? 0n);
  }

  /** What is unspent, whatever may still be due. */
  rest(): bigint {
    return less(this.deposit, this.charged);
  }

  /** Whether the channel can pay `price`. */
  covers(price: bigint): boolean {
    return this.phase.phase === "open" && this.charged + price <= this.deposit;
  }

  /**
   * The cumulative to sign next for a call at `price`. A channel that is not sure where it stands signs for nothing: that pays no
   * call, not even one that was answered before, and the correction tells.
   */
  toSign(price: bigint): bigint {
    return this.unsure ? 0n : this.charged + price;
  }

  /** Takes note that a voucher over `cumulative` is about to leave. True when it must be saved first. */
  reserve(cumulative: bigint, price: bigint): boolean {
    this.ceiling = max(this.ceiling, cumulative);
    if (cumulative <= this.reserved) return false;
    this.reserved = max(min(less(cumulative, price) + price * CALLS_AHEAD, this.deposit), cumulative);
    return true;
  }

  /** The most that the server can have charged, as far as we know. */
  possible(): bigint {
    return max(max(this.charged, this.ceiling), this.forgotten);
  }

  /**
   * A call's outcome was seen: it was charged, up to `charged` in all. Says what the call cost. A server that names more than was
   * signed for the call is charged what was signed.
   */
  served(charged: bigint, cumulative: bigint): bigint {
    const total = max(min(charged, cumulative), this.charged);
    const cost = total - this.charged;
    this.charged = total;
    this.ceiling = total;
    this.unsure = false;
    return cost;
  }

  /** A call's outcome was seen: it was not charged. */
  notServed(): void {
    this.ceiling = this.charged;
  }

  /** The last voucher was refused, so it pays for nothing: what was possible `before` it is possible still. */
  refused(before: bigint): void {
    this.ceiling = before;
  }

  /**
   * The chain was asked. What it has settled we have signed, so it is due, whatever a server knows of it; and a voucher that is not
   * above it is worth nothing.
   */
  see(slot: Slot): void {
    this.settled = max(this.settled, this.settledIn(slot));
    this.charged = max(this.charged, this.settled);
  }

  /** What a slot as the chain has it says of this channel: zero where it is another's, or free. */
  settledIn({ payer, signer, generation, status, settled }: Slot): bigint {
    const { parts } = this;
    const isIt = payer === parts.payer && signer === parts.signer && generation === parts.generation;
    return isIt && status !== "free" ? settled : 0n;
  }

  /** Whether a claim of so much may be settled yet: no voucher above the reserve was ever signed. */
  maySettle(state: ChannelState): boolean {
    return state.channelId === this.id && state.chargedCumulativeAmount <= this.reserved;
  }

  /**
   * What a call cost that was signed for above `chargedBefore`, up to `cumulative`, and whose outcome was not seen, by what was
   * adopted since; nothing where that is not known. `isUsed`: the server says that this very voucher has paid for a call.
   */
  costOf(chargedBefore: bigint, cumulative: bigint, isUsed: boolean): bigint | undefined {
    const rise = less(this.charged, chargedBefore);
    // Older vouchers explain that much, which a server remembers or the chain has settled: of this one it says nothing.
    const byOthers = this.charged <= this.forgotten || this.charged > cumulative;
    const isKnown = rise === 0n || isUsed || !byOthers;
    return isKnown ? min(rise, less(cumulative, chargedBefore)) : undefined;
  }

  /**
   * Adopts what a corrective answer says; or refuses it, and gives the most that can be due.
   *
   * What the chain has settled is due, whatever the server says and shows: the chain settles only what we have signed. More than that
   * and than our own record is believed only as far as a call's outcome is unknown, and only with our own signature over at least that
   * much. Less than our own record is believed: the server gave something up.
   */
  async adopt(state: ChannelState, voucher: VoucherState | undefined): Promise<bigint | undefined> {
    const charged = state.chargedCumulativeAmount;
    const isSigned =
      voucher !== undefined &&
      charged <= voucher.signedMaxClaimable &&
      (await verifyVoucher(this.parts.signer, this.id, voucher.signedMaxClaimable, voucher.signature));
    const due = this.possible();
    const possible = max(isSigned ? due : this.charged, this.settled);
    if (state.channelId !== this.id || charged > possible) return possible;
    const adopted = max(charged, this.settled);
    // A server that forgot may remember again: what was due before stays possible, whatever is served meanwhile.
    if (adopted < this.charged) this.forgotten = max(this.forgotten, this.charged);
    this.ceiling = adopted < this.charged ? due : adopted;
    this.charged = adopted;
    this.unsure = false;
    return undefined;
  }

  /** As it is stored: the format of the Rust agent's journal. */
  toText(): string {
    const { topUp } = this;
    const record = {
      id: this.id,
      parts: this.parts,
      authority: this.authority,
      url: this.url,
      method: this.method,
      terms: this.terms.raw,
      deposit: this.deposit.toString(),
      charged: this.charged.toString(),
      reserved: this.reserved.toString(),
      used_at: this.usedAt,
      ...(topUp && {
        top_up: {
          amount: topUp.amount.toString(),
          before: topUp.before.toString(),
          last_valid_height: topUp.lastValidHeight,
          transaction: topUp.transaction,
        },
      }),
      ...this.phase,
    };
    return JSON.stringify(record);
  }

  /** Reads what was stored. What was signed of the reserve before the last stop is not known any more. */
  static fromText(text: string): OwnChannel {
    const record = JSON.parse(text) as Stored;
    const phase = readPhase(record);
    const { id, parts, authority, url, method } = record;
    const channel = new OwnChannel(id, parts, authority, url, method, readOffer(record.terms), 0n, phase);
    channel.deposit = amountFrom(record.deposit);
    channel.charged = amountFrom(record.charged);
    channel.reserved = amountFrom(record.reserved);
    channel.ceiling = phase.phase === "ended" ? channel.charged : channel.reserved;
    channel.unsure = channel.ceiling > channel.charged;
    channel.usedAt = record.used_at ?? 0;
    const topUp = record.top_up;
    channel.topUp = topUp && {
      amount: amountFrom(topUp.amount),
      before: amountFrom(topUp.before),
      lastValidHeight: topUp.last_valid_height,
      transaction: topUp.transaction,
    };
    return channel;
  }
}

interface Stored {
  readonly id: string;
  readonly parts: ChannelParts;
  readonly authority: string;
  readonly url: string;
  readonly method: string;
  readonly terms: Requirements;
  readonly deposit: string;
  readonly charged: string;
  readonly reserved: string;
  readonly used_at?: number;
  readonly top_up?: { amount: string; before: string; last_valid_height: number; transaction: string };
  readonly phase: string;
  readonly last_valid_height?: number;
  readonly closing_at?: number;
}

function readPhase(record: Stored): Phase {
  switch (record.phase) {
    case "opening":
      return { phase: "opening", last_valid_height: record.last_valid_height ?? 0 };
    case "closing":
      return { phase: "closing", closing_at: record.closing_at ?? 0 };
    case "open":
    case "given_up":
    case "ended":
      return { phase: record.phase };
    default:
      throw new TypeError(`no such phase: ${record.phase}`);
  }
}
