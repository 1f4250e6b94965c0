// The adapter of this package for `tallybook conform codec` (docs/conformance.md): a question a line on standard input, an answer
// a line on standard output. Build the package first, then, from the repository's root:
//
//   tallybook conform codec -- node clients/typescript/conform.mjs
//
// It asks the modules behind the package's exports. What only whoever keeps a ledger does is not in this package: `accept`,
// `aggregate`, `claim` and `claimBelow` are answered by `cannot`.

import { createInterface } from "node:readline";
import { derived } from "./dist/address.js";
import { amountFrom, base58, fromBase58, hex, littleEndian, Malformed, utf8 } from "./dist/bytes.js";
import { OwnChannel } from "./dist/channel.js";
import { signerFrom } from "./dist/keys.js";
import { channelId, pageDomain, signVoucher, verifyVoucher, voucherMessage } from "./dist/voucher.js";
import { payment, readHeader, readOffer, readPaymentRequired } from "./dist/wire.js";

const ASSOCIATED_TOKEN_PROGRAM = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL";

const bytes = (text) => Uint8Array.from(Buffer.from(text, "hex"));
const key = (text) => base58(bytes(text));
const inHex = (text, length = 32) => hex(fromBase58(text, length));
const address = async (program, ...seeds) => inHex(await derived(key(program), ...seeds));

/** What the input must be refused for is `null`; any other error is one of this adapter. */
async function orNull(read) {
  try {
    return await read();
  } catch (error) {
    if (error instanceof Malformed) return null;
    throw error;
  }
}

/** The 402 in a header, with each entry of `accepts` beside its offer. */
function offersIn(value) {
  const required = readHeader(value);
  readPaymentRequired(required); // all of it, as the client does
  return required.accepts.map((accept) => (accept.scheme === "@tallybook/channel" ? readOffer(accept) : undefined));
}

/** A channel as this client knows it. */
function channel({ signer, channelId, charged, possible, settled, deposit }, offer) {
  const parts = { payer: key(signer), signer: key(signer), book: "", page: "", slot: 0, generation: 1 };
  const own = new OwnChannel(key(channelId), parts, "", "", "GET", offer, BigInt(deposit ?? 0), { phase: "open" });
  own.charged = BigInt(charged);
  own.ceiling = BigInt(possible ?? charged);
  own.settled = BigInt(settled ?? 0);
  return own;
}

const ANSWERS = {
  pageDomain: async ({ programId, genesisHash, page }) => hex(await pageDomain(key(programId), key(genesisHash), key(page))),
  channelId: async ({ pageDomain, slot, generation, payer, signer }) =>
    inHex(await channelId(bytes(pageDomain), { slot, generation, payer: key(payer), signer: key(signer) })),
  voucher: ({ channelId, cumulative }) => hex(voucherMessage(key(channelId), BigInt(cumulative))),
  sign: async ({ seed, channelId, cumulative }) => {
    const voucher = await signVoucher(await signerFrom(bytes(seed)), key(channelId), BigInt(cumulative));
    return inHex(voucher.signature, 64);
  },
  verify: ({ signer, channelId, cumulative, signature }) =>
    verifyVoucher(key(signer), key(channelId), BigInt(cumulative), key(signature)),
  bookAddress: ({ programId, payee, mint, bookId }) =>
    address(programId, utf8("book"), bytes(payee), bytes(mint), littleEndian(bookId, 2)),
  pageAddress: ({ programId, book, index }) => address(programId, utf8("page"), bytes(book), littleEndian(index, 4)),
  tokenAddress: ({ owner, tokenProgram, mint }) =>
    address(inHex(ASSOCIATED_TOKEN_PROGRAM), bytes(owner), bytes(tokenProgram), bytes(mint)),
  amount: ({ value }) => orNull(() => amountFrom(value).toString()),
  offers: async ({ header, network, asset }) => {
    const offers = (await orNull(() => offersIn(header))) ?? [];
    return offers.flatMap((offer, at) => (offer?.network === network && offer.asset === asset ? [at] : []));
  },
  payment: async (question) => {
    const offer = offersIn(question.header)[question.accept];
    const signer = await signerFrom(bytes(question.seed));
    const own = channel({ ...question, signer: inHex(signer.address) }, offer);
    if (!own.covers(offer.amount)) return null;
    const voucher = await signVoucher(signer, own.id, own.toSign(offer.amount));
    return payment(offer.raw, { type: "voucher", voucher });
  },
  believe: (question) =>
    orNull(async () => {
      // The states are read as a part of an offer, whose other members do not matter here.
      const { extra } = question;
      const offer = readOffer({ ...OFFER, extra: { ...OFFER.extra, ...extra } });
      if (offer.channelState === undefined) return null;
      const own = channel(question, offer);
      const refused = await own.adopt(offer.channelState, offer.voucherState);
      return refused === undefined ? own.charged.toString() : null;
    }),
};

const NOBODY = "1".repeat(32);
const OFFER = {
  scheme: "@tallybook/channel",
  network: "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
  amount: "1",
  asset: NOBODY,
  payTo: NOBODY,
  maxTimeoutSeconds: 60,
  extra: {
    book: NOBODY,
    bookId: 0,
    page: NOBODY,
    slot: 0,
    generation: 1,
    feePayer: NOBODY,
    withdrawDelay: 900,
    minDeposit: "1",
    tokenProgram: NOBODY,
    decimals: 6,
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  const { id, ask } = question;
  const answer = ANSWERS[ask] ? { id, is: await ANSWERS[ask](question) } : { id, cannot: true };
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
