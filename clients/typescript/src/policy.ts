// What an agent may do with its owner's money. The names are those of the Rust agent.

import { fromBase58, less, Malformed, max, min } from "./bytes.js";
import type { Book } from "./accounts.js";
import { PolicyBreach } from "./error.js";
import type { Offer } from "./wire.js";

/** The cluster and the token that an agent pays with, pinned: nothing on the wire can change them. */
export interface Cluster {
  /** As servers name it: a CAIP-2 id. */
  readonly network: string;
  /** As the chain names itself, in base58. */
  readonly genesisHash: string;
  /** The mint, such as USDC, in base58. */
  readonly mint: string;
  /** The JSON-RPC endpoint that the chain is asked through: one that you trust. */
  readonly rpc: string;
  /** Decimals of the mint, for caps in dollars such as those of `@x402/core`. 6 unless said otherwise. */
  readonly decimals?: number;
}

/** What a person is asked to approve. */
export interface Ask {
  /** A call, or a whole stream, at most at `amount`; a deposit; or an addition to one. */
  readonly what: "call" | "stream" | "deposit" | "top_up";
  /** In base units. */
  readonly amount: bigint;
  /** `host:port`. */
  readonly host: string;
  /** The path of the call. */
  readonly path: string;
  /** Who is paid, in base58. */
  readonly payee: string;
}

/**
 * What an agent may do with its owner's money. Amounts in base units of the mint.
 *
 * | limit | bounds | counted from |
 * |---|---|---|
 * | `maxPrice`, `maxCeiling` | one call; of a stream, all of it | the offer |
 * | `deposit`, `maxDeposit` | what is unspent in one channel | before a deposit is signed |
 * | `budget`, `budgetPerHost` | what is tied up in channels and what was spent, together | before a deposit is signed |
 * | `budgetPerHour`, `budgetPerDay` | what calls may have cost in any such time | before a voucher is signed |
 *
 * What may have been promised counts: a call whose answer was lost counts in full. The budgets are kept in the agent's store,
 * and hold across restarts as far as the store does.
 */
export interface Policy {
  /** Pinned. */
  readonly cluster: Cluster;
  /** The most that one call costs. */
  readonly maxPrice: bigint;
  /** What is put into each channel. */
  readonly deposit: bigint;
  /** The most that is tied up or spent, in all. */
  readonly budget: bigint;
  /** Hosts that are paid: `api.example.com` (at any port), `127.0.0.1:8402`, `*.example.com` (every host below), or any. */
  readonly allowHosts: readonly string[] | "any";
  /** Hosts that are never paid, whatever else is allowed. */
  readonly denyHosts?: readonly string[];
  /** Payees that are paid; without it any payee is. */
  readonly allowPayees?: readonly string[];
  /** Payees that are never paid. */
  readonly denyPayees?: readonly string[];
  /** The largest ceiling of a metered call, and the most that one stream costs. As `maxPrice` unless said otherwise. */
  readonly maxCeiling?: bigint;
  /** The most that is unspent in one channel, where a book or a price asks for more than `deposit`. */
  readonly maxDeposit?: bigint;
  /** The most that is tied up or spent at one host. */
  readonly budgetPerHost?: bigint;
  /** The most that calls cost within any hour. */
  readonly budgetPerHour?: bigint;
  /** The most that calls cost within any 24 hours. */
  readonly budgetPerDay?: bigint;
  /** `approver` is asked before a call (or a whole stream) may cost more than this. */
  readonly approvePriceAbove?: bigint;
  /** `approver` is asked before a deposit or a top-up above this. */
  readonly approveDepositAbove?: bigint;
  /** Asks a person. */
  readonly approver?: (ask: Ask) => Promise<boolean>;
  /** How long a person may take to answer, in seconds. 300 unless said otherwise. */
  readonly approvalTimeoutSeconds?: number;
  /** The longest grace period, in seconds. A day unless said otherwise. */
  readonly maxGraceSeconds?: number;
  /** How many calls run at a time at one payee of a host, each on a channel of its own. One unless said otherwise. */
  readonly channelsPerHost?: number;
  /** Whether a channel that is used up gets another deposit. Yes unless said otherwise. */
  readonly topUp?: boolean;
  /** How often one call is sent at most, corrections and lost answers included. 8 unless said otherwise. */
  readonly attempts?: number;
  /** The longest wait before one more attempt, in milliseconds. 5,000 unless said otherwise. */
  readonly maxWaitMilliseconds?: number;
}

/** Where a call goes. */
export interface Route {
  /** The host without its port. */
  readonly host: string;
  /** `host:port`, or the host alone at its scheme's usual port. */
  readonly authority: string;
  /** The path without its query. */
  readonly path: string;
  readonly method: string;
  /** The whole URL, for what is asked later of the same server. */
  readonly url: string;
}

/** The route of a request. */
export function routeOf(url: string, method: string): Route {
  const { hostname, host, pathname } = new URL(url);
  return { host: hostname, authority: host, path: pathname, method, url };
}

/** A policy with everything said and checked. */
export class Limits {
  readonly attempts: number;
  readonly maxWait: number;
  readonly topUp: boolean;
  readonly lanes: number;

  constructor(readonly policy: Policy) {
    check(policy);
    this.attempts = Math.max(1, policy.attempts ?? 8);
    this.maxWait = policy.maxWaitMilliseconds ?? 5_000;
    this.topUp = policy.topUp ?? true;
    this.lanes = Math.max(1, policy.channelsPerHost ?? 1);
  }

  /** Refuses a host that is not allowed. */
  checkHost({ host, authority }: Pick<Route, "host" | "authority">): void {
    const { allowHosts, denyHosts } = this.policy;
    if (isListed(denyHosts ?? [], host, authority)) {
      throw new PolicyBreach("HostDenied", `${authority} is never paid (denyHosts)`);
    }
    if (allowHosts !== "any" && !isListed(allowHosts, host, authority)) {
      throw new PolicyBreach("HostNotAllowed", `${authority} is not an allowed host (allowHosts)`);
    }
  }

  /** Whether an offer is of the pinned cluster and mint. */
  canPay(offer: Offer): boolean {
    return offer.network === this.policy.cluster.network && offer.asset === this.policy.cluster.mint;
  }

  /** The most that a call or a stream under this offer may cost. */
  limitFor(offer: Offer): bigint {
    const { maxPrice, maxCeiling } = this.policy;
    return offer.metered ? (maxCeiling ?? maxPrice) : maxPrice;
  }

  /** Refuses an offer that is too dear, or to somebody else. */
  checkOffer(offer: Offer): void {
    const limit = this.limitFor(offer);
    if (offer.amount > limit) {
      throw new PolicyBreach("PriceTooHigh", `the call costs ${offer.amount} base units, the limit is ${limit}`);
    }
    const { allowPayees, denyPayees } = this.policy;
    if ((allowPayees && !allowPayees.includes(offer.payTo)) || denyPayees?.includes(offer.payTo)) {
      throw new PolicyBreach("PayeeNotAllowed", `${offer.payTo} is not an allowed payee (allowPayees, denyPayees)`);
    }
  }

  /** The deposit for a channel of this book that is to pay `price` at least. */
  depositFor(book: Book, price: bigint): bigint {
    const limit = this.policy.maxGraceSeconds ?? 86_400;
    if (book.graceSeconds > limit) {
      const why = `the grace period is ${book.graceSeconds} seconds, the limit is ${limit} (maxGraceSeconds)`;
      throw new PolicyBreach("GraceTooLong", why);
    }
    return this.#within(max(max(this.policy.deposit, book.minDeposit), price));
  }

  /** What to add to a channel in which `rest` is unspent, so that it can pay `price`. */
  additionFor(rest: bigint, price: bigint): bigint {
    const addition = max(min(this.policy.deposit, less(this.mostUnspent(), rest)), less(price, rest));
    return this.#within(rest + addition) - rest;
  }

  /** The most that is unspent in one channel. */
  mostUnspent(): bigint {
    return max(this.policy.maxDeposit ?? 0n, this.policy.deposit);
  }

  #within(deposit: bigint): bigint {
    const limit = this.mostUnspent();
    if (deposit <= limit) return deposit;
    const why = `a channel there takes a deposit of ${deposit} base units, the limit is ${limit} (maxDeposit)`;
    throw new PolicyBreach("DepositTooHigh", why);
  }

  /** Asks a person if the policy says so. True when one was asked, and approved. */
  async approve(ask: Ask): Promise<boolean> {
    const { approver, approvePriceAbove, approveDepositAbove, approvalTimeoutSeconds } = this.policy;
    const free = ask.what === "call" || ask.what === "stream" ? approvePriceAbove : approveDepositAbove;
    if (free === undefined || ask.amount <= free) return false;
    const units = `${ask.amount} base units`;
    if (!approver) throw new PolicyBreach("NobodyToAsk", `${units} need a person's approval, and there is nobody to ask (approver)`);
    const seconds = approvalTimeoutSeconds ?? 300;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), seconds * 1_000)));
    const answer = await Promise.race([approver(ask), late]);
    clearTimeout(timer);
    if (answer === undefined) throw new PolicyBreach("ApprovalTimedOut", `nobody approved ${units} within ${seconds} seconds`);
    if (!answer) throw new PolicyBreach("NotApproved", `${units} were not approved by the person who was asked`);
    return true;
  }
}

/** A host is listed by its name, by its name and port, or by a name above it after `*.`. */
function isListed(list: readonly string[], host: string, authority: string): boolean {
  return list.some((entry) => {
    const name = entry.toLowerCase();
    return name === host || name === authority || (name.startsWith("*.") && host.endsWith(name.slice(1)));
  });
}

const AMOUNTS = ["maxPrice", "deposit", "budget"] as const;
const OPTIONAL_AMOUNTS = [
  "maxCeiling",
  "maxDeposit",
  "budgetPerHost",
  "budgetPerHour",
  "budgetPerDay",
  "approvePriceAbove",
  "approveDepositAbove",
] as const;

/** Policies may come from code without types: a number where a bigint belongs must not pass. */
function check(policy: Policy): void {
  const said = [...AMOUNTS, ...OPTIONAL_AMOUNTS.filter((name) => policy[name] !== undefined)];
  for (const name of said) {
    const amount: unknown = policy[name];
    if (typeof amount !== "bigint" || amount < 0n) throw new TypeError(`${name} of a policy is a bigint of base units`);
  }
  if (!Array.isArray(policy.allowHosts) && policy.allowHosts !== "any") {
    throw new TypeError('allowHosts of a policy is a list of hosts, or "any"');
  }
  try {
    for (const key of [policy.cluster.genesisHash, policy.cluster.mint]) fromBase58(key, 32);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new TypeError("genesisHash and mint of a policy's cluster are 32 bytes in base58", { cause: error });
  }
}
