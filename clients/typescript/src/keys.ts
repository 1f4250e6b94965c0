// Keys that sign, and signatures that are checked: WebCrypto's Ed25519, which is in Node 20 and in every current browser, so
// that nothing is shipped for it and a key need not be extractable.

import { base58, concat, fromBase58, Malformed } from "./bytes.js";

/** The DER prefix of an Ed25519 seed in PKCS #8. */
const PKCS8 = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/** Whoever signs: messages of transactions, and (unless there is a session key) vouchers. */
export interface Signer {
  /** The public key in base58. */
  readonly address: string;
  /** The plain Ed25519 signature, 64 bytes, over these bytes. */
  sign(bytes: Uint8Array): Promise<Uint8Array>;
  /** The signature over a transaction's message, where that is made in another way. */
  signTransaction?(message: Uint8Array): Promise<Uint8Array>;
}

/** A signer of `@solana/kit` whose keys are at hand: `generateKeyPairSigner()` and its like. */
export interface KitKeyPairSigner {
  /** The public key in base58. */
  readonly address: string;
  /** The keys, of which the private one need not be extractable. */
  readonly keyPair: CryptoKeyPair;
}

/** A wallet in the form of `@solana/kit`: signs transactions as they are. For vouchers it needs a session key beside it. */
export interface KitTransactionSigner {
  /** The public key in base58. */
  readonly address: string;
  /** Signs transactions of `@solana/kit` (`messageBytes`, `signatures`), and gives the signatures by address. */
  signTransactions(transactions: readonly never[]): Promise<readonly Readonly<Record<string, Uint8Array>>[]>;
}

/**
 * What is taken for a signer: ours, one of `@solana/kit`, a pair of WebCrypto keys, one extractable WebCrypto key, or a secret as
 * bytes: 32 (the seed) or 64 (seed and public key, as in Solana's key files).
 */
export type SignerLike = Signer | KitKeyPairSigner | KitTransactionSigner | CryptoKeyPair | CryptoKey | Uint8Array;

/** Makes a {@link Signer} of what is taken for one. */
export async function signerFrom(like: SignerLike): Promise<Signer> {
  if (like instanceof Uint8Array) return fromSecret(like);
  if ("keyPair" in like) return fromPair(like.keyPair);
  if ("privateKey" in like) return fromPair(like);
  if ("sign" in like) return like;
  if ("signTransactions" in like) return fromWallet(like);
  if (like instanceof CryptoKey) return fromKey(like);
  throw new TypeError("not a signer: pass a key pair of @solana/kit or WebCrypto, or 32 or 64 secret bytes");
}

/** A new key that cannot be read out again: for sessions. */
export async function generateKeys(): Promise<CryptoKeyPair> {
  return (await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"])) as CryptoKeyPair;
}

async function fromSecret(secret: Uint8Array): Promise<Signer> {
  if (secret.length !== 32 && secret.length !== 64) throw new TypeError("a secret has 32 or 64 bytes");
  const key = await crypto.subtle.importKey("pkcs8", concat(PKCS8, secret.subarray(0, 32)), "Ed25519", true, ["sign"]);
  const signer = await fromKey(key);
  if (secret.length === 64 && base58(secret.subarray(32)) !== signer.address) {
    throw new TypeError("the secret's second half is not its public key");
  }
  return signer;
}

async function fromKey(key: CryptoKey): Promise<Signer> {
  if (!key.extractable) throw new TypeError("the public key of a key that is not extractable is unknown: pass the pair");
  const { x } = await crypto.subtle.exportKey("jwk", key);
  const text = (x ?? "").replaceAll("-", "+").replaceAll("_", "/");
  const address = base58(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)));
  return { address, sign: (bytes) => sign(key, bytes) };
}

async function fromPair(pair: CryptoKeyPair): Promise<Signer> {
  const address = base58(new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)));
  return { address, sign: (bytes) => sign(pair.privateKey, bytes) };
}

function fromWallet(wallet: KitTransactionSigner): Signer {
  const signTransaction = async (messageBytes: Uint8Array): Promise<Uint8Array> => {
    const transaction = { messageBytes, signatures: { [wallet.address]: null } };
    const [signatures] = await wallet.signTransactions([transaction as never]);
    const signature = signatures?.[wallet.address];
    if (!signature) throw new TypeError("the wallet did not sign");
    return signature;
  };
  const refuse = (): never => {
    throw new TypeError("a wallet signs transactions only: pass a sessionKey for vouchers, such as generateKeys()");
  };
  return { address: wallet.address, sign: async () => refuse(), signTransaction };
}

async function sign(key: CryptoKey, bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.sign("Ed25519", key, bytes as Uint8Array<ArrayBuffer>));
}

/** Whether this is the key's signature over these bytes. */
export async function verify(address: string, signature: Uint8Array, bytes: Uint8Array): Promise<boolean> {
  try {
    const key = await crypto.subtle.importKey("raw", fromBase58(address, 32), "Ed25519", true, ["verify"]);
    return await crypto.subtle.verify("Ed25519", key, new Uint8Array(signature), new Uint8Array(bytes));
  } catch (error) {
    if (error instanceof Malformed || error instanceof DOMException) return false;
    throw error;
  }
}

/** SHA-256 of all the parts together. */
export async function sha256(...parts: readonly Uint8Array[]): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", concat(...parts)));
}
