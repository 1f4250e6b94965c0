// What an agent checks before it puts money into a channel: that the chain says what the offer says.

import { type Book, type Page, readBook, readPage, readTokenAccount } from "./accounts.js";
import { bookAddress, pageAddress, PROGRAM, tokenAccountAddress } from "./address.js";
import { Malformed, same } from "./bytes.js";
import { AgentError } from "./error.js";
import type { Cluster } from "./policy.js";
import type { Account, Rpc } from "./rpc.js";
import type { Accounts } from "./transaction.js";
import { pageDomain } from "./voucher.js";
import type { Offer } from "./wire.js";

/** An offer that the chain confirms. */
export interface Confirmed {
  readonly book: Book;
  readonly page: Page;
  /** The accounts that instructions name. */
  readonly at: Accounts;
  /** The wallet's token account, and what it holds in base units. */
  readonly source: string;
  readonly held: bigint;
}

function untrue(why: string): AgentError {
  return new AgentError("terms", `not paid, because the offer is not what the chain says: ${why}; do not trust this server`);
}

/** The data of an account of the program. */
export function ours(account: Account | undefined, what: string): Uint8Array {
  if (!account || account.owner !== PROGRAM) throw untrue(`${what} is no account of the program`);
  return account.data;
}

/** Reads book, page and wallet, and compares them with the offer and the pinned cluster. */
export async function confirm(rpc: Rpc, cluster: Cluster, offer: Offer, page: string, wallet: string): Promise<Confirmed> {
  const source = await tokenAccountAddress(wallet, offer.asset, offer.tokenProgram);
  const [book, pageAccount, walletAccount] = await rpc.accounts([offer.book, page, source]);
  const terms = await checkBook(cluster, offer, book);
  if (offer.feePayer === wallet) throw untrue("feePayer is the payer itself, not a sponsor");
  const account = walletAccount && readTokenAccount(walletAccount.data);
  const isUsable = account && account.mint === terms.mint && account.owner === wallet && !account.frozen;
  return {
    book: terms,
    page: await checkPage(cluster, offer.book, page, pageAccount),
    at: await accountsOf(offer.book, terms, page),
    source,
    held: isUsable ? account.amount : 0n,
  };
}

/** The accounts of a page that instructions name. */
export async function accountsOf(book: string, terms: Accounts["terms"], page: string): Promise<Accounts> {
  return { book, terms, page, vault: await tokenAccountAddress(page, terms.mint, terms.tokenProgram) };
}

function read<T>(what: string, reading: () => T): T {
  try {
    return reading();
  } catch (error) {
    if (error instanceof Malformed) throw untrue(`${what}: ${error.message}`);
    throw error;
  }
}

async function checkBook(cluster: Cluster, offer: Offer, account: Account | undefined): Promise<Book> {
  const address = await bookAddress(offer.payTo, offer.asset, offer.bookId);
  const book = read("book", () => readBook(ours(account, "book")));
  const checks: readonly (readonly [boolean, string])[] = [
    [address === offer.book, "book is not the one of payTo, asset and bookId"],
    [book.payee === offer.payTo, "payTo is not the book's payee"],
    [book.mint === cluster.mint, "the book is of another mint"],
    [book.genesisHash === cluster.genesisHash, "the book is of another cluster"],
    [book.tokenProgram === offer.tokenProgram, "tokenProgram is not the book's"],
    [book.decimals === offer.decimals, "decimals are not the book's"],
    [book.graceSeconds === offer.withdrawDelay, "withdrawDelay is not the book's grace period"],
    [book.minDeposit === offer.minDeposit, "minDeposit is not the book's"],
    [book.openPolicy === 0, "the book opens channels only with its operator's signature"],
  ];
  for (const [holds, why] of checks) if (!holds) throw untrue(why);
  return book;
}

async function checkPage(cluster: Cluster, book: string, address: string, account: Account | undefined): Promise<Page> {
  const page = read("page", () => readPage(ours(account, "page")));
  if (page.book !== book || (await pageAddress(book, page.index)) !== address) {
    throw untrue("page is not a page of the book");
  }
  if (!same(page.domain, await pageDomain(PROGRAM, cluster.genesisHash, address))) {
    throw untrue("the page's vouchers are of another program or cluster");
  }
  return page;
}
