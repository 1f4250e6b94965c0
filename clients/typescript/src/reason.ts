// What to do about a payment that was refused, by its reason on the wire.

/** What helps. */
export type Remedy =
  /** Look at the offer again: it changed. */
  | "new_offer"
  /** Take over where the channel stands. */
  | "adopt"
  /** The channel is of no more use: take another. */
  | "another_channel"
  /** The deposit did not open the channel: ask the chain, and choose again. */
  | "open_again"
  /** Wait and send the same again. */
  | "wait"
  /** Nothing helps. */
  | "give_up";

const REMEDIES: Readonly<Record<Exclude<Remedy, "give_up">, readonly string[]>> = {
  new_offer: ["wrong_price", "requirements_mismatch"],
  adopt: ["wrong_cumulative", "voucher_used"],
  another_channel: [
    "unknown_channel",
    "unknown_page",
    "channel_closing",
    "deposit_exceeded",
    "slot_free",
    "slot_not_open",
  ],
  open_again: ["slot_taken", "wrong_generation", "no_such_slot", "simulation_failed", "deposit_expired"],
  wait: [
    "channel_busy",
    "settlement_pending",
    "no_reservation",
    "overloaded",
    "draining",
    "chain_unavailable",
    "store_unavailable",
    "facilitator_unavailable",
    "book_full",
  ],
};

/** What helps against this reason; a name that we do not know is shown, and never acted upon. */
export function remedy(reason: string): Remedy {
  for (const [help, reasons] of Object.entries(REMEDIES)) {
    if (reasons.includes(reason)) return help as Remedy;
  }
  return "give_up";
}
