// Putting money into channels: opening them and adding to them, at the sponsor's expense, and finding out what became of either.
//
// An opening is for one slot and generation, so at most one of several can land. Two additions both land: the signed one is kept
// before it leaves, is sent again only as it is, and no second one is signed until the chain says what became of the first.

import { base64 } from "./bytes.js";
import { OwnChannel } from "./channel.js";
import { AgentError } from "./error.js";
import type { Route } from "./policy.js";
import { isPast } from "./rpc.js";
import { type AgentState, slotIn } from "./state.js";
import { type Confirmed, confirm } from "./terms.js";
import { message, open as openInstruction, signed, sponsored, topUp as topUpInstruction } from "./transaction.js";
import { channelId, type ChannelParts } from "./voucher.js";
import type { Offer } from "./wire.js";

/** What a deposit moves: an amount, and the transaction that the payer signed, in base64. */
export interface Deposit {
  readonly amount: string;
  readonly transaction: string;
}

/** What the chain says about an opening. */
export type Landing =
  /** It landed: the channel is open now. */
  | "landed"
  /** It never will: the slot went on without it. The channel is ended. */
  | "never"
  /** Neither yet: the slot still waits for the generation that was asked for. */
  | Confirmed;

/** Prepares a channel: checks the offer against chain and policy, chooses a slot and signs the deposit. Nothing is sent yet. */
export async function open(agent: AgentState, route: Route, offer: Offer): Promise<[OwnChannel, Deposit]> {
  await agent.checkCluster();
  const { limits, rpc, wallet } = agent;
  const look = () => confirm(rpc, limits.policy.cluster, offer, offer.page, wallet.address);
  let confirmed = await look();
  const amount = limits.depositFor(confirmed.book, offer.amount);
  checkHeld(confirmed, amount);
  const ask = { what: "deposit", amount, host: route.authority, path: route.path, payee: offer.payTo } as const;
  if (await limits.approve(ask)) confirmed = await look(); // people take their time
  const blockhash = await rpc.latestBlockhash();
  const { slot, generation } = chooseSlot(agent, confirmed, offer);
  const parts = { payer: wallet.address, signer: agent.signer.address, book: offer.book, page: offer.page, slot, generation };
  agent.budget.check(agent.channels.values(), route.authority, amount);
  const phase = { phase: "opening", last_valid_height: blockhash.lastValidHeight } as const;
  // Registered before anything is waited for: two calls of ours must not open the same slot, or pass the same budget.
  const taken = `${offer.page} ${slot} ${generation}`;
  agent.channels.set(taken, new OwnChannel(taken, parts, route.authority, route.url, route.method, offer, amount, phase));
  try {
    const id = await channelId(confirmed.page.domain, parts);
    const channel = new OwnChannel(id, parts, route.authority, route.url, route.method, offer, amount, phase);
    channel.usedAt = agent.clock();
    const deposit = await signOpening(agent, channel, confirmed, blockhash.hash);
    // Saved together with its first voucher's ceiling, before either leaves.
    agent.channels.set(id, channel);
    return [channel, deposit];
  } finally {
    agent.channels.delete(taken);
  }
}

/** Signs the deposit of a channel that is not open yet once more, with a fresh blockhash. */
export async function signAgain(agent: AgentState, channel: OwnChannel, confirmed: Confirmed): Promise<Deposit> {
  const blockhash = await agent.rpc.latestBlockhash();
  const deposit = await signOpening(agent, channel, confirmed, blockhash.hash);
  channel.phase = { phase: "opening", last_valid_height: blockhash.lastValidHeight };
  await agent.save(channel);
  return deposit;
}

async function signOpening(agent: AgentState, channel: OwnChannel, confirmed: Confirmed, blockhash: string): Promise<Deposit> {
  const instruction = openInstruction(confirmed.at, channel.parts, confirmed.source, channel.deposit);
  const compiled = message(channel.terms.feePayer, sponsored(instruction, channel.id), blockhash);
  const transaction = await signed(compiled, agent.wallet);
  return { amount: channel.deposit.toString(), transaction: base64(transaction) };
}

/** Asks the chain what became of an opening. */
export async function lookFor(agent: AgentState, channel: OwnChannel): Promise<Landing> {
  const { parts, terms } = channel;
  const confirmed = await confirm(agent.rpc, agent.limits.policy.cluster, terms, parts.page, agent.wallet.address);
  const slot = slotIn(confirmed.page, parts.slot);
  const isOurs = slot.payer === parts.payer && slot.signer === parts.signer;
  if (slot.generation === parts.generation && slot.status !== "free" && isOurs) {
    channel.phase = { phase: "open" };
    channel.deposit = slot.deposit;
    await agent.save(channel);
    return "landed";
  }
  if (slot.generation >= parts.generation) {
    // Whatever it was, it is not charged to us: the slot is somebody else's, or free again.
    await agent.end(channel, 0n);
    return "never";
  }
  return confirmed;
}

/**
 * Signs an addition with which `room` is unspent in the channel, or takes up the one that is under way. Nothing when what was sent
 * before is decided, or nothing can be added: the channel says what it can pay.
 */
export async function addTo(
  agent: AgentState,
  channel: OwnChannel,
  route: Route,
  offer: Offer,
  room: bigint,
): Promise<Deposit | undefined> {
  if (channel.topUp) {
    await decideTopUp(agent, channel);
    return underWay(channel);
  }
  const { limits, rpc } = agent;
  const { parts } = channel;
  if (room > limits.mostUnspent()) {
    channel.noTopUp = true; // it may not hold so much: another channel
    return undefined;
  }
  const amount = limits.additionFor(channel.rest(), room);
  await limits.approve({ what: "top_up", amount, host: route.authority, path: route.path, payee: offer.payTo });
  const confirmed = await confirm(rpc, limits.policy.cluster, offer, parts.page, agent.wallet.address);
  const slot = slotIn(confirmed.page, parts.slot);
  if (slot.generation !== parts.generation || slot.status !== "open") {
    channel.noTopUp = true;
    return undefined;
  }
  checkHeld(confirmed, amount);
  const blockhash = await rpc.latestBlockhash();
  agent.budget.check(agent.channels.values(), channel.authority, amount);
  channel.deposit = slot.deposit;
  // The budget counts it before anything is waited for.
  channel.topUp = { amount, before: slot.deposit, lastValidHeight: blockhash.lastValidHeight, transaction: "" };
  try {
    const instruction = topUpInstruction(confirmed.at, parts, confirmed.source, amount);
    const compiled = message(offer.feePayer, sponsored(instruction, channel.id), blockhash.hash);
    channel.topUp = { ...channel.topUp, transaction: base64(await signed(compiled, agent.wallet)) };
    await agent.save(channel);
  } catch (error) {
    channel.topUp = undefined; // it never left
    throw error;
  }
  return underWay(channel);
}

function underWay({ topUp }: OwnChannel): Deposit | undefined {
  return topUp && { amount: topUp.amount.toString(), transaction: topUp.transaction };
}

/** Asks the chain what became of an addition; once that is known the channel says it, in memory and in the store. */
export async function decideTopUp(agent: AgentState, channel: OwnChannel): Promise<void> {
  const { topUp, parts } = channel;
  if (!topUp) return;
  // Asked before the page is read: what has not landed once it is too late never will.
  const tooLate = isPast(await agent.rpc.latestBlockhash(), topUp.lastValidHeight);
  const slot = await agent.slotOf(channel);
  const isOurs = slot.generation === parts.generation && slot.status !== "free";
  const landed = isOurs && slot.deposit >= topUp.before + topUp.amount;
  if (isOurs && !landed && !tooLate) return;
  channel.topUp = undefined;
  if (isOurs) channel.deposit = slot.deposit;
  await agent.save(channel);
}

function checkHeld({ held, source }: Confirmed, deposit: bigint): void {
  if (held >= deposit) return;
  const why = `the wallet holds ${held} base units, a deposit takes ${deposit}: fund the token account ${source}`;
  throw new AgentError("wallet_short", why);
}

/**
 * The slot that was offered if it is still free, else another free one of the page: a different one for each payer, so that those
 * who were offered the same do not meet again.
 */
function chooseSlot(agent: AgentState, confirmed: Confirmed, offer: Offer): Pick<ChannelParts, "slot" | "generation"> {
  const ours = [...agent.channels.values()]
    .filter(({ phase, parts }) => phase.phase !== "ended" && parts.page === offer.page)
    .map(({ parts }) => `${parts.slot} ${parts.generation}`);
  const free = confirmed.page.slots.flatMap(({ status, generation }, slot) => {
    const isOurs = ours.includes(`${slot} ${generation + 1}`);
    return status === "free" && !isOurs ? [{ slot, generation: generation + 1 }] : [];
  });
  const spread = [...agent.wallet.address].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) >>> 0, 0);
  const chosen = free.find(({ slot }) => slot === offer.slot) ?? free[spread % (free.length || 1)];
  if (!chosen) throw new AgentError("no_free_slot", "no slot is free for a new channel at this payee: try later");
  return chosen;
}
