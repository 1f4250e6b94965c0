// Why a call was not paid, or not answered. Every message says what happened, why, and what to do.

/**
 * The kinds of {@link AgentError}.
 *
 * | code | what happened |
 * |---|---|
 * | `policy` | a limit of the policy forbids it: a {@link PolicyBreach} |
 * | `no_offer` | the 402 offers nothing that this agent can pay |
 * | `unreadable` | a 402 or an answer that cannot be read |
 * | `terms` | the offer and the chain do not say the same |
 * | `wrong_cluster` | the RPC endpoint is of another cluster than the policy's |
 * | `wallet_short` | the wallet holds less than a deposit takes |
 * | `no_free_slot` | no slot is free at this payee |
 * | `refused` | the server refuses the payment, for the reason in `reason` |
 * | `unavailable` | the server is busy or down, and says so |
 * | `answer_lost` | no answer arrived after a voucher had been sent: it may have been charged |
 * | `charged_without_answer` | the call was charged, and its answer cannot be had any more |
 * | `pending` | a transaction was sent, and whether it has landed is not known |
 * | `dishonest` | the server claims what was never signed |
 * | `not_now` | the channel is not in the state that this asks for |
 * | `chain` | the chain could not be asked, or refused a transaction |
 * | `store` | the store cannot be used, so nothing is signed |
 */
export type ErrorCode =
  | "policy"
  | "no_offer"
  | "unreadable"
  | "terms"
  | "wrong_cluster"
  | "wallet_short"
  | "no_free_slot"
  | "refused"
  | "unavailable"
  | "answer_lost"
  | "charged_without_answer"
  | "pending"
  | "dishonest"
  | "not_now"
  | "chain"
  | "store";

/** Why a call was not paid, or not answered. */
export class AgentError extends Error {
  /** `AgentError`, or that of a kind of it. */
  override readonly name: string = "AgentError";

  constructor(
    /** Which kind. */
    readonly code: ErrorCode,
    message: string,
    /** The reason on the wire, the transaction's name, and an underlying error, where there are any. */
    options: { reason?: string | undefined; transaction?: string | undefined; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.reason = options.reason;
    this.transaction = options.transaction;
  }

  /** Why, as the server said it on the wire, such as `channel_busy`. */
  readonly reason: string | undefined;
  /** The name of a transaction whose outcome is not known. */
  readonly transaction: string | undefined;
}

/** What a policy forbids, by the names of the Rust agent's `Breach`. */
export type Breach =
  | "HostNotAllowed"
  | "HostDenied"
  | "PayeeNotAllowed"
  | "PriceTooHigh"
  | "DepositTooHigh"
  | "BudgetExceeded"
  | "RateExceeded"
  | "GraceTooLong"
  | "NobodyToAsk"
  | "NotApproved"
  | "ApprovalTimedOut";

/** The policy forbids it; nothing was signed. */
export class PolicyBreach extends AgentError {
  /** `PolicyBreach`. */
  override readonly name = "PolicyBreach";

  constructor(
    /** Which limit. */
    readonly breach: Breach,
    why: string,
  ) {
    super("policy", `not paid, because the policy forbids it: ${why}`);
  }
}
