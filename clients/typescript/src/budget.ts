// What is tied up and spent, against the limits of the owner.

import { amountFrom, less } from "./bytes.js";
import type { OwnChannel } from "./channel.js";
import { PolicyBreach } from "./error.js";
import type { Policy } from "./policy.js";
import type { Store } from "./store.js";

/** The name of the budget's text in a store. */
export const BUDGET = "budget";
const MINUTES_PER_HOUR = 60;
const MINUTES_PER_DAY = 1_440;

/** What calls may have cost, and by when: whole minutes since 1970, in base units. */
export class Budget {
  #minutes = new Map<number, bigint>();

  constructor(
    readonly policy: Policy,
    readonly store: Store,
    /** Now, in Unix seconds. */
    readonly clock: () => number,
  ) {}

  /** Reads what was stored. */
  restore(text: string): void {
    const stored = JSON.parse(text) as { minutes: [number, string][] };
    this.#minutes = new Map(stored.minutes.map(([minute, amount]) => [minute, amountFrom(amount)]));
  }

  /** Refuses a deposit beyond what may be tied up or spent, in all and at `host`. */
  check(channels: Iterable<OwnChannel>, host: string, deposit: bigint): void {
    let [inAll, atHost] = [0n, 0n];
    for (const channel of channels) {
      inAll += channel.counted();
      if (channel.authority === host) atHost += channel.counted();
    }
    const { budget, budgetPerHost } = this.policy;
    const refuse = (scope: string, committed: bigint, limit: bigint): void => {
      if (committed + deposit <= limit) return;
      const why =
        `a deposit of ${deposit} base units exceeds the budget ${scope}: ${committed} of ${limit} are tied up or spent; ` +
        "close channels, or raise the budget";
      throw new PolicyBreach("BudgetExceeded", why);
    };
    refuse("in all", inAll, budget);
    refuse(`at ${host}`, atHost, budgetPerHost ?? budget);
  }

  /** What calls of the last `minutes` may have cost. */
  spentWithin(minutes: number): bigint {
    const since = this.#now() - minutes;
    let sum = 0n;
    for (const [minute, amount] of this.#minutes) if (minute >= since) sum += amount;
    return sum;
  }

  /** Counts a call that may cost `price`, or refuses it. Durable, where there is a limit by time. */
  async spend(price: bigint): Promise<Spend> {
    const { budgetPerHour, budgetPerDay } = this.policy;
    this.#within(price, MINUTES_PER_HOUR, "hour", budgetPerHour);
    this.#within(price, MINUTES_PER_DAY, "day", budgetPerDay);
    const minute = this.#now();
    this.#add(minute, price);
    const spend = new Spend(price, (cost) => this.#add(minute, -less(price, cost)));
    if (budgetPerHour !== undefined || budgetPerDay !== undefined) await this.#save();
    return spend;
  }

  #within(price: bigint, minutes: number, period: string, limit: bigint | undefined): void {
    const spent = this.spentWithin(minutes);
    if (limit === undefined || spent + price <= limit) return;
    const why =
      `a call at ${price} base units exceeds the budget of one ${period}: ${spent} of ${limit} may be spent already; ` +
      "wait, or raise the budget";
    throw new PolicyBreach("RateExceeded", why);
  }

  #add(minute: number, amount: bigint): void {
    this.#minutes.set(minute, (this.#minutes.get(minute) ?? 0n) + amount);
    for (const old of this.#minutes.keys()) if (old < minute - MINUTES_PER_DAY - 1) this.#minutes.delete(old);
  }

  #now(): number {
    return Math.floor(this.clock() / 60);
  }

  async #save(): Promise<void> {
    const minutes = [...this.#minutes].map(([minute, amount]) => [minute, amount.toString()]);
    await this.store.save(BUDGET, JSON.stringify({ minutes }));
  }
}

/** What the budget counts for a call under way. */
export class Spend {
  #open = true;

  constructor(
    /** What the call may cost. */
    readonly amount: bigint,
    readonly restore: (cost: bigint) => void,
  ) {}

  /** What it really cost is known: the rest is free again. */
  settle(cost: bigint): void {
    if (this.#open) this.restore(cost);
    this.#open = false;
  }
}
