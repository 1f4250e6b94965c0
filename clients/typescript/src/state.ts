// What the parts of an agent share.

import { type Page, readPage, type Slot } from "./accounts.js";
import { BUDGET, Budget, type Spend } from "./budget.js";
import { OwnChannel } from "./channel.js";
import { declaredIn } from "./declared.js";
import { AgentError } from "./error.js";
import { type Signer, signerFrom, type SignerLike } from "./keys.js";
import { named, namingIn } from "./naming.js";
import { Limits, type Policy, type Route } from "./policy.js";
import { Pool } from "./pool.js";
import { Rpc } from "./rpc.js";
import { memoryStore, type Store } from "./store.js";
import { ours } from "./terms.js";
import { signVoucher, type Voucher } from "./voucher.js";
import type { Beside, Json, Offer, PaymentRequired } from "./wire.js";

/** So many routes are remembered. A server that has more is asked for the price again now and then. */
const MAX_ROUTES = 4_096;

/** What an agent may be told besides its signer and its policy. */
export interface AgentOptions {
  /** Where it keeps what it must not forget. In memory unless said otherwise. */
  readonly store?: Store;
  /**
   * Signs the vouchers in place of the wallet. Whoever steals it can spend what is left in open channels at their payees, and
   * nothing else. The same key must be given again after a restart.
   */
  readonly sessionKey?: SignerLike;
  /** What asks servers and the chain; `globalThis.fetch` unless said otherwise. */
  readonly fetch?: typeof globalThis.fetch;
  /** Now, in Unix seconds. */
  readonly clock?: () => number;
}

/** What a 402 said. */
interface Remembered {
  readonly offer: Offer;
  /** What the server said of naming payments, if it lets them have names. */
  readonly naming: Json | undefined;
  /** What it declared to catalogues, until that has gone back with a payment. */
  declared: Beside | undefined;
}

/** What an agent knows and is made of, once its keys and its store are read. */
export class AgentState {
  readonly channels = new Map<string, OwnChannel>();
  readonly #pools = new Map<string, Pool>();
  readonly #offers = new Map<string, Remembered>();
  #clusterIsChecked = false;

  private constructor(
    /** Signs transactions. */
    readonly wallet: Signer,
    /** Signs vouchers. */
    readonly signer: Signer,
    readonly limits: Limits,
    readonly rpc: Rpc,
    readonly budget: Budget,
    readonly store: Store,
    readonly fetch: typeof globalThis.fetch,
    readonly clock: () => number,
  ) {}

  static async open(signer: SignerLike, policy: Policy, options: AgentOptions): Promise<AgentState> {
    const limits = new Limits(policy);
    const store = options.store ?? memoryStore();
    const clock = options.clock ?? (() => Math.floor(Date.now() / 1_000));
    const fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    const wallet = await signerFrom(signer);
    const session = options.sessionKey ? await signerFrom(options.sessionKey) : wallet;
    const rpc = new Rpc(policy.cluster.rpc, fetch);
    const state = new AgentState(wallet, session, limits, rpc, new Budget(policy, store, clock), store, fetch, clock);
    await state.#restore();
    return state;
  }

  async #restore(): Promise<void> {
    for (const [name, text] of await this.store.load()) {
      try {
        if (name === BUDGET) this.budget.restore(text);
        else this.register(OwnChannel.fromText(text));
      } catch (cause) {
        if (cause instanceof AgentError) throw cause;
        throw new AgentError("store", `${name} in the store cannot be read, so nothing is signed`, { cause });
      }
    }
  }

  /** Makes a channel known, and one that was not just made usable. */
  register(channel: OwnChannel): void {
    const { payer, signer } = channel.parts;
    const pays = channel.phase.phase === "open" || channel.phase.phase === "opening";
    if (pays && (payer !== this.wallet.address || signer !== this.signer.address)) {
      const why = `channel ${channel.id} is of another wallet or session key: use the keys that it was opened with`;
      throw new AgentError("store", why);
    }
    this.channels.set(channel.id, channel);
    this.pool(channel.authority, channel.parts.book).idle.push(channel);
  }

  /** The pool of a host and book. */
  pool(authority: string, book: string): Pool {
    const key = `${authority} ${book}`;
    const pool = this.#pools.get(key) ?? new Pool(this.limits.lanes);
    this.#pools.set(key, pool);
    return pool;
  }

  /** Chooses the offer of a 402 that can be paid, and remembers it for the route. */
  learn(route: Route, required: PaymentRequired): Offer {
    const offer = required.offers.find((offer) => this.limits.canPay(offer));
    const { network, mint } = this.limits.policy.cluster;
    if (!offer) {
      const why = `the server asks for payment, but not by @tallybook/channel on ${network} in ${mint}: pay it by other means`;
      throw new AgentError("no_offer", why);
    }
    // What was said about one channel is no part of the terms.
    if (this.#offers.size >= MAX_ROUTES) this.#offers.clear();
    const terms = { ...offer, channelState: undefined, voucherState: undefined };
    this.#offers.set(placeOf(route), { offer: terms, naming: namingIn(required.extensions), declared: declaredIn(required) });
    return offer;
  }

  /** The last offer of a route: its calls are expected to cost the same, whatever their query. */
  remembered(route: Route): Offer | undefined {
    return this.#offers.get(placeOf(route))?.offer;
  }

  /**
   * What goes beside a payment of this route: its name, where the server lets payments have names; and with one payment after
   * each 402 what that has declared to catalogues.
   */
  async beside(route: Route, voucher: Voucher): Promise<Beside> {
    const asked = this.#offers.get(placeOf(route));
    const declared = asked?.declared;
    if (asked) asked.declared = undefined;
    const beside = await named(asked?.naming, voucher);
    return declared ? { ...declared, extensions: { ...beside.extensions, ...declared.extensions } } : beside;
  }

  /** The endpoint is of the policy's cluster; asked once. */
  async checkCluster(): Promise<void> {
    if (this.#clusterIsChecked) return;
    const found = await this.rpc.genesisHash();
    const pinned = this.limits.policy.cluster.genesisHash;
    if (found !== pinned) {
      const why = `the RPC endpoint is of the cluster ${found}, the policy of ${pinned}: use an endpoint of that cluster`;
      throw new AgentError("wrong_cluster", why);
    }
    this.#clusterIsChecked = true;
  }

  /** Makes what is now in memory durable. */
  async save(channel: OwnChannel): Promise<void> {
    try {
      await this.store.save(channel.id, channel.toText());
    } catch (cause) {
      throw new AgentError("store", `channel ${channel.id} cannot be kept, so nothing is signed`, { cause });
    }
  }

  /** Ends a channel that cost `charged` in all: what came back is free again. */
  async end(channel: OwnChannel, charged: bigint): Promise<void> {
    channel.phase = { phase: "ended" };
    channel.charged = charged;
    channel.ceiling = charged;
    channel.topUp = undefined;
    await this.save(channel);
  }

  /** Counts what a call may cost, or refuses it. */
  spend(price: bigint): Promise<Spend> {
    return this.budget.spend(price);
  }

  /** Signs for `cumulative` on a channel, which was reserved. */
  sign(channel: OwnChannel, cumulative: bigint): Promise<Voucher> {
    return signVoucher(this.signer, channel.id, cumulative);
  }

  /** A page as the chain has it. */
  async page(address: string): Promise<Page> {
    const [account] = await this.rpc.accounts([address]);
    return readPage(ours(account, "page"));
  }

  /** A channel's slot as the chain has it. */
  async slotOf(channel: OwnChannel): Promise<Slot> {
    return slotIn(await this.page(channel.parts.page), channel.parts.slot);
  }
}

/** The slot of this number. */
export function slotIn(page: Page, at: number): Slot {
  const slot = page.slots[at];
  if (!slot) throw new AgentError("terms", `the page has no slot ${at}: do not trust this server`);
  return slot;
}

/** Waits. */
export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function placeOf({ url, method, authority, path }: Route): string {
  return `${method} ${new URL(url).protocol}//${authority}${path}`;
}
