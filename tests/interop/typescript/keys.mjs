// Keys as the test hands them over: the 64 bytes of a keypair in base58.
import { createKeyPairSignerFromBytes, getBase58Encoder } from "@solana/kit";

export { createKeyPairSignerFromBytes };

export const base58 = (text) => getBase58Encoder().encode(text);
