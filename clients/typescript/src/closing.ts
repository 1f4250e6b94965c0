// The ways out of a channel: with the server's help, at once and at the sponsor's expense; or through the chain alone.

import type { Slot } from "./accounts.js";
import { CLOCK, tokenAccountAddress } from "./address.js";
import { outcomeOf, requiredBy } from "./answer.js";
import { base64, less, readLittleEndian } from "./bytes.js";
import { refusal } from "./call.js";
import type { OwnChannel } from "./channel.js";
import { AgentError } from "./error.js";
import { decideTopUp, lookFor } from "./funding.js";
import { adopt, see } from "./looking.js";
import { remedy } from "./reason.js";
import { isPast } from "./rpc.js";
import { type AgentState, sleep } from "./state.js";
import { accountsOf } from "./terms.js";
import {
  atOwnExpense,
  type Instruction,
  message,
  nameOf,
  requestClose,
  signed,
  withdraw as withdrawInstruction,
} from "./transaction.js";
import { type ChannelPayload, payment, PAYMENT_SIGNATURE } from "./wire.js";

const FIRST_WAIT_MILLISECONDS = 100;
const POLL_MILLISECONDS = 400;
const POLLS = 300;
/** Where the time stands in the clock's account. */
const CLOCK_TIME_OFFSET = 32;

/** A channel that is over. Amounts in base units. */
export interface Closed {
  /** Its id, in base58. */
  readonly id: string;
  /** What its calls cost in all. */
  readonly charged: bigint;
  /** What came back to the wallet. */
  readonly returned: bigint;
}

function notNow({ id }: OwnChannel, why: string): AgentError {
  return new AgentError("not_now", `channel ${id}: ${why}`);
}

/** Closes a channel with the server's help. The caller holds it. */
export async function close(agent: AgentState, channel: OwnChannel): Promise<Closed> {
  const closed = await settleOpening(agent, channel);
  if (closed) return closed;
  await decideTopUp(agent, channel);
  channel.unsure ||= channel.possible() > channel.charged;
  try {
    await askRefund(agent, channel);
  } catch (error) {
    // An answer may have been lost: what the chain says counts.
    const seen = await refunded(agent, channel);
    if (seen) return seen;
    throw error;
  }
  return seeRefund(agent, channel);
}

/** A channel whose opening is not decided: decides it. Something when there is nothing to close. */
async function settleOpening(agent: AgentState, channel: OwnChannel): Promise<Closed | undefined> {
  const { phase } = channel;
  if (phase.phase === "closing") throw notNow(channel, "it is closing on chain already: withdraw it in time");
  if (phase.phase === "ended") throw notNow(channel, "it is over");
  if (phase.phase !== "opening") return undefined;
  // Asked before the page is read: what has not landed once it is too late never will.
  const latest = await agent.rpc.latestBlockhash();
  const landing = await lookFor(agent, channel);
  if (landing === "landed") return undefined;
  if (landing !== "never") {
    if (!isPast(latest, phase.last_valid_height)) {
      throw notNow(channel, "its deposit may still land: try again in two minutes");
    }
    await agent.end(channel, 0n);
  }
  return { id: channel.id, charged: 0n, returned: 0n };
}

/** Asks the server until it says that the rest was refunded. */
async function askRefund(agent: AgentState, channel: OwnChannel): Promise<void> {
  const { limits } = agent;
  let last = new AgentError("unavailable", "the server does not answer: try later, or force the close");
  for (let attempt = 0, wait = FIRST_WAIT_MILLISECONDS; attempt < limits.attempts; attempt++, wait *= 2) {
    const response = await sendRefund(agent, channel).catch(() => undefined); // lost: it is asked again
    if (response) {
      const next = await takeRefund(channel, response, agent);
      if (next === "done") return;
      last = next;
    }
    await sleep(Math.min(wait, limits.maxWait));
  }
  throw last;
}

/**
 * Sends the refund; or, while it is not known what was charged, a voucher over nothing, which is never accepted and always
 * corrected.
 */
async function sendRefund(agent: AgentState, channel: OwnChannel): Promise<Response> {
  const voucher = await agent.sign(channel, channel.unsure ? 0n : channel.charged);
  const payload: ChannelPayload = { type: channel.unsure ? "voucher" : "refund", voucher };
  const headers = { [PAYMENT_SIGNATURE]: payment(channel.terms.raw, payload) };
  const { fetch } = agent;
  return fetch(channel.url, { method: channel.method, headers });
}

/** Where a scheme was not told the method of a route, it is one of these. */
const OTHER_METHOD: Readonly<Record<string, string>> = { GET: "POST", POST: "GET" };

async function takeRefund(channel: OwnChannel, response: Response, agent: AgentState): Promise<AgentError | "done"> {
  const outcome = await outcomeOf(response);
  if (outcome.kind === "charged") return "done";
  if (outcome.kind === "refused") {
    if (remedy(outcome.reason) !== "wait") throw refusal(outcome.reason);
    const { reason, transaction } = outcome;
    const why = `the refund's outcome is not known (${reason}): try again, which returns nothing twice`;
    return new AgentError(transaction === undefined ? "unavailable" : "pending", why, { reason, transaction });
  }
  if (outcome.kind === "pay_again") return correctRefund(agent, channel, outcome.required);
  if (response.status === 404 || response.status === 405) channel.method = OTHER_METHOD[channel.method] ?? channel.method;
  return new AgentError("unavailable", `the server answers a refund with ${response.status}: try later, or force the close`);
}

/** Takes over what a 402 says about the channel or the terms; throws when there is nothing to correct. */
async function correctRefund(
  agent: AgentState,
  channel: OwnChannel,
  required: Awaited<ReturnType<typeof requiredBy>>,
): Promise<AgentError> {
  const reason = required.error ?? "payment_required";
  const told = required.offers.find((offer) => agent.limits.canPay(offer));
  const help = remedy(reason);
  if (help === "adopt" && told?.channelState) {
    await adopt(agent, channel, told.channelState, told.voucherState);
  } else if (help === "adopt" && !channel.unsure) {
    channel.unsure = true; // where it stands is not told to everybody's refund, but to whoever asks
  } else if (help === "new_offer" && told) {
    channel.terms = { ...told, channelState: undefined, voucherState: undefined };
  } else if (help !== "wait") {
    throw refusal(reason);
  }
  return new AgentError("unavailable", `the server did not close the channel (${reason}): try later`, { reason });
}

/** The server says that it refunded: the chain must say so too. */
async function seeRefund(agent: AgentState, channel: OwnChannel): Promise<Closed> {
  const { limits } = agent;
  for (let attempt = 0, wait = FIRST_WAIT_MILLISECONDS; attempt < limits.attempts; attempt++, wait *= 2) {
    const closed = await refunded(agent, channel);
    if (closed) return closed;
    await sleep(Math.min(wait, limits.maxWait));
  }
  channel.phase = { phase: "given_up" };
  await agent.save(channel);
  throw notNow(channel, "the server says that it refunded the rest, but the chain does not: force its close");
}

/** The channel's end, if the chain shows that nothing of it is left to give back. */
async function refunded(agent: AgentState, channel: OwnChannel): Promise<Closed | undefined> {
  const slot = await see(agent, channel);
  const { id, deposit, charged, parts } = channel;
  // A node that is behind shows the slot before the channel was opened: that is not its end.
  const isBefore = slot.generation < parts.generation;
  const isGone = slot.generation > parts.generation || slot.status === "free";
  if (isBefore || (!isGone && slot.deposit > charged)) return undefined;
  await agent.end(channel, charged);
  return { id, charged, returned: less(deposit, charged) };
}

/** Asks the program to close the channel, without the server. Says when it can be withdrawn, in Unix seconds. */
export async function forceClose(agent: AgentState, channel: OwnChannel): Promise<number> {
  let slot = await ourSlot(agent, channel);
  if (slot.status === "open") {
    await run(agent, requestClose(channel.parts));
    slot = await ourSlot(agent, channel);
  }
  channel.phase = { phase: "closing", closing_at: slot.closingAt };
  await agent.save(channel);
  return slot.closingAt;
}

/** Takes what is unspent out of a channel whose grace period is over. */
export async function withdraw(agent: AgentState, channel: OwnChannel): Promise<Closed> {
  const { id, parts } = channel;
  const slot = await agent.slotOf(channel);
  if (slot.generation > parts.generation || slot.status === "free") {
    // Somebody else sent the withdrawal: it can only go to the payer.
    return (await refunded(agent, channel)) ?? { id, charged: channel.charged, returned: 0n };
  }
  await run(agent, await withdrawal(agent, channel, slot));
  const after = await agent.slotOf(channel);
  if (after.generation === parts.generation && after.status === "closing") {
    throw notNow(channel, "its withdrawal was skipped: the wallet's token account is missing or frozen");
  }
  await agent.end(channel, slot.settled);
  return { id, charged: slot.settled, returned: less(slot.deposit, slot.settled) };
}

/** A step out of a channel that another key can pay for. */
export interface Exit {
  /** Whether it begins to close the channel, or takes what is unspent out after the grace period. */
  readonly step: "request_close" | "withdraw";
  /** The transaction in base64: complete but for the signature of its fee payer. */
  readonly transaction: string;
  /** The last block height at which it can land. */
  readonly lastValidHeight: number;
}

/** The next step out of a channel as a transaction for `feePayer` to sign and send, within about a minute. */
export async function exitTransaction(agent: AgentState, channel: OwnChannel, feePayer: string): Promise<Exit> {
  const slot = await ourSlot(agent, channel);
  const step = slot.status === "open" ? "request_close" : "withdraw";
  const instruction = step === "withdraw" ? await withdrawal(agent, channel, slot) : requestClose(channel.parts);
  const { hash, lastValidHeight } = await agent.rpc.latestBlockhash();
  const transaction = base64(await signed(message(feePayer, atOwnExpense(instruction), hash), agent.wallet));
  channel.phase = step === "withdraw" ? { phase: "closing", closing_at: slot.closingAt } : { phase: "given_up" };
  await agent.save(channel);
  return { step, transaction, lastValidHeight };
}

async function ourSlot(agent: AgentState, channel: OwnChannel): Promise<Slot> {
  const slot = await agent.slotOf(channel);
  if (slot.generation !== channel.parts.generation || slot.status === "free") {
    throw notNow(channel, "no such channel is open on chain");
  }
  return slot;
}

async function withdrawal(agent: AgentState, channel: OwnChannel, slot: Slot): Promise<Instruction> {
  if (slot.status !== "closing") throw notNow(channel, "it is not closing on chain: force its close first");
  const [clock] = await agent.rpc.accounts([CLOCK]);
  const now = clock ? Number(readLittleEndian(clock.data, CLOCK_TIME_OFFSET, 8)) : slot.closingAt;
  if (now < slot.closingAt) {
    throw notNow(channel, `it can be withdrawn from ${slot.closingAt} on (Unix seconds): until then the payee may claim`);
  }
  const { parts, terms } = channel;
  const token = { mint: terms.asset, tokenProgram: terms.tokenProgram };
  const at = await accountsOf(parts.book, token, parts.page);
  return withdrawInstruction(at, parts.slot, await tokenAccountAddress(parts.payer, token.mint, token.tokenProgram));
}

/** Sends an instruction at the wallet's expense, and waits until it is confirmed, failed or expired. */
async function run(agent: AgentState, instruction: Instruction): Promise<string> {
  const { rpc, wallet } = agent;
  const { hash, lastValidHeight } = await rpc.latestBlockhash();
  const transaction = await signed(message(wallet.address, atOwnExpense(instruction), hash), wallet);
  const name = nameOf(transaction);
  await rpc.send(transaction).catch((error: unknown) => {
    // Looked at and refused: it was not passed on. Any other answer leaves it open: it is asked for.
    const isRefused = error instanceof AgentError && error.reason === "refused";
    if (isRefused && !error.message.includes("already been processed")) throw error;
  });
  for (let poll = 0; poll < POLLS; poll++) {
    const tooLate = isPast(await rpc.latestBlockhash(), lastValidHeight);
    const status = await rpc.status(name);
    if (status?.failed !== undefined) throw new AgentError("chain", `the chain refused the transaction: ${status.failed}`);
    if (status) return name;
    if (tooLate) throw new AgentError("chain", "the transaction expired before it landed: try again");
    await sleep(POLL_MILLISECONDS);
  }
  throw new AgentError("pending", `the transaction ${name} was sent and its outcome is not known yet`, { transaction: name });
}
