/**
 * The scheme `@tallybook/channel` for clients of x402: a plug-in for `@x402/core`, with which `@x402/fetch` and `@x402/axios` pay from
 * channels.
 *
 * @example
 * ```ts
 * import { x402Client, wrapFetchWithPayment } from "@x402/fetch";
 * import { TallybookChannel } from "@tallybook/x402/client";
 *
 * const client = new x402Client().register("solana:*", new TallybookChannel(signer, policy));
 * const pay = wrapFetchWithPayment(fetch, client);
 * const answer = await pay("https://api.example.com/weather");
 * ```
 *
 * @module
 */

import type {
  Network,
  PaymentPayload,
  PaymentPayloadContext,
  PaymentPayloadResult,
  PaymentRequired,
  PaymentRequirements,
  SchemeNetworkClient,
} from "@x402/core/types";
import type { PaymentCreationContext, PaymentResponseContext } from "@x402/core/client";
import { Agent } from "./agent.js";
import { type Outcome, outcomeOfReceipt } from "./answer.js";
import { Malformed } from "./bytes.js";
import { Call } from "./call.js";
import { carry, type Made } from "./carry.js";
import { AgentError } from "./error.js";
import { decideTopUp, lookFor } from "./funding.js";
import type { SignerLike } from "./keys.js";
import { named, namingIn } from "./naming.js";
import { type Policy, type Route, routeOf } from "./policy.js";
import { type AgentOptions, sleep } from "./state.js";
import {
  type ChannelPayload,
  PAYMENT_REQUIRED,
  PAYMENT_SIGNATURE,
  readHeader,
  readOffer,
  readPaymentRequired,
  readReceipt,
  SCHEME,
} from "./wire.js";

export * from "./exports.js";

/** What waits for the chain is waited for so long, in milliseconds. */
const CHAIN_PATIENCE_MILLISECONDS = 60_000;
const CHAIN_POLL_MILLISECONDS = 500;
/** A busy server is asked again after so long: x402's clients ask once more, and do not say how long to wait. */
const BUSY_WAIT_MILLISECONDS = 1_000;
/** A call of which nothing was heard is given up so long after its reservation has ended, in milliseconds. */
const OVERDUE_MILLISECONDS = 5_000;
/** The one retry of x402's clients comes at once, or not at all. */
const RETRY_MILLISECONDS = 5_000;

/** A payment that was made and of whose answer nothing was heard yet. */
interface Pending {
  readonly call: Call;
  readonly overdue: ReturnType<typeof setTimeout>;
}

/**
 * Pays from channels wherever an `@x402/core` client is asked to. One instance keeps the channels of one wallet, and one call at a
 * time is under way on each: further ones wait their turn, or take channels of their own (`channelsPerHost`).
 *
 * `@x402/core` tells a scheme neither the URL nor the status of an answer. So `allowHosts` is held against the URL that the 402
 * itself names, which a server could choose as it likes; a call whose handler failed counts as if it may have been charged, until
 * the next call on the channel finds out; and a call that gets no answer holds its channel until its reservation has ended. Give the
 * client {@link TallybookChannel.watch}`(fetch)` in place of `fetch`, and none of this is so; or pin whom you pay by `allowPayees`,
 * which the chain is asked about.
 */
export class TallybookChannel implements SchemeNetworkClient {
  /** `@tallybook/channel`. */
  readonly scheme = SCHEME;
  /** What `@x402/core` tells us beside a payment: whom it is for, and what came of it. */
  readonly schemeHooks = {
    onBeforePaymentCreation: (context: PaymentCreationContext) => this.#before(context),
    onPaymentResponse: (context: PaymentResponseContext) => this.#answered(context),
  };
  /** Who pays: its channels, and the ways out of them. */
  readonly agent: Agent;
  readonly #policy: Policy;
  /** The call that requirements belong to: a retry answers the same ones. */
  readonly #calls = new WeakMap<object, Call>();
  readonly #routes = new WeakMap<object, Route>();
  /** Calls that were told to be made once more: ended if that does not come. */
  readonly #awaited = new WeakMap<Call, ReturnType<typeof setTimeout>>();
  /** Payments by the signature of their voucher. */
  readonly #pending = new Map<string, Pending>();
  /** Where a 402 really came from, by its text. */
  readonly #origins = new Map<string, Route>();

  /** A scheme that pays from the wallet of `signer` within `policy`. */
  constructor(signer: SignerLike, policy: Policy, options: AgentOptions = {}) {
    this.#policy = policy;
    this.agent = new Agent(signer, policy, options);
  }

  /** The pinned mint counts as known, so that the client's own cap on each payment ($1 unless said otherwise) holds for it. */
  findDefaultAsset(asset: string, network: Network): { asset: string; decimals: number; symbol: string } | undefined {
    const { cluster } = this.#policy;
    const isPinned = asset === cluster.mint && network === cluster.network;
    return isPinned ? { asset, decimals: cluster.decimals ?? 6, symbol: "USDC" } : undefined;
  }

  /** Makes the payment of one attempt. Called by `@x402/core`. */
  async createPaymentPayload(
    x402Version: number,
    requirements: PaymentRequirements,
    context?: PaymentPayloadContext,
  ): Promise<PaymentPayloadResult> {
    const call = this.#calls.get(requirements) ?? (await this.#begin(requirements, context));
    clearTimeout(this.#awaited.get(call));
    let payload: ChannelPayload;
    try {
      payload = await call.payment();
    } catch (error) {
      call.end();
      throw error;
    }
    const { signature } = payload.voucher;
    const patience = requirements.maxTimeoutSeconds * 1_000 + OVERDUE_MILLISECONDS;
    this.#pending.set(signature, { call, overdue: later(() => this.#lose(signature), patience) });
    const { extensions } = await named(namingIn(context?.extensions), payload.voucher);
    return { x402Version, payload: { ...payload }, ...(extensions && { extensions: { ...extensions } }) };
  }

  async #begin(requirements: PaymentRequirements, context?: PaymentPayloadContext): Promise<Call> {
    const state = await this.agent.state();
    const offer = readOffer(requirements);
    const { network, mint } = this.#policy.cluster;
    if (!state.limits.canPay(offer)) {
      throw new AgentError("no_offer", `the offer is not on ${network} in ${mint}: pay it by other means`);
    }
    const cap = context?.maxAmountPerPayment;
    if (cap !== undefined && offer.amount > BigInt(cap)) {
      throw new AgentError("policy", `not paid: ${offer.amount} base units are above the client's spend controls (${cap})`);
    }
    const call = await Call.begin(state, this.#routes.get(requirements) ?? NOWHERE, offer);
    this.#calls.set(requirements, call);
    return call;
  }

  /** A payment is about to be made: says where to. */
  async #before({ paymentRequired, selectedRequirements }: PaymentCreationContext): Promise<void> {
    if (this.#routes.has(selectedRequirements)) return;
    const seen = this.#origins.get(JSON.stringify(paymentRequired));
    this.#routes.set(selectedRequirements, seen ?? said(paymentRequired));
  }

  /** An answer arrived. Says whether the client should pay once more. */
  async #answered(context: PaymentResponseContext): Promise<void | { recovered: true }> {
    const { voucher } = context.paymentPayload.payload as unknown as ChannelPayload;
    const pending = this.#pending.get(voucher.signature);
    if (!pending) return undefined;
    this.#forget(voucher.signature);
    const { call } = pending;
    try {
      const outcome = outcomeIn(context);
      const next = await call.lookAt(outcome);
      if (next === "done" || call.attempts > 1) return call.end();
      await this.#wait(call, outcome, next.again);
      // The one retry of x402's clients answers the requirements that it has: those are brought up to date.
      Object.assign(context.requirements, call.offer.raw);
      this.#awaited.set(call, later(() => call.end(), RETRY_MILLISECONDS));
      return { recovered: true };
    } catch (error) {
      call.end();
      throw error;
    }
  }

  /** Waits as the answer asks for; for a deposit that is on its way, until the chain says what became of it. */
  async #wait(call: Call, outcome: Outcome, milliseconds: number): Promise<void> {
    const reason = outcome.kind === "refused" ? outcome.reason : outcome.kind === "pay_again" ? outcome.required.error : undefined;
    if (reason !== "settlement_pending") {
      const isBusy = milliseconds > 0 && reason !== undefined;
      return sleep(isBusy ? Math.max(milliseconds, BUSY_WAIT_MILLISECONDS) : milliseconds);
    }
    const channel = call.sent?.channel;
    if (channel?.phase.phase !== "opening" && !channel?.topUp) return sleep(BUSY_WAIT_MILLISECONDS);
    const state = await this.agent.state();
    for (let waited = 0; channel && waited < CHAIN_PATIENCE_MILLISECONDS; waited += CHAIN_POLL_MILLISECONDS) {
      if (channel.phase.phase === "opening") await lookFor(state, channel);
      else await decideTopUp(state, channel);
      if (channel.phase.phase !== "opening" && !channel.topUp) return;
      await sleep(CHAIN_POLL_MILLISECONDS);
    }
  }

  /** Nothing was heard of a payment: it may be charged, and its channel is free again. */
  #lose(signature: string): void {
    const pending = this.#pending.get(signature);
    this.#forget(signature);
    if (!pending) return;
    pending.call.lost();
    pending.call.end();
  }

  #forget(signature: string): void {
    clearTimeout(this.#pending.get(signature)?.overdue);
    this.#pending.delete(signature);
  }

  /**
   * The same `fetch`, watched: give it to `wrapFetchWithPayment` in place of `fetch`, and the scheme knows where a 402 really came
   * from and how a paid call was answered, and carries it on as long as it takes: lost answers and corrections too, of which
   * `@x402/fetch` tries one and `@x402/axios` none. (Axios takes it as `{ adapter: "fetch", env: { fetch: channel.watch(fetch) } }`.)
   */
  watch(fetch: typeof globalThis.fetch): typeof globalThis.fetch {
    return async (input, init) => {
      const request = new Request(input, init);
      const paying = paymentIn(request.headers.get(PAYMENT_SIGNATURE));
      const pending = paying && this.#pending.get(paying.payload.voucher.signature);
      if (pending) {
        this.#forget(paying.payload.voucher.signature);
        try {
          return await carry(pending.call, fetch, request, paying);
        } finally {
          pending.call.end();
        }
      }
      const response = await fetch(request);
      const required = response.status === 402 ? decoded(response.headers.get(PAYMENT_REQUIRED)) : undefined;
      if (required) this.#remember(JSON.stringify(required), response.url || request.url, request.method);
      return response;
    };
  }

  #remember(required: string, url: string, method: string): void {
    if (this.#origins.size >= MAX_ORIGINS) this.#origins.clear();
    this.#origins.set(required, routeOf(url, method));
  }
}

/** So many 402s are remembered by where they came from. */
const MAX_ORIGINS = 1_024;

/** Does something later; in Node that keeps no process alive. */
function later(act: () => void, milliseconds: number): ReturnType<typeof setTimeout> {
  const timer = setTimeout(act, milliseconds);
  (timer as { unref?: () => void }).unref?.();
  return timer;
}

/** The route of a 402 that does not say where it is from: only a policy that allows any host pays it. */
const NOWHERE: Route = { host: "", authority: "", path: "", method: "GET", url: "" };

function said({ resource }: PaymentRequired): Route {
  try {
    return routeOf(resource?.url ?? "", "GET");
  } catch {
    return NOWHERE;
  }
}

/** A payment of our scheme with what is echoed beside it, if that is what this header is. */
function paymentIn(header: string | null): Made | undefined {
  const { accepted, payload, resource, extensions } = (decoded(header) ?? {}) as Partial<PaymentPayload>;
  if (accepted?.scheme !== SCHEME) return undefined;
  const beside = { ...(resource && { resource: { ...resource } }), ...(extensions && { extensions }) };
  return { payload: payload as unknown as ChannelPayload, ...beside };
}

/** What a header holds, if it is one that can be read: what others send is theirs. */
function decoded(header: string | null): object | undefined {
  try {
    const value = header === null ? undefined : readHeader(header);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch (error) {
    if (error instanceof Malformed) return undefined;
    throw error;
  }
}

/** What `@x402/core` passes on of an answer. */
function outcomeIn({ settleResponse, paymentRequired }: PaymentResponseContext): Outcome {
  if (settleResponse) return outcomeOfReceipt(readReceipt(settleResponse));
  if (paymentRequired) return { kind: "pay_again", required: readPaymentRequired(paymentRequired) };
  return { kind: "unclear" };
}
