// Prices as people write them, in base units. No floats.

/** What `@x402/core` takes for a price. */
export type Price = string | number | { readonly asset: string; readonly amount: string };

/** Reads `"$0.0005"`, `"0.0005"` or `0.0005` as base units of a mint with so many decimals; throws for anything else. */
export function baseUnits(price: string | number, decimals: number): bigint {
  const parts = /^\$?(0|[1-9][0-9]*)(?:\.([0-9]+))?$/.exec(String(price).trim());
  const [, units = "", fraction = ""] = parts ?? [];
  if (!parts || fraction.length > decimals) {
    throw new TypeError(`${price} is no price: write "$0.0005", with at most ${decimals} decimals`);
  }
  return BigInt(units + fraction.padEnd(decimals, "0"));
}
