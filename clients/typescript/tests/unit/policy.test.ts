import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../../src/budget.js";
import { base58 } from "../../src/bytes.js";
import { OwnChannel } from "../../src/channel.js";
import { PolicyBreach } from "../../src/error.js";
import { type Ask, Limits, type Policy } from "../../src/policy.js";
import { memoryStore } from "../../src/store.js";
import { offer } from "../offer.js";

const hash = base58(new Uint8Array(32).fill(99));
const policy = (more: Partial<Policy> = {}): Policy => ({
  cluster: { network: "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", genesisHash: hash, mint: offer().asset, rpc: "http://127.0.0.1:1" },
  maxPrice: 10n,
  deposit: 100n,
  budget: 1_000n,
  allowHosts: [],
  ...more,
});
const breach = (name: string) => (error: unknown) => error instanceof PolicyBreach && error.breach === name;

test("given lists of hosts when one is asked for then denying wins", () => {
  const limits = new Limits(policy({ allowHosts: ["*.Example.com", "a.test:81"], denyHosts: ["bad.example.com"] }));
  const check = (host: string, authority = host) => limits.checkHost({ host, authority });
  check("api.example.com");
  check("x.api.example.com", "x.api.example.com:8080");
  check("a.test", "a.test:81");
  assert.throws(() => check("example.com"), breach("HostNotAllowed"));
  assert.throws(() => check("badexample.com"), breach("HostNotAllowed"));
  assert.throws(() => check("a.test", "a.test:82"), breach("HostNotAllowed"));
  assert.throws(() => check("bad.example.com", "bad.example.com:1"), breach("HostDenied"));
  const any = new Limits(policy({ allowHosts: "any", denyHosts: ["bad.example.com"] }));
  assert.throws(() => any.checkHost({ host: "bad.example.com", authority: "bad.example.com" }), breach("HostDenied"));
});

test("given offers when checked then what is too dear or to somebody else is refused", () => {
  const { payTo } = offer();
  new Limits(policy()).checkOffer(offer({ amount: 10n }));
  assert.throws(() => new Limits(policy()).checkOffer(offer({ amount: 11n })), breach("PriceTooHigh"));
  new Limits(policy({ maxCeiling: 50n })).checkOffer(offer({ amount: 50n, metered: true }));
  assert.throws(() => new Limits(policy({ maxCeiling: 50n })).checkOffer(offer({ amount: 50n })), breach("PriceTooHigh"));
  assert.throws(() => new Limits(policy({ allowPayees: [hash] })).checkOffer(offer({ amount: 1n })), breach("PayeeNotAllowed"));
  assert.throws(() => new Limits(policy({ denyPayees: [payTo] })).checkOffer(offer({ amount: 1n })), breach("PayeeNotAllowed"));
  assert.equal(new Limits(policy()).canPay(offer({ network: "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp" })), false);
  assert.equal(new Limits(policy()).canPay(offer({ asset: hash })), false);
});

test("given a channel when topped up then no more is unspent in it than allowed", () => {
  const limits = new Limits(policy({ maxDeposit: 150n }));
  assert.equal(limits.additionFor(3n, 10n), 100n);
  assert.equal(limits.additionFor(60n, 100n), 90n, "not above the limit");
  assert.equal(limits.additionFor(0n, 140n), 140n, "as much as the call takes");
  assert.throws(() => limits.additionFor(0n, 151n), breach("DepositTooHigh"));
});

test("given limits of a budget when deposits and calls come then what passes them is refused", async () => {
  let now = 1_000_000;
  const store = memoryStore();
  const limited = policy({ budgetPerHost: 150n, budgetPerHour: 20n, budgetPerDay: 30n });
  const budget = new Budget(limited, store, () => now);
  const channel = (host: string, deposit: bigint) =>
    new OwnChannel(hash, { payer: hash, signer: hash, book: hash, page: hash, slot: 0, generation: 1 }, host, "", "GET", offer(), deposit, {
      phase: "open",
    });
  budget.check([channel("a", 100n)], "a", 50n);
  assert.throws(() => budget.check([channel("a", 100n)], "a", 51n), breach("BudgetExceeded"));
  assert.throws(() => budget.check([channel("a", 150n), channel("b", 750n)], "c", 101n), breach("BudgetExceeded"));
  const spend = await budget.spend(15n);
  await assert.rejects(budget.spend(6n), breach("RateExceeded"));
  spend.settle(5n);
  spend.settle(0n); // only the first counts
  await budget.spend(15n);
  await assert.rejects(budget.spend(1n), breach("RateExceeded"));
  now += 3_700;
  await budget.spend(10n);
  await assert.rejects(budget.spend(1n), breach("RateExceeded"), "of the day");
  const again = new Budget(limited, store, () => now);
  again.restore((await store.load()).get("budget") ?? "");
  await assert.rejects(again.spend(1n), breach("RateExceeded"), "also after a restart");
});

test("given a limit above which a person is asked when it is passed then the person decides", async () => {
  const ask: Ask = { what: "call", amount: 6n, host: "a.test", path: "/", payee: hash };
  assert.equal(await new Limits(policy({ approvePriceAbove: 6n })).approve(ask), false, "nobody is asked");
  await assert.rejects(new Limits(policy({ approvePriceAbove: 5n })).approve(ask), breach("NobodyToAsk"));
  const asked = (answer: boolean) => policy({ approvePriceAbove: 5n, approver: async () => answer });
  assert.equal(await new Limits(asked(true)).approve(ask), true);
  await assert.rejects(new Limits(asked(false)).approve(ask), breach("NotApproved"));
  const silent = policy({ approvePriceAbove: 5n, approvalTimeoutSeconds: 0.01, approver: () => new Promise(() => undefined) });
  await assert.rejects(new Limits(silent).approve(ask), breach("ApprovalTimedOut"));
});

test("given a policy with a number for an amount when made then it is refused", () => {
  assert.throws(() => new Limits(policy({ maxPrice: 10 as never })), TypeError);
  assert.throws(() => new Limits(policy({ budgetPerDay: 10 as never })), TypeError);
  assert.throws(() => new Limits(policy({ allowHosts: "a.test" as never })), TypeError);
});
