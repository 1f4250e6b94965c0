/**
 * A `fetch` that pays, and depends on nothing else.
 *
 * @example
 * ```ts
 * import { payingFetch } from "@tallybook/x402/fetch";
 *
 * const pay = payingFetch(fetch, { signer, policy });
 * const answer = await pay("https://api.example.com/weather");
 * console.log(await answer.text());
 * await pay.agent.closeAll(); // what is unspent comes back
 * ```
 *
 * @module
 */

import { Agent } from "./agent.js";
import type { SignerLike } from "./keys.js";
import type { Policy } from "./policy.js";
import type { AgentOptions } from "./state.js";

export * from "./exports.js";
export { streamEnd, type StreamEnd } from "./stream.js";

/** A `fetch` that pays. */
export interface PayingFetch {
  (input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
  /** Who pays: its channels, and the ways out of them. */
  readonly agent: Agent;
}

/** Who pays, and within which limits. */
export interface Payer extends Omit<AgentOptions, "fetch"> {
  /** The wallet that funds channels. */
  readonly signer: SignerLike;
  /** What may be spent. */
  readonly policy: Policy;
}

/**
 * Makes a `fetch` that pays where it is asked to and allowed to. It answers with the server's answer, which need not be a success;
 * it throws an {@link AgentError} where there is none, which says whether the call may have been charged.
 */
export function payingFetch(fetch: typeof globalThis.fetch, { signer, policy, ...options }: Payer): PayingFetch {
  const agent = new Agent(signer, policy, { ...options, fetch: (input, init) => fetch(input, init) });
  const pay = (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => agent.fetch(input, init);
  return Object.assign(pay, { agent });
}
