// The facilitator, as a resource server sees it over HTTP.

import { bookAddress } from "../address.js";
import { fromBase58, Malformed } from "../bytes.js";
import type { ChannelParts } from "../voucher.js";
import { type ChannelPayload, MAX_BODY, readOffer, type Requirements, SCHEME } from "../wire.js";

/** What waits for the chain is waited for so many times longer. */
const CHAIN_PATIENCE = 10;
/** An offer's terms are taken for granted so long, in milliseconds; they change when the facilitator's sponsor does. */
const TERMS_COUNT_MILLISECONDS = 30_000;

/** Where the facilitator is. */
export interface FacilitatorConfig {
  /** Its base URL. */
  readonly url: string;
  /** Its access token, if it has one. */
  readonly token?: string;
  /** How long it is waited for, in milliseconds; for the chain ten times as long. 5,000 unless said otherwise. */
  readonly timeoutMilliseconds?: number;
}

/** Everything of requirements but price and timeout: what `GET /books/{book}/offer` says. */
export interface BookOffer {
  readonly network: string;
  readonly asset: string;
  readonly payTo: string;
  readonly maxTimeoutSeconds: number;
  readonly extra: Readonly<Record<string, unknown>>;
}

/** A payment as the facilitator takes it. */
export interface Payment {
  readonly x402Version: number;
  readonly accepted: Requirements;
  readonly payload: ChannelPayload | (Extract<ChannelPayload, { type: "refund" }> & { transaction: string });
}

/** The answer of `/verify`. */
export interface Verified {
  readonly isValid: boolean;
  readonly payer?: string;
  readonly invalidReason?: string;
  readonly invalidMessage?: string;
  readonly extra?: Record<string, unknown>;
}

/** The answer of `/settle`. */
export interface Settled {
  readonly success: boolean;
  readonly transaction: string;
  readonly network: string;
  readonly payer?: string;
  readonly amount?: string;
  readonly errorReason?: string;
  readonly errorMessage?: string;
  readonly extra?: Record<string, unknown>;
}

/** The facilitator could not be asked, or refused the question. */
export class NoAnswer extends Error {
  override readonly name = "NoAnswer";

  constructor(
    /** The reason on the wire. */
    readonly reason: string,
    /** Whether the question was certainly not acted upon. */
    readonly isRefused: boolean,
    cause?: unknown,
  ) {
    super(`the facilitator: ${reason}`, { cause });
  }
}

/** The client of one facilitator, for one book. */
export class Facilitator {
  readonly #config: FacilitatorConfig;
  #offer: { offer: BookOffer; at: number } | undefined;

  constructor(
    config: FacilitatorConfig,
    readonly book: string,
    readonly fetch: typeof globalThis.fetch,
  ) {
    fromBase58(book, 32);
    this.#config = { ...config, url: config.url.replace(/\/+$/, "") };
  }

  /** A fresh offer: a free slot, and the terms. */
  async offer(): Promise<BookOffer> {
    const offer = (await this.#ask(`/books/${this.book}/offer`)) as BookOffer;
    await this.#check(offer);
    this.#offer = { offer, at: Date.now() };
    return offer;
  }

  /** The terms as they were read last, or fresh ones. */
  async terms(): Promise<BookOffer> {
    const known = this.#offer;
    return known && Date.now() - known.at < TERMS_COUNT_MILLISECONDS ? known.offer : this.offer();
  }

  /** The terms as they were read last. */
  get known(): BookOffer | undefined {
    return this.#offer?.offer;
  }

  /** The next question for the terms reads them anew. */
  forget(): void {
    this.#offer = undefined;
  }

  /**
   * The facilitator may not name another payee, token or book than the owner of this server has set: the book's address is made of
   * payee and token.
   */
  async #check(offer: BookOffer): Promise<void> {
    try {
      const { book, bookId, payTo, asset } = readOffer({ ...offer, scheme: SCHEME, amount: "0" });
      if (book === this.book && (await bookAddress(payTo, asset, bookId)) === book) return;
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
    }
    throw new NoAnswer("unknown_book", true);
  }

  verify(payment: Payment, requirements: Requirements): Promise<Verified> {
    return this.#post("/verify", payment, requirements) as Promise<Verified>;
  }

  settle(payment: Payment, requirements: Requirements): Promise<Settled> {
    const patience = payment.payload.type === "voucher" ? 1 : CHAIN_PATIENCE;
    return this.#post("/settle", payment, requirements, patience) as Promise<Settled>;
  }

  async release(payment: Payment, requirements: Requirements): Promise<void> {
    await this.#post("/release", payment, requirements);
  }

  /** The parts of a channel. */
  async channel(id: string): Promise<ChannelParts> {
    const view = (await this.#ask(`/channels/${id}`)) as { channel: ChannelParts };
    return view.channel;
  }

  /** The genesis hash of the cluster that the facilitator serves as `network`. */
  async genesisHash(network: string): Promise<string> {
    const { kinds } = (await this.#ask("/supported")) as {
      kinds: { scheme: string; network: string; extra?: { genesisHash?: string } }[];
    };
    const kind = kinds.find((kind) => kind.scheme === SCHEME && kind.network === network);
    if (!kind?.extra?.genesisHash) throw new NoAnswer("wrong_network", true);
    return kind.extra.genesisHash;
  }

  #post(path: string, payment: Payment, requirements: Requirements, patience = 1): Promise<unknown> {
    const body = { x402Version: 2, paymentPayload: payment, paymentRequirements: requirements };
    return this.#ask(path, JSON.stringify(body), patience);
  }

  async #ask(path: string, body?: string, patience = 1): Promise<unknown> {
    const { url, token, timeoutMilliseconds = 5_000 } = this.#config;
    const headers: Record<string, string> = { "content-type": "application/json" };
    if (token !== undefined) headers.authorization = `Bearer ${token}`;
    const signal = AbortSignal.timeout(timeoutMilliseconds * patience);
    const request: RequestInit = { headers, signal, redirect: "error", ...(body !== undefined && { method: "POST", body }) };
    const unknown = (cause: unknown): never => {
      throw new NoAnswer("facilitator_unavailable", false, cause);
    };
    const { fetch } = this;
    const response = await fetch(url + path, request).catch(unknown);
    const text = await response.text().catch(unknown);
    if (text.length > MAX_BODY) return unknown(new Malformed("a body above 65,536 bytes"));
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch (error) {
      return unknown(error);
    }
    if (response.ok) return json;
    const { error } = json as { error?: unknown };
    throw new NoAnswer(typeof error === "string" ? error : "facilitator_unavailable", typeof error === "string");
  }
}
