// The newest voucher of each channel, in a file of the server's own: so that nobody who holds the only copy can withhold its money.
//
// The file is that of the Rust paywall, and `tallybook settle` and `tallybook vouchers export` read it: JSON lines, one for each
// commit, rewritten with the newest ones alone when they have grown well beyond them. A line that a crash cut short is skipped: the
// facilitator has the durable copy.

import { amountFrom, Malformed, max } from "../bytes.js";
import type { Voucher } from "../voucher.js";

/** How long a written line may be in memory of the operating system alone. */
const SYNC_AFTER_MILLISECONDS = 1_000;
/** The file is not rewritten below so many lines. */
const MIN_LINES = 4_096;

/** A voucher, and what is charged of it. */
export interface KeptVoucher {
  /** The voucher over most of its channel. */
  readonly voucher: Voucher;
  /** What calls on the channel really cost so far, in base units. */
  readonly charged: bigint;
}

/** Keeps the newest voucher of each channel. */
export interface VoucherKeeper {
  /** Keeps what is newer in it than what is kept of its channel: the voucher, or what is charged of it. */
  keep(kept: KeptVoucher): Promise<void>;
  /** The newest of this channel. */
  of(channelId: string): Promise<KeptVoucher | undefined>;
  /** Writes everything through, and lets go of what it is kept in. */
  close?(): Promise<void>;
}

/** Keeps vouchers in a file of JSON lines, readable by its owner alone. */
export function voucherFile(path: string): VoucherKeeper {
  let opening: Promise<VoucherLines> | undefined;
  const file = (): Promise<VoucherLines> => (opening ??= VoucherLines.open(path));
  return {
    keep: async (kept) => (await file()).keep(kept),
    of: async (channelId) => (await file()).newest.get(channelId),
    close: async () => (await opening)?.close(),
  };
}

type Handle = import("node:fs/promises").FileHandle;

class VoucherLines {
  /** One write at a time. */
  #turn: Promise<void> = Promise.resolve();
  #syncedAt = Date.now();

  private constructor(
    readonly path: string,
    readonly fs: typeof import("node:fs/promises"),
    public file: Handle,
    readonly newest: Map<string, KeptVoucher>,
    public lines: number,
  ) {}

  static async open(path: string): Promise<VoucherLines> {
    // Not a static import: the server's module also loads where there is no file system.
    const fs = await import("node:fs/promises");
    const file = await fs.open(path, "a+", 0o600);
    const text = (await file.readFile()).toString("utf8");
    const newest = new Map<string, KeptVoucher>();
    const lines = text.split("\n");
    for (const line of lines) {
      const kept = read(line);
      if (kept) newest.set(kept.voucher.channelId, newer(newest.get(kept.voucher.channelId), kept));
    }
    // What a crash left of a line must not swallow the next one.
    if (text !== "" && !text.endsWith("\n")) await file.write("\n");
    return new VoucherLines(path, fs, file, newest, lines.length);
  }

  keep(kept: KeptVoucher): Promise<void> {
    const written = this.#turn.then(() => this.#write(kept));
    this.#turn = written.catch(() => undefined);
    return written;
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.file.sync();
    await this.file.close();
  }

  async #write(kept: KeptVoucher): Promise<void> {
    const { channelId } = kept.voucher;
    const known = this.newest.get(channelId);
    const next = newer(known, kept);
    if (known && line(known) === line(next)) return;
    this.newest.set(channelId, next);
    await this.file.write(line(next));
    this.lines++;
    if (this.lines > Math.max(MIN_LINES, this.newest.size * 4)) return this.#rewrite();
    if (Date.now() - this.#syncedAt < SYNC_AFTER_MILLISECONDS) return;
    this.#syncedAt = Date.now();
    await this.file.datasync();
  }

  async #rewrite(): Promise<void> {
    const beside = `${this.path}.new`;
    const file = await this.fs.open(beside, "w", 0o600);
    await file.write([...this.newest.values()].map(line).join(""));
    await file.sync();
    await file.close();
    await this.fs.rename(beside, this.path);
    await this.file.close();
    this.file = await this.fs.open(this.path, "a", 0o600);
    this.lines = this.newest.size;
    this.#syncedAt = Date.now();
  }
}

/** The larger voucher and the larger charge: a call that charges less than was signed leaves a voucher that covers later calls. */
function newer(known: KeptVoucher | undefined, kept: KeptVoucher): KeptVoucher {
  if (!known) return kept;
  const isLarger = BigInt(kept.voucher.maxClaimableAmount) > BigInt(known.voucher.maxClaimableAmount);
  return { voucher: isLarger ? kept.voucher : known.voucher, charged: max(known.charged, kept.charged) };
}

function line({ voucher, charged }: KeptVoucher): string {
  const { channelId, maxClaimableAmount, signature } = voucher;
  return `${JSON.stringify({ voucher: { channelId, maxClaimableAmount, signature }, charged: charged.toString() })}\n`;
}

function read(line: string): KeptVoucher | undefined {
  try {
    const { voucher, charged } = JSON.parse(line) as { voucher: Voucher; charged: string };
    amountFrom(voucher.maxClaimableAmount);
    return typeof voucher.channelId === "string" ? { voucher, charged: amountFrom(charged) } : undefined;
  } catch (error) {
    if (error instanceof Malformed || error instanceof SyntaxError || error instanceof TypeError) return undefined;
    throw error;
  }
}
