// One paid call: pay, look at the answer, correct, pay again, within bounds. Whoever carries the requests gives what came of them.

import type { Outcome } from "./answer.js";
import { max, min } from "./bytes.js";
import type { Spend } from "./budget.js";
import type { OwnChannel } from "./channel.js";
import { AgentError } from "./error.js";
import { addTo, decideTopUp, type Deposit, lookFor, open, signAgain } from "./funding.js";
import { adopt } from "./looking.js";
import type { Route } from "./policy.js";
import type { Lease } from "./pool.js";
import { remedy } from "./reason.js";
import type { AgentState } from "./state.js";
import type { Voucher } from "./voucher.js";
import type { Beside, ChannelPayload, Offer, PaymentRequired, Receipt } from "./wire.js";

/** So many channels may turn out to be of no use in one call. */
const MAX_GIVEN_UP = 2;
/** So many attempts are made before a server is taken at its word that it does not know a channel this new, in seconds. */
const SERVER_PATIENCE = 6;
const NEW_SECONDS = 60;
/** The first wait; each further one is twice as long. */
const FIRST_WAIT_MILLISECONDS = 50;

/** A voucher that was sent. */
export interface Sent {
  readonly channel: OwnChannel;
  readonly cumulative: bigint;
  /** What the server could have charged before this voucher was signed, and what is known that it did. */
  readonly before: bigint;
  readonly chargedBefore: bigint;
  /** It is over nothing, and only asks where the channel stands. */
  readonly isProbe: boolean;
}

/** What comes after an answer: it is the caller's, or the call is sent again after so many milliseconds. */
export type Next = "done" | { readonly again: number };

/** A call that is paid for. */
export class Call {
  /** How often the request was sent with a payment. */
  attempts = 0;
  /** The voucher that is on its way. */
  sent: Sent | undefined;
  /** What the budget counts for this call. */
  spend: Spend | undefined;
  /** A voucher of this call whose outcome was not seen. */
  #unseen: Sent | undefined;
  /** The deposit that this call sent, to be sent again as it is. */
  #deposit: { channel: OwnChannel; deposit: Deposit } | undefined;
  #givenUp = 0;
  #last: AgentError | undefined;
  /** The highest price that needs no (further) approval. */
  #approved: bigint;

  private constructor(
    readonly agent: AgentState,
    readonly route: Route,
    public offer: Offer,
    public lease: Lease,
  ) {
    this.#approved = offer.amount;
  }

  /** Checks the policy and waits for a turn. {@link Call.end} gives it back. */
  static async begin(agent: AgentState, route: Route, offer: Offer): Promise<Call> {
    agent.limits.checkHost(route);
    agent.limits.checkOffer(offer);
    const ask = { what: "call", amount: offer.amount, host: route.authority, path: route.path, payee: offer.payTo } as const;
    await agent.limits.approve(ask);
    return new Call(agent, route, offer, await agent.pool(route.authority, offer.book).turn());
  }

  /** The payment of the next attempt, under a name where the server lets payments have names. */
  async named(): Promise<Beside & { payload: ChannelPayload }> {
    const payload = await this.payment();
    return { payload, ...(await this.agent.beside(this.route, payload.voucher)) };
  }

  /** The payment of the next attempt, with everything durable that must be. */
  async payment(): Promise<ChannelPayload> {
    this.attempts++;
    const { limits } = this.agent;
    for (;;) {
      const price = this.offer.amount;
      const channel = this.lease.channelFor(this.#room(), limits.topUp) ?? this.lease.channelFor(price, limits.topUp);
      if (!channel) return this.#openNew();
      const hasRoom = channel.covers(this.#room()) || channel.noTopUp || !limits.topUp;
      if (channel.covers(price) && hasRoom) return { type: "voucher", voucher: await this.#voucher(channel) };
      if (channel.phase.phase !== "opening") {
        const addition = await this.#addition(channel);
        if (addition === "enough") return { type: "voucher", voucher: await this.#voucher(channel) };
        if (addition) return this.#depositPayload(channel, addition);
        continue; // what it may pay is known now: choose again
      }
      const landing = await lookFor(this.agent, channel);
      if (typeof landing === "object") return this.#openAgain(channel, landing);
    }
  }

  /** An addition to a channel; or that it can do without, where there is no room for more. */
  async #addition(channel: OwnChannel): Promise<Deposit | "enough" | undefined> {
    try {
      return await addTo(this.agent, channel, this.route, this.offer, this.#room());
    } catch (error) {
      if (channel.covers(this.offer.amount)) return "enough";
      throw error;
    }
  }

  /**
   * What a channel should have left for this call. A stream cannot be topped up under way, so what is metered begins with as much
   * as it may cost, as far as one deposit goes.
   */
  #room(): bigint {
    const { limits } = this.agent;
    if (!this.offer.metered) return this.offer.amount;
    return max(this.offer.amount, min(limits.limitFor(this.offer), limits.policy.deposit));
  }

  async #openNew(): Promise<ChannelPayload> {
    const [channel, deposit] = await open(this.agent, this.route, this.offer);
    this.lease.useNew(channel);
    return this.#depositPayload(channel, deposit);
  }

  /** The same slot and generation once more: at most one of the two transactions can land. */
  async #openAgain(channel: OwnChannel, landing: Exclude<Awaited<ReturnType<typeof lookFor>>, string>): Promise<ChannelPayload> {
    channel.unsure = false; // it is not open, so nothing was charged
    const known = this.#deposit?.channel === channel ? this.#deposit.deposit : undefined;
    return this.#depositPayload(channel, known ?? (await signAgain(this.agent, channel, landing)));
  }

  async #depositPayload(channel: OwnChannel, deposit: Deposit): Promise<ChannelPayload> {
    const voucher = await this.#voucher(channel);
    this.#deposit = { channel, deposit };
    return { type: "deposit", channel: channel.parts, voucher, deposit };
  }

  /** Signs `charged + amount`, once the ceiling is durable and the budget counts it. */
  async #voucher(channel: OwnChannel): Promise<Voucher> {
    const price = this.offer.amount;
    if (!channel.unsure) await this.#count(price);
    const [before, chargedBefore, isProbe] = [channel.possible(), channel.charged, channel.unsure];
    const cumulative = channel.toSign(price);
    channel.usedAt = this.agent.clock();
    if (channel.reserve(cumulative, price)) await this.agent.save(channel);
    this.sent = { channel, cumulative, before, chargedBefore, isProbe };
    return this.agent.sign(channel, cumulative);
  }

  /** Counts the call once, at its last price. */
  async #count(price: bigint): Promise<void> {
    if (this.spend?.amount === price) return;
    if (!this.#unseen) this.spend?.settle(0n);
    this.spend = undefined;
    this.spend = await this.agent.spend(price);
  }

  /** What to make of an answer. Throws where the call cannot go on. */
  async lookAt(outcome: Outcome): Promise<Next> {
    switch (outcome.kind) {
      case "charged":
        await this.#charged(outcome.receipt);
        return "done";
      case "streams":
        this.#opened();
        await this.#seeTopUp();
        return "done";
      case "not_charged":
        this.sent?.channel.notServed();
        return "done";
      case "unclear":
        // It may have been charged: it stays counted, and the next call on the channel finds out.
        this.spend = undefined;
        return "done";
      case "lost":
        this.lost();
        return { again: this.wait(outcome.wait) };
      case "refused":
        return this.#refused(outcome);
      case "pay_again":
        this.#notAccepted();
        return this.#correct(outcome.required, outcome.wait);
    }
  }

  /** No answer arrived: the voucher that was sent may be charged. */
  lost(): void {
    if (this.sent && !this.sent.isProbe) this.#unseen = this.sent;
  }

  /** Served, and charged as the receipt says: at most what was signed, whatever it says. */
  async #charged(receipt: Receipt): Promise<void> {
    const { sent } = this;
    if (!sent) return;
    this.#opened();
    this.spend?.settle(sent.channel.served(total(receipt, sent) ?? sent.cumulative, sent.cumulative));
    this.spend = undefined;
    await this.#seeTopUp();
  }

  /** What was served may have been paid from an addition: the chain says how much the channel holds now. */
  async #seeTopUp(): Promise<void> {
    if (!this.sent?.channel.topUp) return;
    await decideTopUp(this.agent, this.sent.channel).catch(() => undefined); // the next call asks again
  }

  /** What was served was paid from an open channel. (After any other answer to a deposit the chain is asked.) */
  #opened(): void {
    if (this.sent?.channel.phase.phase === "opening") this.sent.channel.phase = { phase: "open" };
  }

  #refused({ reason, wait, transaction }: Extract<Outcome, { kind: "refused" }>): Next {
    if (this.#refusesTopUp(reason)) return { again: 0 };
    if (remedy(reason) === "give_up") throw refusal(reason);
    // While the channel is busy the voucher is not looked at; anything else may have got further.
    if (reason === "channel_busy") this.#notAccepted();
    else this.lost();
    this.#last = transaction === undefined ? this.#unavailable(reason) : this.#pending(transaction);
    return { again: this.wait(wait) };
  }

  /** True when a refusal was about an addition to a deposit: another channel pays then. */
  #refusesTopUp(reason: string): boolean {
    const concernsIt = ["give_up", "open_again"].includes(remedy(reason)) && this.#deposit !== undefined;
    const channel = this.sent?.channel;
    if (!concernsIt || !channel?.topUp || channel.noTopUp) return false;
    channel.noTopUp = true;
    this.#deposit = undefined;
    this.#notAccepted();
    return true;
  }

  /** Takes up what a 402 offers, if the policy allows it. */
  async takeOffer(required: PaymentRequired): Promise<void> {
    const { book } = this.offer;
    this.offer = this.agent.learn(this.route, required);
    this.agent.limits.checkOffer(this.offer);
    const { amount, payTo } = this.offer;
    if (amount > this.#approved) {
      await this.agent.limits.approve({ what: "call", amount, host: this.route.authority, path: this.route.path, payee: payTo });
      this.#approved = amount;
    }
    if (this.offer.book === book) return;
    this.#refuseToPayTwice();
    this.sent = undefined;
    // Its own turn is given back first, or two calls could wait for each other's.
    this.lease.leave();
    this.lease = await this.agent.pool(this.route.authority, this.offer.book).turn();
  }

  /** A 402 to a payment: says why, and where the channel stands. */
  async #correct(required: PaymentRequired, wait: number | undefined): Promise<Next> {
    const told = required.offers.find((offer) => this.agent.limits.canPay(offer));
    await this.takeOffer(required);
    const reason = required.error;
    if (reason === undefined) return { again: this.backoff() };
    this.#last = this.#unavailable(reason);
    if (this.#refusesTopUp(reason)) return { again: 0 };
    switch (remedy(reason)) {
      case "new_offer":
        break;
      case "adopt":
        await this.#adopt(told, reason);
        break;
      case "another_channel":
        if (this.#isNewToServer(reason)) return { again: this.backoff() };
        await this.#giveUpChannel(reason);
        break;
      case "open_again":
        this.#deposit = undefined;
        break;
      case "wait":
        return { again: this.wait(wait) };
      case "give_up":
        throw refusal(reason);
    }
    // The first correction is done at once; if it does not help, take more time each time.
    return { again: this.attempts <= 2 ? 0 : this.backoff() };
  }

  /** Takes over where the channel stands. Never pays twice for one call without being told to. */
  async #adopt(told: Offer | undefined, reason: string): Promise<void> {
    const { sent } = this;
    const state = told?.channelState;
    if (!sent || !state) throw refusal(reason);
    const { channel } = sent;
    await adopt(this.agent, channel, state, told.voucherState);
    const unseen = this.#unseen;
    if (unseen?.channel !== channel) return;
    const isUsed = reason === "voucher_used" && unseen.cumulative === sent.cumulative;
    const charged = channel.costOf(unseen.chargedBefore, unseen.cumulative, isUsed);
    if (charged === 0n) return;
    if (charged === undefined) throw this.exhausted(); // it counts as spent
    this.spend?.settle(charged);
    this.spend = undefined;
    const why =
      `the call was charged ${charged} base units but its answer was lost on the way and is no longer kept: ` +
      "the same call again is paid again";
    throw new AgentError("charged_without_answer", why);
  }

  async #giveUpChannel(reason: string): Promise<void> {
    this.#deposit = undefined;
    this.#givenUp++;
    const channel = this.sent?.channel;
    this.sent = undefined;
    // A deposit that was refused is not open: the chain says what became of it.
    if (channel && channel.phase.phase !== "opening") {
      channel.phase = { phase: "given_up" };
      await this.agent.save(channel);
    }
    this.#refuseToPayTwice();
    if (this.#givenUp > MAX_GIVEN_UP) throw refusal(reason);
  }

  /** A server sees a channel that was found again a moment later than its payer. */
  #isNewToServer(reason: string): boolean {
    const channel = this.sent?.channel;
    if (reason !== "unknown_channel" || this.attempts > SERVER_PATIENCE || !channel) return false;
    const age = this.agent.clock() - channel.usedAt;
    return channel.phase.phase === "open" && channel.charged === 0n && age <= NEW_SECONDS;
  }

  /** The voucher on its way was refused. */
  #notAccepted(): void {
    this.sent?.channel.refused(this.sent.before);
  }

  /** A call that may have been charged is not paid on another channel. */
  #refuseToPayTwice(): void {
    if (this.#unseen) throw this.exhausted();
  }

  /** How long to wait where the server asks for `asked` milliseconds. */
  wait(asked: number | undefined): number {
    return asked === undefined ? this.backoff() : Math.min(asked, this.agent.limits.maxWait);
  }

  /** 50 ms, and twice as long with each attempt. */
  backoff(): number {
    return Math.min(FIRST_WAIT_MILLISECONDS * 2 ** Math.min(this.attempts - 1, 16), this.agent.limits.maxWait);
  }

  /** Why there is no answer after all attempts; `cause` is what the carrier of the requests met last. */
  exhausted(cause?: unknown): AgentError {
    if (this.#last?.code === "pending") return this.#last;
    if (this.#unseen) {
      const why =
        `no answer arrived after ${this.attempts} attempts; the server may charge at most ${this.offer.amount} base units ` +
        "for it, which the next call on this channel finds out: try again";
      return new AgentError("answer_lost", why, { cause: cause ?? this.#last });
    }
    return this.#last ?? new AgentError("unavailable", "the server did not take the payment: try later", { cause });
  }

  #unavailable(reason: string): AgentError {
    const why = `the server did not take the payment after ${this.attempts} attempts (${reason}): try later`;
    return new AgentError("unavailable", why, { reason });
  }

  #pending(transaction: string): AgentError {
    const why =
      `the transaction ${transaction} was sent for this, and after ${this.attempts} attempts its outcome is not known: try ` +
      "again, which asks for it and pays nothing twice";
    return new AgentError("pending", why, { transaction });
  }

  /** The end of the call, however it came: what was not charged is free again, and so is the channel. */
  end(): void {
    if (!this.#unseen) this.spend?.settle(0n);
    this.spend = undefined;
    this.lease.leave();
  }
}

/** What the channel was charged in all, as the server says: the state of this channel, else what the call cost. */
export function total({ channelState, chargedAmount }: Receipt, sent: Pick<Sent, "channel" | "chargedBefore">): bigint | undefined {
  if (channelState?.channelId === sent.channel.id) return channelState.chargedCumulativeAmount;
  return chargedAmount === undefined ? undefined : sent.chargedBefore + chargedAmount;
}

/** The server refuses the payment. */
export function refusal(reason: string): AgentError {
  return new AgentError("refused", `the server refused the payment: ${reason}`, { reason });
}
