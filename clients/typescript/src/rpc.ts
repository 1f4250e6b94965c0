// What a light client asks the chain: five methods of Solana's JSON-RPC.

import { base64, fromBase58, fromBase64 } from "./bytes.js";
import { AgentError } from "./error.js";

const TIMEOUT_MILLISECONDS = 20_000;
const TRIES = 5;
const FIRST_PAUSE_MILLISECONDS = 100;
/** The most accounts that an endpoint gives in one answer. */
const MAX_ACCOUNTS = 100;
/** For how many blocks a blockhash can be used. */
const LIFETIME_BLOCKS = 150;
/** For how long the newest slot that was seen counts: an endpoint that named one far ahead by mistake is forgiven then. */
const NEWEST_COUNTS_MILLISECONDS = 60_000;

/** An account as the chain has it. */
export interface Account {
  readonly owner: string;
  readonly lamports: bigint;
  readonly data: Uint8Array;
}

/** A blockhash, and the last block height at which a transaction with it can land. */
export interface Blockhash {
  readonly hash: string;
  readonly lastValidHeight: number;
}

/** Whether a transaction that was valid up to `height` can land no more, now that `latest` is the latest blockhash. */
export function isPast(latest: Blockhash, height: number): boolean {
  return latest.lastValidHeight > height + LIFETIME_BLOCKS;
}

/**
 * A JSON-RPC endpoint. Behind its URL there may be many nodes, some of them behind the others: what one of them says is taken only
 * if it is no older than what was seen before.
 */
export class Rpc {
  #asked = 0;
  #newest = { slot: 0, at: 0 };

  constructor(
    readonly url: string,
    readonly fetch: typeof globalThis.fetch,
  ) {}

  /** The cluster's genesis hash. */
  genesisHash(): Promise<string> {
    return this.#read("getGenesisHash", [], (result) => {
      fromBase58(String(result), 32);
      return String(result);
    });
  }

  /** Accounts in their newest confirmed state, in the order asked for. */
  async accounts(addresses: readonly string[]): Promise<(Account | undefined)[]> {
    const all: (Account | undefined)[] = [];
    for (let at = 0; at < addresses.length; at += MAX_ACCOUNTS) {
      const some = addresses.slice(at, at + MAX_ACCOUNTS);
      const params = [some, { encoding: "base64", commitment: "confirmed" }];
      const read = (result: unknown) => this.#accounts(result, some.length);
      all.push(...(await this.#read("getMultipleAccounts", params, read)));
    }
    return all;
  }

  /** The latest confirmed blockhash. */
  latestBlockhash(): Promise<Blockhash> {
    return this.#read("getLatestBlockhash", [{ commitment: "confirmed" }], (result) => {
      this.#seen(result);
      const { blockhash, lastValidBlockHeight } = (result as { value: Record<string, unknown> }).value;
      fromBase58(String(blockhash), 32);
      if (!Number.isSafeInteger(lastValidBlockHeight)) throw new TypeError("no height");
      return { hash: String(blockhash), lastValidHeight: Number(lastValidBlockHeight) };
    });
  }

  /** Sends a signed transaction. */
  async send(transaction: Uint8Array): Promise<void> {
    await this.#ask("sendTransaction", [base64(transaction), { encoding: "base64", preflightCommitment: "confirmed" }]);
  }

  /** Whether a transaction is confirmed: nothing while that is unknown, else whether it failed, and how. */
  status(signature: string): Promise<{ failed: string | undefined } | undefined> {
    return this.#read("getSignatureStatuses", [[signature]], (result) => {
      const [status] = (result as { value: (Record<string, unknown> | null)[] }).value;
      const sure = status && (status.confirmationStatus === "confirmed" || status.confirmationStatus === "finalized");
      // That it has not landed is worth as much as the node is up to date: no less than what was seen before.
      if (!sure) return void this.#seen(result);
      return { failed: status.err === null || status.err === undefined ? undefined : JSON.stringify(status.err) };
    });
  }

  #accounts(result: unknown, count: number): (Account | undefined)[] {
    this.#seen(result);
    const { value } = result as { value: ({ owner: string; lamports: number; data: [string, string] } | null)[] };
    if (value.length !== count) throw new TypeError("another number of accounts");
    return value.map((account) =>
      account === null
        ? undefined
        : { owner: account.owner, lamports: BigInt(account.lamports), data: fromBase64(account.data[0]) },
    );
  }

  /** Refuses an answer that is older than what was seen. */
  #seen(result: unknown): void {
    const { slot } = (result as { context: { slot: number } }).context;
    const { slot: newest, at } = this.#newest;
    const isOld = slot < newest && Date.now() - at < NEWEST_COUNTS_MILLISECONDS;
    if (!Number.isSafeInteger(slot) || isOld) throw new TypeError(`behind slot ${newest}`);
    this.#newest = { slot, at: Date.now() };
  }

  /** Asks until there is an answer that can be read and is no older than what was seen before, a few times. */
  async #read<T>(method: string, params: unknown, read: (result: unknown) => T): Promise<T> {
    for (let attempt = 1, pause = FIRST_PAUSE_MILLISECONDS; ; attempt++, pause *= 2) {
      try {
        return read(await this.#ask(method, params));
      } catch (error) {
        const isFinal = error instanceof AgentError && error.reason === "refused";
        if (isFinal) throw error;
        if (attempt >= TRIES) {
          if (error instanceof AgentError) throw error;
          const why = `the RPC endpoint answered ${method} with something unexpected or old: use another endpoint`;
          throw new AgentError("chain", why, { cause: error });
        }
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  async #ask(method: string, params: unknown): Promise<unknown> {
    const id = ++this.#asked;
    const unreachable = (cause: unknown): never => {
      throw new AgentError("chain", `the RPC endpoint did not answer ${method}: check the URL, or try later`, { cause });
    };
    const { fetch } = this;
    const body = JSON.stringify({ jsonrpc: "2.0", id, method, params });
    const signal = AbortSignal.timeout(TIMEOUT_MILLISECONDS);
    const headers = { "content-type": "application/json" };
    const response = await fetch(this.url, { method: "POST", headers, body, signal }).catch(unreachable);
    if (response.status === 429 || response.status >= 500) return unreachable(new Error(`HTTP ${response.status}`));
    const answer = (await response.json().catch(unreachable)) as { id?: unknown; result?: unknown; error?: { message?: unknown } };
    if (answer.error) {
      const message = String(answer.error.message).slice(0, 500);
      throw new AgentError("chain", `the chain refused ${method}: ${message}`, { reason: "refused" });
    }
    if (answer.id !== id || answer.result === undefined) throw new TypeError("not an answer to this question");
    return answer.result;
  }
}
