// Answers that are paid for as they come: beside the caller, who reads the body, somebody signs on.
//
// A stream is a chain of calls on one channel, each a part with a ceiling. The first is paid with the request. For each further one
// the server's meter says what it asks for and from where on; that is signed for if it is within the limits, and above nothing that
// was not signed before. The channel is held until the stream has ended.

import { outcomeOf, receipt, requiredBy } from "./answer.js";
import { less, max } from "./bytes.js";
import type { Spend } from "./budget.js";
import { type Call, refusal, type Sent, total } from "./call.js";
import { AgentError, PolicyBreach } from "./error.js";
import { dishonest } from "./looking.js";
import type { Lease } from "./pool.js";
import { remedy } from "./reason.js";
import { type AgentState, sleep } from "./state.js";
import { type Offer, payment, PAYMENT_METER, PAYMENT_SIGNATURE, type PaymentRequired, type Receipt } from "./wire.js";

/** The meter answers within 25 seconds; whatever takes longer is lost. */
const METER_TIMEOUT_MILLISECONDS = 40_000;
/** A meter that asks for what is not signed is asked again after so long, so often: by then every server has given up waiting. */
const DECLINED_WAIT_MILLISECONDS = 1_000;
const DECLINED_TIMES = 120;

/** How a stream ended. Amounts in base units. */
export interface StreamEnd {
  /** What it cost in all; nothing where the server did not say, which the next call on the channel finds out. */
  readonly charged: bigint | undefined;
  /** The most that it can have cost: what was signed for it. */
  readonly signed: bigint;
  /** Why the server ended it early, if it did. */
  readonly reason: string | undefined;
  /** Why this agent did not sign on, if it did not. */
  readonly declined: string | undefined;
}

const ENDS = new WeakMap<Response, Promise<StreamEnd>>();

/** The end of the stream that a response is, if it is one: resolves once it is over. The body is read as any other. */
export function streamEnd(response: Response): Promise<StreamEnd> | undefined {
  return ENDS.get(response);
}

/** Takes the channel of a call over, and signs on until the stream ends. */
export function signOn(call: Call, request: Request, response: Response, meter: string): void {
  const { sent } = call;
  if (!sent) return;
  const headers = new Headers(request.headers);
  for (const name of ["Content-Length", "Content-Type", "Transfer-Encoding"]) headers.delete(name);
  headers.set(PAYMENT_METER, meter);
  const stream = new Stream(call, sent, { url: request.url, method: request.method, headers });
  ENDS.set(response, stream.run());
}

/** What the meter says. */
type Said =
  | { readonly kind: "asks"; readonly required: PaymentRequired }
  | { readonly kind: "nothing" }
  | { readonly kind: "over"; readonly receipt?: Receipt; readonly reason?: string }
  | { readonly kind: "nonsense" };

class Stream {
  readonly #agent: AgentState;
  readonly #lease: Lease;
  readonly #offer: Offer;
  /** What the channel was charged when it began; where the part under way began; what was signed last. */
  readonly #start: bigint;
  #base: bigint;
  #signed: bigint;
  /** What the budget counts for the part under way. */
  #spend: Spend | undefined;
  #mayExceed = false;
  #declined: string | undefined;
  #failures = 0;

  constructor(
    readonly call: Call,
    readonly sent: Sent,
    readonly request: { url: string; method: string; headers: Headers },
  ) {
    this.#agent = call.agent;
    this.#offer = call.offer;
    this.#lease = call.lease.handOver();
    this.#spend = call.spend;
    call.spend = undefined;
    this.#start = this.#base = sent.chargedBefore;
    this.#signed = sent.cumulative;
  }

  async run(): Promise<StreamEnd> {
    let [voucher, declined] = [undefined as string | undefined, 0];
    while (this.#failures < this.#agent.limits.attempts && declined < DECLINED_TIMES) {
      const said = await this.#ask(voucher).catch((): Said => ({ kind: "nonsense" }));
      voucher = undefined;
      if (said.kind === "over") return this.#over(said.receipt, said.reason);
      if (said.kind === "nothing") this.#failures = 0;
      if (said.kind === "nonsense") await sleep(Math.min(50 * 2 ** this.#failures++, this.#agent.limits.maxWait));
      if (said.kind !== "asks") continue;
      try {
        voucher = await this.#signFor(said.required);
      } catch (error) {
        this.#declined = error instanceof Error ? error.message : String(error);
        declined++;
        await sleep(DECLINED_WAIT_MILLISECONDS);
      }
    }
    return this.#over();
  }

  async #ask(voucher: string | undefined): Promise<Said> {
    const headers = new Headers(this.request.headers);
    if (voucher !== undefined) headers.set(PAYMENT_SIGNATURE, voucher);
    const { fetch } = this.#agent;
    const signal = AbortSignal.timeout(METER_TIMEOUT_MILLISECONDS);
    const response = await fetch(this.request.url, { method: this.request.method, headers, signal });
    // A stream that was ended for want of payment says so in a receipt that failed, also with status 402.
    const paid = receipt(response);
    if (paid?.success === false) {
      const reason = paid.reason ?? "unknown";
      if (remedy(reason) === "wait") return { kind: "nonsense" }; // not now: nothing is known of the stream
      const isKnown = paid.channelState !== undefined || paid.chargedAmount !== undefined;
      return { kind: "over", reason, ...(isKnown && { receipt: paid }) };
    }
    if (response.status === 402) return asked(await requiredBy(response));
    const outcome = await outcomeOf(response);
    await response.body?.cancel().catch(() => undefined);
    if (outcome.kind === "charged") return { kind: "over", receipt: outcome.receipt };
    if (response.status === 204) return { kind: "nothing" };
    return response.status === 410 ? { kind: "over", reason: "no_reservation" } : { kind: "nonsense" };
  }

  /** The payment for the part that the meter asks for. */
  async #signFor(required: PaymentRequired): Promise<string> {
    const { channel } = this.sent;
    const isSame = ({ payTo, book }: Offer): boolean => payTo === this.#offer.payTo && book === this.#offer.book;
    const offer = required.offers.find((offer) => this.#agent.limits.canPay(offer) && isSame(offer));
    if (!offer) throw new AgentError("terms", "the stream's meter asks for somebody else: do not trust this server");
    // Where it is not said, the part under way will be used up.
    const state = offer.channelState?.channelId === channel.id ? offer.channelState : undefined;
    const base = state?.chargedCumulativeAmount ?? this.#signed;
    if (base > this.#signed) await this.#holdAgainstChain(base);
    if (base < this.#start || base > this.#signed) throw dishonest(channel.id, base, this.#signed);
    const cumulative = base + offer.amount;
    await this.#check(cumulative, offer.amount);
    // The part under way costs what the new one begins at; asked for the same once more, it counts once.
    this.#spend?.settle(base - this.#base);
    this.#spend = undefined;
    this.#spend = await this.#agent.spend(offer.amount);
    channel.usedAt = this.#agent.clock();
    if (channel.reserve(cumulative, offer.amount)) await this.#agent.save(channel);
    this.#failures = cumulative === this.#signed ? this.#failures + 1 : 0;
    this.#base = base;
    this.#signed = max(this.#signed, cumulative);
    return payment(offer.raw, { type: "voucher", voucher: await this.#agent.sign(channel, cumulative) });
  }

  /**
   * A meter that begins above what was signed: says so where the chain has settled it, by older vouchers than the stream's. Nothing is
   * signed above that here, where it would count as the stream's; the next call takes it over.
   */
  async #holdAgainstChain(base: bigint): Promise<void> {
    const { channel } = this.sent;
    if (channel.settledIn(await this.#agent.slotOf(channel)) < base) return;
    const why = "the chain has settled more of it than was signed for this stream, by earlier vouchers: make the call again";
    throw new AgentError("not_now", `channel ${channel.id}: ${why}`);
  }

  /** Refuses what the limits or the deposit do not allow. */
  async #check(cumulative: bigint, part: bigint): Promise<void> {
    const { limits } = this.#agent;
    const price = cumulative - this.#start;
    const limit = limits.limitFor(this.#offer);
    if (price > limit || part > limit) {
      throw new PolicyBreach("PriceTooHigh", `the stream costs ${price} base units, the limit is ${limit}`);
    }
    if (cumulative > this.sent.channel.deposit) throw refusal("deposit_exceeded");
    const free = limits.policy.approvePriceAbove;
    if (this.#mayExceed || free === undefined || price <= free) return;
    const { authority: host, path } = this.call.route;
    await limits.approve({ what: "stream", amount: limit, host, path, payee: this.#offer.payTo });
    this.#mayExceed = true;
  }

  /** Over: what it cost is what the receipt says, at most what was signed. */
  #over(receipt?: Receipt, reason?: string): StreamEnd {
    const { channel } = this.sent;
    const said = receipt && total(receipt, { channel, chargedBefore: this.#start });
    const charged = said === undefined ? undefined : channel.served(said, this.#signed);
    channel.unsure ||= charged === undefined;
    if (charged !== undefined) this.#spend?.settle(less(charged, this.#base - this.#start));
    // The channel is free before the caller hears of the end.
    this.#lease.leave();
    return { charged, signed: this.#signed - this.#start, reason, declined: this.#declined };
  }
}

/** A 402: it asks for the next part, or for what was sent once more in another amount; any other reason is an end. */
function asked(required: PaymentRequired): Said {
  const reason = required.error;
  if (reason === undefined || reason === "wrong_cumulative") return { kind: "asks", required };
  return remedy(reason) === "wait" ? { kind: "nonsense" } : { kind: "over", reason };
}
