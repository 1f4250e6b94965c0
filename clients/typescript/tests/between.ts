// Somebody between client and server, who can change, drop and count what passes.

import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Voucher } from "../src/voucher.js";
import { header, readHeader } from "../src/wire.js";

/** An answer on its way back. */
export interface Passing {
  readonly path: string;
  /** Whether the request carried a payment. */
  readonly paid: boolean;
  status: number;
  readonly headers: Headers;
  body: Uint8Array;
}

/** What is done to an answer: nothing, a change, or that it never arrives. */
export type Meddle = (passing: Passing) => void | "drop" | Promise<void | "drop">;

/** Forwards to `target`, and meddles. */
export class Between {
  meddle: Meddle = () => undefined;
  /** Payments that passed, as they were sent. */
  readonly payments: {
    payload: { type: string; voucher: Voucher };
    extensions?: Record<string, { info: Record<string, unknown> }>;
  }[] = [];

  private constructor(
    readonly server: Server,
    public url: string,
  ) {}

  static async of(target: string): Promise<Between> {
    const between: Between = new Between(createServer(), "");
    between.server.on("request", (request, response) => {
      void (async () => {
        const parts: Uint8Array[] = [];
        for await (const part of request) parts.push(part as Uint8Array);
        const headers = new Headers();
        for (const [name, value] of Object.entries(request.headers)) {
          if (!["host", "connection", "content-length", "transfer-encoding"].includes(name)) headers.set(name, String(value));
        }
        const signature = request.headers["payment-signature"];
        if (typeof signature === "string") between.payments.push(readHeader(signature) as never);
        const { method = "GET", url = "/" } = request;
        const body = parts.length > 0 ? Buffer.concat(parts) : undefined;
        const answer = await fetch(target + url, { method, headers, ...(body && { body }) });
        const passing: Passing = {
          path: url,
          paid: signature !== undefined,
          status: answer.status,
          headers: new Headers(answer.headers), // its own are immutable
          body: new Uint8Array(await answer.arrayBuffer()),
        };
        if ((await between.meddle(passing)) === "drop") return void request.socket.destroy();
        response.statusCode = passing.status;
        passing.headers.forEach((value, name) => {
          if (!["connection", "content-length", "transfer-encoding", "keep-alive"].includes(name)) response.setHeader(name, value);
        });
        response.end(passing.body);
      })().catch(() => request.socket.destroy());
    });
    between.server.listen(0, "127.0.0.1");
    await once(between.server, "listening");
    between.url = `http://127.0.0.1:${(between.server.address() as AddressInfo).port}`;
    return between;
  }

  async close(): Promise<void> {
    const closed = once(this.server, "close");
    this.server.close();
    this.server.closeAllConnections();
    await closed;
  }
}

/** A 402 as it is changed by liars. */
export interface Loose {
  error?: string;
  resource?: { url: string };
  accepts: { amount: string; payTo: string; network: string; asset: string; extra: Record<string, unknown> }[];
}

/** Changes what a 402 says. */
export function rewrite(passing: Passing, change: (required: Loose) => void): void {
  const value = passing.headers.get("PAYMENT-REQUIRED");
  if (value === null) return;
  const required = readHeader(value) as Loose;
  change(required);
  passing.headers.set("PAYMENT-REQUIRED", header(required));
  passing.body = new TextEncoder().encode(JSON.stringify(required));
}
