// The bytes that bind: page domain, channel id, voucher. Pinned by the golden vectors of the repository.

import { base58, concat, fromBase58, littleEndian, utf8 } from "./bytes.js";
import { sha256, type Signer, verify } from "./keys.js";

const MAGIC = [0x54, 0x42, 1]; // "TB", version 1

/** Everything that names a channel but the program and the cluster, which are pinned and never sent. Keys in base58. */
export interface ChannelParts {
  /** Who funds it. */
  readonly payer: string;
  /** Whose vouchers bind it. */
  readonly signer: string;
  /** The payee's book. */
  readonly book: string;
  /** The page. */
  readonly page: string;
  /** The slot in the page. */
  readonly slot: number;
  /** The slot's generation once open. */
  readonly generation: number;
}

/** A voucher as it stands on the wire: 43 bytes signed, which the receiver rebuilds from these members. */
export interface Voucher {
  /** Which channel pays. */
  readonly channelId: string;
  /** The total since the channel was opened, in base units. */
  readonly maxClaimableAmount: string;
  /** The signer's, in base58. */
  readonly signature: string;
}

/** `SHA-256("tallybook:page:v1" ‖ program ‖ genesis hash ‖ page)`: what binds a voucher to program, cluster and page. */
export async function pageDomain(program: string, genesisHash: string, page: string): Promise<Uint8Array<ArrayBuffer>> {
  const keys = [program, genesisHash, page].map((key) => fromBase58(key, 32));
  return sha256(utf8("tallybook:page:v1"), ...keys);
}

/** `SHA-256(page domain ‖ slot ‖ generation ‖ payer ‖ signer)`, in base58. */
export async function channelId(
  domain: Uint8Array,
  parts: Pick<ChannelParts, "slot" | "generation" | "payer" | "signer">,
): Promise<string> {
  const place = concat(littleEndian(parts.slot, 1), littleEndian(parts.generation, 4));
  return base58(await sha256(domain, place, fromBase58(parts.payer, 32), fromBase58(parts.signer, 32)));
}

/** `"TB" ‖ 0x01 ‖ channel id ‖ cumulative u64 LE`: the 43 bytes that are signed. */
export function voucherMessage(channel: string, cumulative: bigint): Uint8Array<ArrayBuffer> {
  return concat(MAGIC, fromBase58(channel, 32), littleEndian(cumulative, 8));
}

/** Signs for `cumulative` base units in all. */
export async function signVoucher(signer: Signer, channel: string, cumulative: bigint): Promise<Voucher> {
  const signature = await signer.sign(voucherMessage(channel, cumulative));
  return { channelId: channel, maxClaimableAmount: cumulative.toString(), signature: base58(signature) };
}

/** Whether `signer` (in base58) signed for `cumulative` on `channel`. */
export async function verifyVoucher(
  signer: string,
  channel: string,
  cumulative: bigint,
  signature: string,
): Promise<boolean> {
  return verify(signer, fromBase58(signature, 64), voucherMessage(channel, cumulative));
}
