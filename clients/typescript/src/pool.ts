// Who may use which channel when: one call at a time on each.

import type { OwnChannel } from "./channel.js";

/** The channels of one payee at one host. */
export class Pool {
  #free: number;
  readonly #waiting: { count: number; go: () => void }[] = [];
  /** Channels that nobody uses just now. */
  readonly idle: OwnChannel[] = [];

  /** A pool in which `lanes` calls run at a time. */
  constructor(readonly lanes: number) {
    this.#free = lanes;
  }

  /** Waits for a turn, first come first served. */
  turn(): Promise<Lease> {
    return this.#turns(1);
  }

  /** Waits until nobody uses a channel, and keeps it so. */
  allTurns(): Promise<Lease> {
    return this.#turns(this.lanes);
  }

  async #turns(count: number): Promise<Lease> {
    await new Promise<void>((go) => {
      this.#waiting.push({ count, go });
      this.#next();
    });
    return new Lease(this, () => {
      this.#free += count;
      this.#next();
    });
  }

  #next(): void {
    for (let first = this.#waiting[0]; first && first.count <= this.#free; first = this.#waiting[0]) {
      this.#free -= first.count;
      this.#waiting.shift();
      first.go();
    }
  }
}

/** A turn, and the channel that is used in it. */
export class Lease {
  #channel: OwnChannel | undefined;
  #left = false;

  constructor(
    readonly pool: Pool,
    readonly release: () => void,
  ) {}

  /**
   * The channel of this turn that can pay `price`: the one in hand, else an idle one (an open one before one whose opening is not
   * decided, and that before one that must be topped up). Nothing means that a new one is needed.
   */
  channelFor(price: bigint, mayTopUp: boolean): OwnChannel | undefined {
    const rank = (channel: OwnChannel): number | undefined => {
      if (channel.covers(price)) return 0;
      if (channel.phase.phase === "opening") return 1;
      return channel.phase.phase === "open" && mayTopUp && !channel.noTopUp ? 2 : undefined;
    };
    const { idle } = this.pool;
    if (this.#channel && rank(this.#channel) === undefined) {
      idle.push(this.#channel);
      this.#channel = undefined;
    }
    if (!this.#channel) {
      // The last ones first: that keeps few channels in use, and their ceilings warm.
      const ranked = idle.flatMap((channel) => {
        const place = rank(channel);
        return place === undefined ? [] : [{ channel, place }];
      });
      const best = ranked.reverse().sort((a, b) => a.place - b.place)[0]?.channel;
      if (best) idle.splice(idle.indexOf(best), 1);
      this.#channel = best;
    }
    return this.#channel;
  }

  /** Takes up a channel that was just made. */
  useNew(channel: OwnChannel): void {
    if (this.#channel) this.pool.idle.push(this.#channel);
    this.#channel = channel;
  }

  /** Lets go of a channel that came to nothing: it does not go back to the pool. */
  forgetChannel(): void {
    this.#channel = undefined;
  }

  /** Gives turn and channel to somebody else; this lease keeps neither. */
  handOver(): Lease {
    const other = new Lease(this.pool, this.release);
    other.#channel = this.#channel;
    this.#left = true;
    return other;
  }

  /** Gives turn and channel back. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    if (this.#channel) this.pool.idle.push(this.#channel);
    this.release();
  }
}
