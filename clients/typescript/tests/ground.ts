// A whole Tallybook on loopback: chain, facilitator and the sample API, as `tallybook dev --serve` runs them.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { readBook, readPage, readTokenAccount, type Slot } from "../src/accounts.js";
import { ASSOCIATED_TOKEN_PROGRAM, TOKEN_PROGRAM, tokenAccountAddress } from "../src/address.js";
import { concat, fromBase58, littleEndian, readLittleEndian } from "../src/bytes.js";
import { signerFrom } from "../src/keys.js";
import type { Policy } from "../src/policy.js";
import { Rpc } from "../src/rpc.js";
import { message, nameOf, signed } from "../src/transaction.js";

const root = resolve(import.meta.dirname, "../../../..");
export const TALLYBOOK = process.env.TALLYBOOK_BIN ?? join(root, "target/debug/tallybook");

/** What `tallybook dev` prints. */
interface Report {
  readonly rpc: string;
  readonly network: string;
  readonly genesisHash: string;
  readonly mint: string;
  readonly book: string;
  readonly page: string;
  readonly facilitator: string;
  readonly paidUrl: string;
  readonly vouchers: string;
  readonly roles: readonly { role: string; address: string; keyFile: string }[];
}

/** Everything that serves, and ways to look at it. */
export class Ground {
  readonly rpc: Rpc;

  private constructor(
    readonly report: Report,
    readonly folder: string,
    readonly child: ChildProcess,
  ) {
    this.rpc = new Rpc(report.rpc, fetch);
  }

  static async start(): Promise<Ground> {
    const folder = await mkdtemp(join(tmpdir(), "tallybook-ts-"));
    const args = ["--json", "dev", "--serve", "--slot-milliseconds", "100", "--keys", join(folder, "keys")];
    const child = spawn(TALLYBOOK, args, { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
    const lines = createInterface({ input: child.stdout });
    const first = once(lines, "line").then(([line]) => JSON.parse(String(line)) as Report);
    const died = once(child, "exit").then(([code]) => Promise.reject(new Error(`tallybook dev ended with ${code}: is a port taken?`)));
    return new Ground(await Promise.race([first, died]), folder, child);
  }

  async stop(): Promise<void> {
    const ended = once(this.child, "exit");
    this.child.kill("SIGINT");
    await ended;
    await rm(this.folder, { recursive: true, force: true });
  }

  /** The key of a role, 64 secret bytes. */
  async secret(role: string): Promise<Uint8Array> {
    const file = this.report.roles.find((known) => known.role === role)?.keyFile ?? "";
    return Uint8Array.from(JSON.parse(await readFile(file, "utf8")) as number[]);
  }

  /** The 64 secret bytes of a new wallet with some tokens and lamports: a facilitator pays for so many deposits of one payer only. */
  async wallet(tokens = 1_000_000n): Promise<Uint8Array> {
    const seed = crypto.getRandomValues(new Uint8Array(32));
    const [agent, wallet] = [await signerFrom(await this.secret("agent")), await signerFrom(seed)];
    const { mint } = this.report;
    const [from, to] = [agent, wallet].map(({ address }) => tokenAccountAddress(address, mint, TOKEN_PROGRAM));
    const meta = (address: string, writable = false, signer = false) => ({ address, writable, signer });
    const account = meta((await to) ?? "", true);
    const [system, owner] = [meta("1".repeat(32)), meta(agent.address, true, true)];
    const tail = [meta(wallet.address), meta(mint), system, meta(TOKEN_PROGRAM)];
    const create = { program: ASSOCIATED_TOKEN_PROGRAM, accounts: [owner, account, ...tail], data: new Uint8Array([1]) };
    const accounts = [meta((await from) ?? "", true), account, owner];
    const transfer = { program: TOKEN_PROGRAM, accounts, data: concat([3], littleEndian(tokens, 8)) };
    const lamports = concat(littleEndian(2, 4), littleEndian(10_000_000, 8));
    const fund = { program: system.address, accounts: [owner, meta(wallet.address, true)], data: lamports };
    const { hash } = await this.rpc.latestBlockhash();
    const transaction = await signed(message(agent.address, [create, transfer, fund], hash), agent);
    await this.rpc.send(transaction);
    while (!(await this.rpc.status(nameOf(transaction)))) await new Promise((resolve) => setTimeout(resolve, 50));
    return concat(seed, fromBase58(wallet.address, 32));
  }

  address(role: string): string {
    return this.report.roles.find((known) => known.role === role)?.address ?? "";
  }

  policy(more: Partial<Policy> = {}): Policy {
    const { network, genesisHash, mint, rpc } = this.report;
    return {
      cluster: { network, genesisHash, mint, rpc },
      maxPrice: 1_000n,
      deposit: 20_000n,
      budget: 5_000_000n,
      allowHosts: ["127.0.0.1"],
      ...more,
    };
  }

  /** What somebody's token account holds, in base units. */
  async tokens(owner: string): Promise<bigint> {
    const [account] = await this.rpc.accounts([await tokenAccountAddress(owner, this.report.mint, TOKEN_PROGRAM)]);
    return (account && readTokenAccount(account.data)?.amount) ?? 0n;
  }

  /** A slot of the page as the chain has it. */
  async slot(at: number, page = this.report.page): Promise<Slot> {
    const [account] = await this.rpc.accounts([page]);
    const slot = account && readPage(account.data).slots[at];
    if (!slot) throw new Error(`no slot ${at}`);
    return slot;
  }

  /** All that was ever claimed of the page, in base units. */
  async claimed(): Promise<bigint> {
    const [account] = await this.rpc.accounts([this.report.page]);
    if (!account) throw new Error("no page");
    return readLittleEndian(account.data, 8 + 136, 8);
  }

  async book(): Promise<ReturnType<typeof readBook>> {
    const [account] = await this.rpc.accounts([this.report.book]);
    if (!account) throw new Error("no book");
    return readBook(account.data);
  }

  /** Runs the command line as the role `agent` unless said otherwise, and reads what it prints as JSON. */
  async cli(...args: readonly string[]): Promise<Record<string, unknown>> {
    const keypair = this.report.roles.find(({ role }) => role === "agent")?.keyFile ?? "";
    const env = {
      ...process.env,
      TALLYBOOK_RPC: this.report.rpc,
      TALLYBOOK_MINT: this.report.mint,
      TALLYBOOK_KEYPAIR: keypair,
      TALLYBOOK_STATE_DIR: join(this.folder, "cli-state"),
    };
    const { stdout } = await promisify(execFile)(TALLYBOOK, ["--json", ...args], { env, cwd: this.folder });
    const last = stdout.trim().split("\n").at(-1);
    return last ? (JSON.parse(last) as Record<string, unknown>) : {};
  }
}
