/**
 * The scheme `@tallybook/channel` for resource servers of x402: a plug-in for `@x402/core`, with which `@x402/express`, `@x402/hono`
 * and their like charge through a Tallybook facilitator.
 *
 * @example
 * ```ts
 * import { paymentMiddleware, x402ResourceServer } from "@x402/express";
 * import { HTTPFacilitatorClient } from "@x402/core/server";
 * import { TallybookChannelServer } from "@tallybook/x402/server";
 *
 * const url = "http://127.0.0.1:8402";
 * const channel = new TallybookChannelServer({ facilitator: url, book });
 * const server = new x402ResourceServer(new HTTPFacilitatorClient({ url })).register("solana:*", channel);
 * app.use(paymentMiddleware({ "GET /weather": { accepts: channel.accepts(network, "$0.0005") } }, server));
 * ```
 *
 * @module
 */

import type {
  AssetAmount,
  DeepReadonly,
  Network,
  PaymentPayload,
  PaymentRequirements,
  Price,
  SchemeNetworkServer,
  SchemePaymentRequiredContext,
  SettleContext,
  SettleResponse,
  SupportedKind,
  VerifiedPaymentCanceledContext,
  VerifyContext,
  VerifyResponse,
  VerifyResultContext,
} from "@x402/core/types";
import { FacilitatorResponseError } from "@x402/core/types";
import { amountFrom, less, Malformed } from "./bytes.js";
import { type Signer, signerFrom, type SignerLike } from "./keys.js";
import { type BookOffer, Facilitator, type FacilitatorConfig, NoAnswer, type Payment, type Settled, type Verified } from "./server/facilitator.js";
import { baseUnits } from "./server/price.js";
import { close } from "./server/refund.js";
import { voucherFile, type VoucherKeeper } from "./server/vouchers.js";
import type { Voucher } from "./voucher.js";
import { type ChannelPayload, readHeader, type Requirements, SCHEME } from "./wire.js";

export type { FacilitatorConfig } from "./server/facilitator.js";
export { type KeptVoucher, voucherFile, type VoucherKeeper } from "./server/vouchers.js";
export { generateKeys, type SignerLike } from "./keys.js";
export { SCHEME } from "./wire.js";

/** What changes from offer to offer: hints, which a payment need not echo. */
const HINTS = ["page", "slot", "generation", "recentBlockhash"] as const;
/** How often a commit whose outcome is unknown is asked for again, after growing pauses. */
const COMMIT_TRIES = 3;
const COMMIT_PAUSE_MILLISECONDS = 100;

/** How a server is paid. */
export interface ServerOptions {
  /** The facilitator: its base URL, or more about it. */
  readonly facilitator: string | FacilitatorConfig;
  /** The payee's book, in base58. */
  readonly book: string;
  /**
   * Where the newest voucher of each channel is kept: a file, or a keeper of your own. `vouchers-BOOK.jsonl` in the working directory
   * unless said otherwise. `false` keeps none: then a facilitator that withholds them withholds your money.
   */
  readonly keepVouchersIn?: string | VoucherKeeper | false;
  /**
   * The book's operator, who signs what gives a leaving payer the rest back at once. Without it payers wait for the grace period.
   */
  readonly operator?: SignerLike;
  /** What asks the facilitator; `globalThis.fetch` unless said otherwise. */
  readonly fetch?: typeof globalThis.fetch;
}

/** What a route accepts: a payment option of `@x402/core`, to be changed as you like. */
export interface Accepts {
  /** `@tallybook/channel`. */
  scheme: string;
  /** The cluster, as a CAIP-2 id. */
  network: Network;
  /** The price of a call; where it is metered, at most. */
  price: Price;
  /** The book's payee. */
  payTo: () => Promise<string>;
  /** How long the handler may take: 300 seconds unless said otherwise, and at most what the facilitator allows. */
  maxTimeoutSeconds?: number;
  /** `metered` for a call that costs less than its price. */
  extra?: Record<string, unknown>;
}

/** A payment that `@x402/core` works on; frozen by its types. */
type Paid = DeepReadonly<PaymentPayload>;

/**
 * Charges from channels wherever an `@x402/core` resource server asks for payment: a call is reserved before its handler runs,
 * committed (durably, at the facilitator) before its answer goes out, and released when the handler fails. A deposit is sent first,
 * and charges nothing: its voucher then pays as any other.
 *
 * A metered call says what it cost by `setSettlementOverrides`: an amount in base units, a percentage or dollars, at most the price.
 */
export class TallybookChannelServer implements SchemeNetworkServer {
  /** `@tallybook/channel`. */
  readonly scheme = SCHEME;
  readonly defaultAssetTransferMethod = "default";
  readonly paymentFlows = { default: { default: "authorization", supported: ["authorization"] } } as const satisfies
    SchemeNetworkServer["paymentFlows"];
  /** What a payment need not echo. */
  readonly dynamicExtraFields: string[] = [...HINTS, "channelState", "voucherState"];
  /** What `@x402/core` calls around a payment. */
  readonly schemeHooks = {
    onBeforeVerify: (context: VerifyContext) => this.#verify(context),
    onAfterVerify: (context: VerifyResultContext) => this.#verified(context),
    onBeforeSettle: (context: SettleContext) => this.#settle(context),
    onVerifiedPaymentCanceled: (context: VerifiedPaymentCanceledContext) => this.#release(context),
  };
  readonly #facilitator: Facilitator;
  readonly #keeper: VoucherKeeper | undefined;
  readonly #operator: Promise<Signer> | undefined;
  /** Where the channel of a refused payment stands, for the 402 that corrects it. */
  readonly #states = new WeakMap<Paid, Record<string, unknown>>();
  /** Receipts of channels that were closed. */
  readonly #closed = new WeakMap<Paid, Settled>();

  constructor({ facilitator, book, keepVouchersIn, operator, fetch }: ServerOptions) {
    const config = typeof facilitator === "string" ? { url: facilitator } : facilitator;
    this.#facilitator = new Facilitator(config, book, fetch ?? ((input, init) => globalThis.fetch(input, init)));
    const keeper = keepVouchersIn ?? `vouchers-${book}.jsonl`;
    this.#keeper = typeof keeper === "string" ? voucherFile(keeper) : keeper === false ? undefined : keeper;
    this.#operator = operator && signerFrom(operator);
    this.#operator?.catch(() => undefined); // whoever uses it is told
  }

  /** Writes what is kept of vouchers through, before the server's process ends. */
  async close(): Promise<void> {
    await this.#keeper?.close?.();
  }

  /** What a route accepts: a call at `price`, such as `"$0.0005"`. */
  accepts(network: Network, price: Price): Accepts {
    return { scheme: SCHEME, network, price, payTo: async () => (await this.#terms()).payTo };
  }

  /** What a metered route accepts: a call that costs at most `ceiling`, and says what it cost by `setSettlementOverrides`. */
  acceptsUpTo(network: Network, ceiling: Price): Accepts {
    return { ...this.accepts(network, ceiling), extra: { metered: true } };
  }

  /** Base units of the book's mint. Called by `@x402/core`. */
  async parsePrice(price: Price, network: Network): Promise<AssetAmount> {
    const terms = await this.#terms();
    if (network !== terms.network) throw new TypeError(`the book is on ${terms.network}, the route on ${network}`);
    if (typeof price !== "object") {
      return { asset: terms.asset, amount: baseUnits(price, Number(terms.extra.decimals)).toString() };
    }
    if (price.asset !== terms.asset) throw new TypeError(`the book is in ${terms.asset}, the price in ${price.asset}`);
    return { asset: price.asset, amount: amountFrom(price.amount).toString() };
  }

  /** Decimals of the book's mint, once its terms were read. Called by `@x402/core`. */
  getAssetDecimals(asset: string): number | undefined {
    const { known } = this.#facilitator;
    return known?.asset === asset ? Number(known.extra.decimals) : undefined;
  }

  /** Adds the terms of the book. Called by `@x402/core`. */
  async enhancePaymentRequirements(requirements: PaymentRequirements, _kind: SupportedKind): Promise<PaymentRequirements> {
    const { payTo, asset, maxTimeoutSeconds, extra } = await this.#terms();
    if (requirements.payTo !== payTo && requirements.payTo !== "") {
      throw new TypeError(`payTo of the route is ${requirements.payTo}, the book's payee is ${payTo}: use accepts()`);
    }
    const terms = Object.fromEntries(Object.entries(extra).filter(([name]) => !HINTS.some((hint) => hint === name)));
    return {
      ...requirements,
      asset,
      payTo,
      maxTimeoutSeconds: Math.min(requirements.maxTimeoutSeconds, maxTimeoutSeconds),
      extra: { ...requirements.extra, ...terms },
    };
  }

  /**
   * Adds a free slot and a blockhash to what is asked for, fresh ones to a 402, and where the channel stands if its payment was
   * refused. Called by `@x402/core`.
   */
  async enrichPaymentRequiredResponse(context: SchemePaymentRequiredContext): Promise<PaymentRequirements[]> {
    const { error, paymentPayload, paymentRequiredResponse } = context;
    const { extra } = error === undefined ? await this.#terms() : await this.#offer(paymentPayload !== undefined);
    const hints = Object.fromEntries(HINTS.filter((name) => extra[name] !== undefined).map((name) => [name, extra[name]]));
    if (error === "No matching payment requirements") paymentRequiredResponse.error = mismatch(context);
    const state = paymentPayload && this.#states.get(paymentPayload);
    return context.requirements.map((requirements) => {
      if (requirements.scheme !== SCHEME || "page" in requirements.extra) return requirements;
      return { ...requirements, extra: { ...requirements.extra, ...hints, ...state } };
    });
  }

  /** The terms; without them there is nothing to answer a request with, which `@x402/core` answers with 502 for this error. */
  async #terms(): Promise<BookOffer> {
    return this.#facilitator.terms().catch(unavailable);
  }

  /** A fresh offer. Whoever pays already, and is told why not, is told it with the last one where there is none. */
  async #offer(isPaying: boolean): Promise<BookOffer> {
    const { known } = this.#facilitator;
    return this.#facilitator.offer().catch((error: unknown) => (isPaying && known ? known : unavailable(error)));
  }

  /** Before the handler: sends a deposit, reserves a voucher, closes a channel. A hook that throws would be passed over. */
  async #verify({ paymentPayload, requirements }: VerifyContext): Promise<{ skip: true; result: VerifyResponse }> {
    try {
      const payment = paymentOf(paymentPayload);
      const { payload } = payment;
      if (payload.type === "refund") return skip(await this.#close(paymentPayload, payment, asked(requirements)));
      if (payload.type === "deposit") {
        const funded = await this.#facilitator.settle(payment, asked(requirements));
        if (!funded.success) return skip(this.#refused(paymentPayload, funded.errorReason, funded.extra));
      }
      const verified = await this.#reserve(voucherOf(payment), asked(requirements));
      if (verified.isValid) return skip(verified);
      return skip(this.#refused(paymentPayload, verified.invalidReason, verified.extra));
    } catch (error) {
      return skip(this.#refused(paymentPayload, this.#reasonOf(error, paymentPayload)));
    }
  }

  /** Reserves a voucher. Where the answer is lost it may be reserved, and is given back: or its channel would be busy for long. */
  async #reserve(payment: Payment, requirements: Requirements): Promise<Verified> {
    try {
      return await this.#facilitator.verify(payment, requirements);
    } catch (error) {
      const mayBeReserved = error instanceof NoAnswer && !error.isRefused;
      if (mayBeReserved) await this.#facilitator.release(payment, requirements).catch(() => undefined);
      throw error;
    }
  }

  #reasonOf(error: unknown, { payload }: Paid): string {
    if (error instanceof Malformed) return "malformed_payload";
    if (!(error instanceof NoAnswer)) {
      console.error("a payment cannot be looked at", error);
      return "facilitator_unavailable";
    }
    // A deposit or refund may have been sent: the same again asks what became of it.
    const mayBeSent = !error.isRefused && payload.type !== "voucher";
    return mayBeSent ? "settlement_pending" : error.reason;
  }

  #refused(paid: Paid, invalidReason = "facilitator_unavailable", extra?: Record<string, unknown>): VerifyResponse {
    const { channelState, voucherState } = extra ?? {};
    this.#states.set(paid, { ...(channelState ? { channelState } : {}), ...(voucherState ? { voucherState } : {}) });
    if (invalidReason === "requirements_mismatch") this.#facilitator.forget();
    return { isValid: false, invalidReason };
  }

  async #close(paid: Paid, payment: Payment, requirements: Requirements): Promise<VerifyResponse> {
    const operator = await this.#operator;
    if (!operator) return this.#refused(paid, "operator_must_sign");
    const receipt = await close(this.#facilitator, operator, this.#keeper, payment, requirements);
    if (!receipt.success) return this.#refused(paid, receipt.errorReason, receipt.extra);
    this.#closed.set(paid, receipt);
    return { isValid: true, ...(receipt.payer !== undefined && { payer: receipt.payer }) };
  }

  /** A channel that was closed needs no handler. */
  async #verified({ paymentPayload }: VerifyResultContext): Promise<void | { skipHandler: true; response: { body: unknown } }> {
    const receipt = this.#closed.get(paymentPayload);
    return receipt && { skipHandler: true, response: { body: receipt } };
  }

  /** After the handler, and before its answer goes out: commits what the call cost. */
  async #settle({ paymentPayload, requirements }: SettleContext): Promise<{ skip: true; result: SettleResponse }> {
    const receipt = this.#closed.get(paymentPayload) ?? (await this.#commit(paymentPayload, asked(requirements)));
    return { skip: true, result: { ...receipt, network: requirements.network as Network } };
  }

  async #commit(paid: Paid, charged: Requirements): Promise<Settled> {
    const failed = (errorReason: string): Settled => ({ success: false, transaction: "", network: charged.network, errorReason });
    let pause = COMMIT_PAUSE_MILLISECONDS;
    for (let attempt = 0; attempt < COMMIT_TRIES; attempt++) {
      try {
        const payment = voucherOf(paymentOf(paid));
        const settled = await this.#facilitator.settle(payment, charged);
        if (settled.success) await this.#keep(payment, charged);
        if (settled.success) return settled;
        if (settled.errorReason !== "no_reservation") {
          await this.#facilitator.release(payment, charged).catch(() => undefined); // else it ends by itself
          return settled;
        }
        // The facilitator was started again during the call, or the handler took long: nothing is lost by reserving once more.
        const again = await this.#facilitator.verify(payment, { ...charged, amount: payment.accepted.amount });
        if (!again.isValid) return failed(again.invalidReason ?? "no_reservation");
      } catch (error) {
        if (!(error instanceof NoAnswer)) console.error("a payment cannot be committed", error);
        await new Promise((resolve) => setTimeout(resolve, pause));
        pause *= 2;
      }
    }
    return failed("settlement_pending");
  }

  /** The server's own copy. Failing to write it is told to the operator; the facilitator has the durable one. */
  async #keep({ accepted, payload }: Payment, charged: Requirements): Promise<void> {
    const { voucher } = payload;
    const unused = less(BigInt(accepted.amount), BigInt(charged.amount));
    const kept = { voucher, charged: less(BigInt(voucher.maxClaimableAmount), unused) };
    await this.#keeper?.keep(kept).catch((error: unknown) => {
      console.error("cannot keep the newest voucher: only the facilitator has it", error);
    });
  }

  /** The handler failed: nothing is charged. If this is lost, the reservation ends by itself. */
  async #release({ paymentPayload, requirements }: VerifiedPaymentCanceledContext): Promise<void> {
    if (this.#closed.has(paymentPayload)) return;
    await this.#facilitator.release(voucherOf(paymentOf(paymentPayload)), asked(requirements)).catch(() => undefined);
  }
}

function skip(result: VerifyResponse): { skip: true; result: VerifyResponse } {
  return { skip: true, result };
}

function unavailable(error: unknown): never {
  throw new FacilitatorResponseError(`facilitator_unavailable: ${error instanceof Error ? error.message : String(error)}`);
}

function asked(requirements: DeepReadonly<PaymentRequirements>): Requirements {
  return requirements as unknown as Requirements;
}

/** The payment of our scheme in a payload of `@x402/core`; {@link Malformed} when it is none. */
function paymentOf({ accepted, payload }: Paid): Payment {
  const ours = payload as unknown as Partial<ChannelPayload>;
  const voucher: Partial<Voucher> | undefined = ours.voucher;
  amountFrom(voucher?.maxClaimableAmount);
  if (ours.type !== "voucher" && ours.type !== "deposit" && ours.type !== "refund") throw new Malformed("no payment of this scheme");
  return { x402Version: 2, accepted: asked(accepted), payload: ours as ChannelPayload };
}

/** The same, paid by its voucher alone: a deposit charges nothing. */
function voucherOf(payment: Payment): Payment {
  return { ...payment, payload: { type: "voucher", voucher: payment.payload.voucher } };
}

/** Why no requirements match a payment: its price is an old one, or it is for something else. */
function mismatch({ requirements, transportContext }: SchemePaymentRequiredContext): string {
  const context = transportContext as { request?: { paymentHeader?: string } } | undefined;
  try {
    const { accepted } = readHeader(context?.request?.paymentHeader ?? "") as { accepted: Requirements };
    const asksSameOf = ({ scheme, amount }: PaymentRequirements): boolean => scheme === SCHEME && amount === accepted.amount;
    return requirements.some(asksSameOf) ? "requirements_mismatch" : "wrong_price";
  } catch {
    return "requirements_mismatch";
  }
}
