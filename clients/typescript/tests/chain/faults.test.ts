// What goes wrong on the way, in the client's process, and in the server's honesty.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, beforeEach, test } from "node:test";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { base58 } from "../../src/bytes.js";
import { TallybookChannel } from "../../src/client.js";
import { AgentError, PolicyBreach } from "../../src/error.js";
import { payingFetch, type PayingFetch } from "../../src/fetch.js";
import { generateKeys, type Signer, signerFrom } from "../../src/keys.js";
import { nameOf } from "../../src/naming.js";
import { fileStore } from "../../src/node.js";
import type { Policy } from "../../src/policy.js";
import { memoryStore } from "../../src/store.js";
import { atOwnExpense, message, parse, signed, withdraw } from "../../src/transaction.js";
import { accountsOf } from "../../src/terms.js";
import { tokenAccountAddress } from "../../src/address.js";
import { fromBase64 } from "../../src/bytes.js";
import { signVoucher } from "../../src/voucher.js";
import { Between, type Loose, type Meddle, rewrite } from "../between.js";
import { Ground } from "../ground.js";
import { Shop } from "../shop.js";

let ground: Ground;
let shop: Shop;
let between: Between;

before(async () => {
  ground = await Ground.start();
  shop = await Shop.open(ground);
  between = await Between.of(shop.url);
});

beforeEach(() => {
  between.meddle = () => undefined;
  between.payments.length = 0;
  shop.served.length = 0;
});

after(async () => {
  await between?.close();
  await shop?.close();
  await ground?.stop();
});

const payer = async (more: Partial<Policy> = {}): Promise<PayingFetch> =>
  payingFetch(fetch, { signer: await ground.wallet(), policy: ground.policy(more) });

/** Closes everything, and gives what it cost. */
async function cost({ agent }: { agent: PayingFetch["agent"] }): Promise<bigint> {
  let sum = 0n;
  for (const { closed, error } of await agent.closeAll()) {
    if (!closed) throw error;
    sum += closed.charged;
  }
  return sum;
}

const isError = (code: string) => (error: unknown) => error instanceof AgentError && error.code === code;

test("given offers that are not what the chain says when met then nothing is signed", async () => {
  const secret = await ground.wallet();
  const agent = (await signerFrom(secret)).address;
  const payer = (): PayingFetch => payingFetch(fetch, { signer: secret, policy: ground.policy() });
  const lies: Readonly<Record<string, (required: Loose) => void>> = {
    payTo: ({ accepts }) => accepts.forEach((accept) => (accept.payTo = agent)),
    book: ({ accepts }) => accepts.forEach(({ extra }) => (extra.book = extra.page)),
    page: ({ accepts }) => accepts.forEach(({ extra }) => (extra.page = extra.book)),
    feePayer: ({ accepts }) => accepts.forEach(({ extra }) => (extra.feePayer = agent)),
    withdrawDelay: ({ accepts }) => accepts.forEach(({ extra }) => (extra.withdrawDelay = 1)),
    minDeposit: ({ accepts }) => accepts.forEach(({ extra }) => (extra.minDeposit = "2")),
    tokenProgram: ({ accepts }) => accepts.forEach(({ extra }) => (extra.tokenProgram = agent)),
    decimals: ({ accepts }) => accepts.forEach(({ extra }) => (extra.decimals = 9)),
  };
  for (const [name, lie] of Object.entries(lies)) {
    between.meddle = (passing) => rewrite(passing, lie);
    await assert.rejects(payer()(`${between.url}/fixed`), isError("terms"), name);
  }
  between.meddle = (passing) => rewrite(passing, ({ accepts }) => accepts.forEach((accept) => (accept.asset = agent)));
  await assert.rejects(payer()(`${between.url}/fixed`), isError("no_offer"));
  between.meddle = (passing) => passing.headers.set("PAYMENT-REQUIRED", "bm90IGpzb24=");
  await assert.rejects(payer()(`${between.url}/fixed`), isError("unreadable"));
  assert.equal(between.payments.length, 0);
});

test("given limits of the owner when an offer passes them then nothing is signed, by wrapper and scheme", async () => {
  const cases: readonly (readonly [string, Partial<Policy>])[] = [
    ["PriceTooHigh", { maxPrice: 499n }],
    ["DepositTooHigh", { deposit: 100n }],
    ["BudgetExceeded", { budget: 19_999n }],
    ["BudgetExceeded", { budgetPerHost: 19_999n }],
    ["RateExceeded", { budgetPerHour: 499n }],
    ["RateExceeded", { budgetPerDay: 499n }],
    ["HostNotAllowed", { allowHosts: ["localhost"] }],
    ["HostDenied", { denyHosts: ["127.0.0.1"] }],
    ["PayeeNotAllowed", { allowPayees: [ground.address("agent")] }],
    ["GraceTooLong", { maxGraceSeconds: 899 }],
    ["NobodyToAsk", { approvePriceAbove: 499n }],
    ["NotApproved", { approveDepositAbove: 0n, approver: async () => false }],
  ];
  for (const [breach, limits] of cases) {
    const isBreach = (error: unknown) => error instanceof PolicyBreach && error.breach === breach;
    await assert.rejects((await payer(limits))(`${between.url}/fixed`), isBreach, breach);
    const channel = new TallybookChannel(await ground.wallet(), ground.policy(limits));
    const pay = wrapFetchWithPayment(fetch, new x402Client().register("solana:*", channel));
    await assert.rejects(pay(`${between.url}/fixed`), /the policy forbids it/, breach);
  }
  assert.equal(between.payments.length, 0);
  const otherChain = ground.policy();
  const cluster = { ...otherChain.cluster, genesisHash: base58(new Uint8Array(32).fill(1)) };
  await assert.rejects((await payer({ cluster }))(`${between.url}/fixed`), isError("wrong_cluster"));
});

test("given a wallet with less than a deposit when asked to pay then it says which account to fund", async () => {
  const poor = payingFetch(fetch, { signer: await generateKeys(), policy: ground.policy() });
  await assert.rejects(poor(`${between.url}/fixed`), isError("wallet_short"));
});

test("given the scheme with a cap of the x402 client when the price is above it then nothing is signed", async () => {
  const channel = new TallybookChannel(await ground.wallet(), ground.policy());
  const client = new x402Client().register("solana:*", channel).setSpendControls({ maxAmountPerPayment: "$0.0004" });
  await assert.rejects(wrapFetchWithPayment(fetch, client)(`${between.url}/fixed`), /spendControls/);
  assert.equal(between.payments.length, 0);
});

/** Whoever answers a payment with a claim of so much; even with our own signature over it, which nobody has but who signs. */
async function claims(signer: Signer, channelId: string, claimed: bigint): Promise<Meddle> {
  const { signature } = await signVoucher(signer, channelId, claimed);
  return async (passing) => {
    if (!passing.paid) return;
    const ask = await fetch(`${shop.url}/fixed`);
    passing.status = 402;
    passing.headers.delete("PAYMENT-RESPONSE");
    passing.headers.set("PAYMENT-REQUIRED", ask.headers.get("PAYMENT-REQUIRED") ?? "");
    rewrite(passing, (required) => {
      required.error = "wrong_cumulative";
      for (const { extra } of required.accepts) {
        const amounts = { balance: "20000", totalClaimed: "0", chargedCumulativeAmount: claimed.toString() };
        extra.channelState = { channelId, ...amounts };
        extra.voucherState = { signedMaxClaimable: claimed.toString(), signature };
      }
    });
  };
}

test("given a server that claims what was never signed when it corrects then it is not believed", async () => {
  // Its handler fails, so that nothing is charged; then somebody lies about it.
  for (const claimed of [1_001n, 20_000n]) {
    const secret = await ground.wallet();
    const pay = payingFetch(fetch, { signer: secret, policy: ground.policy({ maxWaitMilliseconds: 50 }) });
    await pay(`${between.url}/fixed`);
    const [channel] = await pay.agent.channels();
    between.meddle = await claims(await signerFrom(secret), channel?.id ?? "", claimed);
    await assert.rejects(pay(`${between.url}/fails`), isError("dishonest"));
    const most = between.payments.map(({ payload }) => BigInt(payload.voucher.maxClaimableAmount));
    assert.ok(most.every((amount) => amount <= 1_000n), `signed ${most.join(", ")}`);
    assert.equal((await pay.agent.channels())[0]?.phase, "given_up");
    between.meddle = () => undefined;
    between.payments.length = 0;
    assert.equal(await cost(pay), 500n, "one call was served");
  }
});

test("given the voucher of a call that failed when somebody settles it then it is due, and nothing beyond it is", async () => {
  const secret = await ground.wallet();
  let isDown = false;
  const meddled: typeof fetch = (input, init) =>
    isDown && input === ground.report.rpc ? Promise.resolve(new Response("busy", { status: 429 })) : fetch(input, init);
  const pay = payingFetch(meddled, { signer: secret, policy: ground.policy({ maxWaitMilliseconds: 50 }) });
  await pay(`${between.url}/fixed`);
  assert.equal((await pay(`${between.url}/fails`)).status, 404);
  const [channel] = await pay.agent.channels();
  const [id, at] = [channel?.id ?? "", channel?.parts.slot ?? 0];
  // Given that somebody who holds it settles it, and the server sees that on chain: it has no such voucher itself.
  const { voucher } = between.payments.at(-1)?.payload ?? assert.fail();
  const file = join(ground.folder, "failed.jsonl");
  await writeFile(file, JSON.stringify({ voucher, charged: voucher.maxClaimableAmount }));
  await ground.cli("settle", file, "--book", ground.report.book);
  assert.equal((await ground.slot(at)).settled, 1_000n);
  const seen = async (): Promise<string> =>
    ((await (await fetch(`${ground.report.facilitator}/channels/${id}`)).json()) as { charged: string }).charged;
  while ((await seen()) !== "1000") await new Promise((resolve) => setTimeout(resolve, 50));
  // While the chain cannot be asked the server is not believed, and nothing is given up for it.
  isDown = true;
  await assert.rejects(pay(`${between.url}/fixed`), isError("chain"));
  assert.deepEqual([(await pay.agent.channels())[0]?.phase, await pay.agent.spent()], ["open", 500n]);
  isDown = false;
  // Then the channel pays on from there.
  assert.equal((await pay(`${between.url}/fixed`)).status, 200);
  assert.deepEqual([await pay.agent.spent(), (await pay.agent.channels()).length], [1_500n, 1]);
  // And one more than is settled and was served is a lie.
  between.meddle = await claims(await signerFrom(secret), id, 1_501n);
  await assert.rejects(pay(`${between.url}/fixed`), isError("dishonest"));
  between.meddle = () => undefined;
});

test("given a receipt over more than was signed when it comes then it counts as what was signed", async () => {
  const pay = await payer();
  between.meddle = (passing) => {
    if (passing.headers.has("PAYMENT-RESPONSE")) {
      const lie = { success: true, transaction: "", network: ground.report.network, extra: { chargedAmount: "900000" } };
      passing.headers.set("PAYMENT-RESPONSE", Buffer.from(JSON.stringify(lie)).toString("base64"));
    }
  };
  assert.equal((await pay(`${between.url}/fixed`)).status, 200);
  assert.equal(await pay.agent.spent(), 500n);
  between.meddle = () => undefined;
  assert.equal(await cost(pay), 500n);
});

test("given a price that changes when paid at the old one then the new one is paid if the policy allows it", async () => {
  const pay = await payer();
  await pay(`${between.url}/fixed`);
  // The same agent takes the price of one route for that of another, as after a change.
  const state = await pay.agent.state();
  const route = { host: "127.0.0.1", authority: new URL(between.url).host, path: "/metered", method: "GET", url: `${between.url}/metered` };
  const [known] = [state.remembered({ ...route, path: "/fixed", url: `${between.url}/fixed` })];
  assert.ok(known);
  state.learn(route, { offers: [known], error: undefined, resource: undefined, extensions: undefined });
  assert.equal((await pay(`${between.url}/metered`)).status, 200);
  assert.equal(await cost(pay), 800n);
});

test("given a price that is another by the time it is paid when the scheme pays then its one retry pays that", async () => {
  const channel = new TallybookChannel(await ground.wallet(), ground.policy());
  const buy = wrapFetchWithPayment(fetch, new x402Client().register("solana:*", channel));
  between.meddle = (passing) => {
    if (!passing.paid) rewrite(passing, ({ accepts }) => accepts.forEach((accept) => (accept.amount = "400")));
  };
  assert.equal((await buy(`${between.url}/fixed`)).status, 200);
  assert.deepEqual(between.payments.map(({ payload }) => payload.voucher.maxClaimableAmount), ["400", "500"]);
  between.meddle = () => undefined;
  assert.equal(await cost(channel), 500n);
  const mean = new TallybookChannel(await ground.wallet(), ground.policy({ maxPrice: 499n }));
  const refuse = wrapFetchWithPayment(fetch, new x402Client().register("solana:*", mean));
  between.meddle = (passing) => {
    if (!passing.paid) rewrite(passing, ({ accepts }) => accepts.forEach((accept) => (accept.amount = "400")));
  };
  await assert.rejects(refuse(`${between.url}/fixed`), (error) => error instanceof PolicyBreach && error.breach === "PriceTooHigh");
});

test("given answers that are lost when the call is made then it is never paid twice, and the loss is told", async () => {
  const pay = await payer();
  await pay(`${between.url}/fixed`);
  let lost = 0;
  between.meddle = ({ paid, status }) => (paid && status === 200 && lost++ === 0 ? "drop" : undefined);
  await assert.rejects(pay(`${between.url}/fixed`), isError("charged_without_answer"));
  assert.equal((await pay(`${between.url}/fixed`)).status, 200);
  assert.equal(await pay.agent.spent(), 1_500n);
  between.meddle = ({ paid }) => (paid ? "drop" : undefined);
  const few = await payer({ attempts: 2 });
  await assert.rejects(few(`${between.url}/fails`), isError("answer_lost"));
  between.meddle = () => undefined;
  assert.equal(await cost(pay), 1_500n);
  assert.equal(await cost(few), 0n);
});

test("given the scheme, watching its fetch, when an answer is lost then it is told, and the next call goes on at once", async () => {
  const channel = new TallybookChannel(await ground.wallet(), ground.policy());
  const pay = wrapFetchWithPayment(channel.watch(fetch), new x402Client().register("solana:*", channel));
  await pay(`${between.url}/fixed`);
  let lost = 0;
  between.meddle = ({ paid, status }) => (paid && status === 200 && lost++ === 0 ? "drop" : undefined);
  await assert.rejects(pay(`${between.url}/fixed`), isError("charged_without_answer"));
  assert.equal((await pay(`${between.url}/fixed`)).status, 200);
  assert.equal((await pay(`${between.url}/fails`)).status, 404);
  assert.equal(await cost(channel), 1_500n);
});

test("given the scheme without watching when its record is behind then the one retry of x402 corrects it", async () => {
  const store = memoryStore();
  const [signer, policy] = [await ground.wallet(), ground.policy()];
  const first = new TallybookChannel(signer, policy, { store });
  const buy = (channel: TallybookChannel) => wrapFetchWithPayment(fetch, new x402Client().register("solana:*", channel));
  assert.equal((await buy(first)(`${between.url}/fixed`)).status, 200);
  // A restart: what was signed of the reserve is not known, so the server is asked by a voucher over nothing.
  const again = new TallybookChannel(signer, policy, { store: memoryStore(await store.load()) });
  between.payments.length = 0;
  assert.equal((await buy(again)(`${between.url}/fixed`)).status, 200);
  assert.deepEqual(between.payments.map(({ payload }) => payload.voucher.maxClaimableAmount), ["0", "1000"]);
  assert.equal(await cost(again), 1_000n);
});

test("given a server that lets payments have names when paid then each has the name of its voucher, by wrapper and scheme", async () => {
  const [pay, channel] = [await payer(), new TallybookChannel(await ground.wallet(), ground.policy())];
  const buy = wrapFetchWithPayment(fetch, new x402Client().register("solana:*", channel));
  for (const bought of [await pay(`${between.url}/named`), await pay(`${between.url}/named`), await buy(`${between.url}/named`)]) {
    assert.equal(bought.status, 200);
  }
  for (const { payload, extensions } of between.payments) {
    const { info } = extensions?.["payment-identifier"] ?? {};
    assert.deepEqual(info, { required: true, id: await nameOf(payload.voucher) });
    assert.match(String(info?.id), /^tallybook_[0-9a-f]{32}$/);
  }
  assert.equal(new Set(between.payments.map(({ extensions }) => extensions?.["payment-identifier"]?.info.id)).size, 3);
  assert.deepEqual([await cost(pay), await cost(channel)], [1_000n, 500n]);
});

test("given many calls at once when made then each channel has one under way, and all are paid once", async () => {
  const pay = await payer({ channelsPerHost: 4 });
  await pay(`${between.url}/slow`); // the price is known from here on
  const began = Date.now();
  const answers = await Promise.all(Array.from({ length: 11 }, () => pay(`${between.url}/slow`)));
  assert.ok(answers.every(({ status }) => status === 200));
  assert.ok(Date.now() - began < 11 * 300, "they ran side by side");
  assert.equal((await pay.agent.channels()).length, 4);
  const [scheme, policy] = [await ground.wallet(), ground.policy({ channelsPerHost: 2 })];
  const channel = new TallybookChannel(scheme, policy);
  const buy = wrapFetchWithPayment(fetch, new x402Client().register("solana:*", channel));
  const bought = await Promise.all(Array.from({ length: 6 }, () => buy(`${between.url}/fixed`)));
  assert.ok(bought.every(({ status }) => status === 200));
  assert.equal((await channel.agent.channels()).length, 2);
  assert.equal(await cost(pay), 6_000n);
  assert.equal(await cost(channel), 3_000n);
});

test("given a deposit that is used up when calls go on then the channel is topped up, by wrapper and scheme", async () => {
  const [signer, policy] = [await ground.wallet(), ground.policy({ deposit: 1_000n, maxDeposit: 1_000n })];
  const pay = payingFetch(fetch, { signer, policy });
  for (let call = 0; call < 5; call++) assert.equal((await pay(`${between.url}/fixed`)).status, 200);
  const channel = new TallybookChannel(signer, policy);
  const buy = wrapFetchWithPayment(fetch, new x402Client().register("solana:*", channel));
  for (let call = 0; call < 5; call++) assert.equal((await buy(`${between.url}/fixed`)).status, 200);
  for (const { agent } of [pay, channel]) {
    const [only, ...others] = await agent.channels();
    assert.deepEqual([only?.deposit, only?.charged, others.length], [3_000n, 2_500n, 0]);
  }
  const without = await payer({ deposit: 1_000n, topUp: false });
  for (let call = 0; call < 3; call++) assert.equal((await without(`${between.url}/fixed`)).status, 200);
  assert.equal((await without.agent.channels()).length, 2);
  assert.deepEqual([await cost(pay), await cost(channel), await cost(without)], [2_500n, 2_500n, 1_500n]);
});

test("given a store that was lost when the channels are looked for then they pay again, and their rest comes back", async () => {
  const payer = { signer: await ground.wallet(), policy: ground.policy() };
  const lost = payingFetch(fetch, payer);
  for (let call = 0; call < 3; call++) await lost(`${between.url}/fixed`);
  const found = payingFetch(fetch, payer);
  const [channel, ...others] = await found.agent.recover(`${between.url}/fixed`);
  assert.deepEqual([channel?.id, channel?.phase, others.length], [(await lost.agent.channels())[0]?.id, "open", 0]);
  assert.deepEqual(await found.agent.recover(`${between.url}/fixed`), []);
  assert.equal((await found(`${between.url}/fixed`)).status, 200);
  assert.equal((await found.agent.channels()).length, 1);
  assert.equal(await cost(found), 2_000n);
});

test("given a session key when it signs vouchers then the wallet signs but the deposit", async () => {
  const sessionKey = await generateKeys();
  const options = { signer: await ground.wallet(), policy: ground.policy(), sessionKey };
  const pay = payingFetch(fetch, options);
  assert.equal((await pay(`${between.url}/fixed`)).status, 200);
  const [channel] = await pay.agent.channels();
  const [wallet, session] = [(await signerFrom(options.signer)).address, (await signerFrom(sessionKey)).address];
  assert.deepEqual([channel?.parts.payer, channel?.parts.signer], [wallet, session]);
  assert.equal(await cost(pay), 500n);
});

test("given a wallet that signs transactions alone when a session key is beside it then it pays", async () => {
  const keys = await signerFrom(await ground.wallet());
  const signTransactions = async ([transaction]: readonly { messageBytes: Uint8Array }[]) => [
    { [keys.address]: await keys.sign(transaction?.messageBytes ?? new Uint8Array()) },
  ];
  const wallet = { address: keys.address, signTransactions: signTransactions as never };
  const pay = payingFetch(fetch, { signer: wallet, policy: ground.policy(), sessionKey: await generateKeys() });
  assert.equal((await pay(`${between.url}/fixed`)).status, 200);
  assert.equal(await cost(pay), 500n);
  await assert.rejects(payingFetch(fetch, { signer: wallet, policy: ground.policy() })(`${between.url}/fixed`), /sessionKey/);
});

test("given a 402 that names another host as its own when the scheme watches its fetch then it is not paid", async () => {
  const channel = new TallybookChannel(await ground.wallet(), ground.policy({ allowHosts: ["good.example"] }));
  const client = new x402Client().register("solana:*", channel);
  between.meddle = (passing) => rewrite(passing, (required) => (required.resource = { url: "https://good.example/" }));
  await assert.rejects(wrapFetchWithPayment(channel.watch(fetch), client)(`${between.url}/fixed`), /not an allowed host/);
  assert.equal(between.payments.length, 0);
});

test("given a process that is killed in the middle of a call when it starts again then everything is paid once", async () => {
  const secret = await ground.wallet();
  const [policyFile, keyFile] = [join(ground.folder, "policy.json"), join(ground.folder, "killed-key.json")];
  const folder = join(ground.folder, (await signerFrom(secret)).address);
  const bigints = (_name: string, value: unknown): unknown => (typeof value === "bigint" ? `${value}n` : value);
  await writeFile(policyFile, JSON.stringify(ground.policy({ budgetPerDay: 100_000n }), bigints));
  await writeFile(keyFile, JSON.stringify([...secret]), { mode: 0o600 });
  const script = join(import.meta.dirname, "../payer.js");
  const start = (...paths: readonly string[]) =>
    spawn(process.execPath, [script, policyFile, keyFile, folder, ...paths.map((path) => between.url + path)]);
  const doomed = start("/fixed", "/fixed", "/slow");
  for await (const line of createInterface({ input: doomed.stdout })) {
    if (!line.endsWith("/slow")) continue;
    while (shop.served.at(-1) !== "/slow") await new Promise((resolve) => setTimeout(resolve, 5));
    doomed.kill("SIGKILL"); // its voucher is at the server, the answer is not there
    break;
  }
  await once(doomed, "exit");
  await new Promise((resolve) => setTimeout(resolve, 600)); // the server charges it all the same
  const again = start("/fixed");
  again.stderr.pipe(process.stderr);
  assert.deepEqual(await once(again, "exit"), [0, null]);
  const agent = payingFetch(fetch, { signer: secret, policy: ground.policy(), store: fileStore(folder) });
  assert.equal(await agent.agent.spent(), 2_000n);
  assert.equal((await agent(`${between.url}/fixed`)).status, 200);
  await agent.agent.shutdown();
  // The Rust agent takes the folder over: it pays on, and closes.
  const common = ["--state-dir", ground.folder, "--keypair", keyFile];
  between.payments.length = 0;
  await ground.cli("pay", `${between.url}/fixed`, ...common);
  const signed = between.payments.map(({ payload }) => payload.voucher.maxClaimableAmount);
  assert.deepEqual(signed, ["3000"], "after a shutdown it need not ask where the channel stands");
  const listed = await ground.cli("channel", "list", ...common);
  assert.equal((listed.channels as unknown[]).length, 1);
  await ground.cli("channel", "close", "--all", ...common);
  const over = payingFetch(fetch, { signer: secret, policy: ground.policy(), store: fileStore(folder) });
  const [channel] = await over.agent.channels();
  assert.deepEqual([channel?.phase, channel?.charged], ["ended", 3_000n]);
  assert.equal(await ground.tokens(channel?.parts.payer ?? ""), 1_000_000n - 3_000n);
});

test("given a channel that is left through the chain when its exit is signed by another fee payer then it closes", async () => {
  const pay = await payer();
  await pay(`${between.url}/fixed`);
  const [channel] = await pay.agent.channels();
  const sponsor = await signerFrom(await ground.secret("sponsor"));
  const exit = await pay.agent.exitTransaction(channel?.id ?? "", sponsor.address);
  assert.equal(exit.step, "request_close");
  const { message: bytes, signatures } = parse(fromBase64(exit.transaction));
  const transaction = new Uint8Array([2, ...(await sponsor.sign(bytes)), ...(signatures[1] ?? []), ...bytes]);
  await ground.rpc.send(transaction);
  const at = channel?.parts.slot ?? 0;
  while ((await ground.slot(at)).status !== "closing") await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok((await pay.agent.forceClose(channel?.id ?? "")) > 0, "as good as done");
  // The program reads our withdrawal, and says that it is too early (26).
  const terms = await ground.book();
  const accounts = await accountsOf(ground.report.book, terms, ground.report.page);
  const to = await tokenAccountAddress(channel?.parts.payer ?? "", terms.mint, terms.tokenProgram);
  const { hash } = await ground.rpc.latestBlockhash();
  const early = await signed(message(sponsor.address, atOwnExpense(withdraw(accounts, at, to)), hash), sponsor);
  await assert.rejects(ground.rpc.send(early), /0x178a|6026/);
});
