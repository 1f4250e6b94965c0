import { base58 } from "../src/bytes.js";
import { type Offer, readOffer } from "../src/wire.js";

const key = (byte: number): string => base58(new Uint8Array(32).fill(byte));

/** An offer as a server makes it, with some of it changed. */
export function offer(change: Partial<Offer> = {}): Offer {
  const extra = {
    book: key(3),
    bookId: 0,
    page: key(4),
    slot: 1,
    generation: 1,
    feePayer: key(5),
    withdrawDelay: 900,
    minDeposit: "1",
    tokenProgram: key(6),
    decimals: 6,
  };
  const raw = {
    scheme: "@tallybook/channel",
    network: "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
    amount: "500",
    asset: key(1),
    payTo: key(2),
    maxTimeoutSeconds: 60,
    extra,
  };
  return { ...readOffer(raw), ...change };
}
