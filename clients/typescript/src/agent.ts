// An agent as its owner sees it.

import { requiredBy } from "./answer.js";
import { Call } from "./call.js";
import { carry } from "./carry.js";
import type { OwnChannel } from "./channel.js";
import { close, type Closed, type Exit, exitTransaction, forceClose, withdraw } from "./closing.js";
import { AgentError } from "./error.js";
import type { SignerLike } from "./keys.js";
import { type Policy, routeOf } from "./policy.js";
import type { Lease } from "./pool.js";
import { recover } from "./recovery.js";
import { type AgentOptions, AgentState } from "./state.js";
import type { ChannelParts } from "./voucher.js";

/** A channel as {@link Agent.channels} shows it. Amounts in base units. */
export interface ChannelReport {
  /** Its id, in base58. */
  readonly id: string;
  /** Payer, signer, book, page, slot, generation. */
  readonly parts: ChannelParts;
  /** The host that it pays. */
  readonly host: string;
  /** What was put in. */
  readonly deposit: bigint;
  /** What calls cost so far, as far as their outcome was seen. */
  readonly charged: bigint;
  /** What it is up to. */
  readonly phase: "opening" | "open" | "given_up" | "closing" | "ended";
}

/**
 * Pays by vouchers: meets a 402, checks what is asked for against its policy and against the chain, opens a channel once, and then
 * signs one small voucher for each call.
 *
 * What it never does: sign above `charged + price`; believe a server that claims more than was signed; pay twice for one call
 * without being told to; deposit beyond its budgets; take program, cluster or mint from the wire; or let a voucher leave before its
 * ceiling is kept and its budget counts it.
 */
export class Agent {
  readonly #state: Promise<AgentState>;

  /** An agent that pays from the wallet of `signer` within `policy`. */
  constructor(signer: SignerLike, policy: Policy, options: AgentOptions = {}) {
    this.#state = AgentState.open(signer, policy, options);
    this.#state.catch(() => undefined); // whoever uses it is told
  }

  /** Its parts, once its keys and its store are read. For the schemes and wrappers of this package. */
  state(): Promise<AgentState> {
    return this.#state;
  }

  /**
   * As `fetch`, and pays if it is asked to and allowed to. What comes back is the server's answer, which need not be a success; an
   * {@link AgentError} means that there is none, and says whether it may have been charged.
   *
   * The request is sent again as it is, with the same voucher, while its outcome is unknown.
   */
  async fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const request = new Request(input, init);
    const state = await this.#state;
    const { fetch } = state;
    const route = routeOf(request.url, request.method);
    let offer = state.remembered(route);
    if (!offer) {
      const response = await fetch(request.clone());
      if (response.status !== 402) return response;
      if (response.redirected) state.limits.checkHost(routeOf(response.url, request.method));
      offer = state.learn(route, await requiredBy(response));
    }
    const call = await Call.begin(state, route, offer);
    try {
      return await carry(call, fetch, request);
    } finally {
      call.end();
    }
  }

  /** The channels, ended ones too. */
  async channels(): Promise<ChannelReport[]> {
    const { channels } = await this.#state;
    return [...channels.values()].map(report);
  }

  /** What calls cost in all, in base units, as far as it is known. */
  async spent(): Promise<bigint> {
    const { channels } = await this.#state;
    return [...channels.values()].reduce((sum, { charged }) => sum + charged, 0n);
  }

  /** What is tied up in channels and what was spent, together, in base units. */
  async committed(): Promise<bigint> {
    const { channels } = await this.#state;
    return [...channels.values()].reduce((sum, channel) => sum + channel.counted(), 0n);
  }

  /** The wallet's address. */
  async wallet(): Promise<string> {
    return (await this.#state).wallet.address;
  }

  /** Closes a channel with the server's help: what is unspent comes back at once, at the sponsor's expense. */
  close(id: string): Promise<Closed> {
    return this.#exclusively(id, close);
  }

  /** {@link Agent.close} for every channel that is neither over nor closing; one that cannot be closed says why. */
  async closeAll(): Promise<readonly { id: string; closed?: Closed; error?: unknown }[]> {
    const open = (await this.channels()).filter(({ phase }) => phase !== "ended" && phase !== "closing");
    const outcomes: { id: string; closed?: Closed; error?: unknown }[] = [];
    for (const { id } of open) {
      outcomes.push(await this.close(id).then((closed) => ({ id, closed }), (error: unknown) => ({ id, error })));
    }
    return outcomes;
  }

  /**
   * Asks the program to close a channel, without the server, at the wallet's expense. Says when {@link Agent.withdraw} can be
   * called, in Unix seconds; until then the payee may claim what it is owed.
   */
  forceClose(id: string): Promise<number> {
    return this.#exclusively(id, forceClose);
  }

  /** Takes what is unspent out of a channel whose grace period is over, at the wallet's expense. */
  withdraw(id: string): Promise<Closed> {
    return this.#exclusively(id, withdraw);
  }

  /**
   * The next step out of a channel as a transaction for `feePayer` to sign and send, for a wallet without lamports: the request to
   * close, or once the grace period is over the withdrawal. The channel pays no more calls.
   */
  exitTransaction(id: string, feePayer: string): Promise<Exit> {
    return this.#exclusively(id, (state, channel) => exitTransaction(state, channel, feePayer));
  }

  /**
   * Finds the wallet's channels at the payee that `url` asks money for, when the store was lost: asks it for its price (which pays
   * nothing), and looks through the pages of the book that it names. They pay again, or can be closed.
   */
  async recover(url: string | URL, method = "GET"): Promise<ChannelReport[]> {
    const state = await this.#state;
    const { fetch } = state;
    const route = routeOf(new URL(url).href, method);
    state.limits.checkHost(route);
    const response = await fetch(route.url, { method });
    if (response.status !== 402) {
      throw new AgentError("not_now", `${route.url} does not ask to be paid, so it names no book: pass a URL that costs something`);
    }
    return (await recover(state, route, state.learn(route, await requiredBy(response)))).map(report);
  }

  /**
   * Waits for the calls under way, keeps where every channel stands, so that the next start need not ask the servers, and lets go of
   * the store.
   */
  async shutdown(): Promise<void> {
    const state = await this.#state;
    for (const { id } of state.channels.values()) {
      await this.#exclusively(id, async (_state, channel) => {
        if (channel.phase.phase !== "open" || channel.unsure || channel.possible() > channel.charged) return;
        channel.reserved = channel.charged;
        await state.save(channel);
      });
    }
    await state.store.close?.();
  }

  /** Does something with a channel that nobody else uses meanwhile. */
  async #exclusively<T>(id: string, act: (state: AgentState, channel: OwnChannel) => Promise<T>): Promise<T> {
    const state = await this.#state;
    const channel = state.channels.get(id);
    if (!channel) throw new AgentError("not_now", `there is no channel ${id} in this agent's store: see channels()`);
    const lease: Lease = await state.pool(channel.authority, channel.parts.book).allTurns();
    try {
      return await act(state, channel);
    } finally {
      lease.leave();
    }
  }
}

function report({ id, parts, authority, deposit, charged, phase }: OwnChannel): ChannelReport {
  return { id, parts, host: authority, deposit, charged, phase: phase.phase };
}
