// The cooperative close: what the operator's key signs, and what it does not.
//
// The facilitator builds the transaction; here it is taken apart and compared with the one that the payer's own voucher allows:
// claims of that page, which only ever benefit the payee, and a refund of that one channel which keeps all that was charged.

import { COMPUTE_BUDGET_PROGRAM, PROGRAM, tokenAccountAddress } from "../address.js";
import { amountFrom, base64, concat, fromBase64 } from "../bytes.js";
import type { Signer } from "../keys.js";
import { accountsOf } from "../terms.js";
import { isThis, parse, type Parsed, refund } from "../transaction.js";
import { channelId, type ChannelParts, pageDomain, type Voucher } from "../voucher.js";
import type { Requirements } from "../wire.js";
import { type BookOffer, type Facilitator, NoAnswer, type Payment, type Settled } from "./facilitator.js";
import type { VoucherKeeper } from "./vouchers.js";

/** Discriminators of `claim` and `claim_below`. */
const CLAIMS: readonly (number | undefined)[] = [5, 6];

/** Closes the channel of a refund at once. What is refused is a {@link NoAnswer} or a failed receipt. */
export async function close(
  facilitator: Facilitator,
  operator: Signer,
  keeper: VoucherKeeper | undefined,
  payment: Payment,
  requirements: Requirements,
): Promise<Settled & { success: boolean }> {
  const { voucher } = payment.payload;
  const asked: Payment = { ...payment, payload: { type: "refund", voucher } };
  const prepared = await facilitator.verify(asked, requirements);
  const unsigned = prepared.extra?.transaction;
  if (!prepared.isValid || typeof unsigned !== "string") {
    const { extra, invalidReason = "facilitator_unavailable" } = prepared;
    return { success: false, transaction: "", network: requirements.network, errorReason: invalidReason, ...(extra && { extra }) };
  }
  const kept = await keeper?.of(voucher.channelId);
  if (kept && kept.charged > amountFrom(voucher.maxClaimableAmount)) {
    // More was charged here than the payer, and a facilitator that agrees with it, says now.
    throw new NoAnswer("wrong_cumulative", true);
  }
  const terms = await facilitator.terms();
  const parts = await channelOf(facilitator, terms, voucher);
  const transaction = await signRefund(fromBase64(unsigned), operator, terms, parts, amountFrom(voucher.maxClaimableAmount));
  return facilitator.settle({ ...payment, payload: { type: "refund", voucher, transaction } }, requirements);
}

/**
 * The channel of a voucher, as the facilitator names it. It cannot name another one: the id, which the payer has signed, is a hash
 * of all its parts.
 */
async function channelOf(facilitator: Facilitator, terms: BookOffer, voucher: Voucher): Promise<ChannelParts> {
  const parts = await facilitator.channel(voucher.channelId);
  const domain = await pageDomain(PROGRAM, await facilitator.genesisHash(terms.network), parts.page);
  const isIt = (await channelId(domain, parts)) === voucher.channelId && parts.book === facilitator.book;
  if (!isIt) throw new NoAnswer("unknown_channel", true);
  return parts;
}

/** The transaction with the operator's signature; refused when it does anything else than closing this channel. */
export async function signRefund(
  bytes: Uint8Array,
  operator: Signer,
  { asset, extra }: Pick<BookOffer, "asset" | "extra">,
  parts: ChannelParts,
  keep: bigint,
): Promise<string> {
  const transaction = parse(bytes);
  const isBudget = ({ program }: Parsed["instructions"][number]): boolean => program === COMPUTE_BUDGET_PROGRAM;
  const budget = transaction.instructions.filter(isBudget);
  const [last, ...claims] = transaction.instructions.filter((instruction) => !isBudget(instruction)).reverse();
  const token = { mint: asset, tokenProgram: String(extra.tokenProgram) };
  const at = await accountsOf(parts.book, token, parts.page);
  const payerAccount = await tokenAccountAddress(parts.payer, token.mint, token.tokenProgram);
  const wanted = refund(at, operator.address, parts, keep, payerAccount);
  const isClaim = ({ program, accounts, data }: Parsed["instructions"][number]): boolean =>
    program === PROGRAM && CLAIMS.includes(data[0]) && accounts.length === 1 && accounts[0] === parts.page;
  const place = transaction.keys.indexOf(operator.address);
  const isSponsored = place > 0 && place < transaction.signers;
  const isSound = budget.length <= 2 && budget.every(({ accounts }) => accounts.length === 0);
  const isOurs = last !== undefined && isThis(last, wanted) && claims.length <= 1 && claims.every(isClaim);
  if (!isSponsored || !isSound || !isOurs) throw new NoAnswer("requirements_mismatch", true);
  const signature = await operator.sign(transaction.message);
  const signatures = transaction.signatures.map((known, index) => (index === place ? signature : known));
  return base64(concat([signatures.length], ...signatures, transaction.message));
}
